"""Heads of losses that are not convex, by descent from cross-entropy and by AdamW: validation scores and time.

    TAILWISE_DATA=... python benchmarks/local_heads.py --data trec50 olid --methods focal dice ranking

Linear heads on the states of the default encoder. Descent has four strengths of L2 (C 1, 5, 25, 125), AdamW three rates
(.003, .01, .03) times two decays (.3, 1); the best of each on validation is shown, macro-F1 over the classes that occur
there (over labels, the macro-F1 at one half). Times are of the processor, for all heads of a row, solutions for
cross-entropy included where no method before has needed them.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.metrics import f1_score

from tailwise.catalog import METHODS
from tailwise.data import load
from tailwise.models.encoder import Encoder
from tailwise.training.engine import Job
from tailwise.training.probe import ProbeEngine

if TYPE_CHECKING:
    from tailwise.data.corpus import Corpus
    from tailwise.stages.recipe import Recipe

METHOD_NAMES = ("ce", "focal", "focal-sigmoid", "dice", "ce-dice", "adl", "poly-1", "asl-single", "ranking", "csr")
STRENGTHS = (1.0, 5.0, 25.0, 125.0)
STEPS = tuple((rate, decay) for rate in (0.003, 0.01, 0.03) for decay in (0.3, 1.0))


def best(
    recipes: list[Recipe], engine: ProbeEngine, corpus: Corpus, encoder: Encoder
) -> tuple[float, list[int], float]:
    """The best score on validation, the steps of every head, and the seconds of all."""
    start = time.process_time()
    models = engine.fit_many([Job(recipe, 1) for recipe in recipes], corpus, encoder)
    seconds = time.process_time() - start
    scores = []
    for model in models:
        if corpus.task.label_structure == "multi":
            scores.append(model.info["training"]["validation_macro_f1"])
            continue
        gold, predicted = corpus.labels("validation"), model.split_logits(corpus, "validation").argmax(axis=1)
        scores.append(f1_score(gold, predicted, labels=np.unique(gold), average="macro"))
    return max(scores), [model.info["training"]["steps"] for model in models], seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["trec50"])
    parser.add_argument("--methods", nargs="+", default=list(METHOD_NAMES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    encoder = Encoder.from_pretrained(None)
    print("| data | method | all rows at once | steps | s | AdamW | s |\n|---|---|---|---|---|---|---|")
    for name in arguments.data:
        corpus, engine = load(name), ProbeEngine(features="encoder")
        for method in arguments.methods:
            recipe = METHODS[method].recipe()
            chosen = recipe.optimisation
            by_strength = [replace(recipe, optimisation=replace(chosen, C=strength)) for strength in STRENGTHS]
            by_rate = [
                replace(recipe, optimisation=replace(chosen, learning_rate=rate, weight_decay=decay))
                for rate, decay in STEPS
            ]
            ours, steps, seconds = best(by_strength, engine, corpus, encoder)
            theirs, _, theirs_seconds = best(by_rate, engine, corpus, encoder)
            counts = ", ".join(map(str, steps))
            print(
                f"| {name} | {method} | {ours:.3f} | {counts} | {seconds:.1f} | {theirs:.3f} | {theirs_seconds:.1f} |"
            )


if __name__ == "__main__":
    main()
