"""A tagger without an encoder: a conditional random field over words, shapes and affixes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tailwise.errors import DataError
from tailwise.models.crf import attribute_rows, words_in_context
from tailwise.models.fitted import FittedModel
from tailwise.models.word_features import sentence_offsets

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from tailwise.data.corpus import Corpus, SplitName
    from tailwise.models.crf import CRF

__all__ = ["CRFModel"]


class CRFModel(FittedModel):
    """Tags by a linear-chain CRF.

    Args:
        head: the trained weights.
        attributes: names of the rows of its weights.
        facts: what every fitted model has, see `FittedModel`.

    The scores of a token are the logarithms of the probabilities of its tags, given the whole sentence.
    """

    def __init__(self, *, head: CRF, attributes: Sequence[str], **facts: Any) -> None:
        super().__init__(**facts)
        self.head = head
        self.attributes = tuple(attributes)
        self._index = {name: i for i, name in enumerate(self.attributes)}

    def raw_scores(self, texts: Sequence[Any], text_pairs: Sequence[str] | None = None) -> NDArray[np.float32]:
        """Scores before any post-hoc step, ``(M, C)``; see `FittedModel.raw_scores`."""
        if text_pairs is not None:
            raise DataError("A tagger takes sentences alone, but second texts were given. Leave `text_pairs` out.")
        return self.head.scores(attribute_rows(words_in_context(texts), self._index), sentence_offsets(texts))

    def raw_split_scores(self, corpus: Corpus, split: SplitName) -> NDArray[np.float32]:
        """`raw_scores` of a whole split."""
        return self.raw_scores(corpus.tokens(split))
