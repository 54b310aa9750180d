"""Features as a linear map from the weights of a head to scores, in coordinates in which a fit converges fast.

    scores     Z = X W + 1 b'
    adjoint    X' G, 1' G
    squares    (X * X)' Q                      the diagonal of X' diag(q) X, for each column q of Q

Penalising W but not the bias, a fit does not change when the features are centred or rotated. Dense features are both,
so that the directions of X are those of their covariance, whose curvatures differ by orders of magnitude and are seen
on the diagonal. Sparse features stay as they are.

Memory, in numbers of four bytes: dense, one more copy of X; sparse, X and its transpose once more, 3 numbers per entry
each, never a dense matrix of the shape of X.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from scipy.sparse import csr_matrix, issparse

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["DenseDesign", "Design", "SparseDesign", "design_of"]

_ROWS = 2048  # whose squares are taken at a time, so that they stay in the cache


class Design(Protocol):
    """What a fit asks of the features; see the module."""

    num_rows: int
    num_features: int

    def scores(self, weight: Tensor, bias: Tensor) -> Tensor:
        """X W + b, ``(N, C)``, of weights ``(D, C)`` and biases ``(C,)``."""

    def adjoint(self, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """X' G, ``(D, C)``, and the sums of the columns, ``(C,)``, of a matrix ``(N, C)``."""

    def squares(self, curvature: Tensor) -> Tensor:
        """(X * X)' Q, ``(D, C)``, of a matrix ``(N, C)``."""

    def as_affine(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The weights ``(C, D)`` and biases ``(C,)`` that give the same scores from the features as they were given."""

    def from_affine(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The way back: weights ``(D, C)`` and biases ``(C,)`` of `scores`."""


class DenseDesign:
    """Features less their mean, rotated into the directions of their covariance.

    Args:
        features: float32 ``(N, D)``.
    """

    def __init__(self, features: NDArray[np.float32]) -> None:
        self.num_rows, self.num_features = features.shape
        self._mean = torch.from_numpy(features.mean(axis=0, dtype=np.float64))
        centred = torch.from_numpy(features - self._mean.float().numpy())
        covariance = centred.T @ centred
        self._directions: Tensor = torch.linalg.eigh(covariance.double()).eigenvectors.float()
        self._matrix = centred @ self._directions

    def scores(self, weight: Tensor, bias: Tensor) -> Tensor:
        """X W + b."""
        return torch.addmm(bias, self._matrix, weight)

    def adjoint(self, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """X' G and the sums of the columns."""
        return self._matrix.T @ gradient, gradient.sum(dim=0)

    def squares(self, curvature: Tensor) -> Tensor:
        """(X * X)' Q, some rows at a time."""
        total = curvature.new_zeros(self.num_features, curvature.shape[1])
        for start in range(0, self.num_rows, _ROWS):
            rows = slice(start, start + _ROWS)
            total.addmm_(self._matrix[rows].square().T, curvature[rows])
        return total

    def as_affine(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The rotation and the mean go into the weights and the bias."""
        turned = self._directions.double() @ weight.double()
        return turned.T.float().contiguous(), (bias.double() - self._mean @ turned.float().double()).float()

    def from_affine(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The rotation back; its transpose undoes it."""
        turned = self._directions.double().T @ weight.double().T
        return turned.float(), (bias.double() + weight.double() @ self._mean).float()


class SparseDesign:
    """Features as they are; the mean of every feature is taken off in the products.

    Args:
        features: float32 ``(N, D)``.
    """

    def __init__(self, features: csr_matrix) -> None:
        self.num_rows, self.num_features = features.shape
        matrix = csr_matrix(features, dtype=np.float32)
        transposed = matrix.T.tocsr()
        squared = csr_matrix((transposed.data**2, transposed.indices, transposed.indptr), transposed.shape)
        self._mean = torch.from_numpy(np.asarray(matrix.mean(axis=0, dtype=np.float64)).ravel()).float()
        self._matrix, self._transposed, self._squared = _Sparse(matrix), _Sparse(transposed), _Sparse(squared)

    def scores(self, weight: Tensor, bias: Tensor) -> Tensor:
        """X W + b."""
        return self._matrix.times(weight).add_(bias - self._mean @ weight)

    def adjoint(self, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """X' G and the sums of the columns."""
        sums = gradient.sum(dim=0)
        return self._transposed.times(gradient).addr_(self._mean, sums, alpha=-1.0), sums

    def squares(self, curvature: Tensor) -> Tensor:
        """(X * X)' Q of the features that are not centred, which is close where features are rare."""
        return self._squared.times(curvature)

    def as_affine(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The mean goes into the bias."""
        return weight.T.contiguous(), bias - self._mean @ weight

    def from_affine(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The mean comes back out of the bias."""
        return weight.T.contiguous(), bias + weight @ self._mean


class _Sparse:
    """The product of a sparse and a dense matrix: by MKL, which takes half the time, where torch has it."""

    def __init__(self, matrix: csr_matrix) -> None:
        self._matrix: Any = matrix
        self._has_kernel: bool = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]  # torch's own
        if self._has_kernel:
            parts = (matrix.indptr, matrix.indices, matrix.data)
            pointers, indices, data = (torch.from_numpy(np.require(part, requirements="W")) for part in parts)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Sparse CSR tensor support", category=UserWarning)
                self._matrix = torch.sparse_csr_tensor(
                    pointers, indices, data, size=matrix.shape, check_invariants=False
                )

    def times(self, dense: Tensor) -> Tensor:
        if self._has_kernel:
            product: Tensor = self._matrix @ dense
            return product
        return torch.from_numpy(self._matrix @ dense.numpy())


def design_of(features: NDArray[np.float32] | csr_matrix) -> Design:
    """The design of dense or sparse features ``(N, D)``."""
    return SparseDesign(features) if issparse(features) else DenseDesign(features)
