"""Which task the data belong to: as asked for, or told by the columns."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tailwise.data.columns import (
    Columns,
    Preview,
    Request,
    choose_text_columns,
    has_known_columns,
    id_column,
    listed,
    require_named,
)
from tailwise.data.task import TASKS, Task
from tailwise.errors import DataError, SettingError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["ROW_FORMATS", "choose_columns", "fixed_columns"]

#: names of columns that tell a role, the usual one first
_NAMES: Mapping[str, tuple[str, ...]] = {
    "tokens": ("tokens", "words"),
    "tags": ("tags", "ner_tags"),
    "head": ("head",),
    "tail": ("tail",),
    "label": ("label", "relation"),
    "heads": ("heads", "head"),
    "relations": ("deprels", "deprel", "relations"),
}
_ROLES: Mapping[str, tuple[str, ...]] = {
    "relation": ("tokens", "head", "tail", "label"),
    "tagging": ("tokens", "tags"),
    "parsing": ("tokens", "heads", "relations"),
}
#: which role ``label=`` names
_TARGET = {"relation": "label", "tagging": "tags", "parsing": "relations"}
_NEEDS = {
    "relation": "tokens, head, tail and label",
    "tagging": "tokens and tags",
    "parsing": "tokens, heads and deprels",
}
#: row formats of SOURCE.json
ROW_FORMATS = {
    "single-label": "text",
    "pair": "pair",
    "multi-label": "multilabel",
    "relation": "relation",
    "sequence labelling": "tagging",
    "parsing": "parsing",
}
_SEPARATOR = "|"


def choose_columns(preview: Preview, request: Request, say: Callable[[str], None]) -> Columns:
    """The columns to read, of the task that was asked for or that the columns tell.

    Raises:
        DataError: the columns do not belong to the task, belong to several tasks, or cannot be guessed without doubt.
        SettingError: a label separator for labels that are not joined.
    """
    task = request.task or _recognised(preview, request, say)
    if task is not None and task in _ROLES:
        columns = _sentence_columns(task, preview, request)
    else:
        columns = _text_columns(task, preview, request, say)
    if request.label_separator is not None and columns.label_separator is None:
        raise SettingError(
            f"label_separator={request.label_separator!r} applies to task='multilabel' with the names of the labels "
            f"joined in one cell; {preview.place} is read as {columns.task.name!r}. Leave it out, or give the task."
        )
    return columns


def fixed_columns(request: Request, row_format: str, names: tuple[str, ...]) -> Request:
    """The request with what a stated row format fixes, so that nothing is guessed."""
    if request.names_columns or request.task is not None:
        return request
    pair = row_format == "pair" or (row_format == "multi-label" and "text_pair" in names)
    texts = ("text", "text_pair") if pair else ("text",)
    target = "labels" if row_format == "multi-label" else "label"
    if row_format in {"single-label", "pair", "multi-label"} and {*texts, target} <= set(names):
        request = replace(request, label=target, **{name: name for name in texts})
    if row_format == "multi-label":
        return replace(request, task="multilabel" if len(texts) == 1 else "multilabel-pair")
    return request if row_format in {"single-label", "pair"} else replace(request, task=ROW_FORMATS[row_format])


def _recognised(preview: Preview, request: Request, say: Callable[[str], None]) -> str | None:
    """The task of sentences that the columns tell, or None where they are of texts."""
    found = [task for task in _ROLES if len(_roles(task, preview, request)) == len(_ROLES[task])]
    if not found:
        return None
    if has_known_columns([n for n in preview.names if n not in {"head", "tail", "relation", "tags"}]) and (
        request.text is None and found != ["relation"]
    ):
        say(
            f"{preview.place}: read as texts with a label; the other columns could be {' or '.join(found)}: give "
            f"task={found[0]!r} to read them so."
        )
        return None
    if request.text is not None and request.text not in preview.lists and request.text not in _NAMES["tokens"]:
        return None
    if len(found) > 1:
        raise DataError(
            f"{preview.place}: the columns {listed(preview.names)} could be {' or '.join(found)}. Say which: "
            f"task={found[0]!r} (on the command line --task {found[0]})."
        )
    return found[0]


def _roles(task: str, preview: Preview, request: Request) -> dict[str, str]:
    """Role to column, as far as there are columns for the roles of a task of sentences."""
    named = {"tokens": request.text, _TARGET[task]: request.label}
    folded = {name.strip().lower(): name for name in reversed(preview.names)}
    found: dict[str, str] = {}
    for role in _ROLES[task]:
        known = next((folded[name] for name in _NAMES[role] if name in folded), None)
        column = named.get(role) or known
        if column is not None and column not in found.values():
            found[role] = column
    return found


def _sentence_columns(task: str, preview: Preview, request: Request) -> Columns:
    require_named(preview, request)
    if request.text_pair is not None:
        raise DataError(f"{preview.place}: task={task!r} takes one sentence per row. Leave text_pair out.")
    roles = _roles(task, preview, request)
    missing = [_NAMES[role][0] for role in _ROLES[task] if role not in roles]
    if missing:
        raise DataError(
            f"{preview.place}: task={task!r} needs the columns {_NEEDS[task]}; missing: {', '.join(missing)}; the "
            f"columns are {listed(preview.names)}. Rename the columns, name them (text=... is the one of the tokens, "
            "label=... the one of the labels), or give another task."
        )
    if task == "parsing":
        roles |= {name.lower(): name for name in preview.names if name.lower() == "upos"}
    used = (*roles.values(), request.split)
    return Columns(**roles, id=id_column(preview.names, used), split=request.split)


def _text_columns(task: str | None, preview: Preview, request: Request, say: Callable[[str], None]) -> Columns:
    several = task is not None and TASKS[task].label_structure == "multi"
    if several and request.label is None and "labels" in preview.names:
        request = replace(request, label="labels")
    chosen = choose_text_columns(preview, request, say)
    if chosen.label in preview.lists and (task is None or several):
        chosen = replace(chosen, label=None, labels=chosen.label)
    elif several:
        chosen = replace(chosen, label_separator=request.label_separator or _SEPARATOR)
        say(f"{preview.place}: the cells of {chosen.label!r} are split into labels at {chosen.label_separator!r}.")
    if task is not None and chosen.task != TASKS[task]:
        raise _mismatch(task, chosen, preview)
    if chosen.label in preview.lists:
        raise _mismatch(str(task), replace(chosen, label=None, labels=chosen.label), preview)
    return chosen


def _mismatch(task: str, found: Columns, preview: Preview) -> DataError:
    roles = ", ".join(f"{role} = {name!r}" for role, name in found.by_role().items() if role not in {"id", "split"})
    return DataError(
        f"{preview.place}: task={task!r} is {_described(TASKS[task])}, but the columns are those of "
        f"{found.task.name!r} ({roles}), which is {_described(found.task)}. Leave `task` out, or name other columns "
        "(text, text_pair, label)."
    )


def _described(task: Task) -> str:
    texts = "one text" if task.input_form == "text" else "two texts"
    return f"{texts} and {'a list of labels' if task.label_structure == 'multi' else 'one label'} per row"
