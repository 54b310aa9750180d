"""Average precision: the area under the precision-recall curve, one class against the rest.

    AP = sum_k (R_k - R_{k-1}) P_k    over the distinct thresholds k, highest score first

No interpolation (a trapezoid over precision-recall points is optimistic), tied scores enter together, as in
scikit-learn's `average_precision_score`. A random ranking scores the share of positives, so compare AP across classes
with care.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["average_precision", "average_precision_per_class"]


def average_precision(positive: NDArray[np.bool_], score: NDArray[np.float64]) -> float:
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
