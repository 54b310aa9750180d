"""Asymmetric loss (ASL): easy negatives weigh less than easy positives, and the easiest nothing.

    several labels    l = -y (1 - p)^f+ log p - (1 - y) q^f- log(1 - q),   p = sigmoid(z),   q = max(p - m, 0)
    one label         l = -sum_j t_j (1 - x_j)^f_j log p_j,   p = softmax(z)
                      x_j = p_j and f_j = f+ for the class of the row, x_j = 1 - p_j and f_j = f- for the others,
                      t the one-hot target smoothed by e

Ridnik et al., Asymmetric Loss For Multi-Label Classification, ICCV 2021, eq. 5 and 6; the form for one label is that of
the released code. Differs from the code in the reduction (a mean, theirs is the sum over everything), in the clamp of
the logarithm at log 1e-8, which is left out here so that the gradient of a badly wrong entry stays, and in that the
focusing weight belongs to the gradient. ``reduction="sum", detach_factor=True, legacy_clamp=True`` is the code.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from tailwise.errors import SettingError
from tailwise.losses.base import Loss
from tailwise.losses.binary_cross_entropy import label_entries
from tailwise.losses.multilabel import LabelwiseLoss
from tailwise.losses.written_gradient import sum_with_gradient

if TYPE_CHECKING:
    from torch import Tensor

    from tailwise.losses.base import Reduction
    from tailwise.losses.multilabel import MultiLabelReduction

__all__ = ["AsymmetricLoss", "AsymmetricSoftmaxLoss", "asymmetric_softmax_values", "asymmetric_values"]

_LEGACY_LEAST = math.log(1e-8)  # where the released code clamps logarithms


def asymmetric_values(
    logits: Tensor,
    target: Tensor,
    positive_focus: float = 1.0,
    negative_focus: float = 4.0,
    clip: float = 0.05,
    *,
    detach_factor: bool = False,
    legacy_clamp: bool = False,
) -> Tensor:
    """Per-row, per-label asymmetric loss.

    Args:
        logits: ``(M, C)``.
        target: 0 to 1, ``(M, C)``, in the type of the logits.
        positive_focus: f+ >= 0.
        negative_focus: f- >= 0.
        clip: m in [0, 1); one below the resolution of the type counts as the resolution.
        detach_factor: keep the focusing weights out of the gradient.
        legacy_clamp: no logarithm below log 1e-8, as the released code has it.

    Returns:
        ``(M, C)``, same dtype as `logits`.
    """
    tiny = torch.finfo(logits.dtype).tiny
    miss = torch.sigmoid(-logits)
    shifted = (torch.sigmoid(logits) - clip).clamp(0.0, _largest(clip, logits)) if clip else torch.sigmoid(logits)
    log_yes = functional.logsigmoid(logits)
    log_not = torch.log1p(-shifted) if clip else functional.logsigmoid(-logits)
    if legacy_clamp:
        log_yes, log_not = log_yes.clamp_min(_LEGACY_LEAST), log_not.clamp_min(_LEGACY_LEAST)
    # Powers next to 0 have gradients without bound for a focus below 1; the smallest normal number bounds them.
    present = miss.clamp_min(tiny) ** positive_focus if positive_focus else torch.ones_like(miss)
    absent = shifted.clamp_min(tiny) ** negative_focus if negative_focus else torch.ones_like(miss)
    if detach_factor:
        present, absent = present.detach(), absent.detach()
    return -target * present * log_yes - (1.0 - target) * absent * log_not


class AsymmetricLoss(LabelwiseLoss):
    """Positives and negatives focus for themselves; negatives of probability below `clip` cost nothing.

    Not aware of how often a label occurs. Moves the scores: tune the threshold.

    Args:
        positive_focus: f+ >= 0; 1 in the released code, 0 in the paper's recommendation.
        negative_focus: f- >= 0.
        clip: m in [0, 1), taken from the probability of negatives.
        detach_factor: keep the focusing weights out of the gradient, as the released code does by default.
        legacy_clamp: no logarithm below log 1e-8, as the released code has it; entries beyond have no gradient.
        reduction: see `MultiLabelLoss`; the released code sums.
        ignore_index: see `MultiLabelLoss`.
    """

    def __init__(
        self,
        positive_focus: float = 1.0,
        negative_focus: float = 4.0,
        clip: float = 0.05,
        *,
        detach_factor: bool = False,
        legacy_clamp: bool = False,
        reduction: MultiLabelReduction = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(reduction=reduction, ignore_index=ignore_index)
        self.positive_focus = _checked_focus("positive_focus", positive_focus)
        self.negative_focus = _checked_focus("negative_focus", negative_focus)
        if not 0.0 <= clip < 1.0:
            raise SettingError(f"Expected `clip` to lie in [0, 1), but got {clip!r}.")
        self.clip = float(clip)
        self.detach_factor = detach_factor
        self.gradient_of_values = not detach_factor
        self.legacy_clamp = legacy_clamp
        self.convex = not (self.positive_focus or self.negative_focus or self.clip or legacy_clamp)

    def label_values(self, logits: Tensor, target: Tensor, *, valid: Tensor | None) -> Tensor:
        """Values ``(M, C)``."""
        del valid
        return self._values_of(logits, target)

    def label_sum(self, logits: Tensor, target: Tensor) -> Tensor:
        """Sum of the values, with the gradient computed along."""
        if self.legacy_clamp or torch.is_inference_mode_enabled():  # which allows no gradient of the few with a label
            return super().label_sum(logits, target)

        def plain(scores: Tensor) -> Tensor:
            return self._values_of(scores, target).sum()

        return sum_with_gradient(logits, target, plain, lambda scores: self._written(scores, target))

    def _values_of(self, logits: Tensor, target: Tensor) -> Tensor:
        settings = self.positive_focus, self.negative_focus, self.clip
        return asymmetric_values(
            logits, target, *settings, detach_factor=self.detach_factor, legacy_clamp=self.legacy_clamp
        )

    def _written(self, scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The sum and its gradient: every entry as a negative, then the few with a label anew."""
        focus = self.negative_focus
        probability = torch.sigmoid(scores)
        shifted = (probability - self.clip).clamp_(0.0, _largest(self.clip, scores)) if self.clip else probability
        log_not = torch.log1p(-shifted) if self.clip else functional.logsigmoid(-scores)
        lower = _power(shifted, focus - 1.0) if focus else torch.zeros_like(shifted)  # q^(f-1)
        factor = lower * shifted if focus else torch.ones_like(shifted)
        entry, _, label = label_entries(target)
        # Entries with a label leave the sum before it is taken: subtracted afterwards, they would cost it its digits.
        factor.view(-1)[entry] = 0.0
        total = -torch.dot(factor.view(-1), log_not.view(-1))
        # d/dq of -q^f log(1 - q) is q^f / (1 - q) - f q^(f-1) log(1 - q), times dq/dz = p (1 - p) where q > 0.
        spread = lower.mul_(log_not).mul_(0.0 if self.detach_factor else -focus)
        if self.clip:
            slope = spread.addcdiv_(factor, 1.0 - shifted).mul_(probability).mul_(1.0 - probability)
        else:
            slope = spread.mul_(torch.sigmoid(-scores)).add_(factor).mul_(probability)
        if focus <= 1.0:
            slope = slope.where(shifted > 0, 0.0)
        if entry.numel():
            with torch.enable_grad():
                few = scores.take(entry).requires_grad_()
                values = self._values_of(few, label).sum()
                (gradient,) = torch.autograd.grad(values, few)
            total = total + values.detach()
            slope.view(-1)[entry] = gradient
        return total, slope


