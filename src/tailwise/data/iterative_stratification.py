"""Iterative stratification: folds in which every label has its share, on sparse label matrices.

    repeat: l <- the label with the fewest rows left, of those that have any
            each row of l -> the fold that still wants l most; ties: that still wants rows most; ties: at random
    then the rows without a label -> the folds that still want rows most

with c_fl = share_f n_l and c_f = share_f N wanted at first, less one for each row given. Sechidis, Tsoumakas, Vlahavas,
On the Stratification of Multi-Label Data, ECML PKDD 2011.
Differs from the paper where rows belong to groups, such as repeats of one text, that must not be torn apart: a group is
dealt as a whole and counts with all its rows, the label with the fewest groups left comes first, and of one label the
groups with most of its rows, so that small groups fill what large ones leave.

The groups of one label that have equally many rows are dealt in one step: which fold comes next depends on c_fl and c_f
alone, not on the group, so that the numbers per fold follow from one sort and the groups themselves are shuffled. Time
grows with the number of entries and, per label, with C; nothing is made dense.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from tailwise.errors import SettingError
from tailwise.sampling.label_matrix import LabelMatrix, as_label_matrix, entries_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

__all__ = ["iterative_split"]

_OPEN = -1
# Sums of shares carry rounding errors; one candidate too many does no harm.
_ROUNDING = 1e-6


def iterative_split(
    labels: Any, shares: Sequence[float], seed: int = 0, *, groups: Any = None, num_classes: int | None = None
) -> NDArray[np.int64]:
    """Fold of every row, 0 to len(shares) - 1, ``(N,)``; a pure function of its arguments.

    Args:
        labels: a matrix of 0 and 1, ``(N, C)``, dense or sparse, or lists of label indices; see `as_label_matrix`.
        shares: of the rows, per fold; each above 0, together 1.
        seed: of the shuffles and ties, non-negative.
        groups: an id per row, ``(N,)``, numbers or strings: rows of one id share a fold. The texts themselves, or
            better their `normalised_text`, keep repeated texts together. None: every row is a group of its own.
        num_classes: C for lists of label indices.

    Raises:
        SettingError: no label matrix; shares that are not above 0 or do not sum to 1; a negative seed; not one group
            id per row.
    """
    matrix = as_label_matrix(labels, num_classes=num_classes, name="iterative_split")
    parts = _checked(shares)
    if seed < 0:
        raise SettingError(f"iterative_split: expected `seed` to be a non-negative integer, but got {seed}.")
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
    if groups is None:
        return _split(matrix, np.ones(matrix.shape[0], dtype=np.int64), parts, generator)
    group = _numbered(groups, matrix.shape[0])
    sizes = np.bincount(group)
    belongs = sparse.csr_array((np.ones_like(group), (group, np.arange(group.size))), shape=(sizes.size, group.size))
    return _split(sparse.csr_array(belongs @ matrix), sizes, parts, generator)[group]


def _split(
    matrix: LabelMatrix, sizes: NDArray[np.int64], parts: NDArray[np.float64], generator: np.random.Generator
) -> NDArray[np.int64]:
    """Fold of every group, ``(G,)``.

    Args:
        matrix: rows with each label in each group, ``(G, C)``.
        sizes: rows of each group, ``(G,)``.
        parts: shares of the folds, together 1.
        generator: of the shuffles and ties.
    """
    fold = np.full(sizes.size, _OPEN, dtype=np.int64)
    columns = sparse.csc_array(matrix)
    wanted = np.bincount(matrix.indices, matrix.data, minlength=matrix.shape[1])[:, None] * parts
    wanted_rows = sizes.sum() * parts
    # A finished label has as many groups left as none can have.
    never = sizes.size + 1
    left = np.diff(columns.indptr).astype(np.int64)
    left[left == 0] = never
    while left.min() < never:
        label = int(left.argmin())
        entries = slice(columns.indptr[label], columns.indptr[label + 1])
        having, amounts = columns.indices[entries].astype(np.int64), columns.data[entries]
        still = fold[having] == _OPEN
        for run, amount, size in _alike(having[still], amounts[still], sizes):
            dealt = _deal(run.size, wanted[label], amount, wanted_rows, size, generator)
            fold[run] = dealt
            wanted_rows -= size * np.bincount(dealt, minlength=parts.size)
            places, lengths = entries_of(matrix, run)
            members = matrix.indices[places]
            np.subtract.at(wanted, (members, np.repeat(dealt, lengths)), matrix.data[places])
            np.subtract.at(left, members, 1)
        left[left == 0] = never
    rest = np.flatnonzero(fold == _OPEN)
    for run, _, size in _alike(rest, np.zeros_like(rest), sizes):
        fold[run] = _deal(run.size, wanted_rows, size, wanted_rows, size, generator)
        wanted_rows -= size * np.bincount(fold[run], minlength=parts.size)
    return fold


def _alike(
    members: NDArray[np.int64], amounts: NDArray[np.integer], sizes: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], int, int]]:
    """Groups with equally many rows of a label and equally many rows, those with most first.

    Args:
        members: groups, ``(m,)``.
        amounts: rows of each with the label, ``(m,)``.
        sizes: rows of every group, ``(G,)``.

    Yields:
        Groups in ascending order, their rows with the label, their rows.
    """
    if members.size == 0:
        return
    rows = sizes[members]
    if np.ptp(rows) == 0 and np.ptp(amounts) == 0:
        yield members, int(amounts[0]), int(rows[0])
        return
    order = np.lexsort((-rows, -amounts.astype(np.int64)))
    ordered, rows, amounts = members[order], rows[order], amounts[order]
    starts = np.flatnonzero((np.diff(rows) != 0) | (np.diff(amounts) != 0)) + 1
    for run, first in zip(np.split(ordered, starts), (0, *starts), strict=True):
        yield run, int(amounts[first]), int(rows[first])


def _numbered(groups: Any, rows: int) -> NDArray[np.int64]:
    """Group ids as numbers in the order of their first rows, ``(N,)``."""
    ids = np.fromiter(groups, dtype=object) if isinstance(groups, list | tuple) else np.asarray(groups)
    if ids.shape != (rows,):
        raise SettingError(
            f"iterative_split: expected `groups` to be one id per row, ({rows},), but got shape {ids.shape}."
        )
    try:
        number = pd.factorize(ids)[0]
    except TypeError as error:
        raise SettingError(f"iterative_split: expected `groups` to be numbers or strings, but got: {error}.") from error
    if (number < 0).any():
        row = int(np.argmax(number < 0))
        raise SettingError(
            f"iterative_split: expected a group id for every row, but row {row} has {ids[row]!r}. Give a row that "
            "belongs to no other an id of its own."
        )
    return np.asarray(number, dtype=np.int64)


def _checked(shares: Sequence[float]) -> NDArray[np.float64]:
    parts = np.asarray(shares, dtype=np.float64)
    if parts.ndim != 1 or parts.size == 0 or not (parts > 0).all() or abs(parts.sum() - 1.0) > 1e-6:
        raise SettingError(
            f"iterative_split: expected `shares` to be numbers above 0 that sum to 1, one per fold, but got {shares!r}."
        )
    return np.asarray(parts / parts.sum())


def _deal(
    number: int,
    wanted: NDArray[np.float64],
    amount: int,
    wanted_rows: NDArray[np.float64],
    size: int,
    generator: np.random.Generator,
) -> NDArray[np.int64]:
    """Folds of `number` groups with `amount` rows of a label and `size` rows each, ``(number,)``.

    A fold that has got t groups wants ``wanted - t amount``: giving each group to the fold that wants most is merging
    descending sequences, one per fold.
    """
    folds = wanted.size
    # No fold gets more than brings it below the level at which all groups are dealt.
    level = (wanted.sum() / amount - number) / folds
    most = np.clip(np.floor(wanted / amount - level + _ROUNDING).astype(np.int64) + 1, 0, number)
    fold = np.repeat(np.arange(folds), most)
    given = np.arange(fold.size) - np.repeat(np.cumsum(most) - most, most)
    ties = generator.random(folds)[fold]
    order = np.lexsort((ties, given * size - wanted_rows[fold], given * amount - wanted[fold]))
    return generator.permutation(fold[order[:number]])
