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

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["ClassAwareSampler"]


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
        generator = self.generator(epoch)
        present = int(np.count_nonzero(self.class_counts))
        cycles = -(-len(self) // (present * self.samples_per_class))
        place = np.cumsum(self.class_counts > 0) - 1
        draws = np.empty((present, cycles * self.samples_per_class), dtype=self.rows_by_class.dtype)
        for dealt, rows in self.deal(generator, self.drawn_counts(), cycles * self.samples_per_class):
            draws[place[dealt]] = rows[:, :, 0]
        classes = np.arange(present, dtype=np.min_scalar_type(present))
        visits = generator.permuted(np.broadcast_to(classes, (cycles, present)), axis=1)
        plan = draws.reshape(present, cycles, -1)[visits, np.arange(cycles)[:, None]].reshape(-1)
        return np.asarray(plan[: len(self)], dtype=np.int64)
