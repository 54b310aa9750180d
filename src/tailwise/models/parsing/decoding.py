"""The best dependency tree under arc scores: every word has one head, one word hangs on the root, no cycle.

    mst      any tree: Chu and Liu 1965, Edmonds 1967; as a parser: McDonald et al., HLT-EMNLP 2005
    eisner   trees without crossing arcs: Eisner, COLING 1996

Both are exact. With a single word on the root: Eisner's spans are built over the words alone and the root chooses its
word last; for the other one, arcs from the root are made so expensive that the best tree has as few as it can, one
(Zmigrod et al., Please Mind the Root, EMNLP 2020, on this constraint).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np

from tailwise.errors import SettingError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Algorithm", "decode", "eisner", "is_projective", "is_tree", "maximum_spanning_tree"]

Algorithm = Literal["mst", "eisner"]


def decode(scores: ArrayLike, algorithm: Algorithm = "mst") -> NDArray[np.int64]:
    """Heads of the best single-root tree.

    Args:
        scores: of the arc from head h to word d at ``[d, h]``, ``(n, n + 1)``; column 0 is the root, column h word h.
        algorithm: ``"mst"`` or ``"eisner"``.

    Returns:
        The head of every word, 1-based, 0 for the root, ``(n,)``.

    Raises:
        SettingError: another shape, a score that is not finite, or an unknown algorithm.
    """
    matrix = np.asarray(scores, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[1] != matrix.shape[0] + 1:
        raise SettingError(f"Expected arc scores (n, n + 1), one row per word, but got shape {matrix.shape}.")
    if algorithm not in get_args(Algorithm):
        raise SettingError(f"Expected `algorithm` to be 'mst' or 'eisner', but got {algorithm!r}.")
    if not np.isfinite(matrix).all():
        raise SettingError("Expected finite arc scores; forbid an arc by a large negative number.")
    return maximum_spanning_tree(matrix) if algorithm == "mst" else eisner(matrix)


def maximum_spanning_tree(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Heads ``(n,)`` of the best single-root tree under finite scores ``(n, n + 1)``, crossing arcs allowed."""
    size = scores.shape[0]
    if size == 0:
        return np.zeros(0, dtype=np.int64)
    graph = np.full((size + 1, size + 1), -np.inf)
    graph[1:] = scores
    np.fill_diagonal(graph, -np.inf)
    heads = _arborescence(graph)
    if np.count_nonzero(heads[1:] == 0) > 1:
        span = float(scores.max() - scores.min())
        graph[1:, 0] -= size * span + 1.0  # more than any other choice of arcs can make up for
        heads = _arborescence(graph)
    return heads[1:]


class _Contraction(NamedTuple):
    """A cycle that became one node.

    Attributes:
        kept: nodes outside the cycle, in the order of the smaller graph; the cycle is its last node.
        cycle: nodes of the cycle.
        heads: their heads within the cycle.
        enters: for every kept node as head, the node of the cycle that its arc into the cycle goes to.
        leaves: for every kept node as dependent, the node of the cycle that its arc from the cycle comes from.
    """

    kept: NDArray[np.int64]
    cycle: NDArray[np.int64]
    heads: NDArray[np.int64]
    enters: NDArray[np.int64]
    leaves: NDArray[np.int64]


def _arborescence(graph: NDArray[np.float64]) -> NDArray[np.int64]:
    """Heads ``(m,)`` of the best tree from node 0 under scores ``(m, m)`` of ``[dependent, head]``; entry 0 is 0."""
    contractions: list[_Contraction] = []
    while True:
        heads: NDArray[np.int64] = graph.argmax(axis=1)
        heads[0] = 0
        cycle = _cycle(heads)
        if cycle is None:
            break
        contraction, graph = _contracted(graph, heads, cycle)
        contractions.append(contraction)
    for contraction in reversed(contractions):
        heads = _expanded(contraction, heads)
    return heads


