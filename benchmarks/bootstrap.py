"""Intervals by resampling counts against calling scikit-learn once per resample.

1,000 bootstrap resamples of macro-F1 on 10,000 instances of 50 long-tailed classes: `tailwise.evaluation.bootstrap`
(all of it: aligning, drawing, scoring, the interval) against `sklearn.metrics.f1_score` on drawn instances, which
is timed on the first 100 resamples and scaled by ten unless --all is given. Both get the same draws, and the values of
the timed resamples must agree to 1e-12, else the ratio means nothing.

    OMP_NUM_THREADS=1 python benchmarks/bootstrap.py
"""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import f1_score

from tailwise.data.labels import LabelSpace
from tailwise.evaluation.bootstrap import bootstrap
from tailwise.evaluation.evaluation import Evaluation

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tailwise.evaluation.bootstrap import BootstrapResult

INSTANCES, CLASSES, RESAMPLES, ROUNDS = 10_000, 50, 1_000, 5


def simulated(seed: int = 0) -> Evaluation:
    """A test split whose largest class is 100 times its smallest, 80% of decisions right."""
    generator = np.random.default_rng(seed)
    prior = np.exp(-np.arange(CLASSES) * np.log(100) / (CLASSES - 1))
    prior /= prior.sum()
    gold = generator.choice(CLASSES, INSTANCES, p=prior)
    other = generator.choice(CLASSES, INSTANCES, p=prior)
    predicted = np.where(generator.random(INSTANCES) < 0.8, gold, other)
    logits = np.eye(CLASSES, dtype=np.float32)[predicted]
    names = tuple(f"class {j:02d}" for j in range(CLASSES))
    ids = tuple(f"{i:06d}" for i in range(INSTANCES))
    return Evaluation(ids, gold, logits, LabelSpace(names, np.bincount(gold, minlength=CLASSES)))


def tailwise_run(evaluation: Evaluation) -> tuple[float, BootstrapResult]:
    """Seconds of the whole way from stored scores to an interval."""
    fresh = Evaluation(evaluation.ids, evaluation.gold, evaluation.logits, evaluation.label_space)
    start = time.perf_counter()
    result = bootstrap({"ce": [fresh]}, ["macro_f1"], resamples=RESAMPLES)
    result.interval("ce", "macro_f1")
    return time.perf_counter() - start, result


def scikit_learn_run(evaluation: Evaluation, draws: list[NDArray[np.int64]]) -> tuple[float, list[float]]:
    """Seconds and values of `f1_score` on every draw."""
    gold, predicted = evaluation.gold, evaluation.predicted
    start = time.perf_counter()
    values = [float(f1_score(gold[drawn], predicted[drawn], average="macro", zero_division=0)) for drawn in draws]
    return time.perf_counter() - start, values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="time scikit-learn on all 1,000 resamples")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args()

    evaluation = simulated()
    generator = np.random.default_rng(np.random.SeedSequence(0, spawn_key=(0,)))
    draws = [generator.integers(0, INSTANCES, INSTANCES) for _ in range(RESAMPLES)]
    timed = draws if arguments.all else draws[: RESAMPLES // 10]
    ours, theirs, values = [], 0.0, []
    tailwise_run(evaluation)
    for part in range(ROUNDS):  # in turns, so that a busy machine slows both down
        seconds, result = tailwise_run(evaluation)
        ours.append(seconds)
        seconds, scores = scikit_learn_run(evaluation, timed[part::ROUNDS])
        theirs += seconds
        values.append((result.replicates[: len(timed)][part::ROUNDS, 0, 0, 0], scores))
    worst = max(float(np.abs(np.subtract(*pair)).max()) for pair in values)
    seconds, scaled = float(np.mean(ours)), theirs * RESAMPLES / len(timed)
    if worst > 1e-12:
        raise SystemExit(f"The two disagree by {worst}: the ratio would mean nothing.")
    if arguments.json:
        figures = {"tailwise_seconds": seconds, "sklearn_seconds": scaled, "sklearn_calls_timed": len(timed)}
        print(json.dumps(figures | {"ratio": scaled / seconds, "largest_difference": worst}))
        return
    print(f"{RESAMPLES} resamples of macro-F1, {INSTANCES} instances x {CLASSES} classes")
    print(f"tailwise      {seconds:8.3f} s   (mean of {ROUNDS})")
    print(f"scikit-learn  {scaled:8.3f} s   ({len(timed)} calls timed{'' if arguments.all else ', scaled by 10'})")
    print(f"ratio         {scaled / seconds:8.1f}     target >= 30; largest difference of a value {worst:.1e}")


if __name__ == "__main__":
    main()
