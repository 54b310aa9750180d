"""Scores of one model on one split, whatever the label structure.

Code that compares models asks a `ScoredSplit` for figures by name and never which kind it is. A unit is what the data
were sampled by: an instance, or a sentence where tokens are labelled. Each kind says what a unit adds to the counts of
every class; tables, summaries and intervals follow from that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from tailwise.errors import DataError, SettingError
from tailwise.evaluation.metrics import f1_per_class, macro_f1, precision_per_class, recall_per_class
from tailwise.evaluation.score_files import write_table
from tailwise.evaluation.unit_metrics import TAIL_METRIC, UNIT_METRICS, Sums, unknown_metric

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path
    from typing import Self

    import pyarrow as pa
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from tailwise.data.labels import LabelSpace
    from tailwise.data.task import LabelStructure
    from tailwise.evaluation.metrics import Counts
    from tailwise.evaluation.unit_counts import UnitCounts

__all__ = ["ScoredSplit", "check_finite", "check_ids", "rows_of_units"]


class ScoredSplit(ABC):
    """Scores of one model on one split.

    Attributes:
        structure: the label structure.
        has_probabilities: whether scores are probabilities of the reported classes, so that calibration is defined.
        ids: ids of the units, unique, N of them.
        label_space: the classes that figures are about, and their training counts.
    """

    structure: ClassVar[LabelStructure]
    has_probabilities: ClassVar[bool] = False

    ids: tuple[str, ...]
    label_space: LabelSpace

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def score_space(self) -> LabelSpace:
        """What the columns of the scores are; `label_space` unless figures are about something else (spans)."""
        return self.label_space

    @property
    @abstractmethod
    def unit_counts(self) -> UnitCounts:
        """What every unit adds to the counts of every class."""

    @abstractmethod
    def unit_part(self, name: str) -> csr_matrix:
        """What every unit adds to a further sum that a metric of `UNIT_METRICS` names, ``(N, k)``."""

    @abstractmethod
    def take(self, order: Sequence[int]) -> Self:
        """The same scores with their units in another order."""

    @abstractmethod
    def gold_differs(self, other: Self) -> NDArray[np.bool_]:
        """Which units have other gold labels than those of `other`, whose ids are the same, ``(N,)``."""

    @abstractmethod
    def to_table(self) -> pa.Table:
        """One row per unit, with the columns of `table_columns`."""

    @classmethod
    @abstractmethod
    def table_columns(cls, num_scores: int) -> dict[str, pa.DataType]:
        """Columns of a table of scores with `num_scores` columns of scores, and their types."""

    @classmethod
    @abstractmethod
    def from_table(cls, table: pa.Table, score_space: LabelSpace) -> Self:
        """The inverse of `to_table`.

        Raises:
            DataError: labels that the label space does not have, or scores that do not fit.
        """

    def figures(self) -> Mapping[str, Callable[[], float]]:
        """Figures that are no sums over units, by name: no intervals, and not for tuning."""
        return {}

    @cached_property
    def counts(self) -> Counts:
        """Per-class counts of the decisions."""
        return self.unit_counts.total()

    @cached_property
    def average_precision(self) -> NDArray[np.float64]:
        """Average precision per class, ``(C,)``; NaN for classes that the split lacks or that no score ranks."""
        return np.full(len(self.label_space), np.nan)

    @property
    def mean_average_precision(self) -> float:
        """Mean of the average precision over the classes of the split, NaN without any."""
        present = self.counts.present
        return float(self.average_precision[present].mean()) if present.any() else float("nan")

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names that `score` knows, beside ``tail_f1``."""
        return tuple(dict.fromkeys((*UNIT_METRICS[self.structure], *self.figures())))

    def score(self, metric: str, tail: NDArray[np.bool_] | None = None) -> float:
        """One figure of the split.

        Args:
            metric: one of `metrics`, or ``tail_f1``.
            tail: marks the tail classes, ``(C,)``; needed for ``tail_f1``.

        Raises:
            UnknownNameError: no such metric for this label structure.
            SettingError: ``tail_f1`` without `tail`.
        """
        figures, table = self.figures(), UNIT_METRICS[self.structure]
        if metric in figures:
            return figures[metric]()
        if metric == TAIL_METRIC:
            return float(macro_f1(self.counts, check_tail(tail, len(self.label_space))))
        if metric not in table:
            raise unknown_metric(metric, self.structure, self.metrics)
        return float(table[metric].value(self._sums(table[metric].parts)))

    def _sums(self, parts: Iterable[str]) -> Sums:
        found = {name: np.asarray(self.unit_part(name).sum(axis=0), dtype=np.float64).ravel() for name in parts}
        return Sums(self.counts, np.asarray(float(len(self))), found)

    def summary(self, tail: NDArray[np.bool_] | None = None) -> dict[str, float]:
        """Every figure of the split by name.

        Args:
            tail: marks the tail classes, ``(C,)``; adds ``tail_f1``, their macro-F1.
        """
        names = self.metrics if tail is None else (*self.metrics, TAIL_METRIC)
        return {name: self.score(name, tail) for name in names}

    def per_class(self, groups: Sequence[str] | None = None) -> pd.DataFrame:
        """One row per class of training, in label order.

        Args:
            groups: head, medium or tail per class (`tailwise.imbalance.groups.frequency_groups`), or None.

        Returns:
            Columns ``class``, ``train_count``, ``group`` (if given), ``support``, ``predicted``, ``precision``,
            ``recall``, ``f1``, ``average_precision`` (NaN where no score ranks the class) and ``absent`` (no instance
            in this split; its ratios are 0 where undefined, as in scikit-learn with all labels given, and its average
            precision is NaN).

        Raises:
            DataError: not one group per class.
        """
        counts = self.counts
        columns: dict[str, Any] = {"class": self.label_space.names, "train_count": self.label_space.counts}
        if groups is not None:
            columns["group"] = self._checked_groups(groups)
        columns |= {
            "support": counts.seen_support.astype(np.int64),
            "predicted": counts.predicted.astype(np.int64),
            "precision": precision_per_class(counts),
            "recall": recall_per_class(counts),
            "f1": f1_per_class(counts),
            "average_precision": self.average_precision,
            "absent": ~counts.present,
        }
        return pd.DataFrame(columns)

    def groups(self, groups: Sequence[str]) -> pd.DataFrame:
        """One row per frequency group: head, medium, tail, and ``unseen`` where the split has such classes.

        Args:
            groups: the group of every class of training.

        Returns:
            Columns ``group``, ``classes``, ``train_count``, ``support``, ``macro_f1`` and ``macro_recall`` (absent
            classes as 0) and ``mean_average_precision`` (over the classes present).

        Raises:
            DataError: not one group per class.
        """
        table = self.per_class(groups)
        rows = []
        for name in sorted(table["group"].unique(), key=_group_rank):
            part = table[table["group"] == name]
            rows.append(
                {
                    "group": name,
                    "classes": len(part),
                    "train_count": int(part["train_count"].sum()),
                    "support": int(part["support"].sum()),
                    "macro_f1": float(part["f1"].mean()),
                    "macro_recall": float(part["recall"].mean()),
                    "mean_average_precision": float(part["average_precision"].mean()),
                }
            )
        unseen = self.counts.support[len(self.label_space) :]
        if unseen.sum() > 0:
            rows.append(
                {
                    "group": "unseen",
                    "classes": int((unseen > 0).sum()),
                    "train_count": 0,
                    "support": int(unseen.sum()),
                    "macro_f1": 0.0,
                    "macro_recall": 0.0,
                    "mean_average_precision": float("nan"),
                }
            )
        return pd.DataFrame(rows)

    def _checked_groups(self, groups: Sequence[str]) -> list[str]:
        if len(groups) != len(self.label_space):
            raise DataError(f"Expected one group per class, {len(self.label_space)}, but got {len(groups)}.")
        return [str(group) for group in groups]

    def write_scores(self, path: str | Path) -> None:
        """Write ids, gold labels by name and scores as Parquet, one row per unit; equal content gives equal bytes.

        The file appears whole or not at all; `tailwise.evaluation.score_files.read_scores` reads it.
        """
        write_table(self.to_table(), self.structure, self.score_space.names, path)


