"""Metrics under unit weights: what a bootstrap needs, without scoring a thousand resampled data sets.

A resample of N units is a weight per unit, how often it was drawn. Every metric here is a function of a few weighted
sums (counts per class, gaps per confidence bin, right heads), so B resamples cost one product of a sparse matrix with
the ``(K, B)`` weights. Where instances have one class and only decisions matter, those with the same gold class and
the same decision of every model share a row, and K is the number of such patterns; else K = N.

Units are drawn in the order of their ids, so a result depends neither on the order of rows nor on that of classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tailwise.errors import DataError, SettingError
from tailwise.evaluation import metrics
from tailwise.evaluation.base import check_tail
from tailwise.evaluation.evaluation import Evaluation
from tailwise.evaluation.unit_metrics import PROBABILITY_METRICS, TAIL_METRIC, UNIT_METRICS, Sums, unknown_metric

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from tailwise.evaluation.base import ScoredSplit

__all__ = [
    "PROBABILITY_METRICS", "TAIL_METRIC", "Patterns", "WeightedCounts", "WeightedScorer", "align", "check_metrics",
]  # fmt: skip

#: Weights or counts per block; bounds the memory of a resampling run at some 100 MB.
_BLOCK = 4_000_000


def check_metrics(names: Sequence[str], split: ScoredSplit, tail: NDArray[np.bool_] | None) -> None:
    """Refuse metrics that cannot be resampled.

    Raises:
        UnknownNameError: no such metric for the label structure of the split.
        SettingError: no metric at all, or ``tail_f1`` without a mask of tail classes.
    """
    if not names:
        raise SettingError("Expected at least one metric to resample, but got none.")
    known = (*UNIT_METRICS[split.structure], TAIL_METRIC)
    for name in names:
        if name not in known:
            raise unknown_metric(name, split.structure, known, " for intervals")
    if TAIL_METRIC in names:
        check_tail(tail, len(split.label_space))


def align(evaluations: Sequence[ScoredSplit]) -> list[ScoredSplit]:
    """The same evaluations with their units in the order of ids.

    Raises:
        DataError: they are not of the same label structure, units, gold labels and classes.
    """
    first = _by_id(evaluations[0])
    aligned = [first]
    for other in map(_by_id, evaluations[1:]):
        if other.structure != first.structure:
            raise DataError(
                f"Expected evaluations of one label structure, but got {first.structure} and {other.structure}."
            )
        if other.score_space.all_names != first.score_space.all_names:
            raise DataError("Expected evaluations of the same classes, but their label spaces differ.")
        if other.ids != first.ids:
            odd = sorted(set(first.ids) ^ set(other.ids))
            raise DataError(
                f"Expected evaluations of the same {len(first)} instances, but {len(odd)} ids are in one only, the "
                f"first is {odd[0]!r}. Compare models on one split of one data set."
            )
        differing = first.gold_differs(other)
        if differing.any():
            unit = int(np.flatnonzero(differing)[0])
            raise DataError(
                f"Instance {first.ids[unit]!r} has two different gold labels in the evaluations to compare."
            )
        aligned.append(other)
    return aligned


def _by_id(evaluation: ScoredSplit) -> ScoredSplit:
    order = sorted(range(len(evaluation)), key=evaluation.ids.__getitem__)
    return evaluation if order == list(range(len(evaluation))) else evaluation.take(order)


@dataclass(frozen=True, eq=False)
class Patterns:
    """Groups of units that no metric asked for can tell apart.

    Attributes:
        of_instance: pattern of each unit, ``(N,)``.
        first: one unit of each pattern, ``(K,)``.
    """

    of_instance: NDArray[np.int64]
    first: NDArray[np.int64]

    @classmethod
    def of(cls, evaluations: Sequence[ScoredSplit], names: Sequence[str]) -> Patterns:
        """The coarsest patterns that the metrics of (aligned) evaluations allow."""
        single = [evaluation for evaluation in evaluations if isinstance(evaluation, Evaluation)]
        table = UNIT_METRICS[evaluations[0].structure]
        if len(single) == len(evaluations) and not any(table[name].parts for name in names if name in table):
            return cls.by_decision(single)
        return cls.by_instance(len(evaluations[0]))

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

    def draw(self, resamples: int, generator: np.random.Generator, classes: int = 1) -> Iterator[NDArray[np.float64]]:
        """Weights of `resamples` draws of N units with replacement, in blocks ``(K, b)`` that suit C `classes`."""
        size, patterns = len(self.of_instance), len(self.first)
        block = max(1, _BLOCK // max(patterns, classes))
        for start in range(0, resamples, block):
            rows = np.empty((min(block, resamples - start), patterns))
            for row in rows:
                drawn = self.of_instance.take(generator.integers(0, size, size))
                row[:] = np.bincount(drawn, minlength=patterns)
            yield np.ascontiguousarray(rows.T)


class WeightedCounts:
    """Counts per class of one model under pattern weights."""

    def __init__(self, evaluation: ScoredSplit, patterns: Patterns) -> None:
        counts = evaluation.unit_counts
        self._correct = _sums_of(counts.correct, patterns)
        self._support = _sums_of(counts.support, patterns)
        self._predicted = _sums_of(counts.predicted, patterns)
        self._averaged = evaluation.counts.averaged

    def __call__(self, weights: NDArray[np.float64]) -> metrics.Counts:
        """Counts under weights ``(K, b)``, with one leading axis ``(b,)``."""
        return metrics.Counts(
            correct=(self._correct @ weights).T,
            support=(self._support @ weights).T,
            predicted=(self._predicted @ weights).T,
            averaged=self._averaged,
        )


class WeightedScorer:
    """Scores one model under pattern weights.

    Args:
        evaluation: the model's (aligned) scores.
        names: metrics to compute, checked by `check_metrics`.
        patterns: from `Patterns.of`.
        tail: mask of the tail classes, for ``tail_f1``.
    """

    def __init__(
        self, evaluation: ScoredSplit, names: Sequence[str], patterns: Patterns, tail: NDArray[np.bool_] | None = None
    ) -> None:
        self._names = tuple(names)
        self._tail = tail
        self._table = UNIT_METRICS[evaluation.structure]
        self._counts = WeightedCounts(evaluation, patterns)
        self._in_split = evaluation.counts.present | (evaluation.counts.predicted > 0)
        parts = dict.fromkeys(part for name in names if name != TAIL_METRIC for part in self._table[name].parts)
        self._parts = {part: _sums_of(evaluation.unit_part(part), patterns) for part in parts}

    def __call__(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Every metric under weights ``(K, b)``, ``(b, metrics)``."""
        counts = metrics.without_vanished(self._counts(weights), self._in_split)
        parts = {name: (matrix @ weights).T for name, matrix in self._parts.items()}
        sums = Sums(counts, weights.sum(axis=0), parts)
        return np.stack([self._value(name, sums) for name in self._names], axis=1)

    def _value(self, name: str, sums: Sums) -> NDArray[np.float64]:
        return metrics.macro_f1(sums.counts, self._tail) if name == TAIL_METRIC else self._table[name].value(sums)


def _sums_of(matrix: csr_matrix, patterns: Patterns) -> csr_matrix:
    """From what units add, ``(N, k)``, to the matrix whose product with pattern weights gives the sums, ``(k, K)``."""
    chosen = matrix if len(patterns.first) == matrix.shape[0] else matrix[patterns.first]
    return chosen.T.tocsr()
