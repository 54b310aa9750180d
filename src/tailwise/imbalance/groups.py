"""Head, medium and tail classes by training count.

The convention of ImageNet-LT (Liu et al., CVPR 2019): head (many) > 100 training instances, medium 20 to 100, tail
(few) < 20. Where that puts all classes into one group, the classes are cut into thirds by rank instead; classes with
equal counts share their mean rank, so that they always stay together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from scipy.stats import rankdata

from tailwise.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["GROUPS", "HEAD_ABOVE", "TAIL_BELOW", "FrequencyGroups", "GroupName", "frequency_groups", "group_classes"]

GroupName = Literal["head", "medium", "tail"]
GROUPS: tuple[GroupName, ...] = get_args(GroupName)
HEAD_ABOVE = 100
TAIL_BELOW = 20

_THRESHOLDS = f"head > {HEAD_ABOVE} training examples, medium {TAIL_BELOW} to {HEAD_ABOVE}, tail < {TAIL_BELOW}"
_THIRDS = "thirds of the classes by training count, because all classes lie in one group of the usual thresholds"
_EQUAL = f"{_THRESHOLDS}; one group, all classes are equally frequent"


@dataclass(frozen=True, eq=False)
class FrequencyGroups:
    """The group of each class, and the rule that made the groups.

    Attributes:
        names: ``"head"``, ``"medium"`` or ``"tail"`` per class, ``(C,)``.
        rule: the rule, in words.
    """

    names: NDArray[np.str_]
    rule: str

    def classes(self, group: GroupName) -> NDArray[np.int64]:
        """Indices of the classes of a group."""
        return np.flatnonzero(self.names == group)

    def to_dict(self, class_names: Sequence[str], counts: ArrayLike) -> dict[str, Any]:
        """Plain data for JSON: rule, and per group its classes and its number of training instances."""
        per_class = np.asarray(counts)
        data: dict[str, Any] = {"rule": self.rule}
        for group in GROUPS:
            members = self.classes(group)
            data[group] = {"classes": [class_names[i] for i in members], "examples": int(per_class[members].sum())}
        return data


def group_classes(counts: ArrayLike) -> FrequencyGroups:
    """Cut classes into head, medium and tail by their training counts ``(C,)``.

    Raises:
        SettingError: not one count per class.
    """
    given = np.asarray(counts)
    if given.ndim != 1 or given.size == 0:
        raise SettingError(f"Expected `counts` to be one number per class, but got an array of shape {given.shape}.")
    names = np.full(given.shape, "medium", dtype="<U6")
    names[given > HEAD_ABOVE] = "head"
    names[given < TAIL_BELOW] = "tail"
    if np.unique(names).size > 1:
        return FrequencyGroups(names, _THRESHOLDS)
    if np.unique(given).size == 1:
        return FrequencyGroups(names, _EQUAL)
    position = (rankdata(given) - 0.5) / given.size
    names[:] = "medium"
    names[position < 1 / 3] = "tail"
    names[position > 2 / 3] = "head"
    return FrequencyGroups(names, _THIRDS)


def frequency_groups(counts: ArrayLike) -> NDArray[np.str_]:
    """``"head"``, ``"medium"`` or ``"tail"`` per class, ``(C,)``; `group_classes` also says by which rule."""
    return group_classes(counts).names
