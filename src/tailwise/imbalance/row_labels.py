"""All that is said about one row, as one value: its class, its set of labels, its tags, or its heads and relations."""

from __future__ import annotations

from hashlib import blake2b
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from tailwise.evaluation.spans import has_spans, span_types, spans

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tailwise.data.corpus import Corpus, SplitName

__all__ = ["RowLabels"]


class RowLabels:
    """The labels of the rows of a split.

    Attributes:
        values: equal where the labels of two rows are equal, ``(N,)``: the class index where a row has one class, else
            a 64-bit hash.
    """

    def __init__(self, corpus: Corpus, split: SplitName) -> None:
        self._names = corpus.label_space.all_names
        self._heads: NDArray[np.int64] | None = None
        structure = corpus.task.label_structure
        self._labels, self._offsets = _ragged(corpus, split)
        if structure == "arcs":
            self._heads = corpus.heads(split)
        self._structure = structure
        self.values = self._labels if structure == "single" else self._hashed()

    def _hashed(self) -> NDArray[np.int64]:
        parts = [self._labels] if self._heads is None else [self._labels, self._heads]
        bounds = self._offsets.tolist()
        digests = [
            blake2b(b"".join(part[start:stop].tobytes() for part in parts), digest_size=8).digest()
            for start, stop in pairwise(bounds)
        ]
        return np.frombuffer(b"".join(digests), dtype=np.int64)

    def name(self, row: int) -> str:
        """The labels of a row in words: names, spans as ``type[start:end]`` in tokens, arcs as ``relation(head)``."""
        chosen = slice(int(self._offsets[row]), int(self._offsets[row + 1]))
        labels = self._labels[chosen]
        names = [self._names[i] for i in labels.tolist()]
        if self._structure == "multi":
            return ", ".join(names) or "no label"
        if self._structure == "tags" and has_spans(self._names):
            types = span_types(self._names)
            found = spans(labels, np.array([0, len(labels)]), self._names)
            return " ".join(f"{types[s['type']]}[{s['start']}:{s['end']}]" for s in found) or "no span"
        if self._heads is not None:
            names = [f"{name}({head})" for name, head in zip(names, self._heads[chosen].tolist(), strict=True)]
        return " ".join(names)


def _ragged(corpus: Corpus, split: SplitName) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The labels of all rows in a row, and where those of every row start, ``(N + 1,)``."""
    if corpus.task.label_structure != "multi":
        return corpus.labels(split), corpus.offsets(split)
    matrix = corpus.label_matrix(split)
    return matrix.indices.astype(np.int64), matrix.indptr.astype(np.int64)
