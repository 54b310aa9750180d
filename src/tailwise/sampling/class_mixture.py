"""Class first, then row: samplers that draw the classes by given shares.

    c ~ P_j,   i <- next row of a shuffled cycle over the rows of c

The draws of an epoch are apportioned to the classes by systematic sampling: with one uniform u and the cumulated shares
F_j, class j gets floor(L F_j + u) - floor(L F_(j-1) + u) of the L draws, which is L P_j in expectation and within one
draw of it in every epoch. Differs from independent draws (`torch.utils.data.WeightedRandomSampler`) in this lower
variance, in that all rows of a class come equally often, up to one, and in cost: O(C) for the classes and O(1) per
draw, without the limit of 2^24 rows of `torch.multinomial`. Survey section 3.1.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import numpy as np

from tailwise.sampling.base import LabelSampler

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ClassMixtureSampler", "apportion", "largest_remainders"]


def apportion(generator: np.random.Generator, shares: NDArray[np.float64], draws: int) -> NDArray[np.int64]:
    """Whole numbers with expectation ``draws * shares`` and sum `draws`, each within one of its expectation.

    Args:
        generator: the random stream.
        shares: non-negative, sum 1, ``(C,)``.
        draws: at least 0.

    Returns:
        ``(C,)``.
    """
    edges = np.floor(np.minimum(np.cumsum(shares), 1.0) * draws + generator.random()).astype(np.int64)
    last = np.flatnonzero(shares)[-1]
    edges[last:] = draws  # the cumulated shares may end a rounding error below 1
    return np.diff(np.minimum(edges, draws), prepend=0)


def largest_remainders(shares: NDArray[np.float64], draws: int) -> NDArray[np.int64]:
    """The whole numbers of sum `draws` nearest to ``draws * shares``, ``(C,)``."""
    expected = shares * draws
    counts = np.floor(expected).astype(np.int64)
    counts[np.argsort(counts - expected, kind="stable")[: draws - int(counts.sum())]] += 1
    return counts


class ClassMixtureSampler(LabelSampler):
    """Base of the samplers that are a class distribution per epoch; parameters as in `LabelSampler`.

    An epoch has N draws unless `num_samples` says otherwise.
    """

    @abstractmethod
    def shares(self, epoch: int) -> NDArray[np.float64]:
        """The class distribution of one epoch, 0 for a class without a row, ``(C,)``."""

    def effective_prior(self) -> NDArray[np.float64]:
        """The class distribution of what is drawn in the current epoch, ``(C,)``."""
        return self.shares(self.epoch)

    def drawn_counts(self) -> NDArray[np.int64]:
        """Expected draws per class of an epoch, to whole draws by largest remainders, ``(C,)``."""
        return largest_remainders(self.effective_prior(), len(self))

    def default_num_samples(self) -> int:
        """N, the number of rows."""
        return self.labels.size

    def plan(self, epoch: int) -> NDArray[np.int64]:
        """Row indices of one epoch, in order, ``(len(self),)``."""
        generator = self.random_stream(epoch)
        order = self.class_order(generator, epoch)
        counts = np.bincount(order, minlength=self.class_counts.size)
        plan = np.empty(order.size, dtype=np.int64)
        plan[np.argsort(order, kind="stable")] = self.cycle(generator, counts)
        return plan

    def class_order(self, generator: np.random.Generator, epoch: int) -> NDArray[np.unsignedinteger]:
        """The class of every draw of one epoch, ``(len(self),)``."""
        return self.shuffled_classes(generator, self.shares(epoch), len(self))

    def shuffled_classes(
        self, generator: np.random.Generator, shares: NDArray[np.float64], draws: int
    ) -> NDArray[np.unsignedinteger]:
        """Classes apportioned by `shares` ``(C,)``, in random order, ``(draws,)``."""
        classes = np.arange(shares.size, dtype=np.min_scalar_type(shares.size - 1))
        order = np.repeat(classes, apportion(generator, shares, draws))
        generator.shuffle(order)
        return order
