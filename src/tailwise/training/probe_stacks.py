"""Many heads of one shape, trained side by side.

A stack holds each parameter of its heads as one tensor ``(H, ...)``, computes the scores of all heads and the gradients
of all parameters.

The result of a head must not depend on its neighbours, to the bit. Matrix products of the CPU libraries keep that under
three conditions, found by trying: every head has a product of its own and of the same shape (one wide product over all
heads sums in another order), operands and results of every head start at a multiple of 64 bytes, and no product
degenerates to one with a vector. Hence a batched product, features padded with zero columns to a multiple of 16,
batches padded with zero rows to a multiple of 32, and the bias as the weight of a constant feature.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tailwise.models.heads.linear import LinearHead

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tailwise.models.heads.base import Head

__all__ = ["HeadStack", "LinearStack", "ModuleStack", "PaddedFeatures", "StackedParameter", "stack_heads"]


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
        size = torch.linalg.vector_norm(features) / features.numel() ** 0.5
        self.scale = 2.0 ** -round(float(size.log2())) if size > 0 else 1.0
        self.padded = torch.zeros(rows + 1, -(-(self.num_features + 1) // 16) * 16)
        torch.mul(features, self.scale, out=self.padded[:rows, : self.num_features])
        self.padded[:rows, self.num_features] = 1.0


@dataclass(frozen=True)
class StackedParameter:
    """One parameter of all heads, ``(H, ...)``, its gradient, and the view of it that weight decay acts on, if any."""

    value: Tensor
    gradient: Tensor
    decayed: Tensor | None


class HeadStack(ABC):
    """H heads of one shape.

    Args:
        heads: the heads; `finish` puts the trained weights into them.
        features: the layout of the features.
    """

    parameters: list[StackedParameter]

    def __init__(self, heads: Sequence[Head], features: PaddedFeatures) -> None:
        self.heads = list(heads)
        self.num_features = features.num_features
        self.scale = features.scale

    @abstractmethod
    def scores(self, batch: Tensor) -> Tensor:
        """What the loss sees, ``(H, B, C)``, of padded features ``(H, B, P)``; without a graph."""

    @abstractmethod
    def scores_of(self, head: int, batch: Tensor) -> Tensor:
        """The scores of one head, ``(B, C)``, of padded features ``(B, P)``; without a graph."""

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
        weights = torch.zeros(len(heads), features.padded.shape[1], heads[0].num_classes)
        for weight, head in zip(weights, heads, strict=True):
            weight[: self.num_features] = head.weight.detach().T
            weight[self.num_features] = head.bias.detach()
        self._weights = StackedParameter(weights, torch.zeros_like(weights), weights[:, : self.num_features])
        self.parameters = [self._weights]
        self._scores = torch.empty(0)

    def scores(self, batch: Tensor) -> Tensor:
        """X W; overwritten by the next call."""
        self._scores = torch.bmm(batch, self._weights.value, out=self._scores)
        return self._scores

    def scores_of(self, head: int, batch: Tensor) -> Tensor:
        """X W of one head."""
        return batch @ self._weights.value[head]

    def backward(self, batch: Tensor, gradient: Tensor) -> None:
        """X' G."""
        torch.bmm(batch.transpose(1, 2), gradient, out=self._weights.gradient)

    @torch.no_grad()
    def finish(self) -> None:
        """Back to the unscaled features: W times a power of two, which is exact."""
        for weight, head in zip(self._weights.value, self._linear, strict=True):
            head.weight.copy_(weight[: self.num_features].T * self.scale)
            head.bias.copy_(weight[self.num_features])


class ModuleStack(HeadStack):
    """Heads of any kind, one after the other, with the gradients of autograd."""

    def __init__(self, heads: Sequence[Head], features: PaddedFeatures) -> None:
        super().__init__(heads, features)
        self.parameters = []
        for together in zip(*(head.parameters() for head in heads), strict=True):
            value = torch.stack([p.detach() for p in together])
            stacked = StackedParameter(value, torch.zeros_like(value), value if value.ndim > 2 else None)
            for parameter, own, gradient in zip(together, stacked.value, stacked.gradient, strict=True):
                parameter.data, parameter.grad = own, gradient
            self.parameters.append(stacked)

    def scores(self, batch: Tensor) -> Tensor:
        """The forward pass of every head on the unscaled features."""
        rows = batch[:, :, : self.num_features] / self.scale
        self._graph = torch.stack([head(x) for head, x in zip(self.heads, rows, strict=True)])
        return self._graph.detach()

    @torch.no_grad()
    def scores_of(self, head: int, batch: Tensor) -> Tensor:
        """The forward pass of one head on the unscaled features."""
        scores: Tensor = self.heads[head](batch[:, : self.num_features] / self.scale)
        return scores

    def backward(self, batch: Tensor, gradient: Tensor) -> None:
        """Through the graph of the last `scores`."""
        del batch
        for parameter in self.parameters:
            parameter.gradient.zero_()
        torch.autograd.backward(self._graph, gradient)

    def finish(self) -> None:
        """Give every head tensors of its own again."""
        for head in self.heads:
            for parameter in head.parameters():
                parameter.data, parameter.grad = parameter.data.clone(), None


def stack_heads(heads: Sequence[Head], features: PaddedFeatures) -> HeadStack:
    """The fastest stack for these heads."""
    linear = [head for head in heads if type(head) is LinearHead]
    return LinearStack(linear, features) if len(linear) == len(heads) else ModuleStack(heads, features)
