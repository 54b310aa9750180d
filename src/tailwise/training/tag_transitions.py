"""Whether what a tag says about the next one is added to the scores of a tagger by token: decided on validation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tailwise.evaluation.scoring import evaluate_scores, scores_are_finite
from tailwise.evaluation.spans import has_spans
from tailwise.evaluation.unit_metrics import metric_names
from tailwise.models.tag_chain import TagChain

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tailwise.data.corpus import Corpus

__all__ = ["ChainedScores", "fit_chain"]

#: of the transitions; half of what they say was the best or near it on validation of bc5cdr, wnut17, PHEE, ATIS
WEIGHT = 0.5


class ChainedScores(NamedTuple):
    """The chain, or None, and validation scores ``(M, C)`` under it; `held_out` by what other sentences decided."""

    chain: TagChain | None
    scores: NDArray[Any]
    held_out: NDArray[Any] | None


def fit_chain(scores: NDArray[Any], unfitted: NDArray[Any] | None, corpus: Corpus, metric: str) -> ChainedScores:
    """Add a chain of tags where it does better on validation, and tags mark spans.

    Args:
        scores: of the tokens of validation, ``(M, C)``.
        unfitted: those for which nothing was fitted on the row itself, where `scores` are not that.
        corpus: tags of training are counted, those of validation decide.
        metric: what is to be better.
    """
    space = corpus.label_space
    plain = scores if unfitted is None else unfitted
    spans = corpus.task.label_structure == "tags" and has_spans(space.all_names)
    if not spans or not scores_are_finite(plain) or corpus.num_rows("validation") < 2:
        return ChainedScores(None, scores, unfitted)
    chain = TagChain.counted(corpus.labels("train"), corpus.offsets("train"), space.num_classes, WEIGHT)
    offsets = corpus.offsets("validation")
    chained = chain.scores(plain, offsets)
    metric = metric if metric in metric_names("tags") else "macro_f1"
    with_it, without = (evaluate_scores(corpus, "validation", own) for own in (chained, plain))
    held_out = plain.copy()
    halves = np.arange(len(offsets) - 1) % 2
    for half in (0, 1):
        others = np.flatnonzero(halves != half).tolist()
        if with_it.take(others).score(metric) > without.take(others).score(metric):
            own = np.repeat(halves == half, np.diff(offsets))
            held_out[own] = chained[own]
    if with_it.score(metric) <= without.score(metric):
        return ChainedScores(None, scores, held_out)
    return ChainedScores(chain, chain.scores(scores, offsets), held_out)
