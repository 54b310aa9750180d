"""Scores of sentences whose tokens have a tag each.

The decision is the tag with the largest score, token by token. Where the tags mark spans (``B-PER``, ``I-PER``, ``O``),
figures are about spans: a right one has the boundaries and the type of a gold span, precision, recall and F1 are by
type of span, and the counts of training are those of the tags that begin a span. The ``lenient`` figures take a span
of the right type that overlaps a gold one for a right one (`tailwise.evaluation.spans`). Where the tags mark no spans
(parts of speech), every token is an item of its own and figures are about tags.

    micro_f1         F1 over all spans; gold spans of types unseen in training are missed ones
    macro_f1         mean of F1 over the types of training
    token_accuracy   share of tokens with the right tag: mostly ``O``, so never a headline
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pyarrow as pa
from scipy import sparse

from tailwise.data.labels import LabelSpace
from tailwise.evaluation.base import ScoredSplit, rows_of_units
from tailwise.evaluation.metrics import macro_f1
from tailwise.evaluation.spans import has_spans, lenient_span_counts, span_counts, span_space
from tailwise.evaluation.token_scores import (
    check_tokens,
    differing_sentences,
    lists,
    offsets_of,
    score_lists,
    sentence_of_token,
    taken_offsets,
    values_of,
)
from tailwise.evaluation.unit_counts import UnitCounts
from tailwise.evaluation.unit_metrics import item_f1

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from tailwise.data.task import LabelStructure
    from tailwise.evaluation.metrics import Counts

__all__ = ["TagEvaluation", "span_label_space"]


def span_label_space(tag_space: LabelSpace) -> LabelSpace:
    """The classes that figures about tags are reported on.

    Returns:
        Types of spans with the training counts of the tags that begin one (of all their tags, for a type that has only
        ``I`` tags); `tag_space` itself where its tags mark no spans.
    """
    if not has_spans(tag_space.all_names):
        return tag_space
    space = span_space(tag_space.all_names, num_tags=len(tag_space))
    begun, tokens = np.zeros((2, space.num_types), dtype=np.int64)
    for name, count in zip(tag_space.names, tag_space.counts, strict=True):
        kinds = span_space((name,)).names
        if kinds:
            j = space.names.index(kinds[0])
            tokens[j] += count
            begun[j] += count if name[0] in "BS" else 0
    return LabelSpace(space.names[: space.num_types], np.where(begun > 0, begun, tokens), unseen=space.unseen)


@dataclass(frozen=True, eq=False)
class TagEvaluation(ScoredSplit):
    """Scores of one model on one split, one tag per token. The unit is the sentence.

    Attributes:
        ids: sentence ids, unique, N of them.
        offsets: where the tokens of every sentence start, and M, ``(N + 1,)``.
        gold: tag indices, ``(M,)``; from C on they are tags that training never saw, all of them errors.
        logits: scores after every post-hoc step, ``(M, C)``, float32; the largest is the decision.
        tag_space: tags and their training counts.
        label_space: what is reported on: types of spans, or the tags themselves (`span_label_space`).

    Raises:
        DataError: shapes that do not fit, no sentences, repeated ids, gold out of range or scores that are not finite.
    """

    structure: ClassVar[LabelStructure] = "tags"

    ids: tuple[str, ...]
    offsets: NDArray[np.int64]
    gold: NDArray[np.int64]
    logits: NDArray[np.float32]
    tag_space: LabelSpace
    label_space: LabelSpace = field(init=False)

    def __post_init__(self) -> None:
        ids = tuple(self.ids)
        offsets, gold = np.array(self.offsets, dtype=np.int64), np.array(self.gold, dtype=np.int64)
        logits = np.array(self.logits, dtype=np.float32, order="C")
        check_tokens(ids, offsets, gold, logits, self.tag_space)
        for name, value in (("offsets", offsets), ("gold", gold), ("logits", logits)):
            value.setflags(write=False)
            object.__setattr__(self, name, value)
        object.__setattr__(self, "ids", ids)
        object.__setattr__(self, "label_space", span_label_space(self.tag_space))

    @property
    def score_space(self) -> LabelSpace:
        """The tags."""
        return self.tag_space

    @property
    def by_span(self) -> bool:
        """Whether figures are about spans, not tokens."""
        return self.label_space is not self.tag_space

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """The tag of every token with the largest score (the first of equal ones), ``(M,)``."""
        return np.asarray(self.logits.argmax(axis=1), dtype=np.int64)

    @cached_property
    def unit_counts(self) -> UnitCounts:
        """What every sentence adds to the counts of every type of span, or of every tag."""
        if self.by_span:
            names = self.tag_space.all_names
            return span_counts(self.gold, self.predicted, self.offsets, names, num_tags=len(self.tag_space))
        return UnitCounts.of_rows(
            self.gold,
            self.predicted,
            self.gold == self.predicted,
            sentence_of_token(self.offsets),
            num_units=len(self),
            num_classes=len(self.tag_space),
            num_gold=len(self.tag_space.all_names),
        )

    def unit_part(self, name: str) -> sparse.csr_matrix:
        """``tokens``: right tags and tokens per sentence, ``(N, 2)``."""
        if name != "tokens":
            raise KeyError(name)
        right = np.bincount(sentence_of_token(self.offsets)[self.gold == self.predicted], minlength=len(self))
        return sparse.csr_matrix(np.stack([right, np.diff(self.offsets)], axis=1).astype(np.float64))

    def figures(self) -> Mapping[str, Callable[[], float]]:
        """F1 of spans that need not have the boundaries of the gold ones."""
        if not self.by_span:
            return {}
        return {
            "lenient_micro_f1": lambda: float(item_f1(self._lenient_counts)),
            "lenient_macro_f1": lambda: float(macro_f1(self._lenient_counts)),
        }

    @cached_property
    def _lenient_counts(self) -> Counts:
        names, size = self.tag_space.all_names, len(self.tag_space)
        return lenient_span_counts(self.gold, self.predicted, self.offsets, names, num_tags=size).total()

    def take(self, order: Sequence[int]) -> TagEvaluation:
        """The same scores with their sentences in another order."""
        rows, offsets = rows_of_units(self.offsets, order), taken_offsets(self.offsets, order)
        ids = tuple(self.ids[i] for i in order)
        return TagEvaluation(ids, offsets, self.gold[rows], self.logits[rows], self.tag_space)

    def gold_differs(self, other: TagEvaluation) -> NDArray[np.bool_]:
        """Which sentences have other gold tags than in `other`, ``(N,)``."""
        return differing_sentences(self.offsets, other.offsets, (self.gold, other.gold))

    @classmethod
    def table_columns(cls, num_scores: int) -> dict[str, pa.DataType]:
        """Columns ``id``, ``gold`` (names of the tags) and ``logits``."""
        scores = pa.list_(pa.list_(pa.float32(), num_scores))
        return {"id": pa.string(), "gold": pa.list_(pa.string()), "logits": scores}

    def to_table(self) -> pa.Table:
        """One row per sentence."""
        gold = lists(self.offsets, self.tag_space.decode(self.gold), pa.string())
        logits = score_lists(self.offsets, self.logits)
        return pa.table({"id": pa.array(self.ids, type=pa.string()), "gold": gold, "logits": logits})

    @classmethod
    def from_table(cls, table: pa.Table, score_space: LabelSpace) -> TagEvaluation:
        """The inverse of `to_table`."""
        gold = score_space.encode(values_of(table.column("gold")).to_pylist())
        logits = values_of(table.column("logits")).flatten().to_numpy(zero_copy_only=False)
        ids, offsets = tuple(table.column("id").to_pylist()), offsets_of(table.column("gold"))
        return cls(ids, offsets, gold, logits.reshape(-1, len(score_space)), score_space)
