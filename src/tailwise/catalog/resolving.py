"""From what a user writes to a recipe: a method, a composition ``cas+focal``, a YAML file, a mapping or a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailwise.catalog.entries import METHODS
from tailwise.catalog.method import Method, compose_fragments
from tailwise.errors import SettingError, UnknownNameError
from tailwise.registry import did_you_mean
from tailwise.stages.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["resolve", "search_space"]

RecipeLike = str | Path | Recipe | Mapping[str, Any]


def resolve(spec: RecipeLike, params: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe that `spec` stands for.

    Args:
        spec: name of a method (``"ldam-drw"``), several joined by ``+`` (``"cas+focal"``), path of a YAML file, a
            mapping with the keys of `Recipe`, or a recipe.
        params: values by parameter path (``{"loss.focus": 1.0}``), for names and compositions.

    Raises:
        UnknownNameError: no such method.
        SettingError: parts that contradict each other, parameters that nothing takes, or a broken file.
    """
    if isinstance(spec, str) and not _is_file_name(spec):
        return _compose(spec, params or {})
    if params:
        raise SettingError(f"Parameters {sorted(params)} can be set on a named method, not on a complete recipe.")
    if isinstance(spec, Recipe):
        return spec
    if isinstance(spec, Mapping):
        return Recipe.from_dict(spec)
    path = Path(spec)
    if not path.is_file():
        raise SettingError(
            f"There is no recipe file {str(path)!r}. Give a YAML file, or a name from `tailwise methods`."
        )
    return Recipe.from_yaml(path.read_text(encoding="utf-8"))


def search_space(spec: RecipeLike) -> dict[str, Sequence[Any]]:
    """What tuning may vary for `spec`: parameter path to values, the published default first; empty for a recipe."""
    if not isinstance(spec, str) or _is_file_name(spec):
        return {}
    space: dict[str, Sequence[Any]] = {}
    for method in _parts(spec):
        space.update(method.space)
    return space


def _is_file_name(spec: str) -> bool:
    return spec.endswith((".yaml", ".yml"))


def _parts(spec: str) -> list[Method]:
    methods = []
    for name in spec.split("+"):
        if name not in METHODS:
            raise UnknownNameError(f"Unknown method {name!r}. {did_you_mean(name, METHODS)} See `tailwise methods`.")
        methods.append(METHODS[name])
    return methods


def _compose(spec: str, params: Mapping[str, Any]) -> Recipe:
    remaining = dict(params)
    fragments = []
    for method in _parts(spec):
        own = {path: remaining.pop(path) for path in list(remaining) if _belongs(path, method)}
        fragments.append(method.fragment.with_params(own))
    if remaining:
        unknown = min(remaining)
        raise SettingError(f"{spec!r} has no parameter {unknown!r}. {did_you_mean(unknown, search_space(spec))}")
    return compose_fragments(spec, fragments)


def _belongs(path: str, method: Method) -> bool:
    slot, _, rest = path.partition(".")
    if slot == "posthoc":
        return rest.rpartition(".")[0] in [c.name for c in method.fragment.posthoc]
    return getattr(method.fragment, slot, None) is not None
