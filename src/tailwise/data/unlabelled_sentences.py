"""The tokens of CoNLL and CoNLL-U files whose other columns may be missing, to predict them.

A token per line, a blank line between sentences. In CoNLL files the token is the first column, in CoNLL-U files the
second, where ranges of multiword tokens (``3-4``) and empty nodes (``8.1``) are skipped. Lines of ``-DOCSTART-`` and
comments before a sentence are skipped.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tailwise.data.lines import text_lines
from tailwise.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SENTENCE_FILES", "read_unlabelled_sentences"]

_COMMENT = re.compile(r"#\s*(?:id|sent_id|text|newdoc|newpar|global\.columns)\b")
_DOCUMENT_START = "-DOCSTART-"
_WORD_NUMBER = re.compile(r"[0-9]+")
_NO_WORD = re.compile(r"[0-9]+(?:-|\.)[0-9]+")


def read_unlabelled_sentences(path: Path, kind: str) -> list[list[str]]:
    """The tokens of every sentence.

    Args:
        path: the file, plain or ``.gz``.
        kind: its suffix without ``.gz``, one of `SENTENCE_FILES`.

    Raises:
        DataError: a line without a token, or whatever `text_lines` refuses.
    """
    token_of = _conllu_token if kind == "conllu" else _conll_token
    sentences, tokens = list[list[str]](), list[str]()
    for number, text in enumerate(text_lines(path), start=1):
        line = text.rstrip("\r\n")
        if not line.strip():
            if tokens:
                sentences.append(tokens)
            tokens = []
        elif not _skipped(line, kind, first=not tokens):
            found = token_of(line)
            if found is None:
                raise DataError(_broken(f"{path}:{number}", kind))
            tokens += found
    return [*sentences, tokens] if tokens else sentences


def _skipped(line: str, kind: str, *, first: bool) -> bool:
    if kind == "conllu":
        return line.startswith("#")
    return line.startswith(_DOCUMENT_START) or (first and _COMMENT.match(line) is not None)


def _conll_token(line: str) -> list[str] | None:
    token = (line.split("\t") if "\t" in line else line.split())[0].strip()
    return [token] if token else None


def _conllu_token(line: str) -> list[str] | None:
    """The word of a line, nothing for lines that hold none, None for a broken line."""
    number, _, rest = line.partition("\t")
    token = rest.partition("\t")[0].strip()
    if _NO_WORD.fullmatch(number):
        return []
    return [token] if token and _WORD_NUMBER.fullmatch(number) else None


def _broken(place: str, kind: str) -> str:
    if kind == "conllu":
        return f"{place}: expected the number of a word, a tab and the word, as in CoNLL-U. Correct the line."
    return f"{place}: the first column is empty. Expected a token per line, and a blank line between sentences."


#: suffixes of files with a token per line
SENTENCE_FILES: tuple[str, ...] = ("conll", "iob", "iob2", "bio", "txt", "conllu")
