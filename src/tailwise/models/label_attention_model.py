"""A label-attention probe: a frozen encoder, and label-wise attention over the states of its tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from tailwise.models.fitted import FittedModel
from tailwise.models.label_attention import LabelAttention, label_attention_scores
from tailwise.models.token_states import encode_token_states, split_token_states

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tailwise.data.corpus import Corpus, SplitName
    from tailwise.models.encoder import Encoder
    from tailwise.models.feature_cache import FeatureCache

__all__ = ["AttendedText", "LabelAttentionModel"]


class AttendedText(NamedTuple):
    """What every label read in a text.

    Attributes:
        tokens: T sub-words, special ones included.
        weights: ``(L, T)``, of sum 1 per label.
    """

    tokens: tuple[str, ...]
    weights: NDArray[np.float32]


class LabelAttentionModel(FittedModel):
    """Labels by label-wise attention.

    Args:
        encoder: gives the token states.
        head: the trained attention.
        cache: where states of whole splits are looked for; None takes the user's cache folder.
        facts: what every fitted model has, see `FittedModel`.
    """

    def __init__(
        self, *, encoder: Encoder, head: LabelAttention, cache: FeatureCache | None = None, **facts: Any
    ) -> None:
        super().__init__(**facts)
        self.encoder = encoder
        self.head = head.eval()
        self.cache = cache

    def raw_scores(self, texts: Sequence[Any], text_pairs: Sequence[str] | None = None) -> NDArray[np.float32]:
        """Scores before any post-hoc step, ``(M, L)``; see `FittedModel.raw_scores`."""
        return label_attention_scores(self.head, encode_token_states(self.encoder, texts, text_pairs))

    def raw_split_scores(self, corpus: Corpus, split: SplitName) -> NDArray[np.float32]:
        """`raw_scores` of a whole split, from cached states."""
        return label_attention_scores(self.head, split_token_states(self.encoder, corpus, split, cache=self.cache))

    def attention(self, texts: Sequence[str], text_pairs: Sequence[str] | None = None) -> list[AttendedText]:
        """The tokens of every text and how much each label attends to them.

        Raises:
            DataError: something that is not a text.
        """
        states = encode_token_states(self.encoder, texts, text_pairs)
        tokenizer = self.encoder.tokenizer
        encoded = tokenizer(texts, text_pairs, truncation=True, max_length=self.encoder.max_length)["input_ids"]
        found = []
        with torch.inference_mode():
            for row, ids in enumerate(encoded):
                weights = self.head.attention(*states.padded(np.array([row])))[0, :, : len(ids)]
                found.append(AttendedText(tuple(tokenizer.convert_ids_to_tokens(ids)), weights.numpy()))
        return found
