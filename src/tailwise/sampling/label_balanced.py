"""Label-balanced sampling: the row probabilities that balance the labels best, given who occurs with whom.

    x_i <- x_i * ( prod_{j : Y_ij = 1} t_j / m_j )^(1 / k_i),   m = Y^T x,   x_i = 1/N at first;   q = x / sum x

Simultaneous iterative proportional fitting: m approaches the target t, t_j ~ n_j^(1 - strength), as closely as the
label sets allow (in Kullback-Leibler divergence), and among all x that reach it the result is the one nearest to
natural sampling, a row counted by its number of labels k_i (Byrne, IEEE Transactions on Image Processing 2, 1993). Rows
of one label set have one probability, so that an iteration costs only the entries of the distinct label sets. Rows
without a label keep x_i = 1/N. What cannot be reached, such as a rare label that always comes with a frequent one, is
reported as the residual. A plain sampler alternative to class-aware sampling with re-balancing weights (Wu et al., ECCV
2020), of our own; survey section 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tailwise.errors import SettingError
from tailwise.sampling.checks import whole_number
from tailwise.sampling.label_matrix import entry_rows, label_counts, label_sets
from tailwise.sampling.multilabel_base import LabelMatrixSampler, rounded_at_random

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from tailwise.sampling.label_matrix import LabelMatrix

__all__ = ["BalancedFit", "LabelBalancedSampler", "balanced_probabilities"]

_TINY = 1e-300


@dataclass(frozen=True, eq=False)
class BalancedFit:
    """Row probabilities and how far the labels are from their target.

    Attributes:
        probabilities: q, ``(N,)``, sums to 1.
        frequencies: expected positives of each label per draw, ``(C,)``.
        target: what they should be, with the same sum, ``(C,)``.
        gaps: (frequency - target) / target, NaN for a label without a row, ``(C,)``.
        residual: the largest of them in absolute value; 0: the labels are balanced as asked.
        iterations: how many were made.
    """

    probabilities: NDArray[np.float64]
    frequencies: NDArray[np.float64]
    target: NDArray[np.float64]
    gaps: NDArray[np.float64]
    residual: float
    iterations: int

    @property
    def effective_rows(self) -> float:
        """1 / sum q^2, the number of rows that equal probabilities would spread over; few rows invite overfitting."""
        return float(1.0 / np.square(self.probabilities).sum())


def balanced_probabilities(
    matrix: LabelMatrix, target: ArrayLike, *, iterations: int = 50, tolerance: float = 1e-6
) -> BalancedFit:
    """Fit row probabilities to label frequencies.

    Args:
        matrix: ``(N, C)``, at least one label in it.
        target: what the frequencies of the labels should be proportional to; above 0 for labels with a row, ``(C,)``.
        iterations: the most that are made.
        tolerance: residual at which the fit ends.

    Raises:
        SettingError: no row has a label; `target` of another shape, or not above 0 for a label with a row.
    """
    counts = label_counts(matrix)
    if not counts.any():
        raise SettingError("Expected at least one row with a label to balance labels, but got none.")
    wanted = np.asarray(target, dtype=np.float64)
    if wanted.shape != counts.shape or not np.isfinite(wanted).all() or (wanted[counts > 0] <= 0).any():
        raise SettingError(
            f"Expected `target` to be {counts.size} numbers, above 0 for every label with a row, but got {target!r}."
        )
    rows = matrix.shape[0]
    wanted = np.where(counts > 0, wanted, 0.0)
    wanted = wanted / wanted.sum() * (counts.sum() / rows)
    number, sizes = label_sets(matrix)
    _, first = np.unique(number, return_index=True)
    sets = matrix[first].astype(np.float64)
    set_rows, labels, lengths = entry_rows(sets), sets.indices, np.maximum(np.diff(sets.indptr), 1)
    log_ratio = np.zeros(sizes.size)
    done, reached = 0, counts / rows
    while done < iterations and _gaps(reached, wanted)[counts > 0].max() > tolerance:
        step = np.zeros(counts.size)
        np.log(wanted / np.maximum(reached, _TINY), out=step, where=counts > 0)
        log_ratio = log_ratio + np.bincount(set_rows, step[labels], minlength=sizes.size) / lengths
        mass = (sizes * np.exp(log_ratio) / rows)[set_rows]
        reached = np.asarray(np.bincount(labels, mass, minlength=counts.size), dtype=np.float64)
        done += 1
    weights = np.exp(log_ratio)
    total = float((sizes * weights).sum())
    frequencies = reached * (rows / total)
    target_frequencies = wanted / wanted.sum() * frequencies.sum()
    gaps = np.where(counts > 0, frequencies / np.where(counts > 0, target_frequencies, 1.0) - 1.0, np.nan)
    return BalancedFit(
        probabilities=(weights / total)[number],
        frequencies=frequencies,
        target=target_frequencies,
        gaps=gaps,
        residual=float(np.abs(gaps[counts > 0]).max()),
        iterations=done,
    )


def _gaps(reached: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Relative difference of the proportions, absolute; 0 where nothing is wanted."""
    difference = np.abs(reached / reached.sum() - wanted / wanted.sum())
    gaps = np.zeros(wanted.size)
    np.divide(difference * wanted.sum(), wanted, out=gaps, where=wanted > 0)
    return gaps


