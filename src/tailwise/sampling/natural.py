"""Natural sampling: every row once per epoch, in random order. The baseline of survey section 3.1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tailwise.sampling.base import LabelSampler

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["NaturalSampler"]


class NaturalSampler(LabelSampler):
    """Every row once per epoch, in random order; parameters as in `LabelSampler`.

    With a smaller `num_samples` an epoch is a random part of the rows, with a larger one further permutations follow.
    """

    def drawn_counts(self) -> NDArray[np.int64]:
        """The training counts n_j, ``(C,)``."""
        return self.class_counts

    def plan(self, epoch: int) -> NDArray[np.int64]:
        """Row indices of one epoch, in order, ``(len(self),)``."""
        generator, size = self.random_stream(epoch), self.labels.size
        passes = -(-len(self) // size)
        return np.concatenate([generator.permutation(size) for _ in range(passes)])[: len(self)]
