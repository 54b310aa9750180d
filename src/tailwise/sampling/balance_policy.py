"""Balancing a tunable share of the classes.

    n_j' = o             n_j > o                                            over-represented: cut down
           min(b, r n_j) n_j < b and j among the ceil(s C) smallest         under-represented: topped up
           n_j           otherwise                                          left alone

b base, o over, s share, r max_repeat. Base "max", share 1 is random over-sampling to full balance; base = over = "min"
is random under-sampling. Tepper et al., Balancing via Generation for Multi-Class Text Classification Improvement,
Findings of EMNLP 2020 (there the missing examples are generated; here rows are repeated). Survey section 3.1. Differs
from the paper in that thresholds may be given as counts or as quantiles of the class sizes, in the bound on repeats,
and in that classes as small as the last one of the share are topped up too.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from tailwise.errors import SettingError
from tailwise.sampling.base import LabelSampler

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

__all__ = ["BalancePolicySampler", "balanced_counts", "class_size"]

_NAMED: dict[str, Callable[[NDArray[np.int64]], Any]] = {
    "min": np.min,
    "mean": np.mean,
    "median": np.median,
    "max": np.max,
}


def class_size(level: float | str, class_counts: NDArray[np.int64], *, name: str = "base") -> int:
    """A class size from a count, a quantile of the class sizes, or a word.

    Args:
        level: a whole number from 1, a fraction (quantile) in [0, 1], or "min", "mean", "median", "max".
        class_counts: n_j, ``(C,)``; classes without a row are left out.
        name: what to call the parameter in messages.

    Raises:
        SettingError: none of these.
    """
    sizes = class_counts[class_counts > 0]
    if isinstance(level, str) and level in _NAMED:
        return max(round(float(_NAMED[level](sizes))), 1)
    if isinstance(level, int | np.integer) and not isinstance(level, bool) and level >= 1:
        return int(level)
    if isinstance(level, float) and 0.0 <= level <= 1.0:
        return max(round(float(np.quantile(sizes, level))), 1)
    raise SettingError(
        f"BalancePolicySampler: expected `{name}` to be a class size (a whole number from 1), a quantile of the class "
        f"sizes (a fraction in [0, 1]) or one of {', '.join(map(repr, _NAMED))}, but got {level!r}."
    )


def balanced_counts(
    class_counts: NDArray[np.int64],
    *,
    base: int,
    over: int | None = None,
    share: float = 1.0,
    max_repeat: float | None = None,
) -> NDArray[np.int64]:
    """Rows per class under the policy.

    Args:
        class_counts: n_j, ``(C,)``.
        base: b, the size up to which small classes are topped up.
        over: o >= b, the size to which large classes are cut; None leaves them.
        share: s in [0, 1], the share of the classes, the smallest ones, that may be topped up.
        max_repeat: r >= 1, how often a row may come at most, on average over its class.

    Returns:
        n_j', ``(C,)``, 0 where n_j is 0.
    """
    sizes = np.sort(class_counts[class_counts > 0])
    selected = math.ceil(round(share * sizes.size, 9))
    small = class_counts <= (sizes[selected - 1] if selected else 0)
    limit = np.inf if max_repeat is None else np.floor(max_repeat * class_counts)
    raised = np.maximum(np.minimum(base, limit), class_counts)
    counts = np.where(small, raised, class_counts)
    if over is not None:
        counts = np.minimum(counts, over)
    return np.where(class_counts > 0, counts, 0).astype(np.int64)


class BalancePolicySampler(LabelSampler):
    """Small classes are topped up to a base size, large ones are cut, the others left alone.

    Args:
        labels: class index of every row, ``(N,)``.
        base: b: a class size, a quantile of the class sizes as a fraction, or "min", "mean", "median", "max".
        over: o, likewise; None cuts nothing.
        share: s in [0, 1], the share of the classes, the smallest ones, that may be topped up.
        max_repeat: r >= 1, how often a row may come in a list at most, on average over its class; None sets no bound.
        seed: see `LabelSampler`.
        num_samples: length of an epoch; None takes the sum of n_j'. A smaller one takes a random part of that list, a
            larger one goes on with further lists, each drawn anew.
        num_classes: see `LabelSampler`. A class without a row stays without.

    Raises:
        SettingError: a parameter outside its range, or `over` below `base`.
    """

    def __init__(
        self,
        labels: ArrayLike,
        *,
        base: float | str = "max",
        over: float | str | None = None,
        share: float = 1.0,
        max_repeat: float | None = None,
        seed: int = 0,
        num_samples: int | None = None,
        num_classes: int | None = None,
    ) -> None:
        super().__init__(labels, seed=seed, num_samples=num_samples, num_classes=num_classes)
        if not 0.0 <= share <= 1.0:
            raise SettingError(f"BalancePolicySampler: expected `share` to lie in [0, 1], but got {share!r}.")
        if max_repeat is not None and not max_repeat >= 1.0:
            raise SettingError(f"BalancePolicySampler: expected `max_repeat` to be at least 1, but got {max_repeat!r}.")
        self.base = class_size(base, self.class_counts)
        self.over = None if over is None else class_size(over, self.class_counts, name="over")
        if self.over is not None and self.over < self.base:
            raise SettingError(
                f"BalancePolicySampler: `over` = {over!r} cuts classes to {self.over} rows, below the {self.base} that "
                f"`base` = {base!r} tops up to. Raise `over` or lower `base`."
            )
        self.share = share
        self.max_repeat = max_repeat

    def drawn_counts(self) -> NDArray[np.int64]:
        """Draws per class n_j', ``(C,)``."""
        return balanced_counts(
            self.class_counts, base=self.base, over=self.over, share=self.share, max_repeat=self.max_repeat
        )

    def plan(self, epoch: int) -> NDArray[np.int64]:
        """Row indices of one epoch, in order, ``(len(self),)``."""
        number = -(-len(self) // self.default_num_samples())
        drawn = self.lists(self.random_stream(epoch), self.drawn_counts(), number)
        return drawn.reshape(-1)[: len(self)].astype(np.int64, copy=False)
