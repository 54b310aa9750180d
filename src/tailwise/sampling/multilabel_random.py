"""Random over- and under-sampling of labels: ML-ROS and ML-RUS.

    minority labels: IRLbl(j) > MeanIR, with MeanIR = mean_j IRLbl(j) of the data as given, fixed throughout
    ML-ROS   in turn, clone a random row of each minority label; a label retires once IRLbl(j) <= MeanIR
    ML-RUS   in turn, delete a random row of each label with IRLbl(j) < MeanIR among the rows without any minority
             label; a label retires once IRLbl(j) >= MeanIR

until P N rows are cloned or deleted, or every label has retired. Every change counts for all labels of its row.
Charte et al., Addressing imbalance in multilabel classification, Neurocomputing 163, 2015, algorithms 3 and 4.
Survey section 3.1. A turn goes from the rarest label (ML-ROS) or the most frequent one (ML-RUS) onwards. ML-ROS ends
with a turn, as in the paper, so that it may clone up to one row per minority label more than P N.
Differs from the paper in ML-RUS: it stops at P N within a turn, and never deletes the last row of a label.
Differs from the R port (mldr.resampling), where ML-ROS never retires a label (``retire=False`` does so too), where
ML-RUS draws with replacement from all rows without a minority label, and where labels without a row count as IRLbl 0
(`legacy_empty`).

The rows are chosen once per seed, as in the paper, and come in another order in each epoch.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from tailwise.errors import SettingError
from tailwise.sampling.checks import truth_value
from tailwise.sampling.label_matrix import LabelMatrix, irlbl, label_counts, labels_of, mean_ir, minority_labels
from tailwise.sampling.multilabel_base import ResampledSetSampler

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MultiLabelRandomOverSampler", "MultiLabelRandomUnderSampler", "cloned_rows", "deleted_rows"]

_BLOCK = 256
_ROUNDING = 1e-9


def cloned_rows(
    matrix: LabelMatrix,
    budget: int,
    generator: np.random.Generator,
    *,
    retire: bool = True,
    legacy_empty: bool = False,
) -> NDArray[np.int64]:
    """The rows that ML-ROS clones, in the order of cloning.

    Args:
        matrix: ``(N, C)``.
        budget: clones after which no further turn begins.
        generator: the random stream.
        retire: whether labels leave once their IRLbl is down to MeanIR.
        legacy_empty: whether labels without a row count as IRLbl 0 in MeanIR.

    Returns:
        ``(clones,)``; at most one turn more than `budget`.
    """
    counts = label_counts(matrix)
    bound = mean_ir(counts, legacy_empty=legacy_empty) if retire else -1.0
    active = np.flatnonzero(minority_labels(counts, legacy_empty=legacy_empty))
    active = active[np.argsort(counts[active], kind="stable")]
    columns = sparse.csc_array(matrix)
    starts, sizes = columns.indptr, counts.copy()
    done: list[NDArray[np.int64]] = []
    used, block = 0, _BLOCK
    while active.size and used < budget:
        # Turns are drawn in blocks; a block is cut off behind the first turn in which a label retires.
        turns = min(-(-(budget - used) // active.size), max(1, block // active.size))
        labels = np.tile(active, turns)
        rows = columns.indices[starts[labels] + (generator.random(labels.size) * sizes[labels]).astype(np.int64)]
        members, lengths = labels_of(matrix, rows)
        retired = (_ratios(counts, labels, members, lengths) <= bound).reshape(turns, active.size)
        if retired.any():
            turns = int(retired.any(axis=1).argmax()) + 1
            block = max(_BLOCK, block // 2)
        else:
            block *= 2
        taken = turns * active.size
        counts = counts + np.bincount(members[: int(lengths[:taken].sum())], minlength=counts.size)
        done.append(rows[:taken].astype(np.int64))
        used += taken
        active = active[~retired[turns - 1]]
    return np.concatenate(done) if done else np.empty(0, dtype=np.int64)


def _ratios(
    counts: NDArray[np.int64],
    labels: NDArray[np.int64],
    members: NDArray[np.integer],
    lengths: NDArray[np.int64],
) -> NDArray[np.float64]:
    """After each clone, IRLbl of the label that it was made for, ``(B,)``.

    Args:
        counts: before the block, ``(C,)``.
        labels: the label that each clone is made for, ``(B,)``.
        members: all labels of the clones, one clone after the other, ``(sum k_i,)``.
        lengths: labels of each clone, ``(B,)``.
    """
    order = np.argsort(members, kind="stable")
    ordered = members[order]
    first = np.searchsorted(ordered, ordered)
    after = np.empty(members.size, dtype=np.int64)
    after[order] = counts[ordered] + np.arange(members.size) - first + 1
    largest = np.maximum(np.maximum.accumulate(after)[np.cumsum(lengths) - 1], counts.max())
    return np.asarray(largest / after[members == np.repeat(labels, lengths)])


def deleted_rows(
    matrix: LabelMatrix, budget: int, generator: np.random.Generator, *, legacy_empty: bool = False
) -> NDArray[np.int64]:
    """The distinct rows that ML-RUS deletes, in the order of deleting.

    Args:
        matrix: ``(N, C)``.
        budget: the most that are deleted.
        generator: the random stream.
        legacy_empty: whether labels without a row count as IRLbl 0 in MeanIR.

    Returns:
        ``(deletions,)``, at most `budget`.
    """
    natural = label_counts(matrix)
    bound = mean_ir(natural, legacy_empty=legacy_empty)
    bags = _bags(matrix, minority_labels(natural, legacy_empty=legacy_empty), generator)
    majority = irlbl(natural) < bound
    active = [int(j) for j in np.argsort(-natural, kind="stable") if majority[j] and bags[j].size]
    counts = _Counts(natural)
    turn = {label: iter(bags[label].tolist()) for label in active}
    gone: dict[int, None] = {}
    indices, indptr = memoryview(matrix.indices), matrix.indptr.tolist()  # type: ignore[arg-type]
    while active and len(gone) < budget:
        staying = []
        for label in active:
            if len(gone) == budget:
                break
            for row in turn[label]:
                labels = indices[indptr[row] : indptr[row + 1]].tolist()
                if row not in gone and counts.drop(labels):
                    gone[row] = None
                    if counts.largest / counts.rows[label] < bound:
                        staying.append(label)
                    break
        active = staying
    return np.fromiter(gone, dtype=np.int64, count=len(gone))


def _bags(matrix: LabelMatrix, minority: NDArray[np.bool_], generator: np.random.Generator) -> list[NDArray[np.int64]]:
    """Of every label, its rows without a minority label in random order."""
    free = np.flatnonzero(matrix @ minority.astype(np.int64) == 0)
    labels, lengths = labels_of(matrix, free)
    order = np.lexsort((generator.random(labels.size), labels))
    ends = np.cumsum(np.bincount(labels, minlength=matrix.shape[1]))
    return np.split(np.repeat(free, lengths)[order], ends[:-1])


class _Counts:
    """Rows per label and the largest of them, kept up to date one deleted row at a time."""

    def __init__(self, counts: NDArray[np.int64]) -> None:
        self.rows: list[int] = counts.tolist()
        self.largest = int(counts.max())
        self._labels_with = np.bincount(counts).tolist()

    def drop(self, labels: list[int]) -> bool:
        """Delete a row with these labels, unless one of them has no other row."""
        rows, labels_with = self.rows, self._labels_with
        if any(rows[j] == 1 for j in labels):
            return False
        for j in labels:
            labels_with[rows[j]] -= 1
            rows[j] -= 1
            labels_with[rows[j]] += 1
        while labels_with[self.largest] == 0:
            self.largest -= 1
        return True


class _MultiLabelRandomSampler(ResampledSetSampler):
    """What ML-ROS and ML-RUS have in common: a set chosen once per seed."""

    def __init__(
        self,
        labels: Any,
        *,
        share: float,
        legacy_empty: bool,
        seed: int,
        num_samples: int | None,
        num_classes: int | None,
    ) -> None:
        super().__init__(labels, seed=seed, num_samples=num_samples, num_classes=num_classes)
        self.share = share
        self.legacy_empty = truth_value(legacy_empty, "legacy_empty", type(self).__name__)

    @abstractmethod
    def _chosen(self) -> NDArray[np.int64]:
        """How often each row is in the set, ``(N,)``."""

    @cached_property
    def _uses(self) -> NDArray[np.int64]:
        return self._chosen()

    def uses(self, generator: np.random.Generator) -> NDArray[np.int64]:  # noqa: ARG002  the same set for all epochs
        """How often each row is in the set, the same in every epoch, ``(N,)``."""
        return self._uses

    def mean_uses(self) -> NDArray[np.float64]:
        """How often each row is in the set, ``(N,)``."""
        return self._uses.astype(np.float64)


class MultiLabelRandomOverSampler(_MultiLabelRandomSampler):
    """Rows of rare labels are repeated until the labels are no longer rare (ML-ROS).

    Args:
        labels: see `LabelMatrixSampler`.
        share: P > 0, rows to add as a share of N.
        retire: whether a label leaves once its IRLbl is down to MeanIR; False as the R port.
        legacy_empty: whether labels without a row count as IRLbl 0 in MeanIR, as in mldr.
        seed: see `LabelMatrixSampler`; it also chooses the clones.
        num_samples: length of an epoch; None takes the rows and their clones.
        num_classes: see `LabelMatrixSampler`.
    """

    def __init__(
        self,
        labels: Any,
        *,
        share: float = 0.25,
        retire: bool = True,
        legacy_empty: bool = False,
        seed: int = 0,
        num_samples: int | None = None,
        num_classes: int | None = None,
    ) -> None:
        if not 0.0 < share < float("inf"):
            raise SettingError(f"MultiLabelRandomOverSampler: expected `share` to be above 0, but got {share!r}.")
        super().__init__(
            labels,
            share=share,
            legacy_empty=legacy_empty,
            seed=seed,
            num_samples=num_samples,
            num_classes=num_classes,
        )
        self.retire = truth_value(retire, "retire", type(self).__name__)

    @property
    def budget(self) -> int:
        """P N, rounded up."""
        return math.ceil(self.share * self.num_rows - _ROUNDING)

    @cached_property
    def clones(self) -> NDArray[np.int64]:
        """The cloned rows, in the order of cloning, ``(clones,)``."""
        return cloned_rows(
            self.label_matrix,
            self.budget,
            self.set_generator(),
            retire=self.retire,
            legacy_empty=self.legacy_empty,
        )

    def _chosen(self) -> NDArray[np.int64]:
        return 1 + np.bincount(self.clones, minlength=self.num_rows)


class MultiLabelRandomUnderSampler(_MultiLabelRandomSampler):
    """Rows of frequent labels are left out, none of them with a rare label (ML-RUS).

    Args:
        labels: see `LabelMatrixSampler`.
        share: 0 < P < 1, rows to leave out as a share of N.
        legacy_empty: whether labels without a row count as IRLbl 0 in MeanIR, as in mldr.
        seed: see `LabelMatrixSampler`; it also chooses the rows to leave out, for all epochs.
        num_samples: length of an epoch; None takes the rows that stay.
        num_classes: see `LabelMatrixSampler`.
    """

    def __init__(
        self,
        labels: Any,
        *,
        share: float = 0.25,
        legacy_empty: bool = False,
        seed: int = 0,
        num_samples: int | None = None,
        num_classes: int | None = None,
    ) -> None:
        if not 0.0 < share < 1.0:
            raise SettingError(f"MultiLabelRandomUnderSampler: expected `share` to lie in (0, 1), but got {share!r}.")
        super().__init__(
            labels,
            share=share,
            legacy_empty=legacy_empty,
            seed=seed,
            num_samples=num_samples,
            num_classes=num_classes,
        )

    @property
    def budget(self) -> int:
        """P N, rounded down."""
        return math.floor(self.share * self.num_rows + _ROUNDING)

    @cached_property
    def deletions(self) -> NDArray[np.int64]:
        """The rows left out, in the order of deleting, ``(deletions,)``."""
        return deleted_rows(self.label_matrix, self.budget, self.set_generator(), legacy_empty=self.legacy_empty)

    def _chosen(self) -> NDArray[np.int64]:
        return 1 - np.bincount(self.deletions, minlength=self.num_rows)
