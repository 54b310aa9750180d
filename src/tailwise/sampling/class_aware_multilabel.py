"""Class-aware sampling of rows with several labels, and the re-balancing weights that go with it.

    repeat: j <- next label of a shuffled cycle over the labels;  k rows <- next of a shuffled cycle over its rows
    P_I(i)  = 1/C sum_{k : Y_ik = 1} 1/n_k                    how often row i is drawn
    P_C(j)  = 1/C 1/n_j                                       how often it would be drawn for label j alone
    r_ij    = P_C(j) / P_I(i),   rhat_ij = alpha + sigmoid(beta (r_ij - mu))

Wu et al., Distribution-Balanced Loss for Multi-Label Classification in Long-Tailed Datasets, ECCV 2020. Survey section
3.1. The labels are visited equally often, but a row comes with all its labels, so that frequent companions are drawn
more often than rare labels: `co_drawn` says how often, and rhat weighs it off in the loss. C counts labels with a row.
Differs from the authors' code in that the cycles start anew in each epoch, so that a plan depends on the epoch alone,
and in that labels without a row are skipped. An epoch has max_j n_j C / reduce draws, as theirs.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tailwise.errors import SettingError
from tailwise.sampling.checks import whole_number
from tailwise.sampling.class_aware import ClassAwareSampler
from tailwise.sampling.label_matrix import as_label_matrix, co_occurrence, entry_rows, label_counts
from tailwise.sampling.multilabel_base import LabelMatrixSampler

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy import sparse

    from tailwise.sampling.label_matrix import LabelMatrix

__all__ = [
    "ClassAwareMultiLabelSampler",
    "co_drawn",
    "draw_probabilities",
    "rebalancing_factors",
    "smoothed_factors",
]


def draw_probabilities(matrix: LabelMatrix) -> NDArray[np.float64]:
    """P_I(i), the probability that a class-aware draw is row i, ``(N,)``; 0 for a row without a label."""
    counts = label_counts(matrix)
    shares = np.divide(1.0, counts, out=np.zeros(counts.size), where=counts > 0)
    return np.asarray(matrix @ shares / max(1, np.count_nonzero(counts)))


def rebalancing_factors(labels: Any, *, num_classes: int | None = None) -> sparse.csr_array[Any, tuple[int, int]]:
    """r_ij = P_C(j) / P_I(i) for every label j of row i, in (0, 1], sparse ``(N, C)``; each row sums to 1.

    Args:
        labels: a matrix of 0 and 1, ``(N, C)``, or lists of label indices; see `as_label_matrix`.
        num_classes: C for lists of label indices.

    Raises:
        SettingError: no label matrix.
    """
    matrix = as_label_matrix(labels, num_classes=num_classes, name="rebalancing_factors")
    shares = 1.0 / label_counts(matrix)[matrix.indices]
    rows = entry_rows(matrix)
    factors = matrix.astype(np.float64)
    factors.data = shares / np.bincount(rows, shares, minlength=matrix.shape[0])[rows]
    return factors


def smoothed_factors(
    factors: NDArray[np.float64], *, alpha: float = 0.1, beta: float = 10.0, mu: float = 0.3
) -> NDArray[np.float64]:
    """Smoothed weights rhat = alpha + sigmoid(beta (r - mu)), between alpha and alpha + 1.

    Args:
        factors: r, any shape; for sparse factors their ``.data``.
        alpha: what a weight is at least.
        beta: steepness.
        mu: r at which the weight is alpha + 1/2; 0.3 for VOC, 0.2 for COCO, 0.9 for Reuters (Huang et al., 2021).
    """
    return np.asarray(alpha + 0.5 * (1.0 + np.tanh(0.5 * beta * (np.asarray(factors, dtype=np.float64) - mu))))


def co_drawn(matrix: LabelMatrix) -> sparse.csr_array[Any, tuple[int, int]]:
    """P(k | j), the share of the rows with label j that have label k, sparse ``(C, C)``.

    The mean over the rows j that are not empty is the expected number of positives per class-aware draw.
    """
    together = co_occurrence(matrix).astype(np.float64)
    together.data = together.data / np.repeat(label_counts(matrix), np.diff(together.indptr))
    return together


class ClassAwareMultiLabelSampler(LabelMatrixSampler):
    """All labels are visited equally often.

    Args:
        labels: see `LabelMatrixSampler`. Rows without a label are never drawn.
        samples_per_class: consecutive draws for a label before the next one; the authors' ``num_samples_cls``.
        reduce: divides the length of an epoch, max_j n_j C.
        seed: see `LabelMatrixSampler`.
        num_samples: length of an epoch; None takes max_j n_j C / reduce.
        num_classes: see `LabelMatrixSampler`. A label without a row is skipped.

    Raises:
        SettingError: no row has a label; `samples_per_class` below 1; `reduce` not above 0.
    """

    def __init__(
        self,
        labels: Any,
        *,
        samples_per_class: int = 3,
        reduce: float = 4.0,
        seed: int = 0,
        num_samples: int | None = None,
        num_classes: int | None = None,
    ) -> None:
        super().__init__(labels, seed=seed, num_samples=num_samples, num_classes=num_classes)
        samples_per_class = whole_number(samples_per_class, "samples_per_class", type(self).__name__)
        if samples_per_class < 1:
            raise SettingError(
                "ClassAwareMultiLabelSampler: expected `samples_per_class` to be at least 1, but got "
                f"{samples_per_class}."
            )
        if not 0.0 < reduce < float("inf"):
            raise SettingError(f"ClassAwareMultiLabelSampler: expected `reduce` to be above 0, but got {reduce!r}.")
        if self.label_matrix.nnz == 0:
            raise SettingError("ClassAwareMultiLabelSampler: expected at least one row with a label, but got none.")
        self.samples_per_class = samples_per_class
        self.reduce = reduce

    def default_num_samples(self) -> int:
        """max_j n_j C / reduce, at least 1."""
        present = int(np.count_nonzero(self.class_counts))
        return max(1, int(int(self.class_counts.max()) * present / self.reduce))

    @cached_property
    def _entries(self) -> ClassAwareSampler:
        """A row counts once under each of its labels: single-label sampling of the entries of the matrix."""
        return ClassAwareSampler(
            self.label_matrix.indices,
            samples_per_class=self.samples_per_class,
            seed=self.seed,
            num_samples=len(self),
            num_classes=self.class_counts.size,
        )

    def expected_uses(self) -> NDArray[np.float64]:
        """How often an epoch draws each row in the mean over epochs, ``(N,)``."""
        return draw_probabilities(self.label_matrix) * len(self)

    def plan(self, epoch: int) -> NDArray[np.int64]:
        """Row indices of one epoch, in order, ``(len(self),)``."""
        return entry_rows(self.label_matrix)[self._entries.plan(epoch)]
