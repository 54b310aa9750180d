"""What an engine hands over: a fitted model that scores texts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit, softmax

from tailwise.data.label_paths import coherent_scores
from tailwise.posthoc.base import AffineStep, compose

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from tailwise.data.corpus import Corpus, SplitName
    from tailwise.data.labels import LabelSpace
    from tailwise.data.task import Task

__all__ = ["FittedModel"]


class FittedModel(ABC):
    """A trained model with its post-hoc steps.

    Attributes:
        label_space: classes and training counts.
        task: what goes in and what comes out.
        recipe: the recipe as plain data.
        seed: the seed of the run.
        engine: name of the engine.
        steps: fitted post-hoc steps, applied in order to the raw scores.
        info: facts of the run for the model card: encoder, settings, training log, data fingerprint.
        held_out: validation scores ``(N, C)`` for which the post-hoc steps of each row were fitted on other rows; None
            where there are no steps, or for a model that was loaded. Not saved.
    """

    def __init__(
        self,
        *,
        label_space: LabelSpace,
        task: Task,
        recipe: Mapping[str, Any],
        seed: int,
        engine: str,
        steps: Sequence[AffineStep] = (),
        info: Mapping[str, Any] | None = None,
    ) -> None:
        self.label_space = label_space
        self.task = task
        self.recipe = dict(recipe)
        self.seed = seed
        self.engine = engine
        self.steps = tuple(steps)
        self.info = dict(info or {})
        self.held_out: NDArray[np.float32] | None = None

    @abstractmethod
    def raw_scores(self, texts: Sequence[Any], text_pairs: Sequence[str] | None = None) -> NDArray[np.float32]:
        """Scores of the head before any post-hoc step, ``(M, C)``.

        Args:
            texts: what the task takes: texts, token lists, or sentences with two marked entities (`RelationInput`).
            text_pairs: the second text of each pair.

        Returns:
            One row per input; where tokens are labelled, one row per token of all inputs.
        """

    @abstractmethod
    def raw_split_scores(self, corpus: Corpus, split: SplitName) -> NDArray[np.float32]:
        """`raw_scores` of a whole split, from cached features where the engine has them."""

    @property
    def adjustment(self) -> AffineStep:
        """All post-hoc steps as one."""
        return compose(self.steps, self.label_space.num_classes)

    def logits(self, texts: Sequence[Any], text_pairs: Sequence[str] | None = None) -> NDArray[np.float32]:
        """Scores after every post-hoc step, ``(M, C)``: the largest is the decision; over labels, those above 0 are."""
        return coherent_scores(self.adjustment(self.raw_scores(texts, text_pairs)), self.label_space)

    def split_logits(self, corpus: Corpus, split: SplitName) -> NDArray[np.float32]:
        """`logits` of a whole split."""
        return coherent_scores(self.adjustment(self.raw_split_scores(corpus, split)), self.label_space)

    def validation_logits(self, corpus: Corpus) -> NDArray[np.float32]:
        """Scores of the validation split for choosing and reporting: no row was used to fit its own post-hoc steps."""
        return self.split_logits(corpus, "validation") if self.held_out is None else self.held_out

    def split_scores(self, corpus: Corpus, split: SplitName) -> Any:
        """What `tailwise.evaluation.evaluate_scores` takes of a split: `split_logits`, unless the task needs more."""
        return self.split_logits(corpus, split)

    def validation_scores(self, corpus: Corpus) -> Any:
        """The same of the validation split, for choosing and reporting; see `validation_logits`."""
        return self.split_scores(corpus, "validation") if self.held_out is None else self.held_out

    def predict_proba(self, texts: Sequence[Any], text_pairs: Sequence[str] | None = None) -> NDArray[np.float64]:
        """Probabilities ``(M, C)``: of classes, the softmax of the logits, or of labels, the sigmoid of each."""
        logits = self.logits(texts, text_pairs).astype(np.float64)
        return np.asarray(expit(logits) if self.task.label_structure == "multi" else softmax(logits, axis=1))

    def predict(self, texts: Sequence[Any], text_pairs: Sequence[str] | None = None) -> list[Any]:
        """Decisions in words: a class, a list of labels, or a list of tags per input."""
        logits, names = self.logits(texts, text_pairs), self.label_space.names
        if self.task.label_structure == "multi":
            return [[names[j] for j in np.flatnonzero(row > 0)] for row in logits]
        chosen = [names[j] for j in logits.argmax(axis=1)]
        if not self.task.by_token:
            return chosen
        ends = np.cumsum([len(tokens) for tokens in texts]).tolist()
        return [chosen[start:end] for start, end in zip([0, *ends], ends, strict=False)]