def check_tail(tail: NDArray[np.bool_] | None, num_classes: int) -> NDArray[np.bool_]:
    """The mask of tail classes.

    Raises:
        SettingError: none was given, or it has another shape.
    """
    if tail is None or np.shape(tail) != (num_classes,):
        found = "None" if tail is None else f"shape {np.shape(tail)}"
        raise SettingError(
            f"The metric {TAIL_METRIC!r} needs `tail`, a mask of shape ({num_classes},), but got {found}."
        )
    return np.asarray(tail, dtype=bool)


def check_ids(ids: tuple[str, ...]) -> None:
    """Refuse ids that are not unique.

    Raises:
        DataError: an id occurs more than once.
    """
    if len(set(ids)) != len(ids):
        repeated, times = Counter(ids).most_common(1)[0]
        raise DataError(f"Expected unique ids, but {repeated!r} occurs {times} times.")


def check_finite(scores: NDArray[np.float32], ids: tuple[str, ...], units: NDArray[np.int64] | None = None) -> None:
    """Refuse scores ``(M, C)`` of which some are not finite.

    Args:
        scores: one row per unit or, with `units`, per row of a unit.
        ids: of the units.
        units: the unit of every row, ``(M,)``.

    Raises:
        DataError: NaN or infinite scores, with the first unit that has some.
    """
    wrong = np.flatnonzero(~np.isfinite(scores).all(axis=1))
    if wrong.size:
        bad = wrong if units is None else np.unique(units[wrong])
        raise DataError(
            f"Expected finite scores, but {len(bad)} of {len(ids)} instances have NaN or infinite ones, "
            f"the first is {ids[int(bad[0])]!r}. Training has diverged: lower the learning rate or the loss's scale."
        )


def rows_of_units(offsets: NDArray[np.int64], order: Sequence[int]) -> NDArray[np.int64]:
    """The rows of the units of `order`, unit i having rows ``offsets[i] .. offsets[i + 1] - 1``."""
    chosen = np.asarray(order, dtype=np.int64)
    lengths = np.diff(offsets)[chosen]
    ends = np.cumsum(lengths)
    starts = offsets[chosen] - (ends - lengths)
    return np.asarray(np.arange(int(lengths.sum())) + np.repeat(starts, lengths), dtype=np.int64)


def _group_rank(name: str) -> tuple[int, str]:
    order = ("head", "medium", "tail")
    return (order.index(name) if name in order else len(order), name)
