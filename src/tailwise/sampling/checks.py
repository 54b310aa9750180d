"""What samplers check of their input: whole numbers, truth values, arrays of labels, the number of classes."""

from __future__ import annotations

import operator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from tailwise.errors import SettingError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["as_array", "check_num_classes", "truth_value", "whole_number"]

_CLASSES = 1 << 24
_CLASSES_PER_ROW = 16


def whole_number(value: Any, name: str, owner: str) -> int:
    """The value of the parameter `name` as an int.

    Raises:
        SettingError: not a whole number; 2.0 and True are none.
    """
    with suppress(TypeError):
        if not isinstance(value, bool):
            return operator.index(value)
    raise SettingError(f"{owner}: expected `{name}` to be a whole number, but got {value!r}.")


def truth_value(value: Any, name: str, owner: str) -> bool:
    """The value of the parameter `name` as a bool.

    Raises:
        SettingError: neither True nor False; ``"no"`` and 0 are neither.
    """
    if not isinstance(value, bool | np.bool_):
        raise SettingError(f"{owner}: expected `{name}` to be True or False, but got {value!r}.")
    return bool(value)


def as_array(values: Any, owner: str) -> NDArray[Any]:
    """`np.asarray` of labels.

    Raises:
        SettingError: they form no array, for example lists of different lengths.
    """
    try:
        return np.asarray(values)
    except (RuntimeError, TypeError, ValueError) as error:
        raise SettingError(f"{owner}: expected labels that form an array, but NumPy says: {error}") from error


def check_num_classes(num_classes: int, rows: int, owner: str) -> None:
    """Refuse class indices that are no numbering of classes: some memory goes to every index below the largest.

    Raises:
        SettingError: more than 2^24 classes, and more than 16 per row.
    """
    most = max(_CLASSES, _CLASSES_PER_ROW * rows)
    if num_classes > most:
        raise SettingError(
            f"{owner}: expected at most {most} classes for {rows} rows, but got {num_classes}. Number the classes that "
            "occur from 0, for example with `np.unique(labels, return_inverse=True)`."
        )
