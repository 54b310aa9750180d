"""Class weights: one number per class, from the training counts n_j or given.

    inverse ("balanced")  w_j = n_tot / (C n_j)
    inverse_sqrt          w_j = sqrt(n_tot / (C n_j))
    inverse_power         w_j = n_j^(-a)
    log_inverse           w_j = log(1 + n_tot / n_j)
    max_ratio             w_j = max(n) / n_j
    median_freq           w_j = median(n) / n_j
    effective_number      w_j = (1 - b) / (1 - b^n_j)

Effective number: Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019, eq. 3. Survey section
3.3. Differs from the papers in the normalisation, which is a choice here: Cui et al. make the weights sum to C, so that
the scale of the loss depends on the imbalance; the default keeps the expected weight of an instance at 1.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch

from tailwise.errors import SettingError, UnknownNameError
from tailwise.registry import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

    #: what every loss accepts as `class_weights`: nothing, a rule, a mapping by class name, one number per class
    ClassWeights = str | Mapping[str, float] | ArrayLike | None

__all__ = [
    "RULES",
    "Normalisation",
    "as_array",
    "as_counts",
    "as_size",
    "class_weights",
    "class_weights_tensor",
    "given_weights",
    "positive_counts",
    "warn_of_empty",
]

Normalisation = Literal["mean_over_instances", "sum_to_C", "max_1", "none"]


def effective_number_weights(counts: NDArray[np.float64], beta: float) -> NDArray[np.float64]:
    """(1 - b) / (1 - b^n_j), accurate for b next to 1; b = 0 gives ones.

    Args:
        counts: n_j >= 1, ``(C,)``.
        beta: b in [0, 1).
    """
    if beta == 0.0:
        return np.ones_like(counts)
    weights: NDArray[np.float64] = (1.0 - beta) / -np.expm1(counts * np.log(beta))
    return weights


#: rule name -> function of (counts, beta, power)
RULES: dict[str, Callable[[NDArray[np.float64], float, float], NDArray[np.float64]]] = {
    "balanced": lambda n, _beta, _power: n.sum() / (n.size * n),
    "inverse": lambda n, _beta, _power: n.sum() / (n.size * n),
    "inverse_sqrt": lambda n, _beta, _power: np.sqrt(n.sum() / (n.size * n)),
    "inverse_power": lambda n, _beta, power: n**-power,
    "log_inverse": lambda n, _beta, _power: np.log1p(n.sum() / n),
    "max_ratio": lambda n, _beta, _power: n.max() / n,
    "median_freq": lambda n, _beta, _power: np.median(n) / n,
    "effective_number": lambda n, beta, _power: effective_number_weights(n, beta),
}


def class_weights(
    rule: ClassWeights,
    class_counts: ArrayLike | None = None,
    *,
    class_names: Sequence[str] | None = None,
    normalise: Normalisation = "mean_over_instances",
    clip: tuple[float, float] | None = None,
    beta: float = 0.999,
    power: float = 0.5,
) -> NDArray[np.float64]:
    """Weights of the classes, ``(C,)``.

    Args:
        rule: a name of the table above; a mapping from class name to weight (classes left out weigh 1); one number per
            class; or None for ones. Given numbers are taken as they are, without normalisation.
        class_counts: training instances per class, ``(C,)``; rules need them. A class without an instance is treated
            as if it had one, with a warning.
        class_names: names of the classes, for a mapping and for messages.
        normalise: ``"mean_over_instances"`` makes the mean weight of a training instance 1, ``"sum_to_C"`` the sum over
            classes C, ``"max_1"`` the largest weight 1; ``"none"``.
        clip: lowest and highest weight, applied last.
        beta: b of ``"effective_number"``, in [0, 1).
        power: a of ``"inverse_power"``, in [0, 1]: 0 gives ones, 1 inverse frequency.

    Raises:
        UnknownNameError: an unknown rule or class name.
        SettingError: counts or weights of the wrong length, negative or not finite, or all 0; a rule without counts.
    """
    if normalise not in get_args(Normalisation):
        raise UnknownNameError(
            f"Unknown normalisation {normalise!r}. {did_you_mean(str(normalise), get_args(Normalisation))}"
        )
    if rule is None:
        size = _number_of_classes(class_counts, class_names)
        if size is None:
            raise SettingError(
                "`class_weights` of None needs `class_counts` or `class_names` to know how many classes."
            )
        weights = np.ones(size)
    elif isinstance(rule, str):
        if rule not in RULES:
            raise UnknownNameError(f"Unknown class-weight rule {rule!r}. {did_you_mean(rule, RULES)}")
        if class_counts is None:
            raise SettingError(
                f"The class-weight rule {rule!r} needs `class_counts`, the training instances per class."
            )
        counts = as_counts(class_counts, class_names)
        with np.errstate(all="ignore"):
            weights = _by_rule(rule, positive_counts(counts, class_names), beta=beta, power=power)
            weights = _normalised(weights, counts, normalise)
        if not (np.isfinite(weights).all() and weights.any()):
            raise SettingError(
                f"The class-weight rule {rule!r} gives no usable weights for `class_counts` from {counts.min():g} to "
                f"{counts.max():g}. Give the weights themselves."
            )
    else:
        weights = given_weights(rule, class_counts, class_names)
    return weights if clip is None else np.clip(weights, *_checked_clip(clip))


def class_weights_tensor(
    rule: ClassWeights,
    class_counts: ArrayLike | None,
    class_names: Sequence[str] | None,
    beta: float,
    power: float,
) -> torch.Tensor | None:
    """`class_weights` as a float64 tensor for a loss, or None where there are none; counts are checked all the same."""
    if rule is None:
        _number_of_classes(class_counts, class_names)
        return None
    return torch.from_numpy(class_weights(rule, class_counts, class_names=class_names, beta=beta, power=power).copy())


def given_weights(
    weights: Mapping[str, float] | ArrayLike,
    class_counts: ArrayLike | None = None,
    class_names: Sequence[str] | None = None,
    what: str = "class_weights",
) -> NDArray[np.float64]:
    """Weights as they are given, float64, ``(C,)``.

    Args:
        weights: a mapping from class name to weight (classes left out weigh 1), or one number per class.
        class_counts: of as many classes, or None.
        class_names: of as many classes, for a mapping and for messages.
        what: name of the argument, for messages.

    Raises:
        UnknownNameError: an unknown class name.
        SettingError: not one finite, non-negative number per class, or all zero.
    """
    size = _number_of_classes(class_counts, class_names)
    found = _by_name(weights, class_names, what) if isinstance(weights, Mapping) else _by_class(weights, size, what)
    _check_entries(found, what, class_names)
    if not found.any():
        raise SettingError(f"Expected `{what}` with at least one positive weight, but all are 0.")
    return found


def as_counts(
    class_counts: ArrayLike, class_names: Sequence[str] | None = None, what: str = "class_counts"
) -> NDArray[np.float64]:
    """Training counts as float64, ``(C,)``.

    Args:
        class_counts: a list, an array or a tensor of non-negative numbers, at least one of them positive.
        class_names: for messages; must be as many.
        what: name of the argument, for messages.

    Raises:
        SettingError: not one finite, non-negative number per class, or all zero.
    """
    counts = np.array(as_array(class_counts, what))
    if counts.ndim != 1 or counts.size == 0:
        raise SettingError(f"Expected `{what}` to be one number per class, (C,), but got shape {counts.shape}.")
    if class_names is not None and len(class_names) != counts.size:
        raise SettingError(
            f"Got `{what}` for {counts.size} classes, but {len(class_names)} class names. Give one per class."
        )
    _check_entries(counts, what, class_names)
    if not counts.any():
        raise SettingError(f"Expected `{what}` with at least one number above 0, but all are 0.")
    return counts


def as_size(size: Any, what: str) -> int:
    """The number of classes or groups that the argument `what` gives.

    Raises:
        SettingError: it is not a whole number of at least 1.
    """
    try:
        found = 0 if isinstance(size, bool) else operator.index(size)
    except TypeError:
        found = 0
    if found < 1:
        raise SettingError(f"Expected `{what}` to be a whole number of at least 1, but got {size!r}.")
    return found


def as_array(values: Any, what: str, expected: str = "one number per class") -> NDArray[np.float64]:
    """What the argument `what` gives, as float64.

    Raises:
        SettingError: it is not made of numbers, or of lists of different lengths.
    """
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().double().numpy()
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise SettingError(f"Expected `{what}` to be {expected}, but got {values!r}.") from error


def positive_counts(counts: NDArray[np.float64], class_names: Sequence[str] | None = None) -> NDArray[np.float64]:
    """The counts with 1 in place of 0, and a warning that names the classes."""
    warn_of_empty(counts, class_names, "each is treated as if it had one")
    return np.where(counts == 0, 1.0, counts)


def warn_of_empty(counts: NDArray[np.float64], class_names: Sequence[str] | None, remedy: str) -> None:
    """Warn where classes have no training instance, and say what is done about it."""
    empty = np.flatnonzero(counts == 0)
    if empty.size:
        warnings.warn(
            f"{empty.size} of {counts.size} classes have no training instance ({_listed(empty, class_names)}); "
            f"{remedy}.",
            UserWarning,
            stacklevel=4,
        )


def _by_rule(rule: str, counts: NDArray[np.float64], *, beta: float, power: float) -> NDArray[np.float64]:
    if not 0.0 <= beta < 1.0:
        raise SettingError(f"Expected `beta` to lie in [0, 1), but got {beta!r}.")
    if not 0.0 <= power <= 1.0:
        raise SettingError(f"Expected `power` to lie between 0 and 1, but got {power!r}.")
    return RULES[rule](counts, beta, power)


def _normalised(
    weights: NDArray[np.float64], counts: NDArray[np.float64], normalise: Normalisation
) -> NDArray[np.float64]:
    scale = {
        "mean_over_instances": counts.sum() / (counts @ weights),
        "sum_to_C": weights.size / weights.sum(),
        "max_1": 1.0 / weights.max(),
        "none": 1.0,
    }
    return weights * float(scale[normalise])


def _by_name(given: Mapping[str, float], class_names: Sequence[str] | None, what: str) -> NDArray[np.float64]:
    if class_names is None:
        raise SettingError(f"`{what}` by name need `class_names`, so that names can be matched to classes.")
    index = {name: i for i, name in enumerate(class_names)}
    weights = np.ones(len(index))
    for name, weight in given.items():
        if name not in index:
            raise UnknownNameError(f"There is no class {name!r} to weigh. {did_you_mean(str(name), map(str, index))}")
        try:
            weights[index[name]] = weight
        except (TypeError, ValueError) as error:
            raise SettingError(
                f"Expected `{what}` to be one number per class, but got {weight!r} for class {name!r}."
            ) from error
    return weights


def _by_class(given: ArrayLike, size: int | None, what: str) -> NDArray[np.float64]:
    weights = np.array(as_array(given, what))
    if weights.ndim != 1 or weights.size == 0:
        raise SettingError(f"Expected `{what}` to be one number per class, (C,), but got shape {weights.shape}.")
    if size is not None and weights.size != size:
        raise SettingError(f"Got {weights.size} {what.replace('_', ' ')} for {size} classes. Give one per class.")
    return weights


def _check_entries(values: NDArray[np.float64], what: str, class_names: Sequence[str] | None) -> None:
    wrong = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
    if wrong.size:
        raise SettingError(
            f"Expected `{what}` to be finite and not negative, but got {values[wrong[0]]} for "
            f"class {_listed(wrong[:1], class_names)}."
        )


def _checked_clip(clip: tuple[float, float]) -> tuple[float, float]:
    try:
        low, high = clip
        ordered = 0 <= low <= high and low < np.inf and high > 0
    except (TypeError, ValueError):
        ordered = False
    if not ordered:
        raise SettingError(
            "Expected `clip` to be two numbers, (lowest, highest), with 0 <= lowest <= highest, the lowest finite and "
            f"the highest above 0, but got {clip!r}."
        )
    return low, high


def _number_of_classes(class_counts: ArrayLike | None, class_names: Sequence[str] | None) -> int | None:
    if class_counts is not None:
        return as_counts(class_counts, class_names).size
    return None if class_names is None else len(class_names)


def _listed(classes: NDArray[np.int64], class_names: Sequence[str] | None) -> str:
    named = [repr(class_names[i]) if class_names is not None else str(i) for i in classes[:5]]
    return ", ".join(named) + (", ..." if classes.size > 5 else "")
