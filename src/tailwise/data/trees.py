"""Dependency trees: every token has a head and a relation to it, and every sentence one root.

Heads are 1-based, 0 is the root. Cycles are found by pointer doubling: after k steps every token points to its
2^k-th ancestor or to the root, so that after log2 of the longest sentence only tokens on the way to a cycle do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tailwise.data.list_cells import Flat, flat
from tailwise.data.sentences import check_aligned, check_tokens, refuse_elements, refuse_rows, sums, with_names

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from tailwise.data.rows import Rows

__all__ = ["clean_trees", "in_cycles"]

_REMEDY = "Correct or remove the sentence."


def clean_trees(rows: Rows, say: Callable[[str], None]) -> tuple[Rows, int]:  # noqa: ARG001  # one form for all
    """Rows fit for use; none is left out.

    Raises:
        DataError: no or empty tokens, heads or relations of another number, a head out of range, no root, several
            roots, or a cycle.
    """
    tokens = check_tokens(rows)
    part = check_aligned(rows, "heads", tokens)
    check_aligned(rows, "relations", tokens)
    rows = with_names(rows, "relations")
    if "upos" in rows.table.schema.names:
        check_aligned(rows, "upos", tokens)
        rows = with_names(rows, "upos")
    _check_shape(rows, part)
    return rows, 0


def _check_shape(rows: Rows, part: Flat) -> None:
    heads, words = part.numpy(), flat(rows, "tokens").values

    def word(at: int) -> str:
        return f"the token {words[at].as_py()[:40]!r}"

    outside = (heads < 0) | (heads > np.repeat(part.lengths, part.lengths))
    refuse_elements(
        rows,
        part,
        outside,
        lambda at: (
            f"the head {int(heads[at])} of {word(at)} is out of range. Expected 1 to "
            f"{int(part.lengths[part.row[at]])}, the tokens of the sentence, or 0 for the root. {_REMEDY}"
        ),
    )
    roots = sums((heads == 0).astype(np.int64), part)
    refuse_rows(rows, roots == 0, lambda _: f"the sentence has no root: no head is 0. {_REMEDY}")
    refuse_rows(
        rows,
        roots > 1,
        lambda row: (
            f"the sentence has {int(roots[row])} roots: tokens {_root_list(part, row)} (from 1) have the head 0. "
            f"Expected one. {_REMEDY}"
        ),
    )
    cyclic = in_cycles(heads, part)
    refuse_elements(
        rows, part, cyclic, lambda at: f"the heads form a cycle: from {word(at)} they never reach the root. {_REMEDY}"
    )


def _root_list(part: Flat, row: int) -> str:
    heads = part.numpy()[part.starts[row] : part.starts[row] + part.lengths[row]]
    return ", ".join(str(place + 1) for place in np.flatnonzero(heads == 0)[:5])


def in_cycles(heads: NDArray[np.int64], part: Flat) -> NDArray[np.bool_]:
    """Tokens from which the heads never reach a root, ``(M,)``.

    Args:
        heads: 1-based within the sentence, in range, 0 for the root, ``(M,)``.
        part: the same, with the lengths of the sentences.
    """
    root = len(heads)
    starts = np.repeat(part.starts, part.lengths)
    ancestor = np.append(np.where(heads == 0, root, starts + heads - 1), root)
    for _ in range(int(part.lengths.max(initial=1)).bit_length()):
        ancestor = ancestor[ancestor]
    return np.asarray(ancestor[:-1] != root)
