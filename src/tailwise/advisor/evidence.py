"""What is published on a method in a setting: the survey's Table 3, and titles and tiers of methods not built yet.

The caption of Table 3 carries it over to two further settings: relation classification behaves like multi-class, and
sequence labelling like multi-label classification. A reference does not carry over, so ``applied`` becomes
``applicable`` there.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, cast

import yaml

from tailwise.errors import UnknownNameError
from tailwise.registry import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tailwise.catalog.method import Method, Setting, State, Tier

__all__ = ["MethodFacts", "Published", "method_facts", "table3", "unbuilt_methods"]

_CARRIED_FROM: dict[str, Setting] = {"relation": "multiclass", "sequence": "multilabel"}


@dataclass(frozen=True)
class Published:
    """State of a method in a setting.

    Attributes:
        state: applied, applicable, open, or no where the method does not apply.
        references: of `applied`.
        basis: where the state comes from.
    """

    state: State
    references: tuple[str, ...] = ()
    basis: str = "Table 3"


@dataclass(frozen=True)
class MethodFacts:
    """Title, cost tier and published state of a method in one setting."""

    title: str
    tier: Tier
    published: Published


@cache
def table3() -> Mapping[str, Mapping[Setting, Published]]:
    """The survey's Table 3: row, then setting."""
    text = (files("tailwise.advisor") / "table3.csv").read_text(encoding="utf-8")
    settings: tuple[Setting, ...] = ("binary", "multiclass", "multilabel")
    return {row["method"]: {s: _cell(row, s) for s in settings} for row in csv.DictReader(text.splitlines())}


def _cell(row: Mapping[str, str], setting: Setting) -> Published:
    state = "no" if row[setting] == "na" else row[setting]
    return Published(cast("State", state), tuple(filter(None, row[f"{setting}_refs"].split(";"))))


@cache
def _methods_file() -> Mapping[str, Any]:
    data = yaml.safe_load((files("tailwise.advisor") / "methods.yaml").read_text(encoding="utf-8"))
    return cast("Mapping[str, Any]", data)


def unbuilt_methods() -> Mapping[str, Mapping[str, Any]]:
    """Title, tier and settings of methods that rules name and the first catalog does not have."""
    return cast("Mapping[str, Mapping[str, Any]]", _methods_file()["methods"])


def method_facts(name: str, setting: Setting, catalog: Mapping[str, Method]) -> MethodFacts:
    """Title, tier and published state; the catalog goes before the list of methods not built yet.

    Raises:
        UnknownNameError: neither knows the method.
    """
    entry = catalog.get(name)
    if entry is not None:
        return MethodFacts(entry.title, entry.tier, _published(name, setting, entry.settings, "the catalog"))
    listed = unbuilt_methods().get(name)
    if listed is None:
        known = {*catalog, *unbuilt_methods()}
        raise UnknownNameError(f"No title and tier are known of the method {name!r}. {did_you_mean(name, known)}")
    published = _published(name, setting, listed["settings"], "by construction")
    return MethodFacts(listed["title"], listed["tier"], published)


def _published(name: str, setting: Setting, stated: Mapping[Any, State], basis: str) -> Published:
    row = table3().get(_methods_file()["table3"].get(name, ""))
    if row is not None and setting in row:
        return row[setting]
    if setting in stated:
        return Published(stated[setting], basis=basis)
    if row is None:
        return Published("no", basis=basis)
    source = _CARRIED_FROM[setting]
    state = row[source].state
    return Published("applicable" if state == "applied" else state, basis=f"Table 3, carried over from {source}")
