"""Which classes gain and which lose: per-class F1 of one method minus another's, with intervals.

The resamples are those of `tailwise.evaluation.bootstrap`: instances drawn once for all seeds and both methods, the
spread over seeds added. A class without an instance in the split has no change to speak of and is left out; where one
vanishes from a resample, its F1 there is that of the split.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from tailwise.errors import DataError
from tailwise.evaluation import metrics
from tailwise.evaluation.bootstrap import BootstrapResult
from tailwise.evaluation.resampling import Patterns, WeightedCounts, align

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tailwise.evaluation.base import ScoredSplit

__all__ = ["class_changes"]


def class_changes(
    method: Sequence[ScoredSplit], baseline: Sequence[ScoredSplit], *, resamples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Change of F1 per class, method minus baseline.

    Args:
        method: one evaluation per seed.
        baseline: the same seeds in the same order.
        resamples: of the instances.
        seed: of the resampling.

    Returns:
        Columns ``class``, ``train_count``, ``support``, ``change`` (mean over seeds), ``low`` and ``high`` (95%
        interval), classes with at least one instance, in label order.

    Raises:
        DataError: no evaluations, unequal numbers of seeds, or evaluations of different instances.
    """
    if not method or len(method) != len(baseline):
        raise DataError(f"Expected the same seeds for both, but got {len(method)} and {len(baseline)} evaluations.")
    flat = align([*method, *baseline])
    patterns = Patterns.of(flat, ())
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
    counts = [WeightedCounts(evaluation, patterns) for evaluation in flat]
    points = [_class_f1(of(patterns.once()))[0] for of in counts]
    present = np.flatnonzero(flat[0].counts.present)
    shape = (2, len(method), len(present))
    values = np.stack(points)[:, present].reshape(shape)
    blocks = [
        np.stack([_class_f1(of(weights), point)[:, present] for of, point in zip(counts, points, strict=True)], axis=1)
        for weights in patterns.draw(resamples, generator, len(flat[0].label_space))
    ]
    replicates = np.concatenate(blocks).reshape(resamples, *shape)
    names = tuple(flat[0].label_space.names[i] for i in present)
    result = BootstrapResult(("method", "baseline"), names, values, replicates, seed)
    changes = [result.difference("method", "baseline", name) for name in names]
    return pd.DataFrame(
        {
            "class": names,
            "train_count": flat[0].label_space.counts[present],
            "support": flat[0].counts.seen_support[present].astype(np.int64),
            "change": [c.point for c in changes],
            "low": [max(c.low, -1.0) for c in changes],
            "high": [min(c.high, 1.0) for c in changes],
        }
    )


def _class_f1(counts: metrics.Counts, point: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """F1 of every class of resampled counts, ``(b, C)``; `point` ``(C,)`` where a class vanished."""
    values = metrics.f1_per_class(counts)
    return values if point is None else np.where(counts.present | (counts.predicted > 0), values, point)
