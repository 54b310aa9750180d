"""Metrics under instance weights: what a bootstrap needs, without scoring a thousand resampled data sets.

A resample of N instances is a weight per instance, how often it was drawn. Every metric here is a function of a few
weighted sums (counts per class, gaps per confidence bin, losses per class), so B resamples cost one product of a sparse
indicator matrix with the ``(K, B)`` weights. Where only decisions matter, instances with the same gold class and the
same decision of every model share a row, and K is the number of such patterns.

Instances are drawn in the order of their ids, so a result depends neither on the order of rows nor on that of classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from tailwise.errors import DataError, SettingError, UnknownNameError
from tailwise.evaluation import calibration, metrics
from tailwise.evaluation.evaluation import Evaluation
from tailwise.registry import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

__all__ = ["PROBABILITY_METRICS", "TAIL_METRIC", "Patterns", "WeightedScorer", "align", "check_metrics", "indicator"]

TAIL_METRIC = "tail_f1"

#: Metrics of the probabilities that are functions of weighted sums; smaller is better.
PROBABILITY_METRICS = ("balanced_nll", "brier", "ece", "nll")

#: Weights per block; bounds the memory of a resampling run at about 100 MB.
_BLOCK = 4_000_000


def check_metrics(names: Sequence[str], tail: NDArray[np.bool_] | None, num_classes: int) -> None:
    """Refuse metrics that cannot be resampled.

    Raises:
        UnknownNameError: no such metric.
        SettingError: no metric at all, or ``tail_f1`` without a mask of tail classes.
    """
    if not names:
        raise SettingError("Expected at least one metric to resample, but got none.")
    known = (*metrics.COUNT_METRICS, *PROBABILITY_METRICS, TAIL_METRIC)
    for name in names:
        if name not in known:
            raise UnknownNameError(f"Unknown metric {name!r} for intervals. {did_you_mean(name, known)}")
    if TAIL_METRIC in names and (tail is None or tail.shape != (num_classes,)):
        found = "None" if tail is None else f"shape {tail.shape}"
        raise SettingError(
            f"The metric {TAIL_METRIC!r} needs `tail`, a mask of shape ({num_classes},), but got {found}."
        )


def align(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """The same evaluations with their instances in the order of ids.

    Raises:
        DataError: they are not of the same instances, gold labels and classes.
    """
    first = _by_id(evaluations[0])
    aligned = [first]
    for other in map(_by_id, evaluations[1:]):
        if other.label_space.all_names != first.label_space.all_names:
            raise DataError("Expected evaluations of the same classes, but their label spaces differ.")
        if other.ids != first.ids:
            odd = sorted(set(first.ids) ^ set(other.ids))
            raise DataError(
                f"Expected evaluations of the same {len(first)} instances, but {len(odd)} ids are in one only, the "
                f"first is {odd[0]!r}. Compare models on one split of one data set."
            )
        if not np.array_equal(other.gold, first.gold):
            row = int(np.flatnonzero(other.gold != first.gold)[0])
            raise DataError(f"Instance {first.ids[row]!r} has two different gold labels in the evaluations to compare.")
        aligned.append(other)
    return aligned


def _by_id(evaluation: Evaluation) -> Evaluation:
    order = sorted(range(len(evaluation)), key=evaluation.ids.__getitem__)
    if order == list(range(len(evaluation))):
        return evaluation
    ids = tuple(evaluation.ids[i] for i in order)
    return Evaluation(ids, evaluation.gold[order], evaluation.logits[order], evaluation.label_space)


@dataclass(frozen=True, eq=False)
class Patterns:
    """Groups of instances that no metric asked for can tell apart.

    Attributes:
        of_instance: pattern of each instance, ``(N,)``.
        first: one instance of each pattern, ``(K,)``.
    """

    of_instance: NDArray[np.int64]
    first: NDArray[np.int64]

    @classmethod
    def by_decision(cls, evaluations: Sequence[Evaluation]) -> Patterns:
        """Instances with equal gold and equal decisions in all (aligned) evaluations share a pattern."""
        codes = evaluations[0].gold
        for evaluation in evaluations:
            joint = codes * len(evaluation.label_space) + evaluation.predicted
            codes = np.unique(joint, return_inverse=True)[1]
        _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
        return cls(inverse.astype(np.int64, copy=False), first.astype(np.int64, copy=False))

    @classmethod
    def by_instance(cls, size: int) -> Patterns:
        """Every instance is a pattern of its own."""
        return cls(np.arange(size), np.arange(size))

    def once(self) -> NDArray[np.float64]:
        """The weights of the split as it is, ``(K, 1)``."""
        return np.bincount(self.of_instance, minlength=len(self.first)).astype(np.float64)[:, None]

    def draw(self, resamples: int, generator: np.random.Generator) -> Iterator[NDArray[np.float64]]:
        """Weights of `resamples` draws of N instances with replacement, in blocks ``(K, b)``."""
        size, patterns = len(self.of_instance), len(self.first)
        block = max(1, _BLOCK // patterns)
        for start in range(0, resamples, block):
            rows = np.empty((min(block, resamples - start), patterns))
            for row in rows:
                drawn = self.of_instance.take(generator.integers(0, size, size))
                row[:] = np.bincount(drawn, minlength=patterns)
            yield np.ascontiguousarray(rows.T)


class WeightedScorer:
    """Scores one model under pattern weights.

    Args:
        evaluation: the model's (aligned) scores.
        names: metrics to compute, checked by `check_metrics`.
        patterns: from `Patterns.by_decision`, or `by_instance` as soon as one metric needs probabilities.
        tail: mask of the tail classes, for ``tail_f1``.
    """

    def __init__(
        self, evaluation: Evaluation, names: Sequence[str], patterns: Patterns, tail: NDArray[np.bool_] | None = None
    ) -> None:
        self._names = tuple(names)
        self._tail = tail
        gold, predicted = evaluation.gold[patterns.first], evaluation.predicted[patterns.first]
        classes = len(evaluation.label_space)
        self._support = indicator(gold, max(classes, int(gold.max()) + 1))
        self._predicted = indicator(predicted, classes)
        self._correct = indicator(np.where(gold == predicted, predicted, -1), classes)
        full = evaluation.counts
        self._in_split = full.present | (full.predicted > 0)
        self._everywhere = full.averaged
        self._sums: dict[str, sparse.csr_matrix] = {
            name: _weighted_sums(name, evaluation) for name in self._names if name in PROBABILITY_METRICS
        }

    def __call__(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Every metric under weights ``(K, b)``, ``(b, metrics)``."""
        counts = metrics.Counts(
            correct=(self._correct @ weights).T,
            support=(self._support @ weights).T,
            predicted=(self._predicted @ weights).T,
            averaged=self._everywhere,
        )
        counts = metrics.without_vanished(counts, self._in_split)
        values = [
            self._probability_metric(name, counts, weights) if name in self._sums else self._count_metric(name, counts)
            for name in self._names
        ]
        return np.stack(values, axis=1)

    def _count_metric(self, name: str, counts: metrics.Counts) -> NDArray[np.float64]:
        return metrics.macro_f1(counts, self._tail) if name == TAIL_METRIC else metrics.COUNT_METRICS[name](counts)

    def _probability_metric(
        self, name: str, counts: metrics.Counts, weights: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        return _FINISH[name]((self._sums[name] @ weights).T, counts)


def indicator(row_of: NDArray[np.int64], rows: int) -> sparse.csr_matrix:
    """Sums of weights by row, ``(rows, K)``; patterns with row -1 are in none."""
    columns = np.flatnonzero(row_of >= 0)
    return sparse.csr_matrix((np.ones(len(columns)), (row_of[columns], columns)), shape=(rows, len(row_of)))


def _weighted_sums(name: str, evaluation: Evaluation) -> sparse.csr_matrix:
    """The matrix whose product with the weights gives the sums that `name` is a function of."""
    probabilities, gold = evaluation.probabilities, evaluation.gold
    classes, size = probabilities.shape[1], len(gold)
    rows = np.zeros(size, dtype=np.int64)
    if name == "ece":
        confidence, hit = calibration.confidence_and_hit(probabilities, gold)
        rows, values = calibration.bin_index(confidence, calibration.equal_width_edges()), hit - confidence
    elif name == "brier":
        values = calibration.instance_brier(probabilities, gold)
    else:
        values = calibration.instance_log_loss(probabilities, gold)
        rows = np.minimum(gold, classes - 1) if name == "balanced_nll" else rows
    shape = ({"ece": calibration.NUM_BINS, "balanced_nll": classes}.get(name, 1), size)
    return sparse.csr_matrix((values, (rows, np.arange(size))), shape=shape)


def _finish_ece(sums: NDArray[np.float64], counts: metrics.Counts) -> NDArray[np.float64]:
    return np.asarray(np.abs(sums).sum(axis=1) / counts.total)


def _finish_brier(sums: NDArray[np.float64], counts: metrics.Counts) -> NDArray[np.float64]:
    return np.asarray(sums[:, 0] / counts.total)


def _finish_nll(sums: NDArray[np.float64], counts: metrics.Counts) -> NDArray[np.float64]:
    return np.asarray(sums[:, 0] / np.maximum(counts.seen_support.sum(axis=1), 1.0))


def _finish_balanced_nll(sums: NDArray[np.float64], counts: metrics.Counts) -> NDArray[np.float64]:
    present = counts.present
    means = sums / np.where(present, counts.seen_support, 1.0)
    return np.asarray(np.where(present, means, 0.0).sum(axis=1) / np.maximum(present.sum(axis=1), 1))


_FINISH: dict[str, Callable[[NDArray[np.float64], metrics.Counts], NDArray[np.float64]]] = {
    "balanced_nll": _finish_balanced_nll,
    "brier": _finish_brier,
    "ece": _finish_ece,
    "nll": _finish_nll,
}
