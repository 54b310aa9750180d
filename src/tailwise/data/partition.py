"""The three splits of a corpus: as given, as a split column says, or cut from train."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from tailwise.data.cleaning import text_keys
from tailwise.data.corpus import SPLITS, SplitName
from tailwise.data.multilabel_split import multilabel_parts
from tailwise.data.splits import TRAIN, distinct, stratified_sets
from tailwise.data.targets import class_codes, class_names, target_of
from tailwise.data.task import Task
from tailwise.errors import DataError
from tailwise.registry import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from tailwise.data.rows import Rows

__all__ = ["ALL", "parts_by_column", "split_name", "with_missing_splits_cut"]

ALL = "all"
HELD_OUT_SHARE = 0.1
SINGLE_LABEL = Task("text", "single")
_ALIASES: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "development": "validation",
    "test": "test",
    "testing": "test",
}


def split_name(written: str) -> SplitName | None:
    """The split that a file name or a cell means (``dev`` is validation), or None."""
    return _ALIASES.get(written.strip().lower())


def parts_by_column(rows: Rows, column: str) -> dict[str, Rows]:
    """Rows per split, as the split column says.

    Raises:
        DataError: a value that is no split, or no row for train.
    """
    values = pc.fill_null(rows.table.column("split"), "")
    masks: dict[str, NDArray[np.bool_]] = {}
    for value in pc.unique(values).to_pylist():
        mask = np.asarray(pc.equal(values, value))
        split = split_name(value)
        if split is None:
            raise DataError(
                f"{rows.where(int(np.argmax(mask)))}: the split column {column!r} holds {value[:80]!r}. Expected "
                f"train, validation (valid, val, dev) or test. {did_you_mean(value[:80], _ALIASES)}"
            )
        masks[split] = masks[split] | mask if split in masks else mask
    if "train" not in masks:
        raise DataError(
            f"{rows.place}: no row of the split column {column!r} says 'train'; found: {', '.join(masks)}. "
            "Name another column, or leave `split` out to have the splits made."
        )
    return {split: rows.filtered(mask) for split, mask in masks.items()}


def with_missing_splits_cut(
    parts: Mapping[str, Rows], seed: int, say: Callable[[str], None], task: Task = SINGLE_LABEL
) -> tuple[dict[str, Rows], dict[str, Any]]:
    """Train, validation and test, and how they came about.

    A split that is missing is cut, stratified, from train (or from all rows). A row whose text also occurs in a given
    split stays in train. Rows with several labels are cut by iterative stratification; sentences by the rarest of their
    tags or relations.

    Raises:
        DataError: too few rows to cut a split from.
    """
    done = dict(parts)
    everything = ALL if ALL in done else "train"
    order: tuple[SplitName, ...] = ("test", "validation")
    missing = [split for split in order if split not in done]
    if not missing:
        return done, {"origin": "given"}
    rows = done.pop(everything)
    names = class_names(rows, target_of(task))
    labels, elements = class_codes(rows, target_of(task), names)
    keys = text_keys(rows)
    pinned = np.isin(keys, np.concatenate([text_keys(other) for other in done.values()])) if done else None
    cut = multilabel_parts if task.label_structure == "multi" else stratified_sets
    part = cut(labels, elements.row, keys, [HELD_OUT_SHARE] * len(missing), seed=seed, pinned=pinned)
    for number, split in enumerate(missing, start=1):
        if not (part == number).any():
            raise DataError(
                f"{rows.place}: {rows.num_rows:,} rows in {len(names)} classes are too few to cut a {split} "
                "split from: no class has 3 different texts. Add rows, or give the splits yourself."
            )
        done[split] = rows.filtered(part == number)
    done["train"] = rows.filtered(part == TRAIN)
    whole = len(missing) == len(order)
    what = "no splits given" if whole else f"no {missing[0]} split given"
    sizes = ", ".join(f"{split} {done[split].num_rows:,}" for split in SPLITS)
    say(f"{rows.place}: {what}; cut, stratified, with seed {seed}: {sizes} rows.")
    repeats = _repeats(labels, keys) if task.label_structure == "single" else _repeated_texts(keys)
    return done, {
        "origin": "stratified 80/10/10" if whole else f"given; {missing[0]} is a stratified 10% of train",
        "seed": seed,
        **repeats,
    }


def _repeated_texts(keys: NDArray[np.uint64]) -> dict[str, int]:
    return {"repeated_texts": len(keys) - len(np.unique(keys))}


def _repeats(labels: NDArray[np.int64], keys: NDArray[np.uint64]) -> dict[str, int]:
    """How many rows repeat an earlier text, and how many distinct texts carry more than one label."""
    texts, group = np.unique(keys, return_inverse=True)
    num_classes = int(labels.max()) + 1
    pairs = distinct(group.astype(np.int64) * num_classes + labels)
    conflicts = int((np.bincount(pairs // num_classes) > 1).sum())
    return {"repeated_texts": len(keys) - len(texts), "label_conflicts": conflicts}
