"""Focal loss.

    l(z, y) = -a_y (1 - p_y)^f log p_y,   p = softmax(z),   f >= 0 focus (1), a class weights (none)

Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, eq. 5, in its multi-class form. Survey section 3.3.
Differs from the paper in nothing. The code of Cao et al. (LDAM-DRW) puts the class weight inside the modulating factor,
(1 - p_y^(a_y))^f; `legacy_weight_inside` reproduces it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from tailwise.errors import SettingError
from tailwise.losses.base import Loss, Reduction
from tailwise.losses.class_weights import class_weights_tensor
from tailwise.losses.written_gradient import focal_with_gradient, sum_with_gradient, wants_compiled_gradient

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike
    from torch import Tensor

    from tailwise.losses.class_weights import ClassWeights

__all__ = ["FocalLoss", "focal_values"]


def focal_values(
    logits: Tensor,
    target: Tensor,
    focus: float = 2.0,
    weights: Tensor | None = None,
    *,
    weight_inside: bool = False,
    ignore_index: int = -100,
) -> Tensor:
    """Per-row focal loss, a_y (1 - exp(-c))^f c with c the cross-entropy of the row.

    The factor is computed as ``-expm1(-c)``, exact next to p = 1. A row with p = 1 in the arithmetic at hand has c = 0;
    it is clamped to the smallest normal number, where a fractional power is finite and value and gradient are 0.

    Args:
        logits: ``(M, C)``.
        target: class indices, ``(M,)``.
        focus: f >= 0; 0 gives (weighted) cross-entropy.
        weights: a_j, ``(C,)``, or None for ones.
        weight_inside: take c, and with it the factor, from the weighted cross-entropy.
        ignore_index: rows with this target have the value 0.

    Returns:
        ``(M,)``, same dtype as `logits`.
    """
    factor, values = _factor_and_cross_entropy(
        logits, target, focus, weights, weight_inside=weight_inside, ignore_index=ignore_index
    )
    return factor * values


def _factor_and_cross_entropy(
    logits: Tensor, target: Tensor, focus: float, weights: Tensor | None, *, weight_inside: bool, ignore_index: int
) -> tuple[Tensor, Tensor]:
    weights = None if weights is None else weights.to(logits.dtype)
    inside = weights if weight_inside else None
    values = functional.cross_entropy(logits, target, weight=inside, ignore_index=ignore_index, reduction="none")
    if focus == 0.0:
        factor = torch.ones_like(values)
    else:
        values = values.clamp_min(torch.finfo(values.dtype).tiny)
        factor = (-torch.expm1(-values)).pow(focus)
    if weights is not None and not weight_inside:
        factor = factor * weights.index_select(0, target.where(target != ignore_index, 0))
    return factor, values


class FocalLoss(Loss):
    """Focal loss: well-classified rows count less.

    Args:
        focus: f >= 0; larger forgets easy rows faster.
        class_weights: a rule, a mapping by class name, one number per class, or None; see
            `tailwise.losses.class_weights`.
        class_counts: training instances per class, for rules.
        class_names: names of the classes, for a mapping and for messages.
        beta: of the rule ``"effective_number"``.
        power: of the rule ``"inverse_power"``.
        legacy_weight_inside: class weight inside the modulating factor, as the code of Cao et al. has it.
        reduction: see `Loss`.
        ignore_index: see `Loss`.
    """

    def __init__(
        self,
        focus: float = 2.0,
        *,
        class_weights: ClassWeights = None,
        class_counts: ArrayLike | None = None,
        class_names: Sequence[str] | None = None,
        beta: float = 0.999,
        power: float = 0.5,
        legacy_weight_inside: bool = False,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(reduction=reduction, ignore_index=ignore_index)
        if not 0.0 <= focus < float("inf"):
            raise SettingError(f"Expected `focus` to be a finite number of at least 0, but got {focus!r}.")
        self.focus = float(focus)
        self.convex = self.focus == 0.0 and not legacy_weight_inside
        self.legacy_weight_inside = legacy_weight_inside
        self.class_weights = class_weights_tensor(class_weights, class_counts, class_names, beta, power)
        self.num_classes = None if self.class_weights is None else self.class_weights.numel()

    def values(self, logits: Tensor, target: Tensor, *, features: Tensor | None, group: Tensor | None) -> Tensor:
        """Per-row values ``(M,)``."""
        del features, group
        return focal_values(
            logits,
            target,
            self.focus,
            self.class_weights,
            weight_inside=self.legacy_weight_inside,
            ignore_index=self.ignore_index,
        )

    def batch_mean(self, logits: Tensor, target: Tensor, *, features: Tensor | None, group: Tensor | None) -> Tensor:
        """`batch_sum` over `denominator`, with the gradient computed along."""
        if self.legacy_weight_inside or not wants_compiled_gradient(logits):
            return super().batch_mean(logits, target, features=features, group=group)
        target, weight = self.row_weights(target, logits)

        def plain(scores: Tensor) -> Tensor:
            return torch.dot(focal_values(scores, target, self.focus), weight)

        def written(scores: Tensor) -> tuple[Tensor, Tensor]:
            return focal_with_gradient(scores, target, weight, self.focus)

        return sum_with_gradient(logits, target, plain, written)

    def batch_sum(self, logits: Tensor, target: Tensor, *, features: Tensor | None, group: Tensor | None) -> Tensor:
        """Sum of the values of the valid rows; the values of the others are 0 as they come."""
        del features, group
        factor, values = _factor_and_cross_entropy(
            logits,
            target,
            self.focus,
            self.class_weights,
            weight_inside=self.legacy_weight_inside,
            ignore_index=self.ignore_index,
        )
        return torch.dot(factor, values)
