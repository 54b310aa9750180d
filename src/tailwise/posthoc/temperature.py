"""Temperature scaling.

    z' = z / T,   T = argmin_T sum_i s_i (-log softmax(z_i / T)_(y_i))          s row weights (1)

Guo et al., On Calibration of Modern Neural Networks, ICML 2017. Survey section 4. The decision does not change. The
objective is convex in 1 / T, so its derivative has one root, which is bracketed; differs from the authors' code, which
takes 50 steps of L-BFGS, in finding the minimum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tailwise.errors import SettingError
from tailwise.posthoc.base import AffineStep, PostHoc
from tailwise.posthoc.tuning import check_scores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tailwise.posthoc.base import FitContext

__all__ = ["TemperatureScaling", "fit_temperature"]

#: lowest and highest temperature; scores that separate validation perfectly would have none
BOUNDS = (0.01, 100.0)


def fit_temperature(
    logits: NDArray[np.float64], target: NDArray[np.int64], weights: NDArray[np.float64] | None = None
) -> float:
    """The temperature of least (weighted) negative log-likelihood within `BOUNDS`.

    Args:
        logits: ``(N, C)``.
        target: class indices, ``(N,)``.
        weights: s_i >= 0, ``(N,)``, or None for ones.
    """
    from scipy.optimize import brentq
    from scipy.special import softmax

    share = np.full(target.size, 1.0 / target.size) if weights is None else weights / weights.sum()
    centred = logits - logits[np.arange(target.size), target][:, None]

    def slope(log_inverse: float) -> float:
        """Derivative of the objective by 1 / T, at 1 / T = exp(log_inverse)."""
        expected = (softmax(np.exp(log_inverse) * centred, axis=1) * centred).sum(axis=1)
        return float(share @ expected)

    low, high = -np.log(BOUNDS[1]), -np.log(BOUNDS[0])
    if slope(high) <= 0.0:
        return BOUNDS[0]
    if slope(low) >= 0.0:
        return BOUNDS[1]
    return float(np.exp(-brentq(slope, low, high, xtol=1e-12)))


class TemperatureScaling(PostHoc):
    """Calibrate the probabilities with one number.

    Args:
        weights: None counts every validation row once; ``"balanced"`` gives every class the same weight, for a
            deployment where classes are equally frequent.

    The details of the fitted step hold the temperature and the negative log-likelihood before and after.
    """

    def __init__(self, weights: Literal["balanced"] | None = None) -> None:
        if weights not in {None, "balanced"}:
            raise SettingError(f"Expected `weights` to be None or 'balanced', but got {weights!r}.")
        self.weights = weights

    def fit(self, logits: NDArray[Any], target: NDArray[np.int64], context: FitContext) -> AffineStep:
        """Fit on validation scores."""
        del context
        scores = check_scores("TemperatureScaling", logits, target)
        num_classes = scores.shape[1]
        weights = None if self.weights is None else (1.0 / np.bincount(target, minlength=num_classes)[target])
        temperature = fit_temperature(scores, target, weights)
        details = {
            "temperature": temperature,
            "weights": self.weights,
            "nll_before": _mean_nll(scores, target, weights),
            "nll_after": _mean_nll(scores / temperature, target, weights),
            "at_bound": temperature in BOUNDS,
        }
        return AffineStep("temperature", np.full(num_classes, 1.0 / temperature), np.zeros(num_classes), details)


def _mean_nll(logits: NDArray[np.float64], target: NDArray[np.int64], weights: NDArray[np.float64] | None) -> float:
    from scipy.special import logsumexp

    values = logsumexp(logits, axis=1) - logits[np.arange(target.size), target]
    return float(np.average(values, weights=weights))
