"""What one unit of evaluation (instance, sentence) adds to the counts of every class.

Decision metrics are functions of three sums per class; a bootstrap over units weighs the units before summing. Every
label structure comes down to these three sparse matrices: instances with one class, label sets, spans and arcs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_matrix

from tailwise.evaluation.metrics import Counts

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["UnitCounts", "occurrences"]


@dataclass(frozen=True, eq=False)
class UnitCounts:
    """Counts per unit and class.

    Attributes:
        correct: right decisions for class j in unit i, ``(N, C)``.
        support: gold instances, ``(N, G)``; the columns from C on are classes unseen in training.
        predicted: decisions for class j, ``(N, C)``.
    """

    correct: csr_matrix
    support: csr_matrix
    predicted: csr_matrix

    @classmethod
    def of_rows(
        cls,
        gold: NDArray[np.int64],
        predicted: NDArray[np.int64],
        right: NDArray[np.bool_],
        units: NDArray[np.int64],
        *,
        num_units: int,
        num_classes: int,
        num_gold: int,
    ) -> UnitCounts:
        """Counts of rows (instances, tokens) that each have one gold and one predicted class.

        Args:
            gold: class indices, ``(M,)``; from C on they are classes unseen in training.
            predicted: class indices, ``(M,)``.
            right: which rows are right, ``(M,)``.
            units: the unit of every row, ``(M,)``.
            num_units: N.
            num_classes: C.
            num_gold: G, at least C.
        """
        return cls(
            correct=occurrences(units[right], predicted[right], (num_units, num_classes)),
            support=occurrences(units, gold, (num_units, num_gold)),
            predicted=occurrences(units, predicted, (num_units, num_classes)),
        )

    def total(self) -> Counts:
        """The sums over all units."""
        correct, support, predicted = (
            np.asarray(matrix.sum(axis=0), dtype=np.float64).ravel()
            for matrix in (self.correct, self.support, self.predicted)
        )
        return Counts(correct, support, predicted, averaged=np.ones(len(correct), dtype=bool))


def occurrences(rows: NDArray[np.int64], columns: NDArray[np.int64], shape: tuple[int, int]) -> csr_matrix:
    """How often every pair of row and column occurs, as a sparse matrix of `shape`."""
    return csr_matrix((np.ones(len(rows)), (rows, columns)), shape=shape)
