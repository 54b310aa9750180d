"""Batches and episodes of several classes with several rows each, for contrastive and prototype methods.

    batch     P classes x M rows: every anchor has M - 1 positives
    episode   W classes (ways): support rows to make prototypes from, query rows to score against them

Hermans, Beyer, Leibe, In Defense of the Triplet Loss, arXiv 1703.07737 (P x M batches); Khosla et al., NeurIPS 2020
(why positives per anchor matter); Snell, Swersky, Zemel, Prototypical Networks, NeurIPS 2017 (episodes); Gao et al.,
SetConv, EMNLP 2020 (support of natural distribution). Survey sections 3.1 and 3.3. Classes come from shuffled cycles,
so that each is visited equally often, up to one; a batch never holds a class twice, nor a row twice while its class has
M rows or more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np
from torch.utils.data import Sampler

from tailwise.errors import SettingError
from tailwise.sampling.base import LabelSampler
from tailwise.sampling.checks import whole_number
from tailwise.sampling.episode_prior import natural_query_prior
from tailwise.sampling.natural import NaturalSampler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Composition",
    "Episode",
    "EpisodeRows",
    "EpisodeSampler",
    "MPerClassBatchSampler",
    "MPerClassSampler",
    "class_groups",
]

Composition = Literal["balanced", "natural"]


class MPerClassSampler(LabelSampler):
    """Rows in consecutive groups of P classes x M rows; a data loader with batches of P M rows cuts between them.

    Args:
        labels: class index of every row, ``(N,)``.
        classes_per_batch: P, at most the number of classes with a row; None takes all of them, up to 8.
        samples_per_class: M. A class of fewer rows repeats them, each equally often, up to one.
        num_groups: groups per epoch; None takes N / (P M), rounded up.
        seed: see `LabelSampler`.
        num_samples: length of an epoch, in place of `num_groups`; the last group may be cut.
        num_classes: see `LabelSampler`. A class without a row is skipped.

    Raises:
        SettingError: fewer than P classes with a row, or a size below 1.
    """

    def __init__(
        self,
        labels: ArrayLike,
        *,
        classes_per_batch: int | None = None,
        samples_per_class: int = 4,
        num_groups: int | None = None,
        seed: int = 0,
        num_samples: int | None = None,
        num_classes: int | None = None,
    ) -> None:
        super().__init__(labels, seed=seed, num_samples=num_samples, num_classes=num_classes)
        name, present = type(self).__name__, int(np.count_nonzero(self.class_counts))
        if classes_per_batch is None:
            classes_per_batch = min(present, 8)
        self.classes_per_batch = whole_number(classes_per_batch, "classes_per_batch", name)
        self.samples_per_class = whole_number(samples_per_class, "samples_per_class", name)
        if not 1 <= self.classes_per_batch <= present:
            raise SettingError(
                f"{name}: expected `classes_per_batch` to lie between 1 and {present}, the number of classes with a "
                f"row, but got {classes_per_batch}."
            )
        if samples_per_class < 1:
            raise SettingError(f"{name}: expected `samples_per_class` to be at least 1, but got {samples_per_class}.")
        if num_groups is not None and whole_number(num_groups, "num_groups", name) < 1:
            raise SettingError(f"{name}: expected `num_groups` to be at least 1, but got {num_groups}.")
        self._num_groups = num_groups

    @property
    def group_size(self) -> int:
        """P M, the rows of a group."""
        return self.classes_per_batch * self.samples_per_class

    def drawn_counts(self) -> NDArray[np.int64]:
        """One row of every class that has one, ``(C,)``."""
        return np.minimum(self.class_counts, 1)

    def default_num_samples(self) -> int:
        """The groups of an epoch times P M; without a number of groups N, rounded up to whole ones."""
        groups = -(-self.labels.size // self.group_size) if self._num_groups is None else self._num_groups
        return groups * self.group_size

    def plan(self, epoch: int) -> NDArray[np.int64]:
        """Row indices of one epoch, in order, ``(len(self),)``."""
        generator, groups = self.random_stream(epoch), -(-len(self) // self.group_size)
        present = np.flatnonzero(self.class_counts)
        classes = class_groups(generator, present.size, self.classes_per_batch, groups).reshape(-1)
        order = np.argsort(classes, kind="stable")
        visits = np.bincount(classes, minlength=present.size)
        number = np.empty(classes.size, dtype=np.int64)
        number[order] = np.arange(classes.size) - np.repeat(np.cumsum(visits) - visits, visits)
        rows = self._hands(generator, present, int(visits.max()))
        return rows[classes, number].reshape(-1)[: len(self)]

    def _hands(self, generator: np.random.Generator, present: NDArray[np.int64], hands: int) -> NDArray[np.int64]:
        """Hands of M rows of every class with a row, ``(classes, hands, M)``."""
        size = self.samples_per_class
        place = np.cumsum(self.class_counts > 0) - 1
        counts = np.maximum(self.class_counts, 1)
        sizes = np.where(self.class_counts >= size, size, size % counts)
        sizes[self.class_counts == 0] = 0
        drawn = np.empty((present.size, hands, size), dtype=np.int64)
        for classes, rows in self.deal(generator, sizes, hands):
            drawn[place[classes], :, size - rows.shape[2] :] = rows
        for count in np.unique(self.class_counts[present[self.class_counts[present] < size]]):
            classes = np.flatnonzero(self.class_counts == count)
            own = self.rows_by_class[self._starts[classes, None] + np.arange(count)]
            drawn[place[classes], :, : size // count * count] = np.tile(own, size // count)[:, None]
        return drawn


def class_groups(generator: np.random.Generator, classes: int, size: int, groups: int) -> NDArray[np.int64]:
    """Groups of different classes from shuffled cycles over all classes.

    Args:
        generator: the random stream.
        classes: number of classes.
        size: classes per group, at most `classes`.
        groups: number of groups.

    Returns:
        ``(groups, size)``, every class equally often, up to one.
    """
    rounds = -(-groups * size // classes)
    cycles = generator.permuted(np.broadcast_to(np.arange(classes), (rounds, classes)), axis=1)
    taken = np.zeros(classes, dtype=bool)
    for number in range(1, rounds if classes % size else 1):
        begun = number * classes % size  # classes that the group across the border has from the cycle before
        if begun == 0:
            continue
        cycle, before = cycles[number], cycles[number - 1]
        taken[before[classes - begun :]] = True
        first = cycle[~taken[cycle]][: size - begun]
        taken[:] = False
        taken[first] = True
        cycles[number] = np.concatenate([first, cycle[~taken[cycle]]])
        taken[:] = False
    return cycles.reshape(-1)[: groups * size].reshape(groups, size)


class MPerClassBatchSampler(Sampler[list[int]]):
    """Batches of P classes x M rows, for the `batch_sampler` of a data loader; ranks take whole batches in turn.

    Args:
        labels: class index of every row, ``(N,)``.
        classes_per_batch: P, at most the number of classes with a row; None takes all of them, up to 8.
        samples_per_class: M. A class of fewer rows repeats them, each equally often, up to one.
        num_batches: batches per epoch; None takes N / (P M), rounded up.
        seed: see `LabelSampler`.
        num_classes: see `LabelSampler`. A class without a row is skipped.

    Raises:
        SettingError: fewer than P classes with a row, or a size or number below 1.
    """

    def __init__(
        self,
        labels: ArrayLike,
        *,
        classes_per_batch: int | None = None,
        samples_per_class: int = 4,
        num_batches: int | None = None,
        seed: int = 0,
        num_classes: int | None = None,
    ) -> None:
        if num_batches is not None and whole_number(num_batches, "num_batches", "MPerClassBatchSampler") < 1:
            raise SettingError(
                f"MPerClassBatchSampler: expected `num_batches` to be at least 1, but got {num_batches}."
            )
        self.rows = MPerClassSampler(
            labels,
            classes_per_batch=classes_per_batch,
            samples_per_class=samples_per_class,
            num_groups=num_batches,
            seed=seed,
            num_classes=num_classes,
        )
        self.batch_size = self.rows.group_size
        self.drop_last = False

    @property
    def epoch(self) -> int:
        """The epoch that the next iteration lays out."""
        return self.rows.epoch

    def plan(self, epoch: int) -> NDArray[np.int64]:
        """Row indices of the batches of one epoch, ``(len(self), P M)``; pure in (labels, seed, epoch)."""
        return self.rows.plan(epoch).reshape(-1, self.batch_size)

    def effective_prior(self) -> NDArray[np.float64]:
        """The class distribution of what is drawn: uniform over the classes with a row, ``(C,)``."""
        return self.rows.effective_prior()

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration lays out."""
        self.rows.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.rows) // self.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        return (batch.tolist() for batch in self.plan(self.epoch))


