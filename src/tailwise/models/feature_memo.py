"""Features of the splits of a corpus, found once per process.

A comparison asks for the same features with every batch of trainings and every model that is scored. Finding them again
means reading the texts, hashing them, opening the file, and for pairs and relations composing the rows. Here the result
is kept beside the corpus as long as the corpus lives:

- a matrix on disk stays memory-mapped, which costs no memory; where its file is gone, it is found anew;
- a matrix in memory is kept only while all of them together take at most `_MOST_BYTES`; the least recently used goes.

A corpus never changes, and the key holds everything of the encoder that decides features, so nothing can be stale.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, MutableMapping

    from numpy.typing import NDArray

    from tailwise.data.corpus import Corpus, SplitName
    from tailwise.models.encoder import Encoder
    from tailwise.models.feature_cache import FeatureCache

__all__ = ["forget_features", "remembered_features"]

#: matrices in memory together, over all corpora
_MOST_BYTES = 512 * 2**20

_kept: MutableMapping[Corpus, OrderedDict[Hashable, NDArray[Any]]] = WeakKeyDictionary()


def remembered_features(
    encoder: Encoder, corpus: Corpus, split: SplitName, cache: FeatureCache, make: Callable[[], NDArray[Any]]
) -> NDArray[Any]:
    """What `make` gives for a split, read-only; made once per corpus, split, encoder and cache.

    Args:
        encoder: the encoder.
        corpus: the data.
        split: the split.
        cache: where `make` keeps features.
        make: finds or computes the features ``(M, W)``.
    """
    settings = (encoder.fingerprint, encoder.pooling, encoder.max_length, str(encoder.dtype))
    key = (split, *settings, cache.root, cache.max_bytes > 0)
    matrices = _kept.setdefault(corpus, OrderedDict())
    found = matrices.get(key)
    if found is not None and _still_there(found):
        matrices.move_to_end(key)
        return found
    matrices.pop(key, None)
    made = make()
    made.flags.writeable = False
    if _bytes_in_memory(made) <= _MOST_BYTES:
        matrices[key] = made
        _make_room(made)
    return made


def forget_features() -> None:
    """Let go of everything kept in memory; what is on disk stays."""
    _kept.clear()


def _still_there(matrix: NDArray[Any]) -> bool:
    """Whether the file of a matrix, if it has one, still exists; marks it as used."""
    if not isinstance(matrix, np.memmap):
        return True
    try:
        os.utime(str(matrix.filename))
    except OSError:
        return False
    return True


def _bytes_in_memory(matrix: NDArray[Any]) -> int:
    return 0 if isinstance(matrix, np.memmap) else matrix.nbytes


def _make_room(newest: NDArray[Any]) -> None:
    total = sum(_bytes_in_memory(matrix) for _, _, matrix in _entries())
    for matrices, key, matrix in list(_entries()):
        if total <= _MOST_BYTES:
            return
        if matrix is not newest and _bytes_in_memory(matrix):
            total -= matrices.pop(key).nbytes


def _entries() -> Iterator[tuple[OrderedDict[Hashable, NDArray[Any]], Hashable, NDArray[Any]]]:
    """Every matrix, the least recently used of each corpus first."""
    for matrices in list(_kept.values()):
        for key, matrix in matrices.items():
            yield matrices, key, matrix
