"""Lexical features of whole splits, kept in memory while they are in use.

Every cell of a comparison scores the same splits; counting their words once is enough. The rows of the last few splits
are kept, keyed by what decides them: the fingerprints of features and corpus, and the split.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from tailwise.data.corpus import Corpus, SplitName
    from tailwise.models.lexical import LexicalFeatures

__all__ = ["split_lexical_rows"]

#: splits that are kept: those of two corpora
_KEPT = 6

_rows: OrderedDict[tuple[str, str, str], csr_matrix] = OrderedDict()
_lock = Lock()


def split_lexical_rows(features: LexicalFeatures, corpus: Corpus, split: SplitName) -> csr_matrix:
    """`LexicalFeatures.transform` of a split, ``(M, F)``; not to be changed, others see the same matrix."""
    key = (features.fingerprint, corpus.fingerprint, split)
    with _lock:
        found = _rows.get(key)
        if found is not None:
            _rows.move_to_end(key)
            return found
    rows = features.transform(corpus.inputs(split), corpus.text_pairs(split))
    with _lock:
        _rows[key] = rows
        while len(_rows) > _KEPT:
            _rows.popitem(last=False)
    return rows
