"""CoNLL files: a token per line with its columns, a blank line between sentences.

    EU NNP B-NP B-ORG
    rejects VBZ B-VP O

The token stands in the first column, the tag in the last; columns are separated by tabs, or by blanks where the first
line has no tab. Lines of ``-DOCSTART-`` and, before the first token of a sentence, comments (``# id 17``) are skipped.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from tailwise.data.columns import Columns, Preview, require_columns
from tailwise.data.lines import text_lines
from tailwise.data.rows import RowBuilder, Rows
from tailwise.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["preview_conll", "read_conll"]

_COMMENT = re.compile(r"#\s*(?:id|sent_id|text|newdoc|newpar|global\.columns)\b")
_DOCUMENT_START = "-DOCSTART-"
_SAMPLE = 20


class _Line(NamedTuple):
    number: int
    fields: list[str]


def preview_conll(path: Path) -> Preview:
    """The columns of a CoNLL file: ``tokens``, those between by their number from 0, and ``tags``.

    Raises:
        DataError: no sentence, a single column, or lines of unequal numbers of columns.
    """
    sentences = list(islice(_sentences(path), _SAMPLE))
    if not sentences:
        raise DataError(f"{path}: the file is empty. Expected a token and its tag per line, such as `Berlin B-place`.")
    names = _column_names(len(sentences[0][0].fields))
    rows = [[list(column) for column in zip(*(line.fields for line in lines), strict=True)] for lines in sentences]
    return Preview(str(path), names, lambda: rows, frozenset(names))


def read_conll(path: Path, columns: Columns) -> Rows:
    """The chosen columns of every sentence.

    Raises:
        DataError: as `preview_conll`.
    """
    names = preview_conll(path).names
    require_columns(columns, names, str(path))
    roles = columns.by_role()
    positions = [names.index(name) for name in roles.values()]
    builder = RowBuilder({**roles, "lines": "lines"}, str(path))
    for lines in _sentences(path):
        fields = list(zip(*(line.fields for line in lines), strict=True))
        cells = [list(fields[position]) for position in positions]
        builder.add(lines[0].number, [*cells, [line.number for line in lines]])
    return builder.finish()


def _column_names(count: int) -> tuple[str, ...]:
    return ("tokens", *map(str, range(1, count - 1)), "tags")


def _sentences(path: Path) -> Iterator[list[_Line]]:
    expected, tabs = 0, False
    sentence: list[_Line] = []
    for number, text in enumerate(text_lines(path), start=1):
        if text.isspace():
            if sentence:
                yield sentence
                sentence = []
            continue
        line = text.rstrip("\r\n")
        if line.startswith(_DOCUMENT_START) or (not sentence and _COMMENT.match(line)):
            continue
        if not expected:
            tabs = "\t" in line
        fields = line.split("\t") if tabs else line.split()
        expected = expected or len(fields)
        if expected < 2:
            raise DataError(
                f"{path}:{number}: one column. Expected a token and its tag per line, separated by a tab or a blank, "
                "and a blank line between sentences. Texts with labels are read from CSV, TSV or JSON Lines."
            )
        if len(fields) != expected:
            raise _unequal(path, number, expected, fields, tabs=tabs)
        sentence.append(_Line(number, fields))
    if sentence:
        yield sentence


def _unequal(path: Path, number: int, expected: int, fields: list[str], *, tabs: bool) -> DataError:
    between = "tabs" if tabs else "blanks"
    remedy = (
        "A line without a tag, or a sentence without a blank line around it, looks so."
        if len(fields) < expected
        else "A token that holds blanks needs tabs between the columns of the whole file."
    )
    return DataError(
        f"{path}:{number}: expected {expected} columns, as on the first line, separated by {between}; found "
        f"{len(fields)} ({' | '.join(fields)[:80]!r}). {remedy} Correct the line."
    )
