"""Do rare classes look like shifted copies of frequent ones? A comparison of their spectra.

Example extrapolation (Wei, EMNLP 2021) carries the spread of one class over to another; it presupposes that classes
differ in their mean and share their covariance. With lambda the eigenvalues of the covariance of a class, as shares of
their sum, in descending order:

    similarity(c, d) = sum_i min(lambda_i(c), lambda_i(d))     in [0, 1], 1 for shifted (and rotated) copies

A spectrum depends on the number of examples, so that of d comes from as many examples of d as c has. Ours: the papers
give no test. It can speak against a shared covariance, hardly for one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tailwise.imbalance.measures import minority_classes

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["MIN_EXAMPLES", "spectral_similarity", "spectrum"]

MIN_EXAMPLES = 5
_MAX_CLASSES = 20
_MAX_EXAMPLES = 50


def spectrum(features: ArrayLike) -> NDArray[np.float64]:
    """Eigenvalues of the covariance of rows ``(n, D)`` as shares, descending, ``(min(n, D),)``; zeros stay zeros."""
    rows = np.asarray(features, dtype=np.float64)
    rows = rows - rows.mean(axis=0)
    gram = rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows
    values = np.maximum(np.linalg.eigvalsh(gram)[::-1], 0.0)
    total = values.sum()
    return np.asarray(values / total if total > 0.0 else values)


def spectral_similarity(
    features: NDArray[Any], labels: NDArray[np.int64], counts: NDArray[np.int64], *, seed: int = 13
) -> float | None:
    """Median over rare classes of the best similarity to a frequent class.

    Rare are the twenty rarest minority classes with five examples or more, frequent the twenty largest other classes;
    at most fifty examples of a class are compared.

    Args:
        features: ``(N, D)``.
        labels: class indices, ``(N,)``.
        counts: examples per class, ``(C,)``.
        seed: of the draws from the frequent classes.

    Returns:
        A number in [0, 1], or None where there are no such classes.
    """
    minority = minority_classes(counts)
    by_count = np.argsort(counts, kind="stable")
    rare = [c for c in by_count if minority[c] and counts[c] >= MIN_EXAMPLES][:_MAX_CLASSES]
    frequent = [c for c in by_count[::-1] if not minority[c] and counts[c] >= MIN_EXAMPLES][:_MAX_CLASSES]
    if not rare or not frequent:
        return None
    generator = np.random.default_rng(seed)
    rows = {c: np.flatnonzero(labels == c) for c in (*rare, *frequent)}
    best = []
    for c in rare:
        size = min(_MAX_EXAMPLES, len(rows[c]))
        own = spectrum(_draw(features, rows[c], size, generator))
        others = (spectrum(_draw(features, rows[d], min(size, len(rows[d])), generator)) for d in frequent)
        best.append(max(_shared(own, other) for other in others))
    return float(np.median(best))


def _draw(
    features: NDArray[Any], rows: NDArray[np.int64], size: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    return np.asarray(features[np.sort(generator.choice(rows, size=size, replace=False))], dtype=np.float64)


def _shared(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    size = min(first.size, second.size)
    return float(np.minimum(first[:size], second[:size]).sum())
