"""Weights with which the scores of several heads are added, fitted on validation.

    z = sum_k w_k z_k,   w >= 0,   w = argmin  mean_i l(sum_k w_k z_ki + s, y_i) + |w - 1/K|^2 / M

l is the cross-entropy of the classes, or the mean binary one of the labels, s the shift from the prior that the scores
express to the natural one, so that heads of re-weighted losses are judged as what they are. M is the number of rows:
the pull towards the plain mean is that of one row. Weights act on log-probabilities up to a constant per row, so this
is a logarithmic opinion pool (Genest and Zidek, Statistical Science 1986) with a temperature.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, softmax

from tailwise.training.components import FOLDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["cross_fitted_mixture", "fit_mixture"]


def fit_mixture(
    scores: Sequence[NDArray[Any]], target: NDArray[Any], shift: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """The weights of K heads, ``(K,)``.

    Args:
        scores: of each head on validation, ``(M, C)``.
        target: class indices ``(M,)``, or truth values ``(M, L)``; rows of a class without a column are left out.
        shift: added to the weighted scores, ``(C,)``; None for nothing.
    """
    stacked = np.stack([np.asarray(own, dtype=np.float64) for own in scores])
    parts, classes = stacked.shape[0], stacked.shape[2]
    start = np.full(parts, 1.0 / parts)
    several = target.ndim == 2
    if not several:
        known = target < classes
        stacked, target = stacked[:, known], target[known]
    if not stacked.shape[1]:
        return start
    moved = np.zeros(classes) if shift is None else shift
    value_of = _label_loss if several else _class_loss

    def objective(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, residual = value_of(np.tensordot(weights, stacked, 1) + moved, target)
        away = weights - start
        gradient = np.array([np.vdot(residual, own) for own in stacked]) + 2.0 * away / len(target)
        return value + float(away @ away) / len(target), gradient

    found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * parts)
    weights = np.asarray(found.x, dtype=np.float64)
    return weights if weights.any() else start


def cross_fitted_mixture(
    scores: Sequence[NDArray[Any]], target: NDArray[Any], shift: NDArray[np.float64] | None = None
) -> NDArray[Any]:
    """The added scores ``(M, C)``, the weights of every row fitted without it; arguments as in `fit_mixture`."""
    rows = len(target)
    part = np.random.Generator(np.random.PCG64(FOLDS)).permutation(rows) % max(min(FOLDS, rows), 1)
    added = np.zeros_like(scores[0])
    for fold in range(min(FOLDS, rows)):
        own = part == fold
        weights = fit_mixture([given[~own] for given in scores], target[~own], shift)
        added[own] = sum(weight * given[own] for weight, given in zip(weights, scores, strict=True))
    return added


def _class_loss(logits: NDArray[np.float64], target: NDArray[np.int64]) -> tuple[float, NDArray[np.float64]]:
    rows = np.arange(len(target))
    value = -log_softmax(logits, axis=1)[rows, target].mean()
    residual = softmax(logits, axis=1)
    residual[rows, target] -= 1.0
    return float(value), residual / len(target)


def _label_loss(logits: NDArray[np.float64], target: NDArray[Any]) -> tuple[float, NDArray[np.float64]]:
    value = (np.logaddexp(0.0, logits) - target * logits).mean()
    return float(value), (expit(logits) - target) / logits.size
