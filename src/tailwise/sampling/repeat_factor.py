"""Repeat-factor sampling (RFS), and its instance-aware form (IRFS).

    f_j = n_j / N      r_j = max(1, (t / f_j)^q)      r_i = max_{j in labels(i)} r_j,  1 without a label
    IRFS:  f_j = sqrt( n_j / N  *  m_j / sum_k m_k ),  m_j mentions of label j

Row i comes r_i times per epoch in expectation: floor(r_i) times and once more with probability r_i - floor(r_i). No
label grows by more than (t / f_j)^q. Gupta, Dollar, Girshick, LVIS, CVPR 2019 (q = 1/2, t = 0.001); Yaman et al.,
Instance-Aware Repeat Factor Sampling, 2023. Survey section 3.1. For one label per row it is a soft square-root
over-sampling of the classes below t; for sequence labelling, the labels of a row are the entity types of the sentence.
Differs from the authors' code (detectron2) in that the number of extra rows of an epoch is fixed, so that every epoch
has the same length: the rows to be rounded up are drawn by systematic sampling, and their expected number is rounded
down to a whole number. `mean_uses` gives the factors that result. A label without a row has no factor (NaN).
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tailwise.errors import SettingError
from tailwise.sampling.checks import truth_value
from tailwise.sampling.label_matrix import label_counts, one_hot
from tailwise.sampling.multilabel_base import ResampledSetSampler, rounded_at_random

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from tailwise.sampling.label_matrix import LabelMatrix

__all__ = [
    "RepeatFactorSampler",
    "instance_aware_frequencies",
    "label_frequencies",
    "label_repeat_factors",
    "row_repeat_factors",
    "threshold_for",
]


def label_frequencies(matrix: LabelMatrix) -> NDArray[np.float64]:
    """f_j, the share of the rows that have label j, ``(C,)``."""
    return np.asarray(label_counts(matrix) / matrix.shape[0])


def instance_aware_frequencies(matrix: LabelMatrix, mentions: ArrayLike | None = None) -> NDArray[np.float64]:
    """f_j of IRFS, the geometric mean of the shares of the rows and of the mentions, ``(C,)``.

    Args:
        matrix: ``(N, C)``.
        mentions: how often each label is mentioned, ``(C,)``; None: once in each of its rows.

    Raises:
        SettingError: `mentions` of another shape, negative, or 0 for a label that has a row.
    """
    counts = label_counts(matrix)
    number = counts.astype(np.float64) if mentions is None else np.asarray(mentions, dtype=np.float64)
    if number.shape != counts.shape or not np.isfinite(number).all() or (number < 0).any():
        raise SettingError(
            f"Expected `mentions` to be {counts.size} numbers >= 0, one per label, but got {np.asarray(mentions)!r}."
        )
    if ((number == 0) & (counts > 0)).any():
        label = int(np.flatnonzero((number == 0) & (counts > 0))[0])
        raise SettingError(f"Expected `mentions` above 0 for every label with a row, but label {label} has none.")
    total = float(number.sum())
    return np.asarray(np.sqrt(label_frequencies(matrix) * (number / total if total > 0.0 else number)))


def label_repeat_factors(frequencies: ArrayLike, threshold: float, *, power: float = 0.5) -> NDArray[np.float64]:
    """r_j = max(1, (t / f_j)^q), ``(C,)``; NaN where f_j = 0."""
    share = np.asarray(frequencies, dtype=np.float64)
    ratio = np.full(share.shape, np.nan)
    np.divide(threshold, share, out=ratio, where=share > 0)
    return np.asarray(np.maximum(1.0, ratio**power))


def row_repeat_factors(matrix: LabelMatrix, factors: NDArray[np.float64]) -> NDArray[np.float64]:
    """r_i, the largest factor of the labels of a row, 1 without a label, ``(N,)``."""
    largest = np.ones(matrix.shape[0])
    labelled = np.flatnonzero(np.diff(matrix.indptr))
    if labelled.size:
        largest[labelled] = np.maximum.reduceat(factors[matrix.indices], matrix.indptr[labelled])
    return largest


def threshold_for(frequencies: ArrayLike, share: float = 0.3) -> float:
    """A threshold t that about this share of the labels with a row lie below, to start a search from.

    Raises:
        SettingError: no label has a row; `share` outside [0, 1].
    """
    present = np.asarray(frequencies, dtype=np.float64)
    present = present[present > 0]
    if present.size == 0:
        raise SettingError("Expected at least one label with a row to choose a threshold from, but got none.")
    if not 0.0 <= share <= 1.0:
        raise SettingError(f"Expected `share` to lie in [0, 1], but got {share!r}.")
    return float(np.quantile(present, share))


class RepeatFactorSampler(ResampledSetSampler):
    """Rows with a rare label come more than once per epoch.

    Args:
        labels: see `LabelMatrixSampler`; also one class index per row, ``(N,)``.
        threshold: t in (0, 1], the frequency below which a label is repeated; see `threshold_for`.
        power: q > 0; 1/2 as in the paper, 1 lifts every label up to t.
        instance_aware: whether frequencies are those of IRFS.
        mentions: how often each label is mentioned, for IRFS, ``(C,)``; None: once in each of its rows.
        seed: see `LabelMatrixSampler`.
        num_samples: length of an epoch; None takes the sum of the repeat factors.
        num_classes: see `LabelMatrixSampler`.

    Raises:
        SettingError: `threshold` or `power` out of range; `mentions` without `instance_aware`, or unfit.
    """

    def __init__(
        self,
        labels: Any,
        *,
        threshold: float = 1e-3,
        power: float = 0.5,
        instance_aware: bool = False,
        mentions: ArrayLike | None = None,
        seed: int = 0,
        num_samples: int | None = None,
        num_classes: int | None = None,
    ) -> None:
        name = type(self).__name__
        if not 0.0 < threshold <= 1.0:
            raise SettingError(f"{name}: expected `threshold` to lie in (0, 1], but got {threshold!r}.")
        if not 0.0 < power < float("inf"):
            raise SettingError(f"{name}: expected `power` to be above 0, but got {power!r}.")
        if not truth_value(instance_aware, "instance_aware", name) and mentions is not None:
            raise SettingError(f"{name}: `mentions` has a meaning only with `instance_aware=True`.")
        given = one_hot(labels, num_classes, name) if _one_class_per_row(labels) else labels
        super().__init__(given, seed=seed, num_samples=num_samples, num_classes=num_classes)
        self.threshold = threshold
        self.power = power
        matrix = self.label_matrix
        frequencies = instance_aware_frequencies(matrix, mentions) if instance_aware else label_frequencies(matrix)
        self.label_factors = label_repeat_factors(frequencies, threshold, power=power)
        self.repeat_factors = row_repeat_factors(matrix, self.label_factors)

    @cached_property
    def _mean_uses(self) -> NDArray[np.float64]:
        whole = np.floor(self.repeat_factors)
        fraction = self.repeat_factors - whole
        total = float(fraction.sum())
        # The sum of fractions that make up a whole number may come out just below it.
        return whole + fraction * (np.floor(total * (1.0 + 1e-12)) / total if total > 0.0 else 0.0)

    def mean_uses(self) -> NDArray[np.float64]:
        """The repeat factors, less what makes the number of extra rows a whole one, ``(N,)``."""
        return self._mean_uses

    def uses(self, generator: np.random.Generator) -> NDArray[np.int64]:
        """How often each row comes: its factor, rounded up or down at random, ``(N,)``."""
        return rounded_at_random(self._mean_uses, generator)


def _one_class_per_row(labels: Any) -> bool:
    if isinstance(labels, list | tuple):
        return len(labels) > 0 and not hasattr(labels[0], "__len__")
    return getattr(labels, "ndim", 2) == 1 and np.asarray(labels).dtype.kind != "O"
