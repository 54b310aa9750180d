"""Data files by kind: which reader a name calls for, and what is recorded of a file."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

from tailwise.data.conll import preview_conll, read_conll
from tailwise.data.conllu_files import preview_conllu, read_conllu
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

    _Preview = Callable[[Path, Callable[[str], None]], Preview]
    _Reader = Callable[[Path, Columns, Callable[[str], None]], Rows]

__all__ = ["DATA_FILE", "data_stem", "file_facts", "preview_file", "read_file", "require_file"]

DATA_FILE = re.compile(
    r"(?P<stem>.+)\.(?:(?P<kind>csv|tsv|jsonl|ndjson|conll|iob|iob2|bio|txt|conllu)(?:\.gz)?|(?P<table>parquet))",
    re.IGNORECASE,
)
KINDS = (
    "CSV (.csv), TSV (.tsv), JSON Lines (.jsonl, .ndjson), CoNLL (.conll, .iob, .bio, .txt), CoNLL-U (.conllu), each "
    "also with .gz, and Parquet (.parquet)"
)
_READERS: dict[str, tuple[_Preview, _Reader]] = {
    "parquet": (lambda path, _: preview_parquet(path), lambda path, columns, _: read_parquet(path, columns)),
    "csv": (preview_delimited, read_delimited),
    "jsonl": (lambda path, _: preview_json_lines(path), lambda path, columns, _: read_json_lines(path, columns)),
    "conllu": (lambda path, _: preview_conllu(path), lambda path, columns, _: read_conllu(path, columns)),
    "conll": (lambda path, _: preview_conll(path), lambda path, columns, _: read_conll(path, columns)),
}
_SAME = {"tsv": "csv", "ndjson": "jsonl", "iob": "conll", "iob2": "conll", "bio": "conll", "txt": "conll"}


def _kind(path: Path) -> str:
    match = DATA_FILE.fullmatch(path.name)
    if match is None:
        raise DataError(f"{path}: not a kind of file that can be read, by its name. Expected {KINDS}.")
    kind = (match["kind"] or match["table"]).lower()
    return _SAME.get(kind, kind)


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
    return _READERS[_kind(path)][0](path, say)


def read_file(path: Path, columns: Columns, say: Callable[[str], None]) -> Rows:
    """The chosen columns of a data file.

    Raises:
        DataError: the file cannot be read, or has a header and no rows.
    """
    require_file(path)
    rows = _READERS[_kind(path)][1](path, columns, say)
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
