"""Profiles of imbalance: how many instances each class shall have.

With k = 0..C-1 the rank of a class (0 the most frequent), t = k / (C - 1), and n = n_(0):

    step         n_(k) = n for the first C - m classes, n / rho for the last m = round(mu C)   Buda et al., NN 106, 2018
    linear       n_(k) = n (1 - t (1 - 1/rho))                                                 Buda et al., 2018
    exponential  n_(k) = n rho^(-t)                                            Cui et al., CVPR 2019; Cao et al., 2019
    power        n_(k) = n (k + 1)^(-a),  a = log rho / log C                  Pareto; rho = C is Zipf's law

Counts are rounded to the nearest whole number (half to even), those of the exponential profile down, as in the code
that made CIFAR-LT. No class goes below `min_count`. Survey section 2.1.

Differs from the code of CIFAR-LT where n rho^(-t) is a whole number but for rounding errors: it is then taken as that
number. `tailwise.imbalance.shape` does the inverse: it finds the profile of given counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tailwise.errors import SettingError, UnknownNameError
from tailwise.imbalance.shape import PROFILES, ProfileName
from tailwise.registry import did_you_mean
from tailwise.sampling.class_mixture import largest_remainders

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Profile", "profile_named"]

DEFAULT_MU = 0.4
_ALIASES: dict[str, ProfileName] = {"pareto": "power", "long-tailed": "exponential"}
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Profile:
    """A shape of imbalance with its parameters.

    Attributes:
        shape: step, linear, exponential or power.
        rho: ratio of the largest to the smallest count, >= 1.
        mu: share of minority classes, in (0, 1); None for every shape but step.

    Raises:
        SettingError: rho below 1; mu outside (0, 1), missing for step or given for another shape.
        UnknownNameError: another shape.
    """

    shape: ProfileName
    rho: float
    mu: float | None = None

    def __post_init__(self) -> None:
        if self.shape not in PROFILES:
            raise UnknownNameError(f"Unknown shape {self.shape!r}. {did_you_mean(str(self.shape), PROFILES)}")
        if not _is_number(self.rho) or not 1.0 <= self.rho < math.inf:
            raise SettingError(
                f"Expected `rho`, the largest count over the smallest, at least 1, but got {self.rho!r}."
            )
        if self.shape != "step" and self.mu is not None:
            raise SettingError(
                f"`mu` = {self.mu!r} is the share of minority classes of a step; the shape {self.shape} has none. "
                "Leave it out."
            )
        if self.shape == "step" and not (_is_number(self.mu) and 0.0 < float(self.mu or 0.0) < 1.0):
            raise SettingError(f"Expected `mu`, the share of minority classes, between 0 and 1, but got {self.mu!r}.")

    def minority_classes(self, num_classes: int) -> int:
        """The number of minority classes of a step, round(mu C).

        Raises:
            SettingError: mu leaves no minority or no majority class, or the profile is no step.
        """
        if self.mu is None:
            raise SettingError(f"The shape {self.shape} has no minority classes; only step has.")
        number = round(self.mu * num_classes)
        if not 0 < number < num_classes:
            kind = "minority" if number == 0 else "majority"
            raise SettingError(
                f"`mu` = {self.mu:g} of {num_classes} classes leaves no {kind} class. Expected `mu` of at least "
                f"{1 / num_classes:.3g} (1 minority class) and at most {1 - 1 / num_classes:.3g} ({num_classes - 1})."
            )
        return number

    def relative(self, ranks: ArrayLike, num_classes: int, rho: ArrayLike | None = None) -> NDArray[np.float64]:
        """n_(k) / n, in [1/rho, 1].

        Args:
            ranks: k, any shape.
            num_classes: C >= 2.
            rho: other ratios than that of the profile, broadcast against `ranks`.

        Raises:
            SettingError: fewer than 2 classes, or mu leaves no minority or no majority class.
        """
        if num_classes < 2:
            raise SettingError(f"A profile needs at least 2 classes, but there are {num_classes}.")
        k = np.asarray(ranks, dtype=np.float64)
        ratio = np.asarray(self.rho if rho is None else rho, dtype=np.float64)
        t = k / (num_classes - 1)
        if self.shape == "step":
            return np.where(k < num_classes - self.minority_classes(num_classes), 1.0, 1.0 / ratio)
        if self.shape == "linear":
            return np.asarray(1.0 - t * (1.0 - 1.0 / ratio))
        if self.shape == "exponential":
            return np.asarray(ratio**-t)
        return np.asarray(ratio ** -(np.log1p(k) / math.log(num_classes)))

    def rounded(self, counts: ArrayLike, min_count: int = 1) -> NDArray[np.int64]:
        """Whole counts by the rule of the shape, at least `min_count`."""
        exact = np.asarray(counts, dtype=np.float64)
        whole = np.floor(exact * (1.0 + _ROUNDING)) if self.shape == "exponential" else np.rint(exact)
        return np.maximum(whole, min_count).astype(np.int64)

    def counts(self, num_classes: int, largest: int, min_count: int = 1) -> NDArray[np.int64]:
        """Counts by rank, in descending order, ``(C,)``.

        Args:
            num_classes: C >= 2.
            largest: n, the count of the most frequent class, at least 1.
            min_count: what no class goes below, at least 1.

        Raises:
            SettingError: a number out of its range.
        """
        _check_whole("largest", largest)
        _check_whole("min_count", min_count)
        return self.rounded(largest * self.relative(np.arange(num_classes), num_classes), min_count)

    def counts_with_sum(self, num_classes: int, total: int, min_count: int = 1) -> NDArray[np.int64]:
        """Counts by rank, in descending order, whose sum is exactly `total`, ``(C,)``.

        Where the profile would put classes below `min_count`, they get `min_count` and the others share the rest.

        Raises:
            SettingError: `total` is less than `min_count` per class.
        """
        _check_whole("keep_total", total)
        _check_whole("min_count", min_count)
        if total < num_classes * min_count:
            raise SettingError(
                f"Expected `keep_total` of at least {num_classes * min_count} ({num_classes} classes of at least "
                f"{min_count}), but got {total}."
            )
        shares = self.relative(np.arange(num_classes), num_classes)
        for free in range(num_classes, 0, -1):
            rest = total - (num_classes - free) * min_count
            head = largest_remainders(shares[:free] / shares[:free].sum(), rest)
            if head[-1] >= min_count:
                break
        return np.concatenate([head, np.full(num_classes - free, min_count)])

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"shape": self.shape, "rho": self.rho, "mu": self.mu}


def profile_named(shape: str, rho: float, mu: float | None = None) -> Profile:
    """A profile by name; also known are ``pareto`` (power) and ``long-tailed`` (exponential). A step has mu 0.4.

    Raises:
        SettingError: see `Profile`.
    """
    known = _ALIASES.get(shape, shape)
    if known not in PROFILES:
        raise UnknownNameError(f"Unknown shape {shape!r}. {did_you_mean(str(shape), [*PROFILES, *_ALIASES])}")
    return Profile(known, rho, DEFAULT_MU if known == "step" and mu is None else mu)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _check_whole(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise SettingError(f"Expected `{name}` to be a whole number of at least 1, but got {value!r}.")
