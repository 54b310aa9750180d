"""Features of words: one float16 vector per token of a sentence, the mean of its sub-words' states.

They are the states of the last layer, or the mean over all layers: the last one of a sentence encoder was trained for
the sentence, and says less about the word than those below it (Tenney et al., BERT Rediscovers the Classical NLP
Pipeline, ACL 2019).

Sentences differ in length, so features are ragged: ``(M, D)`` for the M tokens of all sentences, and offsets
``(N + 1,)`` that say where every sentence starts. A sentence with more sub-words than the encoder takes is encoded in
several pieces, so that every token has a vector of its own; a token without a single sub-word (a control character)
has zeros. On disk the matrix is memory-mapped, half the size of float32.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch

from tailwise.errors import DataError, ModelError
from tailwise.models.encoder import half_precision, token_budget, token_budget_batches
from tailwise.models.feature_cache import FeatureCache

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

    from tailwise.data.corpus import Corpus, SplitName
    from tailwise.models.encoder import Encoder

    Progress = Callable[[str, int, int], None]
    Sentences = Sequence[Sequence[str]]

__all__ = [
    "Layers",
    "Piece",
    "cached_word_features",
    "encode_words",
    "sentence_offsets",
    "split_word_features",
    "token_pieces",
]

Layers = Literal["last", "all"]

_LAYOUT = "tailwise word features 1"


def sentence_offsets(sentences: Sentences) -> NDArray[np.int64]:
    """Where the tokens of every sentence start, and their number, ``(N + 1,)``."""
    lengths = np.fromiter((len(tokens) for tokens in sentences), dtype=np.int64, count=len(sentences))
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])


def encode_words(
    encoder: Encoder, sentences: Sentences, *, layers: Layers = "last", progress: Progress | None = None
) -> NDArray[np.float16]:
    """Features of all tokens of some sentences, in order.

    Args:
        encoder: the encoder; its tokenizer must be a fast one, which knows the words of its sub-words.
        sentences: token lists.
        layers: whose states: the last layer's, or the mean over all of them, embeddings included.
        progress: called with ``("encode", done, total)``, counted in sentences.

    Returns:
        ``(M, D)``, M tokens in all.

    Raises:
        DataError: something that is not a list of strings.
        ModelError: a tokenizer that does not know words, or weights that give values that are not finite.
    """
    _check(sentences)
    features = np.zeros((int(sentence_offsets(sentences)[-1]), encoder.dim), dtype=np.float16)
    pieces = token_pieces(encoder.tokenizer, sentences, encoder.max_length)
    lengths = np.array([piece.size for piece in pieces], dtype=np.int64)
    done = 0
    for batch in token_budget_batches(lengths, token_budget(encoder.device)):
        chosen = [pieces[i] for i in batch]
        for piece, vectors in zip(chosen, _states(encoder, [piece.tokens for piece in chosen], layers), strict=True):
            features[piece.first : piece.first + len(piece.tokens)] = vectors
        done += len(batch)
        if progress is not None:
            progress("encode", done, len(pieces))
    return half_precision(features, encoder.name)


def cached_word_features(
    encoder: Encoder,
    sentences: Sentences,
    *,
    layers: Layers = "last",
    cache: FeatureCache | None = None,
    progress: Progress | None = None,
) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
    """Features ``(M, D)`` of the tokens of sentences, from the cache or encoded now, and their offsets ``(N + 1,)``."""
    cache = FeatureCache() if cache is None else cache
    offsets = sentence_offsets(sentences)
    features: NDArray[Any] = cache.get_or_compute(
        _key(encoder, sentences, layers),
        (int(offsets[-1]), encoder.dim),
        lambda: encode_words(encoder, sentences, layers=layers, progress=progress),
        dtype=np.float16,
    )
    return features, offsets


def split_word_features(
    encoder: Encoder,
    corpus: Corpus,
    split: SplitName,
    *,
    cache: FeatureCache | None = None,
    progress: Progress | None = None,
) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
    """`cached_word_features` of a whole split."""
    return cached_word_features(encoder, corpus.tokens(split), cache=cache, progress=progress)


def _check(sentences: Sentences) -> None:
    for row, tokens in enumerate(sentences):
        if isinstance(tokens, str) or not all(isinstance(token, str) for token in tokens):
            raise DataError(
                f"Sentence {row}: expected a list of tokens, all of them strings, but got {tokens!r:.80}. Split the "
                "text into tokens first."
            )


class Piece(NamedTuple):
    """A run of tokens that fits a model: the position of its first among all tokens, the tokens, their sub-words."""

    first: int
    tokens: Sequence[str]
    size: int


def token_pieces(tokenizer: PreTrainedTokenizerBase, sentences: Sentences, max_length: int) -> list[Piece]:
    """The sentences, those with more than `max_length` sub-words (special ones included) cut between two tokens."""
    words = list({token for tokens in sentences for token in tokens})
    if not words:
        return []
    ids = tokenizer(words, add_special_tokens=False, verbose=False)["input_ids"]
    size_of = {word: len(pieces) for word, pieces in zip(words, ids, strict=True)}
    limit = max_length - tokenizer.num_special_tokens_to_add(pair=False)
    pieces: list[Piece] = []
    for start, tokens in zip(sentence_offsets(sentences).tolist(), sentences, strict=False):
        first = total = 0
        for position, token in enumerate(tokens):
            size = min(size_of[token], limit)
            if total + size > limit:
                pieces.append(Piece(start + first, tokens[first:position], total))
                first, total = position, 0
            total += size
        if len(tokens) > first:
            pieces.append(Piece(start + first, tokens[first:], total))
    return pieces


def _states(encoder: Encoder, sentences: Sentences, layers: Layers) -> list[NDArray[np.float32]]:
    """Mean of the states of the sub-words of every token, per sentence ``(tokens, D)``."""
    try:
        encoded = encoder.tokenizer(
            [list(tokens) for tokens in sentences],
            is_split_into_words=True,
            truncation=True,
            max_length=encoder.max_length,
            padding=True,
            return_tensors="pt",
        )
        words = [encoded.word_ids(row) for row in range(len(sentences))]
    except (AssertionError, ValueError) as error:
        raise ModelError(f"The tokenizer of {encoder.name!r} does not take words: {error}") from error
    longest = max(len(tokens) for tokens in sentences)
    index = torch.tensor([[longest if w is None else w for w in row] for row in words])
    with torch.inference_mode():
        found = encoder.model(**encoded.to(encoder.device), output_hidden_states=layers == "all")
        states = _mean(found.hidden_states) if layers == "all" else found.last_hidden_state.float().cpu()
        sums = torch.zeros(len(sentences), longest + 1, states.shape[2])
        sums.scatter_add_(1, index[:, :, None].expand_as(states), states)
        counts = torch.zeros(len(sentences), longest + 1).scatter_add_(1, index, torch.ones(index.shape))
        means = (sums / counts.clamp_min(1.0)[:, :, None]).numpy()
    return [means[row, : len(tokens)] for row, tokens in enumerate(sentences)]


def _mean(states: Sequence[torch.Tensor]) -> torch.Tensor:
    """The mean over layers, in float32."""
    total = states[0].float()
    for layer in states[1:]:
        total = total + layer.float()
    return (total / len(states)).cpu()


def _key(encoder: Encoder, sentences: Sentences, layers: Layers) -> str:
    settings = [_LAYOUT, encoder.fingerprint, str(encoder.max_length), str(encoder.dtype)]
    settings += ["all layers"] if layers == "all" else []
    digest = hashlib.sha256("\0".join(settings).encode())
    for tokens in sentences:
        data = "\0".join(tokens).encode("utf-8", "surrogatepass")
        digest.update(b"%d,%d:" % (len(tokens), len(data)))
        digest.update(data)
    return digest.hexdigest()
