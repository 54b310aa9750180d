"""Scores of instances with any number of labels each.

A label is assigned where its logit is positive, that is, where its probability ``sigmoid(logit)`` is above 0.5. Values
agree with scikit-learn given ``labels=range(L)``, L the labels of training, and ``zero_division=0``:

    micro, macro, weighted F1     of the N x L decisions
    samples F1                    mean of F1_i = 2 |Y_i & Z_i| / (|Y_i| + |Z_i|); 0 where both sets are empty
    subset accuracy               share of instances whose label set is exactly right
    Hamming loss                  share of the N x L decisions that are wrong
    label ranking AP              mean over the labels of an instance of the precision at their rank
    micro average precision       AP of all N x L scores in one ranking
    Brier, NLL, ECE               of the N x L binary probabilities; ECE over 15 bins of equal width

Labels that training never saw (gold columns from L on) cannot be predicted. They make an instance's label set wrong; no
other figure sees them, just as no macro average does.

Henning et al., A Survey of Methods for Addressing Class Imbalance in Deep-Learning Based NLP, EACL 2023, section 2.3;
Schapire and Singer, BoosTexter, Machine Learning 39, 2000 (label ranking average precision).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pyarrow as pa
from scipy import sparse
from scipy.special import expit

from tailwise.errors import DataError
from tailwise.evaluation.base import ScoredSplit, check_finite, check_ids
from tailwise.evaluation.calibration import NUM_BINS, bin_index, binned_table, equal_width_edges
from tailwise.evaluation.ranking import average_precision, label_ranking_precision
from tailwise.evaluation.unit_counts import UnitCounts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from tailwise.data.labels import LabelSpace
    from tailwise.data.task import LabelStructure
    from tailwise.evaluation.calibration import Binning

__all__ = ["MultilabelEvaluation"]

#: cells of the score matrix worked on at once; bounds the memory of float64 intermediates
_CELLS = 1_000_000


@dataclass(frozen=True, eq=False)
class MultilabelEvaluation(ScoredSplit):
    """Scores of one model on one split, any number of labels per instance.

    Attributes:
        ids: instance ids, unique, N of them.
        gold: which labels every instance has, a sparse matrix ``(N, G)``; the columns from L on are labels that
            training never saw. Rows may be empty.
        logits: scores after every post-hoc step, ``(N, L)``, float32; positive ones are decisions for a label.
        label_space: labels and training counts.

    Raises:
        DataError: shapes that do not fit, no instances, repeated ids, gold other than 0 and 1, or scores that are not
            finite.
    """

    structure: ClassVar[LabelStructure] = "multi"
    has_probabilities: ClassVar[bool] = True

    ids: tuple[str, ...]
    gold: sparse.csr_matrix
    logits: NDArray[np.float32]
    label_space: LabelSpace

    def __post_init__(self) -> None:
        ids = tuple(self.ids)
        gold = sparse.csr_matrix(self.gold, dtype=np.float64, copy=True)
        gold.eliminate_zeros()
        gold.sum_duplicates()
        logits = np.array(self.logits, dtype=np.float32, order="C")
        _check(ids, gold, logits, self.label_space)
        for array in (gold.data, gold.indices, gold.indptr, logits):
            array.setflags(write=False)
        for name, value in (("ids", ids), ("gold", gold), ("logits", logits)):
            object.__setattr__(self, name, value)

    @property
    def _seen(self) -> sparse.csr_matrix:
        """Gold labels of training, ``(N, L)``."""
        return self.gold[:, : len(self.label_space)]

    @cached_property
    def predicted(self) -> sparse.csr_matrix:
        """The labels assigned, those with a positive logit, ``(N, L)``."""
        return sparse.csr_matrix(self.logits > 0, dtype=np.float64)

    @cached_property
    def probabilities(self) -> NDArray[np.float64]:
        """Sigmoid of the logits, ``(N, L)``."""
        return np.asarray(expit(self.logits.astype(np.float64)))

    @cached_property
    def unit_counts(self) -> UnitCounts:
        """What every instance adds to the counts of every label."""
        correct = self._seen.multiply(self.predicted).tocsr()
        return UnitCounts(correct, self.gold, self.predicted)

    def unit_part(self, name: str) -> sparse.csr_matrix:
        """What every instance adds to a further sum, ``(N, 1)``, or ``(N, 15)`` for ``ece``."""
        return sparse.csr_matrix(self._gaps_by_instance() if name == "ece" else self._parts()[name]()[:, None])

    def _parts(self) -> Mapping[str, Callable[[], NDArray[np.float64]]]:
        return {
            "samples_f1": self.instance_f1,
            "subset_accuracy": lambda: self._exact.astype(np.float64),
            "hamming_loss": lambda: self._wrong / len(self.label_space),
            "label_ranking_average_precision": lambda: label_ranking_precision(self._seen, self.logits),
            "brier": self._instance_brier,
            "nll": self._instance_log_loss,
        }

    def figures(self) -> Mapping[str, Callable[[], float]]:
        """Average precision by label and overall, and calibration by label."""
        return {
            "mean_average_precision": lambda: self.mean_average_precision,
            "micro_average_precision": lambda: average_precision(self._seen.toarray().ravel() > 0, self.logits.ravel()),
            "classwise_ece": lambda: float(np.abs(self._gaps_by_label()).sum() / self.logits.size),
        }

    def instance_f1(self) -> NDArray[np.float64]:
        """F1 of the label set of every instance, 0 where neither side has a label of training, ``(N,)``."""
        correct, gold, predicted = self._set_sizes
        both = gold + predicted
        return np.divide(2.0 * correct, both, out=np.zeros(len(self)), where=both > 0)

    @cached_property
    def _set_sizes(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Labels in common, gold labels of training and labels assigned, per instance, ``(N,)`` each."""
        return _row_sums(self.unit_counts.correct), _row_sums(self._seen), _row_sums(self.predicted)

    @property
    def _wrong(self) -> NDArray[np.float64]:
        """Wrong decisions per instance, ``(N,)``."""
        correct, gold, predicted = self._set_sizes
        return gold + predicted - 2.0 * correct

    @property
    def _exact(self) -> NDArray[np.bool_]:
        """Instances whose label set is exactly right, ``(N,)``."""
        return np.asarray((self._wrong == 0) & (_row_sums(self.gold) == self._set_sizes[1]))

    @cached_property
    def average_precision(self) -> NDArray[np.float64]:
        """Average precision per label, ``(L,)``; NaN for labels that the split lacks."""
        values = np.full(len(self.label_space), np.nan)
        by_label = self._seen.tocsc()
        for j in np.flatnonzero(self.counts.present):
            positive = np.zeros(len(self), dtype=bool)
            positive[by_label.indices[by_label.indptr[j] : by_label.indptr[j + 1]]] = True
            values[j] = average_precision(positive, self.logits[:, j])
        return values

    def _blocks(self) -> Iterator[tuple[slice, NDArray[np.float64], NDArray[np.float64]]]:
        """Rows, their logits and their gold indicators, ``(b, L)`` each, in float64."""
        step, seen = max(1, _CELLS // len(self.label_space)), self._seen
        for start in range(0, len(self), step):
            rows = slice(start, min(start + step, len(self)))
            yield rows, self.logits[rows].astype(np.float64), seen[rows].toarray()

    def _instance_brier(self) -> NDArray[np.float64]:
        values = np.empty(len(self))
        for rows, logits, gold in self._blocks():
            values[rows] = np.square(expit(logits) - gold).mean(axis=1)
        return values

    def _instance_log_loss(self) -> NDArray[np.float64]:
        values = np.empty(len(self))
        for rows, logits, gold in self._blocks():
            values[rows] = (np.logaddexp(0.0, logits) - gold * logits).mean(axis=1)
        return values

    def _gaps_by_instance(self) -> NDArray[np.float64]:
        """Mean over labels of gold minus probability, by instance and bin of the probability, ``(N, 15)``."""
        gaps, edges = np.empty((len(self), NUM_BINS)), equal_width_edges()
        for rows, logits, gold in self._blocks():
            probabilities = expit(logits)
            cell = bin_index(probabilities, edges) + NUM_BINS * np.arange(len(gold))[:, None]
            sums = np.bincount(cell.ravel(), (gold - probabilities).ravel(), NUM_BINS * len(gold))
            gaps[rows] = sums.reshape(len(gold), NUM_BINS)
        return gaps / len(self.label_space)

    def _gaps_by_label(self) -> NDArray[np.float64]:
        """Sum over instances of gold minus probability, by label and bin of the probability, ``(L * 15,)``."""
        size, edges = NUM_BINS * len(self.label_space), equal_width_edges()
        gaps = np.zeros(size)
        for _, logits, gold in self._blocks():
            probabilities = expit(logits)
            cell = bin_index(probabilities, edges) + NUM_BINS * np.arange(gold.shape[1])
            gaps += np.bincount(cell.ravel(), (gold - probabilities).ravel(), size)
        return gaps

    def reliability(self, bins: int = NUM_BINS, binning: Binning = "equal_width") -> pd.DataFrame:
        """The reliability diagram of all N x L probabilities: how often labels of that probability are right."""
        gold = self._seen.toarray().ravel()
        return binned_table(self.probabilities.ravel(), gold, bins=bins, binning=binning)

    def take(self, order: Sequence[int]) -> MultilabelEvaluation:
        """The same scores with their instances in another order."""
        ids = tuple(self.ids[i] for i in order)
        return MultilabelEvaluation(ids, self.gold[order], self.logits[order], self.label_space)

    def gold_differs(self, other: MultilabelEvaluation) -> NDArray[np.bool_]:
        """Which instances have another label set than in `other`, ``(N,)``."""
        return _row_sums(abs(self.gold - other.gold)) > 0

    @classmethod
    def table_columns(cls, num_scores: int) -> dict[str, pa.DataType]:
        """Columns ``id``, ``gold`` (names of the labels) and ``logits``."""
        return {"id": pa.string(), "gold": pa.list_(pa.string()), "logits": pa.list_(pa.float32(), num_scores)}

    def to_table(self) -> pa.Table:
        """One row per instance."""
        types = self.table_columns(len(self.label_space))
        names = pa.array(self.label_space.decode(self.gold.indices.tolist()), type=pa.string())
        logits = pa.FixedSizeListArray.from_arrays(pa.array(self.logits.ravel()), len(self.label_space))
        gold = pa.ListArray.from_arrays(pa.array(self.gold.indptr, type=pa.int32()), names)
        return pa.table({"id": pa.array(self.ids, type=types["id"]), "gold": gold, "logits": logits})

    @classmethod
    def from_table(cls, table: pa.Table, score_space: LabelSpace) -> MultilabelEvaluation:
        """The inverse of `to_table`."""
        ids = tuple(table.column("id").to_pylist())
        gold = table.column("gold").combine_chunks()
        indices = score_space.encode(gold.flatten().to_pylist())
        offsets = np.concatenate([[0], np.cumsum(gold.value_lengths().to_numpy())])
        logits = table.column("logits").combine_chunks().flatten().to_numpy(zero_copy_only=False)
        shape = (len(ids), len(score_space.all_names))
        matrix = sparse.csr_matrix((np.ones(len(indices)), indices, offsets), shape=shape)
        return cls(ids, matrix, logits.reshape(len(ids), len(score_space)), score_space)


def _row_sums(matrix: sparse.csr_matrix) -> NDArray[np.float64]:
    return np.asarray(matrix.sum(axis=1), dtype=np.float64).ravel()


def _check(ids: tuple[str, ...], gold: sparse.csr_matrix, logits: NDArray[np.float32], space: LabelSpace) -> None:
    width = len(space.all_names)
    if gold.shape != (len(ids), width) or logits.shape != (len(ids), len(space)) or not ids:
        raise DataError(
            f"Expected N >= 1 ids, gold of shape (N, {width}) and logits of shape (N, {len(space)}), but got "
            f"{len(ids)} ids, gold {gold.shape} and logits {logits.shape}."
        )
    if (gold.data != 1.0).any():
        raise DataError(
            f"Expected `gold` to hold 1 for every label of an instance and 0 elsewhere, but it has values from "
            f"{gold.data.min():g} to {gold.data.max():g}."
        )
    check_finite(logits, ids)
    check_ids(ids)