class Episode(NamedTuple):
    """Row indices of one episode.

    Attributes:
        support: rows to make prototypes from, class after class, ``(S,)``.
        query: rows to score, class after class, ``(Q,)``.
    """

    support: NDArray[np.int64]
    query: NDArray[np.int64]


class EpisodeRows(NaturalSampler):
    """The rows that episodes are drawn from; parameters as in `LabelSampler`."""

    def divided(
        self, generator: np.random.Generator, label: int, shots: int, queries: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Support rows ``(shots,)`` and query rows ``(queries,)`` of one class that share no row."""
        count = int(self.class_counts[label])
        first = shots
        if shots + queries > count:
            share = round(count * shots / (shots + queries))
            first = min(max(share, min(shots, 1)), count - min(queries, 1))
        start = self._starts[label]
        place = generator.choice(count, min(count, shots + queries), replace=False)
        own = self.rows_by_class[start + place].astype(np.int64)
        return np.resize(own[:first], shots), np.resize(own[first:], queries)


class EpisodeSampler(Sampler[list[int]]):
    """Episodes, for the `batch_sampler` of a data loader: `support_size` support rows, then the query rows.

    Support and query share no row. A class that has too few rows for both divides them in the ratio of the two and
    repeats its own; a class of a single row cannot be in both and is left out.

    Args:
        labels: class index of every row, ``(N,)``.
        ways: W, classes of an episode; None takes all classes of two rows or more.
        shots: support rows per class.
        queries: query rows per class.
        support: "balanced" takes `shots` rows of every class; "natural" takes W `shots` rows in all, at random from
            the rows of the W classes.
        query: likewise, with `queries`.
        num_episodes: episodes per epoch; None takes N / (W (shots + queries)), rounded up.
        seed: any non-negative integer.
        num_classes: see `LabelSampler`.

    Raises:
        SettingError: fewer than W classes of two rows or more, a size below 1, or an unknown composition.
    """

    def __init__(
        self,
        labels: ArrayLike,
        *,
        ways: int | None = None,
        shots: int = 5,
        queries: int = 5,
        support: Composition = "balanced",
        query: Composition = "balanced",
        num_episodes: int | None = None,
        seed: int = 0,
        num_classes: int | None = None,
    ) -> None:
        for name, value in (("shots", shots), ("queries", queries), ("num_episodes", num_episodes)):
            if value is not None and whole_number(value, name, "EpisodeSampler") < 1:
                raise SettingError(f"EpisodeSampler: expected `{name}` to be at least 1, but got {value}.")
        for name, composition in (("support", support), ("query", query)):
            if composition not in get_args(Composition):
                raise SettingError(
                    f"EpisodeSampler: expected `{name}` to be 'balanced' or 'natural', but got {composition!r}."
                )
        self.rows = EpisodeRows(labels, seed=seed, num_classes=num_classes)
        self.eligible: NDArray[np.int64] = np.flatnonzero(self.rows.class_counts >= 2)
        self.ways = self.eligible.size if ways is None else whole_number(ways, "ways", "EpisodeSampler")
        if not 1 <= self.ways <= self.eligible.size:
            raise SettingError(
                f"EpisodeSampler: expected `ways` to lie between 1 and {self.eligible.size}, the number of classes of "
                f"two rows or more, but got {self.ways}."
            )
        self.shots, self.queries = shots, queries
        self.support: Composition = support
        self.query: Composition = query
        self.support_size, self.query_size = self.ways * shots, self.ways * queries
        self.batch_size = self.support_size + self.query_size
        self.drop_last = False
        self._num_episodes = num_episodes

    @property
    def epoch(self) -> int:
        """The epoch that the next iteration lays out."""
        return self.rows.epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration lays out."""
        self.rows.set_epoch(epoch)

    def classes(self, epoch: int) -> NDArray[np.int64]:
        """The classes of every episode of one epoch, ``(len(self), W)``."""
        generator = self.rows.random_stream(epoch)
        return self.eligible[class_groups(generator, self.eligible.size, self.ways, len(self))]

    def episode(self, classes: NDArray[np.int64], epoch: int, number: int) -> Episode:
        """The rows of one episode over these classes ``(W,)``; pure in (labels, seed, epoch, number)."""
        generator = np.random.default_rng(np.random.SeedSequence([self.rows.seed, epoch, number]))
        counts = self.rows.class_counts[classes]
        shots = self._per_class(generator, self.support, self.shots, counts)
        left = counts - shots if self.support == self.query == "natural" and (counts > shots).all() else counts
        queries = self._per_class(generator, self.query, self.queries, left)
        drawn = zip(classes, shots, queries, strict=True)
        parts = [self.rows.divided(generator, int(label), int(shot), int(asked)) for label, shot, asked in drawn]
        return Episode(np.concatenate([first for first, _ in parts]), np.concatenate([second for _, second in parts]))

    def _per_class(
        self, generator: np.random.Generator, composition: Composition, size: int, counts: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Rows per class of one half of an episode, ``(W,)``."""
        if composition == "balanced":
            return np.full(counts.size, size)
        copies, rest = divmod(size * counts.size, int(counts.sum()))
        return counts * copies + generator.multivariate_hypergeometric(counts, rest, method="marginals")

    def plan(self, epoch: int) -> list[Episode]:
        """All episodes of one epoch."""
        return [self.episode(classes, epoch, number) for number, classes in enumerate(self.classes(epoch))]

    def effective_prior(self) -> NDArray[np.float64]:
        """The class distribution of the query rows, on which a loss is taken, ``(C,)``.

        For natural queries see `episode_prior`: exact or to within 0.001.
        """
        prior = np.zeros(self.rows.class_counts.size)
        if self.query == "balanced":
            prior[self.eligible] = 1.0 / self.eligible.size
        else:
            support_size = self.support_size if self.support == "natural" else 0
            prior[self.eligible] = natural_query_prior(self.rows.class_counts[self.eligible], self.ways, support_size)
        return prior

    def __len__(self) -> int:
        return -(-self.rows.labels.size // self.batch_size) if self._num_episodes is None else self._num_episodes

    def __iter__(self) -> Iterator[list[int]]:
        epoch = self.epoch
        for number, classes in enumerate(self.classes(epoch)):
            support, query = self.episode(classes, epoch, number)
            yield [*support.tolist(), *query.tolist()]
