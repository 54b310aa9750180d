"""Focal loss balanced over labels by what each costs at the moment.

    l_ij  = focal loss, see `tailwise.losses.focal_multilabel`
    m_j   = mean_i l_ij over the batch,   S_j <- k m_j + (1 - k) S_j,   S_j = 1 / C at first
    w_j   = (1 / (S_j + 1e-5)) / sum_l 1 / (S_l + 1e-5)
    loss  = C mean_ij w_j l_ij            the gradient flows through l only

k smoothing (0.05); with k = 1 every label costs the same in each batch.

Yilmaz et al., Multi-Label Sentiment Analysis on 100 Languages with Dynamic Weighting for Label Imbalance, TNNLS 2021.
Survey section 3.3. Differs from the paper in the factor C, without which the loss would be C times smaller than the
focal loss (`rescale`), and in a cap on the weights, as a label that costs nothing would take all of it (`cap`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tailwise.errors import SettingError
from tailwise.losses.base import divided
from tailwise.losses.binary_cross_entropy import with_odds_times
from tailwise.losses.class_weights import as_size
from tailwise.losses.focal_multilabel import (
    checked_alpha,
    checked_focus,
    multilabel_focal_values,
    multilabel_focal_values_and_slopes,
)
from tailwise.losses.multilabel import MultiLabelLoss
from tailwise.losses.written_gradient import sum_with_gradient

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["BatchBalancedFocalLoss", "loss_balancing_weights"]

_FLOOR = 1e-5  # of a label's loss, as in the paper


def loss_balancing_weights(label_losses: Tensor, cap: float | None = None) -> Tensor:
    """Weights w_j in inverse proportion to what each label costs; they sum to 1 before the cap, ``(C,)``.

    Args:
        label_losses: S_j >= 0, ``(C,)``; infinite for labels to leave out.
        cap: largest weight, in multiples of the mean weight, or None.
    """
    inverse = 1.0 / (label_losses + _FLOOR)
    weights = inverse / inverse.sum().clamp_min(torch.finfo(inverse.dtype).tiny)
    return weights if cap is None else weights.minimum(cap / (inverse > 0).sum().clamp_min(1))


class BatchBalancedFocalLoss(MultiLabelLoss):
    """Focal loss whose label weights follow the current loss of each label.

    It equalises labels, not positives and negatives: a rare label that is easy, being nearly always absent, gets a
    large weight, and with it its negatives. The weights of a batch depend on all its rows, so that its parts do not add
    up; in training on several devices each balances its own rows.

    The smoothed losses are part of the state. They follow the batches in training mode with gradients enabled, and are
    used as they are otherwise; with ``smoothing=1`` there are none, and each batch balances itself.

    Args:
        num_classes: C, the number of labels.
        focus: f >= 0 of the focal loss.
        alpha: weight of the positives in the focal loss, between 0 and 1, or None.
        smoothing: k in (0, 1], share of the newest batch.
        rescale: multiply by C.
        cap: largest weight in multiples of the mean weight, at least 1, or None.
        ignore_index: see `MultiLabelLoss`; a label unknown in the whole batch keeps its smoothed loss, as does one
            whose loss is not finite.

    Raises:
        SettingError: an argument out of range.
    """

    separable: bool = False
    label_losses: Tensor | None

    def __init__(
        self,
        num_classes: int,
        focus: float = 2.0,
        *,
        alpha: float | None = None,
        smoothing: float = 0.05,
        rescale: bool = True,
        cap: float | None = 10.0,
        ignore_index: int = -100,
    ) -> None:
        super().__init__(ignore_index=ignore_index)
        num_classes = as_size(num_classes, "num_classes")
        if not 0.0 < smoothing <= 1.0:
            raise SettingError(f"Expected `smoothing` to lie above 0 and be at most 1, but got {smoothing!r}.")
        if cap is not None and not cap >= 1.0:
            raise SettingError(f"Expected `cap` to be at least 1, the mean weight, or None, but got {cap!r}.")
        self.num_classes = num_classes
        self.focus, self.alpha = checked_focus(focus), checked_alpha(alpha)
        self.smoothing, self.rescale, self.cap = float(smoothing), rescale, cap
        self.stateful = smoothing < 1.0
        start = torch.full((num_classes,), 1.0 / num_classes, dtype=torch.float64) if self.stateful else None
        self.register_buffer("label_losses", start)

    def batch_value(
        self,
        logits: Tensor,
        target: Tensor,
        valid: Tensor | None,
        *,
        features: Tensor | None,
        group: Tensor | None,
        sample_weight: Tensor | None,
    ) -> Tensor:
        """The loss, a scalar: mean of w_j l_ij over the known entries."""
        del features, group
        if (
            valid is None
            and sample_weight is None
            and logits.is_cpu
            and not (target.requires_grad or torch.compiler.is_compiling())
        ):
            return self._batch_value_with_gradient(logits, target)
        values = multilabel_focal_values(logits, target, self.focus, self.alpha)
        values = values if valid is None else values.where(valid, 0.0)
        rows = logits.new_ones(logits.shape[0]) if sample_weight is None else sample_weight
        sums = rows @ values
        counts = rows.sum().expand_as(sums) if valid is None else rows @ valid.to(rows.dtype)
        weights = self._weights(sums.detach(), counts)
        labels = (weights > 0).sum() if self.rescale else 1
        entries = counts.sum()
        return (weights * sums).sum() * labels / entries.where(entries > 0, 1.0)

    def effective_prior(self, prior: Tensor) -> Tensor:
        """The rate of each label that the fitted logits express, ``(C,)``: odds times a / (1 - a)."""
        return prior if self.alpha is None else with_odds_times(prior, self.alpha / (1.0 - self.alpha))

    def _batch_value_with_gradient(self, logits: Tensor, target: Tensor) -> Tensor:
        """`batch_value` of a batch in which all is known and every row weighs 1, with the gradient computed along."""
        absent = 1.0 if self.alpha is None else 1.0 - self.alpha
        values, slopes = self._values_and_slopes(logits, target)
        sums = values.sum(dim=0) * absent
        weights = self._weights(sums, torch.full_like(sums, logits.shape[0]))
        total = (weights * sums).sum() / absent
        prepared = [slopes]  # for the first pass; a second one through the graph computes them anew

        def plain(scores: Tensor) -> Tensor:
            return (multilabel_focal_values(scores, target, self.focus, self.alpha) * weights).sum() / absent

        def written(scores: Tensor) -> tuple[Tensor, Tensor]:
            fresh = prepared.pop() if prepared else self._values_and_slopes(scores, target)[1]
            return total.clone(), fresh.mul_(weights)

        labels = (weights > 0).sum() if self.rescale else 1
        return divided(sum_with_gradient(logits, target, plain, written) * labels * absent, float(logits.numel()))

    def _values_and_slopes(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        return multilabel_focal_values_and_slopes(logits.detach().contiguous(), target, self.focus, self.alpha)

    def _weights(self, sums: Tensor, counts: Tensor) -> Tensor:
        """Weights for the loss of each label in the batch, its sum and its number of known entries, ``(C,)``."""
        means = sums / counts.clamp_min(torch.finfo(sums.dtype).tiny)
        if self.label_losses is None:
            return loss_balancing_weights(means.where(counts > 0, float("inf")), self.cap)
        if self.training and torch.is_grad_enabled():
            smoothed = torch.lerp(self.label_losses, means.to(self.label_losses), self.smoothing)
            self.label_losses.copy_(smoothed.where((counts > 0) & smoothed.isfinite(), self.label_losses))
        return loss_balancing_weights(self.label_losses, self.cap).to(means)
