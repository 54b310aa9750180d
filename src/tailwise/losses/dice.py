"""Dice losses: of one instance, and of a batch.

    instance   l(z, y) = a_y sum_j 1 - (2 p_j y_j + g) / (p_j^2 + y_j^2 + g)                        p = softmax(z)
    batch      L = mean_j 1 - (2 sum_i p_ij y_ij + g) / (sum_i p_ij^2 + sum_i y_ij^2 + g)

g smooth (1), a class weights (none); the form that is not squared has p and y in place of p^2 and y^2.
Milletari et al., V-Net, 3DV 2016 (batch); Li et al., Dice Loss for Data-imbalanced NLP Tasks, ACL 2020, eq. 7
(instance). Survey section 3.3, Table 1. The batch form is a soft macro-F1. Both are bounded, and confidently wrong rows
receive next to no gradient: start from cross-entropy, or add it (`tailwise.losses.WeightedSumLoss`).
Differs from the paper in nothing. The squared multi-class branch of the code of Li et al. is `DiceLoss`; its branch
with one output per row is `pooled_dice` of one column. Its multi-class branch that is not squared divides the overlap
of one row by sums over the batch, so that the loss grows to C with the batch, and is not offered.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch

from tailwise.errors import SettingError
from tailwise.losses.base import Loss, Reduction
from tailwise.losses.batchwise import BatchLoss
from tailwise.losses.class_ratios import RatioSetting, mean_class_ratio
from tailwise.losses.class_weights import class_weights_tensor
from tailwise.losses.dice_gradient import DiceSetting, instance_dice_with_gradient
from tailwise.losses.written_gradient import sum_with_gradient, wants_compiled_gradient

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike
    from torch import Tensor

    from tailwise.losses.class_weights import ClassWeights

__all__ = [
    "Absent",
    "BatchDiceLoss",
    "Classes",
    "DiceLoss",
    "checked_choice",
    "checked_smooth",
    "dice_of_scores",
    "dice_values",
    "pooled_dice",
]

Classes = Literal["all", "gold"]
Absent = Literal["ignore", "penalise"]


def dice_of_scores(scores: Tensor, column: Tensor, squared: bool, smooth: float, classes: Classes) -> Tensor:
    """Instance dice of scores f in [0, 1]: (1 - f_y)^k / (f_y^k + 1 + g) + sum_{j != y} f_j^k / (f_j^k + g).

    k is 2 or 1. These quotients are those of the module's formula with nothing left to cancel.

    Args:
        scores: f, ``(M, C)``.
        column: class indices, ``(M, 1)``.
        squared: k = 2.
        smooth: g > 0.
        classes: ``"all"``, or ``"gold"`` for the first term alone.

    Returns:
        ``(M,)``, same dtype as `scores`.
    """
    gold = scores.gather(1, column).squeeze(1)
    miss = 1.0 - gold
    values = miss.square() / (gold.square() + (1.0 + smooth)) if squared else miss / (gold + (1.0 + smooth))
    if classes == "gold":
        return values
    others = scores.scatter(1, column, 0.0)
    others = others.square() if squared else others
    return values + (others / (others + smooth)).sum(dim=1)


def dice_values(
    logits: Tensor,
    target: Tensor,
    *,
    squared: bool = True,
    smooth: float = 1.0,
    classes: Classes = "all",
    weights: Tensor | None = None,
) -> Tensor:
    """Per-row instance dice.

    Args:
        logits: ``(M, C)``.
        target: class indices, ``(M,)``.
        squared: squares in the denominator.
        smooth: g > 0.
        classes: sum over all classes, or the term of the target alone.
        weights: a_j, ``(C,)``, or None for ones.

    Returns:
        ``(M,)``, same dtype as `logits`.
    """
    values = dice_of_scores(torch.softmax(logits, dim=1), target[:, None], squared, smooth, classes)
    return values if weights is None else values * weights.to(values.dtype).index_select(0, target)


class DiceLoss(Loss):
    """Instance dice: the overlap of the predicted and the true distribution of each row.

    Args:
        squared: squares in the denominator, as every released script of Li et al. has it.
        smooth: g > 0; smaller makes errors of the other classes cost more.
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
        *,
        squared: bool = True,
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
        self.squared, self.smooth = squared, checked_smooth(smooth)
        self.classes: Classes = checked_choice("classes", classes, Classes)
        self.class_weights = class_weights_tensor(class_weights, class_counts, class_names, beta, power)
        self.num_classes = None if self.class_weights is None else self.class_weights.numel()

    def values(self, logits: Tensor, target: Tensor, *, features: Tensor | None, group: Tensor | None) -> Tensor:
        """Per-row values ``(M,)``."""
        del features, group
        return dice_values(
            logits,
            target,
            squared=self.squared,
            smooth=self.smooth,
            classes=self.classes,
            weights=self.class_weights,
        )

    def batch_mean(self, logits: Tensor, target: Tensor, *, features: Tensor | None, group: Tensor | None) -> Tensor:
        """`batch_sum` over `denominator`, with the gradient computed along."""
        if not wants_compiled_gradient(logits):
            return super().batch_mean(logits, target, features=features, group=group)
        target, weight = self.row_weights(target, logits)
        form = DiceSetting(self.squared, self.smooth, gold=self.classes == "gold")

        def plain(scores: Tensor) -> Tensor:
            values = dice_values(scores, target, squared=self.squared, smooth=self.smooth, classes=self.classes)
            return torch.dot(values, weight)

        def written(scores: Tensor) -> tuple[Tensor, Tensor]:
            return instance_dice_with_gradient(scores, target, weight, form)

        return sum_with_gradient(logits, target, plain, written)


