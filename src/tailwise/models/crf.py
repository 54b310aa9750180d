"""A linear-chain conditional random field over features of words.

    score(x, y) = sum_t ( sum_{a of token t} W(a, y_t) + [t > 0] A(y_{t-1}, y_t) ),      p(y | x) = exp(score) / Z

with a score W of every attribute (a word, its shape, an affix, here or near by) and tag, and A of every two tags in a
row. Training minimises ``-log p(gold) + c1 |w|_1 + c2 |w|_2^2`` over whole sentences. Lafferty et al., Conditional
Random Fields: Probabilistic Models for Segmenting and Labeling Sequence Data, ICML 2001; Okazaki, CRFsuite, 2007.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from scipy.sparse import csr_array

from tailwise.errors import DataError, SettingError
from tailwise.models.heads.base import Head
from tailwise.models.lexical.token_strings import token_features
from tailwise.models.tag_chain import log_marginals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["CRF", "attribute_rows", "words_in_context"]


class CRF(Head):
    """The weights of a linear-chain CRF; zero until it is trained.

    Args:
        num_features: number of attributes, A.
        num_classes: number of tags, C.
        c1: weight of the L1 penalty, which keeps most W at 0.
        c2: weight of the L2 penalty.
        max_iterations: of L-BFGS (OWL-QN with an L1 penalty).

    Attributes:
        weight: W, sparse, ``(A, C)``.
        transition: A, ``(C, C)``.

    Raises:
        SettingError: a penalty below 0, or fewer than one iteration.
    """

    reads_words: ClassVar[bool] = True

    def __init__(
        self, num_features: int, num_classes: int, c1: float = 0.05, c2: float = 0.05, max_iterations: int = 60
    ) -> None:
        super().__init__(num_features, num_classes)
        for name, penalty in (("c1", c1), ("c2", c2)):
            if not (0.0 <= penalty < np.inf):
                raise SettingError(f"Expected `{name}` to be a penalty of 0 or more, but got {penalty!r}.")
        if max_iterations < 1:
            raise SettingError(f"Expected `max_iterations` to be 1 or more, but got {max_iterations!r}.")
        self.c1, self.c2, self.max_iterations = float(c1), float(c2), int(max_iterations)
        self.weight = csr_array((num_features, num_classes), dtype=np.float64)
        self.transition: NDArray[np.float64] = np.zeros((num_classes, num_classes))

    def log_probabilities(self, rows: csr_array, offsets: NDArray[np.int64]) -> NDArray[np.float64]:
        """Logarithms of the probabilities of the tags, given the sentence.

        Args:
            rows: which attributes every token has, ``(M, A)``; see `attribute_rows`.
            offsets: where every sentence starts, and M, ``(N + 1,)``.

        Returns:
            ``(M, C)``.
        """
        return log_marginals((rows @ self.weight).toarray(), self.transition, offsets)

    def scores(self, rows: csr_array, offsets: NDArray[np.int64]) -> NDArray[np.float32]:
        """`log_probabilities` as scores, ``(M, C)``."""
        return self.log_probabilities(rows, offsets).astype(np.float32)


def words_in_context(sentences: Sequence[Sequence[str]]) -> list[list[str]]:
    """The attributes of every token of all sentences: words, shapes and affixes of a window.

    Raises:
        DataError: something that is not a list of strings.
    """
    for row, tokens in enumerate(sentences):
        if isinstance(tokens, str) or not all(isinstance(token, str) for token in tokens):
            raise DataError(
                f"Sentence {row}: expected a list of tokens, all of them strings, but got {tokens!r:.80}. Split the "
                "text into tokens first."
            )
    return [attributes for tokens in sentences for attributes in token_features(list(tokens))]


def attribute_rows(words: Sequence[Sequence[str]], known: Mapping[str, int]) -> csr_array:
    """Ones where a token has an attribute, ``(M, A)``; attributes that are not known are left out."""
    found = [[known[attribute] for attribute in attributes if attribute in known] for attributes in words]
    ends = np.cumsum([0, *(len(row) for row in found)])
    indices = np.fromiter((index for row in found for index in row), dtype=np.int64, count=int(ends[-1]))
    return csr_array((np.ones(len(indices)), indices, ends), shape=(len(found), len(known)))
