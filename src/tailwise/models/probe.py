"""A probe: a frozen encoder and a head on its features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tailwise.models.feature_cache import FeatureCache
from tailwise.models.fitted import FittedModel
from tailwise.models.heads.affine import affine_scores, folded
from tailwise.models.heads.base import AffineForm, Head
from tailwise.models.row_features import row_features, split_row_features

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tailwise.data.corpus import Corpus, SplitName
    from tailwise.models.encoder import Encoder

__all__ = ["ProbeModel", "head_scores"]

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


class ProbeModel(FittedModel):
    """A head on frozen features.

    Args:
        encoder: the encoder.
        head: the head as plain weights, or the head itself where it has no such form.
        cache: where `raw_split_scores` looks for features; None takes the user's cache folder.
        facts: what every fitted model has, see `FittedModel`.
    """

    def __init__(
        self, *, encoder: Encoder, head: AffineForm | Head, cache: FeatureCache | None = None, **facts: Any
    ) -> None:
        super().__init__(**facts)
        self.encoder = encoder
        self.head = head
        self.cache = cache

    def raw_scores(self, texts: Sequence[Any], text_pairs: Sequence[str] | None = None) -> NDArray[np.float32]:
        """Scores of the head before any post-hoc step, ``(M, C)``; see `FittedModel.raw_scores`."""
        nowhere = FeatureCache(max_bytes=0)
        return head_scores(
            self.head, row_features(self.encoder, self.task.input_form, texts, text_pairs, cache=nowhere)
        )

    def raw_split_scores(self, corpus: Corpus, split: SplitName) -> NDArray[np.float32]:
        """`raw_scores` of a whole split, from cached features."""
        return head_scores(self.head, split_row_features(self.encoder, corpus, split, cache=self.cache))

    def folded_head(self) -> AffineForm | None:
        """The head with every post-hoc step inside, or None where it is not affine."""
        return folded(self.head, self.adjustment) if isinstance(self.head, AffineForm) else None
