"""Influence-balanced loss (IB).

    l(z, y, h) = a_y b (1 - p_y)^f (-log p_y),   b = s / ( |p - e_y|_1 |h|_1 + eps ),   p = softmax(z)

|p - e_y|_1 = 2 (1 - p_y) and the L1 norm of the features h that the head saw are the factors of a row's influence on
the head; rows of much influence, near the boundary, count less. s alpha (1000), eps (0.001), f focus (0), a class
weights, inverse to the counts.
Park et al., Influence-Balanced Loss for Imbalanced Visual Classification, ICCV 2021. Published after the survey.
It is meant for a second phase: train with cross-entropy for the first half of the steps, until it has converged, and
then with this loss. Differs from the paper in nothing; `detach_influence` is its reading as a weight of the row. In the
authors' code the gradient passes through b (``detach_influence=False``).

alpha only scales the loss. What fits depends on the encoder: with a pooled output of 768 numbers and norms near 500 the
default makes the factor of a row on the boundary near 1. `RescaledInfluenceBalancedLoss` does without alpha: the
factors are divided by their mean over the batch, for which the batch must be whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tailwise.errors import SettingError
from tailwise.losses.base import Loss, divided, widened
from tailwise.losses.batchwise import BatchLoss
from tailwise.losses.class_weights import class_weights_tensor
from tailwise.losses.cross_entropy import cross_entropy_values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from tailwise.losses.base import Reduction
    from tailwise.losses.class_weights import ClassWeights

__all__ = [
    "InfluenceBalancedLoss",
    "RescaledInfluenceBalancedLoss",
    "influence_balanced_values",
    "influence_factors",
]


def influence_factors(misses: Tensor, features: Tensor, alpha: float = 1000.0, eps: float = 1e-3) -> Tensor:
    """Factors of the rows, s / (2 (1 - p_y) |h|_1 + eps), ``(M,)``.

    Args:
        misses: 1 - p_y, ``(M,)``.
        features: h, ``(M, D)``.
        alpha: s > 0.
        eps: > 0.
    """
    norms = features.abs().sum(dim=1).to(misses.dtype)
    # A norm beyond the numbers would make a row without a miss 0 times infinity.
    influence = 2.0 * misses * norms.clamp_max(torch.finfo(norms.dtype).max)
    return torch.reciprocal(influence + eps) * alpha


def influence_balanced_values(
    logits: Tensor,
    target: Tensor,
    features: Tensor,
    alpha: float = 1000.0,
    eps: float = 1e-3,
    focus: float = 0.0,
    weights: Tensor | None = None,
    *,
    detach_influence: bool = True,
) -> Tensor:
    """Per-row influence-balanced values.

    Args:
        logits: ``(M, C)``.
        target: class indices, ``(M,)``.
        features: what the head saw, ``(M, D)``.
        alpha: s > 0.
        eps: > 0.
        focus: f >= 0.
        weights: a_j, ``(C,)``, or None for ones.
        detach_influence: take b as a constant in the gradient.

    Returns:
        ``(M,)``, same dtype as `logits`.
    """
    values, misses = _values_and_misses(logits, target, focus, weights)
    if detach_influence:
        misses, features = misses.detach(), features.detach()
    return values * influence_factors(misses, features, alpha, eps)


def _values_and_misses(logits: Tensor, target: Tensor, focus: float, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """Focal loss of the rows, and 1 - p_y, both ``(M,)``."""
    values = cross_entropy_values(logits, target)
    if focus:
        values = values.clamp_min(torch.finfo(values.dtype).tiny)
    misses = -torch.expm1(-values)
    values = values * misses**focus if focus else values
    if weights is not None:
        values = values * weights.to(values.dtype).index_select(0, target)
    return values, misses


class _InfluenceTotal(torch.autograd.Function):
    """sum_i w_i b_i v_i with the gradient written out, w_i b_i s_i (p - e_y), s = -dv / d log p_y; b is a constant.

        s = q^f (1 - f (log p_y / q) p_y),   q = 1 - p_y

    Where the gradient is to be differentiated again, the plain formula takes over, with the same b.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        target: Tensor,
        features: Tensor,
        weight: Tensor,
        alpha: float,
        eps: float,
        focus: float,
    ) -> Tensor:
        """Logits ``(M, C)``, class indices ``(M,)``, features ``(M, D)``, row weights ``(M,)``."""
        column = target[:, None]
        log_probabilities = torch.log_softmax(logits, dim=1)
        gold = log_probabilities.gather(1, column).squeeze(1)
        misses = -torch.expm1(gold)
        weight = weight * influence_factors(misses, features, alpha, eps)
        term = weight
        slope = weight
        if focus:
            term = weight * misses**focus
            slope = term * (1.0 - focus * (gold / misses.clamp_min(torch.finfo(gold.dtype).tiny)) * (1.0 - misses))
        ctx.save_for_backward(log_probabilities, column, slope, misses, logits, weight)
        ctx.focus = focus
        return -torch.dot(term, gold)

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor, None, None, None, None, None, None]:
        """Gradient w b s (p - e_y), in the column of the target -w b s q."""
        log_probabilities, column, slope, misses, logits, weight = ctx.saved_tensors
        if torch.is_grad_enabled():
            total = torch.dot(_values_and_misses(logits, column.squeeze(1), ctx.focus, None)[0], weight)
            result = torch.autograd.grad(total, logits, gradient[0], create_graph=True)[0]
        else:
            slope = slope * gradient[0]
            result = log_probabilities.exp().mul_(slope[:, None])
            result = result.scatter_(1, column, (-slope * misses)[:, None])
        return result, None, None, None, None, None, None


