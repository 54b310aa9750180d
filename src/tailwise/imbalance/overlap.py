"""Class overlap on features: do the nearest neighbours of an example belong to its class?

With N_k(i) the k nearest neighbours of i by cosine, itself excluded:

    kDN(i)       share of N_k(i) with another label         Smith et al., Machine Learning 95, 2014
    purity_c     1 - mean of kDN(i) over class c
    ceiling_c    min(k, n_c - 1) / k, the purity that a class of n_c examples can reach at most
    N3           error of leave-one-out 1-NN                Ho and Basu, TPAMI 24, 2002
    types        by the number of foreign neighbours among the nearest five: safe 0-1, borderline 2-3, rare 4,
                 outlier 5                                  Napierala and Stefanowski, JIIS 46, 2016
    overlap-adjusted ratio of class c = (n_max / n_c) (1 + kDN_c)   [ours]

Imbalance alone is not difficulty: a rare class that keeps to itself is learnt from few examples. A rare class cannot be
purer than its ceiling, hence `relative_purity` = purity / ceiling. The neighbours come from scikit-learn. The features
belong to the measure: numbers of two encoders do not compare.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from sklearn.neighbors import NearestNeighbors

from tailwise.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["EXAMPLE_TYPES", "ConfusedPair", "ExampleType", "Overlap", "class_overlap", "stratified_sample"]

ExampleType = Literal["safe", "borderline", "rare", "outlier"]
EXAMPLE_TYPES: tuple[ExampleType, ...] = get_args(ExampleType)
MAX_ROWS = 20_000
_TYPE_NEIGHBOURS = 5
_PAIRS = 20
_PAIR_ROWS = 5


@dataclass(frozen=True)
class ConfusedPair:
    """A class whose neighbours belong to another class: share and number of neighbours."""

    first: str
    second: str
    share: float
    neighbours: int


@dataclass(frozen=True, eq=False)
class Overlap:
    """Class overlap of the training split.

    Attributes:
        neighbours: k.
        rows: examples that took part.
        total_rows: training examples; more than `rows` where a stratified sample was taken.
        sampled: examples per class that took part, ``(C,)``.
        purity: k-NN purity per class, ``(C,)``, NaN without an example.
        ceiling: the highest purity the class can reach with so many examples, ``(C,)``.
        n3_per_class: leave-one-out 1-NN error per class, ``(C,)``, NaN without an example.
        types: share of safe, borderline, rare and outlier examples per class, ``(C, 4)``, NaN without an example.
        mean_purity: mean over examples.
        macro_purity: mean over classes.
        n3: leave-one-out 1-NN error over examples.
        adjusted_ratio: mean over minority classes of the overlap-adjusted ratio; 1 where there are none.
        confused_pairs: the pairs of classes that mix most, the larger share first.
    """

    neighbours: int
    rows: int
    total_rows: int
    sampled: NDArray[np.int64]
    purity: NDArray[np.float64]
    ceiling: NDArray[np.float64]
    n3_per_class: NDArray[np.float64]
    types: NDArray[np.float64]
    mean_purity: float
    macro_purity: float
    n3: float
    adjusted_ratio: float
    confused_pairs: tuple[ConfusedPair, ...]

    @property
    def kdn(self) -> NDArray[np.float64]:
        """Mean share of foreign neighbours per class, 1 - purity, ``(C,)``."""
        return 1.0 - self.purity

    @property
    def relative_purity(self) -> NDArray[np.float64]:
        """Purity over its ceiling, ``(C,)``, NaN for classes with fewer than two examples."""
        return np.divide(self.purity, self.ceiling, out=np.full_like(self.purity, np.nan), where=self.ceiling > 0)

    def to_dict(self, class_names: Sequence[str]) -> dict[str, Any]:
        """Plain data for JSON; NaN becomes None."""
        per_class: dict[str, Sequence[float | None]] = {
            "examples": self.sampled.tolist(),
            "purity": _plain(self.purity),
            "ceiling": _plain(self.ceiling),
            "kdn": _plain(self.kdn),
            "n3": _plain(self.n3_per_class),
        }
        per_class |= {str(name): _plain(self.types[:, i]) for i, name in enumerate(EXAMPLE_TYPES)}
        scalars = ("neighbours", "rows", "total_rows", "mean_purity", "macro_purity", "n3", "adjusted_ratio")
        return {
            **{name: getattr(self, name) for name in scalars},
            "confused_pairs": [vars(pair) for pair in self.confused_pairs],
            "classes": [
                {"name": name, **{key: values[i] for key, values in per_class.items()}}
                for i, name in enumerate(class_names)
            ],
        }


def _plain(values: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]


def class_overlap(
    features: ArrayLike,
    labels: NDArray[np.int64],
    class_names: Sequence[str],
    *,
    neighbours: int = 10,
    max_rows: int = MAX_ROWS,
    seed: int = 13,
) -> Overlap:
    """Overlap of the classes among training examples.

    Args:
        features: ``(N, D)``; a memory map is read only where needed.
        labels: class indices, ``(N,)``.
        class_names: names by index, ``(C,)``.
        neighbours: k; at most N - 1 are used.
        max_rows: above this many rows a sample stratified by class takes their place (every class keeps at least one).
        seed: of that sample.

    Raises:
        SettingError: features and labels do not match, fewer than three rows, or a value that is not finite.
    """
    given, labels = np.asanyarray(features), np.asarray(labels, dtype=np.int64)
    if given.ndim != 2 or len(given) != len(labels):
        raise SettingError(
            f"Expected `features` to have one row per training example, {len(labels)}, but got shape {given.shape}."
        )
    if len(labels) < 3:
        raise SettingError(f"Class overlap needs at least three training examples, but got {len(labels)}.")
    total = len(labels)
    counts = np.bincount(labels, minlength=len(class_names))
    if total > max_rows:
        rows = stratified_sample(labels, max_rows, np.random.default_rng(seed))
        given, labels = given[rows], labels[rows]
    neighbours = min(neighbours, len(labels) - 1)
    nearest = labels[_nearest(_unit_rows(given), neighbours)]
    return _summarise(nearest, labels, counts, class_names)


def stratified_sample(labels: NDArray[np.int64], size: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """About `size` rows in ascending order, classes in proportion (rounded, at least one each), without replacement."""
    classes, counts = np.unique(labels, return_counts=True)
    quotas = np.maximum(1, np.floor(counts * (size / len(labels)) + 0.5)).astype(np.int64)
    chosen = [
        generator.choice(np.flatnonzero(labels == label), size=min(quota, count), replace=False)
        for label, quota, count in zip(classes, quotas.tolist(), counts.tolist(), strict=True)
    ]
    return np.sort(np.concatenate(chosen))


def _unit_rows(features: NDArray[Any]) -> NDArray[np.float32]:
    """Rows of length one, so that Euclidean order is cosine order; a zero row stays zero."""
    rows = np.array(features, dtype=np.float32)
    if not np.isfinite(rows).all():
        row = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
        raise SettingError(f"Expected finite features, but row {row} of train holds NaN or infinity.")
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, norms, out=rows, where=norms > 0))


def _nearest(rows: NDArray[np.float32], neighbours: int) -> NDArray[np.int64]:
    search = NearestNeighbors(n_neighbors=neighbours, algorithm="brute", metric="euclidean").fit(rows)
    return np.asarray(search.kneighbors(return_distance=False), dtype=np.int64)


def _summarise(
    nearest: NDArray[np.int64], labels: NDArray[np.int64], counts: NDArray[np.int64], class_names: Sequence[str]
) -> Overlap:
    """Statistics from the labels of the neighbours ``(N, k)`` and the own labels ``(N,)``."""
    number, k = len(class_names), nearest.shape[1]
    foreign = nearest != labels[:, None]
    sampled = np.bincount(labels, minlength=number)
    purity = 1.0 - _class_mean(foreign.mean(axis=1), labels, sampled)
    kinds = _example_types(foreign)
    types = np.stack([_class_mean(kinds == i, labels, sampled) for i in range(len(EXAMPLE_TYPES))], axis=1)
    minority = (counts > 0) & (counts * np.count_nonzero(counts) < counts.sum()) & (sampled > 0)
    adjusted = counts.max() / counts[minority] * (2.0 - purity[minority])
    return Overlap(
        neighbours=k,
        rows=len(labels),
        total_rows=int(counts.sum()),
        sampled=sampled,
        purity=purity,
        ceiling=np.clip(sampled - 1, 0, k) / k,
        n3_per_class=_class_mean(foreign[:, 0], labels, sampled),
        types=types,
        mean_purity=float(1.0 - foreign.mean()),
        macro_purity=float(np.nanmean(purity)),
        n3=float(foreign[:, 0].mean()),
        adjusted_ratio=float(adjusted.mean()) if minority.any() else 1.0,
        confused_pairs=_confused_pairs(nearest, labels, sampled, class_names),
    )


def _class_mean(values: NDArray[Any], labels: NDArray[np.int64], sampled: NDArray[np.int64]) -> NDArray[np.float64]:
    sums = np.bincount(labels, weights=values.astype(np.float64), minlength=len(sampled))
    return np.asarray(np.divide(sums, sampled, out=np.full(len(sampled), np.nan), where=sampled > 0))


def _example_types(foreign: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Index into `EXAMPLE_TYPES` per row; the cuts scale down where fewer than five neighbours exist."""
    used = min(_TYPE_NEIGHBOURS, foreign.shape[1])
    share = foreign[:, :used].mean(axis=1) * _TYPE_NEIGHBOURS
    return np.asarray(np.searchsorted([1.5, 3.5, 4.5], share), dtype=np.int64)


def _confused_pairs(
    nearest: NDArray[np.int64], labels: NDArray[np.int64], sampled: NDArray[np.int64], class_names: Sequence[str]
) -> tuple[ConfusedPair, ...]:
    """Directed pairs by the share of the neighbours of the first class that belong to the second.

    Classes with fewer than five examples say little and come into it only where no class has more.
    """
    number, k = len(class_names), nearest.shape[1]
    keys, links = np.unique(labels[:, None] * number + nearest, return_counts=True)
    first, second = keys // number, keys % number
    eligible = sampled >= min(_PAIR_ROWS, int(sampled.max()))
    keep = (first != second) & eligible[first]
    first, second, links = first[keep], second[keep], links[keep]
    share = links / (sampled[first] * k)
    best = np.lexsort((second, first, -links, -share))[:_PAIRS]
    return tuple(
        ConfusedPair(class_names[first[i]], class_names[second[i]], float(share[i]), int(links[i])) for i in best
    )
