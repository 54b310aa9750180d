"""What a probe sees of every row, whatever the input form is.

    text      v                                       features of the text, (D,)
    pair      [u, v, |u - v|, u * v]                  u, v features of the two texts, (4D,)
    relation  [h, t, b, s]                            means over the words of head, tail, between them, sentence, (4D,)
    tokens    w                                       mean of the word over all layers, one row per token, (D,)

Pairs: Conneau et al., Supervised Learning of Universal Sentence Representations from Natural Language Inference Data,
EMNLP 2017. Relations: the entities are set off by marker words before the sentence is encoded, ``@ head @`` and
``# tail #``, which a frozen encoder has seen, unlike new symbols (Zhou and Chen, An Improved Baseline for
Sentence-level Relation Extraction, AACL 2022).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tailwise.errors import DataError
from tailwise.models.feature_cache import FeatureCache, cached_features
from tailwise.models.feature_memo import remembered_features
from tailwise.models.word_features import cached_word_features

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from tailwise.data.corpus import Corpus, RelationInput, SplitName
    from tailwise.data.task import InputForm
    from tailwise.models.encoder import Encoder

    Progress = Callable[[str, int, int], None]

__all__ = ["marked", "pair_features", "row_blocks", "row_features", "row_width", "split_row_features"]

#: rows that are composed at a time
_ROWS = 65536


def row_width(form: InputForm, dim: int) -> int:
    """Length of the vector of a row, D being that of the encoder."""
    return row_blocks(form) * dim


def row_blocks(form: InputForm) -> int:
    """How many vectors of the encoder the vector of a row joins."""
    return 4 if form in {"pair", "relation"} else 1


def row_features(
    encoder: Encoder,
    form: InputForm,
    inputs: Sequence[Any],
    text_pairs: Sequence[str] | None = None,
    *,
    cache: FeatureCache | None = None,
    progress: Progress | None = None,
) -> NDArray[Any]:
    """Features of the rows of some inputs.

    Args:
        encoder: the encoder.
        form: what the inputs are.
        inputs: texts, token lists or `RelationInput`.
        text_pairs: the second text of each pair.
        cache: where features are kept; None takes the user's cache folder.
        progress: told how far the encoding is.

    Returns:
        ``(M, row_width)``: one row per input, for tokens one per token; float16 for tokens, else float32.

    Raises:
        DataError: inputs of another form.
    """
    if (form == "pair") != (text_pairs is not None):
        found = "none were given" if text_pairs is None else "they were given"
        raise DataError(f"Inputs of the form {form!r} {'need' if form == 'pair' else 'have no'} second texts; {found}.")
    if form == "tokens":
        return cached_word_features(encoder, inputs, layers="all", cache=cache, progress=progress)[0]
    if form == "relation":
        return _relation_features(encoder, inputs, cache, progress)
    first = cached_features(encoder, inputs, cache=cache, progress=progress)
    if text_pairs is None:
        return first
    return pair_features(first, cached_features(encoder, text_pairs, cache=cache, progress=progress))


def split_row_features(
    encoder: Encoder,
    corpus: Corpus,
    split: SplitName,
    *,
    cache: FeatureCache | None = None,
    progress: Progress | None = None,
) -> NDArray[Any]:
    """`row_features` of a whole split, read-only; found once per process, see `tailwise.models.feature_memo`."""
    kept = FeatureCache() if cache is None else cache

    def find() -> NDArray[Any]:
        inputs, pairs = corpus.inputs(split), corpus.text_pairs(split)
        return row_features(encoder, corpus.task.input_form, inputs, pairs, cache=kept, progress=progress)

    return remembered_features(encoder, corpus, split, kept, find)


def pair_features(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """``[u, v, |u - v|, u * v]`` of two matrices ``(N, D)``, ``(N, 4D)``."""
    rows, dim = first.shape
    joined = np.empty((rows, 4 * dim), dtype=np.float32)
    for start in range(0, rows, _ROWS):
        u, v, out = (m[start : start + _ROWS] for m in (first, second, joined))
        out[:, :dim], out[:, dim : 2 * dim] = u, v
        np.abs(u - v, out=out[:, 2 * dim : 3 * dim])
        np.multiply(u, v, out=out[:, 3 * dim :])
    return joined


def marked(example: RelationInput) -> tuple[list[str], NDArray[np.int64]]:
    """The tokens of a sentence with marker words about its entities, and where each token of the sentence went.

    Raises:
        DataError: an entity outside the sentence, or without a token.
    """
    example.check()
    size = len(example.tokens)
    before: list[list[str]] = [[] for _ in range(size + 1)]
    for mark, (start, end) in (("@", example.head), ("#", example.tail)):
        before[start].append(mark)
        before[end].insert(0, mark)
    tokens: list[str] = []
    places = np.empty(size, dtype=np.int64)
    for i, token in enumerate(example.tokens):
        tokens += before[i]
        places[i] = len(tokens)
        tokens.append(token)
    return tokens + before[size], places


def _relation_features(
    encoder: Encoder, inputs: Sequence[RelationInput], cache: FeatureCache | None, progress: Progress | None
) -> NDArray[np.float32]:
    examples = [marked(example) for example in inputs]
    words, offsets = cached_word_features(encoder, [tokens for tokens, _ in examples], cache=cache, progress=progress)
    features = np.zeros((len(examples), 4 * encoder.dim), dtype=np.float32)
    for row, (example, (_, places)) in enumerate(zip(inputs, examples, strict=True)):
        sentence = np.asarray(words[offsets[row] : offsets[row + 1]], dtype=np.float32)
        first, second = sorted((example.head, example.tail))
        between = places[first[1] : max(second[0], first[1])]
        parts = (places[slice(*example.head)], places[slice(*example.tail)], between)
        vectors = [sentence[p].mean(axis=0) if len(p) else np.zeros(encoder.dim, np.float32) for p in parts]
        features[row] = np.concatenate([*vectors, sentence.mean(axis=0)])
    return features
