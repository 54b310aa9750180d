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

from typing import TYPE_CHECKING

import torch

from tailwise.errors import SettingError
from tailwise.losses.base import Loss, Reduction
from tailwise.losses.class_weights import class_weights_tensor
from tailwise.losses.dice import Classes, checked_choice, checked_smooth, dice_of_scores
from tailwise.losses.dice_gradient import DiceSetting, instance_dice_with_gradient
from tailwise.losses.written_gradient import sum_with_gradient, wants_compiled_gradient

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
        self.gradient_of_values = not (self.detach_factor and self.focus)
        self.squared, self.smooth = squared, checked_smooth(smooth)
        self.classes: Classes = checked_choice("classes", classes, Classes)
        self.class_weights = class_weights_tensor(class_weights, class_counts, class_names, beta, power)
        self.num_classes = None if self.class_weights is None else self.class_weights.numel()

    def values(self, logits: Tensor, target: Tensor, *, features: Tensor | None, group: Tensor | None) -> Tensor:
        """Per-row values ``(M,)``."""
        del features, group
        values = self._values_of(logits, target)
        return values if self.class_weights is None else values * self.cast("class_weights", logits)[target]

    def _values_of(self, logits: Tensor, target: Tensor) -> Tensor:
        return self_adjusting_dice_values(
            logits,
            target,
            self.focus,
            detach_factor=self.detach_factor,
            squared=self.squared,
            smooth=self.smooth,
            classes=self.classes,
        )

    def batch_mean(self, logits: Tensor, target: Tensor, *, features: Tensor | None, group: Tensor | None) -> Tensor:
        """`batch_sum` over `denominator`, with the gradient computed along."""
        if not wants_compiled_gradient(logits):
            return super().batch_mean(logits, target, features=features, group=group)
        target, weight = self.row_weights(target, logits)
        gold = self.classes == "gold"
        form = DiceSetting(self.squared, self.smooth, gold, self.focus, self.detach_factor)

        def plain(scores: Tensor) -> Tensor:
            return torch.dot(self._values_of(scores, target), weight)

        def written(scores: Tensor) -> tuple[Tensor, Tensor]:
            return instance_dice_with_gradient(scores, target, weight, form)

        return sum_with_gradient(logits, target, plain, written)
