"""Classes that validation or test have and train does not: an error, kept, or left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tailwise.data.list_cells import flat, relisted
from tailwise.data.tag_schemes import tag_type
from tailwise.data.targets import class_codes, class_names
from tailwise.errors import DataError
from tailwise.registry import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tailwise.data.rows import Rows

__all__ = ["Unseen", "without_surprises"]

Unseen = Literal["error", "keep", "drop"]

_ROWS_LEFT_OUT = "Rows of classes that train lacks were left out"
_UNITS = {"labels": "labels", "tags": "tokens", "relations": "tokens"}


def without_surprises(
    parts: Mapping[str, Rows],
    declared: tuple[str, ...],
    unseen: Unseen,
    say: Callable[[str], None],
    role: str = "label",
) -> tuple[dict[str, Rows], tuple[str, ...], dict[str, int]]:
    """The parts, the unseen classes that stay, and the rows (in lists of labels: the labels) left out per split.

    Args:
        parts: rows per split.
        declared: classes that the source itself declares as missing in train; with ``unseen="error"`` they are kept.
            Of tags, the types; a tag of a type that train knows, such as ``I-x`` where train has ``B-x``, is kept too.
        unseen: what to do with the others.
        say: gets one line on what was kept or left out.
        role: the column of the classes.

    Raises:
        DataError: with ``unseen="error"``, an undeclared class; with ``unseen="drop"``, no row left.
    """
    done = dict(parts)
    names = class_names(done["train"], role)
    expected = {*declared, *map(tag_type, names)} - {None} if role == "tags" else {*declared}
    kept: set[str] = set()
    left_out: dict[str, int] = {}
    for split in ("validation", "test"):
        rows = done[split]
        codes, elements = class_codes(rows, role, names)
        stranger = codes < 0
        if not stranger.any():
            continue
        found = tuple(sorted(pc.unique(elements.values.filter(pa.array(stranger))).to_pylist()))
        undeclared = [name for name in found if not {name, tag_type(name) if role == "tags" else name} & expected]
        if unseen == "error" and undeclared:
            raise _surprise(rows, split, names, undeclared, role)
        if unseen != "drop":
            kept.update(found)
            continue
        strange_rows = np.bincount(elements.row[stranger], minlength=rows.num_rows) > 0
        if role == "labels":
            left_out[split] = int(stranger.sum())
            lengths = np.bincount(elements.row[~stranger], minlength=rows.num_rows)
            done[split] = rows.with_column(role, relisted(elements.values.filter(pa.array(~stranger)), lengths))
            continue
        left_out[split] = int(strange_rows.sum())
        done[split] = rows.filtered(~strange_rows)
        if not done[split].num_rows:
            raise DataError(f"{rows.place}: 0 rows of {split} are left without those of classes that train lacks.")
    if left_out:
        counts = ", ".join(f"{split} {count:,}" for split, count in left_out.items())
        what = "Labels that train lacks were left out, their rows stay" if role == "labels" else _ROWS_LEFT_OUT
        say(f"{what}: {counts}.")
    if kept:
        say(
            f"Train lacks {len(kept)} classes of validation or test: {_some(sorted(kept))}. They can never be "
            f"predicted; their {_UNITS.get(role, 'rows')} stay and count as errors."
        )
    return done, tuple(sorted(kept)), left_out


def _surprise(rows: Rows, split: str, names: tuple[str, ...], found: list[str], role: str) -> DataError:
    elements = flat(rows, role)
    stranger = np.asarray(pc.is_in(elements.values, value_set=pa.array(found, pa.string())))
    first = int(elements.row[np.argmax(np.asarray(pc.equal(elements.values, found[0])))])
    count = int(np.count_nonzero(np.bincount(elements.row[stranger])))
    near = did_you_mean(found[0], names)
    hint = f" {near}" if near.startswith("Did") else ""
    dropped = "the labels are left out, their rows stay" if role == "labels" else "the rows are left out"
    return DataError(
        f"{rows.where(first)}: the class {found[0][:80]!r} occurs in {split} but not in train.{hint} In {split} there "
        f"are {count:,} rows of {len(found)} such classes: {_some(found)}. Correct the labels, add training rows, or "
        f"choose unseen='keep' (the {_UNITS.get(role, 'rows')} count as errors) or unseen='drop' ({dropped})."
    )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(repr(name[:80]) for name in names[:10]) + more
