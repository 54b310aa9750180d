"""Which differences between methods are more than noise.

A paired test: the difference of two methods on the same instances and seeds against its own bootstrap deviations d_b
(`tailwise.evaluation.bootstrap`), two-sided,

    p = (1 + #{b : |d_b| >= |difference|}) / (B + 1),

so no p-value is below 1 / (B + 1). Families of tests are corrected by Holm's step-down procedure (1979), which controls
the chance of any false rejection. Methods that no test separates share a tie group: the maximal sets of mutually
inseparable methods, as in a compact letter display (Piepho, J. of Computational and Graphical Statistics 13, 2004).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from tailwise.errors import SettingError
from tailwise.evaluation.bootstrap import BootstrapResult, larger_is_better

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["BaselineTests", "PairedTest", "TieGroups", "against_baseline", "holm", "p_value", "tie_groups"]


def p_value(difference: float, deviations: NDArray[np.float64]) -> float:
    """Two-sided p of a difference against B deviations under the null; 1 for no difference at all."""
    exceeding = int((np.abs(deviations) >= abs(difference) - 1e-12).sum())
    return (1 + exceeding) / (len(deviations) + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted by Holm's procedure, in the order given."""
    if len(p_values) == 0:
        return []
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(p_values, method="holm")[1]]


@dataclass(frozen=True)
class PairedTest:
    """One method against the baseline: difference (method minus baseline), its interval, p as it is and adjusted."""

    method: str
    difference: float
    low: float
    high: float
    p_value: float
    p_adjusted: float
    significant: bool


@dataclass(frozen=True)
class BaselineTests:
    """Every other method against one baseline.

    Attributes:
        metric: what was compared.
        baseline: the method compared against.
        level: confidence level; a test is significant where its adjusted p is at most ``1 - level``.
        tests: one per other method, in the order of the result.
    """

    metric: str
    baseline: str
    level: float
    tests: tuple[PairedTest, ...]

    def to_frame(self) -> pd.DataFrame:
        """One row per method, the fields of `PairedTest` as columns."""
        return pd.DataFrame([asdict(test) for test in self.tests], columns=list(PairedTest.__dataclass_fields__))


def against_baseline(result: BootstrapResult, baseline: str, metric: str, *, level: float = 0.95) -> BaselineTests:
    """Test every method against `baseline`, Holm-corrected over the methods.

    Args:
        result: resampled scores of all methods.
        baseline: the method to compare against.
        metric: one of the result's metrics.
        level: confidence level of intervals (not corrected) and tests (corrected).

    Raises:
        UnknownNameError: no such method or metric in the result.
        SettingError: a level outside (0, 1), or too few resamples for any test to reject.
    """
    others = [method for method in result.methods if method != baseline]
    _check_resamples(result, len(others), level)
    raw = [p_value(*result.paired(method, baseline, metric)) for method in others]
    tests = []
    for method, p, adjusted in zip(others, raw, holm(raw), strict=True):
        change = result.difference(method, baseline, metric, level)
        tests.append(PairedTest(method, *change, p, adjusted, _rejected(adjusted, level)))
    return BaselineTests(metric, baseline, level, tuple(tests))


@dataclass(frozen=True)
class TieGroups:
    """Methods from best to worst, and which of them the data cannot separate.

    Attributes:
        metric: what was compared.
        methods: best first.
        points: their means over seeds.
        groups: maximal sets of mutually inseparable methods, by their best member; a method may be in several.
        separated: pairs (better, worse) whose difference is significant after Holm's correction over all pairs.
    """

    metric: str
    methods: tuple[str, ...]
    points: tuple[float, ...]
    groups: tuple[tuple[str, ...], ...]
    separated: tuple[tuple[str, str], ...]

    @property
    def letters(self) -> dict[str, str]:
        """Per method the letters of its groups, ``a`` for the best; methods that share a letter are tied."""
        return {m: "".join(_letter(i) for i, group in enumerate(self.groups) if m in group) for m in self.methods}

    def to_frame(self) -> pd.DataFrame:
        """One row per method, best first: ``method``, ``point``, ``group`` (its letters)."""
        letters = self.letters
        return pd.DataFrame(
            {"method": self.methods, "point": self.points, "group": [letters[method] for method in self.methods]}
        )


def tie_groups(result: BootstrapResult, metric: str, *, level: float = 0.95) -> TieGroups:
    """Rank the methods of a result as far as the data allow.

    Args:
        result: resampled scores of all methods.
        metric: one of the result's metrics.
        level: one minus the family-wise error rate over all pairs.

    Raises:
        UnknownNameError: no such metric in the result.
        SettingError: too few resamples for any of the tests to reject.
    """
    sign = -1.0 if larger_is_better(metric) else 1.0
    ranked = sorted(result.methods, key=lambda method: (sign * result.point(method, metric), method))
    pairs = list(combinations(range(len(ranked)), 2))
    _check_resamples(result, len(pairs), level)
    raw = [p_value(*result.paired(ranked[i], ranked[j], metric)) for i, j in pairs]
    apart = [pair for pair, p in zip(pairs, holm(raw), strict=True) if _rejected(p, level)]
    return TieGroups(
        metric=metric,
        methods=tuple(ranked),
        points=tuple(result.point(method, metric) for method in ranked),
        groups=tuple(tuple(ranked[i] for i in group) for group in _inseparable(len(ranked), apart)),
        separated=tuple((ranked[i], ranked[j]) for i, j in apart),
    )


def _inseparable(size: int, apart: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Maximal sets of 0..size-1 that hold no pair of `apart`, by their smallest members (insert and absorb)."""
    groups = [frozenset(range(size))]
    for i, j in apart:
        split = [part for g in groups for part in ((g - {i}, g - {j}) if i in g and j in g else (g,))]
        groups = [g for n, g in enumerate(split) if not any(g < h or (g == h and m < n) for m, h in enumerate(split))]
    return sorted(sorted(group) for group in groups)


def _letter(index: int) -> str:
    """The letter of a group, ``a`` to ``z``; numbers in brackets after that."""
    return chr(97 + index) if index < 26 else f"({index + 1})"


def _rejected(p_adjusted: float, level: float) -> bool:
    return p_adjusted <= 1.0 - level + 1e-12


def _check_resamples(result: BootstrapResult, tests: int, level: float) -> None:
    if not 0.0 < level < 1.0:
        raise SettingError(f"Expected `level` to be between 0 and 1, for example 0.95, but got {level}.")
    if tests > (result.resamples + 1) * (1.0 - level) + 1e-9:
        needed = int(np.ceil(tests / (1.0 - level)))
        raise SettingError(
            f"{tests} corrected tests need at least {needed} resamples to reject anything, but there are "
            f"{result.resamples}. Call bootstrap with resamples=None or a larger number."
        )
