"""What one unit of evaluation (instance, sentence) adds to the counts of every class.

Decision metrics are functions of three sums per class; a bootstrap over units weighs the units before summing. Every
label structure comes down to these three sparse matrices: instances with one class, label sets, spans and arcs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tailwise.evaluation.metrics import Counts

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

__all__ = ["UnitCounts"]


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

    def total(self) -> Counts:
        """The sums over all units."""
        correct, support, predicted = (
            np.asarray(matrix.sum(axis=0), dtype=np.float64).ravel()
            for matrix in (self.correct, self.support, self.predicted)
        )
        return Counts(correct, support, predicted, averaged=np.ones(len(correct), dtype=bool))
