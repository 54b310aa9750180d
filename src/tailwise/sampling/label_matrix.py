"""Label matrices: which labels every row has, as a sparse matrix of 0 and 1, and how rare each label is.

    n_j = sum_i Y_ij      IRLbl(j) = max_k n_k / n_j      MeanIR = mean_j IRLbl(j)      minority: IRLbl(j) > MeanIR
    SCUMBLE(i) = 1 - (prod_j IRLbl(j))^(1/k_i) / (1/k_i sum_j IRLbl(j))      over the k_i labels j of row i

Charte et al., Neurocomputing 163, 2015 (IRLbl); Charte et al., HAIS 2014 (SCUMBLE). Survey section 3.1.
Differs from the R package mldr for a label without a row: its IRLbl is undefined (NaN) here and no part of MeanIR;
mldr gives it 0, which lowers MeanIR, and ``legacy_empty=True`` does as mldr.

Nothing here makes a matrix dense: time and memory grow with the number of labels given.
"""

from __future__ import annotations

import math
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from scipy import sparse

from tailwise.errors import SettingError
from tailwise.sampling.checks import as_array, check_num_classes, whole_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "LabelMatrix",
    "as_label_matrix",
    "co_occurrence",
    "entries_of",
    "entry_rows",
    "irlbl",
    "label_counts",
    "label_sets",
    "labels_of",
    "mean_ir",
    "minority_labels",
    "one_hot",
    "row_scumble",
]

LabelMatrix: TypeAlias = "sparse.csr_array[Any, tuple[int, int]]"

_ROUNDING = 1e-12


def as_label_matrix(labels: Any, *, num_classes: int | None = None, name: str = "Labels") -> LabelMatrix:
    """The labels as a sparse matrix of 0 and 1 in canonical form, ``(N, C)``; what is given is never changed.

    Args:
        labels: an array, tensor or sparse matrix of 0 and 1, ``(N, C)``; or one list of label indices per row, empty
            for a row without a label. A list of lists always means label indices.
        num_classes: C for label indices, or the number of columns expected; None takes the largest index + 1.
        name: whose labels these are, for the messages.

    Raises:
        SettingError: not two-dimensional, no row, no label, far more labels than rows, values other than 0 and 1,
            label indices that are negative, repeated in a row, no integers or beyond `num_classes`.
    """
    num_classes = None if num_classes is None else whole_number(num_classes, "num_classes", name)
    matrix = _from_given(labels, num_classes, name)
    if matrix.shape[0] == 0 or matrix.shape[1] == 0:
        raise SettingError(f"{name}: expected at least one row and one label, but got shape {matrix.shape}.")
    if num_classes is not None and matrix.shape[1] != num_classes:
        raise SettingError(f"{name}: expected `num_classes` = {num_classes} columns, but got shape {matrix.shape}.")
    check_num_classes(matrix.shape[1], matrix.shape[0], name)
    return matrix


def _from_given(labels: Any, num_classes: int | None, name: str) -> LabelMatrix:
    if isinstance(labels, torch.Tensor):
        return _from_tensor(labels, name)
    if sparse.issparse(labels):
        return _from_sparse(labels, name)
    if isinstance(labels, list | tuple):
        return _from_lists(labels, num_classes, name)
    array = as_array(labels, name)
    if array.dtype == object and array.ndim == 1:
        return _from_lists(array.tolist(), num_classes, name)
    return _from_dense(array, name)


def _from_tensor(labels: torch.Tensor, name: str) -> LabelMatrix:
    if labels.ndim != 2:
        raise _not_two_dimensional(tuple(labels.shape), name)
    if labels.layout == torch.strided:
        return _from_dense(_numpy(labels), name)
    entries = labels.detach().to_sparse_coo().coalesce()  # type: ignore[no-untyped-call]
    row, column = entries.indices().cpu().numpy()
    return _from_sparse(sparse.coo_array((_numpy(entries.values()), (row, column)), shape=tuple(labels.shape)), name)


def _numpy(values: torch.Tensor) -> NDArray[Any]:
    values = values.detach().cpu()
    return np.asarray((values.float() if values.is_floating_point() else values).numpy())


def _from_dense(array: NDArray[Any], name: str) -> LabelMatrix:
    if array.ndim != 2:
        raise _not_two_dimensional(array.shape, name)
    if array.dtype != bool:
        _check_values(array, name)
    return _canonical(sparse.csr_array(array.astype(np.int8, copy=False)))


def _from_sparse(given: Any, name: str) -> LabelMatrix:
    if given.ndim != 2:
        raise _not_two_dimensional(given.shape, name)
    matrix = sparse.csr_array(given, copy=True)
    matrix.sum_duplicates()
    _check_values(matrix.data, name)
    return _canonical(matrix.astype(np.int8))


