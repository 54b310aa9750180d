"""Self-adjusting dice loss (ADL; DSC in the paper).

    l(z, y) = a_y sum_j 1 - (2 f_j y_j + g) / (f_j + y_j + g),   f_j = (1 - p_j)^b p_j,   p = softmax(z)

b focus (0.01), g smooth (1), a class weights (none).
Li et al., Dice Loss for Data-imbalanced NLP Tasks, ACL 2020, eq. 9. Survey section 3.3, Table 1.
Differs from the paper in the focus, which is 1 there and 0.01 in every released script of its authors, and in taking
the factor (1 - p)^b as a constant where the focus is above 0.1. Differentiated through, the loss of the target is
smallest at p = 1 / (1 + b) and not at p = 1: with b = 1 a row at p = 0.9 costs as much as one at p = 0.1, and with two
classes the loss does not depend on the label. ``focus=1, detach_factor=False`` is the letter of the paper;
``squared=True, detach_factor=False`` the multi-class branch of its code; ``classes="gold", detach_factor=False`` the
third-party module of fursovia, which Subramanian et al. (EMNLP 2021) use too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from tailwise.errors import SettingError
from tailwise.losses.base import Loss, Reduction
from tailwise.losses.class_weights import class_weights_tensor
from tailwise.losses.dice import Classes, checked_choice, checked_smooth, dice_of_scores, gold_slopes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike
    from torch import Tensor

    from tailwise.losses.class_weights import ClassWeights

__all__ = ["SelfAdjustingDiceLoss", "self_adjusting_dice_values"]


def self_adjusting_dice_values(
    logits: Tensor,
    target: Tensor,
    focus: float = 0.01,
    *,
    detach_factor: bool = False,
    squared: bool = False,
    smooth: float = 1.0,
    classes: Classes = "all",
    weights: Tensor | None = None,
) -> Tensor:
    """Per-row self-adjusting dice.

    Args:
        logits: ``(M, C)``.
        target: class indices, ``(M,)``.
        focus: b >= 0; 0 gives the instance dice.
        detach_factor: no gradient through (1 - p)^b.
        squared: squares in the denominator.
        smooth: g > 0.
        classes: sum over all classes, or the term of the target alone.
        weights: a_j, ``(C,)``, or None for ones.

    Returns:
        ``(M,)``, same dtype as `logits`.
    """
    probabilities = torch.softmax(logits, dim=1)
    scores = probabilities
    if focus:
        # Logarithm and exponential take a third of the time of a power.
        factor = torch.exp(focus * torch.log(_misses(probabilities)))
        scores = (factor.detach() if detach_factor else factor) * probabilities
    values = dice_of_scores(scores, target[:, None], squared, smooth, classes)
    return values if weights is None else values * weights.to(values.dtype).index_select(0, target)


def _misses(probabilities: Tensor) -> Tensor:
    """1 - p, exact next to p = 1, where it is the sum of the other probabilities, and never 0.

    Under a focus near 0 the factor (1 - p)^b is far from 0 even where 1 - p is below the precision of p.
    """
    top = probabilities.detach().max(dim=1, keepdim=True).indices
    rest = probabilities.scatter(1, top, 0.0).sum(dim=1, keepdim=True)
    return (1.0 - probabilities).scatter(1, top, rest).clamp_min(torch.finfo(probabilities.dtype).tiny)


class _SelfAdjustingDiceTotal(torch.autograd.Function):
    """sum_i w_i l_i of the term of the target, with the gradient written out.

    With h = w dl/df f (1 - b p_y / q), q = 1 - p_y as the sum of the others, the gradient is h (e_y - p), in the column
    of the target h q. The subtrahend falls away where the factor is a constant. Where the gradient is to be
    differentiated again, the plain formula takes over.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, weight: Tensor, *setting: Any) -> Tensor:
        """Logits ``(M, C)``, class indices ``(M,)``, row weights ``(M,)``; focus, detach_factor, squared, smooth."""
        focus, _, squared, smooth = setting
        column = target[:, None]
        probabilities = torch.softmax(logits, dim=1)
        gold = probabilities.gather(1, column)
        others = probabilities.scatter_(1, column, 0.0)
        misses = others.sum(dim=1, keepdim=True)
        scores = misses.clamp_min(torch.finfo(gold.dtype).tiny) ** focus * gold
        ctx.save_for_backward(others, gold, misses, scores, column, weight, logits)
        ctx.setting = setting
        values = dice_of_scores(scores, torch.zeros_like(column), squared, smooth, "gold")
        return torch.dot(values, weight)

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor, None, None, None, None, None, None]:
        """Of the logits."""
        others, gold, misses, scores, column, weight, logits = ctx.saved_tensors
        focus, detach_factor, squared, smooth = ctx.setting
        if torch.is_grad_enabled():
            plain = self_adjusting_dice_values(
                logits,
                column.squeeze(1),
                focus,
                detach_factor=detach_factor,
                squared=squared,
                smooth=smooth,
                classes="gold",
            )
            result = torch.autograd.grad(torch.dot(plain, weight), logits, gradient[0], create_graph=True)[0]
            return result, None, None, None, None, None, None
        push = gold_slopes(scores, squared, smooth) * scores * (weight * gradient[0])[:, None]
        if focus and not detach_factor:
            tiny = torch.finfo(gold.dtype).tiny
            push = push * (1.0 - focus * gold / misses.clamp_min(tiny)).where(misses >= tiny, 1.0)
        return (others * -push).scatter_(1, column, push * misses), None, None, None, None, None, None


