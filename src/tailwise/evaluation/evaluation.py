"""Scores of instances with one class each, and everything that follows from them.

Only ids, gold labels and logits are kept; decisions, probabilities and all figures are derived, so a new metric never
needs a new run. On disk an `Evaluation` is one Parquet file whose bytes depend on its content alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.special import softmax

from tailwise.errors import DataError
from tailwise.evaluation import calibration
from tailwise.evaluation.base import ScoredSplit, check_finite, check_ids
from tailwise.evaluation.calibration import CALIBRATION_METRICS, NUM_BINS, reliability_table
from tailwise.evaluation.metrics import Counts, confusion_counts, confusion_matrix
from tailwise.evaluation.ranking import average_precision_per_class
from tailwise.evaluation.relations import relation_sums
from tailwise.evaluation.score_files import read_scores
from tailwise.evaluation.unit_counts import UnitCounts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from tailwise.data.labels import LabelSpace
    from tailwise.data.task import LabelStructure
    from tailwise.evaluation.calibration import Binning

__all__ = ["Evaluation", "read_scores"]


@dataclass(frozen=True, eq=False)
class Evaluation(ScoredSplit):
    """Scores of one model on one split, one class per instance.

    Attributes:
        ids: instance ids, unique, N of them.
        gold: class indices, ``(N,)``; from C on they are classes that training never saw.
        logits: scores after every post-hoc step, ``(N, C)``, float32; the largest is the decision.
        label_space: classes and training counts.

    Raises:
        DataError: lengths that differ, no instances, repeated ids, gold out of range or scores that are not finite.
    """

    structure: ClassVar[LabelStructure] = "single"
    has_probabilities: ClassVar[bool] = True

    ids: tuple[str, ...]
    gold: NDArray[np.int64]
    logits: NDArray[np.float32]
    label_space: LabelSpace

    def __post_init__(self) -> None:
        ids = tuple(self.ids)
        gold = np.array(self.gold, dtype=np.int64)
        logits = np.array(self.logits, dtype=np.float32, order="C")
        _check(ids, gold, logits, self.label_space)
        for name, value in (("ids", ids), ("gold", gold), ("logits", logits)):
            if isinstance(value, np.ndarray):
                value.setflags(write=False)
            object.__setattr__(self, name, value)

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """The decision per instance, argmax of the logits (the first of equal ones), ``(N,)``."""
        return np.asarray(self.logits.argmax(axis=1), dtype=np.int64)

    @cached_property
    def probabilities(self) -> NDArray[np.float64]:
        """Softmax of the logits, ``(N, C)``."""
        return np.asarray(softmax(self.logits.astype(np.float64), axis=1))

    @cached_property
    def counts(self) -> Counts:
        """Per-class counts of the decisions."""
        return confusion_counts(self.gold, self.predicted, len(self.label_space))

    @cached_property
    def unit_counts(self) -> UnitCounts:
        """What every instance adds to the counts of every class."""
        return UnitCounts.of_rows(
            self.gold,
            self.predicted,
            self.gold == self.predicted,
            np.arange(len(self)),
            num_units=len(self),
            num_classes=len(self.label_space),
            num_gold=len(self.label_space.all_names),
        )

    def unit_part(self, name: str) -> csr_matrix:
        """What every instance adds to the sums behind a figure of probabilities or of relation types, ``(N, k)``."""
        if name == "relations":
            return relation_sums(self.gold, self.predicted, self.label_space)
        return calibration.instance_sums(name, self.probabilities, self.gold)

    def figures(self) -> Mapping[str, Callable[[], float]]:
        """Mean average precision, and calibration as `CALIBRATION_METRICS` defines it."""
        of_probabilities = {name: partial(self._calibration, name) for name in CALIBRATION_METRICS}
        return {"mean_average_precision": lambda: self.mean_average_precision, **of_probabilities}

    def _calibration(self, name: str) -> float:
        return CALIBRATION_METRICS[name](self.probabilities, self.gold)

    @cached_property
    def average_precision(self) -> NDArray[np.float64]:
        """Average precision per class, ``(C,)``; NaN for classes that the split lacks."""
        return average_precision_per_class(self.gold, self.probabilities)

    def confusion_pairs(self, k: int = 10) -> pd.DataFrame:
        """The `k` most frequent errors.

        Returns:
            Columns ``gold``, ``predicted``, ``count`` and ``rate`` (of the gold class), most frequent first.
        """
        matrix = confusion_matrix(self.gold, self.predicted, len(self.label_space))
        support = matrix.sum(axis=1)
        errors = matrix.copy()
        np.fill_diagonal(errors, 0)
        gold, predicted = np.nonzero(errors)
        count = errors[gold, predicted]
        top = np.argsort(-count, kind="stable")[:k]
        gold, predicted, count = gold[top], predicted[top], count[top]
        return pd.DataFrame(
            {
                "gold": self.label_space.decode(gold),
                "predicted": self.label_space.decode(predicted),
                "count": count,
                "rate": count / support[gold],
            }
        )

    def reliability(self, bins: int = NUM_BINS, binning: Binning = "equal_width") -> pd.DataFrame:
        """The reliability diagram as numbers, see `tailwise.evaluation.calibration.reliability_table`."""
        return reliability_table(self.probabilities, self.gold, bins=bins, binning=binning)

    def take(self, order: Sequence[int]) -> Evaluation:
        """The same scores with their instances in another order."""
        ids = tuple(self.ids[i] for i in order)
        return Evaluation(ids, self.gold[order], self.logits[order], self.label_space)

    def gold_differs(self, other: Evaluation) -> NDArray[np.bool_]:
        """Which instances have another gold class than in `other`, ``(N,)``."""
        return np.asarray(self.gold != other.gold)

    @classmethod
    def table_columns(cls, num_scores: int) -> dict[str, pa.DataType]:
        """Columns ``id``, ``gold`` (name of the class) and ``logits``."""
        return {"id": pa.string(), "gold": pa.string(), "logits": pa.list_(pa.float32(), num_scores)}

    def to_table(self) -> pa.Table:
        """One row per instance."""
        size = len(self.label_space)
        logits = pa.FixedSizeListArray.from_arrays(pa.array(self.logits.ravel(), type=pa.float32()), size)
        gold = self.label_space.decode(self.gold)
        return pa.table(
            {"id": pa.array(self.ids, type=pa.string()), "gold": pa.array(gold, type=pa.string()), "logits": logits}
        )

    @classmethod
    def from_table(cls, table: pa.Table, score_space: LabelSpace) -> Evaluation:
        """The inverse of `to_table`."""
        logits = table.column("logits").combine_chunks().flatten().to_numpy(zero_copy_only=False)
        gold = score_space.encode(table.column("gold").to_pylist())
        ids = tuple(table.column("id").to_pylist())
        return cls(ids, gold, logits.reshape(len(ids), len(score_space)), score_space)


def _check(ids: tuple[str, ...], gold: NDArray[Any], logits: NDArray[Any], space: LabelSpace) -> None:
    if gold.shape != (len(ids),) or logits.shape != (len(ids), len(space)) or not ids:
        raise DataError(
            f"Expected N >= 1 ids, gold of shape (N,) and logits of shape (N, {len(space)}), but got {len(ids)} ids, "
            f"gold {gold.shape} and logits {logits.shape}."
        )
    if gold.min() < 0 or gold.max() >= len(space.all_names):
        raise DataError(
            f"Expected gold indices in 0..{len(space.all_names) - 1}, but they span {gold.min()}..{gold.max()}."
        )
    check_finite(logits, ids)
    check_ids(ids)
