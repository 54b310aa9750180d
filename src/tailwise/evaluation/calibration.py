"""Calibration: do the probabilities mean what they say?

With confidence ``c_i = max_j p_ij`` and hit ``h_i = 1[argmax_j p_ij = y_i]``, over bins b of the confidence,

    ECE    = sum_b |B_b| / N  |mean h - mean c|                      15 bins (lo, hi]   (Guo et al., ICML 2017)
    cwECE  = 1/C sum_j sum_b |B_bj| / N  |mean 1[y = j] - mean p_j|  bins on p_ij       (Kull et al., NeurIPS 2019)
    Brier  = 1/N sum_i sum_j (p_ij - 1[y_i = j])^2                   0..2               (Brier, 1950)
    NLL    = -1/N sum_i log p_{i, y_i};   balanced NLL = mean over classes of the NLL of their instances

Equal-mass bins cut at the quantiles of the confidence, so that each holds N / bins instances (Nguyen and O'Connor,
2015); tied confidences share a bin, which keeps the value independent of the order of instances.

Gold indices >= C are classes that training never saw: they are misses in ECE, cost the full 1 in the Brier score, and
are left out of both NLLs, where every model would pay infinity. ECE is biased upwards in small samples and dominated by
large classes: read it beside the class-wise value and the balanced NLL.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from scipy import sparse

from tailwise.errors import DataError, SettingError
from tailwise.evaluation.metrics import metric_function
from tailwise.posthoc.base import FitContext
from tailwise.posthoc.label_steps import LabelTemperature
from tailwise.posthoc.temperature import TemperatureScaling

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from tailwise.data.labels import LabelSpace
    from tailwise.evaluation.evaluation import Evaluation
    from tailwise.evaluation.multilabel import MultilabelEvaluation

    #: probabilities (N, C), gold (N,) -> value, smaller is better
    ProbabilityMetric = Callable[[NDArray[np.float64], NDArray[np.int64]], float]
    Binning = Literal["equal_width", "equal_mass"]

__all__ = [
    "CALIBRATION_METRICS",
    "balanced_negative_log_likelihood",
    "binned_table",
    "brier_score",
    "calibrated",
    "calibrated_labels",
    "classwise_calibration_error",
    "confidence_and_hit",
    "equal_mass_edges",
    "equal_width_edges",
    "expected_calibration_error",
    "instance_brier",
    "instance_log_loss",
    "instance_sums",
    "negative_log_likelihood",
    "reliability_table",
]

NUM_BINS = 15


def confidence_and_hit(
    probabilities: NDArray[np.float64], gold: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """c_i and h_i, ``(N,)`` each."""
    return probabilities.max(axis=1), (probabilities.argmax(axis=1) == gold).astype(np.float64)


def equal_width_edges(bins: int = NUM_BINS) -> NDArray[np.float64]:
    """Inner edges of equal-width bins (lo, hi] of [0, 1], ``(bins - 1,)``.

    Raises:
        SettingError: fewer than one bin.
    """
    if bins < 1:
        raise SettingError(f"Expected `bins` to be at least 1, but got {bins}.")
    return np.linspace(0.0, 1.0, bins + 1)[1:-1]


def equal_mass_edges(confidence: NDArray[np.float64], bins: int = NUM_BINS) -> NDArray[np.float64]:
    """Inner edges at the quantiles of `confidence`, ``(bins - 1,)``; repeated edges leave empty bins.

    Raises:
        SettingError: fewer than one bin.
    """
    return np.quantile(confidence, equal_width_edges(bins))


def bin_index(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """Bin of each value, bins being (lo, hi] between inner `edges`; same shape as `values`, 0 goes to the first bin."""
    return np.searchsorted(edges, values, side="left").astype(np.int64, copy=False)


def expected_calibration_error(
    probabilities: NDArray[np.float64],
    gold: NDArray[np.int64],
    *,
    bins: int = NUM_BINS,
    binning: Binning = "equal_width",
) -> float:
    """ECE of the predicted class.

    Args:
        probabilities: ``(N, C)``.
        gold: class indices, ``(N,)``.
        bins: number of bins.
        binning: ``"equal_width"`` or ``"equal_mass"``.

    Returns:
        A value in 0..1.

    Raises:
        SettingError: fewer than one bin or an unknown binning.
    """
    confidence, hit = confidence_and_hit(probabilities, gold)
    index = bin_index(confidence, _edges(confidence, bins, binning))
    return float(np.abs(np.bincount(index, weights=hit - confidence, minlength=bins)).sum() / len(gold))


def _edges(confidence: NDArray[np.float64], bins: int, binning: str) -> NDArray[np.float64]:
    if binning == "equal_width":
        return equal_width_edges(bins)
    if binning == "equal_mass":
        return equal_mass_edges(confidence, bins)
    raise SettingError(f"Expected `binning` to be 'equal_width' or 'equal_mass', but got {binning!r}.")


def classwise_calibration_error(
    probabilities: NDArray[np.float64], gold: NDArray[np.int64], *, bins: int = NUM_BINS
) -> float:
    """Class-wise ECE, equal-width bins on every p_ij. Of order 1/C, as most p_ij are near 0.

    Raises:
        SettingError: fewer than one bin.
    """
    rows, classes = probabilities.shape
    gap = (gold[:, None] == np.arange(classes)) - probabilities
    cell = bin_index(probabilities, equal_width_edges(bins)) + bins * np.arange(classes)
    sums = np.bincount(cell.ravel(), weights=gap.ravel(), minlength=bins * classes)
    return float(np.abs(sums).sum() / (rows * classes))


def reliability_table(
    probabilities: NDArray[np.float64],
    gold: NDArray[np.int64],
    *,
    bins: int = NUM_BINS,
    binning: Binning = "equal_width",
) -> pd.DataFrame:
    """The reliability diagram as numbers.

    Returns:
        One row per bin: ``bin``, ``low``, ``high``, ``count`` and the means ``confidence`` and ``accuracy``, NaN where
        the bin is empty.

    Raises:
        SettingError: fewer than one bin or an unknown binning.
    """
    return binned_table(*confidence_and_hit(probabilities, gold), bins=bins, binning=binning)


def binned_table(
    confidence: NDArray[np.float64], hit: NDArray[np.float64], *, bins: int = NUM_BINS, binning: Binning = "equal_width"
) -> pd.DataFrame:
    """`reliability_table` of any decisions with a confidence: `confidence` and `hit`, ``(N,)`` each."""
    edges = _edges(confidence, bins, binning)
    index = bin_index(confidence, edges)
    count = np.bincount(index, minlength=bins)
    weight = np.where(count > 0, count, np.nan)
    return pd.DataFrame(
        {
            "bin": np.arange(bins),
            "low": np.concatenate([[0.0], edges]),
            "high": np.concatenate([edges, [1.0]]),
            "count": count,
            "confidence": np.bincount(index, weights=confidence, minlength=bins) / weight,
            "accuracy": np.bincount(index, weights=hit, minlength=bins) / weight,
        }
    )


def instance_brier(probabilities: NDArray[np.float64], gold: NDArray[np.int64]) -> NDArray[np.float64]:
    """Squared distance of each row to its gold indicator, ``(N,)``; that of an unseen class is out of reach."""
    seen = gold < probabilities.shape[1]
    of_gold = np.where(seen, _at_gold(probabilities, gold), 0.0)
    return np.asarray(np.square(probabilities).sum(axis=1) - 2.0 * of_gold + 1.0)


def instance_log_loss(probabilities: NDArray[np.float64], gold: NDArray[np.int64]) -> NDArray[np.float64]:
    """``-log p_gold`` per row, ``(N,)``; 0 for rows of unseen classes, which no NLL counts.

    Probabilities below the smallest positive float64 are taken as that float, about 708 nats.
    """
    seen = gold < probabilities.shape[1]
    floor = np.finfo(np.float64).tiny
    return np.where(seen, -np.log(np.maximum(_at_gold(probabilities, gold), floor)), 0.0)


def instance_sums(name: str, probabilities: NDArray[np.float64], gold: NDArray[np.int64]) -> sparse.csr_matrix:
    """What every instance adds to the sums that a metric is a function of, for metrics of weighted instances.

    Args:
        name: ``"ece"`` (gaps of hit and confidence per bin), ``"brier"``, ``"nll"`` or ``"balanced_nll"`` (losses per
            gold class).
        probabilities: ``(N, C)``.
        gold: class indices, ``(N,)``.

    Returns:
        ``(N, k)``, one entry per row.
    """
    size, classes = probabilities.shape
    columns = np.zeros(size, dtype=np.int64)
    if name == "ece":
        confidence, hit = confidence_and_hit(probabilities, gold)
        columns, values = bin_index(confidence, equal_width_edges()), hit - confidence
    elif name == "brier":
        values = instance_brier(probabilities, gold)
    else:
        values = instance_log_loss(probabilities, gold)
        columns = np.minimum(gold, classes - 1) if name == "balanced_nll" else columns
    shape = (size, {"ece": NUM_BINS, "balanced_nll": classes}.get(name, 1))
    return sparse.csr_matrix((values, (np.arange(size), columns)), shape=shape)


def _at_gold(probabilities: NDArray[np.float64], gold: NDArray[np.int64]) -> NDArray[np.float64]:
    within = np.minimum(gold, probabilities.shape[1] - 1)
    return np.take_along_axis(probabilities, within[:, None], axis=1)[:, 0]


def brier_score(probabilities: NDArray[np.float64], gold: NDArray[np.int64]) -> float:
    """Mean squared distance between probabilities and gold indicators, 0..2."""
    return float(instance_brier(probabilities, gold).mean())


def negative_log_likelihood(probabilities: NDArray[np.float64], gold: NDArray[np.int64]) -> float:
    """Mean of ``-log p_gold`` over the rows whose class training has seen, in nats; NaN without such rows."""
    seen = int((gold < probabilities.shape[1]).sum())
    return float(instance_log_loss(probabilities, gold).sum() / seen) if seen else float("nan")


def balanced_negative_log_likelihood(probabilities: NDArray[np.float64], gold: NDArray[np.int64]) -> float:
    """Mean over the classes of the split of the mean ``-log p_gold`` of their rows, in nats; NaN without such."""
    classes = probabilities.shape[1]
    support = np.bincount(gold, minlength=classes)[:classes]
    loss = np.bincount(gold, weights=instance_log_loss(probabilities, gold), minlength=classes)[:classes]
    present = support > 0
    return float((loss[present] / support[present]).mean()) if present.any() else float("nan")


def equal_mass_calibration_error(probabilities: NDArray[np.float64], gold: NDArray[np.int64]) -> float:
    """ECE over 15 bins of equal mass."""
    return expected_calibration_error(probabilities, gold, binning="equal_mass")


#: Every metric of the probabilities by name; smaller is better.
CALIBRATION_METRICS: dict[str, ProbabilityMetric] = {
    "balanced_nll": balanced_negative_log_likelihood,
    "brier": brier_score,
    "classwise_ece": classwise_calibration_error,
    "ece": expected_calibration_error,
    "ece_equal_mass": equal_mass_calibration_error,
    "nll": negative_log_likelihood,
}


def calibrated(evaluation: Evaluation, validation: Evaluation) -> Evaluation:
    """The same decisions with probabilities calibrated by one temperature, fitted on validation.

    Args:
        evaluation: the scores to calibrate; not changed.
        validation: scores of the same model on validation data; rows of unseen classes are left out of the fit.

    Returns:
        `evaluation` with every logit divided by the temperature.

    Raises:
        DataError: the two have different classes, or validation has no instance of a class of training.
    """
    space = evaluation.label_space
    _check_names(space, validation.label_space)
    seen = validation.gold < len(space)
    if not seen.any():
        raise DataError("Calibration needs validation instances of the classes of training, but there are none.")
    context = FitContext(prior=space.prior, metric=metric_function("accuracy", len(space)))
    step = TemperatureScaling().fit(validation.logits[seen], validation.gold[seen], context)
    return replace(evaluation, logits=step(evaluation.logits))


def calibrated_labels(evaluation: MultilabelEvaluation, validation: MultilabelEvaluation) -> MultilabelEvaluation:
    """The same decisions with probabilities of all labels calibrated by one temperature, fitted on validation.

    Args:
        evaluation: the scores to calibrate; not changed.
        validation: scores of the same model on validation data; labels that training never saw are left out of the fit.

    Returns:
        `evaluation` with every logit divided by the temperature.

    Raises:
        DataError: the two have different labels.
    """
    space = evaluation.label_space
    _check_names(space, validation.label_space)
    context = FitContext(prior=space.prior, metric=metric_function("accuracy", len(space)))
    gold = validation.gold[:, : len(space)].toarray().astype(np.int64)
    step = LabelTemperature().fit(validation.logits, gold, context)
    return replace(evaluation, logits=step(evaluation.logits))


def _check_names(expected: LabelSpace, found: LabelSpace) -> None:
    if found.names != expected.names:
        raise DataError(
            f"Expected validation scores of the same {len(expected)} classes, but they are of {len(found)} others. "
            "Evaluate both splits with one model."
        )
