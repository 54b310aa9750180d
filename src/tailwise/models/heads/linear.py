"""The linear head.

    z = W f + b

Fresh weights are those of ``torch.nn.Linear``: uniform in (-1/sqrt(D), 1/sqrt(D)), weights before biases.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from tailwise.models.heads.base import AffineForm, Head

__all__ = ["LinearHead"]


class LinearHead(Head):
    """One weight vector and one bias per class; zero until `reset`.

    Args:
        num_features: D.
        num_classes: C.
    """

    def __init__(self, num_features: int, num_classes: int) -> None:
        super().__init__(num_features, num_classes)
        self.weight = nn.Parameter(torch.zeros(num_classes, num_features))
        self.bias = nn.Parameter(torch.zeros(num_classes))

    def forward(self, features: Tensor) -> Tensor:
        """Logits ``(M, C)`` of features ``(M, D)``."""
        return functional.linear(features, self.weight, self.bias)

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        """Fresh weights from `generator`."""
        bound = self.num_features**-0.5
        self.weight.uniform_(-bound, bound, generator=generator)
        self.bias.uniform_(-bound, bound, generator=generator)

    def affine(self) -> AffineForm:
        """The weights as they are."""
        return AffineForm(self.weight.detach().clone(), self.bias.detach().clone())