def _from_lists(lists: Sequence[Any], num_classes: int | None, name: str) -> LabelMatrix:
    for row, members in enumerate(lists):
        if isinstance(members, str | bytes) or not hasattr(members, "__len__"):
            raise SettingError(
                f"{name}: expected a list of label indices for every row, but row {row} is {members!r}. For one class "
                "index per row use a single-label sampler, or pass an array of 0 and 1."
            )
    lengths = np.fromiter((len(members) for members in lists), dtype=np.int64, count=len(lists))
    indices = _integers(chain.from_iterable(lists), int(lengths.sum()), len(lists), name)
    row_of = np.repeat(np.arange(lengths.size), lengths)
    if indices.size and indices.min() < 0:
        at = int(row_of[indices.argmin()])
        raise SettingError(f"{name}: expected label indices from 0, but got {indices.min()} in row {at}.")
    columns = num_classes if num_classes is not None else int(indices.max(initial=-1)) + 1
    if indices.size and indices.max() >= columns:
        at = int(row_of[indices.argmax()])
        raise SettingError(f"{name}: label {indices.max()} in row {at} is outside `num_classes` = {num_classes}.")
    check_num_classes(columns, lengths.size, name)
    if columns == 0:
        raise SettingError(f"{name}: expected at least one row with a label, or `num_classes`, but got neither.")
    ones = np.ones(indices.size, dtype=np.int8)
    matrix = sparse.csr_array((ones, indices, np.concatenate([[0], np.cumsum(lengths)])), shape=(lengths.size, columns))
    matrix = _canonical(matrix)
    if matrix.nnz < indices.size:
        row = int(np.flatnonzero(np.diff(matrix.indptr) < lengths)[0])
        raise SettingError(
            f"{name}: row {row} names a label twice: {list(lists[row])!r}. Lists hold label indices; pass a matrix of "
            "0 and 1 as an array."
        )
    return matrix


def _integers(values: Iterable[Any], count: int, rows: int, name: str) -> NDArray[np.int64]:
    given = as_array(list(values), name) if count else np.empty(0, dtype=np.int64)
    if given.ndim != 1 or not np.issubdtype(given.dtype, np.integer):
        raise SettingError(f"{name}: expected label indices to be integers, but got {given.dtype}. Encode them first.")
    if count:
        check_num_classes(int(given.max()) + 1, rows, name)
    return given.astype(np.int64, copy=False)


def _canonical(matrix: Any) -> LabelMatrix:
    """Sorted, without duplicates and stored zeros; the matrix is ours and may be edited."""
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    matrix.sort_indices()
    matrix.data = np.ones(matrix.nnz, dtype=np.int8)
    return matrix  # type: ignore[no-any-return]


def _check_values(values: NDArray[Any], name: str) -> None:
    wrong = ~((values == 0) | (values == 1))
    if wrong.any():
        raise SettingError(
            f"{name}: expected a label matrix of 0 and 1, but got {values[wrong][0]!s}. Class indices go into lists, "
            "one list per row; scores must be thresholded first."
        )


def _not_two_dimensional(shape: tuple[int, ...], name: str) -> SettingError:
    return SettingError(
        f"{name}: expected one row of labels per instance, (N, C), but got shape {tuple(shape)}. For one class index "
        "per row use a single-label sampler."
    )


def one_hot(labels: ArrayLike, num_classes: int | None = None, name: str = "Labels") -> LabelMatrix:
    """One class index per row as a label matrix, ``(N,) -> (N, C)``.

    Raises:
        SettingError: not one-dimensional, no integers, negative, beyond `num_classes`, or far more than there are rows.
    """
    array = as_array(labels, name)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer) or array.size == 0:
        raise SettingError(
            f"{name}: expected one class index per row, (N,) with N > 0, but got {array.dtype} of shape {array.shape}."
        )
    columns = int(array.max()) + 1 if num_classes is None else whole_number(num_classes, "num_classes", name)
    if array.min() < 0 or array.max() >= columns:
        raise SettingError(
            f"{name}: expected class indices from 0 to {columns - 1}, but got {array.min()} to {array.max()}."
        )
    check_num_classes(columns, array.size, name)
    ones = np.ones(array.size, dtype=np.int8)
    return _canonical(sparse.csr_array((ones, array, np.arange(array.size + 1)), shape=(array.size, columns)))


def label_counts(matrix: LabelMatrix) -> NDArray[np.int64]:
    """Rows with each label n_j, ``(C,)``."""
    return np.bincount(matrix.indices, minlength=matrix.shape[1])


def entry_rows(matrix: LabelMatrix) -> NDArray[np.int64]:
    """The row of every stored entry, ``(nnz,)``."""
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))


