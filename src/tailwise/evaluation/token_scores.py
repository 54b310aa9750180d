"""What scores of tokens have in common: sentences as units, ragged rows on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from tailwise.errors import DataError
from tailwise.evaluation.base import check_finite, check_ids

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tailwise.data.labels import LabelSpace

__all__ = [
    "check_tokens",
    "differing_sentences",
    "lists",
    "offsets_of",
    "score_lists",
    "sentence_of_token",
    "taken_offsets",
    "values_of",
]


def check_tokens(
    ids: tuple[str, ...], offsets: NDArray[np.int64], gold: NDArray[np.int64], logits: NDArray[Any], space: LabelSpace
) -> None:
    """Refuse scores of tokens that do not fit together.

    Raises:
        DataError: shapes that do not fit, no sentences, repeated ids, gold out of range or scores that are not finite.
    """
    tokens = int(offsets[-1]) if offsets.ndim == 1 and offsets.size else 0
    fits = offsets.shape == (len(ids) + 1,) and offsets[0] == 0 and bool((np.diff(offsets) >= 0).all())
    if not (ids and fits and gold.shape == (tokens,) and logits.shape == (tokens, len(space))):
        raise DataError(
            f"Expected N >= 1 ids, offsets of shape (N + 1,) that rise from 0 to M, gold of shape (M,) and logits of "
            f"shape (M, {len(space)}), but got {len(ids)} ids, offsets {offsets.shape} up to {tokens}, gold "
            f"{gold.shape} and logits {logits.shape}."
        )
    if tokens and (gold.min() < 0 or gold.max() >= len(space.all_names)):
        raise DataError(
            f"Expected gold indices in 0..{len(space.all_names) - 1}, but they span {gold.min()}..{gold.max()}."
        )
    check_finite(logits, ids, sentence_of_token(offsets))
    check_ids(ids)


def sentence_of_token(offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """The sentence of every token, ``(M,)``."""
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def taken_offsets(offsets: NDArray[np.int64], order: Sequence[int]) -> NDArray[np.int64]:
    """The offsets of the sentences of `order`, put one after the other, ``(len(order) + 1,)``."""
    lengths = np.diff(offsets)[np.asarray(order, dtype=np.int64)]
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])


def differing_sentences(
    offsets: NDArray[np.int64], others: NDArray[np.int64], *pairs: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> NDArray[np.bool_]:
    """Sentences whose tokens differ in number or, where none do, in one of the `pairs` of token arrays, ``(N,)``."""
    lengths: NDArray[np.bool_] = np.diff(offsets) != np.diff(others)
    if lengths.any():
        return lengths
    sentence = sentence_of_token(offsets)
    differing = np.zeros(len(lengths), dtype=bool)
    for mine, theirs in pairs:
        differing[sentence[mine != theirs]] = True
    return differing


def lists(offsets: NDArray[np.int64], values: Sequence[Any] | NDArray[Any], kind: pa.DataType) -> pa.ListArray:
    """One list per sentence of the values of its tokens."""
    return pa.ListArray.from_arrays(pa.array(offsets, type=pa.int32()), pa.array(values, type=kind))


def score_lists(offsets: NDArray[np.int64], logits: NDArray[np.float32]) -> pa.ListArray:
    """One list per sentence of the scores of its tokens."""
    rows = pa.FixedSizeListArray.from_arrays(pa.array(logits.ravel(), type=pa.float32()), logits.shape[1])
    return pa.ListArray.from_arrays(pa.array(offsets, type=pa.int32()), rows)


def offsets_of(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Where the lists of a column start, and the number of all their values, ``(N + 1,)``."""
    lengths = column.combine_chunks().value_lengths().to_numpy(zero_copy_only=False)
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths, dtype=np.int64)])


def values_of(column: pa.ChunkedArray) -> pa.Array:
    """The values of the lists of a column in a row."""
    return column.combine_chunks().flatten()
