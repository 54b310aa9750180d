"""`TextClassifier` for other label structures: several labels per text, and a tag per token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from tailwise.classifier import TextClassifier
from tailwise.data.arrays import read_texts
from tailwise.data.corpus import Corpus
from tailwise.data.label_sets import (
    corpus_from_label_sets,
    corpus_from_tags,
    read_label_sets,
    read_sentences,
    read_tags,
)
from tailwise.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MultilabelTextClassifier", "TokenClassifier"]


class MultilabelTextClassifier(TextClassifier):
    """A classifier of texts (or pairs) of which each may have several labels, or none.

    Parameters and attributes are those of `TextClassifier`. Methods named for one class per text take the form that
    fits: ``ce`` is binary cross-entropy, ``thresholds`` are thresholds per label.

    Example:
        >>> classifier = MultilabelTextClassifier("db").fit(texts, [["grain", "wheat"], [], ...])  # doctest: +SKIP
        >>> classifier.predict_labels(["wheat exports rose"])  # doctest: +SKIP
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.classifier_tags.multi_label = True
        return tags

    def fit(self, texts: Any, labels: Any = None, *, progress: Any = None) -> MultilabelTextClassifier:
        """Fit on texts and label sets, or on a `Corpus` with several labels per row.

        Args:
            texts: as in `TextClassifier.fit`.
            labels: one list of label names per text, or a matrix of 0 and 1, ``(N, L)``, dense, sparse or a DataFrame.
            progress: told how far the work is.

        Raises:
            DataError: texts or labels that cannot be used; names the row.
            SettingError: a parameter out of range, or a recipe that does not fit.
        """
        super().fit(texts, labels, progress=progress)
        return self

    def predict(self, texts: Any) -> NDArray[np.int64]:
        """Which text has which label, 0 and 1 in the order of `classes_`, ``(N, L)``."""
        return (self._logits(texts) > 0).astype(np.int64)

    def predict_labels(self, texts: Any) -> list[list[str]]:
        """The labels of each text."""
        return [[str(self.classes_[j]) for j in np.flatnonzero(row)] for row in self.predict(texts)]

    def predict_proba(self, texts: Any) -> NDArray[np.float64]:
        """The probability of every label, ``(N, L)``; they do not sum to 1."""
        from scipy.special import expit

        return np.asarray(expit(self._logits(texts).astype(np.float64)))

    def decision_function(self, texts: Any) -> NDArray[np.float64]:
        """Adjusted logits ``(N, L)``; what is above 0 is predicted."""
        return self._logits(texts).astype(np.float64)

    def _corpus(self, texts: Any, labels: Any) -> tuple[Corpus, NDArray[Any]]:
        if isinstance(texts, Corpus):
            return _own(texts, labels, "multi", "several labels per row")
        read = read_texts(texts)
        names, matrix = read_label_sets(labels, len(read.first))
        corpus = corpus_from_label_sets(read, matrix, names, validation_size=self.validation_size, seed=int(self.seed))
        return corpus, np.asarray(names, dtype=object)


class TokenClassifier(TextClassifier):
    """A classifier of tokens: entities, slots, parts of speech.

    Parameters and attributes are those of `TextClassifier`. Tags in IOB2 (``B-city``, ``I-city``, ``O``) are scored as
    spans, other tags token by token.

    Example:
        >>> tagger = TokenClassifier("focal").fit([["to", "Boston"], ...], [["O", "B-city"], ...])  # doctest: +SKIP
        >>> tagger.predict([["from", "Denver"]])  # doctest: +SKIP
    """

    def fit(self, sentences: Any, tags: Any = None, *, progress: Any = None) -> TokenClassifier:
        """Fit on token lists and tag lists, or on a `Corpus` of tagged sentences.

        Args:
            sentences: one list of tokens per sentence.
            tags: one tag per token, in lists of the same lengths.
            progress: told how far the work is.

        Raises:
            DataError: sentences or tags that cannot be used; names the sentence.
            SettingError: a parameter out of range, or a recipe that does not fit.
        """
        super().fit(sentences, tags, progress=progress)
        return self

    def predict(self, sentences: Any) -> list[list[str]]:  # type: ignore[override]  # sentences differ in length
        """One tag per token."""
        check_is_fitted(self)
        decisions: list[list[str]] = self.model_.predict(read_sentences(sentences))
        return decisions

    def predict_proba(self, sentences: Any) -> list[NDArray[np.float64]]:  # type: ignore[override]
        """Probabilities of the tags in the order of `classes_`, per sentence ``(tokens, C)``."""
        check_is_fitted(self)
        read = read_sentences(sentences)
        rows = self.model_.predict_proba(read)
        return np.split(rows, np.cumsum([len(tokens) for tokens in read])[:-1])

    def decision_function(self, sentences: Any) -> list[NDArray[np.float64]]:  # type: ignore[override]
        """Adjusted logits per sentence, ``(tokens, C)``."""
        check_is_fitted(self)
        read = read_sentences(sentences)
        rows = self.model_.logits(read).astype(np.float64)
        return np.split(rows, np.cumsum([len(tokens) for tokens in read])[:-1])

    def _corpus(self, texts: Any, labels: Any) -> tuple[Corpus, NDArray[Any]]:
        if isinstance(texts, Corpus):
            return _own(texts, labels, "tags", "a tag per token")
        sentences = read_sentences(texts)
        tags = read_tags(labels, sentences)
        corpus = corpus_from_tags(sentences, tags, validation_size=self.validation_size, seed=int(self.seed))
        return corpus, np.asarray(corpus.label_space.names, dtype=object)


def _own(corpus: Corpus, labels: Any, structure: str, words: str) -> tuple[Corpus, NDArray[Any]]:
    if labels is not None:
        raise DataError("A corpus has its own labels; give either a corpus or inputs and labels.")
    if corpus.task.label_structure != structure:
        raise DataError(f"Expected a corpus with {words}, but {corpus.name!r} is for {corpus.task.name!r}.")
    return corpus, np.asarray(corpus.label_space.names, dtype=object)
