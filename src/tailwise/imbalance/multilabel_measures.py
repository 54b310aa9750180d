"""Imbalance of a label matrix, in numbers.

    Card      mean_i k_i,  k_i the labels of row i          Dens    Card / C
    IRLbl(j)  max_k n_k / n_j                               Charte et al., Neurocomputing 163, 2015
    MeanIR, MaxIR                                           mean and maximum of IRLbl
    CVIR      sqrt( sum_j (IRLbl(j) - MeanIR)^2 / (C - 1) ) / MeanIR
    SCUMBLE(i)   1 - geometric / arithmetic mean of IRLbl over the labels of row i; 0 for at most one label
    SCUMBLE      mean_i SCUMBLE(i);   CV: standard deviation (dividing by N - 1) over the mean
    SCUMBLELbl(j)   mean of SCUMBLE(i) over the rows with label j          Charte et al., Neurocomputing 326, 2019
    TCS       log(#features C #label sets)                  Charte et al., HAIS 2016

A SCUMBLE above 0.1 says that rare and frequent labels come together, so that repeating rows repeats both. Survey
section 2.1. Differs from the R package mldr for a label without a row: IRLbl and SCUMBLELbl are NaN and take no part in
MeanIR and CVIR; mldr makes them 0, and ``legacy_empty=True`` does so too. As in mldr, C in Dens and TCS counts all
columns, and the set without a label counts as a label set.

All works on sparse matrices without making them dense. IRLbl, MeanIR and SCUMBLE(i) are those of `tailwise.sampling`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tailwise.errors import SettingError
from tailwise.sampling.label_matrix import (
    as_label_matrix,
    co_occurrence,
    entry_rows,
    irlbl,
    label_counts,
    label_sets,
    mean_ir,
    row_scumble,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from tailwise.sampling.label_matrix import LabelMatrix

__all__ = [
    "LabelSetMeasures",
    "MultiLabelMeasures",
    "as_label_matrix",
    "cardinality",
    "co_occurrence",
    "cvir",
    "density",
    "irlbl",
    "label_counts",
    "label_scumble",
    "label_scumble_cv",
    "label_set_measures",
    "max_ir",
    "mean_ir",
    "measure_labels",
    "row_scumble",
    "scumble",
    "scumble_cv",
    "theoretical_complexity",
]


def cardinality(matrix: LabelMatrix) -> float:
    """Labels per row, in the mean."""
    return float(matrix.nnz / matrix.shape[0])


def density(matrix: LabelMatrix) -> float:
    """Cardinality over the number of labels, in [0, 1]."""
    return cardinality(matrix) / float(matrix.shape[1])


def max_ir(counts: ArrayLike) -> float:
    """Largest IRLbl of a label with a row; NaN without one."""
    ratio = irlbl(counts)
    return float(np.nanmax(ratio)) if not np.isnan(ratio).all() else float("nan")


def cvir(counts: ArrayLike, *, legacy_empty: bool = False) -> float:
    """Coefficient of variation of IRLbl over the labels with a row (over all with `legacy_empty`); 0 for one label."""
    ratio = irlbl(counts, legacy_empty=legacy_empty)
    counted = ratio[~np.isnan(ratio)]
    centre = mean_ir(counts, legacy_empty=legacy_empty)
    if np.isnan(centre) or counted.size == 1:
        return centre * 0.0
    return float(counted.std(ddof=1) / centre)


def scumble(matrix: LabelMatrix) -> float:
    """Mean of SCUMBLE over all rows, in [0, 1)."""
    return float(row_scumble(matrix).mean())


def scumble_cv(matrix: LabelMatrix) -> float:
    """Standard deviation of SCUMBLE over its mean; NaN where all rows have 0, or for one row."""
    values = row_scumble(matrix)
    centre = float(values.mean())
    return float(values.std(ddof=1) / centre) if values.size > 1 and centre > 0.0 else float("nan")


def label_scumble(matrix: LabelMatrix, *, legacy_empty: bool = False) -> NDArray[np.float64]:
    """Mean of SCUMBLE over the rows with each label, ``(C,)``; NaN without a row (0 with `legacy_empty`)."""
    counts = label_counts(matrix)
    sums = np.bincount(matrix.indices, row_scumble(matrix)[entry_rows(matrix)], minlength=counts.size)
    means = np.full(counts.size, 0.0 if legacy_empty else np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means


def label_scumble_cv(matrix: LabelMatrix) -> NDArray[np.float64]:
    """Standard deviation over mean of SCUMBLE among the rows with each label, ``(C,)``.

    NaN for a label with less than two rows, or whose rows all have 0.
    """
    counts, centre = label_counts(matrix), label_scumble(matrix)
    apart = row_scumble(matrix)[entry_rows(matrix)] - centre[matrix.indices]
    squares = np.bincount(matrix.indices, np.square(apart), minlength=counts.size)
    defined = (counts > 1) & (centre > 0.0)
    variance = np.full(counts.size, np.nan)
    np.divide(squares, counts - 1, out=variance, where=defined)
    return np.asarray(np.sqrt(variance) / centre)


@dataclass(frozen=True, eq=False)
class LabelSetMeasures:
    """The distinct label sets of a data set.

    Attributes:
        sizes: rows of every distinct set, the most frequent first, ``(S,)``.
        number: S, the set without a label included where it occurs.
        single: sets of one row only.
        largest: rows of the most frequent set.
    """

    sizes: NDArray[np.int64]
    number: int
    single: int
    largest: int


def label_set_measures(matrix: LabelMatrix) -> LabelSetMeasures:
    """Count the distinct label sets."""
    sizes = np.sort(label_sets(matrix)[1])[::-1]
    return LabelSetMeasures(sizes, int(sizes.size), int((sizes == 1).sum()), int(sizes[0]))


def theoretical_complexity(matrix: LabelMatrix, num_features: int) -> float:
    """TCS, natural logarithm.

    Raises:
        SettingError: `num_features` below 1.
    """
    if num_features < 1:
        raise SettingError(f"Expected `num_features` to be at least 1, but got {num_features}.")
    return float(np.log(num_features) + np.log(matrix.shape[1]) + np.log(label_set_measures(matrix).number))


@dataclass(frozen=True)
class MultiLabelMeasures:
    """The measures of this module for one label matrix.

    Attributes:
        num_rows: N.
        num_classes: C, labels with a row.
        empty_classes: labels without one.
        unlabelled_rows: rows without a label.
        cardinality: labels per row.
        density: cardinality over the number of columns.
        label_sets: distinct label sets.
        single_label_sets: label sets of one row.
        largest_label_set: rows of the most frequent label set.
        smallest: rows of the rarest label that has any.
        largest: rows of the most frequent label.
        mean_ir: MeanIR.
        max_ir: MaxIR.
        cvir: CVIR.
        scumble: SCUMBLE.
        scumble_cv: its coefficient of variation; None where it has none.
    """

    num_rows: int
    num_classes: int
    empty_classes: int
    unlabelled_rows: int
    cardinality: float
    density: float
    label_sets: int
    single_label_sets: int
    largest_label_set: int
    smallest: int
    largest: int
    mean_ir: float
    max_ir: float
    cvir: float
    scumble: float
    scumble_cv: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def measure_labels(labels: Any, *, num_classes: int | None = None, legacy_empty: bool = False) -> MultiLabelMeasures:
    """All measures of a label matrix.

    Args:
        labels: a matrix of 0 and 1, ``(N, C)``, dense or sparse, or lists of label indices; see `as_label_matrix`.
        num_classes: C for lists of label indices.
        legacy_empty: whether labels without a row count as IRLbl 0 in MeanIR and CVIR, as in mldr.

    Raises:
        SettingError: no label matrix, or no row has a label.
    """
    matrix = as_label_matrix(labels, num_classes=num_classes, name="measure_labels")
    if matrix.nnz == 0:
        raise SettingError("measure_labels: expected at least one row with a label, but got none.")
    counts, sets, variation = label_counts(matrix), label_set_measures(matrix), scumble_cv(matrix)
    present = counts[counts > 0]
    return MultiLabelMeasures(
        num_rows=int(matrix.shape[0]),
        num_classes=int(present.size),
        empty_classes=int(counts.size - present.size),
        unlabelled_rows=int((np.diff(matrix.indptr) == 0).sum()),
        cardinality=cardinality(matrix),
        density=density(matrix),
        label_sets=sets.number,
        single_label_sets=sets.single,
        largest_label_set=sets.largest,
        smallest=int(present.min()),
        largest=int(present.max()),
        mean_ir=mean_ir(counts, legacy_empty=legacy_empty),
        max_ir=max_ir(counts),
        cvir=cvir(counts, legacy_empty=legacy_empty),
        scumble=scumble(matrix),
        scumble_cv=None if np.isnan(variation) else variation,
    )
