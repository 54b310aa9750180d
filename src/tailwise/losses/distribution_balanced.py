"""Distribution-balanced loss (DB) and its parts.

    l_ij = r_ij (a y (1 - q)^f s(-(z_j - v_j)) + (1 - a) (1 - y) q'^f s(k (z_j - v_j)) / k),   s(z) = log(1 + exp(z))
    q = sigmoid(z_j - v_j),  q' = sigmoid(k (z_j - v_j)),  v_j = kappa log(N / n_j - 1)
    r_ij = map_alpha + sigmoid(map_beta ((1 / n_j) / sum_l y_il / n_l - map_gamma))

f focus (2), a weight of the positives (0.5), k negative scale (2), kappa logit bias (0.05), n_j of N training rows with
label j. r_ij re-balances: a row with several labels is drawn more often than any one of them asks for. v_j and k make
the loss tolerant of negatives (NTR): below v_j the push downwards fades k times as fast.

Wu et al., Distribution-Balanced Loss for Multi-label Classification in Long-Tailed Datasets, ECCV 2020; for text Huang
et al., Balancing Methods for Multi-label Text Classification with Long-Tailed Class Distribution, EMNLP 2021. Survey
section 3.3. Differs from the papers in nothing. The code of Huang et al. leaves out the 1 / k where there is no r_ij
(`legacy_ntr` does too) and changes the caller's logits. The code of Wu et al. divides v_j by k (`bias_over_scale`) and
weighs both terms by 2 under the focus (``alpha=None, loss_weight=2``).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tailwise.errors import SettingError, UnknownNameError
from tailwise.losses.binary_cross_entropy import label_entries, label_odds
from tailwise.losses.class_weights import as_counts, effective_number_weights, positive_counts
from tailwise.losses.focal_multilabel import checked_alpha, checked_focus, focal_softplus, focal_softplus_and_slope
from tailwise.losses.multilabel import LabelwiseLoss, MultiLabelReduction
from tailwise.losses.written_gradient import sum_with_gradient
from tailwise.registry import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor

__all__ = [
    "DB_VARIANTS",
    "REWEIGHTINGS",
    "DistributionBalancedLoss",
    "distribution_balanced_sum",
    "distribution_balanced_values",
    "rebalanced_weights",
]

_EFFECTIVE_NUMBER: dict[str, Any] = {"reweighting": "effective_number", "beta": 0.9, "loss_weight": 10.0}
_TOLERANT: dict[str, Any] = {"logit_bias": 0.05, "negative_scale": 2.0}
_NOT_TOLERANT: dict[str, Any] = {"logit_bias": 0.0, "negative_scale": 1.0}

#: the losses of Huang et al. by their names there, as arguments of `DistributionBalancedLoss`; settings for Reuters
DB_VARIANTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "r-fl": {"reweighting": "rebalance", **_NOT_TOLERANT},
        "ntr-fl": {"reweighting": None, **_TOLERANT},
        "db-0fl": {"reweighting": "rebalance", **_TOLERANT, "focus": 0.0, "alpha": None, "loss_weight": 0.5},
        "cb-fl": {**_EFFECTIVE_NUMBER, **_NOT_TOLERANT},
        "cb-ntr": {**_EFFECTIVE_NUMBER, **_TOLERANT},
        "db": {"reweighting": "rebalance", **_TOLERANT},
    }
)

#: values of `reweighting`
REWEIGHTINGS = (
    "rebalance",
    "effective_number",
    "effective_number_of_mean_count",
    "mean_effective_number",
    "inverse",
    "inverse_sqrt",
)

_FEWEST = 1e-30  # of labels in a row, so that a row without one has a finite share
_FARTHEST = 60.0  # log-odds of rates next to 0 and 1
_HALVINGS = 64


def rebalanced_weights(
    target: Tensor, inverse_counts: Tensor, map_alpha: float = 0.1, map_beta: float = 10.0, map_gamma: float = 0.9
) -> Tensor:
    """Weights r_ij that make up for drawing rows with several labels, ``(M, C)``.

    Args:
        target: 0 to 1, ``(M, C)``. A row without a label gets map_alpha + 1, the limit.
        inverse_counts: 1 / n_j, ``(C,)``.
        map_alpha: smallest weight.
        map_beta: steepness of the map.
        map_gamma: share of the row at which the weight is map_alpha + 1/2. Huang et al. take what is common in the
            data: the mean of mean and median over all pairs of a row and one of its labels.
    """
    share = map_beta / (target @ inverse_counts).clamp_min(_FEWEST)
    return torch.outer(share, inverse_counts).sub_(map_beta * map_gamma).sigmoid_().add_(map_alpha)


def effective_number_of_mean_count(target: Tensor, counts: Tensor, beta: float) -> Tensor:
    """(1 - b) / (1 - b^n) with n the mean count of the labels of a row, ``(M, 1)``; 1 - b without a label."""
    labels = target.sum(dim=1)
    mean = (target @ counts) / labels.clamp_min(_FEWEST)
    effective = -torch.expm1(mean * float(np.log(beta))) if beta else torch.ones_like(mean)
    return ((1.0 - beta) / effective).where(labels > 0, 1.0 - beta)[:, None]


def mean_effective_number(target: Tensor, weights: Tensor, beta: float) -> Tensor:
    """Mean class weight (1 - b) / (1 - b^n_j) of the labels of a row, ``(M, 1)``; 1 - b without a label."""
    labels = target.sum(dim=1)
    return ((target @ weights) / labels.clamp_min(_FEWEST)).where(labels > 0, 1.0 - beta)[:, None]


def distribution_balanced_values(
    logits: Tensor,
    target: Tensor,
    *,
    weights: Tensor | None = None,
    bias: Tensor | None = None,
    negative_scale: float = 1.0,
    focus: float = 0.0,
    alpha: float | None = None,
    legacy_ntr: bool = False,
) -> Tensor:
    """Distribution-balanced loss per row and label, without the loss weight.

    Args:
        logits: ``(M, C)``.
        target: 0 to 1, ``(M, C)``, in the type of the logits.
        weights: r_ij, ``(M, C)`` or of a shape that expands to it; None for ones.
        bias: v_j, ``(C,)``; None for zeros.
        negative_scale: k > 0.
        focus: f >= 0.
        alpha: weight a of the positives, 1 - a of the negatives; None for ones.
        legacy_ntr: leave out the 1 / k of the negatives.

    Returns:
        ``(M, C)``, same dtype as `logits`.
    """
    present, absent = _term_weights(alpha, negative_scale, legacy_ntr=legacy_ntr)
    scores = logits if bias is None else logits - bias
    values = present * target * focal_softplus(-scores, focus)
    values = values + absent * (1.0 - target) * focal_softplus(negative_scale * scores, focus)
    return values if weights is None else values * weights


def distribution_balanced_sum(
    logits: Tensor,
    target: Tensor,
    *,
    weights: Tensor | None = None,
    bias: Tensor | None = None,
    negative_scale: float = 1.0,
    focus: float = 0.0,
    alpha: float | None = None,
    legacy_ntr: bool = False,
    loss_weight: float = 1.0,
) -> Tensor:
    """Sum of `distribution_balanced_values` times `loss_weight`, with the gradient computed along.

    The other arguments are the same.
    """
    present, absent = _term_weights(alpha, negative_scale, legacy_ntr=legacy_ntr)
    unit = absent * negative_scale  # taken out, so that the many negatives have the slope they come with
    gain = present / unit

    def plain(scores: Tensor) -> Tensor:
        values = distribution_balanced_values(
            scores,
            target,
            weights=weights,
            bias=bias,
            negative_scale=negative_scale,
            focus=focus,
            alpha=alpha,
            legacy_ntr=legacy_ntr,
        )
        return values.sum() / unit

    def written(scores: Tensor) -> tuple[Tensor, Tensor]:
        entry, column, label = label_entries(target)
        raised = -scores.take(entry) if bias is None else bias[column] - scores.take(entry)
        values, slopes = focal_softplus_and_slope(_sharpened(scores, bias, negative_scale), focus)
        value, slope = focal_softplus_and_slope(raised, focus)
        pull = gain * label
        values.put_(entry, torch.addcmul(pull * negative_scale * value, 1.0 - label, values.take(entry)))
        slopes.put_(entry, torch.addcmul(-pull * slope, 1.0 - label, slopes.take(entry)))
        if weights is not None:
            values, slopes = values.mul_(weights), slopes.mul_(weights)
        return values.sum() / negative_scale, slopes

    return sum_with_gradient(logits, target, plain, written) * (unit * loss_weight)


def _sharpened(scores: Tensor, bias: Tensor | None, negative_scale: float) -> Tensor:
    """Scores k (z - v), in one pass."""
    if bias is not None:
        return torch.add(-negative_scale * bias, scores, alpha=negative_scale)
    return scores if negative_scale == 1.0 else scores * negative_scale


def _term_weights(alpha: float | None, negative_scale: float, *, legacy_ntr: bool) -> tuple[float, float]:
    present, absent = (1.0, 1.0) if alpha is None else (alpha, 1.0 - alpha)
    return present, absent if legacy_ntr else absent / negative_scale


class DistributionBalancedLoss(LabelwiseLoss):
    """Focal loss, re-balanced for labels that come together, and tolerant of negatives; each part can be left out.

    `DB_VARIANTS` names the combinations of Huang et al. Plain focal loss is ``reweighting=None, logit_bias=0,
    negative_scale=1``, and binary cross-entropy the same with ``focus=0, alpha=None``. At prediction the raw scores
    decide, without bias and scale.

    Args:
        class_counts: training rows with each label, after re-sampling what the sampler draws of them; a label without
            one is treated as if it had one.
        num_rows: all training rows, not label assignments; the bias and the inverse rules need it.
        reweighting: ``"rebalance"``, r_ij above; ``"effective_number"``, a weight by label as in class-balanced losses;
            ``"mean_effective_number"``, the mean of those over the labels of a row;
            ``"effective_number_of_mean_count"``, that of their mean count; ``"inverse"``, N / n_j;
            ``"inverse_sqrt"``, its root; or None. Nothing is normalised: `loss_weight` makes up for it.
        focus: f >= 0; 0 leaves the focus out.
        alpha: weight a of the positives, 1 - a of the negatives, between 0 and 1; None weighs both 1.
        logit_bias: kappa; 0 leaves the bias out.
        negative_scale: k > 0; 1 leaves the scale out.
        map_alpha: of r_ij, >= 0.
        map_beta: of r_ij, >= 0.
        map_gamma: of r_ij; depends on the data (0.9 for Reuters, 0.05 for PubMed), see `rebalanced_weights`.
        beta: b of the effective number, in [0, 1); with 0.9 only labels with fewer than about 40 rows differ.
        divide_by_row_max: divide the weights of each row by their largest.
        loss_weight: multiplies the loss.
        legacy_ntr: without re-weighting, leave out the 1 / k of the negatives, as the code of Huang et al. does.
        bias_over_scale: divide the bias by k, as the code of Wu et al. does.
        training_counts: n_j of r_ij, distinct training rows with each label; None takes `class_counts`.
        class_names: names of the labels, for messages.
        reduction: see `MultiLabelLoss`.
        ignore_index: see `MultiLabelLoss`.

    Raises:
        UnknownNameError: an unknown `reweighting`.
        SettingError: counts that do not fit, an argument out of range.
    """

    bias: Tensor | None
    label_weights: Tensor | None
    counts: Tensor

    def __init__(
        self,
        class_counts: ArrayLike,
        num_rows: int | None = None,
        *,
        reweighting: str | None = "rebalance",
        focus: float = 2.0,
        alpha: float | None = 0.5,
        logit_bias: float = 0.05,
        negative_scale: float = 2.0,
        map_alpha: float = 0.1,
        map_beta: float = 10.0,
        map_gamma: float = 0.9,
        beta: float = 0.9,
        divide_by_row_max: bool = False,
        loss_weight: float = 1.0,
        legacy_ntr: bool = False,
        bias_over_scale: bool = False,
        training_counts: ArrayLike | None = None,
        class_names: Sequence[str] | None = None,
        reduction: MultiLabelReduction = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(reduction=reduction, ignore_index=ignore_index)
        self.focus, self.alpha = checked_focus(focus), checked_alpha(alpha)
        self.negative_scale = _checked("negative_scale", negative_scale, positive=True)
        self.loss_weight = _checked("loss_weight", loss_weight, positive=True)
        self.map_alpha, self.map_beta = _checked("map_alpha", map_alpha), _checked("map_beta", map_beta)
        self.map_gamma, self.logit_bias = float(map_gamma), float(logit_bias)
        for name in ("map_gamma", "logit_bias"):
            if not np.isfinite(getattr(self, name)):
                raise SettingError(f"Expected `{name}` to be finite, but got {getattr(self, name)!r}.")
        if not 0.0 <= beta < 1.0:
            raise SettingError(f"Expected `beta` to lie in [0, 1), but got {beta!r}.")
        if reweighting is not None and reweighting not in REWEIGHTINGS:
            raise UnknownNameError(
                f"Unknown re-weighting {reweighting!r}. {did_you_mean(str(reweighting), REWEIGHTINGS)}"
            )
        self.reweighting, self.beta, self.divide_by_row_max = reweighting, float(beta), divide_by_row_max
        self.legacy_ntr = legacy_ntr and reweighting is None
        needs_rows = logit_bias != 0 or reweighting in ("inverse", "inverse_sqrt")
        odds = label_odds(class_counts, num_rows, class_names) if needs_rows else None
        given = as_counts(class_counts, class_names)
        counts = positive_counts(given, class_names) if odds is None else np.where(given == 0, 1.0, given)
        known = counts
        if training_counts is not None:
            known = as_counts(training_counts, class_names, "training_counts")
            known = np.where(known == 0, 1.0, known)
        if known.size != counts.size:
            raise SettingError(f"Got {known.size} `training_counts` for {counts.size} labels. Give one per label.")
        self.num_classes = counts.size
        self.convex = self.focus == 0.0
        self.register_buffer("counts", torch.from_numpy(counts))
        self.register_buffer("inverse_counts", torch.from_numpy(1.0 / known))
        self.register_buffer("label_weights", _as_buffer(_label_weights(reweighting, counts, num_rows, self.beta)))
        shift = self.logit_bias / self.negative_scale if bias_over_scale else self.logit_bias
        self.register_buffer("bias", _as_buffer(shift * np.log(odds) if odds is not None and shift else None))

    def weights(self, target: Tensor, valid: Tensor | None = None) -> Tensor | None:
        """Weights r_ij ``(M, C)``, or of a shape that expands to it; None for ones.

        Args:
            target: 0 to 1, 0 where unknown, ``(M, C)``.
            valid: known entries, bool ``(M, C)``, or None where all are.
        """
        if self.reweighting is None:
            return None
        with torch.autocast(target.device.type, enabled=False):  # counts want more than three digits
            weights = self._undivided_weights(target)
        if not self.divide_by_row_max:
            return weights
        weights = weights.expand_as(target)
        known = weights if valid is None else weights.where(valid, 0.0)
        largest = known.amax(dim=1, keepdim=True)
        return weights / largest.where(largest > 0, 1.0)  # a row of unknown labels keeps its own

    def _undivided_weights(self, target: Tensor) -> Tensor:
        if self.reweighting == "rebalance":
            inverse = self.cast("inverse_counts", target)
            return rebalanced_weights(target, inverse, self.map_alpha, self.map_beta, self.map_gamma)
        if self.reweighting == "effective_number_of_mean_count":
            return effective_number_of_mean_count(target, self.cast("counts", target), self.beta)
        weights = self.cast("label_weights", target)
        if self.reweighting == "mean_effective_number":
            return mean_effective_number(target, weights, self.beta)
        return weights

    def label_values(self, logits: Tensor, target: Tensor, *, valid: Tensor | None) -> Tensor:
        """Values ``(M, C)``."""
        return self.loss_weight * distribution_balanced_values(
            logits, target, weights=self.weights(target, valid), **self._settings(logits)
        )

    def label_sum(self, logits: Tensor, target: Tensor) -> Tensor:
        """Sum of the values, with the gradient computed along."""
        return distribution_balanced_sum(
            logits, target, weights=self.weights(target), loss_weight=self.loss_weight, **self._settings(logits)
        )

    def effective_prior(self, prior: Tensor) -> Tensor:
        """The rate of each label that the fitted logits express, ``(C,)``, for scores that tell rows not apart.

        Bias, scale and alpha count; focus and weights by row do not, which depend on more than the prior. The scores
        u = z - v solve q a sigmoid(-u) = (1 - q) a' k sigmoid(k u), q the prior, a' the weight of the negatives;
        by bisection, for all labels at once.
        """
        present, absent = _term_weights(self.alpha, self.negative_scale, legacy_ntr=self.legacy_ntr)
        low, high = torch.full_like(prior, -_FARTHEST), torch.full_like(prior, _FARTHEST)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            pull = prior * present * torch.sigmoid(-middle)
            push = (1.0 - prior) * absent * self.negative_scale * torch.sigmoid(self.negative_scale * middle)
            low, high = torch.where(pull > push, middle, low), torch.where(pull > push, high, middle)
        scores = (low + high) / 2
        return torch.sigmoid(scores if self.bias is None else scores + self.bias.to(prior))

    def _settings(self, logits: Tensor) -> dict[str, Any]:
        return {
            "bias": None if self.bias is None else self.cast("bias", logits),
            "negative_scale": self.negative_scale,
            "focus": self.focus,
            "alpha": self.alpha,
            "legacy_ntr": self.legacy_ntr,
        }


def _label_weights(
    reweighting: str | None, counts: NDArray[np.float64], num_rows: int | None, beta: float
) -> NDArray[np.float64] | None:
    if reweighting in ("effective_number", "mean_effective_number"):
        return effective_number_weights(counts, beta)
    if reweighting in ("inverse", "inverse_sqrt") and num_rows is not None:
        ratio: NDArray[np.float64] = num_rows / counts
        return ratio if reweighting == "inverse" else np.sqrt(ratio)
    return None


def _as_buffer(values: NDArray[np.float64] | None) -> Tensor | None:
    return None if values is None else torch.from_numpy(values)


def _checked(name: str, value: float, *, positive: bool = False) -> float:
    wanted = "larger than 0" if positive else "of at least 0"
    if not (value > 0 if positive else value >= 0) or value == float("inf"):
        raise SettingError(f"Expected `{name}` to be a finite number {wanted}, but got {value!r}.")
    return float(value)
