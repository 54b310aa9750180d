"""Class thresholds, tuned on validation.

    decide argmax_j (z_j + b_j)          b by coordinate ascent on the validation metric

For one class at a time the metric is a step function of its bias, with steps where a row changes sides. Macro-F1, the
F1 of the class, balanced accuracy and accuracy are computed exactly at every step; their best places and an even choice
of further ones are then compared by the metric that is wanted. With two classes this is the F1-optimal cut of Lipton,
Elkan and Narayanaswamy, Optimal Thresholding of Classifiers to Maximize F1 Measure, ECML 2014. Survey section 4.

Differs from the paper in what few rows can support: the most frequent class of validation is the reference with bias 0,
a class with fewer than 5 validation rows keeps bias 0, and one with fewer than 20 is shrunk, b n / (n + 10). A result
that is worse on validation than no bias at all is dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tailwise.errors import SettingError
from tailwise.posthoc.base import AffineStep, PostHoc
from tailwise.posthoc.tuning import MARGIN, check_scores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tailwise.posthoc.base import FitContext, Metric

__all__ = ["ClassThresholds"]

#: places per class compared by the metric itself: this number over C, but not fewer than the second
TRIALS, TRIALS_PER_CLASS = 1024, 16
#: rows from which a class is not shrunk
PLENTY = 20
#: sides are told apart only by a gap that float32 scores can hold
RESOLUTION = 1e-6


class ClassThresholds(PostHoc):
    """One bias per class, tuned for the metric.

    Args:
        min_rows: a class with fewer validation rows keeps bias 0.
        shrinkage: rows added to the denominator of a class with fewer than 20 rows; 0 does not shrink.
        max_passes: passes over the classes; the search ends early when a pass brings nothing.
    """

    def __init__(self, *, min_rows: int = 5, shrinkage: float = 10.0, max_passes: int = 5) -> None:
        for name, value, least in (
            ("min_rows", min_rows, 1), ("shrinkage", shrinkage, 0), ("max_passes", max_passes, 1)
        ):  # fmt: skip
            if not least <= value < float("inf"):
                raise SettingError(f"Expected `{name}` to be a finite number of at least {least}, but got {value!r}.")
        self.min_rows = min_rows
        self.shrinkage = shrinkage
        self.max_passes = max_passes

    def fit(self, logits: NDArray[Any], target: NDArray[np.int64], context: FitContext) -> AffineStep:
        """Fit on validation scores."""
        scores = check_scores("ClassThresholds", logits, target)
        counts = np.bincount(target, minlength=scores.shape[1])
        by_count = np.argsort(-counts, kind="stable")
        tuned = [int(c) for c in by_count[1:] if counts[c] >= self.min_rows]
        before = float(context.metric(target, scores.argmax(axis=1)))
        bias, passes = _ascend(scores, target, tuned, before, context.metric, self.max_passes)
        shrunk = (counts < PLENTY) & (counts > 0)
        bias = np.where(shrunk, bias * counts / (counts + self.shrinkage), bias)
        after = float(context.metric(target, (scores + bias).argmax(axis=1)))
        if after < before - MARGIN:
            bias, after = np.zeros_like(bias), before
        details = {
            "reference": int(by_count[0]),
            "tuned": sorted(tuned),
            "passes": passes,
            "metric_before": before,
            "metric_after": after,
        }
        return AffineStep("thresholds", np.ones_like(bias), bias, details)


def _ascend(
    scores: NDArray[np.float64], target: NDArray[np.int64], tuned: list[int], value: float, metric: Metric, passes: int
) -> tuple[NDArray[np.float64], int]:
    """Biases ``(C,)`` by coordinate ascent from 0, where the metric is `value`; and the number of passes taken."""
    num_classes = scores.shape[1]
    bias = np.zeros(num_classes)
    trials = max(TRIALS_PER_CLASS, TRIALS // num_classes)
    for done in range(passes):
        start = value
        for chosen in tuned:
            sweep = _Sweep.of(scores, bias, chosen)
            places = sweep.candidates(target, trials)
            for place, found in zip(places, sweep.values(places, target, metric), strict=True):
                if found > value + MARGIN:
                    value, bias[chosen] = found, place
        if value <= start + MARGIN:
            return bias, done + 1
    return bias, passes


@dataclass(frozen=True)
class _Sweep:
    """Decisions as the bias of one class grows from minus to plus infinity.

    Attributes:
        chosen: the class.
        num_classes: C.
        rival: the best of the other classes, ``(N,)``.
        needed: the bias from which on the chosen class wins, ``(N,)``.
    """

    chosen: int
    num_classes: int
    rival: NDArray[np.int64]
    needed: NDArray[np.float64]

    @classmethod
    def of(cls, scores: NDArray[np.float64], bias: NDArray[np.float64], chosen: int) -> _Sweep:
        """The sweep of class `chosen`, the biases of the others as they are."""
        others = scores + bias
        others[:, chosen] = -np.inf
        rival = others.argmax(axis=1)
        return cls(chosen, len(bias), rival, others[np.arange(len(rival)), rival] - scores[:, chosen])

    def predicted(self, bias: float) -> NDArray[np.int64]:
        """Decisions ``(N,)`` where the chosen class has this bias."""
        return np.where(bias > self.needed, self.chosen, self.rival)

    def values(self, places: list[float], target: NDArray[np.int64], metric: Metric) -> list[float]:
        """The metric at every place; from the counts of all places at once where it is one of counts."""
        of_counts = getattr(metric, "of_counts", None)
        if of_counts is None:
            return [float(metric(target, self.predicted(place))) for place in places]
        found: list[float] = of_counts(*self.counts(np.asarray(places), target)).tolist()
        return found

    def counts(
        self, places: NDArray[np.float64], target: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Right decisions ``(K, C)``, gold rows ``(C,)`` and decisions ``(K, C)`` per class, at K places."""
        by_need = np.argsort(self.needed, kind="stable")
        flips = np.searchsorted(self.needed[by_need], places)  # rows that go over
        order = np.argsort(flips, kind="stable")
        first = np.searchsorted(flips[order], np.arange(target.size), side="right")  # place from which a row is over
        rival, gold = self.rival[by_need], target[by_need]

        def running(classes: NDArray[np.int64], weights: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
            cells = first * self.num_classes + classes
            size = (places.size + 1) * self.num_classes
            added = np.bincount(cells, weights=weights, minlength=size).reshape(-1, self.num_classes)
            summed = np.empty((places.size, self.num_classes))
            summed[order] = added[:-1].cumsum(axis=0)
            return summed

        hit = rival == gold
        predicted = np.bincount(rival, minlength=self.num_classes) - running(rival)
        correct = np.bincount(rival, weights=hit, minlength=self.num_classes) - running(rival, hit)
        predicted[:, self.chosen] = flips
        correct[:, self.chosen] = running(gold, gold == self.chosen)[:, self.chosen]
        return correct, np.bincount(target, minlength=self.num_classes).astype(np.float64), predicted

    def candidates(self, target: NDArray[np.int64], trials: int) -> list[float]:
        """Biases worth a look, the smallest in size first: the best of the exact curves, and an even choice."""
        order = np.argsort(self.needed, kind="stable")
        needed = self.needed[order]
        gap = np.diff(needed)
        wide = np.flatnonzero(gap > RESOLUTION * np.maximum(1.0, np.abs(needed[1:])))
        beyond = float(needed[-1] - needed[0]) / needed.size or 1.0
        places = np.concatenate(([needed[0] - beyond], needed[wide] + gap[wide] / 2, [needed[-1] + beyond]))
        flipped = np.concatenate(([0], wide + 1, [needed.size]))
        curves = _curves(self.chosen, self.rival[order], target[order], self.num_classes)[:, flipped]
        even = np.linspace(0, places.size - 1, min(trials, places.size)).round().astype(np.int64)
        found = places[np.union1d(even, curves.argmax(axis=1))]
        return [float(place) for place in found[np.argsort(np.abs(found), kind="stable")]]


def _curves(chosen: int, rival: NDArray[np.int64], target: NDArray[np.int64], num_classes: int) -> NDArray[np.float64]:
    """Macro-F1, F1 of the chosen class, balanced accuracy and accuracy after k rows went over to it, ``(4, N + 1)``.

    The rows, in the order in which they go over, leave `rival` for `chosen`. Accuracies are up to a constant.
    """
    size = target.size
    counts = np.bincount(target, minlength=num_classes)
    won, lost = target == chosen, target == rival
    # Position of every row among those of its rival, and how many of those before it were right.
    order = np.argsort(rival, kind="stable")
    held = np.bincount(rival, minlength=num_classes)
    right = np.bincount(rival, weights=lost, minlength=num_classes)
    first = np.cumsum(held) - held
    gone, gone_right = np.empty(size), np.empty(size)
    gone[order] = np.arange(size) - first[rival[order]]
    running = np.concatenate(([0.0], np.cumsum(lost[order])))
    gone_right[order] = running[:-1] - running[first][rival[order]]
    true, given = right[rival] - gone_right, held[rival] - gone + counts[rival]
    change = 2 * (true - lost) / np.maximum(given - 1, 1) - 2 * true / given
    own = 2 * _running(won) / np.maximum(np.arange(size + 1) + counts[chosen], 1)
    recall = np.where(counts > 0, 1.0 / np.maximum(counts, 1), 0.0)
    return np.stack([
        own + _running(change),
        own,
        _running(won * recall[chosen] - lost * recall[rival]),
        _running(won.astype(np.float64) - lost),
    ])  # fmt: skip


def _running(steps: NDArray[Any]) -> NDArray[np.float64]:
    """Sums of the first 0, 1, ..., N steps."""
    return np.concatenate(([0.0], np.cumsum(steps)))
