"""The shape of an imbalance: which profile the sorted class counts follow.

With k = 0..C-1 the rank of a class (0 the most frequent) and t = k / (C - 1):

    step         n_(k) = a for the C - m most frequent classes, a / rho for the other m    Buda et al., 2018
    linear       n_(k) = a (1 - t (1 - 1/rho))                                             Buda et al., 2018
    exponential  n_(k) = a rho^(-t)                                                        Cui 2019; Cao 2019
    power        n_(k) = a (k + 1)^(-alpha), alpha = log rho / log C                       Pareto, Zipf

Every profile is fitted by least squares on log counts, where an error is a factor and the tail weighs as much as the
head. Step, exponential and power have closed forms; linear is a search over rho with `a` in closed form. R^2 and the
root mean square error are those of the logarithms. The best profile has the smallest

    BIC = C log(SSE / C) + p log C,    p = 3 for step (a, rho, m), else 2,

so that the cut of the step has its price. SSE / C is not taken below the variance that rounding to whole counts leaves,
mean(1 / (12 n^2)), which would otherwise decide between profiles that all fit. Exponential and power are both
long-tailed. Up to rho = 1.5 the counts are called balanced; two classes are a step by definition.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from scipy.optimize import minimize_scalar

from tailwise.imbalance.measures import check_counts

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "BALANCED_RHO",
    "PROFILES",
    "ProfileFit",
    "ProfileName",
    "Shape",
    "ShapeName",
    "classify_shape",
    "fit_profile",
]

ProfileName = Literal["step", "linear", "exponential", "power"]
ShapeName = Literal["balanced", "step", "linear", "long-tailed"]
PROFILES: tuple[ProfileName, ...] = get_args(ProfileName)
BALANCED_RHO = 1.5
POOR_R2 = 0.8
_NO_SPREAD = 1e-9


@dataclass(frozen=True, eq=False)
class ProfileFit:
    """One profile fitted to sorted counts.

    Attributes:
        profile: name of the profile.
        largest: a, the fitted count of the most frequent class.
        rho: fitted ratio of the largest to the smallest count.
        mu: share of minority classes (step only).
        r2: explained variance of the log counts, at most 1; 1 where the counts are all equal and met.
        rmse: root mean square error of the log counts; 0.1 is about ten per cent.
        bic: Bayesian information criterion, lower is better.
        fitted: fitted counts in descending order, ``(C,)``.
    """

    profile: ProfileName
    largest: float
    rho: float
    mu: float | None
    r2: float
    rmse: float
    bic: float
    fitted: NDArray[np.float64]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without the curve."""
        names = ("profile", "largest", "rho", "mu", "r2", "rmse", "bic")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, eq=False)
class Shape:
    """The shape of the counts and the fits behind it.

    Attributes:
        name: balanced, step, linear or long-tailed.
        fits: every profile, best first.
        reason: one sentence that says why.
    """

    name: ShapeName
    fits: tuple[ProfileFit, ...]
    reason: str

    @property
    def best(self) -> ProfileFit:
        """The profile that fits best."""
        return self.fits[0]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"name": self.name, "reason": self.reason, "fits": [fit.to_dict() for fit in self.fits]}


def fit_profile(counts: ArrayLike, profile: ProfileName) -> ProfileFit:
    """Fit one profile to class counts ``(C,)`` in any order; classes without an instance are left out.

    Raises:
        SettingError: `counts` are not counts.
    """
    present = check_counts(counts)
    ordered = np.sort(present[present > 0])[::-1].astype(np.float64)
    logs = np.log(ordered)
    curve, mu = _CURVES[profile](logs)
    error = float(np.square(logs - curve).sum())
    spread = float(np.square(logs - logs.mean()).sum())
    number = ordered.size
    floor = float(np.mean(1.0 / (12.0 * np.square(ordered))))
    parameters = 3 if profile == "step" else 2
    fitted = np.exp(curve)
    return ProfileFit(
        profile=profile,
        largest=float(fitted[0]),
        rho=float(fitted[0] / fitted[-1]),
        mu=mu,
        r2=1.0 - error / spread if spread > _NO_SPREAD else 1.0,
        rmse=float(np.sqrt(error / number)),
        bic=float(number * np.log(max(error / number, floor)) + parameters * np.log(number)),
        fitted=fitted,
    )


