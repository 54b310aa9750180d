"""The exact per-class numbers of every method and seed, as XLSX and CSV (survey section 4)."""

from __future__ import annotations

import csv
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from openpyxl import Workbook
from openpyxl.cell import WriteOnlyCell
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
from openpyxl.styles import Font
from openpyxl.utils import get_column_letter

from tailwise.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pandas as pd

__all__ = ["write_csv", "write_workbook"]

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_LONGEST_CELL = 32_767
_FIXED_TIME = datetime(2000, 1, 1, tzinfo=UTC).replace(tzinfo=None)


def write_csv(table: pd.DataFrame, path: Path) -> Path:
    """Write a table as UTF-8 CSV with a header; text that a spreadsheet would run as a formula gets a leading quote."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(table.columns)
        for row in table.itertuples(index=False):
            writer.writerow([_safe(value) for value in row])
    return path


def write_workbook(sheets: Mapping[str, pd.DataFrame], path: Path) -> Path:
    """Write tables as sheets of one XLSX file: header bold and frozen, filters on, numbers as numbers.

    Raises:
        StoreError: a table has more rows than a sheet holds.
    """
    book = Workbook(write_only=True)
    book.properties.created = book.properties.modified = _FIXED_TIME
    for title, table in sheets.items():
        if len(table) > 1_048_000:
            raise StoreError(f"The sheet {title!r} has {len(table):,} rows; XLSX holds 1,048,576. Use the CSV file.")
        sheet = book.create_sheet(title[:31])
        sheet.freeze_panes = "A2"
        for number, name in enumerate(table.columns, start=1):
            width = max([len(str(name)), *(len(str(v)) for v in table[name].head(200))], default=8)
            sheet.column_dimensions[get_column_letter(number)].width = min(max(width + 2, 9), 44)
        header = [WriteOnlyCell(sheet, value=str(name)) for name in table.columns]
        for cell in header:
            cell.font = Font(bold=True)
        sheet.append(header)
        for row in table.itertuples(index=False):
            sheet.append([_safe(value) for value in row])
        sheet.auto_filter.ref = f"A1:{get_column_letter(max(len(table.columns), 1))}{len(table) + 1}"
    path.parent.mkdir(parents=True, exist_ok=True)
    book.save(path)
    return path


def _safe(value: Any) -> Any:
    """A cell value: NaN empty, numpy scalars as Python ones, text without control characters and never a formula."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and math.isnan(value):
        return None
    if not isinstance(value, str):
        return value
    text = ILLEGAL_CHARACTERS_RE.sub("�", value)[:_LONGEST_CELL]
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
