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

#: scores ranked at once; bounds the memory of the sorted copies
_CELLS = 1_000_000


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
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    found = np.cumsum(positive[order])[ends]
    gained = np.diff(found, prepend=0)
    return float((gained * found / (ends + 1)).sum() / total)


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
    todo = np.flatnonzero((own > 0) & (own < gold.shape[1]))
    step = max(1, _CELLS // gold.shape[1])
    for start in range(0, len(todo), step):
        rows = todo[start : start + step]
        values[rows] = _ranking_precision(gold[rows].toarray() > 0, scores[rows])
    return values


def _ranking_precision(positive: NDArray[np.bool_], scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """The same of rows ``(b, L)`` with at least one label each."""
    order = np.argsort(-scores, axis=1, kind="stable")
    ranked = np.take_along_axis(scores, order, axis=1)
    found = np.take_along_axis(positive, order, axis=1)
    last = np.ones(ranked.shape, dtype=bool)
    last[:, :-1] = ranked[:, 1:] != ranked[:, :-1]
    places = np.where(last, np.arange(ranked.shape[1]), ranked.shape[1])
    ends = np.minimum.accumulate(places[:, ::-1], axis=1)[:, ::-1]  # where the labels of equal score end
    above = np.take_along_axis(np.cumsum(found, axis=1), ends, axis=1)
    return np.asarray(np.where(found, above / (ends + 1), 0.0).sum(axis=1) / found.sum(axis=1))
