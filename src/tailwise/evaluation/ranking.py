"""Average precision: the area under the precision-recall curve, one class against the rest.

    AP = sum_k (R_k - R_{k-1}) P_k    over the distinct thresholds k, highest score first

No interpolation (a trapezoid over precision-recall points is optimistic), tied scores enter together, as in
scikit-learn's `average_precision_score`. A random ranking scores the share of positives, so compare AP across classes
with care.

Label ranking asks the same of the labels within one instance: the mean over its labels of the share of own labels among
those that score at least as high (Schapire and Singer, 2000; scikit-learn's `label_ranking_average_precision_score`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

__all__ = ["average_precision", "average_precision_per_class", "label_ranking_precision"]


def average_precision(positive: NDArray[np.bool_], score: NDArray[np.floating]) -> float:
    """AP of one ranking.

    Args:
        positive: which instances belong to the class, ``(N,)``.
        score: larger is more likely positive, ``(N,)``.

    Returns:
        A value in 0..1; NaN without positives.
    """
    total = int(positive.sum())
    if total == 0:
        return float("nan")
    thresholds, gained = np.unique(score[positive], return_counts=True)
    found = np.cumsum(gained[::-1])[::-1]
    taken = len(score) - np.searchsorted(np.sort(score), thresholds)  # sorting values is many times faster than argsort
    return float((gained * found / taken).sum() / total)


def average_precision_per_class(gold: NDArray[np.int64], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """AP of every class against the rest, gold ``(N,)``, scores ``(N, C)`` -> ``(C,)``; NaN for an absent class."""
    return np.array([average_precision(gold == j, scores[:, j]) for j in range(scores.shape[1])])


def label_ranking_precision(gold: csr_matrix, scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Label ranking average precision of every instance, ``(N,)``; 1 where none or all of the labels are its own.

    Args:
        gold: a one for every label of an instance, ``(N, L)``.
        scores: larger is more likely a label of the instance, ``(N, L)``.
    """
    values = np.ones(gold.shape[0])
    own = np.diff(gold.indptr)
    for row in np.flatnonzero((own > 0) & (own < gold.shape[1])):
        score = scores[row, gold.indices[gold.indptr[row] : gold.indptr[row + 1]]]
        above = len(score) - np.searchsorted(np.sort(score), score)
        values[row] = (above / (scores.shape[1] - np.searchsorted(np.sort(scores[row]), score))).mean()
    return values
