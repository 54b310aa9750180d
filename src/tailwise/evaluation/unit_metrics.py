"""Every metric that is a function of sums over units, per label structure.

A bootstrap over units needs metrics of weighted sums only: the counts per class of `UnitCounts`, and further sums that
an evaluation names (`ScoredSplit.unit_part`): exact matches, F1 of single instances, right heads, gaps per confidence
bin. One table per label structure says which metrics there are, so that names can be checked before any work is done.

    single  one class per instance: all of `COUNT_METRICS`, and the figures of the probabilities
    multi   label sets: F1 by class and by instance, exact match, label ranking, binary calibration
    tags    spans: F1 with the boundaries and the type right. Spans of types that training never saw are missed ones
    arcs    dependencies: UAS, LAS and CLAS of the CoNLL 2018 shared task (Zeman et al., 2018), and F1 by relation
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from tailwise.errors import UnknownNameError
from tailwise.evaluation import metrics
from tailwise.evaluation.metrics import COUNT_METRICS, Counts
from tailwise.registry import did_you_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tailwise.data.task import LabelStructure

__all__ = [
    "PROBABILITY_METRICS",
    "TAIL_METRIC",
    "UNIT_METRICS",
    "Sums",
    "UnitMetric",
    "bounds",
    "check_metric",
    "larger_is_better",
    "metric_names",
]

TAIL_METRIC = "tail_f1"

#: Metrics of the probabilities of single labels that are functions of weighted sums; smaller is better.
PROBABILITY_METRICS = ("balanced_nll", "brier", "ece", "nll")


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over units, with any leading axes ``...`` (resamples).

    Attributes:
        counts: per class.
        units: number of units, ``(...)``.
        parts: further sums by name, ``(..., k)``.
    """

    counts: Counts
    units: NDArray[np.float64]
    parts: Mapping[str, NDArray[np.float64]]


Value: TypeAlias = Callable[[Sums], "NDArray[np.float64]"]


@dataclass(frozen=True)
class UnitMetric:
    """A metric of sums over units.

    Attributes:
        value: from sums with axes ``(...)`` to ``(...)``.
        parts: names of the further sums it needs.
        larger_is_better: whether it is a score, not a loss.
        bounds: least and largest value.
    """

    value: Value
    parts: tuple[str, ...] = ()
    larger_is_better: bool = True
    bounds: tuple[float, float] = (0.0, 1.0)


