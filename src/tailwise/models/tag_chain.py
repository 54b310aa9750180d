"""Scores of tags in a chain: every token has a score per tag, and every two neighbours one per pair of tags.

    score(y) = sum_t u_t(y_t) + sum_{t > 0} A(y_{t-1}, y_t)          p(y) = exp(score(y)) / Z

    log-marginal   log sum_{y: y_t = j} p(y)          its largest is the most probable tag of the token
    max-marginal   max_{y: y_t = j} score(y)          its largest, token by token, is the best sequence (Viterbi)

Both take one pass in either direction (Rabiner, A Tutorial on Hidden Markov Models, Proc. IEEE 1989; Lafferty et al.,
Conditional Random Fields, ICML 2001), over many sentences at once, in float64 and in logarithms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import log_softmax

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Step = Callable[[Floats], Floats]

__all__ = ["TagChain", "log_marginals", "max_marginals"]

#: scores that the sentences of a block have at most, padding included, unless it is a single sentence
_BLOCK = 2**21

#: what is added to every count
_SMOOTHING = 0.1


@dataclass(frozen=True, eq=False)
class TagChain:
    """What a tag says about the next one, as scores that are added to those of the tokens.

        A(i, j) = w (log p(j | i) - log p(j)),      s(j) = w (log p(j | first) - log p(j))

    A tagger by token gives p(tag | token); divided by p(tag) it is a likelihood, as in a hidden Markov model, hence the
    second term. The weight w tempers what the states of the neighbours have told already.

    Attributes:
        transition: A, ``(C, C)``.
        start: s, ``(C,)``.
    """

    transition: Floats
    start: Floats

    @classmethod
    def counted(cls, tags: NDArray[np.int64], offsets: NDArray[np.int64], num_tags: int, weight: float) -> TagChain:
        """The chain of some sentences; .1 is added to every count.

        Args:
            tags: of every token, ``(M,)``.
            offsets: where every sentence starts, and M, ``(N + 1,)``.
            num_tags: C.
            weight: w.
        """
        starts = offsets[:-1][np.diff(offsets) > 0]
        inside = np.ones(len(tags), dtype=bool)
        inside[starts] = False
        pairs, first = np.full((num_tags, num_tags), _SMOOTHING), np.full(num_tags, _SMOOTHING)
        np.add.at(pairs, (tags[:-1][inside[1:]], tags[1:][inside[1:]]), 1.0)
        np.add.at(first, tags[starts], 1.0)
        alone = np.bincount(tags, minlength=num_tags) + _SMOOTHING
        log_alone = np.log(alone / alone.sum())
        return cls(
            weight * (np.log(pairs / pairs.sum(axis=1, keepdims=True)) - log_alone),
            weight * (np.log(first / first.sum()) - log_alone),
        )

    def scores(self, scores: NDArray[Any], offsets: NDArray[np.int64]) -> NDArray[np.float32]:
        """Max-marginals of the tokens of sentences, given their scores ``(M, C)``: the largest is the best sequence."""
        unary = scores.astype(np.float64)
        unary[offsets[:-1][np.diff(offsets) > 0]] += self.start
        return max_marginals(unary, self.transition, offsets).astype(np.float32)


def log_marginals(unary: Floats, transition: Floats, offsets: NDArray[np.int64]) -> Floats:
    """Logarithms of the probabilities of the tags of every token.

    Args:
        unary: u, ``(M, C)``, for the M tokens of all sentences.
        transition: A, from the tag of a row to that of a column, ``(C, C)``.
        offsets: where every sentence starts, and M, ``(N + 1,)``.

    Returns:
        ``(M, C)``; the exponentials of a row sum to 1.
    """
    return _two_passes(unary, offsets, _summed(transition), _summed(transition.T))


def max_marginals(unary: Floats, transition: Floats, offsets: NDArray[np.int64]) -> Floats:
    """The best score of a sequence through every tag of every token, less a constant per token; see `log_marginals`.

    Returns:
        ``(M, C)``; the exponentials of a row sum to 1.
    """
    return _two_passes(unary, offsets, _best(transition), _best(transition.T))


def _two_passes(unary: Floats, offsets: NDArray[np.int64], onward: Step, back: Step) -> Floats:
    """The score of a token is its own, that of all before it and that of all after it; a step adds one token.

    Sentences lie in columns by falling length, so that the first ones are those with a token at some place.
    """
    scores = np.empty(unary.shape)
    lengths = np.diff(offsets)
    for order in _blocks(lengths, unary.shape[1]):
        places = np.arange(lengths[order].max(initial=0))
        there = places[:, None] < lengths[order]
        rows = (offsets[order] + places[:, None])[there]
        own = np.zeros((*there.shape, unary.shape[1]))
        own[there] = unary[rows]
        before, after = np.zeros_like(own), np.zeros_like(own)
        sizes = there.sum(axis=1).tolist()
        for place in range(1, len(places)):
            size = sizes[place]
            before[place, :size] = onward(before[place - 1, :size] + own[place - 1, :size])
        for place in range(len(places) - 1, 0, -1):
            size = sizes[place]
            after[place - 1, :size] = back(after[place, :size] + own[place, :size])
        scores[rows] = (before + own + after)[there]
    return np.asarray(log_softmax(scores, axis=1))


def _blocks(lengths: NDArray[np.int64], num_tags: int) -> Iterator[NDArray[np.int64]]:
    """Sentences by falling length, as many at a time as a block takes."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, _BLOCK // max(1, int(lengths[order[start]]) * num_tags))
        yield order[start : start + size]
        start += size


def _summed(transition: Floats) -> Step:
    """From scores ``(B, C)`` of a token to ``log sum_i exp(s_i + A_ij)``, ``(B, C)``, by a product of matrices."""
    peaks = transition.max(axis=0)
    factors = np.exp(transition - peaks)
    smallest = np.finfo(np.float64).tiny

    def step(scores: Floats) -> Floats:
        top = scores.max(axis=1, keepdims=True)
        sums: Floats = np.maximum(np.exp(scores - top) @ factors, smallest)
        return np.asarray(np.log(sums) + top + peaks)

    return step


def _best(transition: Floats) -> Step:
    """From scores ``(B, C)`` of a token to ``max_i (s_i + A_ij)``, ``(B, C)``."""
    columns = np.ascontiguousarray(transition.T)
    return lambda scores: np.stack([(scores + column).max(axis=1) for column in columns], axis=1)
