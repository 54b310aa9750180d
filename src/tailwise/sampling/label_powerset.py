"""Random over- and under-sampling of label sets: LP-ROS and LP-RUS.

    bags b: the rows of one label set;   m = N / #bags the mean size;   budget P N
    LP-ROS   bags with |b| < m get clones, equally many each, up to floor(m - |b|)
    LP-RUS   bags with |b| > m lose rows, equally many each, down to floor(m)

What a full bag cannot take goes to the others. Charte et al., Addressing imbalance in multilabel classification,
Neurocomputing 163, 2015, algorithms 1 and 2. Survey section 3.1.
Differs from the paper in that the rows of a bag are drawn without replacement, so that all are used equally often, up
to one, and anew in each epoch; where the budget does not divide evenly, chance decides in each epoch which bags get one
more. The R port (mldr.resampling) rounds the clones per bag first and, where that gives 0, clones beyond the mean size.

Where most label sets are unique, as in texts with many labels, the mean size is near 1 and nothing can be done: a
warning says so.
"""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tailwise.errors import SettingError
from tailwise.sampling.label_matrix import label_sets
from tailwise.sampling.multilabel_base import ResampledSetSampler

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LabelPowersetOverSampler", "LabelPowersetUnderSampler", "shared_out"]


def shared_out(room: NDArray[np.int64], budget: int) -> tuple[NDArray[np.int64], NDArray[np.bool_], int]:
    """Share a budget equally among takers of limited room.

    Args:
        room: the most that each takes, ``(S,)``.
        budget: what there is to share, at least 0.

    Returns:
        What every taker gets in whole, ``(S,)``; who could take one more, ``(S,)``; how many of these do.
    """
    budget = min(budget, int(room.sum()))
    low, high = 0, int(room.max(initial=0))
    while low < high:
        level = (low + high + 1) // 2
        if int(np.minimum(room, level).sum()) <= budget:
            low = level
        else:
            high = level - 1
    share = np.minimum(room, low)
    return share, room > low, budget - int(share.sum())


