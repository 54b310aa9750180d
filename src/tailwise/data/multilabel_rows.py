"""Rows with any number of labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tailwise.data.cleaning import check_texts, without_empty, without_text
from tailwise.data.list_cells import flat, relisted
from tailwise.data.rows import Rows
from tailwise.data.sentences import refuse_rows, with_names

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["clean_label_lists", "with_split_labels"]


def with_split_labels(rows: Rows, separator: str) -> Rows:
    """The rows with the joined names in the column ``label`` as lists in ``labels``; an empty cell is an empty list."""
    column = rows.table.column("label")
    lists = [_split(chunk, separator) for chunk in column.chunks]
    place = rows.table.schema.get_field_index("label")
    return Rows(rows.table.set_column(place, "labels", pa.chunked_array(lists, pa.list_(pa.string()))), rows.places)


def _split(cells: Any, separator: str) -> Any:
    cells = pc.fill_null(cells, "")
    lists = pc.split_pattern(cells, separator)
    blank = np.asarray(pc.equal(pc.utf8_trim_whitespace(cells), ""))
    lengths = np.asarray(pc.list_value_length(lists), dtype=np.int64)
    values = lists.flatten().filter(pa.array(np.repeat(~blank, lengths)))
    return relisted(values, np.where(blank, 0, lengths))


def clean_label_lists(rows: Rows, say: Callable[[str], None]) -> tuple[Rows, int]:
    """Rows fit for use, and how many without a text were left out. A label that a row repeats counts once.

    Raises:
        DataError: whatever is wrong with a text; a missing list; a label that is empty, too long or holds a NUL
            character.
    """
    check_texts(rows)
    empty = without_text(rows)
    missing = np.concatenate([np.asarray(pc.is_null(chunk)) for chunk in rows.table.column("labels").chunks])
    refuse_rows(
        rows,
        missing & ~empty,
        lambda _: "the list of labels is missing. Write [] where a row has no label, or remove the row.",
    )
    rows, dropped = without_empty(rows, empty, say)
    return _without_repeats(with_names(rows, "labels"), say), dropped


def _without_repeats(rows: Rows, say: Callable[[str], None]) -> Rows:
    part = flat(rows, "labels")
    names = pc.unique(part.values)
    codes = np.asarray(pc.index_in(part.values, value_set=names), dtype=np.int64)
    pairs = part.row * max(len(names), 1) + codes
    _, first = np.unique(pairs, return_index=True)
    if len(first) == len(pairs):
        return rows
    keep = np.zeros(len(pairs), dtype=bool)
    keep[first] = True
    lengths = np.bincount(part.row[keep], minlength=rows.num_rows)
    repeating = lengths != part.lengths
    say(
        f"{rows.place}: {int(repeating.sum()):,} rows name a label more than once, counted once: "
        f"{rows.where_all(repeating)}."
    )
    return rows.with_column("labels", relisted(part.values.filter(pa.array(keep)), lengths))
