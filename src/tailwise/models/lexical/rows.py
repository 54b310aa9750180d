"""Lexical features of whole splits, kept in memory as long as their corpus lives.

Every cell of a comparison scores the same splits; counting their words once is enough. A corpus never changes, and the
fingerprint of the features decides the rest, so nothing can be stale.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from scipy.sparse import csr_matrix

    from tailwise.data.corpus import Corpus, SplitName
    from tailwise.models.lexical import LexicalFeatures

__all__ = ["split_lexical_rows"]

_kept: MutableMapping[Corpus, dict[tuple[str, SplitName], csr_matrix]] = WeakKeyDictionary()


def split_lexical_rows(features: LexicalFeatures, corpus: Corpus, split: SplitName) -> csr_matrix:
    """`LexicalFeatures.transform` of a split, ``(M, F)``; not to be changed, others see the same matrix."""
    rows = _kept.setdefault(corpus, {})
    key = (features.fingerprint, split)
    if key not in rows:
        rows[key] = features.transform(corpus.inputs(split), corpus.text_pairs(split))
    return rows[key]
