"""TF-IDF over one kind of terms.

    x_t = (1 + ln tf_t) (1 + ln((1 + N) / (1 + df_t))),   x / |x|_2

for the terms t of an input; N inputs were seen, df_t of them with t. Salton and Buckley, Term-weighting Approaches in
Automatic Text Retrieval, Information Processing and Management 24, 1988; smoothed and with the sublinear tf of
scikit-learn. An input without a known term is a row of zeros.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from tailwise.models.lexical.counting import Analysis

__all__ = ["LONGEST_TERM", "TfidfBlock"]

#: characters of a term; what is longer, an address or encoded data, is seen by its n-grams of characters alone
LONGEST_TERM = 200


@dataclass(frozen=True, eq=False)
class TfidfBlock:
    """A fitted TF-IDF.

    Attributes:
        analysis: what counts as a term.
        terms: the terms, F different strings, in the order of the columns.
        idf: the weight of each, ``(F,)`` float32.
        weight: length of every row that is not zero.
    """

    analysis: Analysis
    terms: tuple[str, ...]
    idf: NDArray[np.float32]
    weight: float = 1.0

    @classmethod
    def fit(
        cls, analysis: Analysis, items: Sequence[Any], *, min_df: int, max_terms: int, use_idf: bool, weight: float
    ) -> TfidfBlock:
        """Keep the terms that `min_df` inputs hold, at most `max_terms`: those of the most inputs (ties: the first).

        Args:
            analysis: what counts as a term.
            items: texts, or lists of strings, N in all.
            min_df: least number of inputs that hold a term.
            max_terms: greatest number of terms.
            use_idf: whether rare terms weigh more; else every term weighs 1.
            weight: length of the rows.
        """
        terms, frequencies = analysis.frequencies(items)
        usable = np.fromiter((_is_plain(term) for term in terms), dtype=bool, count=len(terms))
        kept = np.flatnonzero(usable & (frequencies >= min_df))
        kept = np.sort(kept[np.argsort(-frequencies[kept], kind="stable")][:max_terms])
        df = frequencies[kept]
        idf = np.log((1 + len(items)) / (1 + df)) + 1 if use_idf else np.ones(len(kept))
        return cls(analysis, tuple(terms[i] for i in kept), idf.astype(np.float32), weight)

    def transform(self, items: Sequence[Any]) -> csr_matrix:
        """TF-IDF of some inputs, ``(N, F)`` float32, every row of length `weight` or zero."""
        from sklearn.preprocessing import normalize

        rows = self.analysis.counts(items, self._vocabulary)
        np.log(rows.data, out=rows.data)
        rows.data += 1
        rows.data *= self.idf[rows.indices]
        if rows.nnz:
            rows = normalize(rows, copy=False)
        rows.data *= np.float32(self.weight)
        return rows

    @cached_property
    def _vocabulary(self) -> Mapping[str, int]:
        return {term: column for column, term in enumerate(self.terms)}

    def description(self) -> dict[str, Any]:
        """All but `idf` as plain data."""
        return {
            "kind": self.analysis.kind,
            "ngrams": list(self.analysis.ngrams),
            "lowercase": self.analysis.lowercase,
            "weight": self.weight,
            "terms": list(self.terms),
        }

    def digest(self) -> bytes:
        """What differs wherever `transform` may differ."""
        return json.dumps(self.description()).encode() + self.idf.astype("<f4").tobytes()


def _is_plain(term: str) -> bool:
    """Whether a term is short, and can be written as UTF-8."""
    if len(term) > LONGEST_TERM:
        return False
    try:
        term.encode()
    except UnicodeEncodeError:
        return False
    return True
