"""Post-hoc steps where a row may have several labels: every label is a decision of its own, z_j > 0.

    label-thresholds        z'_j = z_j - t_j                  t_j with the best F1 of label j on validation
    label-temperature       z' = z / T                        T of least binary cross-entropy on validation
    label-logit-adjustment  z'_j = z_j - t log(p_j / (1 - p_j))   p_j rate of label j that the scores express
    label-tau-norm          z'_j = w_j f / |w_j|^t + b_j      w_j, b_j rows of an affine head

Thresholds: Lipton, Elkan and Narayanaswamy, Optimal Thresholding of Classifiers to Maximize F1 Measure, ECML 2014;
Lewis et al., RCV1, JMLR 2004 (SCutFBR: what to do for labels with few rows). Macro-F1 is a mean over labels, so the
best threshold per label is the best for macro-F1. Differs from SCutFBR: a label with too few rows takes the threshold
that is best for all labels pooled, and one with less than plenty is drawn towards it, instead of predicting nothing.
Temperature: Guo et al., ICML 2017. Logit adjustment: Menon et al., ICLR 2021, per label with its odds. Tau-norm: Kang
et al., ICLR 2020; the bias is kept, because dropping it would move every label's threshold, and scaling it like its row
would change no decision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tailwise.errors import SettingError
from tailwise.posthoc.base import AffineStep, FitContext, PostHoc
from tailwise.posthoc.tau_norm import GRID, tau_norm_step
from tailwise.posthoc.tuning import MARGIN, smallest_best

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LabelLogitAdjustment", "LabelTauNorm", "LabelTemperature", "LabelThresholds", "best_f1_threshold"]

#: rows from which a label's own threshold is not drawn towards the common one
PLENTY = 20
STRENGTHS = tuple(np.linspace(0.0, 1.0, 11).round(1).tolist())


def check_label_scores(step: str, logits: NDArray[Any], target: Any) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Validation scores in float64 and targets as truth values, both ``(N, L)``.

    Raises:
        SettingError: no rows, shapes that do not fit, targets other than 0 and 1, or scores that are not finite.
    """
    dense = np.asarray(target.todense() if hasattr(target, "todense") else target)
    if logits.ndim != 2 or dense.shape != logits.shape:
        raise SettingError(
            f"{step}: expected validation logits and targets of one shape (N, L), but got {logits.shape} and "
            f"{dense.shape}."
        )
    if not len(logits):
        raise SettingError(f"{step}: there is no validation row to fit on.")
    if not ((dense == 0) | (dense == 1)).all():
        raise SettingError(f"{step}: expected targets of 0 and 1.")
    scores = np.asarray(logits, dtype=np.float64)
    if not np.isfinite(scores).all():
        row = int(np.flatnonzero(~np.isfinite(scores).all(axis=1))[0])
        raise SettingError(f"{step}: the scores of validation row {row} are not finite. The model has diverged.")
    return scores, dense.astype(bool)


