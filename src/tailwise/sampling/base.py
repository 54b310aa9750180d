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
from tailwise.sampling.checks import as_array, check_num_classes, whole_number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

__all__ = ["LabelSampler", "PlannedSampler"]

_CHUNK = 16_384  # of rows: what they become in Python stays within the cache
_SORTED_AT_ONCE = 1 << 17
_LARGE = 1024


class PlannedSampler(Sampler[int]):
    """Base of every sampler: an epoch is a plan, and the plan is a pure function of the data, the seed and the epoch.

    Args:
        seed: any non-negative integer.
        num_samples: length of an epoch; None takes the sampler's own.

    Raises:
        SettingError: `num_samples` below 1; a negative `seed`; one that is not a whole number.
    """

    def __init__(self, *, seed: int = 0, num_samples: int | None = None) -> None:
        name = type(self).__name__
        seed = whole_number(seed, "seed", name)
        num_samples = None if num_samples is None else whole_number(num_samples, "num_samples", name)
        if num_samples is not None and num_samples < 1:
            raise SettingError(f"{name}: expected `num_samples` to be at least 1, but got {num_samples}.")
        if seed < 0:
            raise SettingError(f"{name}: expected `seed` to be a non-negative integer, but got {seed}.")
        self.seed = seed
        self.epoch = 0
        self._num_samples = num_samples

    @abstractmethod
    def plan(self, epoch: int) -> NDArray[np.int64]:
        """Row indices of one epoch, in order, ``(len(self),)``; pure in (data, seed, epoch)."""

    @abstractmethod
    def effective_prior(self) -> NDArray[np.float64]:
        """The class distribution of what is drawn, ``(C,)``."""

    @abstractmethod
    def default_num_samples(self) -> int:
        """Length of an epoch when `num_samples` is not given."""

    def row_rates(self) -> NDArray[np.float64] | None:
        """How often each row is drawn in the mean over epochs, relative to natural sampling, ``(N,)`` of mean 1.

        None where that changes in the course of a training. The loss over many epochs is the loss of all rows weighted
        by these rates.
        """
        return None

    def parts(self, epoch: int) -> Iterator[NDArray[np.integer]]:
        """The plan of one epoch in consecutive parts."""
        plan = self.plan(epoch)
        return (plan[i : i + _CHUNK] for i in range(0, plan.size, _CHUNK))

    def __len__(self) -> int:
        return self._num_samples if self._num_samples is not None else self.default_num_samples()

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(part.tolist() for part in self.parts(self.epoch))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration lays out."""
        self.epoch = epoch

    def random_stream(self, epoch: int) -> np.random.Generator:
        """The random stream of one epoch, the same on every machine.

        Not called ``generator``: accelerate takes an attribute of that name on a sampler for a `torch.Generator`.
        """
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, epoch])))


class LabelSampler(PlannedSampler):
    """Base of the samplers over one label per row.

    Args:
        labels: class index of every row, ``(N,)``.
        seed: any non-negative integer.
        num_samples: length of an epoch; None takes the sampler's own.
        num_classes: C, where classes without a row exist; None takes the largest label + 1.

    Raises:
        SettingError: labels empty, not integers, negative, far more than there are rows, or not one-dimensional; a
            label outside `num_classes`; see `PlannedSampler`.
    """

    def __init__(
        self, labels: ArrayLike, *, seed: int = 0, num_samples: int | None = None, num_classes: int | None = None
    ) -> None:
        name = type(self).__name__
        array = as_array(labels, name)
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
        classes = int(array.max()) + 1 if num_classes is None else whole_number(num_classes, "num_classes", name)
        if array.max() >= classes:
            raise SettingError(f"{name}: label {array.max()} is outside `num_classes` = {num_classes}.")
        check_num_classes(classes, array.size, name)
        super().__init__(seed=seed, num_samples=num_samples)
        self.labels: NDArray[np.int64] = array.astype(np.int64, copy=False)
        self.class_counts: NDArray[np.int64] = np.bincount(self.labels, minlength=classes)

    @abstractmethod
    def drawn_counts(self) -> NDArray[np.int64]:
        """Rows per class in one pass of the sampler, ``(C,)``."""

    def effective_prior(self) -> NDArray[np.float64]:
        """The class distribution of what is drawn, ``(C,)``."""
        counts = self.drawn_counts()
        prior: NDArray[np.float64] = counts / counts.sum()
        return prior

    def row_rates(self) -> NDArray[np.float64] | None:
        """Share of the draws over share of the rows, of each row's class, ``(N,)``; its rows come equally often."""
        natural = np.maximum(self.class_counts, 1) / self.labels.size
        rates: NDArray[np.float64] = (self.effective_prior() / natural)[self.labels]
        return rates

    def default_num_samples(self) -> int:
        """Length of an epoch when `num_samples` is not given."""
        return int(self.drawn_counts().sum())

    @cached_property
    def rows_by_class(self) -> NDArray[np.unsignedinteger]:
        """All rows, class after class, ascending within each class, ``(N,)``."""
        # Radix sort takes integers of at most 16 bits: linear time for up to 65,536 classes.
        labels = self.labels.astype(np.min_scalar_type(self.class_counts.size - 1), copy=False)
        index = np.min_scalar_type(labels.size - 1)
        size = max(_SORTED_AT_ONCE, 64 * self.class_counts.size)  # a sort within the cache, few classes per row
        if labels.itemsize > 2 or labels.size <= size:
            return np.argsort(labels, kind="stable").astype(index, copy=False)
        rows = np.empty(labels.size, dtype=index)
        following = np.cumsum(self.class_counts) - self.class_counts
        for start in range(0, labels.size, size):
            part = labels[start : start + size]
            order = np.argsort(part, kind="stable")
            order += start
            counts = np.bincount(part, minlength=following.size)
            ends = np.cumsum(counts)
            for label in np.flatnonzero(counts):
                count, place, end = counts[label], following[label], ends[label]
                rows[place : place + count] = order[end - count : end]
            following += counts
        return rows

    def deal(
        self, generator: np.random.Generator, sizes: NDArray[np.int64], hands: int
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.integer]]]:
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
        order = np.argsort(self.class_counts, kind="stable")
        for classes in np.split(order, np.flatnonzero(np.diff(self.class_counts[order])) + 1):
            count, hand = int(self.class_counts[classes[0]]), int(sizes[classes[0]])
            if hand == 0:
                continue
            rounds = -(-hands // (count // hand))
            if rounds == 1 and (classes.size == 1 or count >= _LARGE):
                rows = np.stack([self._choice(generator, label, hands * hand) for label in classes])
            else:
                rows = self._shuffles(generator, classes, rounds)[:, :, : count - count % hand]
            yield classes, rows.reshape(classes.size, -1, hand)[:, :hands]

    def cycle(self, generator: np.random.Generator, draws: NDArray[np.int64]) -> NDArray[np.unsignedinteger]:
        """Draw ``draws[j]`` rows from every class j: shuffled cycles over its rows, the last one cut.

        Args:
            generator: the random stream.
            draws: at least 0, 0 for a class without a row, ``(C,)``.

        Returns:
            The rows, class after class, ``(sum of draws,)``.
        """
        counts = self.class_counts
        rows = np.empty(int(draws.sum()), dtype=self.rows_by_class.dtype)
        places = np.cumsum(draws) - draws
        cycles = -(-draws // np.maximum(counts, 1))
        order = np.lexsort((cycles, counts))
        order = order[draws[order] > 0]
        changes = (np.diff(counts[order]) != 0) | (np.diff(cycles[order]) != 0)
        for classes in np.split(order, np.flatnonzero(changes) + 1):
            count, rounds = int(counts[classes[0]]), int(cycles[classes[0]])
            if rounds == 1 and (classes.size == 1 or count >= _LARGE):
                for label in classes:
                    rows[places[label] : places[label] + draws[label]] = self._choice(generator, label, draws[label])
                continue
            own = self._shuffles(generator, classes, rounds).reshape(classes.size, -1)
            kept = np.arange(own.shape[1]) < draws[classes, None]
            rows[(places[classes, None] + np.arange(own.shape[1]))[kept]] = own[kept]
        return rows

    def lists(
        self, generator: np.random.Generator, counts: NDArray[np.int64], number: int
    ) -> NDArray[np.unsignedinteger]:
        """Lay out lists with ``counts[j]`` rows of every class j, each in random order.

        Within a list every row of a class comes equally often, up to one; further lists take rows not drawn yet first.

        Args:
            generator: the random stream.
            counts: at least 0, equal for classes of equal count, 0 for a class without a row, ``(C,)``.
            number: how many lists, at least 1.

        Returns:
            ``(number, sum of counts)``.
        """
        copies, extra = np.divmod(counts, np.maximum(self.class_counts, 1))
        whole = np.repeat(self.rows_by_class, np.repeat(copies, self.class_counts))
        hands = (rows.swapaxes(0, 1).reshape(number, -1) for _, rows in self.deal(generator, extra, number))
        together = np.concatenate([np.broadcast_to(whole, (number, whole.size)), *hands], axis=1)
        return generator.permuted(together, axis=1)

    def _choice(
        self, generator: np.random.Generator, label: np.integer, size: int | np.integer
    ) -> NDArray[np.unsignedinteger]:
        """Different rows of one class in random order, ``(size,)``."""
        count = self.class_counts[label]
        start = self._starts[label]
        return self.rows_by_class[start : start + count][generator.choice(count, size, replace=False)]

    def _shuffles(self, generator: np.random.Generator, classes: NDArray[np.int64], rounds: int) -> NDArray[np.integer]:
        """The rows of classes of one count, shuffled `rounds` times, ``(m, rounds, n_j)``."""
        count = int(self.class_counts[classes[0]])
        if count >= _LARGE:
            shuffles = np.empty((classes.size, rounds, count), dtype=self.rows_by_class.dtype)
            for place, label in enumerate(classes):
                for turn in range(rounds):
                    shuffles[place, turn] = self._choice(generator, label, count)
            return shuffles
        rows = self.rows_by_class[self._starts[classes, None] + np.arange(count)].astype(np.int64)
        return generator.permuted(np.broadcast_to(rows[:, None], (classes.size, rounds, count)), axis=2)

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        """Where each class begins in `rows_by_class`, ``(C,)``."""
        return np.cumsum(self.class_counts) - self.class_counts
