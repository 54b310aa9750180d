"""The stored scores of every instance of a split, and everything that follows from them.

Only ids, gold labels and logits are kept; decisions, probabilities and all figures are derived, so a new metric never
needs a new run. On disk an `Evaluation` is one Parquet file whose bytes depend on its content alone.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.special import softmax

from tailwise.errors import DataError, StoreError
from tailwise.evaluation import metrics
from tailwise.evaluation.calibration import CALIBRATION_METRICS, NUM_BINS, reliability_table
from tailwise.evaluation.ranking import average_precision_per_class

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tailwise.data.labels import LabelSpace
    from tailwise.evaluation.calibration import Binning

__all__ = ["Evaluation", "read_scores"]

_FORMAT = b"tailwise.scores"
_VERSION = b"1"
_CLASSES = b"tailwise.classes"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores of one model on one split.

    Attributes:
        ids: instance ids, unique, N of them.
        gold: class indices, ``(N,)``; from C on they are classes that training never saw.
        logits: scores after every post-hoc step, ``(N, C)``, float32; the largest is the decision.
        label_space: classes and training counts.

    Raises:
        DataError: lengths that differ, no instances, repeated ids, gold out of range or scores that are not finite.
    """

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

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """The decision per instance, argmax of the logits (the first of equal ones), ``(N,)``."""
        return np.asarray(self.logits.argmax(axis=1), dtype=np.int64)

    @cached_property
    def probabilities(self) -> NDArray[np.float64]:
        """Softmax of the logits, ``(N, C)``."""
        return np.asarray(softmax(self.logits.astype(np.float64), axis=1))

    @cached_property
    def counts(self) -> metrics.Counts:
        """Per-class counts of the decisions."""
        return metrics.confusion_counts(self.gold, self.predicted, len(self.label_space))

    @cached_property
    def average_precision(self) -> NDArray[np.float64]:
        """Average precision per class, ``(C,)``; NaN for classes that the split lacks."""
        return average_precision_per_class(self.gold, self.probabilities)

    def per_class(self, groups: Sequence[str] | None = None) -> pd.DataFrame:
        """One row per class of training, in label order.

        Args:
            groups: head, medium or tail per class (`tailwise.imbalance.groups.frequency_groups`), or None.

        Returns:
            Columns ``class``, ``train_count``, ``group`` (if given), ``support``, ``predicted``, ``precision``,
            ``recall``, ``f1``, ``average_precision`` and ``absent`` (no instance in this split; its ratios are 0 where
            undefined, as in scikit-learn with all labels given, and its average precision is NaN).

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
            "precision": metrics.precision_per_class(counts),
            "recall": metrics.recall_per_class(counts),
            "f1": metrics.f1_per_class(counts),
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

    def summary(self, tail: NDArray[np.bool_] | None = None) -> dict[str, float]:
        """Every figure of the split by name: decision metrics, mean average precision and calibration.

        Args:
            tail: marks the tail classes, ``(C,)``; adds ``tail_f1``, their macro-F1.
        """
        figures = {name: float(metric(self.counts)) for name, metric in metrics.COUNT_METRICS.items()}
        if tail is not None:
            figures["tail_f1"] = float(metrics.macro_f1(self.counts, np.asarray(tail, dtype=bool)))
        present = self.counts.present
        figures["mean_average_precision"] = (
            float(self.average_precision[present].mean()) if present.any() else float("nan")
        )
        for name, metric in CALIBRATION_METRICS.items():
            figures[name] = metric(self.probabilities, self.gold)
        return figures

    def confusion_pairs(self, k: int = 10) -> pd.DataFrame:
        """The `k` most frequent errors.

        Returns:
            Columns ``gold``, ``predicted``, ``count`` and ``rate`` (of the gold class), most frequent first.
        """
        matrix = metrics.confusion_matrix(self.gold, self.predicted, len(self.label_space))
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

    def write_scores(self, path: str | Path) -> None:
        """Write ids, gold names and logits as Parquet; equal content gives equal bytes.

        The file appears whole or not at all. Columns: ``id`` string, ``gold`` string, ``logits`` list of C float32; the
        class names are in the schema's metadata.
        """
        path = Path(path)
        size = len(self.label_space)
        logits = pa.FixedSizeListArray.from_arrays(pa.array(self.logits.ravel(), type=pa.float32()), size)
        gold = self.label_space.decode(self.gold)
        names = json.dumps(list(self.label_space.names), ensure_ascii=False).encode()
        table = pa.table(
            {"id": pa.array(self.ids, type=pa.string()), "gold": pa.array(gold, type=pa.string()), "logits": logits},
            metadata={_FORMAT: _VERSION, _CLASSES: names},
        )
        partial = path.with_name(f".{path.name}.partial")
        pq.write_table(table, partial, compression="zstd", compression_level=3, version="2.6")
        partial.replace(path)


def _group_rank(name: str) -> tuple[int, str]:
    order = ("head", "medium", "tail")
    return (order.index(name) if name in order else len(order), name)


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
    finite = np.isfinite(logits).all(axis=1)
    if not finite.all():
        row = int(np.flatnonzero(~finite)[0])
        raise DataError(
            f"Expected finite scores, but {int((~finite).sum())} of {len(ids)} instances have NaN or infinite ones, "
            f"the first is {ids[row]!r}. Training has diverged: lower the learning rate or the loss's scale."
        )
    if len(set(ids)) != len(ids):
        repeated, times = Counter(ids).most_common(1)[0]
        raise DataError(f"Expected unique ids, but {repeated!r} occurs {times} times.")


def read_scores(path: str | Path, label_space: LabelSpace) -> Evaluation:
    """The inverse of `Evaluation.write_scores`.

    Raises:
        StoreError: no such file, or it is damaged or not a scores file.
        DataError: the file is of other classes than `label_space`.
    """
    path = Path(path)
    try:
        with pq.ParquetFile(path) as file:
            table = file.read()
    except FileNotFoundError:
        raise StoreError(f"There is no scores file {path}.") from None
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"{path} is not a readable Parquet file ({error}). Delete it and run again.") from error
    names = _stored_names(table, path)
    if names != label_space.names:
        raise DataError(
            f"{path} holds scores of {len(names)} classes ({_shorten(names)}), expected {len(label_space)} "
            f"({_shorten(label_space.names)}). The data have changed since: run again into another folder."
        )
    logits = table.column("logits").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    gold = label_space.encode(table.column("gold").to_pylist())
    ids = tuple(table.column("id").to_pylist())
    return Evaluation(ids, gold, logits.reshape(len(ids), len(names)), label_space)


def _stored_names(table: pa.Table, path: Path) -> tuple[str, ...]:
    """Class names of a scores table.

    Raises:
        StoreError: the table is not one that `write_scores` wrote.
    """
    metadata = table.schema.metadata or {}
    try:
        names = tuple(str(name) for name in json.loads(metadata.get(_CLASSES, b"[]")))
    except ValueError:
        names = ()
    types = {"id": pa.string(), "gold": pa.string(), "logits": pa.list_(pa.float32(), max(len(names), 1))}
    found = dict(zip(table.schema.names, table.schema.types, strict=True))
    if metadata.get(_FORMAT) != _VERSION or not names or found != types or any(c.null_count for c in table.columns):
        raise StoreError(
            f"{path} is not a scores file of this version: expected the columns "
            f"{', '.join(f'{name} ({kind})' for name, kind in types.items())} without gaps and "
            f"{_FORMAT.decode()}={_VERSION.decode()} in its metadata, found the columns {', '.join(found) or 'none'}. "
            "Delete it and run again."
        )
    return names


def _shorten(names: Sequence[str], limit: int = 4) -> str:
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
