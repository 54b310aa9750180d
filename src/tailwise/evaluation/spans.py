"""Spans of token tags, and what they add to the counts of every type.

A tag is ``O`` or a prefix and a type: ``B-`` begins a span, ``I-`` goes on, ``E-`` ends one, ``S-`` is one by itself. A
span is a run of tags of one type, cut where a new one starts. Token i starts a span where

    its prefix is B or S,  or  token i - 1 is O, E, S or of another sentence,  or  token i - 1 has another type,

so that an I without its B starts a span as well, in the tradition of the CoNLL-2000 shared task (Tjong Kim Sang and
Buchholz, 2000). Values equal those of seqeval's default mode. With ``strict=True`` a span must start with B (IOB2): a
malformed one is no span, as in seqeval's ``mode="strict", scheme=IOB2``.

Two readings of a hit: same boundaries and type (`span_counts`), or same type and at least one token in common
(`lenient_span_counts`; "type" in SemEval-2013 task 9.1, Segura-Bedmar et al., 2013).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from tailwise.errors import DataError, SettingError
from tailwise.evaluation.unit_counts import UnitCounts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = [
    "OUTSIDE",
    "SpanSpace",
    "has_spans",
    "lenient_span_counts",
    "span_counts",
    "span_space",
    "span_types",
    "spans",
]

OUTSIDE = "O"
_BEGIN, _INSIDE, _END, _SINGLE, _NONE = range(5)
_PREFIXES = {"B": _BEGIN, "I": _INSIDE, "E": _END, "S": _SINGLE}
_SPAN = np.dtype([("sentence", np.int64), ("start", np.int64), ("end", np.int64), ("type", np.int64)])


class SpanSpace(NamedTuple):
    """The types of spans by index.

    Attributes:
        names: the types of the tags of training, sorted, then those only other tags name, sorted.
        num_types: C, the types of training.
    """

    names: tuple[str, ...]
    num_types: int

    @property
    def unseen(self) -> tuple[str, ...]:
        """The types that no tag of training has."""
        return self.names[self.num_types :]


class _Chunks(NamedTuple):
    """Spans in rows of the whole split, by start; all ``(S,)``."""

    start: NDArray[np.int64]
    end: NDArray[np.int64]
    type: NDArray[np.int64]


def has_spans(tag_names: Sequence[str]) -> bool:
    """Whether the tags mark spans: every name is ``O`` or has a prefix, and one has. Parts of speech do not."""
    return any(name != OUTSIDE for name in tag_names) and all(_parts(name) is not None for name in tag_names)


def tag_parts(name: str) -> tuple[str, str]:
    """Prefix and type of a tag; a tag without a prefix, such as a part of speech, is a type as it stands."""
    return _parts(name) or ("", name)


def span_types(tag_names: Sequence[str]) -> tuple[str, ...]:
    """The types of the tags, sorted.

    Raises:
        DataError: a tag that is neither ``O`` nor a prefix with a type.
    """
    return span_space(tag_names).names


def span_space(tag_names: Sequence[str], *, num_tags: int | None = None) -> SpanSpace:
    """The types by index, those of training first.

    Args:
        tag_names: tag names by index, ``(T,)``.
        num_tags: how many of the names, from the first on, training has; None for all.

    Raises:
        DataError: a tag that is neither ``O`` nor a prefix with a type.
        SettingError: `num_tags` out of range.
    """
    num_tags = len(tag_names) if num_tags is None else num_tags
    if not 0 <= num_tags <= len(tag_names):
        raise SettingError(
            f"Expected `num_tags`, the tags of training, to be in 0..{len(tag_names)} for {len(tag_names)} tag names, "
            f"but got {num_tags}."
        )
    types = [_checked_parts(name)[1] for name in tag_names if name != OUTSIDE]
    seen = sorted({_checked_parts(name)[1] for name in tag_names[:num_tags] if name != OUTSIDE})
    return SpanSpace((*seen, *sorted(set(types).difference(seen))), len(seen))


def spans(
    tags: NDArray[np.int64],
    offsets: NDArray[np.int64],
    tag_names: Sequence[str],
    *,
    num_tags: int | None = None,
    strict: bool = False,
) -> NDArray[np.void]:
    """The spans of every sentence, in reading order.

    Args:
        tags: tag indices of all sentences in a row, ``(M,)``.
        offsets: where every sentence starts, and M, ``(N + 1,)``.
        tag_names: tag names by index, ``(T,)``.
        num_tags: how many of the names training has; orders the types, see `span_space`.
        strict: whether a span must start with B.

    Returns:
        A structured array ``(S,)`` with the fields ``sentence``, ``start`` and ``end`` (in tokens of the sentence, the
        end exclusive) and ``type`` (index into ``span_space(tag_names, num_tags=num_tags).names``).

    Raises:
        DataError: indices or offsets that do not fit, or a tag that is neither ``O`` nor a prefix with a type.
        SettingError: `strict` with tags other than B, I and O.
    """
    offsets = _checked_offsets(offsets, tags)
    space = span_space(tag_names, num_tags=num_tags)
    chunks = _chunks(_checked_tags(tags, len(tag_names), "tags"), offsets, tag_names, space, strict=strict)
    sentence = _sentences(chunks, offsets)
    found = np.empty(len(sentence), dtype=_SPAN)
    found["sentence"], found["type"] = sentence, chunks.type
    found["start"], found["end"] = chunks.start - offsets[sentence], chunks.end - offsets[sentence]
    return found


def span_counts(
    gold: NDArray[np.int64],
    predicted: NDArray[np.int64],
    offsets: NDArray[np.int64],
    tag_names: Sequence[str],
    *,
    num_tags: int | None = None,
    strict: bool = False,
) -> UnitCounts:
    """Spans per sentence and type, a hit having the boundaries and the type of a gold span.

    Args:
        gold: tag indices, ``(M,)``; those from `num_tags` on are tags that training never saw.
        predicted: tag indices below `num_tags`, ``(M,)``.
        offsets: where every sentence starts, and M, ``(N + 1,)``.
        tag_names: tag names by index, unseen ones last, ``(T,)``.
        num_tags: how many of the names training has; None for all.
        strict: whether a span must start with B, on both sides.

    Returns:
        Counts whose columns follow ``span_space(tag_names, num_tags=num_tags)``; `support` has the unseen types, too.

    Raises:
        DataError: indices, lengths or offsets that do not fit, or a tag that is neither ``O`` nor a prefix with a type.
        SettingError: `num_tags` out of range, or `strict` with tags other than B, I and O.
    """
    truth, guess, offsets, space = _both(gold, predicted, offsets, tag_names, num_tags, strict=strict)
    end_of, type_of = np.zeros((2, int(offsets[-1])), dtype=np.int64)
    end_of[truth.start], type_of[truth.start] = truth.end, truth.type
    hit = (end_of[guess.start] == guess.end) & (type_of[guess.start] == guess.type)
    return _unit_counts(truth, guess, np.flatnonzero(hit), offsets, space)


def lenient_span_counts(
    gold: NDArray[np.int64],
    predicted: NDArray[np.int64],
    offsets: NDArray[np.int64],
    tag_names: Sequence[str],
    *,
    num_tags: int | None = None,
) -> UnitCounts:
    """Spans per sentence and type, a hit having the type of a gold span and at least one token in common with it.

    Pairs of overlapping gold and predicted spans of one type are taken from left to right, and every span takes part in
    one pair at the most: three predictions within one gold span are one hit and two false positives. As the spans of
    one side never overlap each other, no other pairing has more hits. This is the "type" reading of SemEval-2013 task
    9.1 with one partner per span.

    Args, Returns and Raises are those of `span_counts`.
    """
    truth, guess, offsets, space = _both(gold, predicted, offsets, tag_names, num_tags, strict=False)
    return _unit_counts(truth, guess, _paired(truth, guess), offsets, space)


def _paired(truth: _Chunks, guess: _Chunks) -> NDArray[np.int64]:
    """Indices of the predicted spans that get a gold span of their own.

    Both sides of the overlapping pairs, sorted by gold span, are non-decreasing. In each round the pairs that come
    first for both of their spans are taken and those that share a span with them go, which ends in the very pairs that
    one walk from left to right takes.
    """
    first = np.searchsorted(guess.end, truth.start, side="right")
    partners = np.searchsorted(guess.start, truth.end, side="left") - first
    g = np.repeat(np.arange(len(truth.start)), partners)
    p = np.arange(len(g)) - np.repeat(np.cumsum(partners) - partners - first, partners)
    same = truth.type[g] == guess.type[p]
    g, p = g[same], p[same]
    used, taken = np.zeros(len(truth.start), dtype=bool), np.zeros(len(guess.start), dtype=bool)
    while len(g):
        lead = np.append(True, (g[1:] != g[:-1]) & (p[1:] != p[:-1]))
        used[g[lead]] = taken[p[lead]] = True
        left = ~(used[g] | taken[p])
        g, p = g[left], p[left]
    return np.flatnonzero(taken)


def _chunks(
    tags: NDArray[np.int64], offsets: NDArray[np.int64], tag_names: Sequence[str], space: SpanSpace, *, strict: bool
) -> _Chunks:
    prefix_of, type_of = _tables(tag_names, space)
    if strict and np.isin(prefix_of, (_END, _SINGLE)).any():
        name = next(n for n in tag_names if n[0] in "ES")
        raise SettingError(f"The strict reading is that of IOB2, but there is the tag {name!r}; take strict=False.")
    inside = np.flatnonzero(prefix_of[tags] != _NONE)
    prefix, kind = prefix_of[tags[inside]], type_of[tags[inside]]
    first_of_sentence = np.zeros(len(tags) + 1, dtype=bool)
    first_of_sentence[offsets] = True
    joined = np.zeros(len(inside), dtype=bool)
    joined[1:] = (
        (np.diff(inside) == 1)
        & (kind[1:] == kind[:-1])
        & ((prefix[:-1] == _BEGIN) | (prefix[:-1] == _INSIDE))
        & ((prefix[1:] == _INSIDE) | (prefix[1:] == _END))
        & ~first_of_sentence[inside[1:]]
    )
    starts = np.flatnonzero(~joined)
    ends = np.append(starts[1:], len(inside))[: len(starts)] - 1
    if strict:
        well_formed = prefix[starts] == _BEGIN
        starts, ends = starts[well_formed], ends[well_formed]
    return _Chunks(inside[starts], inside[ends] + 1, kind[starts])


def _tables(tag_names: Sequence[str], space: SpanSpace) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Prefix and type index of every tag, ``(T,)`` each."""
    index = {name: i for i, name in enumerate(space.names)}
    prefix, kind = np.full(len(tag_names), _NONE), np.full(len(tag_names), -1)
    for tag, name in enumerate(tag_names):
        if name != OUTSIDE:
            letter, type_name = _checked_parts(name)
            prefix[tag], kind[tag] = _PREFIXES[letter], index[type_name]
    return prefix, kind


