"""Held-out parts of rows with several labels, by iterative stratification; equal texts stay together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array

from tailwise.data.splits import TRAIN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["multilabel_parts"]


def multilabel_parts(
    labels: NDArray[np.int64],
    row: NDArray[np.int64],
    keys: NDArray[np.uint64],
    shares: Sequence[float],
    *,
    seed: int,
    pinned: NDArray[np.bool_] | None = None,
) -> NDArray[np.int8]:
    """Part of every row: 0 is train, 1, 2, ... are the held-out parts; every label occurs in train.

    Args:
        labels: label indices, ``(M,)``.
        row: the row of each, ``(M,)``.
        keys: equal for rows that must stay together, ``(N,)``.
        shares: fraction of the rows of each held-out part, test first.
        seed: of the shuffles.
        pinned: rows that stay in train with all their group, ``(N,)``.
    """
    from tailwise.data.iterative_stratification import iterative_split

    number_of_labels = int(labels.max(initial=0)) + 1
    shape = (len(keys), number_of_labels)
    matrix = csr_array((np.ones(len(labels), dtype=np.int64), (row, labels)), shape=shape)
    free = np.ones(len(keys), dtype=bool) if pinned is None else ~np.isin(keys, keys[pinned])
    part = np.zeros(len(keys), dtype=np.int8)
    if free.any():
        _, group = np.unique(keys[free], return_inverse=True)
        fold = iterative_split(matrix[free], [1 - sum(shares), *shares], seed, groups=group)
        part[free] = fold.astype(np.int8)
    return _with_all_labels_in_train(labels, row, keys, part)


def _with_all_labels_in_train(
    labels: NDArray[np.int64], row: NDArray[np.int64], keys: NDArray[np.uint64], part: NDArray[np.int8]
) -> NDArray[np.int8]:
    """The parts, with the rows (and those of equal texts) of labels that train would lack moved there."""
    number = int(labels.max(initial=0)) + 1
    in_train = np.bincount(labels[part[row] == TRAIN], minlength=number) > 0
    lacking = ~in_train[labels]
    if lacking.any():
        part = np.where(np.isin(keys, keys[row[lacking]]), TRAIN, part).astype(np.int8)
    return part
