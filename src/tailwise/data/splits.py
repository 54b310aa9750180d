"""Seeded, stratified splits that keep equal texts together.

Rows with the same normalised text form a group, and a group goes into one part as a whole. A group belongs to the
stratum of its rarest class. In each stratum the groups are shuffled and every held-out part takes groups up to its
share of the rows, at least one; train keeps at least one.

- A class with at least 3 distinct texts that no other class has occurs in every part; a class that shares texts with
  others is repaired towards that as far as no other class loses a part.
- A class with 2 distinct texts: one in train, one in test, so that it is measured and not only learnt. Where only one
  part is cut from train, both stay in train.
- A class with 1 distinct text stays in train.

The split depends on the texts, the labels and the seed, not on the order of the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["TRAIN", "distinct", "stratified_parts", "stratified_sets"]

TRAIN = 0
_REPAIR_FROM = 3


def distinct(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sorted distinct values, ``(K,)``; by sorting, which on many distinct values is faster than `numpy.unique`."""
    ordered = np.sort(values)
    return np.asarray(ordered[np.diff(ordered, prepend=ordered[:1] - 1) != 0])


def stratified_parts(
    labels: NDArray[np.int64],
    keys: NDArray[np.uint64],
    shares: Sequence[float],
    *,
    seed: int,
    pinned: NDArray[np.bool_] | None = None,
) -> NDArray[np.int8]:
    """Part of every row: 0 is train, 1, 2, ... are the held-out parts in the order of `shares`.

    Args:
        labels: class indices, ``(N,)``.
        keys: equal for rows that must stay together, ``(N,)``.
        shares: fraction of the rows of each held-out part, test first.
        seed: of the shuffle.
        pinned: rows that stay in train with all their group, ``(N,)``.
    """
    return stratified_sets(labels, np.arange(len(labels)), keys, shares, seed=seed, pinned=pinned)


def stratified_sets(
    labels: NDArray[np.int64],
    row: NDArray[np.int64],
    keys: NDArray[np.uint64],
    shares: Sequence[float],
    *,
    seed: int,
    pinned: NDArray[np.bool_] | None = None,
) -> NDArray[np.int8]:
    """Part of every row, where a row may have several classes, such as the types of the tags of a sentence.

    Args:
        labels: class indices, ``(M,)``; every row has at least one.
        row: the row of each, ``(M,)``.
        keys: equal for rows that must stay together, ``(N,)``.
        shares: as in `stratified_parts`.
        seed: of the shuffle.
        pinned: rows that stay in train with all their group, ``(N,)``.
    """
    _, group = np.unique(keys, return_inverse=True)
    graph = _Incidence.of(labels, group[row])
    sizes = np.bincount(group)
    fixed = np.zeros(len(sizes), dtype=bool)
    if pinned is not None:
        fixed[group[pinned]] = True
    part = np.zeros(len(sizes), dtype=np.int8)
    stratum = graph.rarest_class()
    free = np.flatnonzero(~fixed)
    free = free[np.argsort(stratum[free], kind="stable")]
    starts = np.flatnonzero(np.diff(stratum[free], prepend=-1))
    rng = np.random.default_rng(seed)
    for members in np.split(free, starts[1:]):
        if len(members):
            part[members] = _deal(sizes[members], shares, rng)
    _repair(graph, part, fixed, len(shares) + 1)
    return part[group]


def _deal(sizes: NDArray[np.int64], shares: Sequence[float], rng: np.random.Generator) -> NDArray[np.int8]:
    """Parts of the groups of one stratum."""
    count = len(sizes)
    part = np.zeros(count, dtype=np.int8)
    order = rng.permutation(count)
    if count == 2 and len(shares) > 1:
        part[order[int(np.argmin(sizes[order]))]] = 1
    if count < 3:
        return part
    total = int(sizes.sum())
    for number, share in enumerate(shares, start=1):
        left = order[part[order] == TRAIN]
        later = len(shares) - number
        quota = max(1, int(share * total + 0.5))
        fitting = left[sizes[left] <= quota]
        # Where few groups fit, the parts still to come get as much of them.
        fair = min(quota, int(sizes[fitting].sum()) // (later + 1))
        taken = fitting[np.cumsum(sizes[fitting]) <= fair][: len(left) - 1 - later]
        part[taken if len(taken) else left[int(np.argmin(sizes[left]))]] = number
    return part


@dataclass(frozen=True)
class _Incidence:
    """Which class occurs in which group: one entry per pair, sorted by group."""

    group: NDArray[np.int64]
    label: NDArray[np.int64]
    num_groups: int
    num_classes: int

    @classmethod
    def of(cls, labels: NDArray[np.int64], group: NDArray[np.int64]) -> _Incidence:
        num_classes = int(labels.max()) + 1
        pairs = distinct(group.astype(np.int64) * num_classes + labels)
        return cls(pairs // num_classes, pairs % num_classes, int(group.max()) + 1, num_classes)

    def rarest_class(self) -> NDArray[np.int64]:
        """Of every group, the class that has the fewest groups; ties go to the lower index."""
        rarity = np.bincount(self.label, minlength=self.num_classes)[self.label]
        order = np.lexsort((self.label, rarity, self.group))
        _, first = np.unique(self.group[order], return_index=True)
        return np.asarray(self.label[order][first])

    def classes_of(self, group: int) -> NDArray[np.int64]:
        low, high = np.searchsorted(self.group, [group, group + 1])
        return self.label[low:high]

    def counts(self, part: NDArray[np.int8], num_parts: int) -> NDArray[np.int64]:
        """Groups per class and part, ``(C, parts)``."""
        flat = self.label * num_parts + part[self.group]
        return np.bincount(flat, minlength=self.num_classes * num_parts).reshape(self.num_classes, num_parts)


def _repair(graph: _Incidence, part: NDArray[np.int8], fixed: NDArray[np.bool_], num_parts: int) -> None:
    """Move groups with several classes, in place, until no class misses a part that it can have."""
    counts = graph.counts(part, num_parts)
    totals = counts.sum(axis=1)

    def move(group: int, to: int) -> None:
        labels = graph.classes_of(group)
        counts[labels, part[group]] -= 1
        counts[labels, to] += 1
        part[group] = to

    def harmless(group: int) -> bool:
        return bool((counts[graph.classes_of(group), part[group]] >= 2).all())

    for label in np.flatnonzero((counts[:, TRAIN] == 0) & (totals > 0)):
        groups = graph.group[graph.label == label]
        move(int(next((g for g in groups if harmless(int(g))), groups[0])), TRAIN)
    for label, to in zip(*np.nonzero((counts == 0) & (totals >= _REPAIR_FROM)[:, None]), strict=True):
        groups = graph.group[graph.label == label]
        donor = next((int(g) for g in groups if not fixed[g] and harmless(int(g))), None)
        if donor is not None and counts[label, to] == 0:
            move(donor, int(to))
