"""Parameters of components, checked against the annotations of the constructor.

Checked is what a recipe can hold: numbers, truth values, texts, nothing, lists, mappings, and components inside of
components. An annotation of another kind, or one that cannot be resolved, accepts everything.
"""

from __future__ import annotations

import collections.abc
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from numbers import Integral, Real
from types import NoneType, SimpleNamespace, UnionType
from typing import Any, Final, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import numpy as np

__all__ = ["UNFIT", "Readers", "fitted", "in_words", "type_hints"]

#: what `fitted` gives for a value that does not fit
UNFIT: Final = object()

#: what reads the name or the mapping that stands for an instance of a class, or gives `UNFIT`
Readers = Mapping[Any, Callable[[Any], Any]]


class _Numbers:
    """What stands for the annotation ``ArrayLike``: numbers alone, in lists or in an array."""


#: names that a module may import for type checkers only
_NAMES = {name: getattr(collections.abc, name) for name in collections.abc.__all__} | {
    "Any": Any,
    "ArrayLike": _Numbers,
}


@cache
def type_hints(function: Callable[..., Any]) -> Mapping[str, Any]:
    """The annotations of the parameters of a function, or of the constructor of a class, that can be resolved."""
    function = inspect.unwrap(function.__init__ if isinstance(function, type) else function)  # type: ignore[misc]
    known = _NAMES | getattr(function, "__globals__", {})
    hints: dict[str, Any] = {}
    for name, annotation in getattr(function, "__annotations__", {}).items():
        try:
            hints |= get_type_hints(SimpleNamespace(__annotations__={name: annotation}), known)
        except (AttributeError, NameError, SyntaxError, TypeError):
            continue
    return hints


def fitted(value: Any, hint: Any, readers: Readers) -> Any:
    """The value as the annotation wants it, a whole float as an int; `UNFIT` if it does not fit."""
    kind, parts = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):
        fits = (fitted(value, part, readers) for part in sorted(parts, key=lambda part: part not in readers))
        return next((fit for fit in fits if fit is not UNFIT), UNFIT)
    if kind is Literal:
        return value if any(isinstance(value, type(part)) and value == part for part in parts) else UNFIT
    if kind is Sequence and parts:
        return _items(value, parts[0], readers)
    if kind in readers:
        return readers[kind](value)
    return _PLAIN[kind].read(value) if kind in _PLAIN else value


def in_words(hint: Any, readers: Readers) -> str:
    """What an annotation expects, for a message."""
    kind, parts = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):
        named = [part for part in parts if part in readers]
        return " or ".join(dict.fromkeys(in_words(part, readers) for part in named or parts))
    if kind is Literal:
        return ("one of " if len(parts) > 1 else "") + ", ".join(map(repr, parts))
    if kind is Sequence and parts:
        return f"a list (each item {in_words(parts[0], readers)})"
    if kind in readers:
        return "a name or a mapping with `name`"
    return _PLAIN[kind].words if kind in _PLAIN else str(hint)


def _items(value: Any, hint: Any, readers: Readers) -> Any:
    if hasattr(value, "__array__"):
        return value
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        return UNFIT
    items = [fitted(item, hint, readers) for item in value]
    return UNFIT if any(item is UNFIT for item in items) else items


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, Real):
        return UNFIT
    return UNFIT if isinstance(value, Integral) and abs(int(value)) >= _BEYOND else value


def _whole_number(value: Any) -> Any:
    if _number(value) is UNFIT or isinstance(value, Integral):
        return _number(value)
    return int(value) if abs(value) < _BEYOND and float(value).is_integer() else UNFIT


def _numbers(value: Any) -> Any:
    if hasattr(value, "__array__"):
        return value
    try:
        return value if np.asarray(value).dtype.kind in "biuf" else UNFIT
    except ValueError:  # lists of different lengths
        return UNFIT


def _instance(kind: type, value: Any) -> Any:
    return value if isinstance(value, kind) else UNFIT


class _Plain(NamedTuple):
    words: str
    read: Callable[[Any], Any]


#: whole numbers from here on fit into no array
_BEYOND = 1 << 63

_PLAIN: Mapping[Any, _Plain] = {
    int: _Plain("a whole number", _whole_number),
    float: _Plain("a number", _number),
    bool: _Plain("true or false", partial(_instance, bool)),
    str: _Plain("text", partial(_instance, str)),
    NoneType: _Plain("null", partial(_instance, NoneType)),
    Mapping: _Plain("a mapping", partial(_instance, Mapping)),
    _Numbers: _Plain("numbers", _numbers),
}
