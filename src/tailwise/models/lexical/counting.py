"""How inputs become terms, and how many of each an input holds.

    words        words and signs of a text, n of them in a row
    characters   n characters in a row within the words of a text, blanks at its ends counted as characters
    strings      what the input is described by: a list of strings, as they are

Texts are lowercased and brought to Unicode normal form C first. A word is a run of letters, digits and marks in any
script; each Han character, written without blanks, is a word of its own, as in the tokenizer of BERT. scikit-learn
counts. The n-grams of characters of a text are those of its words, so that those of every word are taken once:

    counts of n-grams (N, G) = counts of words (N, W) x n-grams of each word (W, G)
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import CountVectorizer

__all__ = ["Analysis", "TermKind", "normalised"]

TermKind = Literal["words", "characters", "strings"]

#: texts whose n-grams are counted at a time
_ROWS = 4096
_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"


def normalised(text: str, *, lowercase: bool = True) -> str:
    """A text in Unicode normal form C, lowercased where that is asked for."""
    return unicodedata.normalize("NFC", text.lower() if lowercase else text)


@cache
def word_pattern() -> str:
    r"""The regular expression of a word or sign: a Han character, a run of letters, digits and marks, or another sign.

    Python's ``\w`` leaves marks out, and with them the vowels of Hindi or Tamil.
    """
    codes = range(0x300, 0x20000)
    marks = (list(run) for mark, run in groupby(codes, lambda c: unicodedata.category(chr(c))[0] == "M") if mark)
    inner = "".join(f"{chr(run[0])}-{chr(run[-1])}" for run in marks)
    letter = rf"[^\W{_HAN}]"
    return rf"[{_HAN}]|{letter}+(?:[{inner}]+{letter}*)*|[^\w\s]"


@dataclass(frozen=True)
class Analysis:
    """What counts as a term.

    Attributes:
        kind: see the top of this file.
        ngrams: least and greatest number of words or characters in a row.
        lowercase: whether texts are lowercased.
    """

    kind: TermKind
    ngrams: tuple[int, int] = (1, 1)
    lowercase: bool = True

    def frequencies(self, items: Sequence[Any]) -> tuple[list[str], NDArray[np.int64]]:
        """All terms of some inputs, sorted, and the number of inputs that hold each, both ``(F,)``."""
        if self.kind != "characters":
            terms, counts = _counted(self._vectorizer(), items)
            return terms, np.asarray(counts.getnnz(axis=0), dtype=np.int64)
        words, texts = _counted(self._splitter(), items)
        terms, spelling = _counted(self._speller(), words)
        frequencies = np.zeros(len(terms), dtype=np.int64)
        for rows in _slices(len(items)):
            frequencies += (texts[rows] @ spelling).getnnz(axis=0)
        return terms, frequencies

    def counts(self, items: Sequence[Any], vocabulary: Mapping[str, int]) -> csr_matrix:
        """How often each input holds each term of a vocabulary, ``(N, F)`` float32, columns of a row in order."""
        if not vocabulary or not items:
            return _zeros(len(items), len(vocabulary))
        if self.kind != "characters":
            counts: csr_matrix = self._vectorizer(vocabulary).transform(items)
            return counts
        words, texts = _counted(self._splitter(), items)
        counts = texts @ self._speller(vocabulary).transform(words)
        counts.sort_indices()
        return counts

    def _vectorizer(self, vocabulary: Mapping[str, int] | None = None) -> CountVectorizer:
        """A counter of words or strings."""
        from sklearn.feature_extraction.text import CountVectorizer

        if self.kind == "strings":
            return CountVectorizer(analyzer=_as_they_are, vocabulary=vocabulary, dtype=np.float32)
        return CountVectorizer(
            preprocessor=self._normalised,
            token_pattern=word_pattern(),
            ngram_range=self.ngrams,
            vocabulary=vocabulary,
            dtype=np.float32,
        )

    def _splitter(self) -> CountVectorizer:
        """A counter of what stands between blanks."""
        from sklearn.feature_extraction.text import CountVectorizer

        return CountVectorizer(analyzer=lambda text: self._normalised(text).split(), dtype=np.float32)

    def _speller(self, vocabulary: Mapping[str, int] | None = None) -> CountVectorizer:
        """A counter of the n-grams of single words."""
        from sklearn.feature_extraction.text import CountVectorizer

        return CountVectorizer(
            analyzer="char_wb", preprocessor=str, ngram_range=self.ngrams, vocabulary=vocabulary, dtype=np.float32
        )

    def _normalised(self, text: str) -> str:
        return normalised(text, lowercase=self.lowercase)


def _as_they_are(strings: Sequence[str]) -> Sequence[str]:
    return strings


def _counted(vectorizer: CountVectorizer, items: Sequence[Any]) -> tuple[list[str], csr_matrix]:
    """The terms of some inputs, sorted, and their counts; scikit-learn refuses inputs without any."""
    analyse = vectorizer.build_analyzer()
    if not any(analyse(item) for item in items):
        return [], _zeros(len(items), 0)
    counts = vectorizer.fit_transform(items)
    return vectorizer.get_feature_names_out().tolist(), counts


def _zeros(rows: int, columns: int) -> csr_matrix:
    from scipy.sparse import csr_matrix

    data, indices, indptr = np.zeros(0, np.float32), np.zeros(0, np.int32), np.zeros(rows + 1, np.int32)
    return csr_matrix((data, indices, indptr), shape=(rows, columns))


def _slices(size: int) -> Iterator[slice]:
    return (slice(start, start + _ROWS) for start in range(0, size, _ROWS))
