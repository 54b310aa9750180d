"""A probe: a head on the states of a frozen encoder, on lexical features, or one on each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tailwise.errors import SettingError
from tailwise.models.feature_cache import FeatureCache
from tailwise.models.fitted import FittedModel
from tailwise.models.heads.affine import affine_scores, folded
from tailwise.models.heads.base import AffineForm, Head
from tailwise.models.row_features import row_features, split_row_features
from tailwise.models.word_features import sentence_offsets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from tailwise.data.corpus import Corpus, SplitName
    from tailwise.models.encoder import Encoder
    from tailwise.models.lexical import LexicalFeatures
    from tailwise.models.tag_chain import TagChain

__all__ = ["LexicalPart", "ProbeModel", "head_scores"]

#: Rows scored at a time; bounds the memory where features are memory-mapped.
_ROWS = 65536


def head_scores(head: AffineForm | Head, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores ``(N, C)`` of features ``(N, D)``."""
    parts = []
    with torch.inference_mode():
        for start in range(0, max(len(features), 1), _ROWS):
            rows = torch.from_numpy(np.array(features[start : start + _ROWS], dtype=np.float32))
            scores = affine_scores(head, rows) if isinstance(head, AffineForm) else head(rows)
            parts.append(scores.numpy())
    return np.concatenate(parts)


@dataclass(frozen=True, eq=False)
class LexicalPart:
    """An affine head on lexical features.

    Attributes:
        features: turn inputs into sparse rows.
        form: the head, weights ``(C, F)``; it takes the rows as they are.
    """

    features: LexicalFeatures
    form: AffineForm

    def __post_init__(self) -> None:
        if self.form.normalise or self.form.centre is not None:
            raise SettingError("Expected a head that takes lexical features as they are, but it transforms them.")

    def scores(self, rows: csr_matrix) -> NDArray[np.float32]:
        """Scores ``(M, C)`` of sparse rows ``(M, F)``."""
        return np.asarray(rows @ self._columns + self.form.bias.numpy(), dtype=np.float32)

    @cached_property
    def _columns(self) -> NDArray[np.float32]:
        return np.ascontiguousarray(self.form.weight.numpy().T)


class ProbeModel(FittedModel):
    """Heads on frozen features; where there are two, their scores are added.

    Args:
        encoder: the encoder; None for a head on lexical features alone.
        head: the head on its states as plain weights, or the head itself where it has no such form; None without.
        lexical: the head on lexical features, or None.
        chain: what a tag says about the next one, added to the scores of the heads; None for nothing.
        cache: where `raw_split_scores` looks for features; None takes the user's cache folder.
        facts: what every fitted model has, see `FittedModel`.

    Raises:
        SettingError: neither head, or a head on an encoder without one of the two.
    """

    def __init__(
        self,
        *,
        encoder: Encoder | None,
        head: AffineForm | Head | None,
        lexical: LexicalPart | None = None,
        chain: TagChain | None = None,
        cache: FeatureCache | None = None,
        **facts: Any,
    ) -> None:
        super().__init__(**facts)
        if (encoder is None) != (head is None) or (head is None and lexical is None):
            raise SettingError("Expected an encoder with a head, lexical features with a head, or both.")
        self.encoder = encoder
        self.head = head
        self.lexical = lexical
        self.chain = chain
        self.cache = cache

    def raw_scores(self, texts: Sequence[Any], text_pairs: Sequence[str] | None = None) -> NDArray[np.float32]:
        """Scores of the head before any post-hoc step, ``(M, C)``; see `FittedModel.raw_scores`."""
        parts = []
        if self.encoder is not None and self.head is not None:
            nowhere = FeatureCache(max_bytes=0)
            rows = row_features(self.encoder, self.task.input_form, texts, text_pairs, cache=nowhere)
            parts.append(head_scores(self.head, rows))
        if self.lexical is not None:
            parts.append(self.lexical.scores(self.lexical.features.transform(texts, text_pairs)))
        return self._chained(sum(parts[1:], start=parts[0]), lambda: sentence_offsets(texts))

    def raw_split_scores(self, corpus: Corpus, split: SplitName) -> NDArray[np.float32]:
        """`raw_scores` of a whole split, from cached features."""
        from tailwise.models.lexical.rows import split_lexical_rows

        parts = []
        if self.encoder is not None and self.head is not None:
            parts.append(head_scores(self.head, split_row_features(self.encoder, corpus, split, cache=self.cache)))
        if self.lexical is not None:
            parts.append(self.lexical.scores(split_lexical_rows(self.lexical.features, corpus, split)))
        return self._chained(sum(parts[1:], start=parts[0]), lambda: corpus.offsets(split))

    def _chained(self, scores: NDArray[np.float32], offsets: Callable[[], NDArray[np.int64]]) -> NDArray[np.float32]:
        return scores if self.chain is None else self.chain.scores(scores, offsets())

    def folded_head(self) -> AffineForm | None:
        """The head on the encoder with every post-hoc step inside; None where it is not affine, or not alone."""
        if self.lexical is not None or self.chain is not None or not isinstance(self.head, AffineForm):
            return None
        return folded(self.head, self.adjustment)
