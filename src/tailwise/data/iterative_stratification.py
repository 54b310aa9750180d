"""Iterative stratification: folds in which every label has its share, on sparse label matrices.

    repeat: l <- the label with the fewest rows left, of those that have any
            each row of l -> the fold that still wants l most; ties: that still wants rows most; ties: at random
    then the rows without a label -> the folds that still want rows most

with c_fl = share_f n_l and c_f = share_f N wanted at first, less one for each row given. Sechidis, Tsoumakas, Vlahavas,
On the Stratification of Multi-Label Data, ECML PKDD 2011.

The rows of one label are dealt in one step: which fold comes next depends on c_fl and c_f alone, not on the row, so
that the numbers of rows per fold follow from one sort and the rows themselves are shuffled. Time grows with the number
of entries and, per label, with C; nothing is made dense.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from tailwise.errors import SettingError
from tailwise.sampling.label_matrix import as_label_matrix, label_counts, labels_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["iterative_split"]

_OPEN = -1
# Sums of shares carry rounding errors; one candidate too many does no harm.
_ROUNDING = 1e-6


def iterative_split(
    labels: Any, shares: Sequence[float], seed: int = 0, *, num_classes: int | None = None
) -> NDArray[np.int64]:
    """Fold of every row, 0 to len(shares) - 1, ``(N,)``; a pure function of its arguments.

    Args:
        labels: a matrix of 0 and 1, ``(N, C)``, dense or sparse, or lists of label indices; see `as_label_matrix`.
        shares: of the rows, per fold; each above 0, together 1.
        seed: of the shuffles and ties, non-negative.
        num_classes: C for lists of label indices.

    Raises:
        SettingError: no label matrix; shares that are not above 0 or do not sum to 1; a negative seed.
    """
    matrix = as_label_matrix(labels, num_classes=num_classes, name="iterative_split")
    parts = _checked(shares)
    if seed < 0:
        raise SettingError(f"iterative_split: expected `seed` to be a non-negative integer, but got {seed}.")
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
    counts = label_counts(matrix)
    fold = np.full(matrix.shape[0], _OPEN, dtype=np.int64)
    wanted = counts[:, None] * parts
    wanted_rows = matrix.shape[0] * parts
    columns = sparse.csc_array(matrix)
    # A finished label has as many rows left as none can have.
    never = matrix.shape[0] + 1
    left = np.where(counts > 0, counts, never)
    while left.min() < never:
        label = int(left.argmin())
        having = columns.indices[columns.indptr[label] : columns.indptr[label + 1]].astype(np.int64)
        rows = having[fold[having] == _OPEN]
        dealt = _deal(rows, wanted[label], wanted_rows, generator)
        fold[rows] = dealt
        wanted_rows -= np.bincount(dealt, minlength=parts.size)
        members, lengths = labels_of(matrix, rows)
        np.subtract.at(wanted, (members, np.repeat(dealt, lengths)), 1.0)
        np.subtract.at(left, members, 1)
        left[left == 0] = never
    rows = np.flatnonzero(fold == _OPEN)
    fold[rows] = _deal(rows, wanted_rows, wanted_rows, generator)
    return fold


def _checked(shares: Sequence[float]) -> NDArray[np.float64]:
    parts = np.asarray(shares, dtype=np.float64)
    if parts.ndim != 1 or parts.size == 0 or not (parts > 0).all() or abs(parts.sum() - 1.0) > 1e-6:
        raise SettingError(
            f"iterative_split: expected `shares` to be numbers above 0 that sum to 1, one per fold, but got {shares!r}."
        )
    return np.asarray(parts / parts.sum())


def _deal(
    rows: NDArray[np.int64],
    wanted: NDArray[np.float64],
    wanted_rows: NDArray[np.float64],
    generator: np.random.Generator,
) -> NDArray[np.int64]:
    """Folds of the rows of one label, ``(m,)``.

    A fold that has got t rows wants ``wanted - t``: giving each row to the fold that wants most is merging descending
    sequences, one per fold.
    """
    folds = wanted.size
    # No fold gets more than brings it below the level at which all rows are dealt.
    level = (wanted.sum() - rows.size) / folds
    most = np.clip(np.floor(wanted - level + _ROUNDING).astype(np.int64) + 1, 0, rows.size)
    fold = np.repeat(np.arange(folds), most)
    given = np.arange(fold.size) - np.repeat(np.cumsum(most) - most, most)
    order = np.lexsort((generator.random(folds)[fold], given - wanted_rows[fold], given - wanted[fold]))
    return generator.permutation(fold[order[: rows.size]])
