"""Rows on their way into a corpus: an Arrow table of strings that remembers where each row came from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tailwise.data.columns import unfit_cell
from tailwise.data.list_cells import LIST_ROLES, arrow_type, as_list
from tailwise.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

__all__ = ["RowBuilder", "Rows", "joined"]

_BATCH_ROWS = 50_000
_BATCH_CHARACTERS = 32 * 2**20
_NO_LINE = 0
_LISTED = 10
_CHARACTERS_PER_ELEMENT = 16
_NUMBER_LIMIT = 10**18


@dataclass(frozen=True)
class Rows:
    """Examples with their origin.

    Attributes:
        table: ``file`` (index into `places`), ``row`` (0-based, counted per split before cleaning), ``line`` (1-based
            line of a text file, 0 elsewhere) and a column per role: strings (text, text_pair, label, id, split), lists
            of strings (labels, tokens, tags, relations, upos) or lists of numbers (head, tail, heads, and lines: those
            of the tokens, where each has one).
        places: the files or objects the rows come from, as the caller named them.
    """

    table: pa.Table
    places: tuple[str, ...]

    @property
    def num_rows(self) -> int:
        """Number of examples."""
        return int(self.table.num_rows)

    @property
    def place(self) -> str:
        """The files or objects, for messages about all rows."""
        return ", ".join(self.places)

    def numpy(self, column: str) -> NDArray[np.int64]:
        """An integer column."""
        return np.asarray(self.table.column(column).to_numpy(), dtype=np.int64)

    def where(self, position: int) -> str:
        """Where a row stands: ``reviews.csv:17`` or ``reviews.parquet, row 16 (from 0)``."""
        at = self.table.slice(position, 1).select(["file", "row", "line"]).to_pylist()[0]
        place = self.places[at["file"]]
        return f"{place}:{at['line']}" if at["line"] else f"{place}, row {at['row']} (from 0)"

    def where_element(self, position: int, place: int) -> str:
        """Where an element of a list of a row stands: its line where each has one, else its place in the row."""
        if "lines" not in self.table.schema.names:
            return f"{self.where(position)}, place {place} (from 0)"
        at = self.table.slice(position, 1).select(["file", "lines"]).to_pylist()[0]
        return f"{self.places[at['file']]}:{at['lines'][place]}"

    def where_all(self, mask: NDArray[np.bool_]) -> str:
        """Where several rows stand, the first ten of them."""
        positions = np.flatnonzero(mask)
        shown = self.table.take(pa.array(positions[:_LISTED])).select(["file", "row", "line"]).to_pylist()
        pieces: list[str] = []
        for file in sorted({at["file"] for at in shown}):
            here = [at for at in shown if at["file"] == file]
            by_line = here[0]["line"] != _NO_LINE
            numbers = ", ".join(str(at["line"] if by_line else at["row"]) for at in here)
            pieces.append(f"{self.places[file]}, {'line' if by_line else 'row (from 0)'} {numbers}")
        more = len(positions) - len(shown)
        return "; ".join(pieces) + (f" and {more:,} more" if more > 0 else "")

    def filtered(self, mask: NDArray[np.bool_]) -> Rows:
        """The rows where `mask` is true, in order."""
        if mask.all():
            return self
        return Rows(self.table.filter(pa.array(mask)), self.places)

    def with_column(self, name: str, values: Any) -> Rows:
        """The rows with a column replaced."""
        return Rows(self.table.set_column(self.table.schema.get_field_index(name), name, values), self.places)


def joined(parts: Sequence[Rows]) -> Rows:
    """Rows of several files (shards of one split) as one, numbered through."""
    if len(parts) == 1:
        return parts[0]
    tables, places, start = [], list[str](), 0
    for part in parts:
        file = pc.cast(pc.add(part.table.column("file"), len(places)), pa.int16())
        table = part.table.set_column(0, "file", file)
        tables.append(table.set_column(1, "row", pc.add(table.column("row"), start)))
        places.extend(part.places)
        start += part.num_rows
    return Rows(pa.concat_tables(tables), tuple(places))


class RowBuilder:
    """Collects examples into Arrow batches of bounded size.

    Args:
        roles: role to column name, in the order of the cells given to `add`.
        place: file or object, for messages.
    """

    def __init__(self, roles: dict[str, str], place: str) -> None:
        self.roles = roles
        self.place = place
        self._lines: list[int] = []
        self._cells: list[list[Any]] = [[] for _ in roles]
        self._plain = [role not in LIST_ROLES for role in roles]
        self._characters = 0
        self._done = 0
        self._batches: list[pa.RecordBatch] = []

    def add(self, line: int, cells: Sequence[Any]) -> None:
        """Append a row of strings and lists as the roles ask for; `line` is 0 where the source has no lines."""
        self._lines.append(line)
        for column, cell, plain in zip(self._cells, cells, self._plain, strict=True):
            column.append(cell)
            if cell is not None:
                self._characters += len(cell) if plain else _CHARACTERS_PER_ELEMENT * len(cell)
        if len(self._lines) >= _BATCH_ROWS or self._characters >= _BATCH_CHARACTERS:
            self._flush()

    def add_objects(self, line: int, cells: Iterable[Any]) -> None:
        """Append a row of Python objects as JSON and pandas give them."""
        self.add(
            line,
            [
                cell if plain and type(cell) is str else self._converted(line, role, cell)
                for role, cell, plain in zip(self.roles, cells, self._plain, strict=True)
            ],
        )

    def finish(self) -> Rows:
        """All rows added."""
        if self._lines or not self._batches:
            self._flush()
        return Rows(pa.Table.from_batches(self._batches), (self.place,))

    def _where(self, index: int) -> str:
        line = self._lines[index]
        return f"{self.place}:{line}" if line else f"{self.place}, row {self._done + index} (from 0)"

    def _converted(self, line: int, role: str, cell: Any) -> Any:
        where = f"{self.place}:{line}" if line else f"{self.place}, row {self._done + len(self._lines)} (from 0)"
        return (as_list if role in LIST_ROLES else as_cell)(cell, role, self.roles[role], where)

    def _flush(self) -> None:
        columns = []
        for role, cells in zip(self.roles, self._cells, strict=True):
            try:
                columns.append(pa.array(cells, arrow_type(role)))
            except (OverflowError, pa.ArrowInvalid):
                index = next(i for i, cell in enumerate(cells) if cell and max(map(abs, cell)) >= _NUMBER_LIMIT)
                raise DataError(
                    f"{self._where(index)}: the column {self.roles[role]!r} ({role}) holds a number of more than 18 "
                    "digits. Correct the row."
                ) from None
            except UnicodeEncodeError:
                index = next(i for i, cell in enumerate(cells) if cell is not None and not _encodable(cell))
                raise DataError(
                    f"{self._where(index)}: the {role} holds a lone surrogate such as \\ud800, which is no character. "
                    "Write the file again from a source that is valid Unicode, or remove the row."
                ) from None
        self._batches.append(_origin_batch(np.asarray(self._lines, dtype=np.int64), self._done, self.roles, columns))
        self._done += len(self._lines)
        self._characters = 0
        self._lines.clear()
        for cells in self._cells:
            cells.clear()


def _origin_batch(lines: NDArray[np.int64], start: int, roles: Iterable[str], columns: Sequence[Any]) -> pa.RecordBatch:
    count = len(lines)
    origin = [pa.array(np.zeros(count, dtype=np.int16)), pa.array(np.arange(start, start + count)), pa.array(lines)]
    return pa.record_batch([*origin, *columns], names=["file", "row", "line", *roles])


def table_batch(start: int, roles: Iterable[str], columns: Sequence[Any]) -> pa.RecordBatch:
    """A batch of rows of a table without lines; `columns` are string arrays in the order of `roles`."""
    return _origin_batch(np.zeros(len(columns[0]), dtype=np.int64), start, roles, columns)


def as_cell(value: Any, role: str, column: str, where: str) -> str | None:
    """A cell as a string, None where it is missing.

    Texts are strings. Labels may also be integers, booleans (``"true"``, ``"false"``) and floats.

    Raises:
        DataError: a cell of another kind.
    """
    if value is None or (isinstance(value, (float, np.floating)) and math.isnan(value)):
        return None
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (list, tuple, set, np.ndarray)):
        if role == "label":
            raise unfit_cell(where, role, column, "a list of labels (multi-label data)")
        raise unfit_cell(where, role, column, "a list")
    if role in {"text", "text_pair"}:
        raise DataError(
            f"{where}: the column {column!r} ({role}) holds {value!r:.80} of type {type(value).__name__}. Expected a "
            "string; name another column, or turn the values into strings."
        )
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, Real):
        number = float(value)
        return str(int(number)) if number.is_integer() else repr(number)
    raise DataError(
        f"{where}: the column {column!r} ({role}) holds {value!r:.80} of type {type(value).__name__}. "
        "Expected a string or a number."
    )


def _encodable(cell: str | list[str]) -> bool:
    try:
        "".join(cell).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
