"""What is imbalanced in a corpus, and how.

Survey sections 1 (how many examples a class needs), 2.1 (kinds of imbalance) and 2.2 (class overlap).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from tailwise.data.corpus import SPLITS
from tailwise.errors import DataError, SettingError
from tailwise.imbalance.catch_all import CatchAll, find_catch_all
from tailwise.imbalance.duplicates import (
    Conflicts,
    Duplicates,
    Leakage,
    SplitTexts,
    find_conflicts,
    find_duplicates,
    find_leakage,
)
from tailwise.imbalance.groups import FrequencyGroups, group_classes
from tailwise.imbalance.measures import ImbalanceMeasures, measure
from tailwise.imbalance.overlap import Overlap, class_overlap
from tailwise.imbalance.shape import Shape, classify_shape
from tailwise.imbalance.shift import ClassShift, class_shift
from tailwise.imbalance.spectra import spectral_similarity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from tailwise.data.corpus import Corpus, SplitName
    from tailwise.data.task import Task

__all__ = ["HARDLY_LEARNT_BELOW", "POORLY_LEARNT_BELOW", "Diagnosis", "diagnose"]

HARDLY_LEARNT_BELOW = 25
POORLY_LEARNT_BELOW = 100


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """The findings on one corpus.

    Attributes:
        name: name of the corpus.
        fingerprint: fingerprint of the corpus.
        task: input form and label structure.
        class_names: the C classes of training.
        unseen: classes that only validation or test have.
        counts: instances per class of each split, ``(C + unseen,)``.
        measures: imbalance of the training counts in numbers.
        shape: step, linear, long-tailed or balanced, with the fits.
        groups: head, medium and tail classes.
        catch_all: the catch-all candidate, or None.
        duplicates: repeated texts within train.
        conflicts: texts of train with several labels.
        leakage: texts that a later split shares with an earlier one.
        shifts: differences of the class distribution between splits.
        overlap: class overlap on the features of train, or None without features.
        spectral_similarity: how far rare classes look like shifted copies of frequent ones, in [0, 1]; None without
            features or without such classes.
    """

    name: str
    fingerprint: str
    task: Task
    class_names: tuple[str, ...]
    unseen: tuple[str, ...]
    counts: Mapping[SplitName, NDArray[np.int64]]
    measures: ImbalanceMeasures
    shape: Shape
    groups: FrequencyGroups
    catch_all: CatchAll | None
    duplicates: Duplicates
    conflicts: Conflicts
    leakage: tuple[Leakage, ...]
    shifts: tuple[ClassShift, ...]
    overlap: Overlap | None
    spectral_similarity: float | None

    @property
    def num_classes(self) -> int:
        """C, the classes of training."""
        return len(self.class_names)

    @property
    def train_counts(self) -> NDArray[np.int64]:
        """Training instances per class, ``(C,)``."""
        return self.counts["train"][: self.num_classes]

    def classes_below(self, examples: int) -> tuple[str, ...]:
        """Classes with fewer training examples than that, rarest first."""
        counts = self.train_counts
        order = np.argsort(counts, kind="stable")
        return tuple(self.class_names[i] for i in order if counts[i] < examples)

    @property
    def hardly_learnt(self) -> tuple[str, ...]:
        """Classes under 25 training examples, which transformers hardly predict at all (survey section 1)."""
        return self.classes_below(HARDLY_LEARNT_BELOW)

    @property
    def poorly_learnt(self) -> tuple[str, ...]:
        """Classes under 100 training examples, the hardly learnt ones included: learnt poorly (survey section 1)."""
        return self.classes_below(POORLY_LEARNT_BELOW)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "task": self.task.to_dict(),
            "num_rows": {split: int(counts.sum()) for split, counts in self.counts.items()},
            "classes": self._class_rows(),
            "measures": self.measures.to_dict(),
            "shape": self.shape.to_dict(),
            "groups": self.groups.to_dict(self.class_names, self.train_counts),
            "catch_all": self.catch_all.to_dict() if self.catch_all else None,
            "hardly_learnt": {"below": HARDLY_LEARNT_BELOW, "classes": list(self.hardly_learnt)},
            "poorly_learnt": {"below": POORLY_LEARNT_BELOW, "classes": list(self.poorly_learnt)},
            "duplicates": self.duplicates.to_dict(),
            "conflicts": self.conflicts.to_dict(),
            "leakage": [leakage.to_dict() for leakage in self.leakage],
            "shifts": [shift.to_dict() for shift in self.shifts],
            "overlap": self.overlap.to_dict(self.class_names) if self.overlap else None,
            "spectral_similarity": self.spectral_similarity,
        }

    def _class_rows(self) -> list[dict[str, Any]]:
        groups: list[str | None] = [*self.groups.names.tolist(), *([None] * len(self.unseen))]
        return [
            {"name": name, "group": groups[i], **{split: int(counts[i]) for split, counts in self.counts.items()}}
            for i, name in enumerate(self.class_names + self.unseen)
        ]


def diagnose(corpus: Corpus, *, features: Mapping[SplitName, NDArray[Any]] | None = None) -> Diagnosis:
    """Find out what is imbalanced in a corpus, and how.

    Texts are read in batches and kept as hashes, so that memory grows by a few dozen bytes per row.

    Args:
        corpus: the corpus.
        features: encoder features per split, ``(N, D)``; with those of train, class overlap is measured as well.

    Raises:
        DataError: train is empty.
        SettingError: features that do not match the corpus.
    """
    space = corpus.label_space
    if corpus.num_rows("train") == 0:
        raise DataError(f"The train split of {corpus.name!r} is empty; there is nothing to diagnose.")
    if features is not None and "train" not in features:
        raise SettingError(
            f"Expected `features` of the train split, but got those of: {', '.join(features) or 'none'}."
        )
    counts = {split: np.bincount(corpus.labels(split), minlength=len(space.all_names)) for split in SPLITS}
    train = np.asarray(counts["train"][: len(space)])
    texts = {split: SplitTexts(corpus, split) for split in SPLITS}
    filled = [split for split in SPLITS if counts[split].sum() > 0]
    labels = texts["train"].labels
    return Diagnosis(
        name=corpus.name,
        fingerprint=corpus.fingerprint,
        task=corpus.task,
        class_names=space.names,
        unseen=space.unseen,
        counts=counts,
        measures=measure(train),
        shape=classify_shape(train),
        groups=group_classes(train),
        catch_all=find_catch_all(space.names, train, space.catch_all),
        duplicates=find_duplicates(texts["train"]),
        conflicts=find_conflicts(texts["train"]),
        leakage=tuple(find_leakage(texts[a], texts[b]) for a, b in combinations(filled, 2)),
        shifts=tuple(class_shift((a, counts[a]), (b, counts[b]), space.all_names) for a, b in combinations(filled, 2)),
        overlap=class_overlap(features["train"], labels, space.names) if features is not None else None,
        spectral_similarity=spectral_similarity(features["train"], labels, train) if features is not None else None,
    )
