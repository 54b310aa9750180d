"""Imbalance of a vector of class counts, in numbers.

    rho            max n / min n                              Buda et al., Neural Networks 106, 2018
    mu             #{j : pi_j < 1/C} / C                      the same, carried over to natural data (see below)
    H / log C      normalised entropy, 1 balanced, 0 one class
    exp H, 1/sum pi^2                                         effective number of classes (Hill, order 1 and 2)
    Gini           sum_{j,k} |n_j - n_k| / (2 C sum n)
    CV             std(n) / mean(n)
    ID             d(pi, e) / d(iota_m, e) + m - 1            Ortigosa-Hernandez et al., PRL 98, 2017
    LRID           -2 sum_j n_j log(sum n / (C n_j))          Zhu et al., PRL 116, 2018

with pi = n / sum n, natural logarithms, e the uniform distribution. Classes without an instance take no part in any of
them and are counted on their own. Survey section 2.1.

Differs from Buda et al. in mu: their minority classes are known by construction. Here a class is a minority class where
it is rarer than under a uniform distribution, as in the definition of m in ID.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tailwise.errors import SettingError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Distance",
    "ImbalanceMeasures",
    "check_counts",
    "coefficient_of_variation",
    "effective_classes",
    "entropy",
    "gini",
    "imbalance_degree",
    "imbalance_ratio",
    "likelihood_ratio_degree",
    "measure",
    "minority_classes",
    "minority_share",
    "normalised_entropy",
]

Distance = Literal["hellinger", "total_variation"]


def check_counts(counts: ArrayLike) -> NDArray[np.int64]:
    """Class counts as integers, ``(C,)``.

    Raises:
        SettingError: not one-dimensional, not whole, negative, or no instance at all.
    """
    given = np.asarray(counts)
    if given.ndim != 1:
        raise SettingError(f"Expected `counts` to be one number per class, but got an array of shape {given.shape}.")
    whole = np.asarray(np.round(given.astype(np.float64)), dtype=np.int64)
    if given.size and (not np.array_equal(whole, given) or whole.min() < 0):
        raise SettingError(f"Expected `counts` to be whole numbers >= 0, but got {given.tolist()!r}.")
    if whole.sum() == 0:
        raise SettingError("Expected `counts` to hold at least one instance, but every class has none.")
    return whole


def _present(counts: ArrayLike) -> NDArray[np.int64]:
    checked = check_counts(counts)
    return checked[checked > 0]


def _shares(counts: ArrayLike) -> NDArray[np.float64]:
    present = _present(counts)
    return np.asarray(present / present.sum(), dtype=np.float64)


def imbalance_ratio(counts: ArrayLike) -> float:
    """Imbalance ratio rho = max n / min n, >= 1."""
    present = _present(counts)
    return float(present.max() / present.min())


def minority_classes(counts: ArrayLike) -> NDArray[np.bool_]:
    """Which classes have an instance but fewer than the mean of the classes that do, ``(C,)``."""
    checked = check_counts(counts)
    number = np.count_nonzero(checked)
    return np.asarray((checked > 0) & (checked * number < checked.sum()))


def minority_share(counts: ArrayLike) -> float:
    """mu, the share of minority classes among the classes that have an instance, in [0, 1)."""
    return float(minority_classes(counts).sum() / np.count_nonzero(check_counts(counts)))


def entropy(counts: ArrayLike) -> float:
    """H(pi) in nats, in [0, log C]."""
    shares = _shares(counts)
    return float(max(0.0, -(shares * np.log(shares)).sum()))


def normalised_entropy(counts: ArrayLike) -> float:
    """H(pi) / log C: 1 where all classes are equally frequent, near 0 where one holds almost everything.

    A single class counts as balanced.
    """
    number = _present(counts).size
    return min(1.0, entropy(counts) / float(np.log(number))) if number > 1 else 1.0


def effective_classes(counts: ArrayLike, order: int = 1) -> float:
    """Number of equally frequent classes with the same diversity, in [1, C]: exp H (order 1) or 1 / sum pi^2 (order 2).

    Raises:
        SettingError: another order.
    """
    if order == 1:
        return float(np.exp(entropy(counts)))
    if order == 2:
        return float(1.0 / np.square(_shares(counts)).sum())
    raise SettingError(f"Expected argument `order` to be 1 or 2, but got {order!r}.")


def gini(counts: ArrayLike) -> float:
    """Gini coefficient of the counts, 0 where all are equal, below 1."""
    ordered = np.sort(_present(counts)).astype(np.float64)
    number = ordered.size
    weights = 2.0 * np.arange(1, number + 1) - number - 1.0
    return float((weights * ordered).sum() / (number * ordered.sum()))


def coefficient_of_variation(counts: ArrayLike) -> float:
    """Standard deviation of the counts (dividing by C) over their mean."""
    present = _present(counts)
    return float(present.std() / present.mean())


def imbalance_degree(counts: ArrayLike, distance: Distance = "hellinger") -> float:
    """Imbalance degree ID: in (m - 1, m] with m minority classes, 0 where balanced.

    iota_m is the distribution with exactly m minority classes that lies farthest from the uniform one: m classes
    without mass, C - m - 1 classes with 1/C, and the rest on one class.

    Args:
        counts: instances per class, ``(C,)``.
        distance: d, ``"hellinger"`` or ``"total_variation"``; with the latter ID is m - 1 plus the share that the
            minority classes lack on average, 1 - C mean_{j minority} pi_j.

    Raises:
        SettingError: another distance.
    """
    if distance not in _DISTANCES:
        raise SettingError(f"Expected argument `distance` to be one of {', '.join(_DISTANCES)}, but got {distance!r}.")
    apart = _DISTANCES[distance]
    shares = _shares(counts)
    number = shares.size
    minority = int(minority_classes(_present(counts)).sum())
    if minority == 0:
        return 0.0
    uniform = np.full(number, 1.0 / number)
    farthest = np.zeros(number)
    farthest[minority:] = 1.0 / number
    farthest[-1] = 1.0 - (number - minority - 1) / number
    return apart(shares, uniform) / apart(farthest, uniform) + minority - 1


def _hellinger(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.square(np.sqrt(first) - np.sqrt(second)).sum() / 2.0))


def _total_variation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    return float(np.abs(first - second).sum() / 2.0)


_DISTANCES = {"hellinger": _hellinger, "total_variation": _total_variation}


def likelihood_ratio_degree(counts: ArrayLike) -> float:
    """LRID, the likelihood-ratio statistic against the uniform distribution, >= 0; grows with the instances."""
    present = _present(counts).astype(np.float64)
    return float(max(0.0, 2.0 * (present * np.log(present * present.size / present.sum())).sum()))


@dataclass(frozen=True)
class ImbalanceMeasures:
    """Every measure of this module for one vector of counts.

    Attributes:
        num_classes: C, classes with an instance.
        empty_classes: classes without one.
        total: instances.
        smallest: instances of the rarest class.
        median: median of the counts.
        largest: instances of the most frequent class.
        rho: imbalance ratio.
        mu: share of minority classes.
        normalised_entropy: H / log C.
        effective_classes: exp H.
        inverse_simpson: 1 / sum pi^2.
        gini: Gini coefficient.
        coefficient_of_variation: std / mean.
        imbalance_degree: ID, Hellinger distance.
        likelihood_ratio_degree: LRID.
    """

    num_classes: int
    empty_classes: int
    total: int
    smallest: int
    median: float
    largest: int
    rho: float
    mu: float
    normalised_entropy: float
    effective_classes: float
    inverse_simpson: float
    gini: float
    coefficient_of_variation: float
    imbalance_degree: float
    likelihood_ratio_degree: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def measure(counts: ArrayLike) -> ImbalanceMeasures:
    """All measures of a vector of class counts ``(C,)``.

    Raises:
        SettingError: `counts` are not counts (see `check_counts`).
    """
    checked = check_counts(counts)
    present = checked[checked > 0]
    return ImbalanceMeasures(
        num_classes=int(present.size),
        empty_classes=int(checked.size - present.size),
        total=int(present.sum()),
        smallest=int(present.min()),
        median=float(np.median(present)),
        largest=int(present.max()),
        rho=imbalance_ratio(present),
        mu=minority_share(present),
        normalised_entropy=normalised_entropy(present),
        effective_classes=effective_classes(present),
        inverse_simpson=effective_classes(present, order=2),
        gini=gini(present),
        coefficient_of_variation=coefficient_of_variation(present),
        imbalance_degree=imbalance_degree(present),
        likelihood_ratio_degree=likelihood_ratio_degree(present),
    )
