"""Poly-1 loss (PolyLoss).

    l(z, y) = a_y ( -(1 - p_y)^f log p_y + e (1 - p_y)^(f + 1) ),   p = softmax(z)

e epsilon (1), f focus (0, which is poly-1 cross-entropy), a class weights (none).
Leng et al., PolyLoss: A Polynomial Expansion Perspective of Classification Loss Functions, ICLR 2022. Cross-entropy is
the series sum_k (1 - p_y)^k / k; the loss changes the coefficient of its first term to 1 + e. Positive e makes the
scores more confident, negative e less. Published after the survey. Differs from the paper in the class weights, which
act on both terms; common ports weigh the first one only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from tailwise.errors import SettingError
from tailwise.losses.base import Loss, Reduction
from tailwise.losses.class_weights import class_weights_tensor
from tailwise.losses.cross_entropy import cross_entropy_values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike
    from torch import Tensor

    from tailwise.losses.class_weights import ClassWeights

__all__ = ["PolyLoss", "poly_values"]


def poly_values(
    logits: Tensor, target: Tensor, epsilon: float = 1.0, focus: float = 0.0, weights: Tensor | None = None
) -> Tensor:
    """Per-row poly-1 values, a_y q^f (c + e q) with c the cross-entropy of the row and q = 1 - exp(-c).

    A row with p = 1 in the arithmetic at hand has c = 0; under a focus it is clamped to the smallest normal number,
    where a fractional power is finite.

    Args:
        logits: ``(M, C)``.
        target: class indices, ``(M,)``.
        epsilon: e >= -1; 0 gives (weighted) cross-entropy or focal loss.
        focus: f >= 0.
        weights: a_j, ``(C,)``, or None for ones.

    Returns:
        ``(M,)``, same dtype as `logits`.
    """
    values = cross_entropy_values(logits, target)
    if focus:
        values = values.clamp_min(torch.finfo(values.dtype).tiny)
    misses = -torch.expm1(-values)
    values = values + epsilon * misses if epsilon else values
    values = misses**focus * values if focus else values
    return values if weights is None else values * weights.to(values.dtype).index_select(0, target)


class _PolyTotal(torch.autograd.Function):
    """sum_i w_i l_i with the gradient written out, w_i s_i (p - e_y), s = -dl / d log p_y.

        s = q^f (1 - f (log p_y / q) p_y + e (f + 1) p_y),   q = 1 - p_y

    Next to p = 1 the quotient tends to -1 and q^f to 0, so a focus below 1 is finite there too. Where the gradient is
    to be differentiated again, the plain formula takes over.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, weight: Tensor, epsilon: float, focus: float) -> Tensor:
        """Logits ``(M, C)``, class indices ``(M,)``, row weights ``(M,)``."""
        column = target[:, None]
        log_probabilities = torch.log_softmax(logits, dim=1)
        gold = log_probabilities.gather(1, column).squeeze(1)
        misses = -torch.expm1(gold)
        hits = 1.0 - misses
        slope = 1.0 + epsilon * (focus + 1.0) * hits
        if focus:
            weight_of_term = weight * misses**focus
            slope = slope - focus * (gold / misses.clamp_min(torch.finfo(gold.dtype).tiny)) * hits
        else:
            weight_of_term = weight
        ctx.save_for_backward(log_probabilities, column, slope * weight_of_term, misses, logits, weight)
        ctx.setting = epsilon, focus
        return torch.dot(weight_of_term, epsilon * misses - gold)

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        """Gradient w s (p - e_y), in the column of the target -w s q."""
        log_probabilities, column, slope, misses, logits, weight = ctx.saved_tensors
        if torch.is_grad_enabled():
            total = torch.dot(poly_values(logits, column.squeeze(1), *ctx.setting), weight)
            return torch.autograd.grad(total, logits, gradient[0], create_graph=True)[0], None, None, None, None
        slope = slope * gradient[0]
        result = log_probabilities.exp().mul_(slope[:, None])
        return result.scatter_(1, column, (-slope * misses)[:, None]), None, None, None, None


class PolyLoss(Loss):
    """Cross-entropy or focal loss with a stronger or weaker linear term.

    Args:
        epsilon: e >= -1; 0 leaves the loss as it is, 1 to 2 is usual, below 0 makes for less confident scores.
        focus: f >= 0; 0 starts from cross-entropy, larger from focal loss.
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
        SettingError: a number out of its range.
    """

    def __init__(
        self,
        epsilon: float = 1.0,
        *,
        focus: float = 0.0,
        class_weights: ClassWeights = None,
        class_counts: ArrayLike | None = None,
        class_names: Sequence[str] | None = None,
        beta: float = 0.999,
        power: float = 0.5,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(reduction=reduction, ignore_index=ignore_index)
        if not -1.0 <= epsilon < float("inf"):
            raise SettingError(
                f"Expected `epsilon` to be a finite number of at least -1, below which the loss rewards misses, but "
                f"got {epsilon!r}."
            )
        if not 0.0 <= focus < float("inf"):
            raise SettingError(f"Expected `focus` to be a finite number of at least 0, but got {focus!r}.")
        self.epsilon, self.focus = float(epsilon), float(focus)
        # The curvature of c + e (1 - p_y) along scores that move class y alone is p_y (1 - p_y) (1 - e (1 - 2 p_y)).
        self.convex = self.focus == 0.0 and self.epsilon <= 1.0
        self.class_weights = class_weights_tensor(class_weights, class_counts, class_names, beta, power)
        self.num_classes = None if self.class_weights is None else self.class_weights.numel()

    def values(self, logits: Tensor, target: Tensor, *, features: Tensor | None, group: Tensor | None) -> Tensor:
        """Per-row values ``(M,)``."""
        del features, group
        return poly_values(logits, target, self.epsilon, self.focus, self.class_weights)

    def batch_mean(self, logits: Tensor, target: Tensor, *, features: Tensor | None, group: Tensor | None) -> Tensor:
        """`batch_sum` over `denominator`, in one function."""
        if not logits.is_cpu or torch.compiler.is_compiling():
            return super().batch_mean(logits, target, features=features, group=group)
        target, weight = self.row_weights(target, logits)
        total: Tensor = _PolyTotal.apply(logits, target, weight, self.epsilon, self.focus)  # type: ignore[no-untyped-call]
        return total