def _step_curve(logs: NDArray[np.float64]) -> tuple[NDArray[np.float64], float | None]:
    """Two levels with the cut of least squares: maximise the variance between the two parts."""
    number = logs.size
    if logs[0] - logs[-1] < _NO_SPREAD:
        return np.full(number, logs.mean()), 0.0
    head = np.arange(1, number)
    sums = np.cumsum(logs)
    between = sums[:-1] ** 2 / head + (sums[-1] - sums[:-1]) ** 2 / (number - head)
    cut = int(head[np.argmax(between)])
    curve = np.concatenate([np.full(cut, logs[:cut].mean()), np.full(number - cut, logs[cut:].mean())])
    return curve, (number - cut) / number


def _linear_curve(logs: NDArray[np.float64]) -> tuple[NDArray[np.float64], float | None]:
    """The log of a straight line with rho >= 1; one-dimensional search over log rho."""
    number = logs.size
    ramp = np.linspace(0.0, 1.0, number)
    upper = max(2.0 * float(logs[0] - logs[-1]), 1.0)

    def shape(log_rho: float) -> NDArray[np.float64]:
        return np.asarray(np.log1p(-ramp * -np.expm1(-log_rho)))

    def spread(log_rho: float) -> float:
        return float((logs - shape(log_rho)).var())

    grid = np.linspace(0.0, upper, 65)
    nearest = int(np.argmin([spread(float(x)) for x in grid]))
    bounds = (float(grid[max(nearest - 1, 0)]), float(grid[min(nearest + 1, 64)]))
    found = minimize_scalar(spread, bounds=bounds, method="bounded", options={"xatol": 1e-10})
    curve = shape(float(found.x))
    return curve + (logs - curve).mean(), None


def _exponential_curve(logs: NDArray[np.float64]) -> tuple[NDArray[np.float64], float | None]:
    return _straight(logs, np.arange(logs.size, dtype=np.float64)), None


def _power_curve(logs: NDArray[np.float64]) -> tuple[NDArray[np.float64], float | None]:
    return _straight(logs, np.log(np.arange(1.0, logs.size + 1.0))), None


def _straight(logs: NDArray[np.float64], position: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ordinary least squares of log counts on a position."""
    centred = position - position.mean()
    scale = float(np.square(centred).sum())
    slope = float((centred * logs).sum()) / scale if scale > 0.0 else 0.0
    return np.asarray(logs.mean() + slope * centred)


_CURVES = {"step": _step_curve, "linear": _linear_curve, "exponential": _exponential_curve, "power": _power_curve}


def classify_shape(counts: ArrayLike) -> Shape:
    """Name the shape of class counts ``(C,)``, with all fits, best first.

    Raises:
        SettingError: `counts` are not counts.
    """
    present = check_counts(counts)
    present = present[present > 0]
    rho = float(present.max() / present.min())
    fits = sorted((fit_profile(present, name) for name in PROFILES), key=lambda fit: fit.bic)
    if present.size <= 2:
        fits.sort(key=lambda fit: fit.profile != "step")
    best = fits[0]
    if rho <= BALANCED_RHO:
        return Shape(
            "balanced", tuple(fits), f"The largest class is {rho:.2f} times the smallest, at most {BALANCED_RHO}."
        )
    if present.size <= 2:
        return Shape("step", tuple(fits), "Two classes: one majority and one minority class, a step by definition.")
    return Shape(_shape_of(best.profile), tuple(fits), _reason(best, fits[1]))


def _shape_of(profile: ProfileName) -> ShapeName:
    return profile if profile in {"step", "linear"} else "long-tailed"


def _reason(best: ProfileFit, second: ProfileFit) -> str:
    detail = f", {best.mu:.0%} minority classes" if best.mu is not None else ""
    article = "An" if best.profile == "exponential" else "A"
    text = (
        f"{article} {best.profile} profile (rho {best.rho:.4g}{detail}) fits the log counts best: R2 {best.r2:.3f}, "
        f"next {second.profile} with {second.r2:.3f}."
    )
    return text if best.r2 >= POOR_R2 else f"{text} No profile fits well; take the name as the nearest one only."