class _LabelPowersetSampler(ResampledSetSampler):
    """What LP-ROS and LP-RUS have in common: bags, their mean size, and a change of equal size for each."""

    def __init__(
        self,
        labels: Any,
        *,
        share: float,
        seed: int,
        num_samples: int | None,
        num_classes: int | None,
    ) -> None:
        super().__init__(labels, seed=seed, num_samples=num_samples, num_classes=num_classes)
        self.share = share
        self.set_of_row, self.set_sizes = label_sets(self.label_matrix)
        room, budget = self.room(), round(share * self.num_rows)
        self._whole, self._open, self._left = shared_out(room, budget)
        # Label sets of one size are balanced, unless that size is one row.
        balanced = np.ptp(self.set_sizes) == 0 and self.set_sizes[0] > 1
        if not room.any() and self.set_sizes.size > 1 and not balanced:
            warnings.warn(
                f"{type(self).__name__}: {self.set_sizes.size:,} label sets in {self.num_rows:,} rows leave nothing to "
                "re-sample; the plan is that of natural sampling. Use ML-ROS or repeat-factor sampling.",
                UserWarning,
                stacklevel=3,
            )
        elif room.any() and budget == 0:
            warnings.warn(
                f"{type(self).__name__}: `share` = {share!r} of {self.num_rows:,} rows is less than half a row, so "
                "that none is re-sampled; the plan is that of natural sampling. Raise `share`.",
                UserWarning,
                stacklevel=3,
            )

    def room(self) -> NDArray[np.int64]:
        """The most that may be added to or taken from every label set, ``(S,)``."""
        raise NotImplementedError  # pragma: no cover

    @property
    def mean_size(self) -> int:
        """Rows per label set, rounded down."""
        return self.num_rows // int(self.set_sizes.size)

    def mean_changes(self) -> NDArray[np.float64]:
        """Rows added to or taken from every label set, in the mean over epochs, ``(S,)``."""
        return self._whole + self._open * (self._left / max(1, int(self._open.sum())))

    def changes(self, generator: np.random.Generator) -> NDArray[np.int64]:
        """Rows added to or taken from every label set, ``(S,)``."""
        if self._left == 0:
            return self._whole
        lucky = generator.choice(np.flatnonzero(self._open), self._left, replace=False)
        return self._whole + np.bincount(lucky, minlength=self._whole.size)

    def first_rows(self, generator: np.random.Generator, sizes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Choose `sizes[s]` random rows of every label set s, ``(N,)``."""
        rows = np.flatnonzero(sizes[self.set_of_row])
        sets = self.set_of_row[rows]
        order = np.lexsort((generator.random(rows.size), sets))
        ordered = sets[order]
        starts = np.searchsorted(ordered, ordered)
        chosen = np.zeros(self.num_rows, dtype=bool)
        chosen[rows[order]] = np.arange(rows.size) - starts < sizes[ordered]
        return chosen


class LabelPowersetOverSampler(_LabelPowersetSampler):
    """Rows of rare label sets are repeated (LP-ROS).

    Args:
        labels: see `LabelMatrixSampler`.
        share: P > 0, rows to add as a share of N, as far as the mean size of the label sets allows.
        seed: see `LabelMatrixSampler`.
        num_samples: length of an epoch; None takes the rows and their clones.
        num_classes: see `LabelMatrixSampler`.
    """

    def __init__(
        self,
        labels: Any,
        *,
        share: float = 0.25,
        seed: int = 0,
        num_samples: int | None = None,
        num_classes: int | None = None,
    ) -> None:
        if not 0.0 < share < float("inf"):
            raise SettingError(f"LabelPowersetOverSampler: expected `share` to be above 0, but got {share!r}.")
        super().__init__(labels, share=share, seed=seed, num_samples=num_samples, num_classes=num_classes)

    def room(self) -> NDArray[np.int64]:
        """Clones up to the mean size, ``(S,)``."""
        return np.maximum(self.mean_size - self.set_sizes, 0)

    @cached_property
    def _mean_uses(self) -> NDArray[np.float64]:
        return (1.0 + self.mean_changes() / self.set_sizes)[self.set_of_row]

    def mean_uses(self) -> NDArray[np.float64]:
        """One and the expected clones of every row, ``(N,)``."""
        return self._mean_uses

    def uses(self, generator: np.random.Generator) -> NDArray[np.int64]:
        """Every row once, and its clones, ``(N,)``."""
        copies, extra = np.divmod(self.changes(generator), self.set_sizes)
        return 1 + copies[self.set_of_row] + self.first_rows(generator, extra)


class LabelPowersetUnderSampler(_LabelPowersetSampler):
    """Rows of frequent label sets are left out (LP-RUS).

    Args:
        labels: see `LabelMatrixSampler`.
        share: 0 < P < 1, rows to leave out as a share of N, as far as the mean size of the label sets allows.
        seed: see `LabelMatrixSampler`.
        num_samples: length of an epoch; None takes the rows that stay.
        num_classes: see `LabelMatrixSampler`.
    """

    def __init__(
        self,
        labels: Any,
        *,
        share: float = 0.25,
        seed: int = 0,
        num_samples: int | None = None,
        num_classes: int | None = None,
    ) -> None:
        if not 0.0 < share < 1.0:
            raise SettingError(f"LabelPowersetUnderSampler: expected `share` to lie in (0, 1), but got {share!r}.")
        super().__init__(labels, share=share, seed=seed, num_samples=num_samples, num_classes=num_classes)

    def room(self) -> NDArray[np.int64]:
        """Rows beyond the mean size, ``(S,)``."""
        return np.maximum(self.set_sizes - self.mean_size, 0)

    @cached_property
    def _mean_uses(self) -> NDArray[np.float64]:
        return (1.0 - self.mean_changes() / self.set_sizes)[self.set_of_row]

    def mean_uses(self) -> NDArray[np.float64]:
        """The probability that a row stays, ``(N,)``."""
        return self._mean_uses

    def uses(self, generator: np.random.Generator) -> NDArray[np.int64]:
        """Which rows stay, ``(N,)``."""
        return 1 - self.first_rows(generator, self.changes(generator)).astype(np.int64)
