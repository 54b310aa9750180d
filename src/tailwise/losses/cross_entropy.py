"""Cross-entropy (CE) and class-weighted cross-entropy (WCE).

    CE   l(z, y) = -log softmax(z)_y
    WCE  l(z, y) = -a_y log softmax(z)_y          a_j weight of class j

With label smoothing e the one-hot target is mixed with the uniform distribution, e / C per class.
Survey section 3.3. Values and gradients equal ``torch.nn.functional.cross_entropy``; differs from it in a batch without
valid row, whose loss is zero instead of not-a-number.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from tailwise.errors import SettingError
from tailwise.losses.base import Loss, Reduction
from tailwise.losses.class_weights import class_weights_tensor
from tailwise.losses.convex_forms import SoftmaxForm
from tailwise.losses.written_gradient import (
    SHORT_ROW,
    focal_with_gradient,
    sum_with_gradient,
    wants_compiled_gradient,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from tailwise.losses.class_weights import ClassWeights

__all__ = ["CrossEntropyLoss", "WeightedCrossEntropyLoss", "cross_entropy_values"]

_REDUCE_BY_SUM = 2  # at::Reduction
_LARGE = 2**16  # scores from which on memory traffic is most of the cost
_NO_TARGET = torch.iinfo(torch.int64).min  # in place of torch's default, -100, which would pass as a target


def cross_entropy_values(
    logits: Tensor, target: Tensor, weights: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """Per-row (weighted) cross-entropy.

    Args:
        logits: ``(M, C)``.
        target: class indices, ``(M,)``.
        weights: a_j, ``(C,)``, or None for ones.
        label_smoothing: e in [0, 1].

    Returns:
        ``(M,)``, same dtype as `logits`.
    """
    weights = None if weights is None else weights.to(logits.dtype)
    return functional.cross_entropy(
        logits, target, weight=weights, ignore_index=_NO_TARGET, reduction="none", label_smoothing=label_smoothing
    )


class CrossEntropyLoss(Loss):
    """Cross-entropy.

    Args:
        label_smoothing: e in [0, 1].
        reduction: see `Loss`.
        ignore_index: see `Loss`.

    A subclass whose values are the cross-entropy of changed logits overrides `adjusted`; one that does not change them
    by an affine function sets `convex` to False.
    """

    convex: bool = True

    def __init__(
        self, *, label_smoothing: float = 0.0, reduction: Reduction = "mean", ignore_index: int = -100
    ) -> None:
        super().__init__(reduction=reduction, ignore_index=ignore_index)
        if not 0.0 <= label_smoothing <= 1.0:
            raise SettingError(f"Expected `label_smoothing` to lie between 0 and 1, but got {label_smoothing!r}.")
        self.label_smoothing = label_smoothing

    def adjusted(self, logits: Tensor, target: Tensor) -> Tensor:
        """The logits whose cross-entropy is taken, ``(M, C)``; ignored rows of `target` hold any class."""
        del target
        return logits

    def values(self, logits: Tensor, target: Tensor, *, features: Tensor | None, group: Tensor | None) -> Tensor:
        """Per-row values ``(M,)``."""
        del features, group
        return cross_entropy_values(self.adjusted(logits, target), target, self.class_weights, self.label_smoothing)

    def softmax_form(self, num_classes: int) -> SoftmaxForm | None:
        """The values themselves; label smoothing adds e / C of each class to what a row asks for."""
        if self._adjusts:
            return None
        if not self.label_smoothing:
            return SoftmaxForm(weights=self.class_weights)
        given = self.class_weights
        weights = torch.ones(num_classes, dtype=torch.float64) if given is None else given
        share = self.label_smoothing
        return SoftmaxForm(weights=(1.0 - share) * weights, smoothing=share / num_classes * weights)

    def batch_sum(self, logits: Tensor, target: Tensor, *, features: Tensor | None, group: Tensor | None) -> Tensor:
        """Sum of the values of the valid rows, without the rows in between."""
        del features, group
        weights = None if self.class_weights is None else self.class_weights.to(logits.dtype)
        return functional.cross_entropy(
            self.adjusted(logits, target),
            target,
            weight=weights,
            ignore_index=self.ignore_index,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )

    def batch_mean(self, logits: Tensor, target: Tensor, *, features: Tensor | None, group: Tensor | None) -> Tensor:
        """`batch_sum` over `denominator`, both from one pass over the rows where they share it."""
        weighted = self.class_weights is not None
        if self.label_smoothing or (weighted and self.reduction == "mean"):
            return super().batch_mean(logits, target, features=features, group=group)
        if (
            self._adjusts
            and (logits.shape[1] <= SHORT_ROW or logits.numel() >= _LARGE)
            and wants_compiled_gradient(logits)
        ):
            return self._compiled_batch_mean(logits, target)
        weights = self.cast("class_weights", logits) if weighted else None
        adjusted = self.adjusted(logits, target)
        if logits.is_cpu and not torch.compiler.is_compiling():
            mean = functional.cross_entropy(adjusted, target, weights, ignore_index=self.ignore_index)
            if not math.isnan(mean.item()):
                return mean
        log_probabilities = functional.log_softmax(adjusted, dim=1)
        total, denominator = _nll_sum(log_probabilities, target, weights, self.ignore_index)
        return total / denominator.clamp_min(torch.finfo(total.dtype).tiny)

    @property
    def _adjusts(self) -> bool:
        """Whether the logits are changed first, so that the cross-entropy of PyTorch is not all that is to be done."""
        return type(self).adjusted is not CrossEntropyLoss.adjusted

    @property
    def _only_shifts(self) -> bool:
        """Whether `adjusted` adds to the logits what does not depend on them."""
        return False

    def _compiled_batch_mean(self, logits: Tensor, target: Tensor) -> Tensor:
        target, weight = self.row_weights(target, logits)
        # What is only shifted has the gradient of the logits themselves, and needs no graph for the shift.
        adjust = self.adjusted if self._only_shifts else _unchanged

        def plain(scores: Tensor) -> Tensor:
            return torch.dot(cross_entropy_values(adjust(scores, target), target), weight)

        def written(scores: Tensor) -> tuple[Tensor, Tensor]:
            return focal_with_gradient(adjust(scores, target), target, weight, 0.0)

        inputs = logits if self._only_shifts else self.adjusted(logits, target)
        return sum_with_gradient(inputs, target, plain, written)


def _unchanged(logits: Tensor, target: Tensor) -> Tensor:
    del target
    return logits


def _nll_sum(
    log_probabilities: Tensor, target: Tensor, weights: Tensor | None, ignore_index: int
) -> tuple[Tensor, Tensor]:
    """Sum of the weighted negative log-likelihoods of the valid rows, and the sum of their weights.

    The functional interface of PyTorch keeps the second to itself.
    """
    found: tuple[Tensor, Tensor] = torch.ops.aten.nll_loss_forward.default(
        log_probabilities, target, weights, _REDUCE_BY_SUM, ignore_index
    )
    return found


class WeightedCrossEntropyLoss(CrossEntropyLoss):
    """Cross-entropy with one weight per class.

    Args:
        class_weights: a rule (``"balanced"``, ``"effective_number"``, ...), a mapping by class name, one number per
            class, or None; see `tailwise.losses.class_weights`.
        class_counts: training instances per class, for rules.
        class_names: names of the classes, for a mapping and for messages.
        beta: of the rule ``"effective_number"``.
        power: of the rule ``"inverse_power"``.
        label_smoothing: e in [0, 1].
        reduction: see `Loss`; the default divides by the sum of the weights of the targets, as PyTorch does.
        ignore_index: see `Loss`.
    """

    def __init__(
        self,
        class_weights: ClassWeights = "balanced",
        *,
        class_counts: ArrayLike | None = None,
        class_names: Sequence[str] | None = None,
        beta: float = 0.999,
        power: float = 0.5,
        label_smoothing: float = 0.0,
        reduction: Reduction = "weighted_mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(label_smoothing=label_smoothing, reduction=reduction, ignore_index=ignore_index)
        self.class_weights = class_weights_tensor(class_weights, class_counts, class_names, beta, power)
        self.num_classes = None if self.class_weights is None else self.class_weights.numel()
