"""What every sentence must satisfy: tokens that are there, and one tag, head or relation for each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from tailwise.data.cleaning import MAX_LABEL_CHARACTERS, MAX_TEXT_BYTES, NUL_REMEDY, holds_nul, others
from tailwise.data.list_cells import Flat, flat, relisted
from tailwise.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from tailwise.data.rows import Rows

__all__ = ["check_aligned", "check_tokens", "refuse_elements", "refuse_rows", "sums", "with_names"]

_SINGULAR = {"tags": "tag", "heads": "head", "relations": "dependency relation", "upos": "part of speech"}
_SINGULAR |= {"labels": "label", "tokens": "token"}
_SHOWN = 80


def refuse_rows(rows: Rows, bad: NDArray[np.bool_], what: Callable[[int], str]) -> None:
    """Raise `DataError` where rows are bad; `what` tells it of the first of them."""
    if bad.any():
        first = int(np.argmax(bad))
        raise DataError(f"{rows.where(first)}: {what(first)}{others(bad)}")


def refuse_elements(rows: Rows, part: Flat, bad: NDArray[np.bool_], what: Callable[[int], str]) -> None:
    """Raise `DataError` where elements of lists are bad; `what` tells it of the first, by its place in `part`."""
    if not bad.any():
        return
    first = int(np.argmax(bad))
    row = int(np.searchsorted(np.cumsum(part.lengths), first, side="right"))
    raise DataError(f"{rows.where_element(row, first - int(part.starts[row]))}: {what(first)}{others(bad)}")


def sums(values: NDArray[np.int64], part: Flat) -> NDArray[np.int64]:
    """The sum of the elements of every row, ``(N,)``."""
    total = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(values)])
    return np.asarray(total[part.starts + part.lengths] - total[part.starts])


def check_tokens(rows: Rows) -> Flat:
    """The tokens of all rows.

    Raises:
        DataError: no tokens, an empty one, a NUL character, or more characters than a text may have.
    """
    part = flat(rows, "tokens")
    refuse_rows(rows, part.lengths == 0, lambda _: "there are no tokens. Fill them in or remove the row.")
    sizes = np.asarray(pc.binary_length(part.values), dtype=np.int64)
    bytes_of = sums(sizes, part) + part.lengths
    refuse_rows(
        rows,
        bytes_of > MAX_TEXT_BYTES,
        lambda row: (
            f"the sentence has {int(bytes_of[row]):,} bytes; the limit is {MAX_TEXT_BYTES:,}. Split it into sentences "
            "or remove the row."
        ),
    )
    blank = np.asarray(pc.equal(pc.utf8_trim_whitespace(part.values), ""))
    refuse_elements(rows, part, blank, lambda _: "the token is empty or white space. Remove it with its tag or head.")
    nul = np.asarray(holds_nul(part.values))
    refuse_elements(rows, part, nul, lambda _: f"the token {NUL_REMEDY}")
    return part


def check_aligned(rows: Rows, role: str, tokens: Flat) -> Flat:
    """The elements of a column that has one for each token.

    Raises:
        DataError: a row has more or fewer of them than tokens.
    """
    part = flat(rows, role)
    name = _SINGULAR[role]
    refuse_rows(
        rows,
        part.lengths != tokens.lengths,
        lambda row: (
            f"{int(tokens.lengths[row]):,} tokens and {int(part.lengths[row]):,} {role}. Expected one {name} per "
            "token: correct or remove the row."
        ),
    )
    return part


def with_names(rows: Rows, role: str) -> Rows:
    """The rows with the class names of a list column checked and without white space at their ends.

    Raises:
        DataError: a name that is empty, too long or holds a NUL character.
    """
    part = flat(rows, role)
    name = _SINGULAR[role]
    trimmed = pc.utf8_trim_whitespace(part.values)
    refuse_elements(
        rows, part, np.asarray(pc.equal(trimmed, "")), lambda _: f"the {name} is empty. Fill it in or remove the row."
    )
    refuse_elements(rows, part, np.asarray(holds_nul(trimmed)), lambda _: f"the {name} {NUL_REMEDY}")
    refuse_elements(
        rows,
        part,
        np.asarray(pc.greater(pc.utf8_length(trimmed), MAX_LABEL_CHARACTERS)),
        lambda at: (
            f"the {name} {trimmed[at].as_py()[:_SHOWN]!r} is longer than the limit of {MAX_LABEL_CHARACTERS:,} "
            "characters. It is a class name: shorten it."
        ),
    )
    return rows.with_column(role, relisted(trimmed, part.lengths))
