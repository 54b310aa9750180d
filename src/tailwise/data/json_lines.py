"""JSON Lines: one object per line."""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING, Any

from tailwise.data.columns import Columns, Preview, require_columns
from tailwise.data.lines import LINE_LIMIT, text_lines
from tailwise.data.rows import RowBuilder, Rows
from tailwise.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["preview_json_lines", "read_json_lines"]

_SAMPLE = 1000


def preview_json_lines(path: Path) -> Preview:
    """The keys and values of the first 1,000 rows.

    Raises:
        DataError: the file is empty, or one of these lines is broken.
    """
    rows, size = list[dict[str, Any]](), 0
    for _, row in islice(_objects(path), _SAMPLE):
        rows.append(row)
        size += sum(len(value) for value in row.values() if isinstance(value, str))
        if size > LINE_LIMIT:
            break
    if not rows:
        raise DataError(
            f'{path}: the file is empty. Expected one JSON object per line, such as {{"text": "...", "label": "..."}}.'
        )
    names = tuple(dict.fromkeys(key for row in rows for key in row))
    lists = frozenset(key for row in rows for key, value in row.items() if isinstance(value, list))
    return Preview(str(path), names, lambda: [[row.get(name) for name in names] for row in rows], lists)


def read_json_lines(path: Path, columns: Columns) -> Rows:
    """The chosen keys of every line; a key that a row lacks is a missing value.

    Raises:
        DataError: a broken line, a value of an unexpected type, and whatever `text_lines` refuses.
    """
    names = preview_json_lines(path).names
    require_columns(columns, names, str(path))
    roles = {role: name for role, name in columns.by_role().items() if name in names}
    keys = tuple(roles.values())
    builder = RowBuilder(roles, str(path))
    for line, row in _objects(path):
        builder.add_objects(line, [row.get(key) for key in keys])
    return builder.finish()


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    decoder = json.JSONDecoder(object_pairs_hook=_unique_keys)
    for line, text in enumerate(text_lines(path), start=1):
        if text.isspace():
            continue
        try:
            row = decoder.decode(text.rstrip("\r\n"))
        except json.JSONDecodeError as error:
            raise DataError(
                f"{path}:{line}:{error.colno}: broken JSON: {error.msg}. Expected one whole JSON object per line; "
                "the line may be cut off, or the file may be pretty-printed (`jq -c .` puts an object on one line)."
            ) from None
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{path}:{line}: JSON that cannot be read: {error}. Correct the line or remove it."
            ) from None
        if not isinstance(row, dict):
            raise DataError(
                f"{path}:{line}: expected a JSON object, found a {type(row).__name__}. Put one object on each line; "
                "`jq -c '.[]'` turns an array into such lines."
            )
        yield line, row


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) != len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"duplicate column names: the key {repeated!r} occurs twice")
    return row