class SelfAdjustingDiceLoss(Loss):
    """Instance dice in which confident classes count less.

    Args:
        focus: b >= 0; 0 gives the instance dice.
        detach_factor: take (1 - p)^b as a constant, which keeps the smallest loss at p = 1; None does so where the
            focus is above 0.1.
        squared: squares in the denominator.
        smooth: g > 0, between 1e-4 and 1.
        classes: ``"all"`` sums over the classes, as the survey's Table 1 does; ``"gold"`` takes the term of the target
            alone.
        class_weights: a rule, a mapping by class name, one number per class, or None; see
            `tailwise.losses.class_weights`.
        class_counts: training instances per class, for rules.
        class_names: names of the classes, for a mapping and for messages.
        beta: of the rule ``"effective_number"``.
        power: of the rule ``"inverse_power"``.
        reduction: see `Loss`.
        ignore_index: see `Loss`.

    Raises:
        UnknownNameError: an unknown class-weight rule or class name.
        SettingError: a setting out of its range.
    """

    def __init__(
        self,
        focus: float = 0.01,
        *,
        detach_factor: bool | None = None,
        squared: bool = False,
        smooth: float = 1.0,
        classes: Classes = "all",
        class_weights: ClassWeights = None,
        class_counts: ArrayLike | None = None,
        class_names: Sequence[str] | None = None,
        beta: float = 0.999,
        power: float = 0.5,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(reduction=reduction, ignore_index=ignore_index)
        if not 0.0 <= focus < float("inf"):
            raise SettingError(f"Expected `focus` to be a finite number of at least 0, but got {focus!r}.")
        self.focus = float(focus)
        self.detach_factor = focus > 0.1 if detach_factor is None else bool(detach_factor)
        self.squared, self.smooth = squared, checked_smooth(smooth)
        self.classes: Classes = checked_choice("classes", classes, Classes)
        self.class_weights = class_weights_tensor(class_weights, class_counts, class_names, beta, power)
        self.num_classes = None if self.class_weights is None else self.class_weights.numel()

    def values(self, logits: Tensor, target: Tensor, *, features: Tensor | None, group: Tensor | None) -> Tensor:
        """Per-row values ``(M,)``."""
        del features, group
        return self_adjusting_dice_values(
            logits,
            target,
            self.focus,
            detach_factor=self.detach_factor,
            squared=self.squared,
            smooth=self.smooth,
            classes=self.classes,
            weights=self.class_weights,
        )

    def batch_mean(self, logits: Tensor, target: Tensor, *, features: Tensor | None, group: Tensor | None) -> Tensor:
        """`batch_sum` over `denominator`, in one function for the term of the target alone."""
        if self.classes == "all" or not logits.is_cpu or torch.compiler.is_compiling():
            return super().batch_mean(logits, target, features=features, group=group)
        target, weight = self.row_weights(target, logits)
        total: Tensor = _SelfAdjustingDiceTotal.apply(  # type: ignore[no-untyped-call]
            logits, target, weight, self.focus, self.detach_factor, self.squared, self.smooth
        )
        return total
