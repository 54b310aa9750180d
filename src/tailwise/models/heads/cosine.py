"""The cosine head: normalised features, normalised weights, no bias.

    cos_j = (w_j / |w_j|) . (f / |f|)          what `forward` gives and what the loss sees, in [-1, 1]
    z_j   = s cos_j                            what `affine` gives and what predicts

A loss for cosine scores, such as LDAM, multiplies them by its own scale s; the probabilities it fits are therefore
softmax(s cos), and prediction uses the same s. Any other loss sees the bare cosines.
Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss, NeurIPS 2019 (``NormedLinear`` of
the authors' code, s = 30). Differs from it in the fresh weights, which are normal instead of rescaled uniform: both
have uniformly random directions, and the length of a weight has no effect on a cosine.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from tailwise.errors import SettingError
from tailwise.models.heads.base import AffineForm, Head

__all__ = ["CosineHead"]


class CosineHead(Head):
    """One direction per class; zero until `reset`.

    Args:
        num_features: D.
        num_classes: C.
        scale: s > 0, for prediction alone.

    Raises:
        SettingError: `scale` is not positive.
    """

    def __init__(self, num_features: int, num_classes: int, *, scale: float = 30.0) -> None:
        super().__init__(num_features, num_classes)
        if not 0.0 < scale < float("inf"):
            raise SettingError(f"Expected `scale` to be a finite number larger than 0, but got {scale!r}.")
        self.scale = float(scale)
        self.weight = nn.Parameter(torch.zeros(num_classes, num_features))

    def forward(self, features: Tensor) -> Tensor:
        """Cosines ``(M, C)`` in [-1, 1] of features ``(M, D)``; a zero vector has the cosine 0 with everything."""
        return functional.linear(functional.normalize(features, dim=-1), functional.normalize(self.weight, dim=-1))

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        """Fresh directions, uniform on the sphere, of expected squared length 1."""
        self.weight.normal_(0.0, self.num_features**-0.5, generator=generator)

    def affine(self) -> AffineForm:
        """Scaled unit weights on normalised features: the scores are ``scale`` times the cosines."""
        weight = self.scale * functional.normalize(self.weight.detach(), dim=-1)
        return AffineForm(weight, weight.new_zeros(self.num_classes), normalise=True)
