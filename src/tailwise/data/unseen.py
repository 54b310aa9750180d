"""Classes that validation or test have and train does not: an error, kept, or left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tailwise.data.partition import class_names
from tailwise.errors import DataError
from tailwise.registry import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tailwise.data.rows import Rows

__all__ = ["Unseen", "without_surprises"]

Unseen = Literal["error", "keep", "drop"]


def without_surprises(
    parts: Mapping[str, Rows], declared: tuple[str, ...], unseen: Unseen, say: Callable[[str], None]
) -> tuple[dict[str, Rows], tuple[str, ...], dict[str, int]]:
    """The parts, the unseen classes that stay, and the rows left out per split.

    Args:
        parts: rows per split.
        declared: classes that the source itself declares as missing in train; with ``unseen="error"`` they are kept.
        unseen: what to do with the others.
        say: gets one line on what was kept or left out.

    Raises:
        DataError: with ``unseen="error"``, an undeclared class; with ``unseen="drop"``, no row left.
    """
    done = dict(parts)
    names = class_names(done["train"])
    kept: set[str] = set()
    left_out: dict[str, int] = {}
    for split in ("validation", "test"):
        rows = done[split]
        stranger = ~np.asarray(pc.is_in(rows.table.column("label"), value_set=pa.array(names, pa.string())))
        if not stranger.any():
            continue
        found = class_names(rows.filtered(stranger))
        undeclared = [name for name in found if name not in declared]
        if unseen == "error" and undeclared:
            raise _surprise(rows, split, names, undeclared)
        if unseen != "drop":
            kept.update(found)
            continue
        left_out[split] = int(stranger.sum())
        done[split] = rows.filtered(~stranger)
        if not done[split].num_rows:
            raise DataError(f"{rows.place}: 0 rows of {split} are left without those of classes that train lacks.")
    if left_out:
        counts = ", ".join(f"{split} {count:,}" for split, count in left_out.items())
        say(f"Rows of classes that train lacks were left out: {counts}.")
    if kept:
        say(
            f"Train lacks {len(kept)} classes of validation or test: {_some(sorted(kept))}. They can never be "
            "predicted; their rows stay and count as errors."
        )
    return done, tuple(sorted(kept)), left_out


def _surprise(rows: Rows, split: str, names: tuple[str, ...], found: list[str]) -> DataError:
    labels = rows.table.column("label")
    first = int(pc.index(labels, found[0]).as_py())
    count = int(pc.sum(pc.is_in(labels, value_set=pa.array(found, pa.string()))).as_py())
    near = did_you_mean(found[0], names)
    hint = f" {near}" if near.startswith("Did") else ""
    return DataError(
        f"{rows.where(first)}: the class {found[0][:80]!r} occurs in {split} but not in train.{hint} In {split} there "
        f"are {count:,} rows of {len(found)} such classes: {_some(found)}. Correct the labels, add training rows, or "
        "choose unseen='keep' (the rows count as errors) or unseen='drop' (the rows are left out)."
    )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(repr(name[:80]) for name in names[:10]) + more
