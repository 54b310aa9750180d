"""Ids of the instances and the fingerprint of the whole corpus."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tailwise.data.corpus import SPLITS, SplitName
from tailwise.data.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["fingerprint_of", "with_ids"]

_MAX_ID_BYTES = 1_000


def with_ids(parts: Mapping[str, Rows], say: Callable[[str], None]) -> dict[str, Rows]:
    """Ids from the id column where they are unique in the whole corpus, else ``<split or all>-<row of the source>``."""
    given = [rows.table.column("id") for rows in parts.values() if "id" in rows.table.schema.names]
    if len(given) == len(parts) and _unique(given):
        return dict(parts)
    if given:
        say("The ids of the id column are missing, repeated or too long; ids are made from split and row number.")
    return {name: Rows(_numbered(rows.table, name), rows.places) for name, rows in parts.items()}


def _numbered(table: pa.Table, prefix: str) -> pa.Table:
    ids = pc.binary_join_element_wise(prefix, pc.cast(table.column("row"), pa.string()), "-")
    return table.select([name for name in table.schema.names if name != "id"]).append_column("id", ids)


def _unique(columns: Sequence[Any]) -> bool:
    ids = pa.chunked_array([chunk for column in columns for chunk in column.chunks], pa.string())
    if ids.null_count or (pc.max(pc.binary_length(ids)).as_py() or 0) > _MAX_ID_BYTES:
        return False
    return int(pc.count_distinct(ids).as_py()) == len(ids)


def fingerprint_of(tables: Mapping[SplitName, pa.Table], names: tuple[str, ...]) -> str:
    """sha256 over all columns of all splits and the class names, whatever the chunks of the tables."""
    digest = hashlib.sha256(json.dumps(names).encode())
    for split in SPLITS:
        table = tables[split]
        digest.update(f"\n{split} {table.num_rows} {table.schema.names}\n".encode())
        for name in table.schema.names:
            chunks = table.column(name).chunks
            if pa.types.is_list(table.schema.field(name).type):
                _update_with_lists(digest, chunks)
                continue
            if name == "label":
                for chunk in chunks:
                    digest.update(np.asarray(chunk, dtype="<i8").tobytes())
                continue
            _update_with_strings(digest, chunks)
    return digest.hexdigest()


def _update_with_lists(digest: Any, chunks: Sequence[Any]) -> None:
    for chunk in chunks:
        digest.update(np.asarray(pc.list_value_length(chunk), dtype="<i8").tobytes())
    elements = [chunk.flatten() for chunk in chunks]
    if elements and pa.types.is_string(elements[0].type):
        _update_with_strings(digest, elements)
        return
    for chunk in elements:
        digest.update(np.asarray(chunk, dtype="<i8").tobytes())


def _update_with_strings(digest: Any, chunks: Sequence[Any]) -> None:
    strings = [pc.cast(chunk, pa.large_string()) for chunk in chunks]
    for chunk in strings:
        digest.update(np.asarray(pc.binary_length(chunk), dtype="<i8").tobytes())
    for chunk in strings:
        digest.update(_characters(chunk))


def _characters(chunk: Any) -> memoryview:
    """The bytes of all strings of a large_string array without nulls, one after the other."""
    _, offsets, data = chunk.buffers()
    if not len(chunk) or data is None:
        return memoryview(b"")
    bounds = np.frombuffer(offsets, dtype=np.int64, count=len(chunk) + 1, offset=8 * chunk.offset)
    return memoryview(data)[int(bounds[0]) : int(bounds[-1])]
