"""Vector-scaling loss (VS).

    l(z, y) = -a_y log softmax(z / D + t log pi)_y,   D_j = (n_max / n_j)^g >= 1

pi prior that is drawn, t strength (1), n training counts, g scaling power (0.3), a class weights (none).
Kini, Paraskevas, Oymak and Thrampoulidis, Label-Imbalanced and Group-Sensitive Classification under
Overparameterization, NeurIPS 2021. The additive term speeds up the start of training; the factors, which shrink
the scores of rare classes, decide its end, where they make the classifier leave rare classes a larger margin. Survey
section 4. g = 0 is balanced softmax, t = 0 the class-dependent temperatures of Ye et al., Identifying and Compensating
for Feature Deviation in Imbalanced Deep Learning, 2020; g = t = 0 cross-entropy. At prediction the raw logits decide.
Differs from the authors' code in that a class without an instance is smoothed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tailwise.errors import SettingError
from tailwise.losses.balanced_softmax import BalancedSoftmaxLoss
from tailwise.losses.base import Loss
from tailwise.losses.class_weights import as_counts, class_weights_tensor, warn_of_empty
from tailwise.losses.convex_forms import SoftmaxForm
from tailwise.losses.cross_entropy import cross_entropy_values

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from tailwise.losses.base import Reduction
    from tailwise.losses.class_weights import ClassWeights

__all__ = ["VectorScalingLoss", "inverse_scales", "vector_scaling_values"]


def inverse_scales(class_counts: NDArray[np.float64], scaling_power: float = 0.3) -> NDArray[np.float64]:
    """1 / D_j = (n_j / n_max)^g, ``(C,)``, for counts or shares n_j > 0."""
    ratio: NDArray[np.float64] = class_counts / class_counts.max()
    return ratio**scaling_power


def vector_scaling_values(
    logits: Tensor,
    target: Tensor,
    factors: Tensor,
    log_prior: Tensor,
    strength: float = 1.0,
    weights: Tensor | None = None,
) -> Tensor:
    """Per-row vector-scaling values.

    Args:
        logits: ``(M, C)``.
        target: class indices, ``(M,)``.
        factors: 1 / D_j, ``(C,)``.
        log_prior: log pi_j, ``(C,)``.
        strength: t.
        weights: a_j, ``(C,)``, or None for ones.

    Returns:
        ``(M,)``, same dtype as `logits`.
    """
    shift = (strength * log_prior).to(logits.dtype)
    return cross_entropy_values(torch.addcmul(shift, logits, factors.to(logits.dtype)), target, weights)


class VectorScalingLoss(BalancedSoftmaxLoss):
    """Balanced softmax of logits that are divided by a factor per class, largest for the rarest.

    Args:
        class_counts: how often rows of each class are drawn in training; after re-sampling what the sampler draws, not
            the natural counts.
        prior: the same as a distribution; exactly one of the two.
        strength: t >= 0; 0 leaves the factors alone.
        scaling_power: g >= 0; 0 gives balanced softmax.
        training_counts: n_j, distinct training instances per class, from which the factors are taken: how well a class
            is known does not change with re-sampling. None takes what is drawn.
        class_weights: a rule, a mapping by class name, one number per class, or None; see
            `tailwise.losses.class_weights`.
        class_names: names of the classes, for a mapping and for messages.
        beta: of the rule ``"effective_number"``.
        power: of the rule ``"inverse_power"``.
        reduction: see `Loss`; the default divides by the sum of the weights of the targets, as the authors' code does.
        ignore_index: see `Loss`.

    Raises:
        SettingError: counts that are not one per class, both or neither of `class_counts` and `prior`, a number out of
            its range.
    """

    factors: Tensor

    def __init__(
        self,
        class_counts: ArrayLike | None = None,
        *,
        prior: ArrayLike | None = None,
        strength: float = 1.0,
        scaling_power: float = 0.3,
        training_counts: ArrayLike | None = None,
        class_weights: ClassWeights = None,
        class_names: Sequence[str] | None = None,
        beta: float = 0.999,
        power: float = 0.5,
        reduction: Reduction = "weighted_mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(
            class_counts,
            prior=prior,
            strength=strength,
            class_names=class_names,
            reduction=reduction,
            ignore_index=ignore_index,
        )
        if not 0.0 <= scaling_power < float("inf"):
            raise SettingError(
                f"Expected `scaling_power` to be a finite number of at least 0, but got {scaling_power!r}."
            )
        self.scaling_power = float(scaling_power)
        drawn = as_counts(class_counts if prior is None else prior, class_names)  # type: ignore[arg-type]  # checked
        known = drawn if training_counts is None else as_counts(training_counts, class_names, "training_counts")
        if known.size != drawn.size:
            raise SettingError(
                f"Got {known.size} `training_counts` for {drawn.size} classes. Give one per class, as for the prior."
            )
        self.class_weights = class_weights_tensor(class_weights, drawn, class_names, beta, power)
        if drawn.all():
            warn_of_empty(known, class_names, "one is added to every class before the factors are taken")
        # Smoothed as the prior is, so that one rule serves both.
        factors = inverse_scales(known + float((known == 0).any()), self.scaling_power)
        self.register_buffer("factors", torch.from_numpy(factors))

    def adjusted(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits over D plus t log pi."""
        del target
        return torch.addcmul(self.cast("shift", logits), logits, self.cast("factors", logits))

    def softmax_form(self, num_classes: int) -> SoftmaxForm | None:
        """The weighted cross-entropy of scaled and shifted logits."""
        del num_classes
        return SoftmaxForm(weights=self.class_weights, scale=self.factors, shift=self.shift)

    def effective_prior(self, prior: Tensor) -> Tensor:
        """What the logits over D express, prior times weight / pi^t renormalised.

        The raw logits stand in for them at prediction: the factors change how sharp the scores of a class are, which no
        prior describes, so with g > 0 this is an approximation.
        """
        return super().effective_prior(Loss.effective_prior(self, prior))
