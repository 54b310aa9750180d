"""Label names that are paths: ``sport/football`` stands below ``sport``, and what has the one has the other.

Training sets are completed with what stands above their labels. Scores become coherent in the same sense: no label
scores below one that stands under it,

    z_j <- max over j and all labels below j of z

the constraint of Giunchiglia and Lukasiewicz, Coherent Hierarchical Multi-Label Classification Networks, NeurIPS 2020,
applied to the scores of a trained model. Micro-F1 on completed sets is the hierarchical F1 of Kiritchenko et al., 2006.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_matrix

from tailwise.data.list_cells import flat, relisted
from tailwise.data.sentences import refuse_elements
from tailwise.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from tailwise.data.labels import LabelSpace
    from tailwise.data.rows import Rows
    from tailwise.data.task import Task

__all__ = ["check_mark", "coherent", "coherent_scores", "parents_of", "with_ancestors"]


def check_mark(mark: str | None, task: Task) -> None:
    """Refuse a mark that is none, or data whose rows have one label each.

    Raises:
        SettingError: says what was expected.
    """
    if mark is None:
        return
    if not mark.strip():
        raise SettingError(f"Expected `label_paths` to be a mark such as '/' or '::', but got {mark!r}.")
    if task.label_structure != "multi":
        raise SettingError(
            f"label_paths={mark!r} applies to data with several labels per row, since a row then has the labels above "
            f"its own as well; these data are for {task.name!r}. Load them with task='multilabel', or drop it."
        )


def with_ancestors(rows: Rows, mark: str, say: Callable[[str], None]) -> Rows:
    """The rows with every label that stands above one of theirs.

    Raises:
        DataError: a path with an empty part, such as ``/a`` or ``a//b``; names the row.
    """
    part = flat(rows, "labels")
    dictionary = part.values.dictionary_encode()
    names = dictionary.dictionary.to_pylist()
    codes = np.asarray(dictionary.indices, dtype=np.int64)
    hollow = np.array([not all(piece.strip() for piece in name.split(mark)) for name in names], dtype=bool)
    refuse_elements(
        rows, part, hollow[codes],
        lambda place: f"the label {names[codes[place]][:80]!r} has an empty part between {mark!r}. Name every part.",
    )  # fmt: skip
    above = [_with_above(name, mark) for name in names]
    known = sorted({name for path in above for name in path})
    index = {name: i for i, name in enumerate(known)}
    ends = np.cumsum([0, *map(len, above)])
    places = np.array([index[name] for path in above for name in path], dtype=np.int64)
    closure = csr_matrix((np.ones(places.size), places, ends), shape=(len(names), len(known)))
    own = csr_matrix((np.ones(codes.size), codes, np.cumsum([0, *part.lengths])), shape=(rows.num_rows, len(names)))
    whole = (own @ closure).tocsr()
    whole.sort_indices()
    lengths = np.diff(whole.indptr).astype(np.int64)
    added = int(lengths.sum() - part.lengths.sum())
    say(f"{rows.place}: {added:,} labels that stand above others were added (paths at {mark!r}).")
    return rows.with_column("labels", relisted(pa.array(known, pa.string()).take(pa.array(whole.indices)), lengths))


def parents_of(names: Sequence[str], mark: str) -> NDArray[np.int64]:
    """The place in `names` of the nearest label above each, -1 where there is none, ``(C,)``."""
    index = {name: i for i, name in enumerate(names)}
    nearest = (next((index[up] for up in _with_above(name, mark)[1:] if up in index), -1) for name in names)
    return np.fromiter(nearest, dtype=np.int64, count=len(names))


def coherent(scores: NDArray[Any], parents: NDArray[np.int64]) -> NDArray[Any]:
    """Scores ``(N, C)`` in which no label is below one that stands under it.

    Args:
        scores: one column per label; not changed.
        parents: from `parents_of`.
    """
    raised = np.array(scores)
    depth = np.zeros(parents.size, dtype=np.int64)
    above = parents
    while (above >= 0).any():
        depth += above >= 0
        above = np.where(above >= 0, parents[above], -1)
    for label in np.argsort(-depth, kind="stable"):  # from the leaves upwards
        if parents[label] >= 0:
            np.maximum(raised[:, parents[label]], raised[:, label], out=raised[:, parents[label]])
    return raised


def coherent_scores(scores: NDArray[Any], space: LabelSpace) -> NDArray[Any]:
    """`coherent` where the names of the labels ``(C,)`` are paths; else the scores as they are."""
    return scores if space.path_mark is None else coherent(scores, parents_of(space.names, space.path_mark))


def _with_above(name: str, mark: str) -> list[str]:
    """The name and all that stand above it, nearest first."""
    pieces = name.split(mark)
    return [mark.join(pieces[:end]) for end in range(len(pieces), 0, -1)]