def entries_of(matrix: LabelMatrix, rows: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of the entries of the given rows, and how many each row has: ``(sum k_i,)`` and ``(len(rows),)``."""
    starts = matrix.indptr[rows]
    lengths = matrix.indptr[rows + 1] - starts
    ends = np.cumsum(lengths, dtype=np.int64)
    places = np.arange(ends[-1] if ends.size else 0) + np.repeat(starts - (ends - lengths), lengths)
    return places, np.asarray(lengths, dtype=np.int64)


def labels_of(matrix: LabelMatrix, rows: NDArray[np.integer]) -> tuple[NDArray[np.integer], NDArray[np.int64]]:
    """Labels of the given rows one after the other, and how many each has: ``(sum k_i,)`` and ``(len(rows),)``."""
    places, lengths = entries_of(matrix, rows)
    return matrix.indices[places], lengths


def irlbl(counts: ArrayLike, *, legacy_empty: bool = False) -> NDArray[np.float64]:
    """Imbalance ratio per label, max_k n_k / n_j, ``(C,)``; NaN for a label without a row (0 with `legacy_empty`)."""
    rows = np.asarray(counts, dtype=np.float64)
    ratio = np.full(rows.shape, 0.0 if legacy_empty else np.nan)
    np.divide(rows.max(initial=0.0), rows, out=ratio, where=rows > 0)
    return ratio


def mean_ir(counts: ArrayLike, *, legacy_empty: bool = False) -> float:
    """MeanIR, the mean of IRLbl over the labels with a row (over all with `legacy_empty`); NaN without one."""
    ratio = irlbl(counts, legacy_empty=legacy_empty)
    counted = ratio[~np.isnan(ratio)]
    if not np.any(np.asarray(counts) > 0):
        return float("nan")
    # An exact sum: labels are told apart by this number, the same on every machine.
    return math.fsum(counted) / int(counted.size)


def minority_labels(counts: ArrayLike, *, legacy_empty: bool = False) -> NDArray[np.bool_]:
    """Which labels have a row and IRLbl > MeanIR, ``(C,)``."""
    return np.asarray(irlbl(counts) > mean_ir(counts, legacy_empty=legacy_empty))


def row_scumble(matrix: LabelMatrix, counts: ArrayLike | None = None) -> NDArray[np.float64]:
    """SCUMBLE of every row, in [0, 1), ``(N,)``: 0 for rows with at most one label or labels of one rarity.

    Args:
        matrix: ``(N, C)``.
        counts: n_j, where not those of the matrix, ``(C,)``.
    """
    ratio = irlbl(label_counts(matrix) if counts is None else counts)[matrix.indices]
    rows, number = entry_rows(matrix), np.diff(matrix.indptr)
    several = np.maximum(number, 1)
    geometric = np.exp(np.bincount(rows, np.log(ratio), minlength=number.size) / several)
    arithmetic = np.bincount(rows, ratio, minlength=number.size) / several
    value = 1.0 - geometric / np.where(number > 1, arithmetic, 1.0)
    return np.where((number > 1) & (value > _ROUNDING), value, 0.0)


def co_occurrence(matrix: LabelMatrix, uses: NDArray[np.int64] | None = None) -> sparse.csr_array[Any, tuple[int, int]]:
    """Rows in which two labels occur together, ``(C, C)``, the label counts on the diagonal.

    Args:
        matrix: ``(N, C)``.
        uses: how often each row counts, ``(N,)``; None: once.
    """
    wide = matrix.astype(np.int64)
    if uses is None:
        return sparse.csr_array(wide.T @ wide)
    weighted = wide.copy()
    weighted.data = uses[entry_rows(matrix)]
    return sparse.csr_array(weighted.T @ wide)


def label_sets(matrix: LabelMatrix) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number of the label set of every row, ``(N,)``, and rows of every distinct set, ``(S,)``.

    Sets are numbered by size, then by their labels in ascending order; the set without a label, where it occurs, is 0.
    """
    lengths = np.diff(matrix.indptr)
    number = np.empty(matrix.shape[0], dtype=np.int64)
    by_length = np.argsort(lengths, kind="stable")
    found = 0
    for rows in np.split(by_length, np.flatnonzero(np.diff(lengths[by_length])) + 1):
        size = int(lengths[rows[0]])
        if size == 0:
            number[rows] = found
            found += 1
            continue
        members = matrix.indices[matrix.indptr[rows][:, None] + np.arange(size)]
        order = np.lexsort(members.T[::-1])
        ordered = members[order]
        fresh = np.concatenate([[True], (ordered[1:] != ordered[:-1]).any(axis=1)])
        number[rows[order]] = found + np.cumsum(fresh) - 1
        found += int(fresh.sum())
    return number, np.bincount(number, minlength=found)
