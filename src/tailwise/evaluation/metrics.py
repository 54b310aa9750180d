"""Metrics of single-label decisions, all of them functions of per-class counts.

With gold rows and predicted columns of the confusion matrix M, per class j

    P_j = M_jj / sum_i M_ij,   R_j = M_jj / sum_i M_ji,   F1_j = 2 M_jj / (sum_i M_ij + sum_i M_ji).

Every function takes `Counts`, whose arrays may carry leading axes: one call scores one test set or a thousand resamples
of it. Values agree with scikit-learn given ``labels=range(C)`` and ``zero_division=0``, C the classes of training:

- An undefined ratio is 0, so a class that is neither in the split nor predicted adds 0 to a macro or weighted average.
- Gold indices >= C are classes that training never saw. Their instances are errors, and false positives of whatever
  was predicted; no average runs over such classes.
- Balanced accuracy, G-mean and the worst-class figures run over the classes with at least one instance in the split
  (as in `balanced_accuracy_score` and imbalanced-learn's `geometric_mean_score`): a class without instances has no
  recall.

Henning et al., A Survey of Methods for Addressing Class Imbalance in Deep-Learning Based NLP, EACL 2023, section 2.3.
Macro-F1 is the mean of F1_j, not the F1 of the means (Opitz and Burst, 2019).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tailwise.errors import DataError, UnknownNameError
from tailwise.registry import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    #: gold (N,), predicted (N,), number of training classes -> value, larger is better
    LabelMetric = Callable[[NDArray[np.int64], NDArray[np.int64], int], float]

__all__ = [
    "COUNT_METRICS",
    "METRICS",
    "Counts",
    "confusion_counts",
    "confusion_matrix",
    "f1_per_class",
    "macro_f1",
    "metric_function",
    "precision_per_class",
    "recall_per_class",
    "without_vanished",
]


@dataclass(frozen=True, eq=False)
class Counts:
    """What every decision metric needs of a confusion matrix, with any leading axes ``...`` (resamples).

    Attributes:
        correct: instances of class j predicted as j, ``(..., C)``.
        support: gold instances per class, ``(..., G)``; the columns from C on are classes unseen in training.
        predicted: instances predicted as class j, ``(..., C)``.
        averaged: the classes that macro averages run over, boolean, broadcast against ``(..., C)``.
    """

    correct: NDArray[np.float64]
    support: NDArray[np.float64]
    predicted: NDArray[np.float64]
    averaged: NDArray[np.bool_]

    @property
    def num_classes(self) -> int:
        """C, the classes of training."""
        return int(self.correct.shape[-1])

    @property
    def seen_support(self) -> NDArray[np.float64]:
        """Gold instances of the classes of training, ``(..., C)``."""
        return self.support[..., : self.num_classes]

    @property
    def present(self) -> NDArray[np.bool_]:
        """Classes of training with at least one gold instance, ``(..., C)``."""
        return self.seen_support > 0

    @property
    def total(self) -> NDArray[np.float64]:
        """Instances, those of unseen classes included, ``(...)``."""
        return np.asarray(self.support.sum(axis=-1))


def confusion_matrix(gold: NDArray[np.int64], predicted: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    """Instances per gold class (rows, unseen ones last) and predicted class, ``(G, C)`` with G >= C.

    Raises:
        DataError: no instances, unequal lengths, or an index out of range.
    """
    gold, predicted = _checked(gold, predicted, num_classes)
    rows = max(num_classes, int(gold.max()) + 1)
    cells = np.bincount(gold * num_classes + predicted, minlength=rows * num_classes)
    return cells.reshape(rows, num_classes).astype(np.int64, copy=False)


def confusion_counts(gold: NDArray[np.int64], predicted: NDArray[np.int64], num_classes: int) -> Counts:
    """Counts of one split from gold ``(N,)`` and predicted ``(N,)`` class indices.

    Raises:
        DataError: no instances, unequal lengths, or an index out of range.
    """
    gold, predicted = _checked(gold, predicted, num_classes)
    hits = np.bincount(gold[gold == predicted], minlength=num_classes)
    support = np.bincount(gold, minlength=num_classes)
    guesses = np.bincount(predicted, minlength=num_classes)
    averaged = np.ones(num_classes, dtype=bool)
    return Counts(hits.astype(np.float64), support.astype(np.float64), guesses.astype(np.float64), averaged)


def _checked(
    gold: NDArray[np.int64], predicted: NDArray[np.int64], num_classes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    gold, predicted = np.asarray(gold, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    if gold.ndim != 1 or gold.shape != predicted.shape or gold.size == 0:
        raise DataError(
            "Expected one gold and one predicted class index per instance and at least one instance, but got shapes "
            f"{gold.shape} and {predicted.shape}."
        )
    if gold.min() < 0 or predicted.min() < 0 or predicted.max() >= num_classes:
        raise DataError(
            f"Expected gold indices >= 0 and predicted indices in 0..{num_classes - 1}, but gold starts at "
            f"{gold.min()} and predictions span {predicted.min()}..{predicted.max()}."
        )
    return gold, predicted


def _ratio(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    """``numerator / denominator``, 0 where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.zeros(np.shape(numerator)), where=denominator != 0)


