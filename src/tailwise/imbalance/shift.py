"""Shift of the class distribution between splits.

    total variation       TV = 1/2 sum_j |p_j - q_j|                          in [0, 1]
    Jensen-Shannon        JS = H((p + q)/2) - (H(p) + H(q))/2                 in bits, in [0, 1]
    chi-square test       homogeneity of the two rows of counts

The chi-square approximation needs expected counts of five or more (Cochran, Biometrics 10, 1954). Classes below that in
either split are pooled into one cell, rarest first, and the pool takes in further classes until it reaches five itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import chi2_contingency

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tailwise.data.corpus import SplitName

__all__ = ["ClassShift", "chi_square_p_value", "class_shift", "jensen_shannon", "total_variation"]

_MIN_EXPECTED = 5.0


@dataclass(frozen=True)
class ClassShift:
    """How the classes of one split differ from those of another.

    Attributes:
        first: name of one split.
        second: name of the other.
        total_variation: TV of the two class distributions.
        jensen_shannon: JS divergence in bits.
        p_value: of the chi-square test that both come from one distribution; None where too few instances are left to
            test, or where one row has several instances, which are not independent.
        cells: cells of the test after pooling.
        pooled_classes: classes in the pooled cell.
        missing: classes of `first` without an instance in `second`.
        added: classes of `second` without an instance in `first`.
    """

    first: SplitName
    second: SplitName
    total_variation: float
    jensen_shannon: float
    p_value: float | None
    cells: int
    pooled_classes: int
    missing: tuple[str, ...]
    added: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**vars(self), "missing": list(self.missing), "added": list(self.added)}


def total_variation(first: NDArray[np.int64], second: NDArray[np.int64]) -> float:
    """Half the L1 distance of two class distributions, given as counts ``(C,)``."""
    return float(np.abs(first / first.sum() - second / second.sum()).sum() / 2.0)


def jensen_shannon(first: NDArray[np.int64], second: NDArray[np.int64]) -> float:
    """Jensen-Shannon divergence in bits of two class distributions, given as counts ``(C,)``."""
    p, q = first / first.sum(), second / second.sum()
    divergence = _entropy((p + q) / 2.0) - (_entropy(p) + _entropy(q)) / 2.0
    return min(1.0, max(0.0, divergence))


def _entropy(shares: NDArray[np.float64]) -> float:
    positive = shares[shares > 0]
    return float(-(positive * np.log2(positive)).sum())


def chi_square_p_value(first: NDArray[np.int64], second: NDArray[np.int64]) -> tuple[float | None, int, int]:
    """p-value of homogeneity for two rows of counts ``(C,)``, number of cells and of pooled classes.

    No continuity correction. The p-value is None where pooling leaves fewer than two cells.
    """
    table = np.stack([first, second]).astype(np.float64)
    table = table[:, table.sum(axis=0) > 0]
    table = table[:, np.argsort(table.sum(axis=0), kind="stable")]
    smaller = table.sum(axis=1).min() / table.sum()
    expected = table.sum(axis=0) * smaller
    pooled = int(np.count_nonzero(expected < _MIN_EXPECTED))
    if pooled:
        while pooled < expected.size and expected[:pooled].sum() < _MIN_EXPECTED:
            pooled += 1
        table = np.concatenate([table[:, :pooled].sum(axis=1, keepdims=True), table[:, pooled:]], axis=1)
    cells = int(table.shape[1])
    if cells < 2:
        return None, cells, pooled
    result = chi2_contingency(table, correction=False)
    return float(result.pvalue), cells, pooled


def class_shift(
    first: tuple[SplitName, NDArray[np.int64]], second: tuple[SplitName, NDArray[np.int64]], names: Sequence[str]
) -> ClassShift:
    """Compare two splits, each a name and its counts ``(C,)`` over the same classes; both hold instances."""
    (first_name, p), (second_name, q) = first, second
    p_value, cells, pooled = chi_square_p_value(p, q)
    return ClassShift(
        first=first_name,
        second=second_name,
        total_variation=total_variation(p, q),
        jensen_shannon=jensen_shannon(p, q),
        p_value=p_value,
        cells=cells,
        pooled_classes=pooled,
        missing=_names(names, (p > 0) & (q == 0)),
        added=_names(names, (p == 0) & (q > 0)),
    )


def _names(names: Sequence[str], chosen: NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(name for name, keep in zip(names, chosen.tolist(), strict=True) if keep)
