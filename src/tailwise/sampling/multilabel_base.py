"""What every multi-label sampler is: a plan, and a report of what it does to all labels at once.

A row brings all its labels along, so that whoever repeats rare labels repeats their frequent companions too. Hence no
sampler of this family hides its effect: `LabelMatrixSampler.before_after` compares the labels before and after, in
numbers, and printed on request, names the majority labels that grew.

As everywhere, a plan is a pure function of (labels, seed, epoch), the same on every rank and every machine.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from tailwise.sampling.base import PlannedSampler
from tailwise.sampling.label_matrix import LabelMatrix, as_label_matrix, label_counts
from tailwise.sampling.resampling_report import ReSamplingReport, report_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["LabelMatrixSampler", "ResampledSetSampler", "rounded_at_random"]

_UNITS = 1 << 32


class LabelMatrixSampler(PlannedSampler):
    """Base of the samplers over several labels per row.

    Args:
        labels: a matrix of 0 and 1, ``(N, C)``, dense or sparse, or one list of label indices per row; see
            `as_label_matrix`.
        seed: any non-negative integer.
        num_samples: length of an epoch; None takes the sampler's own.
        num_classes: C for lists of label indices; None takes the largest index + 1.

    Raises:
        SettingError: labels that are no label matrix; `num_samples` below 1; a negative `seed`.
    """

    def __init__(
        self, labels: Any, *, seed: int = 0, num_samples: int | None = None, num_classes: int | None = None
    ) -> None:
        super().__init__(seed=seed, num_samples=num_samples)
        self.label_matrix: LabelMatrix = as_label_matrix(labels, num_classes=num_classes, name=type(self).__name__)
        self.class_counts: NDArray[np.int64] = label_counts(self.label_matrix)

    @property
    def num_rows(self) -> int:
        """N, the number of rows."""
        return int(self.label_matrix.shape[0])

    @abstractmethod
    def expected_uses(self) -> NDArray[np.float64]:
        """How often an epoch draws each row in the mean over epochs, ``(N,)``; sums to ``len(self)``."""

    def row_rates(self) -> NDArray[np.float64]:
        """`expected_uses` relative to natural sampling, ``(N,)`` of mean 1."""
        rates: NDArray[np.float64] = self.expected_uses() * (self.num_rows / len(self))
        return rates

    def effective_prior(self) -> NDArray[np.float64]:
        """Expected positives of each label per draw, ``(C,)``: the prior that a model trained on the plan learns."""
        prior: NDArray[np.float64] = self.label_matrix.T @ (self.expected_uses() / len(self))
        return prior

    def before_after(self, epoch: int = 0, *, class_names: Sequence[str] | None = None) -> ReSamplingReport:
        """What the plan of an epoch does to every label; `str` of it is a page to read.

        Args:
            epoch: the epoch whose plan is counted.
            class_names: for the page, ``(C,)``; None prints label numbers.

        Raises:
            SettingError: another number of names than of labels.
        """
        uses = np.bincount(self.plan(epoch), minlength=self.num_rows)
        return report_of(self.label_matrix, uses, class_names=class_names)

    def set_generator(self) -> np.random.Generator:
        """The random stream of what is chosen once for all epochs; none of the streams of the epochs."""
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(self.seed, spawn_key=(0,))))


class ResampledSetSampler(LabelMatrixSampler):
    """Base of the samplers that repeat and leave out rows of the data set; parameters as in `LabelMatrixSampler`.

    An epoch is the re-sampled set in random order. A smaller `num_samples` takes a random part of it, a larger one goes
    on with further sets.
    """

    @abstractmethod
    def uses(self, generator: np.random.Generator) -> NDArray[np.int64]:
        """How often each row is in a re-sampled set, ``(N,)``; the sum is the same for every generator."""

    @abstractmethod
    def mean_uses(self) -> NDArray[np.float64]:
        """The expectation of `uses`, ``(N,)``."""

    def default_num_samples(self) -> int:
        """Size of the re-sampled set."""
        return round(float(self.mean_uses().sum()))

    def expected_uses(self) -> NDArray[np.float64]:
        """How often an epoch draws each row in the mean over epochs, ``(N,)``."""
        return np.asarray(self.mean_uses() * (len(self) / self.default_num_samples()))

    def plan(self, epoch: int) -> NDArray[np.int64]:
        """Row indices of one epoch, in order, ``(len(self),)``."""
        generator, rows = self.random_stream(epoch), np.arange(self.num_rows)
        size, left, drawn = self.default_num_samples(), len(self), []
        while left > 0:
            members = np.repeat(rows, self.uses(generator))
            if left < size:
                drawn.append(members[generator.choice(size, left, replace=False)])
            else:
                drawn.append(generator.permutation(members))
            left -= size
        return np.concatenate(drawn)


def rounded_at_random(expected: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.int64]:
    """Whole numbers with these expectations and a fixed sum, ``(N,)``: each is rounded up or down.

    Systematic sampling over the rows in random order: row i is rounded up with a probability that is its fraction. The
    fractions are taken in units of 2^-32 and added as integers, so that the last bits of a logarithm, which differ
    between machines, make no other plan.

    Args:
        expected: at least 0; the sum is a whole number, up to rounding errors.
        generator: the random stream.
    """
    units = np.rint(expected * _UNITS).astype(np.int64)
    uses, fraction = np.divmod(units, _UNITS)
    missing = round(int(fraction.sum()) / _UNITS)
    if missing == 0:
        return uses
    open_rows = generator.permutation(np.flatnonzero(fraction))
    ends = np.cumsum(fraction[open_rows])
    marks = (np.arange(missing) + generator.random()) * (int(ends[-1]) / missing)
    hit = np.minimum(np.searchsorted(ends, marks, side="right"), open_rows.size - 1)
    return uses + np.bincount(open_rows[hit], minlength=uses.size)
