"""Losses that are convex in the logits, in the forms whose gradient and curvature are written out.

    softmax   l(z, y) = -a_y log softmax(u)_y - sum_j e_j log softmax(u)_j,   u = k * z + t - m_y [the column of y]
    sigmoid   l(z, y) = sum_j  w+_j y_j s(-(k z_j - m_j)) + w-_j (1 - y_j) s(k z_j),       s(u) = log(1 + exp(u))

A solver that has one of them needs no automatic differentiation: the gradient of a row is a softmax or a sigmoid less
its target, and the product of the curvature with a vector costs as much again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["SigmoidForm", "SoftmaxForm"]


@dataclass(frozen=True, eq=False)
class SoftmaxForm:
    """The cross-entropy of logits that are scaled and shifted per class; None leaves a part out.

    Attributes:
        weights: a_j >= 0, ``(C,)``, of the class of the row; None for ones.
        scale: k_j > 0, ``(C,)``.
        shift: t_j, ``(C,)``.
        margins: m_j, ``(C,)``, taken from the score of the class of the row after scaling.
        smoothing: e_j >= 0, ``(C,)``, what every row asks of every class.
    """

    weights: Tensor | None = None
    scale: Tensor | None = None
    shift: Tensor | None = None
    margins: Tensor | None = None
    smoothing: Tensor | None = None


@dataclass(frozen=True, eq=False)
class SigmoidForm:
    """A weighted binary cross-entropy per label; None leaves a part out.

    Attributes:
        positive_weights: w+_j >= 0, ``(C,)`` or one for all; None for ones.
        negative_weights: w-_j >= 0, ``(C,)`` or one for all; None for ones.
        scale: k > 0.
        margins: m_j, ``(C,)``, taken from the scores of the positives after scaling.
    """

    positive_weights: Tensor | None = None
    negative_weights: Tensor | None = None
    scale: float = 1.0
    margins: Tensor | None = None

    def columns(self, kept: slice) -> SigmoidForm:
        """The form of some of the labels."""
        parts = (self.positive_weights, self.negative_weights, self.margins)
        positive, negative, margins = (p[kept] if p is not None and p.ndim else p for p in parts)
        return SigmoidForm(positive, negative, self.scale, margins)
