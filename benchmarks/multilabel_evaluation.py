"""Label sets: from stored scores to the table of figures and its intervals, on a large label space.

10,000 instances, 1,000 long-tailed labels, about 3 labels each. Timed is all of `tailwise`: taking in the scores, the
figures by label, every figure of the split and 1,000 bootstrap resamples of the metrics of a comparison with their
intervals, in processor time. Beside it, scikit-learn's time for the same resamples: `f1_score` (macro, micro, samples)
on the first ten, scaled by a hundred; the values of those ten must agree to 1e-12, else the ratio means nothing.

    OMP_NUM_THREADS=1 python benchmarks/multilabel_evaluation.py
"""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from sklearn.metrics import f1_score

from tailwise.data.labels import LabelSpace
from tailwise.evaluation.bootstrap import bootstrap
from tailwise.evaluation.multilabel import MultilabelEvaluation

if TYPE_CHECKING:
    from numpy.typing import NDArray

INSTANCES, LABELS, RESAMPLES, TIMED, ROUNDS = 10_000, 1_000, 1_000, 10, 3
METRICS = ("macro_f1", "micro_f1", "samples_f1", "tail_f1", "worst_class_f1", "ece")
COMPARED = ("macro", "micro", "samples")


def simulated(seed: int = 0) -> tuple[sparse.csr_matrix, NDArray[np.float32], LabelSpace]:
    """Gold label sets and logits: most labels are found, about one in a thousand others is assigned, too."""
    generator = np.random.default_rng(seed)
    rate = 1.0 / np.arange(2, LABELS + 2)
    rate *= 3.0 / rate.sum()
    gold = generator.random((INSTANCES, LABELS)) < rate
    logits = generator.normal(-3.0, 1.0, (INSTANCES, LABELS)).astype(np.float32)
    logits[gold] += 4.0
    counts = np.maximum((rate * 10 * INSTANCES).astype(int), 1)
    return sparse.csr_matrix(gold), logits, LabelSpace(tuple(f"label {j:04d}" for j in range(LABELS)), counts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args()
    gold, logits, space = simulated()
    ids, tail = tuple(f"{i:06d}" for i in range(INSTANCES)), space.counts < 100
    steps: dict[str, list[float]] = {"scores taken in": [], "figures": [], "intervals": []}
    for _ in range(ROUNDS):
        start = time.process_time()
        evaluation = MultilabelEvaluation(ids, gold, logits, space)
        taken = time.process_time()
        evaluation.per_class()
        evaluation.summary(tail)
        figures = time.process_time()
        result = bootstrap({"ce": [evaluation]}, METRICS, tail=tail, resamples=RESAMPLES)
        for name in METRICS:
            result.interval("ce", name)
        done = time.process_time()
        for name, seconds in zip(steps, (taken - start, figures - taken, done - figures), strict=True):
            steps[name].append(seconds)

    generator = np.random.default_rng(np.random.SeedSequence(0, spawn_key=(0,)))
    worst, start = 0.0, time.process_time()
    for b in range(TIMED):
        drawn = generator.integers(0, INSTANCES, INSTANCES)
        y, z = gold[drawn], evaluation.predicted[drawn]
        found = np.flatnonzero(np.asarray(y.sum(axis=0) + z.sum(axis=0)).ravel())  # macro over labels that are there
        for average in COMPARED:
            labels = found if average == "macro" else None
            value = f1_score(y, z, labels=labels, average=average, zero_division=0)
            ours = result.replicates[b, 0, 0, METRICS.index(f"{average}_f1")]
            worst = max(worst, abs(float(value) - float(ours)))
    theirs = (time.process_time() - start) * RESAMPLES / TIMED
    if worst > 1e-12:
        raise SystemExit(f"The two disagree by {worst}: the ratio would mean nothing.")
    medians = {name: float(np.median(seconds)) for name, seconds in steps.items()}
    total = sum(medians.values())
    if arguments.json:
        print(json.dumps({**medians, "total": total, "sklearn_intervals": theirs, "largest_difference": worst}))
        return
    print(f"{INSTANCES} instances x {LABELS} labels, {gold.nnz} gold and {evaluation.predicted.nnz} assigned")
    for name, seconds in medians.items():
        print(f"{name:16} {seconds:8.2f} s")
    print(f"{'all':16} {total:8.2f} s   target < 5; medians of {ROUNDS}")
    print(f"scikit-learn, {len(COMPARED)} of the {len(METRICS)} metrics, scaled from {TIMED} resamples: {theirs:.0f} s")
    print(f"ratio of intervals {theirs / medians['intervals']:.0f}; largest difference of a value {worst:.1e}")


if __name__ == "__main__":
    main()
