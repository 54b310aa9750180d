"""Sentences with two marked entities and a relation between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailwise.data.cleaning import clean_label
from tailwise.data.list_cells import flat
from tailwise.data.sentences import check_tokens, refuse_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from tailwise.data.rows import Rows

__all__ = ["clean_relations"]

_SPAN = "Expected [start, end] in tokens, counted from 0, the end exclusive: one token at place 3 is [3, 4]."


def clean_relations(rows: Rows, say: Callable[[str], None]) -> tuple[Rows, int]:  # noqa: ARG001  # one form for all
    """Rows fit for use; none is left out.

    Raises:
        DataError: no or empty tokens, a span that is none or leaves the sentence, a missing label.
    """
    lengths = check_tokens(rows).lengths
    for role in ("head", "tail"):
        _check_spans(rows, role, lengths)
    return clean_label(rows), 0


def _check_spans(rows: Rows, role: str, lengths: NDArray[np.int64]) -> None:
    part = flat(rows, role)
    refuse_rows(
        rows, part.lengths != 2, lambda row: f"the span of the {role} has {int(part.lengths[row])} numbers. {_SPAN}"
    )
    spans = part.numpy().reshape(-1, 2)
    start, end = spans[:, 0], spans[:, 1]

    def told(row: int, what: str) -> str:
        size = int(lengths[row])
        return f"the {role} {spans[row].tolist()} {what}. {_SPAN} The sentence has {size:,} tokens: correct the row."

    refuse_rows(rows, end <= start, lambda row: told(row, "ends before or where it starts"))
    outside = (start < 0) | (end > lengths)
    refuse_rows(rows, outside, lambda row: told(row, "is out of the range of the sentence"))
