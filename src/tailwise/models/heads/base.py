"""What every head is: features in, logits out.

A head may first transform the features (subtract a centre, divide by the length) and is then, as a rule, affine. A head
that says so through `affine` folds its post-hoc steps into plain weights and leaves tailwise behind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

__all__ = ["AffineForm", "Head", "RowHead"]


@dataclass(frozen=True)
class AffineForm:
    """A head as plain weights: ``z = weight @ t(f) + bias`` with ``t(f) = f - centre``, L2-normalised if `normalise`.

    Attributes:
        weight: ``(C, D)``.
        bias: ``(C,)``.
        centre: ``(D,)`` or None.
        normalise: divide by the Euclidean length.
        blocks: equal parts of the features that are normalised apart, each to the length ``blocks ** -0.5``.
    """

    weight: Tensor
    bias: Tensor
    centre: Tensor | None = None
    normalise: bool = False
    blocks: int = 1


class Head(nn.Module):
    """Base of every head.

    Args:
        num_features: D.
        num_classes: C.

    `closed_form` says that the head is fitted by `fit` instead of by gradient steps, `takes_token_states` that its
    features are the states of all tokens of a text, ``(M, T, D)``, `reads_words` that they are strings of the words of
    a sentence, without an encoder.
    """

    closed_form: ClassVar[bool] = False
    takes_token_states: ClassVar[bool] = False
    reads_words: ClassVar[bool] = False

    def __init__(self, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.num_features = num_features
        self.num_classes = num_classes

    def forward(self, features: Tensor) -> Tensor:
        """Logits ``(M, C)`` of features ``(M, D)``."""
        raise NotImplementedError  # pragma: no cover

    def reset(self, generator: torch.Generator) -> None:
        """Fresh weights from `generator`."""
        raise NotImplementedError  # pragma: no cover

    def fit(self, features: Tensor, target: Tensor) -> None:
        """Fit in closed form on training features ``(N, D)`` and class indices ``(N,)``."""
        raise NotImplementedError(f"{type(self).__name__} is trained by gradient steps.")

    def affine(self) -> AffineForm | None:
        """The head as plain weights for prediction, or None where it has no such form."""
        return None


class RowHead(Head):
    """Base of the heads that a library fits on rows, dense or sparse, with one class or several labels each.

    `fits_prior` says that its scores go by how frequent the classes are, as those of a trained head do.
    """

    closed_form = True
    fits_prior: ClassVar[bool] = True

    def fit_rows(self, features: Tensor | csr_matrix, targets: NDArray[np.int64] | csr_matrix) -> None:
        """Fit on features ``(N, D)`` and class indices ``(N,)`` or a matrix of labels ``(N, C)``."""
        raise NotImplementedError  # pragma: no cover