def _parts(name: str) -> tuple[str, str] | None:
    """Prefix and type of a tag, None where it has no prefix; ``_`` is the type of a prefix alone."""
    if name == OUTSIDE:
        return OUTSIDE, ""
    if name[:1] in _PREFIXES and name[1:2] in {"", "-"}:
        return name[0], name[2:] or "_"
    return None


def _checked_parts(name: str) -> tuple[str, str]:
    parts = _parts(name)
    if parts is None:
        raise DataError(
            f"Expected every tag to be 'O' or to start with 'B-', 'I-', 'E-' or 'S-', but there is {name!r}. Tags that "
            "mark no spans are scored token by token."
        )
    return parts


def _both(
    gold: NDArray[np.int64],
    predicted: NDArray[np.int64],
    offsets: NDArray[np.int64],
    tag_names: Sequence[str],
    num_tags: int | None,
    *,
    strict: bool,
) -> tuple[_Chunks, _Chunks, NDArray[np.int64], SpanSpace]:
    space = span_space(tag_names, num_tags=num_tags)
    offsets = _checked_offsets(offsets, gold)
    gold = _checked_tags(gold, len(tag_names), "gold")
    predicted = _checked_tags(predicted, len(tag_names) if num_tags is None else num_tags, "predicted")
    if gold.shape != predicted.shape:
        raise DataError(
            f"Expected one gold and one predicted tag per token, but got {len(gold)} and {len(predicted)} of them."
        )
    truth = _chunks(gold, offsets, tag_names, space, strict=strict)
    return truth, _chunks(predicted, offsets, tag_names, space, strict=strict), offsets, space


