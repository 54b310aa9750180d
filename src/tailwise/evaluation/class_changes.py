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
from tailwise.evaluation.resampling import Patterns, align, indicator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tailwise.evaluation.evaluation import Evaluation

__all__ = ["class_changes"]


def class_changes(
    method: Sequence[Evaluation], baseline: Sequence[Evaluation], *, resamples: int = 1000, seed: int = 0
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
    patterns = Patterns.by_decision(flat)
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
    blocks = list(patterns.draw(resamples, generator))
    present = np.flatnonzero(flat[0].counts.present)
    shape = (2, len(method), len(present))
    points = [_class_f1(e, patterns, patterns.once())[0] for e in flat]
    values = np.stack(points)[:, present].reshape(shape)
    drawn = [
        np.concatenate([_class_f1(e, patterns, block, point)[:, present] for block in blocks])
        for e, point in zip(flat, points, strict=True)
    ]
    replicates = np.stack(drawn, axis=1).reshape(resamples, *shape)
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


def _class_f1(
    evaluation: Evaluation, patterns: Patterns, weights: NDArray[np.float64], point: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """F1 of every class under pattern weights ``(K, b)``, ``(b, C)``; `point` where a class vanished."""
    classes = len(evaluation.label_space)
    gold, predicted = evaluation.gold[patterns.first], evaluation.predicted[patterns.first]
    counts = metrics.Counts(
        correct=(indicator(np.where(gold == predicted, predicted, -1), classes) @ weights).T,
        support=(indicator(np.where(gold < classes, gold, -1), classes) @ weights).T,
        predicted=(indicator(predicted, classes) @ weights).T,
        averaged=np.ones(classes, dtype=bool),
    )
    values = metrics.f1_per_class(counts)
    if point is None:
        return values
    return np.where((counts.support > 0) | (counts.predicted > 0), values, point)
