"""Binary cross-entropy over several labels per row, plain, with class weights and with positive weights.

    BCE      l(z, y) = y s(-z) + (1 - y) s(z),                       s(z) = log(1 + exp(z))
    WBCE     l_j(z, y) = a_j (y s(-z) + (1 - y) s(z))                a_j weight of label j
    PW-BCE   l_j(z, y) = w_j y s(-z) + (1 - y) s(z)                  w_j weight of the positives of label j
             w_j = ((N - n_j) / n_j)^a                               N training rows, n_j of them with label j

Weighted as by Yang et al., HSCNN: A Hybrid-Siamese CNN for Extremely Imbalanced Multi-label Text Classification, EMNLP
2020. Positives weighted by their odds as by Kumar et al., Boosted Cascaded ConvNets for Multilabel Classification of
Thoracic Diseases, ICIAR 2018 (a = 1), and by one number w as by Rathnayaka et al., Gated Recurrent Neural Network
Approach for Multilabel Emotion Detection, 2019. Survey section 3.3.

Differs from the papers in the default power a = 0.5, in a cap on the weights, and in the scale of the class weights,
whose largest is 1. Values equal ``torch.nn.functional.binary_cross_entropy_with_logits``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tailwise.errors import SettingError, UnknownNameError
from tailwise.losses.class_weights import Normalisation, as_array, as_counts, given_weights, positive_counts
from tailwise.losses.class_weights import class_weights as weights_of_classes
from tailwise.losses.convex_forms import SigmoidForm
from tailwise.losses.multilabel import LabelwiseLoss, MultiLabelReduction
from tailwise.losses.written_gradient import sum_with_gradient
from tailwise.registry import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from tailwise.losses.class_weights import ClassWeights

    #: what `positive_weights` accepts: a rule, one number for all, a mapping by label name, one number per label
    PositiveWeights = str | float | Mapping[str, float] | ArrayLike

__all__ = [
    "BinaryCrossEntropyLoss",
    "PositiveWeightedBinaryCrossEntropyLoss",
    "WeightedBinaryCrossEntropyLoss",
    "binary_cross_entropy_sum",
    "binary_cross_entropy_values",
    "label_entries",
    "label_odds",
    "odds_power_weights",
    "softplus",
    "with_odds_times",
    "without_positive_weights",
]

_LINEAR_FROM = 80.0  # log(1 + exp(z)) is z to the last digit of float64, and exp(z) still a float32


def softplus(scores: Tensor) -> Tensor:
    """log(1 + exp(z)), exact to rounding everywhere, in one pass."""
    return functional.softplus(scores, threshold=_LINEAR_FROM)


def binary_cross_entropy_values(
    logits: Tensor,
    target: Tensor,
    *,
    weights: Tensor | None = None,
    positive_weights: Tensor | None = None,
    margins: Tensor | None = None,
) -> Tensor:
    """Binary cross-entropy per row and label.

    Args:
        logits: ``(M, C)``.
        target: 0 to 1, ``(M, C)``, in the type of the logits.
        weights: a_j, ``(C,)``, of both terms; None for ones.
        positive_weights: w_j, ``(C,)``, of the term of the positives; None for ones.
        margins: taken from the scores of the positives, ``(C,)``; None for zeros.

    Returns:
        ``(M, C)``, same dtype as `logits`.
    """
    present = -target * functional.logsigmoid(logits if margins is None else logits - margins)
    present = present if positive_weights is None else present * positive_weights
    values = present - (1.0 - target) * functional.logsigmoid(-logits)
    return values if weights is None else values * weights


def binary_cross_entropy_sum(
    logits: Tensor,
    target: Tensor,
    *,
    weights: Tensor | None = None,
    positive_weights: Tensor | None = None,
    margins: Tensor | None = None,
) -> Tensor:
    """Sum of `binary_cross_entropy_values`, with the gradient computed along; the arguments are the same."""

    def plain(scores: Tensor) -> Tensor:
        return binary_cross_entropy_values(
            scores, target, weights=weights, positive_weights=positive_weights, margins=margins
        ).sum()

    def written(scores: Tensor) -> tuple[Tensor, Tensor]:
        values, slopes = softplus(scores), torch.sigmoid(scores)
        entry, column, label = label_entries(target)
        score = scores.take(entry)
        raised = -score if margins is None else margins[column] - score
        gain = label if positive_weights is None else label * positive_weights[column]
        values.put_(entry, torch.addcmul(gain * softplus(raised), 1.0 - label, values.take(entry)))
        slopes.put_(entry, torch.addcmul(-gain * torch.sigmoid(raised), 1.0 - label, slopes.take(entry)))
        if weights is None:
            return values.sum(), slopes
        return (values @ weights).sum(), slopes.mul_(weights)

    return sum_with_gradient(logits, target, plain, written)


def label_entries(target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where labels are: few entries of a large matrix.

    Args:
        target: ``(M, C)``, on the CPU.

    Returns:
        Positions in the flattened matrix, their columns, and the targets there, ``(K,)`` each.
    """
    entry = torch.from_numpy(np.flatnonzero(target.bool().numpy()))  # several times as fast as torch.nonzero
    return entry, entry % target.shape[1], target.take(entry)


