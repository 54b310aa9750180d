"""What tuned steps share: a look at the validation scores, and a grid search that prefers the smallest change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tailwise.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

__all__ = ["MARGIN", "check_scores", "smallest_best"]

#: a metric must be better by more than rounding to count as better
MARGIN = 1e-12


def check_scores(step: str, logits: NDArray[Any], target: NDArray[np.int64]) -> NDArray[np.float64]:
    """The validation scores in float64.

    Raises:
        SettingError: no rows, shapes that do not fit, a target outside the classes or a score that is not finite.
    """
    if logits.ndim != 2 or target.shape != (logits.shape[0],):
        raise SettingError(
            f"{step}: expected validation logits (N, C) and targets (N,), but got {logits.shape} and {target.shape}."
        )
    if not target.size:
        raise SettingError(f"{step}: there is no validation row to fit on.")
    if not np.issubdtype(target.dtype, np.integer) or target.min() < 0 or target.max() >= logits.shape[1]:
        raise SettingError(
            f"{step}: expected targets from 0 to {logits.shape[1] - 1}, but got {target.dtype} from {target.min()} to "
            f"{target.max()}. Drop rows of classes that training does not have."
        )
    scores = np.asarray(logits, dtype=np.float64)
    if not np.isfinite(scores).all():
        row = int(np.flatnonzero(~np.isfinite(scores).all(axis=1))[0])
        raise SettingError(f"{step}: the scores of validation row {row} are not finite. The model has diverged.")
    return scores


def smallest_best(grid: Sequence[float], value: Callable[[float], float]) -> tuple[float, dict[str, float]]:
    """The smallest strength of an ascending grid that no other one beats, and the value of every one tried."""
    values = [float(value(strength)) for strength in grid]
    best = 0
    for i, found in enumerate(values):
        if found > values[best] + MARGIN:
            best = i
    return grid[best], {f"{strength:g}": found for strength, found in zip(grid, values, strict=True)}
