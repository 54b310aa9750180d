"""Names for components: lazy, checked, open to plug-ins, helpful on a typing error.

A registry maps a name to ``"module:attribute"`` so that listing names imports nothing heavy. Other packages add entries
through an entry-point group, for example ``[project.entry-points."tailwise.losses"]``.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from tailwise.errors import SettingError, UnknownNameError
from tailwise.parameters import UNFIT, fitted, in_words, type_hints

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

__all__ = ["Registry", "did_you_mean"]

T = TypeVar("T")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint for a mistyped name: nearest known names, or all of them where none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if near:
        return "Did you mean " + " or ".join(repr(n) for n in near) + "?"
    return "Known: " + ", ".join(names) + "."


class Registry(Generic[T]):
    """A table of named classes or functions of one kind.

    Args:
        kind: what the entries are, in the singular (``"loss"``); used in messages.
        base: ``"module:Class"`` every entry must be a subclass of, or None for plain functions.
        entries: name to ``"module:attribute"``.
        given: parameters that whoever builds an entry always gives, so that a recipe cannot.
    """

    def __init__(self, kind: str, base: str | None, entries: Mapping[str, str], given: Collection[str] = ()) -> None:
        self.kind = kind
        self._base = base
        self._entries = dict(entries)
        self._given = frozenset(given)
        self._plugins_read = False

    def _read_plugins(self) -> None:
        if self._plugins_read:
            return
        self._plugins_read = True
        for point in entry_points(group=f"tailwise.{self.kind.replace(' ', '_')}"):
            self._entries.setdefault(point.name, point.value)

    def __iter__(self) -> Iterator[str]:
        self._read_plugins()
        return iter(sorted(self._entries))

    def __contains__(self, name: object) -> bool:
        self._read_plugins()
        return name in self._entries

    def __getitem__(self, name: str) -> T:
        """The class or function registered as `name`.

        Raises:
            UnknownNameError: no such entry; the message suggests the nearest names.
            SettingError: the entry is not a subclass of the registry's base class.
        """
        self._read_plugins()
        if name not in self._entries:
            raise UnknownNameError(f"Unknown {self.kind} {name!r}. {did_you_mean(name, self._entries)}")
        found = _resolve(self._entries[name])
        if self._base is not None:
            base = _resolve(self._base)
            if not (isinstance(found, type) and issubclass(found, base)):
                raise SettingError(
                    f"The {self.kind} {name!r} is registered as {self._entries[name]}, which is not a subclass of "
                    f"{self._base}. Register a subclass."
                )
        return cast("T", found)

    def parameters(self, name: str) -> Mapping[str, inspect.Parameter]:
        """Named parameters that the entry's constructor (or the function) accepts."""
        found: Any = self[name]
        kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        return {k: p for k, p in inspect.signature(found).parameters.items() if p.kind in kinds}

    def check_parameters(self, name: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters as the entry's annotations want them: a whole float becomes an int where one is asked for.

        Raises:
            UnknownNameError: no such entry.
            SettingError: a parameter that the entry does not have, or that is not for a recipe to set; a value of the
                wrong type, here or in a component inside.
        """
        known, hints = self.parameters(name), type_hints(self[name])
        readers = {} if self._base is None else {_resolve(self._base): self._component}
        checked = {}
        for key, value in params.items():
            if key not in known:
                raise SettingError(
                    f"The {self.kind} {name!r} has no parameter {key!r}. "
                    f"{did_you_mean(str(key), [k for k in known if k not in self._given])}"
                )
            if key in self._given:
                raise SettingError(f"The {self.kind} {name!r} takes `{key}` from the data. Leave it out.")
            checked[key] = fitted(value, hints.get(key, Any), readers)
            if checked[key] is UNFIT:
                raise SettingError(
                    f"The {self.kind} {name!r}: expected `{key}` to be {in_words(hints[key], readers)}, but got "
                    f"{_shown(value)}."
                )
        return checked

    def _component(self, value: Any) -> Any:
        """A component inside of another one: a name, or a mapping with its parameters checked."""
        if isinstance(value, Mapping):
            params = dict(value)
            name = params.pop("name", None)
            return {"name": name, **self.check_parameters(name, params)} if isinstance(name, str) else UNFIT
        plain = value is None or isinstance(value, bool | int | float | list | tuple)
        return UNFIT if plain else value


def _resolve(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}..."
