"""The corpus: train, validation and test of one data set, with its task and label space."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from tailwise.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datasets import Dataset
    from numpy.typing import NDArray

    from tailwise.data.labels import LabelSpace
    from tailwise.data.task import Task

__all__ = ["SPLITS", "Corpus", "SplitName"]

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)


@dataclass(frozen=True, eq=False)
class Corpus:
    """Three splits with the columns ``id`` (string), ``text``, ``text_pair`` (pairs only) and ``label`` (class index).

    Attributes:
        name: short name, fit for a folder.
        splits: `datasets.Dataset` per split name; train, validation and test are always there.
        task: input form and label structure.
        label_space: class names, training counts, catch-all class.
        fingerprint: sha256 over ids, texts and labels of all splits; equal data have equal fingerprints.
        source: where the data came from: path or package, revision, columns, how splits were made, licence where known.
    """

    name: str
    splits: Mapping[SplitName, Dataset]
    task: Task
    label_space: LabelSpace
    fingerprint: str
    source: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = [s for s in SPLITS if s not in self.splits]
        if missing:
            raise DataError(f"A corpus has the splits train, validation and test; missing: {', '.join(missing)}.")

    def num_rows(self, split: SplitName) -> int:
        """Instances in a split."""
        return int(self.splits[split].num_rows)

    def texts(self, split: SplitName) -> list[str]:
        """The texts of a split (the first of each pair)."""
        return list(self.splits[split]["text"])

    def text_pairs(self, split: SplitName) -> list[str] | None:
        """The second texts of a split, or None where the input is a single text."""
        return list(self.splits[split]["text_pair"]) if self.task.input_form == "pair" else None

    def ids(self, split: SplitName) -> list[str]:
        """Stable instance ids of a split, unique within the corpus."""
        return list(self.splits[split]["id"])

    def labels(self, split: SplitName) -> NDArray[np.int64]:
        """Class indices of a split, ``(N,)``."""
        column = self.splits[split].select_columns(["label"]).with_format("numpy")[:]["label"]
        return np.asarray(column, dtype=np.int64)