def pooled_dice(
    probabilities: Tensor,
    positives: Tensor,
    *,
    squared: bool = True,
    smooth: float = 1.0,
    focus: float = 0.0,
    sample_weight: Tensor | None = None,
) -> Tensor:
    """Dice of every column over all rows, sum_i |f_i - y_i|^k / (sum_i f_i^k + sum_i y_i + g), f = (1 - p)^b p.

    The quotient is that of the module's formula; k is 2 or 1. With one column it is the binary branch of the code of
    Li et al.; rows that it masks, or mines away, are left out by the caller.

    Args:
        probabilities: p in [0, 1], ``(M, K)``.
        positives: y, 0 or 1, ``(M, K)``.
        squared: k = 2.
        smooth: g > 0.
        focus: b >= 0; 0 leaves p as it is.
        sample_weight: ``(M,)``, what each row counts in the sums, or None.

    Returns:
        ``(K,)``, same dtype as `probabilities`.
    """
    scores, truth = probabilities, positives.to(probabilities.dtype)
    if focus:
        # Next to p = 1 the slope of a fractional power is infinite; where 1 - p is 0 in the arithmetic at hand it is 0.
        scores = (1.0 - scores).clamp_min(torch.finfo(scores.dtype).tiny) ** focus * scores
    gaps = scores - truth
    gaps, sizes = (gaps.square(), scores.square() + truth) if squared else (gaps.abs(), scores + truth)
    if sample_weight is None:
        return gaps.sum(dim=0) / (sizes.sum(dim=0) + smooth)
    weight = sample_weight.to(scores.dtype)
    return weight @ gaps / (weight @ sizes + smooth)


class BatchDiceLoss(BatchLoss):
    """Batch dice: a soft macro-F1 of the batch.

    A batch should have 64 rows or more; the loss of a large batch is not the sum of the losses of its parts.

    Args:
        squared: squares in the denominator.
        smooth: g > 0.
        absent: of classes without a row in the batch: ``"ignore"`` leaves them out of the mean, ``"penalise"`` keeps
            them in, which pushes their probabilities down.
        reduction: see `BatchLoss`.
        ignore_index: see `Loss`.

    Raises:
        SettingError: a setting out of its range.
    """

    def __init__(
        self,
        *,
        squared: bool = True,
        smooth: float = 1.0,
        absent: Absent = "ignore",
        reduction: Reduction = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(reduction=reduction, ignore_index=ignore_index)
        self.squared, self.smooth = squared, checked_smooth(smooth)
        self.absent: Absent = checked_choice("absent", absent, Absent)

    def batch_value(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        features: Tensor | None,
        group: Tensor | None,
        sample_weight: Tensor | None,
    ) -> Tensor:
        """The loss, a scalar; `sample_weight` multiplies the share of a row in every sum."""
        del features, group
        present_only = self.absent == "ignore"
        setting = RatioSetting(1.0, 1.0, 1.0, 0.0, 1.0, self.smooth, self.squared, 1.0, present_only)
        return mean_class_ratio(logits, target, sample_weight, setting)


def checked_smooth(smooth: float) -> float:
    """`smooth` as a float.

    Raises:
        SettingError: not a finite number above 0.
    """
    if not (math.isfinite(smooth) and smooth > 0.0):
        raise SettingError(
            f"Expected `smooth` to be a finite number above 0, without which a class at probability 0 gives 0 / 0, but "
            f"got {smooth!r}."
        )
    return float(smooth)


def checked_choice(name: str, value: Any, choices: Any) -> Any:
    """`value`, one of a ``Literal``.

    Raises:
        SettingError: another value.
    """
    if value not in get_args(choices):
        raise SettingError(
            f"Expected argument `{name}` to be one of {', '.join(get_args(choices))}, but got {value!r}."
        )
    return value
