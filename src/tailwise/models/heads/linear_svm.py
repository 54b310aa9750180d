"""A linear support vector machine as a head, one class against the rest, fitted by liblinear.

    min_{w, b}   C sum_i a_i max(0, 1 - t_i (w x_i + b))^2  +  (|w|^2 + b^2) / 2        t_i = 1 or -1, per class

a_i is 1; with ``class_weight="balanced"`` it is N / (C n_j) for the rows of the class itself, as in liblinear, and with
two classes or several labels N / (2 n) on both sides, n being the rows of the side.
Fan et al., LIBLINEAR: A Library for Large Linear Classification, JMLR 2008. Margins are no log-probabilities: calibrate
them before reading them as such.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from scipy.sparse import csc_matrix, issparse
from torch import Tensor, nn
from torch.nn import functional

from tailwise.errors import SettingError
from tailwise.models.heads.base import AffineForm, RowHead

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

__all__ = ["LinearSVMHead"]


class LinearSVMHead(RowHead):
    """Margins of linear support vector machines.

    Args:
        num_features: D.
        num_classes: C.
        C: inverse strength of L2, larger than 0.
        class_weight: ``"balanced"`` or None.

    Raises:
        SettingError: a `C` that is not positive, or an unknown `class_weight`.
    """

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        *,
        C: float = 1.0,  # noqa: N803  # the name that everybody knows
        class_weight: Literal["balanced"] | None = None,
    ) -> None:
        super().__init__(num_features, num_classes)
        if not 0.0 < C < float("inf"):
            raise SettingError(f"Expected `C` to be a finite number larger than 0, but got {C!r}.")
        if class_weight not in (None, "balanced"):
            raise SettingError(f"Expected `class_weight` to be 'balanced' or None, but got {class_weight!r}.")
        self.C = float(C)
        self.class_weight = class_weight
        self.weight = nn.Parameter(torch.zeros(num_classes, num_features))
        self.bias = nn.Parameter(torch.zeros(num_classes))

    def forward(self, features: Tensor) -> Tensor:
        """Margins ``(M, C)`` of features ``(M, D)``."""
        return functional.linear(features, self.weight, self.bias)

    @torch.no_grad()
    def fit_rows(self, features: Tensor | csr_matrix, targets: NDArray[np.int64] | csr_matrix) -> None:
        """Fit on features ``(N, D)`` and class indices ``(N,)`` or a matrix of labels ``(N, C)``.

        A class that no row has, or every row, keeps zero weights and a margin of -1 or 1.
        """
        rows: Any = features.double().numpy() if isinstance(features, Tensor) else features.astype(np.float64)
        sparse = issparse(targets)
        labels: Any = csc_matrix(targets) if sparse else np.asarray(targets)
        for j in range(self.num_classes):
            positive = labels[:, [j]].toarray().ravel() > 0 if sparse else labels == j
            if positive.all() or not positive.any():
                self.bias[j] = 1.0 if positive.all() else -1.0
                continue
            weight, bias = self._binary(rows, positive, self._row_weights(positive, targets, j))
            self.weight[j], self.bias[j] = torch.from_numpy(weight), bias

    def _row_weights(self, positive: NDArray[np.bool_], targets: Any, j: int) -> NDArray[np.float64] | None:
        """Weights of the rows ``(N,)``; over classes those of the positives alone, as liblinear has it."""
        if self.class_weight is None:
            return None
        if issparse(targets) or self.num_classes == 2:
            counts = np.bincount(positive, minlength=2)
            return np.asarray((positive.size / (2.0 * counts))[positive.astype(np.int64)])
        counts = np.bincount(targets, minlength=self.num_classes)
        return np.where(positive, positive.size / (np.count_nonzero(counts) * counts[j]), 1.0)

    def _binary(
        self, rows: Any, positive: NDArray[np.bool_], weights: NDArray[np.float64] | None
    ) -> tuple[NDArray[np.float32], float]:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.svm import LinearSVC

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            found = LinearSVC(C=self.C, random_state=0).fit(rows, positive, sample_weight=weights)
        return np.asarray(found.coef_[0], dtype=np.float32), float(found.intercept_[0])

    def affine(self) -> AffineForm:
        """The weights as they are."""
        return AffineForm(self.weight.detach().clone(), self.bias.detach().clone())