def _cycle(heads: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """The nodes of a cycle in their order, or None where every node leads to node 0."""
    state = [0] * len(heads)  # 0 not seen, otherwise the walk that saw the node
    state[0] = -1
    following = heads.tolist()
    for start in range(1, len(state)):
        node, walk = start, []
        while state[node] == 0:
            state[node] = start
            walk.append(node)
            node = following[node]
        if state[node] == start:
            return np.asarray(walk[walk.index(node) :], dtype=np.int64)
    return None


def _contracted(
    graph: NDArray[np.float64], heads: NDArray[np.int64], cycle: NDArray[np.int64]
) -> tuple[_Contraction, NDArray[np.float64]]:
    inside = np.zeros(len(heads), dtype=bool)
    inside[cycle] = True
    kept = np.flatnonzero(~inside)
    size = len(kept)
    # An arc into the cycle takes the place of the arc that its end has within the cycle.
    entering = graph[np.ix_(cycle, kept)] - graph[cycle, heads[cycle]][:, None]
    leaving = graph[np.ix_(kept, cycle)]
    smaller = np.full((size + 1, size + 1), -np.inf)
    smaller[:size, :size] = graph[np.ix_(kept, kept)]
    smaller[size, :size] = entering.max(axis=0)
    smaller[:size, size] = leaving.max(axis=1)
    enters, leaves = cycle[entering.argmax(axis=0)], cycle[leaving.argmax(axis=1)]
    return _Contraction(kept, cycle, heads[cycle], enters, leaves), smaller


def _expanded(contraction: _Contraction, smaller: NDArray[np.int64]) -> NDArray[np.int64]:
    kept, cycle = contraction.kept, contraction.cycle
    size = len(kept)
    heads = np.zeros(size + len(cycle), dtype=np.int64)
    heads[cycle] = contraction.heads
    entry = smaller[size]
    heads[contraction.enters[entry]] = kept[entry]
    of_kept = smaller[:size]
    heads[kept] = np.where(of_kept == size, contraction.leaves, kept[np.minimum(of_kept, size - 1)])
    heads[0] = 0
    return heads


def eisner(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Heads ``(n,)`` of the best single-root tree without crossing arcs, under finite scores ``(n, n + 1)``.

    Spans of one width are computed together; time O(n^3), memory O(n^2).
    """
    size = scores.shape[0]
    if size == 0:
        return np.zeros(0, dtype=np.int64)
    chart = _fill(scores[:, 1:])
    top = int((chart.left[0] + chart.right[:, size - 1] + scores[:, 0]).argmax())
    return _read_heads(chart, top)


class _Chart(NamedTuple):
    """Best complete half trees over words i..j, all ``(n, n)`` at ``[i, j]``.

    Attributes:
        right: score of the one with head i.
        left: score of the one with head j.
        right_end: its dependent farthest from i, with which it goes on.
        left_end: likewise for j.
        split: last word that belongs to i in the tree in which an arc joins i and j.
    """

    right: NDArray[np.float64]
    left: NDArray[np.float64]
    right_end: NDArray[np.int64]
    left_end: NDArray[np.int64]
    split: NDArray[np.int64]


def _fill(arcs: NDArray[np.float64]) -> _Chart:
    """The chart of arc scores among words, ``(n, n)`` of ``[dependent, head]``."""
    size = arcs.shape[0]
    right, left = np.zeros((size, size)), np.zeros((size, size))
    right_end, left_end, split = (np.zeros((size, size), dtype=np.int64) for _ in range(3))
    chart = _Chart(right, left, right_end, left_end, split)
    joined_right, joined_left = np.zeros((size, size)), np.zeros((size, size))
    for width in range(1, size):
        i = np.arange(size - width)
        j = i + width
        start, end = i[:, None], j[:, None]
        inner = start + np.arange(width)
        meeting = right[start, inner] + left[inner + 1, end]
        split[i, j] = meeting.argmax(axis=1) + i
        best = meeting.max(axis=1)
        joined_right[i, j] = best + arcs[j, i]
        joined_left[i, j] = best + arcs[i, j]
        rightwards = joined_right[start, inner + 1] + right[inner + 1, end]
        right[i, j], right_end[i, j] = rightwards.max(axis=1), rightwards.argmax(axis=1) + i + 1
        leftwards = left[start, inner] + joined_left[inner, end]
        left[i, j], left_end[i, j] = leftwards.max(axis=1), leftwards.argmax(axis=1) + i
    return chart


def _read_heads(chart: _Chart, top: int) -> NDArray[np.int64]:
    """Heads ``(n,)`` of the best tree of a chart whose only word on the root is `top`."""
    size = len(chart.split)
    heads = np.zeros(size, dtype=np.int64)
    pending: list[tuple[int, int, bool]] = [(0, top, False), (top, size - 1, True)]
    while pending:
        first, last, head_is_first = pending.pop()
        if first == last:
            continue
        if head_is_first:
            end = int(chart.right_end[first, last])
            heads[end] = first + 1
            pending.append((end, last, True))
            last = end
        else:
            end = int(chart.left_end[first, last])
            heads[end] = last + 1
            pending.append((first, end, False))
            first = end
        middle = int(chart.split[first, last])
        pending += [(first, middle, True), (middle + 1, last, False)]
    return heads


def is_tree(heads: ArrayLike) -> bool:
    """Whether heads ``(n,)``, 1-based with 0 for the root, are a tree with a single word on the root."""
    array = np.asarray(heads)
    if array.size == 0:
        return True
    if array.min() < 0 or array.max() > array.size or np.count_nonzero(array == 0) != 1:
        return False
    return _cycle(np.concatenate([np.zeros(1, dtype=np.int64), array])) is None


def is_projective(heads: ArrayLike) -> bool:
    """Whether no two arcs between words cross; the arc from the root, left of all words, counts too."""
    array = np.asarray(heads)
    words = np.arange(1, array.size + 1)
    low, high = np.minimum(array, words), np.maximum(array, words)
    starts_inside = (low[:, None] < low) & (low < high[:, None])
    return not bool((starts_inside & (high > high[:, None])).any())
