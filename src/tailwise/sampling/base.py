"""What every sampler is: a plan, laid out anew for each epoch by a pure function of (labels, seed, epoch).

Nothing depends on how often or where the plan is read, so every rank sees the same plan (the data loader deals it out)
and a run that resumes at any step continues the same sequence.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from torch.utils.data import Sampler

from tailwise.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

__all__ = ["LabelSampler"]

_CHUNK = 65_536


class LabelSampler(Sampler[int]):
    """Base of the samplers over one label per row.

    Args:
        labels: class index of every row, ``(N,)``.
        seed: any non-negative integer.
        num_samples: length of an epoch; None takes the sampler's own.
        num_classes: C, where classes without a row exist; None takes the largest label + 1.

    Raises:
        SettingError: labels empty, not integers, negative or not one-dimensional; `num_samples` below 1; a negative
            `seed`.
    """

    def __init__(
        self, labels: ArrayLike, *, seed: int = 0, num_samples: int | None = None, num_classes: int | None = None
    ) -> None:
        array = np.asarray(labels)
        name = type(self).__name__
        if array.ndim != 1 or array.size == 0:
            raise SettingError(
                f"{name}: expected one class index per row, (N,) with N > 0, but got shape {array.shape}."
            )
        if not np.issubdtype(array.dtype, np.integer):
            raise SettingError(
                f"{name}: expected integer class indices, but got {array.dtype}. Encode the labels first."
            )
        if array.min() < 0:
            raise SettingError(f"{name}: expected class indices from 0, but got {array.min()} at row {array.argmin()}.")
        if num_samples is not None and num_samples < 1:
            raise SettingError(f"{name}: expected `num_samples` to be at least 1, but got {num_samples}.")
        if num_classes is not None and array.max() >= num_classes:
            raise SettingError(f"{name}: label {array.max()} is outside `num_classes` = {num_classes}.")
        if seed < 0:
            raise SettingError(f"{name}: expected `seed` to be a non-negative integer, but got {seed}.")
        self.labels: NDArray[np.int64] = array.astype(np.int64, copy=False)
        self.class_counts: NDArray[np.int64] = np.bincount(self.labels, minlength=num_classes or 0)
        self.seed = seed
        self.epoch = 0
        self._num_samples = num_samples

    @abstractmethod
    def plan(self, epoch: int) -> NDArray[np.int64]:
        """Row indices of one epoch, in order, ``(len(self),)``; pure in (labels, seed, epoch)."""

    @abstractmethod
    def drawn_counts(self) -> NDArray[np.int64]:
        """Rows per class in one pass of the sampler, ``(C,)``."""

    def effective_prior(self) -> NDArray[np.float64]:
        """The class distribution of what is drawn, ``(C,)``."""
        counts = self.drawn_counts()
        prior: NDArray[np.float64] = counts / counts.sum()
        return prior

    def default_num_samples(self) -> int:
        """Length of an epoch when `num_samples` is not given."""
        return int(self.drawn_counts().sum())

    def __len__(self) -> int:
        return self._num_samples if self._num_samples is not None else self.default_num_samples()

    def __iter__(self) -> Iterator[int]:
        plan = self.plan(self.epoch)
        return chain.from_iterable(plan[i : i + _CHUNK].tolist() for i in range(0, plan.size, _CHUNK))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration lays out."""
        self.epoch = epoch

    def generator(self, epoch: int) -> np.random.Generator:
        """The random stream of one epoch, the same on every machine."""
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, epoch])))

    @cached_property
    def rows_by_class(self) -> NDArray[np.unsignedinteger]:
        """All rows, class after class, ascending within each class, ``(N,)``."""
        # Radix sort takes integers of at most 16 bits: linear time for up to 65,536 classes.
        labels = self.labels.astype(np.min_scalar_type(self.class_counts.size - 1), copy=False)
        return np.argsort(labels, kind="stable").astype(np.min_scalar_type(labels.size - 1), copy=False)

    def deal(
        self, generator: np.random.Generator, sizes: NDArray[np.int64], hands: int
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.unsignedinteger]]]:
        """Deal the rows of every class j into `hands` hands of ``sizes[j]`` different rows.

        A class is shuffled, dealt hand after hand, and shuffled again when too few rows for a whole hand are left.
        Classes of one count are dealt together, so that the number of steps in Python is that of distinct counts.

        Args:
            generator: the random stream.
            sizes: 0 <= size <= n_j, ``(C,)``, equal for classes of equal count; a class with size 0 is left out.
            hands: at least 1.

        Yields:
            Classes ``(m,)`` and their rows ``(m, hands, size)``.
        """
        starts = np.cumsum(self.class_counts) - self.class_counts
        order = np.argsort(self.class_counts, kind="stable")
        for classes in np.split(order, np.flatnonzero(np.diff(self.class_counts[order])) + 1):
            count, hand = int(self.class_counts[classes[0]]), int(sizes[classes[0]])
            if hand == 0:
                continue
            rounds = -(-hands // (count // hand))
            if classes.size == rounds == 1:
                place = generator.choice(count, hands * hand, replace=False)
                rows = self.rows_by_class[starts[classes[0]] + place]
            else:
                rows = self.rows_by_class[starts[classes, None] + np.arange(count)]
                rows = np.broadcast_to(rows[:, None], (classes.size, rounds, count))
                rows = generator.permuted(rows, axis=2)[:, :, : count - count % hand]
            yield classes, rows.reshape(classes.size, -1, hand)[:, :hands]