def _ratio(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    """``numerator / denominator``, 0 where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.zeros(np.shape(numerator)), where=np.asarray(denominator) != 0)


def _of_counts(function: Callable[[Counts], NDArray[np.float64]], least: float = 0.0) -> UnitMetric:
    return UnitMetric(lambda sums: function(sums.counts), bounds=(least, 1.0))


def _unit_mean(part: str, *, loss: bool = False, most: float = 1.0) -> UnitMetric:
    """Mean over units of a part with one column."""
    return UnitMetric(
        lambda sums: np.asarray(sums.parts[part][..., 0] / sums.units), (part,), not loss, bounds=(0.0, most)
    )


def _share(part: str, column: int, of: int) -> UnitMetric:
    """One column of a part as a share of another one."""
    return UnitMetric(lambda sums: _ratio(sums.parts[part][..., column], sums.parts[part][..., of]), (part,))


def _expected_calibration_error(sums: Sums) -> NDArray[np.float64]:
    return np.asarray(np.abs(sums.parts["ece"]).sum(axis=-1) / sums.units)


def _negative_log_likelihood(sums: Sums) -> NDArray[np.float64]:
    return np.asarray(sums.parts["nll"][..., 0] / np.maximum(sums.counts.seen_support.sum(axis=-1), 1.0))


def _balanced_negative_log_likelihood(sums: Sums) -> NDArray[np.float64]:
    present = sums.counts.present
    means = sums.parts["balanced_nll"] / np.where(present, sums.counts.seen_support, 1.0)
    return np.asarray(np.where(present, means, 0.0).sum(axis=-1) / np.maximum(present.sum(axis=-1), 1))


def _micro_precision(counts: Counts) -> NDArray[np.float64]:
    return _ratio(counts.correct.sum(axis=-1), counts.predicted.sum(axis=-1))


def _micro_recall(counts: Counts) -> NDArray[np.float64]:
    return _ratio(counts.correct.sum(axis=-1), counts.seen_support.sum(axis=-1))


def _item_recall(counts: Counts) -> NDArray[np.float64]:
    return _ratio(counts.correct.sum(axis=-1), counts.total)


def item_f1(counts: Counts) -> NDArray[np.float64]:
    """Micro F1 in which gold items (spans) of classes unseen in training are missed, ``(...)``."""
    return _ratio(2.0 * counts.correct.sum(axis=-1), counts.total + counts.predicted.sum(axis=-1))


def _clas(sums: Sums) -> NDArray[np.float64]:
    part = sums.parts["content"]
    return _ratio(2.0 * part[..., 0], part[..., 1] + part[..., 2])


def _relation_macro_f1(sums: Sums) -> NDArray[np.float64]:
    right, gold, predicted = np.split(sums.parts["relations"], 3, axis=-1)
    return np.asarray(_ratio(2.0 * right, gold + predicted).mean(axis=-1))


_ECE = UnitMetric(_expected_calibration_error, ("ece",), larger_is_better=False)
_BY_CLASS = {
    name: _of_counts(COUNT_METRICS[name])
    for name in ("macro_f1", "macro_precision", "macro_recall", "weighted_f1", "worst_class_f1", "worst_class_recall")
}

#: Every metric of sums over units, by label structure and name.
UNIT_METRICS: dict[LabelStructure, dict[str, UnitMetric]] = {
    "single": {
        **{
            name: _of_counts(function, -1.0 if name in {"cohen_kappa", "mcc"} else 0.0)
            for name, function in COUNT_METRICS.items()
        },
        "balanced_nll": UnitMetric(_balanced_negative_log_likelihood, ("balanced_nll",), False, (0.0, np.inf)),
        "brier": _unit_mean("brier", loss=True, most=2.0),
        "ece": _ECE,
        "nll": UnitMetric(_negative_log_likelihood, ("nll",), False, (0.0, np.inf)),
        "relation_macro_f1": UnitMetric(_relation_macro_f1, ("relations",)),
    },
    "multi": {
        **_BY_CLASS,
        "micro_f1": _of_counts(metrics.micro_f1),
        "micro_precision": _of_counts(_micro_precision),
        "micro_recall": _of_counts(_micro_recall),
        "samples_f1": _unit_mean("samples_f1"),
        "subset_accuracy": _unit_mean("subset_accuracy"),
        "label_ranking_average_precision": _unit_mean("label_ranking_average_precision"),
        "hamming_loss": _unit_mean("hamming_loss", loss=True),
        "brier": _unit_mean("brier", loss=True),
        "ece": _ECE,
        "nll": _unit_mean("nll", loss=True, most=np.inf),
    },
    "tags": {
        **_BY_CLASS,
        "micro_f1": _of_counts(item_f1),
        "micro_precision": _of_counts(_micro_precision),
        "micro_recall": _of_counts(_item_recall),
        "token_accuracy": _share("tokens", 0, 1),
    },
    "arcs": {
        "las": _share("arcs", 1, 3),
        "uas": _share("arcs", 0, 3),
        "las_full": _share("arcs", 2, 3),
        "clas": UnitMetric(_clas, ("content",)),
        **_BY_CLASS,
    },
}


def metric_names(structure: LabelStructure) -> tuple[str, ...]:
    """The metrics that tuning can maximise and methods can be compared by, sorted."""
    return tuple(sorted(name for name, metric in UNIT_METRICS[structure].items() if metric.larger_is_better))


def check_metric(name: str, structure: LabelStructure) -> None:
    """Refuse a name that `metric_names` does not have.

    Raises:
        UnknownNameError: no such metric, or one of other label structures only.
    """
    if name not in metric_names(structure):
        raise unknown_metric(name, structure, metric_names(structure))


def unknown_metric(name: str, structure: LabelStructure, known: tuple[str, ...], use: str = "") -> UnknownNameError:
    """What to raise for a metric that is not among those `known`; `use` says what it was asked for."""
    others = [kind for kind, table in UNIT_METRICS.items() if name in table]
    if structure in others:
        return UnknownNameError(
            f"The metric {name!r} cannot be asked for here{use}. Known: {', '.join(sorted(known))}."
        )
    if others:
        return UnknownNameError(
            f"The metric {name!r} is one of {' and '.join(others)} data, not of {structure} data{use}. Known: "
            f"{', '.join(sorted(known))}."
        )
    return UnknownNameError(f"Unknown metric {name!r}{use}. {did_you_mean(name, known)}")


def larger_is_better(metric: str) -> bool:
    """Whether a larger value of the metric is the better one."""
    return all(table[metric].larger_is_better for table in UNIT_METRICS.values() if metric in table)


def bounds(metric: str) -> tuple[float, float]:
    """Least and largest value of a metric; 0 and infinity where nothing is known of it."""
    if metric == TAIL_METRIC:
        return 0.0, 1.0
    found = [table[metric].bounds for table in UNIT_METRICS.values() if metric in table]
    return (min(low for low, _ in found), max(high for _, high in found)) if found else (0.0, np.inf)
