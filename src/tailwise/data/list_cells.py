"""Cells that hold a list: labels, tokens, tags, heads, relations, and spans of tokens."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tailwise.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tailwise.data.rows import Rows

__all__ = ["LIST_ROLES", "Flat", "arrow_type", "as_list", "as_list_column", "flat", "relisted"]

_STRINGS = frozenset({"labels", "tokens", "tags", "relations", "upos"})
_NUMBERS = frozenset({"head", "tail", "heads", "lines"})
LIST_ROLES = _STRINGS | _NUMBERS

_EXPECTED = {
    "labels": 'a list of label names such as ["price", "service"], [] where there is none',
    "tokens": 'a list of strings such as ["A", "sentence", "."]',
    "tags": 'a list with one tag per token such as ["O", "B-person", "I-person"]',
    "relations": 'a list with one relation per token such as ["det", "root", "punct"]',
    "upos": 'a list with one part of speech per token such as ["DET", "NOUN", "PUNCT"]',
    "heads": "a list with one whole number per token, 1-based, 0 for the root, such as [2, 0, 2]",
    "head": "a span of tokens [start, end], counted from 0, the end exclusive, such as [3, 5]",
    "tail": "a span of tokens [start, end], counted from 0, the end exclusive, such as [3, 5]",
}


class Flat(NamedTuple):
    """A column of lists without its walls.

    Attributes:
        values: the elements of all rows, ``(M,)``.
        lengths: elements per row, 0 where the row has no list, ``(N,)``.
    """

    values: Any
    lengths: NDArray[np.int64]

    @property
    def row(self) -> NDArray[np.int64]:
        """The row of every element, ``(M,)``."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    @property
    def starts(self) -> NDArray[np.int64]:
        """Where the elements of every row start, ``(N,)``."""
        return np.cumsum(self.lengths) - self.lengths

    @property
    def position(self) -> NDArray[np.int64]:
        """The place of every element in its row, from 0, ``(M,)``."""
        return np.arange(int(self.lengths.sum())) - np.repeat(self.starts, self.lengths)

    def numpy(self) -> NDArray[np.int64]:
        """The elements of a column of numbers."""
        return np.asarray(self.values, dtype=np.int64)


def arrow_type(role: str) -> Any:
    """The Arrow type of a role's column."""
    if role in _STRINGS:
        return pa.list_(pa.string())
    return pa.list_(pa.int64()) if role in _NUMBERS else pa.string()


def flat(rows: Rows, role: str) -> Flat:
    """The elements of a column, of lists or of single values."""
    column = rows.table.column(role).combine_chunks()
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if role not in LIST_ROLES:
        return Flat(array, np.ones(len(array), dtype=np.int64))
    lengths = pc.fill_null(pc.list_value_length(array), 0)
    return Flat(array.flatten(), np.asarray(lengths, dtype=np.int64))


def relisted(values: Any, lengths: NDArray[np.int64]) -> Any:
    """A column of lists from its elements: the inverse of `flat`."""
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)


def as_list(value: Any, role: str, column: str, where: str) -> list[str] | list[int] | None:
    """A cell of Python objects as a list, None where it is missing.

    Raises:
        DataError: no list, or an element of another kind.
    """
    if value is None or (isinstance(value, (float, np.floating)) and np.isnan(value)):
        return None
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (set, frozenset)) and role == "labels":
        value = sorted(value, key=str)
    if not isinstance(value, (list, tuple)):
        raise _unfit(where, role, column, f"{value!r:.80} of type {type(value).__name__}")
    if role in _STRINGS and all(type(element) is str for element in value):
        return list(value)
    return [_element(element, position, role, column, where) for position, element in enumerate(value)]


def _element(value: Any, position: int, role: str, column: str, where: str) -> Any:
    whole = isinstance(value, Integral) and not isinstance(value, (bool, np.bool_))
    if role in _NUMBERS:
        if whole:
            return int(value)
        if role == "heads" and isinstance(value, str) and value.isdecimal():
            return int(value)
    elif isinstance(value, str):
        return str(value)
    elif role == "labels" and whole:
        return str(int(value))
    raise _unfit(where, role, column, f"a list with {value!r:.80} of type {type(value).__name__} at place {position}")


def as_list_column(array: Any, role: str, column: str, place: str, start: int) -> Any:
    """An Arrow column of lists, in the type of its role; row numbers in messages count from `start`.

    Raises:
        DataError: no lists, or elements of another kind.
    """
    kind = array.type
    if pa.types.is_null(kind):
        return pa.nulls(len(array), arrow_type(role))
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    inner = kind.value_type if is_list else None
    if inner is None or not _fits(inner, role):
        raise _unfit(place, role, column, str(kind))
    try:
        cast = pc.cast(array, arrow_type(role))
        cast.validate(full=True)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise _unfit(f"{place}, rows {start} to {start + len(array) - 1} (from 0)", role, column, f"{error}") from None
    elements = cast.flatten()
    if elements.null_count:
        lengths = np.asarray(pc.fill_null(pc.list_value_length(cast), 0), dtype=np.int64)
        first = int(np.argmax(np.asarray(pc.is_null(elements))))
        row = int(np.searchsorted(np.cumsum(lengths), first, side="right"))
        raise _unfit(f"{place}, row {start + row} (from 0)", role, column, "a list with a missing element")
    return cast


def _fits(kind: Any, role: str) -> bool:
    textual = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)
    if pa.types.is_dictionary(kind):
        return role in _STRINGS and _fits(kind.value_type, role)
    if role in _NUMBERS:
        return pa.types.is_integer(kind) or pa.types.is_null(kind) or (role == "heads" and textual)
    return textual or (role == "labels" and pa.types.is_integer(kind))


def _unfit(where: str, role: str, column: str, found: str) -> DataError:
    remedy = "Correct the row or name another column."
    if role in {"tags", "relations", "upos"} and "int" in found:
        remedy = "Numbers need names: load the data as a datasets.Dataset with ClassLabel features, or write the names."
    named = role if role == column else f"{column!r} ({role})"
    return DataError(f"{where}: the column {named} holds {found}. Expected {_EXPECTED[role]}. {remedy}")