def best_f1_threshold(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """The threshold t for which ``scores > t`` has the best F1; half way between two scores, the highest of equals.

    Args:
        scores: ``(N,)``.
        positive: ``(N,)``, at least one of them.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    hits = np.cumsum(positive[order])
    f1 = 2.0 * hits / (np.arange(1, len(ranked) + 1) + hits[-1])
    last = np.append(ranked[1:] < ranked[:-1], True)  # a threshold cannot part equal scores
    best = int(np.argmax(np.where(last, f1, -1.0)))
    below = ranked[best + 1] if best + 1 < len(ranked) else ranked[best] - 1.0
    return float((ranked[best] + below) / 2.0)


class LabelThresholds(PostHoc):
    """One threshold per label, the one with the best F1 of that label.

    Args:
        min_rows: a label with fewer positive validation rows takes the common threshold.
        shrinkage: rows added to the denominator of a label with fewer than 20 positives, which is drawn towards the
            common threshold; 0 does not draw.
    """

    def __init__(self, *, min_rows: int = 5, shrinkage: float = 10.0) -> None:
        for name, value, least in (("min_rows", min_rows, 1), ("shrinkage", shrinkage, 0)):
            if not least <= value < float("inf"):
                raise SettingError(f"Expected `{name}` to be a finite number of at least {least}, but got {value!r}.")
        self.min_rows = min_rows
        self.shrinkage = shrinkage

    def fit(self, logits: NDArray[Any], target: NDArray[np.int64], context: FitContext) -> AffineStep:
        """Fit on validation scores ``(N, L)`` and targets ``(N, L)``."""
        scores, positive = check_label_scores("LabelThresholds", logits, target)
        counts = positive.sum(axis=0)
        common = best_f1_threshold(scores.ravel(), positive.ravel()) if positive.any() else 0.0
        found = np.full(scores.shape[1], common)
        for label in np.flatnonzero(counts >= self.min_rows):
            own, rows = best_f1_threshold(scores[:, label], positive[:, label]), int(counts[label])
            keep = 1.0 if rows >= PLENTY else rows / (rows + self.shrinkage)
            found[label] = keep * own + (1.0 - keep) * common
        before = float(context.metric(positive, scores > 0))
        after = float(context.metric(positive, scores > found))
        if after < before - MARGIN:
            found, after = np.zeros_like(found), before
        details = {
            "common": common,
            "tuned": int((counts >= self.min_rows).sum()),
            "metric_before": before,
            "metric_after": after,
        }
        return AffineStep("label-thresholds", np.ones_like(found), -found, details)


class LabelTemperature(PostHoc):
    """Calibrate the probabilities of all labels with one number; no decision changes."""

    def fit(self, logits: NDArray[Any], target: NDArray[np.int64], context: FitContext) -> AffineStep:
        """Fit on validation scores ``(N, L)`` and targets ``(N, L)``."""
        from scipy.optimize import brentq
        from scipy.special import expit

        del context
        scores, positive = check_label_scores("LabelTemperature", logits, target)
        signed = np.where(positive, scores, -scores)

        def slope(log_inverse: float) -> float:
            """Derivative of the mean binary cross-entropy by 1 / T."""
            return -float((signed * expit(-np.exp(log_inverse) * signed)).mean())

        low, high = np.log(0.01), np.log(100.0)
        if slope(high) <= 0.0:
            temperature = 0.01
        elif slope(low) >= 0.0:
            temperature = 100.0
        else:
            temperature = float(np.exp(-brentq(slope, low, high, xtol=1e-12)))
        before, after = (float(np.logaddexp(0.0, -signed / t).mean()) for t in (1.0, temperature))
        labels = scores.shape[1]
        details = {"temperature": temperature, "bce_before": before, "bce_after": after}
        return AffineStep("label-temperature", np.full(labels, 1.0 / temperature), np.zeros(labels), details)


class LabelLogitAdjustment(PostHoc):
    """Take a share of the log odds of every label out of its scores.

    Args:
        strength: t from 0 to 2; None tunes it on validation over 0, 0.1, ..., 1.
    """

    def __init__(self, strength: float | None = None) -> None:
        if strength is not None and not 0.0 <= strength <= 2.0:
            raise SettingError(f"Expected `strength` to lie between 0 and 2, but got {strength!r}.")
        self.strength = strength

    def fit(self, logits: NDArray[Any], target: NDArray[np.int64], context: FitContext) -> AffineStep:
        """Fit on validation scores ``(N, L)`` and targets ``(N, L)``."""
        scores, positive = check_label_scores("LabelLogitAdjustment", logits, target)
        rates = np.clip(np.asarray(context.prior, dtype=np.float64), 1e-6, 1.0 - 1e-6)
        odds = np.log(rates) - np.log1p(-rates)
        strength, tried = self.strength, dict[str, float]()
        if strength is None:
            strength, tried = smallest_best(STRENGTHS, lambda t: context.metric(positive, scores - t * odds > 0))
        details = {"strength": strength, "validation": tried}
        return AffineStep("label-logit-adjustment", np.ones_like(odds), -strength * odds, details)

    def effective_prior(self, prior: NDArray[np.float64], step: AffineStep) -> NDArray[np.float64]:
        """The rates that the adjusted scores express."""
        rates = np.clip(prior, 1e-6, 1.0 - 1e-6)
        odds = rates / (1.0 - rates) * np.exp(step.bias)
        return np.asarray(odds / (1.0 + odds), dtype=np.float64)


class LabelTauNorm(PostHoc):
    """Divide the rows of the head by a power of their norm; the biases stay.

    Args:
        tau: t from 0 to 2; None tunes it on validation over 0, 0.05, ..., 1.
    """

    def __init__(self, tau: float | None = None) -> None:
        if tau is not None and not 0.0 <= tau <= 2.0:
            raise SettingError(f"Expected `tau` to lie between 0 and 2, but got {tau!r}.")
        self.tau = tau

    def fit(self, logits: NDArray[Any], target: NDArray[np.int64], context: FitContext) -> AffineStep:
        """Fit on validation scores ``(N, L)`` and targets ``(N, L)``.

        Raises:
            SettingError: the head is not affine.
        """
        scores, positive = check_label_scores("LabelTauNorm", logits, target)
        if context.weight is None:
            raise SettingError(
                "LabelTauNorm needs an affine head, because it divides the rows of its weights by their norms."
            )
        weight = np.asarray(context.weight, dtype=np.float64)
        bias = np.zeros(len(weight)) if context.bias is None else np.asarray(context.bias, dtype=np.float64)
        tau, tried = self.tau, dict[str, float]()
        if tau is None:
            tau, tried = smallest_best(
                GRID, lambda t: context.metric(positive, tau_norm_step(weight, bias, t, "keep")(scores) > 0)
            )
        step = tau_norm_step(weight, bias, tau, "keep")
        return AffineStep("label-tau-norm", step.scale, step.bias, {"tau": tau, "validation": tried})
