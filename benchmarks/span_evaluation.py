"""Span scores of token tags against seqeval's report.

50,000 sentences of 5 to 35 tokens with spans of 12 long-tailed types; one predicted tag in ten is drawn at random, so
that malformed spans occur. `tailwise.evaluation.spans` (spans of both sides, counts per sentence and type, every score
per type and the three averages of F1) against `seqeval.metrics.classification_report` in its default mode, in turns.
The scores must agree to 1e-12, else the ratio means nothing. Tags come as indices here and as lists of strings there,
as each is kept; the second row adds the time to turn those lists of strings into indices.

    OMP_NUM_THREADS=1 python benchmarks/span_evaluation.py
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from seqeval.metrics import classification_report

from tailwise.evaluation.metrics import (
    f1_per_class,
    macro_f1,
    micro_f1,
    precision_per_class,
    recall_per_class,
    weighted_f1,
)
from tailwise.evaluation.spans import span_counts, span_types

if TYPE_CHECKING:
    from numpy.typing import NDArray

SENTENCES, TYPES, ROUNDS, TARGET = 50_000, 12, 3, 25
NAMES = ("O", *(f"{prefix}-type{j:02d}" for j in range(TYPES) for prefix in "BI"))


def simulated(seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Gold and predicted tag indices and offsets; about one token in six is within a span."""
    generator = np.random.default_rng(seed)
    offsets = np.append(0, np.cumsum(generator.integers(5, 36, SENTENCES)))
    tokens = int(offsets[-1])
    prior = np.exp(-np.arange(TYPES) * np.log(100) / (TYPES - 1))
    gold = np.zeros(tokens, dtype=np.int64)
    starts = np.flatnonzero(generator.random(tokens) < 0.1)
    gold[starts] = 1 + 2 * generator.choice(TYPES, len(starts), p=prior / prior.sum())
    longer = starts[(generator.random(len(starts)) < 0.5) & (starts + 1 < tokens)]
    longer = longer[(gold[longer + 1] == 0) & ~np.isin(longer + 1, offsets)]
    gold[longer + 1] = gold[longer] + 1
    drawn = generator.integers(0, len(NAMES), tokens)
    return gold, np.where(generator.random(tokens) < 0.1, drawn, gold), offsets


def as_strings(tags: NDArray[np.int64], offsets: NDArray[np.int64]) -> list[list[str]]:
    names = np.array(NAMES, dtype=object)[tags]
    return [part.tolist() for part in np.split(names, offsets[1:-1])]


def as_indices(sentences: list[list[str]]) -> NDArray[np.int64]:
    index = {name: i for i, name in enumerate(NAMES)}
    return np.array([index[tag] for tag in chain.from_iterable(sentences)])


def tailwise_scores(
    gold: NDArray[np.int64], predicted: NDArray[np.int64], offsets: NDArray[np.int64]
) -> tuple[float, dict[str, list[float]]]:
    """Seconds and scores."""
    start = time.perf_counter()
    counts = span_counts(gold, predicted, offsets, NAMES).total()
    scores = {
        "precision": precision_per_class(counts).tolist(),
        "recall": recall_per_class(counts).tolist(),
        "f1-score": f1_per_class(counts).tolist(),
        "averages": [float(micro_f1(counts)), float(macro_f1(counts)), float(weighted_f1(counts))],
    }
    return time.perf_counter() - start, scores


def seqeval_scores(gold: list[list[str]], predicted: list[list[str]]) -> tuple[float, dict[str, Any]]:
    """Seconds and scores."""
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = classification_report(gold, predicted, output_dict=True, zero_division=0)
    seconds = time.perf_counter() - start
    types = span_types(NAMES)
    scores = {field: [report[name][field] for name in types] for field in ("precision", "recall", "f1-score")}
    averages = [report[f"{name} avg"]["f1-score"] for name in ("micro", "macro", "weighted")]
    return seconds, scores | {"averages": averages}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args()

    gold, predicted, offsets = simulated()
    lists = as_strings(gold, offsets), as_strings(predicted, offsets)
    ours, conversion, theirs, worst = [], [], [], 0.0
    tailwise_scores(gold, predicted, offsets)
    for _ in range(ROUNDS):  # in turns, so that a busy machine slows both down
        seconds, scores = tailwise_scores(gold, predicted, offsets)
        ours.append(seconds)
        start = time.perf_counter()
        converted = as_indices(lists[0]), as_indices(lists[1])
        conversion.append(time.perf_counter() - start)
        assert np.array_equal(converted, (gold, predicted))
        seconds, report = seqeval_scores(*lists)
        theirs.append(seconds)
        worst = max(worst, *(float(np.abs(np.subtract(scores[k], report[k])).max()) for k in scores))
    if worst > 1e-12:
        raise SystemExit(f"The two disagree by {worst}: the ratio would mean nothing.")
    plain, converting, peer = map(statistics.median, (ours, conversion, theirs))
    if arguments.json:
        figures = {"tailwise_seconds": plain, "conversion_seconds": converting, "seqeval_seconds": peer}
        print(json.dumps(figures | {"ratio": peer / plain, "largest_difference": worst}))
        return
    print(f"{SENTENCES} sentences, {len(gold)} tokens, {TYPES} types, medians of {ROUNDS}")
    print(f"tailwise, from indices  {plain:8.3f} s")
    print(f"tailwise, from strings  {plain + converting:8.3f} s   ratio {peer / (plain + converting):6.1f}")
    print(f"seqeval                 {peer:8.3f} s")
    print(
        f"ratio                   {peer / plain:8.1f}     target >= {TARGET}; largest difference of a score {worst:.1e}"
    )


if __name__ == "__main__":
    main()
