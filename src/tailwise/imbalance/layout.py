"""A profile laid over the classes of a data set: which class gets which rank, and how many instances that makes.

Wanted counts are n_(k) of the profile for the class of rank k, with n_(0) unless given

    n_max = min of the instances over the majority classes (step) or over all classes (every other shape),

which does not depend on rho, so that the counts of a larger rho are never above those of a smaller one. Survey section
2.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from tailwise.errors import SettingError
from tailwise.registry import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from tailwise.imbalance.profiles import Profile

__all__ = ["ClassOrder", "Layout", "class_order_of", "lay_out", "stated_counts"]

ClassOrder = Literal["random", "frequency", "alphabetical"]
_NAMED = get_args(ClassOrder)
_ORDER_STREAM = 0


@dataclass(frozen=True, eq=False)
class Layout:
    """Wanted counts and what they follow from.

    Attributes:
        profile: shape and ratio.
        order: class indices by rank, the head first, ``(C,)``.
        available: instances per class, ``(C,)``.
        n_max: n_(0); None where the counts follow from a wanted sum.
        min_count: what no class goes below.
        wanted: wanted counts per class, ``(C,)``.
    """

    profile: Profile
    order: NDArray[np.int64]
    available: NDArray[np.int64]
    n_max: int | None
    min_count: int
    wanted: NDArray[np.int64]

    @property
    def steepest(self) -> float:
        """The largest ratio that `n_max` and `min_count` allow."""
        return max(1.0, self.n_max / self.min_count) if self.n_max is not None else self.profile.rho

    def wanted_at(self, rho: float) -> NDArray[np.int64]:
        """The wanted counts had the profile another ratio, ``(C,)``; those of a larger ratio are never larger.

        Raises:
            SettingError: the layout has a wanted sum, so that a larger ratio gives the head more.
        """
        if self.n_max is None:
            raise SettingError("With `keep_total` the counts of the head grow with rho, so they are not nested.")
        by_rank = replace(self.profile, rho=rho).counts(self.order.size, self.n_max, self.min_count)
        return _by_class(by_rank, self.order, self.available)


def class_order_of(
    order: ClassOrder | Sequence[str], counts: ArrayLike, names: Sequence[str], seed: int
) -> NDArray[np.int64]:
    """Class indices by rank, the head first, ``(C,)``.

    Args:
        order: ``"random"`` (by `seed`), ``"frequency"`` (most frequent first), ``"alphabetical"``, or all names.
        counts: instances per class, ``(C,)``.
        names: class names, ``C`` of them.
        seed: non-negative.

    Raises:
        SettingError: another word, or names that are not exactly those of the classes.
    """
    if isinstance(order, str):
        if order == "random":
            return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_ORDER_STREAM,))).permutation(
                len(names)
            )
        if order == "frequency":
            return np.argsort(-np.asarray(counts), kind="stable")
        if order == "alphabetical":
            return np.asarray(sorted(range(len(names)), key=names.__getitem__), dtype=np.int64)
        raise SettingError(
            f"Unknown class order {order!r}. {did_you_mean(order, _NAMED)} Or give the names of all classes."
        )
    index = {name: i for i, name in enumerate(names)}
    for name in order:
        _require_class(name, index)
    missing = [name for name in names if name not in set(order)]
    if missing or len(order) != len(names):
        what = f"is without {_listed(missing)}" if missing else "names a class twice"
        raise SettingError(f"Expected the class order to name each of the {len(names)} classes once, but it {what}.")
    return np.asarray([index[name] for name in order], dtype=np.int64)


def lay_out(
    profile: Profile,
    available: ArrayLike,
    order: NDArray[np.int64],
    names: Sequence[str],
    *,
    n_max: int | None = None,
    min_count: int = 1,
    keep_total: int | None = None,
    allow_clip: bool = False,
) -> Layout:
    """The wanted counts of a profile over classes.

    Args:
        profile: shape and ratio.
        available: instances per class, each at least 1, ``(C,)``.
        order: class indices by rank; see `class_order_of`.
        names: class names, for the messages.
        n_max: wanted count of the largest class; None: see the module.
        min_count: what no class goes below.
        keep_total: the wanted sum of all counts, instead of `n_max`.
        allow_clip: whether a class with fewer instances than wanted keeps them all, and a rho that would go below
            `min_count` becomes n_max / min_count; the profile is then not exact.

    Raises:
        SettingError: the classes cannot give the profile; the message says what they can give.
    """
    has = np.asarray(available, dtype=np.int64)
    if n_max is not None and keep_total is not None:
        raise SettingError(f"Expected `n_max` or `keep_total`, but got both: {n_max} and {keep_total}.")
    _require_instances(has, names, min_count)
    if keep_total is not None:
        by_rank = profile.counts_with_sum(has.size, keep_total, min_count)
    else:
        limiting = _head(profile, order)[int(np.argmin(has[_head(profile, order)]))]
        source = "given" if n_max is not None else f"the instances of {names[limiting]!r}"
        n_max = int(has[limiting]) if n_max is None else n_max
        if not allow_clip:
            _require_ratio(profile, has, n_max, min_count, source)
        profile = replace(profile, rho=min(profile.rho, max(1.0, n_max / min_count)))
        by_rank = profile.counts(has.size, n_max, min_count)
    if not allow_clip and (by_rank > has[order]).any():
        raise _too_few(profile, has[order], [names[i] for i in order], by_rank, n_max, min_count)
    return Layout(profile, order, has, n_max, min_count, _by_class(by_rank, order, has))


def stated_counts(counts: Mapping[str, int], available: ArrayLike, names: Sequence[str]) -> NDArray[np.int64]:
    """Wanted counts given by name; a class that is not named keeps what it has, ``(C,)``.

    Raises:
        SettingError: an unknown class, or a count that is no whole number from 1 to what the class has.
    """
    wanted = np.array(available, dtype=np.int64)
    index = {name: i for i, name in enumerate(names)}
    for name, count in counts.items():
        _require_class(name, index)
        has = int(wanted[index[name]])
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or not 1 <= count <= has:
            raise SettingError(
                f"Expected the count of the class {name!r} to be a whole number from 1 to {has}, the instances it has, "
                f"but got {count!r}."
            )
        wanted[index[name]] = count
    return wanted


def _by_class(by_rank: NDArray[np.int64], order: NDArray[np.int64], has: NDArray[np.int64]) -> NDArray[np.int64]:
    wanted = np.empty_like(has)
    wanted[order] = np.minimum(by_rank, has[order])
    return wanted


def _head(profile: Profile, order: NDArray[np.int64]) -> NDArray[np.int64]:
    """The classes whose smallest sets n_max."""
    return order[: order.size - profile.minority_classes(order.size)] if profile.shape == "step" else order


def _require_instances(has: NDArray[np.int64], names: Sequence[str], min_count: int) -> None:
    small = np.flatnonzero(has < max(min_count, 1))
    if small.size:
        first = int(small[0])
        more = f", and {small.size - 1} more classes have too few" if small.size > 1 else ""
        raise SettingError(
            f"The class {names[first]!r} has {has[first]} instances{more}. Expected at least {max(min_count, 1)} of "
            f"every class (`min_count`); `min_count` can be {int(has.min())} at most."
        )


def _require_ratio(profile: Profile, has: NDArray[np.int64], n_max: int, min_count: int, source: str) -> None:
    if n_max >= profile.rho * min_count:
        return
    descending = np.sort(has)[::-1]
    most = _largest(lambda n: bool((profile.counts(has.size, n, min_count) <= descending).all()), 1, int(has.max()))
    way = ""
    if most is not None and most >= profile.rho * min_count:
        way = f" With class_order='frequency' n_max can be up to {most}, which is enough."
    raise SettingError(
        f"`rho` = {profile.rho:g} is more than the data allow: n_max = {n_max} ({source}) over rho is less than "
        f"min_count = {min_count}. `rho` can be {n_max / min_count:g} at most.{way} Or give allow_clip=True, which "
        "takes the largest rho there is."
    )


def _too_few(
    profile: Profile,
    has: NDArray[np.int64],
    names: Sequence[str],
    wanted: NDArray[np.int64],
    n_max: int | None,
    min_count: int,
) -> SettingError:
    """The error for classes (all by rank) with fewer instances than wanted, with what would work."""
    rank = int(np.argmax(wanted / has))
    others = int((wanted > has).sum()) - 1
    more = f" ({others} more classes have too few)" if others else ""
    ways = ["another class_order", "allow_clip=True, which keeps all of such classes"]
    if n_max is None:
        total = _largest(
            lambda total: bool((profile.counts_with_sum(has.size, total, min_count) <= has).all()),
            has.size * min_count,
            int(wanted.sum()),
        )
        ways.insert(0, f"keep_total of at most {total}")
    else:
        most = _largest(
            lambda n: bool((profile.counts(has.size, n, min_count) <= has).all()), min_count, int(has.max())
        )
        ways.insert(0, f"n_max of at most {most}")
        least = _least_rho(profile, has, n_max, min_count)
        if least is not None:
            ways.insert(0, f"rho of at least {least:g}")
    return SettingError(
        f"The class {names[rank]!r} has {has[rank]} instances, but {profile.shape} with rho = {profile.rho:g} wants "
        f"{wanted[rank]} of it{more}. Give {', '.join(ways[:-1])}, or {ways[-1]}."
    )


def _largest(fits: Callable[[int], bool], least: int, most: int) -> int | None:
    """The largest whole number from `least` to `most` that fits, where a number below one that fits does too."""
    if not fits(least):
        return None
    while least < most:
        middle = (least + most + 1) // 2
        least, most = (middle, most) if fits(middle) else (least, middle - 1)
    return least


def _least_rho(profile: Profile, has: NDArray[np.int64], n_max: int, min_count: int) -> float | None:
    """The smallest ratio above that of the profile at which every class has enough, to two decimals; None without."""

    def fits(hundredths: int) -> bool:
        return bool((replace(profile, rho=hundredths / 100).counts(has.size, n_max, min_count) <= has).all())

    least, most = math.ceil(profile.rho * 100), math.floor(100 * n_max / min_count)
    if least >= most or not fits(most):
        return None
    while least < most:
        middle = (least + most) // 2
        least, most = (least, middle) if fits(middle) else (middle + 1, most)
    return least / 100


def _require_class(name: str, index: Mapping[str, int]) -> None:
    if name not in index:
        raise SettingError(f"There is no class {name!r}. {did_you_mean(str(name), index)}")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(repr(name) for name in names[:5]) + more