def label_odds(
    class_counts: ArrayLike, num_rows: int | None, class_names: Sequence[str] | None = None
) -> NDArray[np.float64]:
    """Odds against each label, (N - n_j) / n_j with n_j from 1 to N - 1, ``(C,)``.

    Args:
        class_counts: training rows with the label, ``(C,)``; 0 is treated as 1, with a warning, and N as N - 1.
        num_rows: N, all training rows.
        class_names: names of the labels, for messages.

    Raises:
        SettingError: `num_rows` missing, less than 2, or less than a count.
    """
    counts = as_counts(class_counts, class_names)
    if num_rows is None or not 2 <= num_rows < float("inf"):
        raise SettingError(
            f"Expected `num_rows`, the number of training instances, to be at least 2, but got {num_rows!r}."
        )
    most = int(counts.argmax())
    if counts[most] > num_rows:
        name = repr(class_names[most]) if class_names is not None else str(most)
        raise SettingError(
            f"Expected at most `num_rows` = {num_rows} instances per label, but label {name} has {counts[most]:g}. "
            "`num_rows` is the number of training instances, not of label assignments."
        )
    present = np.minimum(positive_counts(counts, class_names), num_rows - 1.0)
    odds: NDArray[np.float64] = (num_rows - present) / present
    return odds


def odds_power_weights(odds: NDArray[np.float64], power: float = 0.5, cap: float | None = 100.0) -> NDArray[np.float64]:
    """Weights of the positives, odds^a, at most `cap`, ``(C,)``.

    Args:
        odds: odds against each label, see `label_odds`, ``(C,)``.
        power: a; 0 gives ones, 1 makes the positives of a label weigh as much as its negatives.
        cap: largest weight, or None.

    Raises:
        SettingError: a power that is not finite, a cap that is not positive.
    """
    if not np.isfinite(power):
        raise SettingError(f"Expected `power` to be finite, but got {power!r}.")
    if cap is not None and not cap > 0:
        raise SettingError(f"Expected `cap` to be larger than 0 or None, but got {cap!r}.")
    weights: NDArray[np.float64] = odds**power
    return weights if cap is None else np.minimum(weights, cap)


def without_positive_weights(logits: Tensor, positive_weights: Tensor) -> Tensor:
    """Logits of calibrated probabilities from those fitted with positive weights, z_j - log w_j.

    A positive weight multiplies the odds of a label, wherever in the input space; its logarithm is taken off again.

    Args:
        logits: ``(..., C)``.
        positive_weights: w_j > 0, ``(C,)`` or one for all.

    Returns:
        ``(..., C)``, in the type of `logits`.
    """
    return logits - positive_weights.log().to(logits)


def with_odds_times(rate: Tensor, factor: Tensor | float) -> Tensor:
    """The rates whose odds are `factor` times those of `rate`, ``(C,)``."""
    raised = rate * factor
    return raised / (raised + (1.0 - rate))


class BinaryCrossEntropyLoss(LabelwiseLoss):
    """Binary cross-entropy: every label is a decision of its own.

    Args:
        reduction: see `MultiLabelLoss`.
        ignore_index: see `MultiLabelLoss`.
    """

    convex: bool = True
    positive_weights: Tensor | None

    def __init__(self, *, reduction: MultiLabelReduction = "mean", ignore_index: int = -100) -> None:
        super().__init__(reduction=reduction, ignore_index=ignore_index)
        self.register_buffer("positive_weights", None)

    def label_values(self, logits: Tensor, target: Tensor, *, valid: Tensor | None) -> Tensor:
        """Values ``(M, C)``."""
        del valid
        return binary_cross_entropy_values(logits, target, **self._weights_like(logits))

    def label_sum(self, logits: Tensor, target: Tensor) -> Tensor:
        """Sum of the values, with the gradient computed along."""
        return binary_cross_entropy_sum(logits, target, **self._weights_like(logits))

    def sigmoid_form(self) -> SigmoidForm | None:
        """The values themselves."""
        weights, raised = self.class_weights, self.positive_weights
        both = raised if weights is None else weights if raised is None else weights * raised
        return SigmoidForm(positive_weights=both, negative_weights=weights)

    def effective_prior(self, prior: Tensor) -> Tensor:
        """The rate of each label that the fitted logits express, ``(C,)``: odds times the positive weight."""
        return prior if self.positive_weights is None else with_odds_times(prior, self.positive_weights.to(prior))

    def _weights_like(self, logits: Tensor) -> dict[str, Tensor]:
        wanted = {"weights": "class_weights", "positive_weights": "positive_weights"}
        return {key: self.cast(name, logits) for key, name in wanted.items() if getattr(self, name) is not None}


