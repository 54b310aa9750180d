"""Synthesis of imbalance: from a corpus, one whose training counts follow a profile.

Train is thinned without replacement to the wanted counts (see `tailwise.imbalance.layout`); validation and test stay as
they are unless asked otherwise. With one seed, class order and `n_max`, the rows of a larger rho are among those of a
smaller one, so that corpora of several ratios differ by the ratio and not by the luck of the draw; with `keep_total`
they cannot be. Which class becomes rare is drawn by the seed, since a fixed order mixes rarity with difficulty.

Buda et al., Neural Networks 106, 2018 (step, linear); Cui et al., CVPR 2019 (exponential). Survey section 2.1. Where
rows have several labels the counts cannot in general be met exactly: no label falls below its wanted count, and the
manifest says what was reached.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pyarrow as pa

from tailwise.data.corpus import SPLITS, Corpus, SplitName
from tailwise.data.identity import fingerprint_of
from tailwise.errors import SettingError
from tailwise.imbalance.layout import ClassOrder, Layout, class_order_of, lay_out, stated_counts
from tailwise.imbalance.manifest import manifest_of, split_manifest
from tailwise.imbalance.profiles import profile_named
from tailwise.imbalance.thinning import thin_classes, thin_label_sets, thin_label_sets_nested
from tailwise.registry import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from tailwise.sampling.label_matrix import LabelMatrix

__all__ = ["TestSplit", "ValidationSplit", "synthesize"]

ValidationSplit = Literal["natural", "same"]
TestSplit = Literal["natural", "balanced"]
_ROW_STREAM = 1


def synthesize(
    corpus: Corpus,
    shape: str = "step",
    *,
    rho: float = 10.0,
    mu: float | None = None,
    seed: int = 0,
    class_order: ClassOrder | Sequence[str] = "random",
    n_max: int | None = None,
    min_count: int = 1,
    keep_total: int | None = None,
    allow_clip: bool = False,
    counts: Mapping[str, int] | None = None,
    validation: ValidationSplit = "natural",
    test: TestSplit = "natural",
) -> Corpus:
    """A corpus whose training counts follow a profile; its manifest is ``corpus.source["synthesis"]``.

    Args:
        corpus: one class per row, or several labels per row; never changed.
        shape: ``"step"``, ``"linear"``, ``"exponential"`` (long-tailed) or ``"power"`` (Pareto).
        rho: largest over smallest count, at least 1.
        mu: share of minority classes, for step only; None: 0.4.
        seed: of the class order and of the rows that stay.
        class_order: which class gets which rank, the head first: ``"random"``, ``"frequency"``, ``"alphabetical"``, or
            the names of all classes.
        n_max: count of the largest class; None: the smallest class of the head, see `tailwise.imbalance.layout`.
        min_count: what no class goes below, at least 1.
        keep_total: wanted sum of all counts, instead of `n_max`.
        allow_clip: whether classes too small for the profile keep what they have, instead of an error.
        counts: wanted counts by class name instead of a profile; classes not named keep their rows.
        validation: ``"natural"``, or ``"same"``: every class is thinned to its share of train, but keeps one row.
        test: ``"natural"``, or ``"balanced"``: every class is thinned to the smallest one.

    Raises:
        SettingError: a parameter is out of its range, or the classes cannot give the profile; the message says what
            they can give.
    """
    _check(corpus, seed, validation, test)
    names = corpus.label_space.names
    splits = {split: _Split(corpus, split, seed) for split in SPLITS}
    available = splits["train"].counts[: len(names)]
    layout: Layout | None = None
    if counts is None:
        profile = profile_named(shape, rho, mu)
        order = class_order_of(class_order, available, names, seed)
        layout = lay_out(
            profile, available, order, names, n_max=n_max, min_count=min_count, keep_total=keep_total,
            allow_clip=allow_clip,
        )  # fmt: skip
    wanted = layout.wanted if layout is not None else stated_counts(counts or {}, available, names)
    thinned: dict[SplitName, _Cut] = {"train": splits["train"].thinned(available, wanted, layout)}
    if validation == "same":
        thinned["validation"] = splits["validation"].thinned(available, wanted, layout)
    if test == "balanced":
        thinned["test"] = splits["test"].balanced()
    parameters = {
        **({"shape": "counts"} if layout is None else {**layout.profile.to_dict(), "rho": float(rho)}),
        "seed": seed,
        "class_order": class_order if isinstance(class_order, str) else "given",
        "n_max": None if layout is None else layout.n_max,
        "min_count": min_count,
        "keep_total": keep_total,
        "allow_clip": allow_clip,
        "validation": validation,
        "test": test,
    }
    manifest = manifest_of(corpus, parameters, None if layout is None else [names[i] for i in layout.order])
    manifest["splits"] = {
        split: split_manifest(corpus, split, splits[split].matrix, cut.kept, cut.wanted)
        for split, cut in thinned.items()
    }
    return _corpus(corpus, splits["train"], thinned, manifest)


@dataclass(frozen=True, eq=False)
class _Cut:
    """The rows of a split that stay, and the counts wanted of it."""

    kept: NDArray[np.int64]
    wanted: NDArray[np.int64]


class _Split:
    """The labels of a split as a label matrix over all classes, those that train lacks last, ``(N, C + unseen)``."""

    def __init__(self, corpus: Corpus, split: SplitName, seed: int) -> None:
        from scipy.sparse import csr_array

        self.several = corpus.task.label_structure == "multi"
        self.seed = np.random.SeedSequence(seed, spawn_key=(_ROW_STREAM, SPLITS.index(split)))
        shape = (corpus.num_rows(split), len(corpus.label_space.all_names))
        if self.several:
            self.matrix: LabelMatrix = csr_array(corpus.label_matrix(split))
        else:
            classes = corpus.labels(split)
            self.matrix = csr_array((np.ones(shape[0]), classes, np.arange(shape[0] + 1)), shape=shape)
        self.counts = np.bincount(self.matrix.indices, minlength=shape[1]).astype(np.int64)

    def thinned(self, available: NDArray[np.int64], wanted: NDArray[np.int64], layout: Layout | None) -> _Cut:
        """Every class thinned as in train, from `available` to `wanted`; nested where the layout is."""
        numbers = self._in_proportion(available, wanted)
        if not self.several or layout is None or layout.n_max is None:
            return self._cut(numbers)
        kept = thin_label_sets_nested(
            self.matrix, lambda rho: self._in_proportion(available, layout.wanted_at(rho)), layout.profile.rho,
            layout.steepest, self.seed,
        )  # fmt: skip
        return _Cut(kept, numbers)

    def balanced(self) -> _Cut:
        """Every class thinned to the smallest one that has a row."""
        smallest = self.counts[self.counts > 0].min(initial=np.iinfo(np.int64).max)
        return self._cut(np.minimum(self.counts, smallest))

    def _cut(self, wanted: NDArray[np.int64]) -> _Cut:
        if self.several:
            return _Cut(thin_label_sets(self.matrix, wanted, self.seed), wanted)
        return _Cut(thin_classes(self.matrix.indices, wanted, self.seed), wanted)

    def _in_proportion(self, available: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
        """Counts in proportion to those of train, at least 1; a class that train lacks keeps its rows."""
        share = np.ones(self.counts.size)
        share[: wanted.size] = wanted / available
        return np.minimum(np.maximum(np.rint(self.counts * share), 1), self.counts).astype(np.int64)


def _check(corpus: Corpus, seed: int, validation: str, test: str) -> None:
    if corpus.task.by_token:
        raise SettingError(
            f"Expected a corpus with classes per instance, but the task of {corpus.name!r} is {corpus.task.name}, with "
            "one per token. Synthesis of these is not supported yet."
        )
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise SettingError(f"Expected `seed` to be an integer of at least 0, but got {seed!r}.")
    for name, value, known in (("validation", validation, ValidationSplit), ("test", test, TestSplit)):
        if value not in get_args(known):
            raise SettingError(f"Unknown `{name}` = {value!r}. {did_you_mean(str(value), get_args(known))}")


def _corpus(corpus: Corpus, train: _Split, thinned: Mapping[SplitName, _Cut], manifest: dict[str, Any]) -> Corpus:
    from datasets import Dataset

    tables: dict[SplitName, Any] = {split: corpus.splits[split].with_format("arrow")[:] for split in SPLITS}
    tables |= {split: tables[split].take(pa.array(cut.kept)) for split, cut in thinned.items()}
    space = corpus.label_space
    fingerprint = fingerprint_of(tables, space.all_names)
    kept = thinned["train"].kept
    counts = np.bincount(train.matrix[kept].indices, minlength=space.num_classes)[: space.num_classes]
    num_rows = None if space.num_rows is None else int(kept.size)
    return Corpus(
        name=f"{corpus.name}-{_suffix(manifest['parameters'])}"[:100],
        splits={split: Dataset(table, fingerprint=f"{fingerprint[:48]}-{split}") for split, table in tables.items()},
        task=corpus.task,
        label_space=replace(space, counts=counts, num_rows=num_rows),
        fingerprint=fingerprint,
        source={**corpus.source, "synthesis": {**manifest, "fingerprint": fingerprint}},
    )


def _suffix(parameters: Mapping[str, Any]) -> str:
    numbers = [f"{name}{parameters[name]:g}" for name in ("rho", "mu") if parameters.get(name) is not None]
    return "-".join([str(parameters["shape"]), *numbers, f"seed{parameters['seed']}"])
