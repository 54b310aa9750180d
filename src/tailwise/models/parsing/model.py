"""A fitted parser: word features of an encoder, a trained network on them, and post-hoc steps on relation scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from tailwise.errors import SettingError
from tailwise.models.fitted import FittedModel
from tailwise.models.parsing.scoring import ParseScores, score_sentences
from tailwise.models.word_features import encode_words, sentence_offsets, split_word_features

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from tailwise.data.corpus import Corpus, SplitName
    from tailwise.models.encoder import Encoder
    from tailwise.models.feature_cache import FeatureCache
    from tailwise.models.parsing.decoding import Algorithm
    from tailwise.models.parsing.network import ParserNetwork

__all__ = ["ParsedSentence", "ParserModel"]


class ParsedSentence(NamedTuple):
    """A sentence with its tree.

    Attributes:
        tokens: the words.
        heads: the head of every word, 1-based, 0 for the root.
        relations: name of the relation of every word to its head.
    """

    tokens: tuple[str, ...]
    heads: tuple[int, ...]
    relations: tuple[str, ...]


class ParserModel(FittedModel):
    """A dependency parser.

    Post-hoc steps change which relation a word has, not which head.

    Args:
        encoder: gives the word features; a fine-tuned one holds its own weights.
        network: scores arcs and relations.
        algorithm: how trees are found, ``"mst"`` or ``"eisner"``.
        cache: where features of whole splits are looked for; None takes the user's cache folder.
        facts: what every fitted model has, see `FittedModel`.

    Attributes:
        held_out_scores: `ParseScores` of validation, post-hoc steps of each sentence fitted on other sentences; None
            where there are no steps, or for a model that was loaded. Not saved.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        network: ParserNetwork,
        algorithm: Algorithm = "mst",
        cache: FeatureCache | None = None,
        **facts: Any,
    ) -> None:
        super().__init__(**facts)
        self.encoder = encoder
        self.network = network.eval()
        self.algorithm: Algorithm = algorithm
        self.cache = cache
        self.held_out_scores: ParseScores | None = None

    def features(self, corpus: Corpus, split: SplitName) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
        """Word features ``(M, D)`` of a split and its offsets ``(N + 1,)``."""
        return split_word_features(self.encoder, corpus, split, cache=self.cache)

    def scores(self, sentences: Sequence[Sequence[str]]) -> ParseScores:
        """Heads and relation scores after every post-hoc step, of all words of the sentences."""
        return self._adjusted(self._raw(encode_words(self.encoder, sentences), sentence_offsets(sentences)))

    def split_scores(self, corpus: Corpus, split: SplitName) -> ParseScores:
        """`scores` of a whole split, from cached features."""
        return self._adjusted(self._raw(*self.features(corpus, split)))

    def validation_scores(self, corpus: Corpus) -> ParseScores:
        """Scores of validation for choosing and reporting: no sentence was used to fit its own post-hoc steps."""
        return self.split_scores(corpus, "validation") if self.held_out_scores is None else self.held_out_scores

    def raw_scores(self, texts: Sequence[Any], text_pairs: Sequence[str] | None = None) -> NDArray[np.float32]:
        """Relation scores ``(M, R)`` under the decoded heads before any post-hoc step.

        Args:
            texts: sentences as token lists.
            text_pairs: none.

        Raises:
            SettingError: `text_pairs` is given.
        """
        if text_pairs is not None:
            raise SettingError("A parser takes sentences as token lists; it has no use for `text_pairs`.")
        return self._raw(encode_words(self.encoder, texts), sentence_offsets(texts)).logits

    def raw_split_scores(self, corpus: Corpus, split: SplitName) -> NDArray[np.float32]:
        """`raw_scores` of a whole split."""
        return self._raw(*self.features(corpus, split)).logits

    def parse(self, sentences: Sequence[Sequence[str]]) -> list[ParsedSentence]:
        """The tree of every sentence, given as a list of tokens.

        Raises:
            DataError: something that is not a list of strings.
        """
        heads, logits = self.scores(sentences)
        relations = self.label_space.decode(logits.argmax(axis=1))
        ends = sentence_offsets(sentences).tolist()
        return [
            ParsedSentence(tuple(tokens), tuple(heads[start:end].tolist()), tuple(relations[start:end]))
            for tokens, start, end in zip(sentences, ends, ends[1:], strict=False)
        ]

    def predict(self, texts: Sequence[Any], text_pairs: Sequence[str] | None = None) -> list[Any]:
        """`parse`."""
        if text_pairs is not None:
            raise SettingError("A parser takes sentences as token lists; it has no use for `text_pairs`.")
        return list(self.parse(texts))

    def _raw(self, features: NDArray[np.float16], offsets: NDArray[np.int64]) -> ParseScores:
        return score_sentences(self.network, features, offsets, algorithm=self.algorithm)

    def _adjusted(self, scores: ParseScores) -> ParseScores:
        return scores._replace(logits=self.adjustment(scores.logits))
