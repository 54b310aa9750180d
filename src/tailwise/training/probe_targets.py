"""Targets of the training rows, taken batch by batch: a class index per row, or a row of a sparse label matrix."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.sparse import csr_matrix, issparse
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ClassTargets", "LabelTargets", "Targets", "padded_targets"]


class Targets(ABC):
    """Targets of N rows, and of one more row that fills up batches."""

    @abstractmethod
    def take(self, rows: Tensor) -> Tensor:
        """The targets of rows ``(O, B)``: class indices ``(O, B)`` or truth values ``(O, B, L)``."""


class ClassTargets(Targets):
    """One class index per row, ``(N,)``."""

    def __init__(self, labels: NDArray[np.int64]) -> None:
        self._labels = torch.from_numpy(np.append(labels, 0))

    def take(self, rows: Tensor) -> Tensor:
        """Class indices ``(O, B)``."""
        return self._labels.index_select(0, rows.flatten()).view(rows.shape)


class LabelTargets(Targets):
    """The label sets of the rows, ``(N, L)``; only those of a batch are ever dense."""

    def __init__(self, labels: csr_matrix) -> None:
        indptr = np.append(labels.indptr, labels.indptr[-1])
        self._labels = csr_matrix(
            (labels.data, labels.indices, indptr), shape=(labels.shape[0] + 1, labels.shape[1]), dtype=np.float32
        )

    def take(self, rows: Tensor) -> Tensor:
        """Truth values as 0 and 1, ``(O, B, L)``."""
        dense = self._labels[rows.flatten().numpy()].toarray()
        return torch.from_numpy(dense).view(*rows.shape, dense.shape[1])


def padded_targets(labels: NDArray[np.int64] | csr_matrix) -> Targets:
    """The targets of these labels."""
    return LabelTargets(labels) if issparse(labels) else ClassTargets(labels)