def _check_numbers(**positive: float) -> None:
    for name, number in positive.items():
        low = number >= 0.0 if name == "focus" else number > 0.0
        if not (low and number < float("inf")):
            bound = "of at least 0" if name == "focus" else "larger than 0"
            raise SettingError(f"Expected `{name}` to be a finite number {bound}, but got {number!r}.")


class InfluenceBalancedLoss(Loss):
    """Cross-entropy in which rows of much influence on the decision boundary count less.

    The factors act on rows. Of the class distribution that the scores express only the class weights are known, and
    `effective_prior` says no more.

    Args:
        alpha: s > 0; a scale of the whole loss.
        eps: > 0, keeps the factor of a fitted row at alpha / eps at most; the results depend on it.
        focus: f >= 0; 1 is the authors' focal variant.
        detach_influence: take the factor as a constant in the gradient; False as in the authors' code. Gradients reach
            alpha / eps where features vanish, and with False alpha / eps^2: beyond float16, if the logits are that.
        class_weights: a rule, a mapping by class name, one number per class, or None; see
            `tailwise.losses.class_weights`. The paper's are inverse to the counts.
        class_counts: training instances per class, for rules.
        class_names: names of the classes, for a mapping and for messages.
        beta: of the rule ``"effective_number"``.
        power: of the rule ``"inverse_power"``.
        reduction: see `Loss`.
        ignore_index: see `Loss`.

    Raises:
        UnknownNameError: an unknown class-weight rule or class name.
        SettingError: a number out of its range, or a rule without counts.
    """

    requires_features: bool = True

    def __init__(
        self,
        alpha: float = 1000.0,
        *,
        eps: float = 1e-3,
        focus: float = 0.0,
        detach_influence: bool = True,
        class_weights: ClassWeights = "balanced",
        class_counts: ArrayLike | None = None,
        class_names: Sequence[str] | None = None,
        beta: float = 0.999,
        power: float = 0.5,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(reduction=reduction, ignore_index=ignore_index)
        _check_numbers(alpha=alpha, eps=eps, focus=focus)
        self.alpha, self.eps, self.focus = float(alpha), float(eps), float(focus)
        self.detach_influence = detach_influence
        self.class_weights = class_weights_tensor(class_weights, class_counts, class_names, beta, power)
        self.num_classes = None if self.class_weights is None else self.class_weights.numel()

    def values(self, logits: Tensor, target: Tensor, *, features: Tensor | None, group: Tensor | None) -> Tensor:
        """Per-row values ``(M,)``."""
        del group
        assert features is not None  # `forward` has checked it
        return influence_balanced_values(
            logits,
            target,
            widened(features),
            self.alpha,
            self.eps,
            self.focus,
            self.class_weights,
            detach_influence=self.detach_influence,
        )

    def batch_mean(self, logits: Tensor, target: Tensor, *, features: Tensor | None, group: Tensor | None) -> Tensor:
        """`batch_sum` over `denominator`, in one function where the influence is a constant."""
        if not self.detach_influence or not logits.is_cpu or torch.compiler.is_compiling():
            return super().batch_mean(logits, target, features=features, group=group)
        assert features is not None  # `forward` has checked it
        target, weight = self.row_weights(target, logits)
        setting = self.alpha, self.eps, self.focus
        total: Tensor = _InfluenceTotal.apply(logits, target, widened(features.detach()), weight, *setting)  # type: ignore[no-untyped-call]
        return total


class RescaledInfluenceBalancedLoss(BatchLoss):
    """`InfluenceBalancedLoss` with the mean factor of the batch 1, whatever the norm of the features.

        L = sum_i u_i a_i v_i / sum_i u_i,   v focal loss of the row, u influence factor, a constant in the gradient

    alpha cancels. Rows that all have the same influence give the mean of weighted cross-entropy.

    Args:
        eps: > 0, on the scale of the influences; see `InfluenceBalancedLoss`, as the arguments below.
        focus: f >= 0.
        class_weights: inverse to the counts by default.
        class_counts: training instances per class, for rules.
        class_names: names of the classes.
        beta: of the rule ``"effective_number"``.
        power: of the rule ``"inverse_power"``.
        reduction: ``"mean"`` over the rows.
        ignore_index: see `Loss`.

    Raises:
        UnknownNameError: an unknown class-weight rule or class name.
        SettingError: a number out of its range, or a rule without counts.
    """

    requires_features: bool = True

    def __init__(
        self,
        *,
        eps: float = 1e-3,
        focus: float = 0.0,
        class_weights: ClassWeights = "balanced",
        class_counts: ArrayLike | None = None,
        class_names: Sequence[str] | None = None,
        beta: float = 0.999,
        power: float = 0.5,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(reduction=reduction, ignore_index=ignore_index)
        _check_numbers(eps=eps, focus=focus)
        self.eps, self.focus = float(eps), float(focus)
        self.class_weights = class_weights_tensor(class_weights, class_counts, class_names, beta, power)
        self.num_classes = None if self.class_weights is None else self.class_weights.numel()

    def batch_value(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        features: Tensor | None,
        group: Tensor | None,
        sample_weight: Tensor | None,
    ) -> Tensor:
        """Mean of the values of the rows, a scalar; a row of sample weight 2 counts as two rows."""
        del group
        assert features is not None  # `forward` has checked it
        values, misses = _values_and_misses(logits, target, self.focus, self.class_weights)
        factors = influence_factors(misses.detach(), features.detach(), 1.0, self.eps)
        if sample_weight is not None:
            factors = factors * sample_weight.to(factors.dtype)
        return divided((factors * values).sum(), factors.sum())