def _mean_over(values: NDArray[np.float64], classes: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean over the chosen classes of the last axis, 0 where none is chosen."""
    chosen = np.broadcast_to(classes, values.shape)
    return _ratio(np.where(chosen, values, 0.0).sum(axis=-1), chosen.sum(axis=-1).astype(np.float64))


def _least_over(values: NDArray[np.float64], classes: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Minimum over the chosen classes of the last axis, 0 where none is chosen."""
    least = np.where(classes, values, np.inf).min(axis=-1)
    return np.where(np.isfinite(least), least, 0.0)


def precision_per_class(counts: Counts) -> NDArray[np.float64]:
    """P_j, 0 for a class that is never predicted, ``(..., C)``."""
    return _ratio(counts.correct, counts.predicted)


def recall_per_class(counts: Counts) -> NDArray[np.float64]:
    """R_j, 0 for a class without instances, ``(..., C)``."""
    return _ratio(counts.correct, counts.seen_support)


def f1_per_class(counts: Counts) -> NDArray[np.float64]:
    """F1_j, 0 for a class that is neither in the split nor predicted, ``(..., C)``."""
    return _ratio(2.0 * counts.correct, counts.seen_support + counts.predicted)


def accuracy(counts: Counts) -> NDArray[np.float64]:
    """Share of correct decisions; instances of unseen classes are errors."""
    return _ratio(counts.correct.sum(axis=-1), counts.total)


def macro_precision(counts: Counts) -> NDArray[np.float64]:
    """Mean of P_j over the classes of training."""
    return _mean_over(precision_per_class(counts), counts.averaged)


def macro_recall(counts: Counts) -> NDArray[np.float64]:
    """Mean of R_j over the classes of training, absent ones as 0; `balanced_accuracy` leaves those out."""
    return _mean_over(recall_per_class(counts), counts.averaged)


def macro_f1(counts: Counts, classes: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """Mean of F1_j over the classes of training, or over those that `classes` ``(C,)`` marks (head, tail, ...)."""
    averaged = counts.averaged if classes is None else counts.averaged & classes
    return _mean_over(f1_per_class(counts), averaged)


def micro_f1(counts: Counts) -> NDArray[np.float64]:
    """F1 of the summed counts; accuracy unless the split has unseen classes."""
    both = (counts.seen_support + counts.predicted).sum(axis=-1)
    return _ratio(2.0 * counts.correct.sum(axis=-1), both)


def weighted_f1(counts: Counts) -> NDArray[np.float64]:
    """Mean of F1_j weighted by support."""
    support = counts.seen_support
    return _ratio((support * f1_per_class(counts)).sum(axis=-1), support.sum(axis=-1))


def balanced_accuracy(counts: Counts) -> NDArray[np.float64]:
    """Mean of R_j over the classes with instances in the split (Brodersen et al., 2010)."""
    return _mean_over(recall_per_class(counts), counts.present)


def g_mean(counts: Counts) -> NDArray[np.float64]:
    """Geometric mean of R_j over the classes with instances in the split; 0 as soon as one of them is never found."""
    recall, present = recall_per_class(counts), counts.present
    found = np.where(present & (recall > 0), recall, 1.0)
    mean = np.exp(_mean_over(np.log(found), present))
    return np.where((present & (recall == 0)).any(axis=-1) | ~present.any(axis=-1), 0.0, mean)


def worst_class_recall(counts: Counts) -> NDArray[np.float64]:
    """Smallest R_j among the classes with instances in the split."""
    return _least_over(recall_per_class(counts), counts.present)


def worst_class_f1(counts: Counts) -> NDArray[np.float64]:
    """Smallest F1_j among the classes with instances in the split."""
    return _least_over(f1_per_class(counts), counts.present)


def mcc(counts: Counts) -> NDArray[np.float64]:
    """Multi-class Matthews correlation, 0 where one side has a single class (Gorodkin, 2004).

    ``(c s - sum_k p_k t_k) / sqrt((s^2 - sum_k p_k^2) (s^2 - sum_k t_k^2))`` with c correct of s instances, p_k
    predicted and t_k gold instances of class k; unseen classes count among the t_k.
    """
    total = counts.total
    agreement = counts.correct.sum(axis=-1) * total - (counts.predicted * counts.seen_support).sum(axis=-1)
    spread = (total**2 - (counts.predicted**2).sum(axis=-1)) * (total**2 - (counts.support**2).sum(axis=-1))
    return _ratio(agreement, np.sqrt(spread))


def cohen_kappa(counts: Counts) -> NDArray[np.float64]:
    """Cohen's kappa, agreement beyond chance: ``(c s - sum_k p_k t_k) / (s^2 - sum_k p_k t_k)``."""
    total = counts.total
    chance = (counts.predicted * counts.seen_support).sum(axis=-1)
    return _ratio(counts.correct.sum(axis=-1) * total - chance, total**2 - chance)


#: Every decision metric by name; larger is better.
COUNT_METRICS: dict[str, Callable[[Counts], NDArray[np.float64]]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "cohen_kappa": cohen_kappa,
    "g_mean": g_mean,
    "macro_f1": macro_f1,
    "macro_precision": macro_precision,
    "macro_recall": macro_recall,
    "mcc": mcc,
    "micro_f1": micro_f1,
    "weighted_f1": weighted_f1,
    "worst_class_f1": worst_class_f1,
    "worst_class_recall": worst_class_recall,
}


def _of_labels(metric: Callable[[Counts], NDArray[np.float64]]) -> LabelMetric:
    def of_labels(gold: NDArray[np.int64], predicted: NDArray[np.int64], num_classes: int) -> float:
        return float(metric(confusion_counts(gold, predicted, num_classes)))

    of_labels.__doc__ = metric.__doc__
    return of_labels


#: The same metrics on class indices: ``METRICS[name](gold, predicted, num_classes)``.
METRICS: dict[str, LabelMetric] = {name: _of_labels(metric) for name, metric in COUNT_METRICS.items()}


@dataclass(frozen=True)
class CountMetric:
    """A decision metric with C fixed, called with ``gold (N,)`` and ``predicted (N,)``.

    Attributes:
        name: its name in `COUNT_METRICS`.
        num_classes: C.
    """

    name: str
    num_classes: int

    def __call__(self, gold: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
        """The metric of class indices."""
        return METRICS[self.name](gold, predicted, self.num_classes)

    def of_counts(
        self, correct: NDArray[np.float64], support: NDArray[np.float64], predicted: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """The metric of many decisions on the same rows, ``(K,)``, from counts per class.

        Args:
            correct: right decisions, ``(K, C)``.
            support: gold rows, ``(G,)``, G >= C.
            predicted: decisions, ``(K, C)``.
        """
        averaged = np.ones(self.num_classes, dtype=bool)
        rows = np.broadcast_to(support, (len(correct), len(support)))
        return COUNT_METRICS[self.name](Counts(correct, rows, predicted, averaged))


def metric_function(name: str, num_classes: int) -> CountMetric:
    """The metric `name` with C fixed, ``(gold (N,), predicted (N,)) -> float``: what tuned post-hoc steps maximise.

    Raises:
        UnknownNameError: there is no such metric.
    """
    if name not in METRICS:
        raise UnknownNameError(f"Unknown metric {name!r}. {did_you_mean(name, METRICS)}")
    return CountMetric(name, num_classes)


def without_vanished(counts: Counts, in_split: NDArray[np.bool_]) -> Counts:
    """Resampled counts whose macro averages leave out the classes that vanished from the resample.

    A class vanishes when the split has or predicts it (`in_split`, ``(C,)``) and the resample does neither: its F1 is
    0 / 0 there by the accident of the draw, not by a fault of the model. Counting it as 0 would push the interval of a
    split with tiny classes below its own point estimate. A class that the split itself lacks stays in, as 0.
    """
    drawn = counts.present | (counts.predicted > 0)
    return replace(counts, averaged=counts.averaged & (drawn | ~in_split))
