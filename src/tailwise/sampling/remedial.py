"""REMEDIAL: rows in which rare and frequent labels occur together are taken apart.

    SCUMBLE(i) > mean_i SCUMBLE(i):   row i  ->  one row with its labels of IRLbl <= MeanIR,
                                                 one row with its labels of IRLbl >  MeanIR

Charte et al., Resampling Multilabel Datasets by Decoupling Highly Imbalanced Labels, HAIS 2015; Neurocomputing 326,
2019. Survey section 3.1. A row whose labels are all of one kind gives one row with all of them and one with none, as in
the paper.
Differs from the paper with ``mask=True``, the default: the paper teaches a network that one text has a label and has
not. Here the labels taken from a row are unknown in it and take no part in the loss; ``mask=False`` is the paper.
`legacy_empty` counts labels without a row as IRLbl 0 in MeanIR, as the R packages do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from tailwise.sampling.label_matrix import (
    LabelMatrix,
    as_label_matrix,
    entry_rows,
    label_counts,
    minority_labels,
    row_scumble,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DecoupledLabels", "remedial"]

# Rows of equal SCUMBLE must not be told apart by the rounding of their mean.
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class DecoupledLabels:
    """A data set after REMEDIAL.

    Attributes:
        rows: the row of the data set that each new row repeats: all in order, then the second halves, ``(N + K,)``.
        labels: the labels of the new rows; of a decoupled row the frequent ones first, ``(N + K, C)``.
        ignored: entries of `labels` that are unknown, for ``target[ignored] = ignore_index``, ``(N + K, C)``.
    """

    rows: NDArray[np.int64]
    labels: LabelMatrix
    ignored: LabelMatrix

    def target(self, rows: NDArray[np.int64], ignore_index: int = -100) -> NDArray[np.int64]:
        """Dense targets of some of the new rows, for a loss: 0, 1 and `ignore_index`, ``(len(rows), C)``."""
        dense = self.labels[rows].toarray().astype(np.int64)
        return np.asarray(dense + ignore_index * self.ignored[rows].toarray().astype(np.int64))


def remedial(
    labels: Any, *, mask: bool = True, legacy_empty: bool = False, num_classes: int | None = None
) -> DecoupledLabels:
    """Decouple rare from frequent labels; deterministic.

    Args:
        labels: a matrix of 0 and 1, ``(N, C)``, or lists of label indices; see `as_label_matrix`.
        mask: whether the labels taken from a row are unknown in it; False: the row does not have them.
        legacy_empty: whether labels without a row count as IRLbl 0 in MeanIR.
        num_classes: C for lists of label indices.

    Raises:
        SettingError: no label matrix.
    """
    matrix = as_label_matrix(labels, num_classes=num_classes, name="remedial")
    scumble = row_scumble(matrix)
    split = scumble > scumble.mean() * (1.0 + _ROUNDING)
    second = np.cumsum(split) - 1 + split.size
    row, label = entry_rows(matrix), matrix.indices
    moved = split[row] & minority_labels(label_counts(matrix), legacy_empty=legacy_empty)[label]
    shape = (split.size + int(split.sum()), matrix.shape[1])
    masked = split[row] & mask
    return DecoupledLabels(
        rows=np.concatenate([np.arange(split.size), np.flatnonzero(split)]),
        labels=_entries(np.where(moved, second[row], row), label, shape),
        ignored=_entries(np.where(moved, row, second[row])[masked], label[masked], shape),
    )


def _entries(rows: NDArray[np.int64], labels: NDArray[np.integer], shape: tuple[int, int]) -> LabelMatrix:
    matrix: LabelMatrix = sparse.csr_array((np.ones(rows.size, dtype=np.int8), (rows, labels)), shape=shape)
    matrix.sort_indices()
    return matrix
