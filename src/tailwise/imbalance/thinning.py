"""Thinning: which rows stay, so that every class or label has the number wanted of it.

One class per row: a random order of the rows of each class is drawn once, and the first n_j rows stay.

Several labels per row: exact numbers are impossible in general. All rows are gone through once in a random order in
which a row with k labels comes early with weight k, and a row leaves where each of its labels is still over its number.
So no label falls below its number, and at the end no row could leave without that. What stays over are labels whose
rows all have another, scarce label. The weight k makes up for rows with many labels being held back more often, so that
the labels per row stay near those of the data; without it they rise.

Both are nested over the ratio rho of a profile: the rows of a larger rho are among those of a smaller one. For label
sets, where a pass does not give that by itself, the rows K of the steepest rho come first, then those of rho 1, which
keep K; then the interval of log rho is halved, each middle keeping the rows of its steep end and having those of its
flat end only, until the end of an interval wants the same numbers as rho.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from tailwise.errors import SettingError
from tailwise.sampling.label_matrix import label_counts, labels_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    from tailwise.sampling.label_matrix import LabelMatrix

__all__ = ["thin_classes", "thin_label_sets", "thin_label_sets_nested"]


def thin_classes(labels: ArrayLike, wanted: ArrayLike, seed: np.random.SeedSequence) -> NDArray[np.int64]:
    """Rows that stay, ascending, where every row has one class.

    Args:
        labels: class indices, ``(N,)``.
        wanted: rows per class, at most those it has, ``(C,)``.
        seed: every class draws from a child of it, so that no class depends on the others.

    Raises:
        SettingError: a class has fewer rows than wanted.
    """
    classes = np.asarray(labels, dtype=np.int64)
    numbers = np.asarray(wanted, dtype=np.int64)
    has = np.bincount(classes, minlength=numbers.size)
    _check_wanted(numbers, has)
    by_class = np.split(np.argsort(classes, kind="stable"), np.cumsum(has)[:-1])
    kept = [
        np.random.default_rng(child).permutation(rows)[:number]
        for rows, number, child in zip(by_class, numbers, _children(seed, numbers.size), strict=True)
    ]
    return np.sort(np.concatenate(kept))


def thin_label_sets(matrix: LabelMatrix, wanted: ArrayLike, seed: np.random.SeedSequence) -> NDArray[np.int64]:
    """Rows that stay, ascending, where every row has a set of labels.

    Rows without a label are thinned at random to the share of the other rows that stays. Time and memory grow with the
    number of labels given.

    Args:
        matrix: 0 and 1 in canonical form, ``(N, C)``; see `tailwise.sampling.label_matrix.as_label_matrix`.
        wanted: rows per label, at most those it has, ``(C,)``; no label ends below it.
        seed: of the order of the rows.

    Raises:
        SettingError: a label has fewer rows than wanted.
    """
    numbers = np.asarray(wanted, dtype=np.int64)
    _check_wanted(numbers, label_counts(matrix))
    order, unlabelled = _orders(matrix, seed)
    return _with_share(_left(matrix, order, order, numbers), order, unlabelled)


def thin_label_sets_nested(
    matrix: LabelMatrix,
    wanted_at: Callable[[float], NDArray[np.int64]],
    rho: float,
    steepest: float,
    seed: np.random.SeedSequence,
) -> NDArray[np.int64]:
    """`thin_label_sets` for one ratio of a profile, such that the rows of a larger ratio are among those of a smaller.

    Args:
        matrix: see `thin_label_sets`.
        wanted_at: rows per label at a ratio; must not grow with the ratio.
        rho: the ratio, from 1 to `steepest`.
        steepest: the largest ratio; the rows depend on it.
        seed: see `thin_label_sets`.

    Raises:
        SettingError: a label has fewer rows than wanted, or `rho` is not between 1 and `steepest`.
    """
    if not 1.0 <= rho <= steepest:
        raise SettingError(f"Expected `rho` from 1 to `steepest` = {steepest:g}, but got {rho:g}.")
    wanted = wanted_at(rho)
    _check_wanted(wanted_at(1.0), label_counts(matrix))
    order, unlabelled = _orders(matrix, seed)
    steep = _left(matrix, order, order, wanted_at(steepest))
    if np.array_equal(wanted, wanted_at(steepest)):
        return _with_share(steep, order, unlabelled)
    flat = _left(matrix, order, _without(order, steep), wanted_at(1.0))
    low, high = 1.0, steepest
    while not np.array_equal(wanted, wanted_at(low)):
        if np.array_equal(wanted, wanted_at(high)):
            return _with_share(steep, order, unlabelled)
        middle = math.sqrt(low * high)
        if not low < middle < high:  # no number lies between
            break
        between = _left(matrix, flat, _without(flat, steep), wanted_at(middle))
        if rho < middle:
            high, steep = middle, between
        else:
            low, flat = middle, between
    return _with_share(flat, order, unlabelled)


def _orders(matrix: LabelMatrix, seed: np.random.SeedSequence) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows with a label in the order in which they may leave, and those without one in random order."""
    first, second = (np.random.default_rng(child) for child in _children(seed, 2))
    sizes = np.diff(matrix.indptr)
    waiting = first.exponential(size=sizes.size) / np.maximum(sizes, 1)
    order = np.argsort(waiting, kind="stable")
    return order[sizes[order] > 0], second.permutation(np.flatnonzero(sizes == 0))


def _left(
    matrix: LabelMatrix, rows: NDArray[np.int64], movable: NDArray[np.int64], wanted: NDArray[np.int64]
) -> NDArray[np.int64]:
    """What is left of `rows` when those of `movable`, in order, leave where all their labels are over their number."""
    has = np.bincount(labels_of(matrix, rows)[0], minlength=wanted.size)
    over = (has - wanted).tolist()
    members, lengths = labels_of(matrix, movable)
    given, ends = members.tolist(), np.cumsum(lengths).tolist()
    left = np.zeros(movable.size, dtype=bool)
    start = 0
    for i, end in enumerate(ends):
        labels = given[start:end]
        start = end
        if all(over[label] > 0 for label in labels):
            for label in labels:
                over[label] -= 1
            left[i] = True
    return _without(rows, movable[left])


def _without(rows: NDArray[np.int64], gone: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows in their order, but for some of them."""
    return rows[~np.isin(rows, gone)]


def _with_share(
    kept: NDArray[np.int64], labelled: NDArray[np.int64], unlabelled: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The rows kept, and the same share of the rows without a label."""
    number = kept.size * unlabelled.size // max(labelled.size, 1)
    return np.sort(np.concatenate([kept, unlabelled[:number]]))


def _children(seed: np.random.SeedSequence, number: int) -> list[np.random.SeedSequence]:
    """Child streams; unlike those of `SeedSequence.spawn` the same at every call."""
    return [np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, i)) for i in range(number)]


def _check_wanted(wanted: NDArray[np.int64], has: NDArray[np.int64]) -> None:
    if wanted.shape != has.shape:
        raise SettingError(f"Expected one wanted number for each of {has.size} classes, but got shape {wanted.shape}.")
    wrong = np.flatnonzero((wanted > has) | (wanted < 0))
    if wrong.size:
        j = int(wrong[0])
        raise SettingError(f"Expected a wanted number from 0 to {has[j]}, the rows of class {j}, but got {wanted[j]}.")