def _largest(clip: float, like: Tensor) -> float:
    """The largest probability after the clip; short of 1 in the type of `like`, so that log(1 - q) is finite."""
    return 1.0 - max(clip, torch.finfo(like.dtype).eps)


def _power(base: Tensor, exponent: float) -> Tensor:
    """A fresh tensor; zeros stay zeros for the small whole exponents that are usual."""
    if exponent not in (0.0, 1.0, 2.0, 3.0):
        base = base.clamp_min(torch.finfo(base.dtype).tiny)
    return base**exponent


def asymmetric_softmax_values(
    logits: Tensor,
    target: Tensor,
    positive_focus: float = 0.0,
    negative_focus: float = 4.0,
    label_smoothing: float = 0.1,
) -> Tensor:
    """Per-row asymmetric loss over a softmax.

    Args:
        logits: ``(M, C)``.
        target: class indices, ``(M,)``.
        positive_focus: f+ >= 0.
        negative_focus: f- >= 0.
        label_smoothing: e in [0, 1].

    Returns:
        ``(M,)``, same dtype as `logits`.
    """
    classes, tiny = logits.shape[1], torch.finfo(logits.dtype).tiny
    log_probability = functional.log_softmax(logits, dim=1)
    probability = log_probability.exp()
    own = torch.zeros_like(log_probability, dtype=torch.bool).scatter_(1, target[:, None], True)
    # What the power is taken of: 1 - p of the own class, p of the others.
    base = torch.where(own, -torch.expm1(log_probability), probability).clamp_min(tiny)
    focus = torch.where(own, positive_focus, negative_focus).to(logits.dtype)
    smoothed = own.to(logits.dtype) * (1.0 - label_smoothing) + label_smoothing / classes
    return -(smoothed * base**focus * log_probability).sum(dim=1)


class AsymmetricSoftmaxLoss(Loss):
    """The asymmetric loss for one label per row.

    Args:
        positive_focus: f+ >= 0.
        negative_focus: f- >= 0; acts through the smoothed part of the target alone.
        label_smoothing: e in [0, 1].
        reduction: see `Loss`.
        ignore_index: see `Loss`.
    """

    def __init__(
        self,
        positive_focus: float = 0.0,
        negative_focus: float = 4.0,
        *,
        label_smoothing: float = 0.1,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(reduction=reduction, ignore_index=ignore_index)
        self.positive_focus = _checked_focus("positive_focus", positive_focus)
        self.negative_focus = _checked_focus("negative_focus", negative_focus)
        if not 0.0 <= label_smoothing <= 1.0:
            raise SettingError(f"Expected `label_smoothing` to lie between 0 and 1, but got {label_smoothing!r}.")
        self.label_smoothing = label_smoothing
        self.convex = self.positive_focus == 0.0 and (self.negative_focus == 0.0 or label_smoothing == 0.0)

    def values(self, logits: Tensor, target: Tensor, *, features: Tensor | None, group: Tensor | None) -> Tensor:
        """Per-row values ``(M,)``."""
        del features, group
        settings = self.positive_focus, self.negative_focus, self.label_smoothing
        return asymmetric_softmax_values(logits, target, *settings)


def _checked_focus(name: str, value: float) -> float:
    if not 0.0 <= value < float("inf"):
        raise SettingError(f"Expected `{name}` to be a finite number of at least 0, but got {value!r}.")
    return float(value)
