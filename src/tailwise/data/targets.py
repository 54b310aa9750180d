"""The column that a model learns: its class names, their counts, and the column with class indices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tailwise.data.list_cells import LIST_ROLES, Flat, flat, relisted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tailwise.data.rows import Rows
    from tailwise.data.task import Task

__all__ = ["class_codes", "class_names", "encoded", "input_columns", "target_of"]

_TARGETS = {"single": "label", "multi": "labels", "tags": "tags", "arcs": "relations"}
_INPUTS = {
    "text": ("text",),
    "pair": ("text", "text_pair"),
    "relation": ("tokens", "head", "tail"),
    "tokens": ("tokens",),
}


def target_of(task: Task) -> str:
    """The role of the classes: label, labels, tags or relations."""
    return _TARGETS[task.label_structure]


def input_columns(task: Task) -> tuple[str, ...]:
    """The columns of a corpus before those of the classes, in order."""
    return ("id", *_INPUTS[task.input_form], *(("heads",) if task.label_structure == "arcs" else ()))


def class_names(rows: Rows, role: str = "label") -> tuple[str, ...]:
    """The classes that occur, sorted."""
    return tuple(sorted(pc.unique(flat(rows, role).values).to_pylist()))


def class_codes(rows: Rows, role: str, names: tuple[str, ...]) -> tuple[NDArray[np.int64], Flat]:
    """The place in `names` of the class of every element, -1 where it is none of them, ``(M,)``; and the elements."""
    part = flat(rows, role)
    codes = pc.index_in(part.values, value_set=pa.array(names, pa.string()))
    return np.asarray(pc.fill_null(codes, -1), dtype=np.int64), part


def encoded(rows: Rows, role: str, names: tuple[str, ...]) -> Any:
    """The column of class indices; those of a list of labels are sorted."""
    codes, part = class_codes(rows, role, names)
    if role == "labels":
        codes = codes[np.lexsort((codes, part.row))]
    if role not in LIST_ROLES:
        return pa.array(codes)
    return relisted(pa.array(codes), part.lengths)
