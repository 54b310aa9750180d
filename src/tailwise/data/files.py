"""Data files by kind: which reader a name calls for, and what is recorded of a file."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

from tailwise.data.delimited import preview_delimited, read_delimited
from tailwise.data.json_lines import preview_json_lines, read_json_lines
from tailwise.data.tables import preview_parquet, read_parquet
from tailwise.errors import DataError
from tailwise.registry import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tailwise.data.columns import Columns, Preview
    from tailwise.data.rows import Rows

__all__ = ["DATA_FILE", "data_stem", "file_facts", "preview_file", "read_file", "require_file"]

DATA_FILE = re.compile(r"(?P<stem>.+)\.(?:(?P<kind>csv|tsv|jsonl|ndjson)(?:\.gz)?|(?P<table>parquet))", re.IGNORECASE)
KINDS = "CSV (.csv), TSV (.tsv), JSON Lines (.jsonl, .ndjson), each also with .gz, and Parquet (.parquet)"


def _kind(path: Path) -> str:
    match = DATA_FILE.fullmatch(path.name)
    if match is None:
        raise DataError(f"{path}: not a kind of file that can be read, by its name. Expected {KINDS}.")
    return (match["kind"] or match["table"]).lower()


def data_stem(path: Path) -> str:
    """The file name without its data suffixes: ``reviews`` of ``reviews.csv.gz``."""
    match = DATA_FILE.fullmatch(path.name)
    return match["stem"] if match else path.stem


def require_file(path: Path) -> None:
    """Raise `DataError` where there is no regular file of a known kind."""
    if not path.exists():
        folder = path.parent
        siblings = sorted(p.name for p in folder.iterdir() if DATA_FILE.fullmatch(p.name)) if folder.is_dir() else []
        near = f" {did_you_mean(path.name, siblings)}" if siblings else ""
        raise DataError(f"{path}: no such file or folder.{near}")
    if not path.is_file():
        raise DataError(f"{path}: not a regular file. Expected {KINDS}.")
    _kind(path)
    if path.stat().st_size == 0:
        raise DataError(
            f"{path}: the file is empty (0 bytes). Expected column names and at least one example per class."
        )


def preview_file(path: Path, say: Callable[[str], None]) -> Preview:
    """Column names and the first rows of a data file."""
    require_file(path)
    kind = _kind(path)
    if kind == "parquet":
        return preview_parquet(path)
    return preview_delimited(path, say) if kind in {"csv", "tsv"} else preview_json_lines(path)


def read_file(path: Path, columns: Columns, say: Callable[[str], None]) -> Rows:
    """The chosen columns of a data file.

    Raises:
        DataError: the file cannot be read, or has a header and no rows.
    """
    require_file(path)
    kind = _kind(path)
    if kind == "parquet":
        rows = read_parquet(path, columns)
    else:
        rows = read_delimited(path, columns, say) if kind in {"csv", "tsv"} else read_json_lines(path, columns)
    if rows.num_rows == 0:
        raise DataError(f"{path}: the file is empty: a header and 0 rows. Expected one example per row.")
    return rows


def file_facts(path: Path) -> dict[str, Any]:
    """Name, size and sha256 of a file; no folder, so that nothing of the machine leaks into results."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while chunk := handle.read(2**20):
            digest.update(chunk)
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": digest.hexdigest()}
