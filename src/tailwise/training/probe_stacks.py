"""Many heads of one shape, trained side by side.

A stack computes the scores of all its heads and the gradients of all their parameters; the parameters stay those of each
head alone, so the optimiser treats every head as if it were the only one.

The result of a head must not depend on its neighbours, to the bit. Matrix products of the CPU libraries keep that promise
under three conditions, found by trying: every head has a product of its own and of the same shape (one wide product over
all heads sums in another order), operands and results of every head start at a multiple of 64 bytes, and no product
degenerates to a vector. Hence a batched product per step, features padded with zero columns to a multiple of 16, batches
padded with zero rows to a multiple of 32, and the bias as the weight of a constant feature.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tailwise.models.heads.linear import LinearHead

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tailwise.models.heads.base import Head

__all__ = ["HeadStack", "LinearStack", "ModuleStack", "PaddedFeatures", "stack_heads"]


class PaddedFeatures:
    """Training features laid out for stacks.

    Args:
        features: ``(N, D)``.

    Attributes:
        padded: ``(N + 1, P)``: the features times `scale`, a column of ones, zero columns; the last row is zero.
        num_features: D.
        scale: the power of two that brings the root mean square of the features nearest to 1. The optimiser so sees the
            same range for every encoder, and a weight of a scaled feature turns into one of the feature itself exactly.
    """

    def __init__(self, features: Tensor) -> None:
        rows, self.num_features = features.shape
        mean_square = float(features.double().square().mean())
        self.scale = 2.0 ** round(-0.5 * float(torch.tensor(mean_square).log2())) if mean_square > 0 else 1.0
        self.padded = torch.zeros(rows + 1, -(-(self.num_features + 1) // 16) * 16)
        self.padded[:rows, : self.num_features] = features * self.scale
        self.padded[:rows, self.num_features] = 1.0


class HeadStack(ABC):
    """H heads of one shape.

    Args:
        heads: the heads; `finish` puts the trained weights into them.
        features: the layout of the features.
    """

    def __init__(self, heads: Sequence[Head], features: PaddedFeatures) -> None:
        self.heads = list(heads)
        self.num_features = features.num_features
        self.scale = features.scale

    @abstractmethod
    def parameters(self, head: int) -> tuple[list[Tensor], list[Tensor]]:
        """Parameters of one head: those that weight decay acts on, and the others."""

    @abstractmethod
    def scores(self, batch: Tensor) -> Tensor:
        """What the loss sees, ``(H, B, C)``, of padded features ``(H, B, P)``; without a graph."""

    @abstractmethod
    def backward(self, batch: Tensor, gradient: Tensor) -> None:
        """Set the gradients of all parameters, given those of the scores of the same batch, ``(H, B, C)``."""

    @abstractmethod
    def finish(self) -> None:
        """Put the trained weights into the heads."""


class LinearStack(HeadStack):
    """Linear heads as one tensor ``(H, P, C)``; the gradient is a batched product, X' G."""

    def __init__(self, heads: Sequence[LinearHead], features: PaddedFeatures) -> None:
        super().__init__(heads, features)
        self._linear = list(heads)
        self._weights = torch.zeros(len(heads), features.padded.shape[1], heads[0].num_classes)
        for weights, head in zip(self._weights, heads, strict=True):
            weights[: self.num_features] = head.weight.detach().T
            weights[self.num_features] = head.bias.detach()
        self._gradients = torch.zeros_like(self._weights)

    def parameters(self, head: int) -> tuple[list[Tensor], list[Tensor]]:
        """Weights ``(D, C)``, and biases ``(C,)``."""
        pair = []
        for rows in (slice(0, self.num_features), self.num_features):
            parameter = self._weights[head, rows]
            parameter.grad = self._gradients[head, rows]
            pair.append([parameter])
        return pair[0], pair[1]

    def scores(self, batch: Tensor) -> Tensor:
        """X W."""
        return torch.bmm(batch, self._weights)

    def backward(self, batch: Tensor, gradient: Tensor) -> None:
        """X' G."""
        torch.bmm(batch.transpose(1, 2), gradient, out=self._gradients)

    @torch.no_grad()
    def finish(self) -> None:
        """Back to the unscaled features: W times a power of two, which is exact."""
        for weights, head in zip(self._weights, self._linear, strict=True):
            head.weight.copy_(weights[: self.num_features].T * self.scale)
            head.bias.copy_(weights[self.num_features])


class ModuleStack(HeadStack):
    """Heads of any kind, one after the other, with the gradients of autograd."""

    def parameters(self, head: int) -> tuple[list[Tensor], list[Tensor]]:
        """Matrices, and vectors."""
        parameters = list(self.heads[head].parameters())
        return [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim <= 1]

    def scores(self, batch: Tensor) -> Tensor:
        """The forward pass of every head on the unscaled features."""
        rows = batch[:, :, : self.num_features] / self.scale
        self._graph = torch.stack([head(x) for head, x in zip(self.heads, rows, strict=True)])
        return self._graph.detach()

    def backward(self, batch: Tensor, gradient: Tensor) -> None:
        """Through the graph of the last `scores`."""
        del batch
        for head in self.heads:
            head.zero_grad()
        self._graph.backward(gradient)

    def finish(self) -> None:
        """Nothing to do: the heads themselves were trained."""


def stack_heads(heads: Sequence[Head], features: PaddedFeatures) -> HeadStack:
    """The fastest stack for these heads."""
    linear = [head for head in heads if type(head) is LinearHead]
    return LinearStack(linear, features) if len(linear) == len(heads) else ModuleStack(heads, features)