def _checked_tags(tags: NDArray[np.int64], num_tags: int, name: str) -> NDArray[np.int64]:
    tags = np.asarray(tags, dtype=np.int64)
    if tags.ndim != 1:
        raise DataError(f"Expected `{name}` to be one tag index per token, (M,), but got shape {tags.shape}.")
    if tags.size and (tags.min() < 0 or tags.max() >= num_tags):
        raise DataError(f"Expected `{name}` to be in 0..{num_tags - 1}, but it spans {tags.min()}..{tags.max()}.")
    return tags


def _checked_offsets(offsets: NDArray[np.int64], tags: NDArray[np.int64]) -> NDArray[np.int64]:
    offsets = np.asarray(offsets, dtype=np.int64)
    if (
        offsets.ndim != 1
        or not offsets.size
        or offsets[0] != 0
        or offsets[-1] != len(tags)
        or (np.diff(offsets) < 0).any()
    ):
        raise DataError(
            f"Expected `offsets` (N + 1,) to rise from 0 to {len(tags)}, the number of tokens, but got shape "
            f"{offsets.shape} from {offsets[:1].tolist()} to {offsets[-1:].tolist()}."
        )
    return offsets


def _sentences(chunks: _Chunks, offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """The sentence of every span, ``(S,)``."""
    return np.repeat(np.arange(len(offsets) - 1), np.diff(np.searchsorted(chunks.start, offsets)))


def _unit_counts(
    truth: _Chunks, guess: _Chunks, hits: NDArray[np.int64], offsets: NDArray[np.int64], space: SpanSpace
) -> UnitCounts:
    at, guess_at = _sentences(truth, offsets), _sentences(guess, offsets)

    def counted(sentence: NDArray[np.int64], kind: NDArray[np.int64], columns: int) -> csr_matrix:
        shape = (len(offsets) - 1, columns)
        return csr_matrix((np.ones(len(sentence)), (sentence, kind)), shape=shape)

    return UnitCounts(
        correct=counted(guess_at[hits], guess.type[hits], space.num_types),
        support=counted(at, truth.type, len(space.names)),
        predicted=counted(guess_at, guess.type, space.num_types),
    )
