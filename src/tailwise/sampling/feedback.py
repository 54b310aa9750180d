"""The feedback slice: a stratified part of the training rows that is scored during training and never drawn.

    h_j = floor(s n_j + 1/2),   at most n_j - 1        rows of class j in a slice of share s

So every class keeps a row to learn from, and a class of fewer than 1/(2 s) rows gives none. Survey section 3.1
(performance-based re-sampling): scores on rows that are trained on say little about a class, and scores on validation
would make the choice of a model by validation too optimistic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["stratified_slice"]

#: sets the random stream of the slice apart from those of the epochs
_STREAM = 0x66656564


def stratified_slice(labels: NDArray[np.int64], share: float, *, seed: int) -> NDArray[np.int64]:
    """Rows of a stratified random slice, ascending.

    Args:
        labels: class index of every row, ``(N,)``.
        share: s in [0, 1).
        seed: any non-negative integer; equal labels, share and seed give equal slices.

    Returns:
        ``(M,)``, M about s N.
    """
    counts = np.bincount(labels)
    held = np.minimum(np.floor(share * counts + 0.5).astype(np.int64), np.maximum(counts - 1, 0))
    if not held.any():
        return np.empty(0, dtype=np.int64)
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, 0, _STREAM])))
    order = generator.permutation(labels.size)
    order = order[np.argsort(labels[order].astype(np.min_scalar_type(counts.size - 1)), kind="stable")]
    place = np.arange(labels.size) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(order[place < np.repeat(held, counts)])
