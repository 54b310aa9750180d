"""The official macro-F1 of relation classification: over relation types, direction-aware, without the catch-all class.

Class names may carry a direction, ``Cause-Effect(e1,e2)`` and ``Cause-Effect(e2,e1)``. For every type, both directions
together,

    P = right with direction / predicted as the type,   R = right with direction / gold of the type,   F1 of the two,

so the right type in the wrong direction is a false positive and a false negative of that type. The mean runs over the
types; the catch-all class (``Other``, ``negative``) is no type. Hendrickx et al., SemEval-2010 Task 8: the
official score, (9+1)-way with directions. For names without directions it is macro-F1 without the catch-all class.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_matrix

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tailwise.data.labels import LabelSpace

__all__ = ["has_directions", "relation_sums", "relation_type"]

_DIRECTION = re.compile(r"\(\s*(?:e1\s*,\s*e2|e2\s*,\s*e1)\s*\)$")


def relation_type(name: str) -> str:
    """The name of a class without its direction."""
    return _DIRECTION.sub("", name)


def has_directions(space: LabelSpace) -> bool:
    """Whether any class name carries a direction."""
    return any(_DIRECTION.search(name) for name in space.all_names)


def relation_sums(gold: NDArray[np.int64], predicted: NDArray[np.int64], space: LabelSpace) -> csr_matrix:
    """What every instance adds to the right, gold and predicted counts of every type, ``(N, 3 R)``.

    Args:
        gold: class indices, ``(N,)``.
        predicted: class indices, ``(N,)``.
        space: names and the catch-all class.
    """
    names = [None if name == space.catch_all else relation_type(name) for name in space.all_names]
    types = sorted({name for name in names if name is not None})
    place = {name: j for j, name in enumerate(types)}
    type_of = np.array([-1 if name is None else place[name] for name in names], dtype=np.int64)
    right = np.where(gold == predicted, type_of[gold], -1)
    rows, columns = [], []
    for block, found in enumerate((right, type_of[gold], type_of[predicted])):
        chosen = np.flatnonzero(found >= 0)
        rows.append(chosen)
        columns.append(found[chosen] + block * len(types))
    where = (np.concatenate(rows), np.concatenate(columns))
    return csr_matrix((np.ones(len(where[0])), where), shape=(len(gold), 3 * len(types)))
