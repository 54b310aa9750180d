"""Post-hoc logit adjustment.

    z'_j = z_j - t log pi_j          pi prior that the logits express, t strength (tuned on validation)

Menon et al., Long-Tail Learning via Logit Adjustment, ICLR 2021, eq. 9. Survey section 4. t = 1 is consistent for the
balanced error of calibrated scores. Differs from the authors' code in the prior, which is the effective one: after
re-sampling, weighting or balanced softmax there is less left to correct, or nothing. The code's log(pi^t + 1e-12) is
not followed: a class of prior 0 takes the smallest positive prior instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tailwise.errors import SettingError
from tailwise.posthoc.base import AffineStep, PostHoc
from tailwise.posthoc.tuning import check_scores, smallest_best

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tailwise.posthoc.base import FitContext

__all__ = ["LogitAdjustment", "logit_adjustment_step"]

GRID = tuple(np.linspace(0.0, 2.0, 9).tolist())


def logit_adjustment_step(prior: NDArray[np.float64], strength: float) -> AffineStep:
    """The step ``z - strength log prior`` for a positive prior ``(C,)``."""
    return AffineStep("logit-adjustment", np.ones_like(prior), -strength * np.log(prior))


class LogitAdjustment(PostHoc):
    """Take the prior out of the scores, so that rare classes are not passed over for being rare.

    Args:
        strength: t in [0, 4]; None tunes it on validation over 0, 0.25, ..., 2 (the smallest of equally good ones).
    """

    def __init__(self, strength: float | None = None) -> None:
        if strength is not None and not 0.0 <= strength <= 4.0:
            raise SettingError(f"Expected `strength` to lie between 0 and 4, but got {strength!r}.")
        self.strength = strength

    def fit(self, logits: NDArray[Any], target: NDArray[np.int64], context: FitContext) -> AffineStep:
        """Fit on validation scores.

        Raises:
            SettingError: the prior is not a distribution over the classes of the scores.
        """
        scores = check_scores("LogitAdjustment", logits, target)
        prior = positive_prior(context.prior, scores.shape[1])
        if self.strength is not None:
            strength, tried = self.strength, dict[str, float]()
        else:
            strength, tried = smallest_best(
                GRID, lambda t: context.metric(target, logit_adjustment_step(prior, t)(scores).argmax(axis=1))
            )
        step = logit_adjustment_step(prior, strength)
        details = {"strength": strength, "prior": prior.tolist(), "validation": tried}
        return AffineStep(step.name, step.scale, step.bias, details)

    def effective_prior(self, prior: NDArray[np.float64], step: AffineStep) -> NDArray[np.float64]:
        """Prior / prior^t, renormalised: uniform after t = 1."""
        shifted = prior * np.exp(step.bias - step.bias.max())
        return np.asarray(shifted / shifted.sum(), dtype=np.float64)


def positive_prior(prior: NDArray[np.float64], num_classes: int) -> NDArray[np.float64]:
    """The prior with its smallest positive entry in place of zeros, renormalised."""
    prior = np.asarray(prior, dtype=np.float64)
    if prior.shape != (num_classes,) or not np.isfinite(prior).all() or prior.min() < 0 or not prior.any():
        raise SettingError(
            f"LogitAdjustment: expected the prior to be a distribution over {num_classes} classes, but got {prior!r}."
        )
    filled = np.where(prior > 0, prior, prior[prior > 0].min())
    return np.asarray(filled / filled.sum(), dtype=np.float64)
