"""Focal loss over several labels per row.

    l(z, y) = a y (1 - p)^f s(-z) + (1 - a) (1 - y) p^f s(z),       p = sigmoid(z),  s(z) = log(1 + exp(z))
    star:     (a y s(-f z) + (1 - a) (1 - y) s(f z)) / f

f >= 0 focus (2), a in (0, 1) weight of the positives; without it both terms weigh 1.

Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, eq. 5; the star form is FL* of its appendix, with its
offset 0. Survey section 3.3. Differs from the paper in the default, which leaves a out (0.25 there); a = 0.5, as in
Huang et al., Balancing Methods for Multi-label Text Classification with Long-Tailed Class Distribution, EMNLP 2021,
halves the loss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from tailwise.errors import SettingError
from tailwise.losses.binary_cross_entropy import (
    binary_cross_entropy_sum,
    binary_cross_entropy_values,
    label_entries,
    softplus,
    with_odds_times,
)
from tailwise.losses.convex_forms import SigmoidForm
from tailwise.losses.multilabel import LabelwiseLoss, MultiLabelReduction
from tailwise.losses.written_gradient import sum_with_gradient

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "MultiLabelFocalLoss",
    "checked_alpha",
    "checked_focus",
    "focal_softplus",
    "focal_softplus_and_slope",
    "multilabel_focal_sum",
    "multilabel_focal_values",
    "multilabel_focal_values_and_slopes",
]


def focal_softplus(scores: Tensor, focus: float) -> Tensor:
    """p^f log(1 + exp(z)), p = sigmoid(z): the focal value of an absent label; of a present one with -z for z.

    The factor is computed as ``exp(f logsigmoid(z))``, finite in value and slope for every f >= 0.
    """
    values = -functional.logsigmoid(-scores)
    return values * torch.exp(focus * functional.logsigmoid(scores)) if focus else values


def focal_softplus_and_slope(scores: Tensor, focus: float) -> tuple[Tensor, Tensor]:
    """`focal_softplus` and its derivative, p^f (p + f (1 - p) log(1 + exp(z))), in fresh tensors."""
    probability, values = torch.sigmoid(scores), softplus(scores)
    if not focus:
        return values, probability
    slope = torch.lerp(values * focus, torch.ones_like(values[:1]), probability)
    factor = probability.pow_(focus)
    return values.mul_(factor), slope.mul_(factor)


def multilabel_focal_values(logits: Tensor, target: Tensor, focus: float = 2.0, alpha: float | None = None) -> Tensor:
    """Focal loss per row and label.

    Args:
        logits: ``(M, C)``.
        target: 0 to 1, ``(M, C)``, in the type of the logits.
        focus: f >= 0; 0 gives binary cross-entropy.
        alpha: weight a of the positives, 1 - a of the negatives; None for ones.

    Returns:
        ``(M, C)``, same dtype as `logits`.
    """
    present, absent = (1.0, 1.0) if alpha is None else (alpha, 1.0 - alpha)
    positive = present * target * focal_softplus(-logits, focus)
    return positive + absent * (1.0 - target) * focal_softplus(logits, focus)


def multilabel_focal_sum(logits: Tensor, target: Tensor, focus: float = 2.0, alpha: float | None = None) -> Tensor:
    """Sum of `multilabel_focal_values`, with the gradient computed along; the arguments are the same."""
    absent = 1.0 if alpha is None else 1.0 - alpha

    def plain(scores: Tensor) -> Tensor:
        return multilabel_focal_values(scores, target, focus, alpha).sum() / absent

    def written(scores: Tensor) -> tuple[Tensor, Tensor]:
        values, slopes = multilabel_focal_values_and_slopes(scores, target, focus, alpha)
        return values.sum(), slopes

    # The weight of the many negatives is taken out: it costs a pass over all entries inside, and nothing here.
    total = sum_with_gradient(logits, target, plain, written)
    return total if alpha is None else total * absent


def multilabel_focal_values_and_slopes(
    logits: Tensor, target: Tensor, focus: float = 2.0, alpha: float | None = None
) -> tuple[Tensor, Tensor]:
    """`multilabel_focal_values` and their derivatives, both over 1 - a, the weight of the negatives.

    Args:
        logits: ``(M, C)``, contiguous, on the CPU, without graph.
        target: 0 to 1, ``(M, C)``, in the type of the logits.
        focus: f >= 0.
        alpha: weight a of the positives, 1 - a of the negatives; None for ones.

    Returns:
        Values and derivatives, ``(M, C)`` each, in fresh tensors.
    """
    odds = 1.0 if alpha is None else alpha / (1.0 - alpha)
    values, slopes = focal_softplus_and_slope(logits, focus)
    entry, _, label = label_entries(target)
    value, slope = focal_softplus_and_slope(-logits.take(entry), focus)
    values.put_(entry, torch.addcmul(odds * label * value, 1.0 - label, values.take(entry)))
    slopes.put_(entry, torch.addcmul(-odds * label * slope, 1.0 - label, slopes.take(entry)))
    return values, slopes


def checked_focus(focus: float) -> float:
    """The focus as a float.

    Raises:
        SettingError: negative or not finite.
    """
    if not 0.0 <= focus < float("inf"):
        raise SettingError(f"Expected `focus` to be a finite number of at least 0, but got {focus!r}.")
    return float(focus)


def checked_alpha(alpha: float | None) -> float | None:
    """The weight of the positives as a float, or None.

    Raises:
        SettingError: not strictly between 0 and 1.
    """
    if alpha is not None and not 0.0 < alpha < 1.0:
        raise SettingError(
            f"Expected `alpha`, the weight of the positives, to lie between 0 and 1, or None, but got {alpha!r}."
        )
    return None if alpha is None else float(alpha)


class MultiLabelFocalLoss(LabelwiseLoss):
    """Focal loss: entries that are right count less, so the many easy negatives do not drown the positives.

    Args:
        focus: f >= 0; larger forgets easy entries faster. 0 gives binary cross-entropy; the star form needs f > 0.
        alpha: weight a of the positives, 1 - a of the negatives, between 0 and 1; None weighs both 1.
        star: the form FL*, which sharpens the scores instead of weighting the entries.
        reduction: see `MultiLabelLoss`.
        ignore_index: see `MultiLabelLoss`.

    Raises:
        SettingError: a focus or an alpha out of range.
    """

    def __init__(
        self,
        focus: float = 2.0,
        *,
        alpha: float | None = None,
        star: bool = False,
        reduction: MultiLabelReduction = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(reduction=reduction, ignore_index=ignore_index)
        self.focus, self.alpha, self.star = checked_focus(focus), checked_alpha(alpha), star
        if star and focus == 0:
            raise SettingError("Expected `focus` to be larger than 0 in the star form, whose scores it multiplies.")
        if star:
            self.inference_scale = self.focus
        self.convex = star or self.focus == 0.0

    def label_values(self, logits: Tensor, target: Tensor, *, valid: Tensor | None) -> Tensor:
        """Values ``(M, C)``."""
        del valid
        if not self.star:
            return multilabel_focal_values(logits, target, self.focus, self.alpha)
        odds, scale = self._star_weights(logits)
        return scale * binary_cross_entropy_values(self.focus * logits, target, positive_weights=odds)

    def label_sum(self, logits: Tensor, target: Tensor) -> Tensor:
        """Sum of the values, with the gradient computed along."""
        if not self.star:
            return multilabel_focal_sum(logits, target, self.focus, self.alpha)
        odds, scale = self._star_weights(logits)
        return scale * binary_cross_entropy_sum(self.focus * logits, target, positive_weights=odds)

    def sigmoid_form(self) -> SigmoidForm | None:
        """The star form, and focus 0. Any other focus is not convex: it bends where an entry is very wrong."""
        if not self.convex:
            return None
        scale = self.focus if self.star else 1.0
        present, absent = (1.0, 1.0) if self.alpha is None else (self.alpha, 1.0 - self.alpha)
        positive, negative = (torch.tensor(weight / scale, dtype=torch.float64) for weight in (present, absent))
        return SigmoidForm(positive, negative, scale)

    def effective_prior(self, prior: Tensor) -> Tensor:
        """The rate of each label that the fitted logits express, ``(C,)``: odds times a / (1 - a).

        The focus also draws probabilities towards 1/2, which is left out: it is not a matter of the prior.
        """
        return prior if self.alpha is None else with_odds_times(prior, self.alpha / (1.0 - self.alpha))

    def _star_weights(self, logits: Tensor) -> tuple[Tensor | None, float]:
        if self.alpha is None:
            return None, 1.0 / self.focus
        odds = logits.new_full((logits.shape[1],), self.alpha / (1.0 - self.alpha))
        return odds, (1.0 - self.alpha) / self.focus
