"""Random under-sampling (RUS).

    n_j' = min(n_j, t min_k n_k)          t ratio (1: full balance), minimum over classes with a row

Rows are drawn without replacement, anew in each epoch, so that over the epochs the rows of large classes are seen too.
Survey section 3.1. Differs from the usual implementation (imbalanced-learn), which draws one subset for good.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tailwise.errors import SettingError
from tailwise.sampling.base import LabelSampler

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["RandomUnderSampler"]


class RandomUnderSampler(LabelSampler):
    """Frequent classes are cut down to a multiple of the smallest class.

    Args:
        labels: class index of every row, ``(N,)``.
        ratio: t >= 1, the size of the largest class relative to the smallest, after sampling.
        seed: see `LabelSampler`.
        num_samples: length of an epoch; None takes the sum of n_j'. A smaller one takes a random part of that list, a
            larger one goes on with further lists, which go through rows not drawn yet first.
        num_classes: see `LabelSampler`. A class without a row is left out of the minimum.
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
        if not 1.0 <= ratio < float("inf"):
            raise SettingError(f"RandomUnderSampler: expected `ratio` to be at least 1, but got {ratio!r}.")
        self.ratio = ratio

    def drawn_counts(self) -> NDArray[np.int64]:
        """Draws per class n_j', ``(C,)``."""
        smallest = int(self.class_counts[self.class_counts > 0].min())
        return np.minimum(self.class_counts, round(self.ratio * smallest))

    def plan(self, epoch: int) -> NDArray[np.int64]:
        """Row indices of one epoch, in order, ``(len(self),)``."""
        generator = self.random_stream(epoch)
        lists = -(-len(self) // self.default_num_samples())
        dealt = self.deal(generator, self.drawn_counts(), lists)
        hands = [rows.swapaxes(0, 1).reshape(lists, -1) for _, rows in dealt]
        shuffled = generator.permuted(np.concatenate(hands, axis=1), axis=1)
        return shuffled.reshape(-1)[: len(self)].astype(np.int64, copy=False)