class WeightedBinaryCrossEntropyLoss(BinaryCrossEntropyLoss):
    """Binary cross-entropy with one weight per label, on both terms.

    It can backfire: almost all entries of a rare label are negative, so a large weight of the label is in the first
    place a large weight of its negatives. The odds that are fitted stay those of the data; what changes is only how
    much of the capacity a label gets. To favour the positives, use `PositiveWeightedBinaryCrossEntropyLoss`.

    Args:
        class_weights: a rule, a mapping by label name, one number per label, or None; see
            `tailwise.losses.class_weights`.
        class_counts: training rows with each label, for rules.
        class_names: names of the labels, for a mapping and for messages.
        beta: of the rule ``"effective_number"``.
        power: of the rule ``"inverse_power"``.
        normalise: of the weights of a rule; the largest is 1 by default, since the mean weight of a label assignment,
            which is held at 1 elsewhere, says nothing about the many negatives.
        reduction: see `MultiLabelLoss`; weights are not divided out.
        ignore_index: see `MultiLabelLoss`.

    Raises:
        UnknownNameError: an unknown rule or label name.
        SettingError: counts or weights that are not one per label.
    """

    def __init__(
        self,
        class_weights: ClassWeights = "balanced",
        *,
        class_counts: ArrayLike | None = None,
        class_names: Sequence[str] | None = None,
        beta: float = 0.999,
        power: float = 0.5,
        normalise: Normalisation = "max_1",
        reduction: MultiLabelReduction = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(reduction=reduction, ignore_index=ignore_index)
        if class_weights is not None:
            weights = weights_of_classes(
                class_weights, class_counts, class_names=class_names, normalise=normalise, beta=beta, power=power
            )
            self.class_weights = torch.from_numpy(weights.copy())
            self.num_classes = weights.size


class PositiveWeightedBinaryCrossEntropyLoss(BinaryCrossEntropyLoss):
    """Binary cross-entropy with the positives of rare labels weighted up.

    Args:
        positive_weights: ``"odds_power"``, the odds against the label to the power `power`; one number for all labels;
            a mapping by label name (labels left out weigh 1); or one number per label.
        class_counts: training rows with each label, for the rule.
        num_rows: all training rows, for the rule.
        class_names: names of the labels, for a mapping and for messages.
        power: of the rule. 1 makes the positives of a label weigh as much as its negatives; smaller is safer.
        cap: largest weight the rule gives, or None. A label with one positive in 100,000 would weigh 316.
        reduction: see `MultiLabelLoss`; weights are not divided out.
        ignore_index: see `MultiLabelLoss`.

    The odds of a label come out w_j times too large; `calibrated` gives logits of probabilities.

    Raises:
        UnknownNameError: an unknown rule or label name.
        SettingError: counts that do not fit, weights that are not positive, a rule without counts.
    """

    positive_weights: Tensor

    def __init__(
        self,
        positive_weights: PositiveWeights = "odds_power",
        *,
        class_counts: ArrayLike | None = None,
        num_rows: int | None = None,
        class_names: Sequence[str] | None = None,
        power: float = 0.5,
        cap: float | None = 100.0,
        reduction: MultiLabelReduction = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(reduction=reduction, ignore_index=ignore_index)
        if isinstance(positive_weights, str):
            if positive_weights != "odds_power":
                raise UnknownNameError(
                    f"Unknown positive-weight rule {positive_weights!r}. "
                    f"{did_you_mean(positive_weights, ['odds_power'])}"
                )
            if class_counts is None:
                raise SettingError(
                    "The positive-weight rule 'odds_power' needs `class_counts`, the training instances per label."
                )
            weights = odds_power_weights(label_odds(class_counts, num_rows, class_names), power, cap)
        else:
            weights = _given_positive_weights(positive_weights, class_counts, class_names)
        self.positive_weights = torch.from_numpy(weights.copy())
        self.num_classes = weights.size if weights.ndim else None

    def calibrated(self, logits: Tensor) -> Tensor:
        """Logits without the shift of the positive weights, see `without_positive_weights`."""
        return without_positive_weights(logits, self.positive_weights)

    def _weights_like(self, logits: Tensor) -> dict[str, Tensor]:
        return {"positive_weights": self.cast("positive_weights", logits).expand(logits.shape[1])}


def _given_positive_weights(
    given: float | Mapping[str, float] | ArrayLike, class_counts: ArrayLike | None, class_names: Sequence[str] | None
) -> NDArray[np.float64]:
    if isinstance(given, Mapping) or as_array(given, "positive_weights").ndim:
        weights = given_weights(given, class_counts, class_names, "positive_weights")
    else:
        weights = as_array(given, "positive_weights")
    if not (np.isfinite(weights) & (weights > 0)).all():
        raise SettingError(f"Expected `positive_weights` to be finite and larger than 0, but got {given!r}.")
    return weights
