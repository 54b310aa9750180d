"""CSV and TSV files.

CSV follows RFC 4180 in strict mode: a text with commas, quotes or line breaks stands in double quotes, quotes inside
are doubled. TSV follows the IANA registration: one line is one row; a field wholly in double quotes is unquoted, as
spreadsheet programs and pandas write it, any other quote is a plain character.
"""

from __future__ import annotations

import csv
import threading
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING

from tailwise.data.columns import Columns, Preview, require_columns
from tailwise.data.lines import LINE_LIMIT, text_lines
from tailwise.data.rows import RowBuilder, Rows
from tailwise.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["preview_delimited", "read_delimited"]

_SAMPLE = 200
_FIELD_LIMIT = threading.Lock()
_QUOTING = (
    "A text with commas, quotes or line breaks must stand in double quotes, with the quotes inside doubled; "
    "csv.writer and DataFrame.to_csv write it so."
)


@contextmanager
def _long_fields() -> Iterator[None]:
    """Let the csv module take fields up to `LINE_LIMIT`: its own limit is a setting of the whole process."""
    with _FIELD_LIMIT:
        before = csv.field_size_limit(LINE_LIMIT)
        try:
            yield
        finally:
            csv.field_size_limit(before)


def preview_delimited(path: Path, say: Callable[[str], None]) -> Preview:
    """Column names and the first rows.

    Raises:
        DataError: the file is empty, or its header is broken.
    """
    with _long_fields():
        records = _records(path, _delimiter(path, say))
        _, header = next(records, (0, []))
        rows, size = list[list[str]](), 0
        for _, fields in islice(records, _SAMPLE):
            rows.append(fields)
            size += sum(map(len, fields))
            if size > LINE_LIMIT:
                break
    if not header:
        raise DataError(
            f"{path}: the file is empty. Expected a header line with column names, then one example per line."
        )
    return Preview(str(path), tuple(header), lambda: [row for row in rows if len(row) == len(header)])


def read_delimited(path: Path, columns: Columns, say: Callable[[str], None]) -> Rows:
    """The chosen columns of a CSV or TSV file; line numbers hold with quoted line breaks too.

    Raises:
        DataError: unequal numbers of fields, broken quoting, and whatever `text_lines` refuses.
    """
    header = preview_delimited(path, lambda _: None).names
    require_columns(columns, header, str(path))
    roles = {role: name for role, name in columns.by_role().items() if name in header}
    positions = [header.index(name) for name in roles.values()]
    builder = RowBuilder(roles, str(path))
    with _long_fields():
        records = _records(path, _delimiter(path, say))
        next(records)
        for line, fields in records:
            if len(fields) != len(header):
                raise _unequal(path, line, header, len(fields))
            builder.add(line, [fields[i] for i in positions])
    return builder.finish()


def _unequal(path: Path, line: int, header: tuple[str, ...], found: int) -> DataError:
    names = ", ".join(header[:10])
    remedy = (
        "A tab or a line break inside a field is not allowed in TSV: write the file as CSV."
        if _is_tsv(path)
        else _QUOTING
    )
    return DataError(f"{path}:{line}: expected {len(header)} fields ({names}), found {found}. {remedy}")


def _is_tsv(path: Path) -> bool:
    return path.name.lower().removesuffix(".gz").endswith(".tsv")


def _delimiter(path: Path, say: Callable[[str], None]) -> str:
    """Tab for TSV; for CSV the comma, or the semicolon or tab where the header has no comma."""
    if _is_tsv(path):
        return "\t"
    header = next(text_lines(path), "")
    for other, name in ((";", "semicolons"), ("\t", "tabs")):
        if "," not in header and other in header:
            say(f"{path}: the header has no comma; fields are separated by {name}.")
            return other
    return ","


def _records(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of every row that is not blank."""
    if _is_tsv(path):
        for line, text in enumerate(text_lines(path), start=1):
            if not text.isspace():
                yield line, _tsv_fields(text)
        return
    reader = csv.reader(text_lines(path), delimiter=delimiter, strict=True)
    while True:
        start = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(
                f"{path}:{start}: broken CSV in the row that starts here (fault on line {reader.line_num}: {error}). "
                f"{_QUOTING}"
            ) from None
        if fields:
            yield start, fields


def _tsv_fields(line: str) -> list[str]:
    fields = line.rstrip("\r\n").split("\t")
    return [_unquoted(field) for field in fields] if '"' in line else fields


def _unquoted(field: str) -> str:
    if len(field) < 2 or field[0] != '"' or field[-1] != '"':
        return field
    inner = field[1:-1].split('""')
    return field if any('"' in piece for piece in inner) else '"'.join(inner)
