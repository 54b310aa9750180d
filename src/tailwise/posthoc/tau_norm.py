"""Tau-normalisation of an affine head.

    z'_j = w_j f / |w_j|^t          w_j rows of the head, t strength (tuned on validation)

Kang et al., Decoupling Representation and Classifier for Long-Tailed Recognition, ICLR 2020, eq. 3. Survey section 3.5.
As in the authors' code the bias is dropped; two further treatments of it are options. Differs from their code in that t
is chosen on validation data, over 0, 0.05, ..., 1 as the paper says, and in that a row of zeros stays as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from tailwise.errors import SettingError
from tailwise.posthoc.base import AffineStep, PostHoc
from tailwise.posthoc.tuning import check_scores, smallest_best

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tailwise.posthoc.base import FitContext

__all__ = ["TauNorm", "tau_norm_step"]

BiasTreatment = Literal["drop", "keep", "scale"]

GRID = tuple(np.linspace(0.0, 1.0, 21).round(2).tolist())
#: below this coefficient of variation the norms are alike and dividing by them changes nothing to speak of
ALIKE = 0.02


def tau_norm_step(
    weight: NDArray[Any], bias: NDArray[Any], tau: float, treatment: BiasTreatment = "drop"
) -> AffineStep:
    """The step that turns ``W f + b`` into the tau-normalised scores.

    Args:
        weight: W, ``(C, D)``.
        bias: b, ``(C,)``.
        tau: t; 0 leaves the weights, 1 makes all norms equal.
        treatment: of the bias: ``"drop"``, ``"keep"`` it as it is, or ``"scale"`` it like its row.
    """
    norms = np.linalg.norm(weight.astype(np.float64), axis=1)
    scale = np.where(norms > 0, norms, 1.0) ** -tau
    shift = {"drop": -bias * scale, "keep": bias * (1.0 - scale), "scale": np.zeros_like(scale)}[treatment]
    return AffineStep("tau-norm", scale, np.asarray(shift, dtype=np.float64))


class TauNorm(PostHoc):
    """Divide the rows of the head by a power of their norm, so that frequent classes lose their longer weights.

    Args:
        tau: t in [0, 2]; None tunes it on validation over 0, 0.05, ..., 1 (the smallest of equally good ones).
        bias: ``"drop"``, ``"keep"`` or ``"scale"``.

    The details of the fitted step hold the chosen tau, the coefficient of variation of the norms, their correlation
    with the log prior (None where the prior is uniform) and `alike`: whether the norms vary by less than 2%, which is
    common after a short fine-tuning and makes the step idle.
    """

    def __init__(self, tau: float | None = None, *, bias: BiasTreatment = "drop") -> None:
        if tau is not None and not 0.0 <= tau <= 2.0:
            raise SettingError(f"Expected `tau` to lie between 0 and 2, but got {tau!r}.")
        if bias not in get_args(BiasTreatment):
            raise SettingError(f"Expected `bias` to be one of {', '.join(get_args(BiasTreatment))}, but got {bias!r}.")
        self.tau = tau
        self.bias = bias

    def fit(self, logits: NDArray[Any], target: NDArray[np.int64], context: FitContext) -> AffineStep:
        """Fit on validation scores.

        Raises:
            SettingError: the head is not affine, or its shape does not fit the scores.
        """
        scores = check_scores("TauNorm", logits, target)
        if context.weight is None:
            raise SettingError(
                "TauNorm needs an affine head, because it divides the rows of its weights by their norms."
            )
        weight = np.asarray(context.weight, dtype=np.float64)
        bias = np.zeros(len(weight)) if context.bias is None else np.asarray(context.bias, dtype=np.float64)
        if len(weight) != scores.shape[1] or bias.shape != (len(weight),):
            raise SettingError(
                f"TauNorm: expected weight (C, D) and bias (C,) of a head with C = {scores.shape[1]} classes, but got "
                f"{weight.shape} and {bias.shape}."
            )
        if self.tau is not None:
            tau, tried = self.tau, dict[str, float]()
        else:
            tau, tried = smallest_best(
                GRID, lambda t: context.metric(target, tau_norm_step(weight, bias, t, self.bias)(scores).argmax(axis=1))
            )
        step = tau_norm_step(weight, bias, tau, self.bias)
        details = {"tau": tau, "bias": self.bias, **_norm_details(weight, context.prior), "validation": tried}
        return AffineStep(step.name, step.scale, step.bias, details)


def _norm_details(weight: NDArray[np.float64], prior: NDArray[np.float64]) -> dict[str, Any]:
    norms = np.linalg.norm(weight, axis=1)
    variation = float(norms.std() / norms.mean()) if norms.any() else 0.0
    log_prior = np.log(np.maximum(prior, np.finfo(np.float64).tiny))
    varies = np.ptp(norms) > 0 and np.ptp(log_prior) > 1e-12
    correlation = float(np.corrcoef(norms, log_prior)[0, 1]) if varies else None
    return {"norm_variation": variation, "alike": variation < ALIKE, "norm_prior_correlation": correlation}
