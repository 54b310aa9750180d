"""From the scores of a model to a `ScoredSplit`, whatever the task."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np

from tailwise.data.label_paths import coherent_scores
from tailwise.errors import DataError
from tailwise.evaluation.evaluation import Evaluation
from tailwise.evaluation.multilabel import MultilabelEvaluation
from tailwise.evaluation.parsing import ArcEvaluation, ArcScores
from tailwise.evaluation.tagging import TagEvaluation, span_label_space

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tailwise.data.corpus import Corpus, SplitName
    from tailwise.data.labels import LabelSpace
    from tailwise.evaluation.base import ScoredSplit

__all__ = ["Scores", "evaluate_scores", "reported_label_space", "scores_are_finite"]

#: logits (M, C), one row per instance or token; for dependency parsing heads and the logits of their relations
Scores: TypeAlias = "NDArray[np.float32] | ArcScores"


def evaluate_scores(corpus: Corpus, split: SplitName, scores: Scores) -> ScoredSplit:
    """The scores of a model on a split, with its ids and gold labels.

    Args:
        corpus: the data.
        split: the split that was scored.
        scores: logits after every post-hoc step: ``(N, C)``, ``(M, C)`` where tokens have tags, and an object with
            ``heads`` ``(M,)`` and ``logits`` ``(M, R)`` for dependency parsing. Where label names are paths, they are
            made coherent.

    Raises:
        DataError: scores of another shape or kind than the task's, or scores that are not finite.
    """
    structure, ids, space = corpus.task.label_structure, tuple(corpus.ids(split)), corpus.label_space
    _check_kind(scores, arcs=structure == "arcs")
    if structure == "arcs":
        arcs = cast("ArcScores", scores)
        gold_heads, relations = corpus.heads(split), corpus.labels(split)
        return ArcEvaluation(ids, corpus.offsets(split), gold_heads, relations, arcs.heads, arcs.logits, space)
    logits = cast("NDArray[np.float32]", scores)
    if structure == "tags":
        return TagEvaluation(ids, corpus.offsets(split), corpus.labels(split), logits, space)
    if structure == "multi":
        return MultilabelEvaluation(ids, corpus.label_matrix(split), coherent_scores(logits, space), space)
    return Evaluation(ids, corpus.labels(split), logits, space)


def _check_kind(scores: Scores, *, arcs: bool) -> None:
    if arcs == isinstance(scores, np.ndarray):
        wanted = "an object with `heads` and `logits`" if arcs else "an array of logits, one row per instance or token"
        raise DataError(f"Expected scores of this task to be {wanted}, but got {type(scores).__name__}.")


def reported_label_space(corpus: Corpus) -> LabelSpace:
    """The classes that figures about a corpus are reported on: types of spans where tags mark spans."""
    if corpus.task.label_structure == "tags":
        return span_label_space(corpus.label_space)
    return corpus.label_space


def scores_are_finite(scores: Scores) -> bool:
    """Whether no score is NaN or infinite; if one is, training has diverged."""
    logits = scores if isinstance(scores, np.ndarray) else scores.logits
    return bool(np.isfinite(logits).all())