class LabelBalancedSampler(LabelMatrixSampler):
    """All labels as equally often as their label sets allow.

    Args:
        labels: see `LabelMatrixSampler`.
        strength: 0 natural, 1 all labels equally often; between, n_j^(1 - strength).
        target: what the frequencies of the labels should be proportional to instead, ``(C,)``.
        iterations: of the fit, at most.
        seed: see `LabelMatrixSampler`.
        num_samples: length of an epoch; None takes N.
        num_classes: see `LabelMatrixSampler`.

    Raises:
        SettingError: no row has a label; `strength` outside [0, 1]; `iterations` below 1; an unfit `target`.
    """

    def __init__(
        self,
        labels: Any,
        *,
        strength: float = 1.0,
        target: ArrayLike | None = None,
        iterations: int = 50,
        seed: int = 0,
        num_samples: int | None = None,
        num_classes: int | None = None,
    ) -> None:
        super().__init__(labels, seed=seed, num_samples=num_samples, num_classes=num_classes)
        name = type(self).__name__
        if not 0.0 <= strength <= 1.0:
            raise SettingError(f"{name}: expected `strength` to lie in [0, 1], but got {strength!r}.")
        if whole_number(iterations, "iterations", name) < 1:
            raise SettingError(f"{name}: expected `iterations` to be at least 1, but got {iterations!r}.")
        if self.label_matrix.nnz == 0:
            raise SettingError(f"{name}: expected at least one row with a label, but got none.")
        self.strength = strength
        counts = self.class_counts.astype(np.float64)
        wanted = np.where(counts > 0, counts ** (1.0 - strength), 0.0) if target is None else target
        self.fit = balanced_probabilities(self.label_matrix, wanted, iterations=iterations)

    @property
    def residual(self) -> float:
        """Largest relative difference between the frequency of a label and its target; see `BalancedFit`."""
        return self.fit.residual

    def default_num_samples(self) -> int:
        """N, the number of rows."""
        return self.num_rows

    @cached_property
    def _expected(self) -> NDArray[np.float64]:
        return self.fit.probabilities * len(self)

    def expected_uses(self) -> NDArray[np.float64]:
        """How often an epoch draws each row in the mean over epochs, ``(N,)``."""
        return self._expected

    def plan(self, epoch: int) -> NDArray[np.int64]:
        """Row indices of one epoch, in order, ``(len(self),)``."""
        generator = self.random_stream(epoch)
        uses = rounded_at_random(self._expected, generator)
        return generator.permutation(np.repeat(np.arange(self.num_rows), uses))
