"""`tailwise methods`: what is in the catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from tailwise.catalog import METHODS
from tailwise.cli.console import Output
from tailwise.cli.options import Json
from tailwise.data.task import TASKS, Task
from tailwise.errors import UnknownNameError
from tailwise.registry import did_you_mean
from tailwise.stages.label_structures import for_label_structure
from tailwise.stages.probe_paths import PATHS_IN_WORDS, probe_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tailwise.catalog.method import Method

__all__ = ["methods"]


def methods(
    name: Annotated[str | None, typer.Argument(help="One method, in full.")] = None,
    task: Annotated[str | None, typer.Option("--task", help=f"Only those for one task: {', '.join(TASKS)}.")] = None,
    as_json: Json = False,
) -> None:
    """List the methods, or show one: citation, survey section, where it applies, recipe, what tuning varies."""
    output = Output(as_json=as_json)
    if name is None:
        table = Table("name", "family", "cost", "section", "what it does", box=None, header_style="bold")
        chosen = [m for m in METHODS.values() if task is None or m.refusal(Task.from_name(task)) is None]
        for method in chosen:
            table.add_row(method.name, method.family, method.tier, method.section, escape(method.title))
        output.say(table)
        output.say("Cost: T0 post hoc, T1 head only, T2 one fine-tuning run. Combine with +, for example cas+focal.")
        if as_json:
            output.json([method.to_dict() for method in chosen])
        return
    if name not in METHODS:
        raise UnknownNameError(f"Unknown method {name!r}. {did_you_mean(name, METHODS)}")
    method = METHODS[name]
    output.say(f"{method.name}: {method.title}")
    output.say(f"Source      {method.citation}")
    output.say(f"Survey      section {method.section}; {method.family}; cost tier {method.tier}")
    output.say("Applies to  " + ", ".join(f"{setting}: {state}" for setting, state in method.settings.items()))
    for engine in method.engines:
        names = [name for name, kind in TASKS.items() if method.refusal(kind, engine) is None]
        output.say(f"Runs on     {engine}: {', '.join(names)}")
        if engine == "probe":
            for how, fitted in _fits(method, names).items():
                output.say(f"Fits        {how}: {', '.join(fitted)}")
    if not method.engines:
        output.say("Runs on     no corpus: for loops of one's own")
    if task is not None and (reason := method.refusal(Task.from_name(task))) is not None:
        output.say(f"Not for {task}: {reason}")
    if method.notes:
        output.say(f"Mind        {method.notes}")
    for path, values in method.space.items():
        output.say(f"Tunes       {path}: {', '.join(map(str, values))} (first: published default)")
    output.say("Recipe\n" + method.recipe().to_yaml().rstrip())
    output.json(method.to_dict())


def _fits(method: Method, tasks: Sequence[str]) -> dict[str, list[str]]:
    """The tasks by how a probe fits the head of a method on them, as far as the recipe tells."""
    found: dict[str, list[str]] = {}
    for name in tasks:
        structure = TASKS[name].label_structure
        path = probe_path(for_label_structure(method.recipe(), structure), structure)
        found.setdefault(PATHS_IN_WORDS[path], []).append(name)
    return found
