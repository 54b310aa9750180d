"""What `tailwise predict` reads: texts, pairs, sentences with two marked entities, or sentences as tokens."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tailwise.data.corpus import RelationInput
from tailwise.data.lines import text_lines
from tailwise.data.unlabelled_sentences import SENTENCE_FILES, read_unlabelled_sentences
from tailwise.errors import DataError
from tailwise.registry import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tailwise.data.task import InputForm

__all__ = ["Inputs", "read_inputs"]

_TEXT_NAMES = ("text", "sentence", "content", "utterance")
_TOKEN_NAMES = ("tokens", "words")
_SPAN = "Expected [start, end] in tokens, counted from 0, the end exclusive: one token at place 3 is [3, 4]."


class Inputs(NamedTuple):
    """What a model is given.

    Attributes:
        texts: texts, token lists, or sentences with two marked entities (`RelationInput`).
        pairs: second texts, or None.
    """

    texts: list[Any]
    pairs: list[str] | None = None


def read_inputs(path: Path, form: InputForm, *, text: str | None = None, text_pair: str | None = None) -> Inputs:
    """The rows of a file in the form that a model takes.

    Args:
        path: CSV, TSV, JSON Lines, Parquet or a file of texts; JSON Lines or Parquet for relations; these, CoNLL or
            CoNLL-U for sentences as tokens.
        form: what the model takes.
        text: column with the text or the tokens; None finds it by its usual names.
        text_pair: column with the second text.

    Raises:
        DataError: a file or a row that cannot be used, or a column that is missing.
    """
    if not path.is_file():
        raise DataError(f"There is no file {str(path)!r}.")
    if form != "pair" and text_pair is not None:
        raise DataError(f"--text-pair names the column {text_pair!r}, but the model was not trained on pairs of texts.")
    if form == "pair" and text_pair is None:
        raise DataError("The model was trained on pairs of texts. Name the column with the second ones by --text-pair.")
    kind = path.name.lower().removesuffix(".gz").rpartition(".")[2]
    if form == "tokens" and kind in SENTENCE_FILES:
        sentences = read_unlabelled_sentences(path, kind)
        _check_filled(path, sentences)
        return Inputs(list(sentences))
    if form in {"relation", "tokens"} and kind not in {"jsonl", "ndjson", "parquet"}:
        raise DataError(f"{path}: {_WANTED[form]}")
    table = _read(path, kind)
    _check_filled(path, next(iter(table.values()), []))
    if form == "tokens":
        return Inputs(_token_lists(path, table, text))
    if form == "relation":
        return Inputs(_relations(path, table, text))
    pairs = None if text_pair is None else _texts(path, table, text_pair, "--text-pair", ())
    return Inputs(_texts(path, table, text, "--text", _TEXT_NAMES), pairs)


_WANTED = {
    "tokens": (
        "the model takes sentences as tokens. Expected .jsonl or .parquet with a list of tokens per row, or .conll, "
        ".bio, .txt or .conllu with a token per line."
    ),
    "relation": (
        "the model takes sentences with two marked entities. Expected .jsonl or .parquet whose rows have `tokens`, "
        "`head` and `tail`, the last two as [start, end] in tokens."
    ),
}


def _check_filled(path: Path, rows: Sequence[Any]) -> None:
    if not rows:
        raise DataError(f"{path}: the file has no rows. Expected at least one to predict.")


def _read(path: Path, kind: str) -> dict[str, list[Any]]:
    """The columns of a file by name."""
    import pandas as pd

    if kind == "txt":
        lines = (line.rstrip("\r\n") for line in text_lines(path))
        return {"text": [line for line in lines if line.strip()]}
    if kind in {"jsonl", "ndjson"}:
        rows = [_json_object(path, n, line) for n, line in enumerate(text_lines(path), start=1) if line.strip()]
        return {name: [row.get(name) for row in rows] for name in dict.fromkeys(key for row in rows for key in row)}
    try:
        if kind == "parquet":
            table = pd.read_parquet(path)
        elif kind in {"csv", "tsv"}:
            table = pd.read_csv(path, sep="\t" if kind == "tsv" else ",", dtype=str, keep_default_na=False)
        else:
            raise DataError(f"{path}: expected .csv, .tsv, .jsonl, .parquet or .txt.")
    except (ValueError, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}. Expected a sound UTF-8 {kind.upper()} file.") from error
    return {str(name): table[name].tolist() for name in table.columns}


def _json_object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}:{number}: broken JSON: {error}. Expected one whole JSON object per line.") from None
    if not isinstance(row, dict):
        raise DataError(f"{path}:{number}: expected a JSON object, found a {type(row).__name__}.")
    return row


def _column(
    path: Path, table: dict[str, list[Any]], name: str | None, option: str, usual: tuple[str, ...]
) -> list[Any]:
    columns = list(table)
    chosen = name or next((c for c in usual if c in columns), columns[0] if len(columns) == 1 else None)
    if chosen is None:
        what = "tokens" if usual == _TOKEN_NAMES else "text"
        raise DataError(f"{path} has the columns {', '.join(columns)}: name the one with the {what} by {option}.")
    if chosen not in columns:
        raise DataError(f"{path} has no column {chosen!r}. {did_you_mean(chosen, columns)}")
    return table[chosen]


def _texts(path: Path, table: dict[str, list[Any]], name: str | None, option: str, usual: tuple[str, ...]) -> list[str]:
    values = _column(path, table, name, option, usual)
    wrong = [i for i, value in enumerate(values) if not _is_text(value)]
    if wrong:
        chosen = f" {name!r}" if name else ""
        raise DataError(f"{path}, row {wrong[0] + 1}: the column{chosen} is empty or no text ({len(wrong)} rows).")
    return values


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and not any("\ud800" <= c <= "\udfff" for c in value)


def _token_lists(path: Path, table: dict[str, list[Any]], name: str | None) -> list[list[str]]:
    values = _column(path, table, name, "--text", _TOKEN_NAMES)
    for row, value in enumerate(values, start=1):
        listed = isinstance(value, list | tuple | np.ndarray)
        if not listed or not len(value) or not all(_is_text(token) for token in value):
            raise DataError(
                f'{path}, row {row}: expected a list of tokens, such as ["Ann", "sings", "."], each of them text and '
                f"not empty, but got {str(value)[:60]!r}. Split the text into tokens as the training data were."
            )
    return [list(value) for value in values]


def _relations(path: Path, table: dict[str, list[Any]], name: str | None) -> list[RelationInput]:
    missing = [role for role in ("head", "tail") if role not in table]
    if missing:
        found = ", ".join(table)
        raise DataError(f"{path} lacks {' and '.join(missing)}; it has the columns {found}. {_WANTED['relation']}")
    tokens = _token_lists(path, table, name)
    return [
        RelationInput(
            tuple(words), _span(path, row, "head", head, len(words)), _span(path, row, "tail", tail, len(words))
        )
        for row, (words, head, tail) in enumerate(zip(tokens, table["head"], table["tail"], strict=True), start=1)
    ]


def _span(path: Path, row: int, role: str, value: Any, size: int) -> tuple[int, int]:
    listed = list(value) if isinstance(value, list | tuple | np.ndarray) else []
    whole = len(listed) == 2 and all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in listed)
    if not whole or not 0 <= listed[0] < listed[1] <= size:
        raise DataError(f"{path}, row {row}: the {role} is {str(value)[:60]}, in a sentence of {size} tokens. {_SPAN}")
    return int(listed[0]), int(listed[1])
