"""Scores of whole sentences: a tree for each, and the relation scores of every word under it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from tailwise.models.encoder import token_budget_batches
from tailwise.models.parsing.decoding import decode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from tailwise.models.parsing.decoding import Algorithm
    from tailwise.models.parsing.network import ParserNetwork

__all__ = ["ParseScores", "SentenceLayout", "padded", "score_sentences"]

_TOKEN_BUDGET = 8192


class ParseScores(NamedTuple):
    """What a parser says of M words.

    Attributes:
        heads: the head of every word, 1-based within its sentence, 0 for the root, ``(M,)``.
        logits: relation scores under these heads, ``(M, R)``.
    """

    heads: NDArray[np.int64]
    logits: NDArray[np.float32]


class SentenceLayout(NamedTuple):
    """Where the words of some sentences stand, in the whole data and in the padded batch.

    Attributes:
        lengths: words per sentence, ``(B,)``.
        rows: of every word in the whole data, ``(M,)``.
        sentence: of every word in the batch, ``(M,)``.
        word: position in its sentence from 0, ``(M,)``.
    """

    lengths: Tensor
    rows: NDArray[np.int64]
    sentence: Tensor
    word: Tensor

    @classmethod
    def of(cls, offsets: NDArray[np.int64], sentences: NDArray[np.int64]) -> SentenceLayout:
        """The layout of sentences ``(B,)``, by the offsets ``(N + 1,)`` of all."""
        starts = offsets[sentences]
        lengths = offsets[sentences + 1] - starts
        sentence = np.repeat(np.arange(len(sentences)), lengths)
        word = np.arange(len(sentence)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        rows = starts[sentence] + word
        return cls(torch.from_numpy(lengths), rows, torch.from_numpy(sentence), torch.from_numpy(word))


def padded(features: NDArray[np.float16], layout: SentenceLayout) -> Tensor:
    """Features of a batch in float32, zero after the end of a sentence, ``(B, T, D)``."""
    batch = torch.zeros(len(layout.lengths), int(layout.lengths.max()), features.shape[1])
    batch[layout.sentence, layout.word] = torch.from_numpy(np.asarray(features[layout.rows], dtype=np.float32))
    return batch


def score_sentences(
    network: ParserNetwork,
    features: NDArray[np.float16],
    offsets: NDArray[np.int64],
    *,
    algorithm: Algorithm = "mst",
    heads: NDArray[np.int64] | None = None,
) -> ParseScores:
    """Heads and relation scores before any post-hoc step.

    Args:
        network: in evaluation mode.
        features: of the words, ``(M, D)``.
        offsets: where sentences start, ``(N + 1,)``.
        algorithm: how trees are found.
        heads: score the relations under these heads ``(M,)`` in place of the best tree's.
    """
    found = np.zeros(len(features), dtype=np.int64)
    logits = np.zeros((len(features), network.num_relations), dtype=np.float32)
    lengths = np.diff(offsets)
    with torch.inference_mode():
        for batch in token_budget_batches(lengths, _TOKEN_BUDGET):
            sentences = batch[lengths[batch] > 0]
            if not sentences.size:
                continue
            layout = SentenceLayout.of(offsets, sentences)
            words = network(padded(features, layout), layout.lengths)
            if heads is None:
                chosen = _trees(words.arcs.numpy(), layout.lengths.tolist(), algorithm)
            else:
                chosen = heads[layout.rows]
            pairs = network.scorer.relation_inputs(words, layout.sentence, layout.word, torch.from_numpy(chosen))
            found[layout.rows] = chosen
            logits[layout.rows] = network.scorer.relation_logits(*pairs).numpy()
    return ParseScores(found, logits)


def _trees(arcs: NDArray[np.float32], lengths: Sequence[int], algorithm: Algorithm) -> NDArray[np.int64]:
    trees = [decode(scores[:n, : n + 1], algorithm) for scores, n in zip(arcs, lengths, strict=True)]
    return np.concatenate(trees)
