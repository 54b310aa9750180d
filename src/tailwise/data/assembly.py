"""From rows to a corpus: cleaning, ids, splits, label space, fingerprint."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tailwise.data.cleaning import clean, has_labels, with_canonical_labels
from tailwise.data.corpus import SPLITS, Corpus, SplitName
from tailwise.data.identity import fingerprint_of, with_ids
from tailwise.data.labels import LabelSpace
from tailwise.data.partition import ALL, class_names, parts_by_column, with_missing_splits_cut
from tailwise.data.task import Task
from tailwise.data.unseen import Unseen, without_surprises
from tailwise.errors import DataError, SettingError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tailwise.data.columns import Columns
    from tailwise.data.rows import Rows

__all__ = ["RawCorpus", "assemble"]


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
    """

    name: str
    parts: Mapping[str, Rows]
    columns: Columns
    facts: Mapping[str, Any] = field(default_factory=dict)
    catch_all: str | None = None
    missing_in_train: tuple[str, ...] = ()


def assemble(raw: RawCorpus, *, seed: int, catch_all: str | None, unseen: Unseen, say: Callable[[str], None]) -> Corpus:
    """The corpus of a source.

    Raises:
        DataError: rows that cannot be used, one class only, a class that only validation or test has.
        SettingError: `unseen` is none of error, keep, drop, or the seed is not an integer of at least 0.
    """
    if unseen not in {"error", "keep", "drop"}:
        raise SettingError(f"Expected `unseen` to be 'error', 'keep' or 'drop', but got {unseen!r}.")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise SettingError(f"Expected `seed` to be an integer of at least 0, but got {seed!r}.")
    parts, without_text = _cleaned(raw.parts, say)
    if raw.columns.split is not None:
        parts = parts_by_column(parts[ALL], raw.columns.split)
    parts, made = with_missing_splits_cut(parts, seed, say)
    _require_classes(parts["train"])
    parts, unseen_names, left_out = without_surprises(parts, raw.missing_in_train, unseen, say)
    space = _label_space(parts["train"], unseen_names, catch_all or _stated_catch_all(raw, parts["train"], say))
    tables = {split: _final_table(parts[split], space) for split in SPLITS}
    fingerprint = fingerprint_of(tables, space.all_names)
    return Corpus(
        name=re.sub(r"[^A-Za-z0-9._-]+", "-", raw.name).strip("-.")[:100] or "corpus",
        splits=_datasets(tables, fingerprint),
        task=Task("pair" if raw.columns.text_pair is not None else "text", "single"),
        label_space=space,
        fingerprint=fingerprint,
        source={
            **raw.facts,
            "columns": raw.columns.by_role(),
            "splits": made,
            "cleaning": {"rows_without_text": without_text, "rows_of_unseen_classes": left_out},
        },
    )


def _cleaned(raw_parts: Mapping[str, Rows], say: Callable[[str], None]) -> tuple[dict[str, Rows], dict[str, int]]:
    """Clean rows with ids per split, and the rows without a text that were left out."""
    parts: dict[str, Rows] = {}
    without_text: dict[str, int] = {}
    for name, rows in raw_parts.items():
        if name in {"validation", "test"} and not has_labels(rows):
            say(f"{rows.place}: no row of {name} has a label; the split is not used, another is cut from train.")
            continue
        parts[name], without_text[name] = clean(rows, say)
    return with_ids(with_canonical_labels(parts), say), without_text


def _require_classes(train: Rows) -> None:
    names = class_names(train)
    if len(names) < 2:
        raise DataError(
            f"{train.place}: every row of train has the label {names[0][:80]!r}. Expected at least 2 classes: name the "
            "column that holds the labels, or add rows of other classes."
        )


def _stated_catch_all(raw: RawCorpus, train: Rows, say: Callable[[str], None]) -> str | None:
    """The class that the source states: ``Background`` or ``Background (general-purpose majority class)``."""
    if raw.catch_all is None:
        return None
    names = class_names(train)
    found = next((name for name in (raw.catch_all, raw.catch_all.partition(" (")[0]) if name in names), None)
    if found is None:
        say(
            f"The source states the catch-all class {raw.catch_all[:80]!r}, which is no class of train; it is not used."
        )
    return found


def _label_space(train: Rows, unseen: tuple[str, ...], catch_all: str | None) -> LabelSpace:
    names = class_names(train)
    codes = pc.index_in(train.table.column("label"), value_set=pa.array(names, pa.string()))
    counts = np.bincount(np.asarray(codes.to_numpy(), dtype=np.int64), minlength=len(names))
    return LabelSpace(names, counts, catch_all, unseen)


def _final_table(rows: Rows, space: LabelSpace) -> pa.Table:
    table = rows.table
    codes = pc.index_in(table.column("label"), value_set=pa.array(space.all_names, pa.string()))
    columns = [name for name in ("id", "text", "text_pair") if name in table.schema.names]
    return table.select(columns).append_column("label", pc.cast(codes, pa.int64()))


def _datasets(tables: Mapping[SplitName, pa.Table], fingerprint: str) -> dict[SplitName, Any]:
    from datasets import Dataset

    return {split: Dataset(table, fingerprint=f"{fingerprint[:48]}-{split}") for split, table in tables.items()}
