"""What is imbalanced in a corpus, and how.

Survey sections 1 (how many examples a class needs), 2.1 (kinds of imbalance) and 2.2 (class overlap).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from tailwise.data.corpus import SPLITS
from tailwise.errors import DataError, SettingError
from tailwise.evaluation.spans import OUTSIDE
from tailwise.imbalance.catch_all import CatchAll, find_catch_all, outside_tag
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
from tailwise.imbalance.instances import SentenceMeasures, Unit, count_instances, measure_sentences
from tailwise.imbalance.label_profile import LabelProfile, profile_labels
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

__all__ = ["HARDLY_LEARNT_BELOW", "POORLY_LEARNT_BELOW", "Diagnosis", "diagnose", "has_overlap"]

HARDLY_LEARNT_BELOW = 25
POORLY_LEARNT_BELOW = 100


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """The findings on one corpus.

    Attributes:
        name: name of the corpus.
        fingerprint: fingerprint of the corpus.
        task: input form and label structure.
        unit: what an instance of a class is; see `tailwise.imbalance.instances`.
        num_rows: rows of each split: texts, pairs or sentences.
        class_names: the C classes of training: classes, labels, types of spans, tags or relations.
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
        labels: how labels are spread and come together, where rows may have several; else None.
        sentences: lengths, and what lies outside of spans, where tokens are labelled; else None.
    """

    name: str
    fingerprint: str
    task: Task
    unit: Unit
    num_rows: Mapping[SplitName, int]
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
    labels: LabelProfile | None = None
    sentences: SentenceMeasures | None = None

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
            "num_rows": dict(self.num_rows),
            "unit": self.unit,
            "num_instances": {split: int(counts.sum()) for split, counts in self.counts.items()},
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
            "labels": self.labels.to_dict() if self.labels else None,
            "sentences": self.sentences.to_dict() if self.sentences else None,
        }

    def _class_rows(self) -> list[dict[str, Any]]:
        groups: list[str | None] = [*self.groups.names.tolist(), *([None] * len(self.unseen))]
        rows: list[dict[str, Any]] = [
            {"name": name, "group": groups[i], **{split: int(counts[i]) for split, counts in self.counts.items()}}
            for i, name in enumerate(self.class_names + self.unseen)
        ]
        if self.labels is not None:
            for row, irlbl, scumble in zip(rows, self.labels.irlbl, self.labels.scumble, strict=False):
                row |= {"irlbl": float(irlbl), "scumble": float(scumble)}
        return rows


def has_overlap(task: Task) -> bool:
    """Whether class overlap can be measured: every row has one class and one feature vector."""
    return task.label_structure == "single"


def diagnose(corpus: Corpus, *, features: Mapping[SplitName, NDArray[Any]] | None = None) -> Diagnosis:
    """Find out what is imbalanced in a corpus, and how.

    What an instance of a class is depends on the task: a row, a row with the label, a span, a token. Texts are read in
    batches and kept as hashes, so that memory grows by a few dozen bytes per row.

    Args:
        corpus: the corpus.
        features: encoder features per split, ``(N, D)``; with those of train, class overlap is measured as well.

    Raises:
        DataError: train is empty, or none of its rows has a label or span.
        SettingError: features that do not match the corpus, or whose rows have more than one class.
    """
    space = corpus.label_space
    _check(corpus, features)
    found = count_instances(corpus)
    if found.counts["train"].sum() == 0:
        raise DataError(f"No row of the train split of {corpus.name!r} has a label; there is nothing to diagnose.")
    counts, names = found.counts, found.names + found.unseen
    train = np.asarray(counts["train"][: len(found.names)])
    texts = {split: SplitTexts(corpus, split) for split in SPLITS}
    filled = [split for split in SPLITS if counts[split].sum() > 0]
    nearest = None if features is None else (features["train"], corpus.labels("train"))
    return Diagnosis(
        name=corpus.name,
        fingerprint=corpus.fingerprint,
        task=corpus.task,
        unit=found.unit,
        num_rows={split: corpus.num_rows(split) for split in SPLITS},
        class_names=found.names,
        unseen=found.unseen,
        counts=counts,
        measures=measure(train),
        shape=classify_shape(train),
        groups=group_classes(train),
        catch_all=(
            outside_tag(OUTSIDE, (space.names, space.counts), train)
            if found.unit == "span"
            else find_catch_all(found.names, train, space.catch_all)
        ),
        duplicates=find_duplicates(texts["train"]),
        conflicts=find_conflicts(texts["train"]),
        leakage=tuple(find_leakage(texts[a], texts[b]) for a, b in combinations(filled, 2)),
        shifts=tuple(_shift((a, counts[a]), (b, counts[b]), names, found.unit) for a, b in combinations(filled, 2)),
        overlap=class_overlap(*nearest, found.names) if nearest is not None else None,
        spectral_similarity=spectral_similarity(*nearest, train) if nearest is not None else None,
        labels=profile_labels(corpus.label_matrix("train")[:, : len(space)]) if found.unit == "label" else None,
        sentences=measure_sentences(corpus) if corpus.task.by_token else None,
    )


def _check(corpus: Corpus, features: Mapping[SplitName, NDArray[Any]] | None) -> None:
    if corpus.num_rows("train") == 0:
        raise DataError(f"The train split of {corpus.name!r} is empty; there is nothing to diagnose.")
    if features is None:
        return
    if not has_overlap(corpus.task):
        raise SettingError(
            f"Class overlap needs one class per row, but {corpus.name!r} is a corpus for {corpus.task.name}. Leave "
            "`features` out."
        )
    if "train" not in features:
        raise SettingError(
            f"Expected `features` of the train split, but got those of: {', '.join(features) or 'none'}."
        )


def _shift(
    first: tuple[SplitName, NDArray[np.int64]],
    second: tuple[SplitName, NDArray[np.int64]],
    names: tuple[str, ...],
    unit: Unit,
) -> ClassShift:
    """The shift between two splits; no p-value where one row has several instances, which are not independent."""
    shift = class_shift(first, second, names)
    return shift if unit == "row" else replace(shift, p_value=None)
