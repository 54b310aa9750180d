"""From rows to a corpus: cleaning, ids, splits, label space, fingerprint."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tailwise.data.cleaning import clean, has_labels, with_canonical_labels, with_nul_replaced
from tailwise.data.corpus import SPLITS, Corpus, SplitName
from tailwise.data.identity import fingerprint_of, with_ids
from tailwise.data.label_paths import check_mark, with_ancestors
from tailwise.data.labels import LabelSpace
from tailwise.data.marked_entities import clean_relations
from tailwise.data.multilabel_rows import clean_label_lists, with_split_labels
from tailwise.data.partition import ALL, parts_by_column, with_missing_splits_cut
from tailwise.data.tag_schemes import OUTSIDE, clean_tags, in_iob2
from tailwise.data.targets import class_codes, class_names, encoded, input_columns, target_of
from tailwise.data.trees import clean_trees
from tailwise.data.unseen import Unseen, without_surprises
from tailwise.errors import DataError, SettingError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

    from tailwise.data.columns import Columns
    from tailwise.data.rows import Rows
    from tailwise.data.task import Task

__all__ = ["RawCorpus", "assemble"]

_Cleaner = Callable[["Rows", Callable[[str], None]], "tuple[Rows, int]"]
_CLEANERS: dict[str, _Cleaner] = {
    "text": clean,
    "pair": clean,
    "multilabel": clean_label_lists,
    "multilabel-pair": clean_label_lists,
    "relation": clean_relations,
    "tagging": clean_tags,
    "parsing": clean_trees,
}
#: per task: columns, what a row is, what a class is
_WORDS = {
    "multilabel": ("text, labels", "texts", "labels"),
    "multilabel-pair": ("text, text_pair, labels", "pairs of texts", "labels"),
    "relation": ("tokens, head, tail, label", "sentences with two marked entities", "relations"),
    "tagging": ("tokens, tags", "sentences", "tags"),
    "parsing": ("tokens, heads, relations", "sentences", "dependency relations"),
}


@dataclass(frozen=True)
class RawCorpus:
    """What a source gave, before cleaning and splitting.

    Attributes:
        name: short name; `assemble` makes it fit for a folder.
        parts: rows per split name, or all under ``"all"``.
        columns: the columns they were read from.
        facts: plain data on the origin: kind, files with sha256, revision, licence.
        catch_all: class that the source states as catch-all.
        missing_in_train: classes that the source declares as absent from train.
        published: whether the data come with a statement of their source, so that a reader cannot correct them.
    """

    name: str
    parts: Mapping[str, Rows]
    columns: Columns
    facts: Mapping[str, Any] = field(default_factory=dict)
    catch_all: str | None = None
    missing_in_train: tuple[str, ...] = ()
    published: bool = False


def assemble(
    raw: RawCorpus,
    *,
    seed: int,
    catch_all: str | None,
    unseen: Unseen,
    say: Callable[[str], None],
    label_paths: str | None = None,
) -> Corpus:
    """The corpus of a source.

    Raises:
        DataError: rows that cannot be used, one class only, a class that only validation or test has.
        SettingError: `unseen` is none of error, keep, drop, or the seed is not an integer of at least 0.
    """
    if unseen not in {"error", "keep", "drop"}:
        raise SettingError(f"Expected `unseen` to be 'error', 'keep' or 'drop', but got {unseen!r}.")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise SettingError(f"Expected `seed` to be an integer of at least 0, but got {seed!r}.")
    task = raw.columns.task
    check_mark(label_paths, task)
    target = target_of(task)
    parts, without_text = _cleaned(raw, say)
    if label_paths is not None:
        parts = {name: with_ancestors(rows, label_paths, say) for name, rows in parts.items()}
    if raw.columns.split is not None:
        parts = parts_by_column(parts[ALL], raw.columns.split)
    made: dict[str, Any] = {}
    if task.label_structure == "tags":
        parts, made["tag_scheme"] = in_iob2(parts, say)
    parts, made["splits"] = with_missing_splits_cut(parts, seed, say, task)
    _require_classes(parts["train"], task)
    parts, unseen_names, left_out = without_surprises(parts, raw.missing_in_train, unseen, say, target)
    space = _label_space(parts["train"], task, unseen_names, catch_all or _stated_catch_all(raw, parts["train"], say))
    space = replace(space, path_mark=label_paths)
    tables = {split: _final_table(parts[split], task, space) for split in SPLITS}
    fingerprint = fingerprint_of(tables, space.all_names)
    if task.label_structure != "single" or task.input_form == "relation":
        say(_announced(task, parts["train"].num_rows, space))
    return Corpus(
        name=re.sub(r"[^A-Za-z0-9._-]+", "-", raw.name).strip("-.")[:100] or "corpus",
        splits=_datasets(tables, fingerprint),
        task=task,
        label_space=space,
        fingerprint=fingerprint,
        source={
            **raw.facts,
            "columns": raw.columns.by_role(),
            **made,
            "cleaning": {
                "rows_without_text": without_text,
                ("labels_of_unseen_classes" if target == "labels" else "rows_of_unseen_classes"): left_out,
            },
        },
    )


def _announced(task: Task, num_rows: int, space: LabelSpace) -> str:
    """``task: tagging (tokens, tags): 3,394 sentences, 13 tags in train``."""
    columns, rows, classes = _WORDS[task.name]
    return f"task: {task.name} ({columns}): {num_rows:,} {rows}, {len(space):,} {classes} in train."


def _cleaned(raw: RawCorpus, say: Callable[[str], None]) -> tuple[dict[str, Rows], dict[str, int]]:
    """Clean rows with ids per split, and the rows without a text that were left out."""
    parts: dict[str, Rows] = {}
    without_text: dict[str, int] = {}
    task = raw.columns.task
    for name, given in raw.parts.items():
        separator = raw.columns.label_separator
        rows = given if separator is None else with_split_labels(given, separator)
        rows = with_nul_replaced(rows, say) if raw.published else rows
        if name in {"validation", "test"} and not has_labels(rows, target_of(task)):
            say(f"{rows.place}: no row of {name} has a label; the split is not used, another is cut from train.")
            continue
        parts[name], without_text[name] = _CLEANERS[task.name](rows, say)
    if task.label_structure == "single":
        parts = with_canonical_labels(parts)
    return with_ids(parts, say), without_text


def _require_classes(train: Rows, task: Task) -> None:
    names = class_names(train, target_of(task))
    if not names:
        raise DataError(f"{train.place}: no row of train has a label. Expected at least 1: add rows with labels.")
    if len(names) < 2 and task.label_structure == "single":
        raise DataError(
            f"{train.place}: every row of train has the label {names[0][:80]!r}. Expected at least 2 classes: name the "
            "column that holds the labels, or add rows of other classes."
        )
    if len(names) < 2 and task.by_token:
        raise DataError(
            f"{train.place}: every token of train has the class {names[0][:80]!r}. Expected at least 2 classes: name "
            "the column that holds them, or add sentences with others."
        )


def _stated_catch_all(raw: RawCorpus, train: Rows, say: Callable[[str], None]) -> str | None:
    """The class that the source states: ``Background`` or ``Background (general-purpose majority class)``."""
    task = raw.columns.task
    names = class_names(train, target_of(task))
    if task.label_structure == "tags":
        return OUTSIDE if OUTSIDE in names else None
    if raw.catch_all is None:
        return None
    found = next((name for name in (raw.catch_all, raw.catch_all.partition(" (")[0]) if name in names), None)
    if found is None:
        say(
            f"The source states the catch-all class {raw.catch_all[:80]!r}, which is no class of train; it is not used."
        )
    return found


def _label_space(train: Rows, task: Task, unseen: tuple[str, ...], catch_all: str | None) -> LabelSpace:
    target = target_of(task)
    names = class_names(train, target)
    codes, _ = class_codes(train, target, names)
    counts = np.bincount(codes, minlength=len(names))
    return LabelSpace(names, counts, catch_all, unseen, train.num_rows if task.label_structure == "multi" else None)


def _final_table(rows: Rows, task: Task, space: LabelSpace) -> pa.Table:
    target = target_of(task)
    table = rows.table.select(list(input_columns(task)))
    table = table.append_column(target, encoded(rows, target, space.all_names))
    if "upos" in rows.table.schema.names and task.label_structure == "arcs":
        table = table.append_column("upos", rows.table.column("upos"))
    return table


def _datasets(tables: Mapping[SplitName, pa.Table], fingerprint: str) -> dict[SplitName, Any]:
    from datasets import Dataset

    return {split: Dataset(table, fingerprint=f"{fingerprint[:48]}-{split}") for split, table in tables.items()}
