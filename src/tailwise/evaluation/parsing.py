"""Scores of sentences whose tokens have a head and a relation each: dependency parsing.

    UAS        share of tokens with the right head
    LAS        share of tokens with the right head and the right universal relation (``nsubj`` of ``nsubj:pass``)
    las_full   the same with the whole relation
    CLAS       F1 of heads and universal relations over the tokens with a content relation, gold or predicted

as in the shared task of CoNLL 2018 (Zeman et al., 2018), with gold tokens and punctuation counted. Function relations,
which CLAS leaves out with punctuation, are aux, case, cc, clf, cop, det and mark.

Figures by class are about whole relations: of the tokens with gold relation r, how many have head and relation right
(recall); of those predicted as r, the same (precision). The mean of their F1 is ``macro_f1``.

Relations that training never saw have no score: a token that has one can be right in its head and, where a relation
of the same universal part is known, in LAS.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np
import pyarrow as pa
from scipy import sparse

from tailwise.errors import DataError
from tailwise.evaluation.base import ScoredSplit, rows_of_units
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

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tailwise.data.labels import LabelSpace
    from tailwise.data.task import LabelStructure

__all__ = ["ArcEvaluation", "ArcScores"]

FUNCTION_RELATIONS = frozenset({"aux", "case", "cc", "clf", "cop", "det", "mark", "punct"})


class ArcScores(Protocol):
    """What a parser says of a split: a head per token, and scores of the relation to it."""

    @property
    def heads(self) -> NDArray[np.int64]:
        """The head of every token, 1-based within its sentence, 0 for the root, ``(M,)``."""

    @property
    def logits(self) -> NDArray[np.float32]:
        """Scores of the relations to these heads, ``(M, R)``."""


@dataclass(frozen=True, eq=False)
class ArcEvaluation(ScoredSplit):
    """Scores of one parser on one split. The unit is the sentence.

    Attributes:
        ids: sentence ids, unique, N of them.
        offsets: where the tokens of every sentence start, and M, ``(N + 1,)``.
        gold_heads: the head of every token, 1-based within its sentence, 0 for the root, ``(M,)``.
        gold_relations: relation indices, ``(M,)``; from R on they are relations that training never saw.
        heads: predicted heads, ``(M,)``.
        logits: scores of the relations to the predicted heads, ``(M, R)``, float32; the largest is the decision.
        label_space: relations and training counts.

    Raises:
        DataError: shapes that do not fit, no sentences, repeated ids, heads or relations out of range, or scores that
            are not finite.
    """

    structure: ClassVar[LabelStructure] = "arcs"

    ids: tuple[str, ...]
    offsets: NDArray[np.int64]
    gold_heads: NDArray[np.int64]
    gold_relations: NDArray[np.int64]
    heads: NDArray[np.int64]
    logits: NDArray[np.float32]
    label_space: LabelSpace

    def __post_init__(self) -> None:
        ids, logits = tuple(self.ids), np.array(self.logits, dtype=np.float32, order="C")
        names = ("offsets", "gold_heads", "gold_relations", "heads")
        arrays = {name: np.array(getattr(self, name), dtype=np.int64) for name in names}
        check_tokens(ids, arrays["offsets"], arrays["gold_relations"], logits, self.label_space)
        for name in ("gold_heads", "heads"):
            _check_heads(name, arrays[name], arrays["offsets"], ids)
        logits.setflags(write=False)
        for name, value in arrays.items():
            value.setflags(write=False)
            object.__setattr__(self, name, value)
        object.__setattr__(self, "ids", ids)
        object.__setattr__(self, "logits", logits)

    @cached_property
    def relations(self) -> NDArray[np.int64]:
        """The relation of every token with the largest score (the first of equal ones), ``(M,)``."""
        return np.asarray(self.logits.argmax(axis=1), dtype=np.int64)

    @property
    def _right_head(self) -> NDArray[np.bool_]:
        return np.asarray(self.heads == self.gold_heads)

    @cached_property
    def unit_counts(self) -> UnitCounts:
        """What every sentence adds to the counts of every relation; right is a token with head and relation right."""
        return UnitCounts.of_rows(
            self.gold_relations,
            self.relations,
            self._right_head & (self.relations == self.gold_relations),
            sentence_of_token(self.offsets),
            num_units=len(self),
            num_classes=len(self.label_space),
            num_gold=len(self.label_space.all_names),
        )

    def unit_part(self, name: str) -> sparse.csr_matrix:
        """What every sentence adds to further sums.

        ``arcs``: tokens right in UAS, in LAS and in whole relations, and tokens, ``(N, 4)``. ``content``: tokens with a
        content relation that are right in LAS, those of gold and those predicted, ``(N, 3)``.
        """
        universal, content = _universal(self.label_space.all_names)
        head = self._right_head
        labelled = head & (universal[self.relations] == universal[self.gold_relations])
        if name == "arcs":
            full = head & (self.relations == self.gold_relations)
            columns = [head, labelled, full, np.ones(len(head), dtype=bool)]
        elif name == "content":
            of_gold = content[self.gold_relations]
            columns = [labelled & of_gold, of_gold, content[self.relations]]
        else:
            raise KeyError(name)
        sentence = sentence_of_token(self.offsets)
        sums = [np.bincount(sentence[column], minlength=len(self)) for column in columns]
        return sparse.csr_matrix(np.stack(sums, axis=1).astype(np.float64))

    def take(self, order: Sequence[int]) -> ArcEvaluation:
        """The same scores with their sentences in another order."""
        rows, offsets = rows_of_units(self.offsets, order), taken_offsets(self.offsets, order)
        return ArcEvaluation(
            tuple(self.ids[i] for i in order),
            offsets,
            self.gold_heads[rows],
            self.gold_relations[rows],
            self.heads[rows],
            self.logits[rows],
            self.label_space,
        )

    def gold_differs(self, other: ArcEvaluation) -> NDArray[np.bool_]:
        """Which sentences have another gold tree than in `other`, ``(N,)``."""
        pairs = (self.gold_heads, other.gold_heads), (self.gold_relations, other.gold_relations)
        return differing_sentences(self.offsets, other.offsets, *pairs)

    @classmethod
    def table_columns(cls, num_scores: int) -> dict[str, pa.DataType]:
        """Columns ``id``, ``gold_heads``, ``gold_relations`` (names), ``heads`` and ``logits``."""
        heads = pa.list_(pa.int32())
        scores = pa.list_(pa.list_(pa.float32(), num_scores))
        names = pa.list_(pa.string())
        return {"id": pa.string(), "gold_heads": heads, "gold_relations": names, "heads": heads, "logits": scores}

    def to_table(self) -> pa.Table:
        """One row per sentence."""
        return pa.table(
            {
                "id": pa.array(self.ids, type=pa.string()),
                "gold_heads": lists(self.offsets, self.gold_heads, pa.int32()),
                "gold_relations": lists(self.offsets, self.label_space.decode(self.gold_relations), pa.string()),
                "heads": lists(self.offsets, self.heads, pa.int32()),
                "logits": score_lists(self.offsets, self.logits),
            }
        )

    @classmethod
    def from_table(cls, table: pa.Table, score_space: LabelSpace) -> ArcEvaluation:
        """The inverse of `to_table`."""
        relations = score_space.encode(values_of(table.column("gold_relations")).to_pylist())
        logits = values_of(table.column("logits")).flatten().to_numpy(zero_copy_only=False)
        gold_heads, heads = (
            values_of(table.column(name)).to_numpy(zero_copy_only=False) for name in ("gold_heads", "heads")
        )
        ids, offsets = tuple(table.column("id").to_pylist()), offsets_of(table.column("gold_heads"))
        return cls(ids, offsets, gold_heads, relations, heads, logits.reshape(-1, len(score_space)), score_space)


def _universal(names: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """By relation, ``(G,)`` each: an index of its universal part, and whether that is a content relation."""
    parts = [name.split(":", 1)[0] for name in names]
    index = {part: i for i, part in enumerate(dict.fromkeys(parts))}
    universal = np.array([index[part] for part in parts], dtype=np.int64)
    return universal, np.array([part not in FUNCTION_RELATIONS for part in parts], dtype=bool)


def _check_heads(name: str, heads: NDArray[np.int64], offsets: NDArray[np.int64], ids: tuple[str, ...]) -> None:
    if heads.shape != (int(offsets[-1]),):
        raise DataError(
            f"Expected `{name}` to be one head per token, ({int(offsets[-1])},), but got shape {heads.shape}."
        )
    lengths = np.repeat(np.diff(offsets), np.diff(offsets))
    wrong = np.flatnonzero((heads < 0) | (heads > lengths))
    if wrong.size:
        token = int(wrong[0])
        sentence = int(sentence_of_token(offsets)[token])
        raise DataError(
            f"Expected `{name}` to be positions in the sentence from 1, or 0 for the root, but token "
            f"{token - int(offsets[sentence]) + 1} of {ids[sentence]!r} ({lengths[token]} tokens) has {heads[token]}."
        )
