"""Class-aware sampling (CAS), also known as class-balanced sampling.

    repeat: c <- next class of a shuffled cycle over the classes;  i <- next row of a shuffled cycle over the rows of c

Every class comes exactly once per C draws, every row of a class equally often, up to one.
Shen, Lin, Huang, Relay Backpropagation for Effective Learning of Deep Convolutional Neural Networks, ECCV 2016; Kang et
al., ICLR 2020. Survey section 3.1. Differs from the code of Kang et al. in the length of an epoch, N instead of
C max_j n_j, and in that the cycles start anew in each epoch, so that a plan depends on the epoch alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tailwise.errors import SettingError
from tailwise.sampling.base import LabelSampler
from tailwise.sampling.checks import whole_number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

__all__ = ["ClassAwareSampler"]

_PART = 16_384  # of draws: what they become in Python stays within the cache


class ClassAwareSampler(LabelSampler):
    """All classes equally often.

    Args:
        labels: class index of every row, ``(N,)``.
        samples_per_class: consecutive draws from a class before the next one.
        seed: see `LabelSampler`.
        num_samples: length of an epoch; None takes N.
        num_classes: see `LabelSampler`. A class without a row is skipped.
    """

    def __init__(
        self,
        labels: ArrayLike,
        *,
        samples_per_class: int = 1,
        seed: int = 0,
        num_samples: int | None = None,
        num_classes: int | None = None,
    ) -> None:
        super().__init__(labels, seed=seed, num_samples=num_samples, num_classes=num_classes)
        samples_per_class = whole_number(samples_per_class, "samples_per_class", type(self).__name__)
        if samples_per_class < 1:
            raise SettingError(
                f"ClassAwareSampler: expected `samples_per_class` to be at least 1, but got {samples_per_class}."
            )
        self.samples_per_class = samples_per_class

    def drawn_counts(self) -> NDArray[np.int64]:
        """One row of every class that has one, ``(C,)``."""
        return np.minimum(self.class_counts, 1)

    def default_num_samples(self) -> int:
        """N, the number of rows."""
        return self.labels.size

    def plan(self, epoch: int) -> NDArray[np.int64]:
        """Row indices of one epoch, in order, ``(len(self),)``."""
        plan = np.empty(len(self), dtype=np.int64)
        start = 0
        for part in self.parts(epoch):
            plan[start : start + part.size] = part
            start += part.size
        return plan

    def parts(self, epoch: int) -> Iterator[NDArray[np.int64]]:
        """The plan of one epoch in consecutive parts of whole cycles, the last one cut."""
        generator, visits = self.random_stream(epoch), self.samples_per_class
        present = int(np.count_nonzero(self.class_counts))
        cycles = -(-len(self) // (present * visits))
        place = np.cumsum(self.class_counts > 0) - 1
        draws = np.empty((present, cycles * visits), dtype=self.rows_by_class.dtype)
        for dealt, rows in self.deal(generator, self.drawn_counts(), cycles * visits):
            draws[place[dealt]] = rows[:, :, 0]
        left, step = len(self), max(_PART // (present * visits), 1)
        for first in range(0, cycles, step):
            part = draws[:, first * visits : (first + step) * visits].reshape(present, -1, visits).swapaxes(0, 1)
            part = _shuffled(generator, part.astype(np.int64, order="C"))[:left]
            left -= part.size
            yield part


def _shuffled(generator: np.random.Generator, draws: NDArray[np.int64]) -> NDArray[np.int64]:
    """Shuffle the classes of every cycle, in place; draws ``(cycles, classes, visits)``, result flat."""
    cycles, present, visits = draws.shape
    if visits == 1:
        flat = draws[:, :, 0]
        return generator.permuted(flat, axis=1, out=flat).reshape(-1)
    classes = np.arange(present, dtype=np.min_scalar_type(present))
    order = generator.permuted(np.broadcast_to(classes, (cycles, present)), axis=1)
    shuffled: NDArray[np.int64] = draws[np.arange(cycles)[:, None], order].reshape(-1)
    return shuffled
