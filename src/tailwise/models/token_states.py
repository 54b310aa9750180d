"""States of tokens: the last layer of a frozen encoder, one float16 vector per sub-word of a text.

Texts differ in length, so states are ragged: ``(M, D)`` for the M tokens of all texts, and offsets ``(N + 1,)`` that
say where every text starts. The tokens are those that the encoder sees for a feature of the whole text, special ones
included and cut at `Encoder.max_length`, so that a head on states and one on features differ in nothing else. Unlike
words between blanks, sub-words exist in every language. On disk the matrix is memory-mapped.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from tailwise.models.encoder import half_precision, text_inputs, token_budget, token_budget_batches
from tailwise.models.feature_cache import FeatureCache, feature_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from tailwise.data.corpus import Corpus, SplitName
    from tailwise.models.encoder import Encoder

    Progress = Callable[[str, int, int], None]

__all__ = ["TokenStates", "cached_token_states", "encode_token_states", "split_token_states"]

_LAYOUT = "tailwise token states 1"
#: texts tokenised at a time
_WINDOW = 16384


class TokenStates(NamedTuple):
    """States of the tokens of N texts.

    Attributes:
        values: ``(M, D)``, float16.
        offsets: where every text starts, and M, ``(N + 1,)``.
    """

    values: NDArray[np.float16]
    offsets: NDArray[np.int64]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens per text, ``(N,)``."""
        return np.diff(self.offsets)

    def padded(self, rows: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """States of some texts in float32, ``(B, T, D)``, zero after the last token, and where tokens are, ``(B, T)``.

        T is the longest of them, and at least 1.
        """
        lengths = self.lengths[rows]
        longest = max(int(lengths.max(initial=0)), 1)
        states = np.zeros((len(rows), longest, self.values.shape[1]), dtype=np.float32)
        for own, start, length in zip(states, self.offsets[rows], lengths, strict=True):
            own[:length] = self.values[start : start + length]
        mask = np.arange(longest) < lengths[:, None]
        return torch.from_numpy(states), torch.from_numpy(mask)


def encode_token_states(
    encoder: Encoder,
    texts: Sequence[str],
    text_pairs: Sequence[str] | None = None,
    *,
    progress: Progress | None = None,
) -> TokenStates:
    """States of the tokens of texts, or of pairs of texts that are read together.

    Args:
        encoder: the encoder.
        texts: N texts.
        text_pairs: the second text of each pair.
        progress: called with ``("encode", done, total)``, counted in texts.

    Raises:
        DataError: something that is not a text, or a different number of second texts.
        ModelError: weights that give values that are not finite or that half precision cannot hold.
    """
    inputs = text_inputs(texts, text_pairs)
    offsets = _offsets(encoder, inputs)
    return TokenStates(_encode(encoder, inputs, offsets, progress), offsets)


def cached_token_states(
    encoder: Encoder,
    texts: Sequence[str],
    text_pairs: Sequence[str] | None = None,
    *,
    cache: FeatureCache | None = None,
    progress: Progress | None = None,
) -> TokenStates:
    """`encode_token_states`, from the cache or computed now."""
    cache = FeatureCache() if cache is None else cache
    inputs = text_inputs(texts, text_pairs)
    offsets = _offsets(encoder, inputs)
    key = hashlib.sha256(f"{_LAYOUT}:{feature_key(encoder, texts, text_pairs)}".encode()).hexdigest()
    values: NDArray[Any] = cache.get_or_compute(
        key,
        (int(offsets[-1]), encoder.dim),
        lambda: _encode(encoder, inputs, offsets, progress),
        dtype=np.float16,
    )
    return TokenStates(values, offsets)


def split_token_states(
    encoder: Encoder,
    corpus: Corpus,
    split: SplitName,
    *,
    cache: FeatureCache | None = None,
    progress: Progress | None = None,
) -> TokenStates:
    """`cached_token_states` of a whole split."""
    return cached_token_states(encoder, corpus.inputs(split), corpus.text_pairs(split), cache=cache, progress=progress)


def _offsets(encoder: Encoder, inputs: Sequence[Any]) -> NDArray[np.int64]:
    lengths: list[int] = []
    for start in range(0, len(inputs), _WINDOW):
        lengths += (len(ids) for ids in _tokenised(encoder, inputs[start : start + _WINDOW])["input_ids"])
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(np.array(lengths, dtype=np.int64))])


def _tokenised(encoder: Encoder, inputs: Sequence[Any]) -> Any:
    return encoder.tokenizer(list(inputs), truncation=True, max_length=encoder.max_length)


def _encode(
    encoder: Encoder, inputs: Sequence[Any], offsets: NDArray[np.int64], progress: Progress | None
) -> NDArray[np.float16]:
    values = np.zeros((int(offsets[-1]), encoder.dim), dtype=np.float16)
    lengths, done = np.diff(offsets), 0
    for start in range(0, len(inputs), _WINDOW):
        encoded = _tokenised(encoder, inputs[start : start + _WINDOW])
        own = lengths[start : start + _WINDOW]
        for batch in token_budget_batches(own, token_budget(encoder.device)):
            if own[batch[0]]:
                for row, states in zip(batch, _forward(encoder, encoded, batch), strict=True):
                    first = offsets[start + row]
                    values[first : first + own[row]] = states[: own[row]]
            done += len(batch)
            if progress is not None:
                progress("encode", done, len(inputs))
    return half_precision(values, encoder.name)


def _forward(encoder: Encoder, encoded: Any, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    chosen = {key: [encoded[key][row] for row in rows] for key in encoded}
    batch = encoder.tokenizer.pad(chosen, return_tensors="pt").to(encoder.device)
    with torch.inference_mode():
        states: NDArray[np.float32] = encoder.model(**batch).last_hidden_state.float().cpu().numpy()
    return states
