"""What the terms of two texts say together.

    [u, v, u * v, |u - v|, o]

for TF-IDF rows u and v in one vocabulary: either text, the terms that both hold, those that tell them apart, and one of
eleven columns for their cosine (none in common, below .1, below .2, ...). The comparisons of Conneau et al., Supervised
Learning of Universal Sentence Representations from Natural Language Inference Data, EMNLP 2017, on sparse rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

__all__ = ["PARTS", "pair_rows", "pair_width"]

#: blocks of columns, all of them of the same length
PARTS: Final = 5
#: where the cosine of one column ends and that of the next begins; sums of float32 may miss 0 by rounding
_EDGES: Final = (1e-6, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def pair_width(terms: int) -> int:
    """Columns of a pair over a vocabulary of some terms."""
    return 4 * terms + len(_EDGES) + 1


def pair_rows(first: csr_matrix, second: csr_matrix, length: float) -> csr_matrix:
    """Compare the texts of N pairs.

    Args:
        first: TF-IDF of the first texts, ``(N, F)``, rows of the given length or zero.
        second: the same of the second texts.
        length: length of the rows of every part.

    Returns:
        ``(N, 4F + 11)``.
    """
    from scipy.sparse import csr_matrix, hstack

    product: csr_matrix = first.multiply(second).tocsr()
    cosine = np.asarray(product.sum(axis=1)).ravel() / length**2
    place = np.digitize(cosine, _EDGES)
    ones, starts = np.full(len(place), length, dtype=np.float32), np.arange(len(place) + 1)
    overlap = csr_matrix((ones, place, starts), shape=(len(place), len(_EDGES) + 1))
    parts = [first, second, _of_length(product, length), _of_length(abs(first - second), length), overlap]
    joined: csr_matrix = hstack(parts, format="csr")
    return joined


def _of_length(rows: csr_matrix, length: float) -> csr_matrix:
    """The rows brought to a length, those of zeros left."""
    from sklearn.preprocessing import normalize

    rows.eliminate_zeros()
    rows.sort_indices()
    if rows.nnz:
        rows = normalize(rows, copy=False)
    rows.data *= np.float32(length)
    return rows
