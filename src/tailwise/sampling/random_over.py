"""Random over-sampling (ROS).

    n_j' = max(n_j, t max_k n_k)          t ratio (1: full balance)

Every row of a class is drawn equally often, up to one: the n_j' draws are whole copies of the class and, for the rest,
a random subset without replacement, chosen anew in each epoch. Survey section 3.1. Differs from the usual
implementation (imbalanced-learn), which draws the extra rows with replacement and once for good.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tailwise.errors import SettingError
from tailwise.sampling.base import LabelSampler

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["RandomOverSampler"]


class RandomOverSampler(LabelSampler):
    """Rare classes are repeated up to a share of the largest class.

    Args:
        labels: class index of every row, ``(N,)``.
        ratio: t in (0, 1], the size of the smallest class relative to the largest, after sampling.
        seed: see `LabelSampler`.
        num_samples: length of an epoch; None takes the sum of n_j'. A smaller one takes a random part of that list, a
            larger one goes on with further lists, each drawn anew.
        num_classes: see `LabelSampler`. A class without a row stays without.
    """

    def __init__(
        self,
        labels: ArrayLike,
        *,
        ratio: float = 1.0,
        seed: int = 0,
        num_samples: int | None = None,
        num_classes: int | None = None,
    ) -> None:
        super().__init__(labels, seed=seed, num_samples=num_samples, num_classes=num_classes)
        if not 0.0 < ratio <= 1.0:
            raise SettingError(f"RandomOverSampler: expected `ratio` to lie in (0, 1], but got {ratio!r}.")
        self.ratio = ratio

    def drawn_counts(self) -> NDArray[np.int64]:
        """Draws per class n_j', ``(C,)``."""
        wanted = round(self.ratio * int(self.class_counts.max()))
        return np.where(self.class_counts > 0, np.maximum(self.class_counts, wanted), 0)

    def plan(self, epoch: int) -> NDArray[np.int64]:
        """Row indices of one epoch, in order, ``(len(self),)``."""
        generator, size = self.random_stream(epoch), self.default_num_samples()
        passes, part = divmod(len(self), size)
        lists = [generator.permutation(self._list(generator)) for _ in range(passes)]
        if part:
            lists.append(self._list(generator)[generator.choice(size, part, replace=False)])
        return np.concatenate(lists).astype(np.int64, copy=False)

    def _list(self, generator: np.random.Generator) -> NDArray[np.unsignedinteger]:
        """Whole copies of every class, then a random subset of each for the rest."""
        copies, extra = np.divmod(self.drawn_counts(), np.maximum(self.class_counts, 1))
        whole = np.repeat(self.rows_by_class, np.repeat(copies, self.class_counts))
        return np.concatenate([whole, *(rows.reshape(-1) for _, rows in self.deal(generator, extra, 1))])
