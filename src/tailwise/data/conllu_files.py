"""CoNLL-U files, the format of Universal Dependencies, through the library `conllu`.

Basic trees are read: ranges of multiword tokens (``3-4``) and empty nodes (``8.1``) are skipped.
https://universaldependencies.org/format.html
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from tailwise.data.columns import Columns, Preview, require_columns
from tailwise.data.lines import text_lines
from tailwise.data.rows import RowBuilder, Rows
from tailwise.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["preview_conllu", "read_conllu"]

#: name in tailwise -> field of CoNLL-U
_FIELDS = {"tokens": "form", "upos": "upos", "xpos": "xpos", "heads": "head", "deprels": "deprel"}
_COLUMNS = ["ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC"]
_SENTENCE_ID = re.compile(r"#\s*sent_id\s*=\s*(\S.*)")
_BLANKS = re.compile(" {2,}")


class _Sentence(NamedTuple):
    sent_id: str | None
    lines: list[int]
    words: list[dict[str, Any]]


def preview_conllu(path: Path) -> Preview:
    """The columns of a CoNLL-U file, with ``id`` where the first sentence has a ``sent_id``.

    Raises:
        DataError: no sentence, or a broken first one.
    """
    first = next(_sentences(path), None)
    if first is None:
        raise DataError(f"{path}: the file is empty. Expected sentences in CoNLL-U, 10 columns per word.")
    names = (*_FIELDS, *(("id",) if first.sent_id else ()))
    cells = [[word[field] for word in first.words] for field in _FIELDS.values()]
    row: list[Any] = [*cells, *([first.sent_id] if first.sent_id else [])]
    return Preview(str(path), names, lambda: [row], frozenset(_FIELDS))


def read_conllu(path: Path, columns: Columns) -> Rows:
    """The chosen columns of every sentence.

    Raises:
        DataError: a line without 10 columns, a number that is none, words that are not numbered 1, 2, 3, ...
    """
    names = preview_conllu(path).names
    require_columns(columns, names, str(path))
    roles = {role: name for role, name in columns.by_role().items() if name in names}
    builder = RowBuilder({**roles, "lines": "lines"}, str(path))
    for sentence in _sentences(path):
        cells = [
            sentence.sent_id if name == "id" else [word[_FIELDS[name]] for word in sentence.words]
            for name in roles.values()
        ]
        builder.add(sentence.lines[0], [*cells, sentence.lines])
    return builder.finish()


def _sentences(path: Path) -> Iterator[_Sentence]:
    parse = _parser()
    sent_id: str | None = None
    lines, words = list[int](), list[dict[str, Any]]()
    for number, text in enumerate(text_lines(path), start=1):
        line = text.rstrip("\r\n")
        if not line.strip():
            if words:
                yield _Sentence(sent_id, lines, words)
            sent_id, lines, words = None, [], []
        elif line.startswith("#"):
            found = _SENTENCE_ID.match(line)
            sent_id = found[1].strip() if found else sent_id
        else:
            word = _word(path, number, line, parse)
            if not isinstance(word["id"], int):
                continue
            if word["id"] != len(words) + 1:
                raise DataError(
                    f"{path}:{number}: the word has the ID {word['id']}, expected {len(words) + 1}. Words of a "
                    "sentence are numbered 1, 2, 3, ...; a blank line ends a sentence. Correct the numbers."
                )
            lines.append(number)
            words.append(word)
    if words:
        yield _Sentence(sent_id, lines, words)


def _parser() -> Callable[[str], dict[str, Any]]:
    from conllu.parser import DEFAULT_FIELD_PARSERS, parse_line

    # Features and enhanced dependencies are not used; taking them apart takes most of the time.
    names = ("id", *_FIELDS.values())
    parsers = {"id": DEFAULT_FIELD_PARSERS["id"], "head": DEFAULT_FIELD_PARSERS["head"]}
    return lambda line: parse_line(line, names, parsers)


def _word(path: Path, number: int, line: str, parse: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    from conllu.exceptions import ParseException

    fields = line.split("\t")
    if len(fields) != len(_COLUMNS):
        raise DataError(
            f"{path}:{number}: expected {len(_COLUMNS)} columns separated by tabs ({', '.join(_COLUMNS)}), found "
            f"{len(fields)}. Correct the line; a column without a value holds an underscore."
        )
    if "" in fields or " " in fields:
        empty = next(name for name, field in zip(_COLUMNS, fields, strict=True) if not field.strip())
        raise DataError(f"{path}:{number}: the column {empty} is empty. Write an underscore where it has no value.")
    used = "\t".join([fields[0], fields[1], fields[3], fields[4], fields[6], fields[7]])
    try:
        # The library takes runs of blanks for the end of a column.
        word = parse(_BLANKS.sub(" ", used) if "  " in used else used)
    except ParseException as error:
        raise DataError(f"{path}:{number}: broken CoNLL-U: {error} Correct the line.") from None
    if isinstance(word["id"], int) and (word["head"] is None or fields[7] == "_"):
        what = "HEAD" if word["head"] is None else "DEPREL"
        raise DataError(
            f"{path}:{number}: the word {fields[1][:40]!r} has no {what}. Expected a whole tree: fill it in, or remove "
            "the sentence."
        )
    return word
