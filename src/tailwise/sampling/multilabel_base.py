"""What every multi-label sampler is: a plan, and a report of what it does to all labels at once.

A row brings all its labels along, so that whoever repeats rare labels repeats their frequent companions too. Hence no
sampler of this family hides its effect: `LabelMatrixSampler.before_after` compares the labels before and after, in
numbers, and printed on request, names the majority labels that grew.

As everywhere, a plan is a pure function of (labels, seed, epoch), the same on every rank and every machine.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from tailwise.errors import SettingError
from tailwise.sampling.base import PlannedSampler
from tailwise.sampling.label_matrix import (
    LabelMatrix,
    as_label_matrix,
    entry_rows,
    irlbl,
    label_counts,
    mean_ir,
    minority_labels,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["LabelMatrixSampler", "ReSamplingReport", "ResampledSetSampler", "report_of", "rounded_at_random"]

_LISTED = 8
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
        generator, rows = self.generator(epoch), np.arange(self.num_rows)
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


@dataclass(frozen=True, eq=False)
class ReSamplingReport:
    """The labels before and after re-sampling.

    Minority and majority labels are told apart by the natural counts: IRLbl > MeanIR. Labels without a row are neither.

    Attributes:
        rows: N, rows before.
        draws: rows after, the length of the epoch.
        counts_before: rows with each label, ``(C,)``.
        counts_after: draws with each label, ``(C,)``.
        irlbl_before: imbalance ratio per label, NaN without a row, ``(C,)``.
        irlbl_after: the same after, ``(C,)``.
        mean_ir_before: mean of it over the labels that occur.
        mean_ir_after: the same after.
        minority: minority labels, ``(c,)``.
        majority: majority labels, ``(C' - c,)``.
        together_before: rows in which a minority and a majority label occur together, sparse ``(c, C' - c)``.
        together_after: draws in which they do, sparse ``(c, C' - c)``.
        accompanied_before: share of the positives of minority labels in a row that has a majority label too.
        accompanied_after: the same after.
        class_names: ``(C,)``.
    """

    rows: int
    draws: int
    counts_before: NDArray[np.int64]
    counts_after: NDArray[np.int64]
    irlbl_before: NDArray[np.float64]
    irlbl_after: NDArray[np.float64]
    mean_ir_before: float
    mean_ir_after: float
    minority: NDArray[np.int64]
    majority: NDArray[np.int64]
    together_before: sparse.csr_array[Any, tuple[int, int]]
    together_after: sparse.csr_array[Any, tuple[int, int]]
    accompanied_before: float
    accompanied_after: float
    class_names: tuple[str, ...]

    @property
    def grown_majority(self) -> NDArray[np.int64]:
        """Majority labels that have more positives after than before, the most grown first."""
        growth = (self.counts_after - self.counts_before)[self.majority]
        order = np.argsort(-growth, kind="stable")
        return self.majority[order[growth[order] > 0]]

    @property
    def lost(self) -> NDArray[np.int64]:
        """Labels that have a row before and none after."""
        return np.flatnonzero((self.counts_before > 0) & (self.counts_after == 0))

    def __str__(self) -> str:
        before, after = f"{self.accompanied_before:.1%}", f"{self.accompanied_after:.1%}"
        lines = [
            f"Re-sampling: {self.rows:,} rows -> {self.draws:,} draws",
            f"MeanIR {self.mean_ir_before:.2f} -> {self.mean_ir_after:.2f}",
            self._group("minority", self.minority),
            self._group("majority", self.majority),
            f"Minority positives in a row with a majority label: {before} -> {after}",
            self._warning(),
        ]
        if self.lost.size:
            lines.append(f"WARNING: {self.lost.size} labels are no longer drawn: {self._named(self.lost)}.")
        return "\n".join([*lines, "", *self._table()])

    def _group(self, kind: str, labels: NDArray[np.int64]) -> str:
        before, after = int(self.counts_before[labels].sum()), int(self.counts_after[labels].sum())
        change = f" ({after / before - 1.0:+.1%})" if before else ""
        return (
            f"{labels.size} {kind} labels: {before:,} -> {after:,} positives{change}, "
            f"{before / self.rows:.3f} -> {after / self.draws:.3f} per draw"
        )

    def _warning(self) -> str:
        grown = self.grown_majority
        if grown.size == 0:
            return "No majority label has more positives than before."
        extra = int((self.counts_after - self.counts_before)[grown].sum())
        denser = int((self.counts_after[grown] * self.rows > self.counts_before[grown] * self.draws).sum())
        return (
            f"WARNING: {grown.size} of {self.majority.size} majority labels grew, {denser} of them also per draw, by "
            f"{extra:,} positives in all: {self._named(grown)}."
        )

    def _named(self, labels: NDArray[np.int64]) -> str:
        changes = self.counts_after - self.counts_before
        named = ", ".join(f"{self.class_names[j]} {changes[j]:+,}" for j in labels[:_LISTED])
        return named + (f" and {labels.size - _LISTED:,} more" if labels.size > _LISTED else "")

    def _table(self) -> list[str]:
        rarest = self.minority[np.argsort(self.counts_before[self.minority], kind="stable")]
        largest = self.majority[np.argsort(-self.counts_before[self.majority], kind="stable")]
        width = max((len(self.class_names[j]) for j in (*rarest[:_LISTED], *largest[:_LISTED])), default=0)
        return [
            *self._part("Rarest minority labels", rarest, width),
            *self._part("Largest majority labels", largest, width),
        ]

    def _part(self, title: str, labels: NDArray[np.int64], width: int) -> list[str]:
        lines = [
            f"  {self.class_names[j]:<{width}}  {self.counts_before[j]:>9,} -> {self.counts_after[j]:>9,}   "
            f"IRLbl {self.irlbl_before[j]:>9.2f} -> {self.irlbl_after[j]:>9.2f}"
            for j in labels[:_LISTED]
        ]
        more = [f"  ... and {labels.size - _LISTED:,} more"] if labels.size > _LISTED else []
        return [f"{title}:", *lines, *more] if lines else []


def report_of(
    matrix: LabelMatrix, uses: NDArray[np.int64], *, class_names: Sequence[str] | None = None
) -> ReSamplingReport:
    """Compare the labels of a data set with those of its rows used so often.

    Args:
        matrix: ``(N, C)``.
        uses: how often each row is drawn, ``(N,)``.
        class_names: ``(C,)``; None takes the label numbers.

    Raises:
        SettingError: another number of names than of labels.
    """
    if class_names is not None and len(class_names) != matrix.shape[1]:
        raise SettingError(f"Expected {matrix.shape[1]} `class_names`, one per label, but got {len(class_names)}.")
    before = label_counts(matrix)
    after = np.asarray(matrix.T @ uses, dtype=np.int64)
    is_minority = minority_labels(before)
    minority, majority = np.flatnonzero(is_minority), np.flatnonzero(~is_minority & (before > 0))
    together = [_together(matrix, count, minority, majority) for count in (np.ones_like(uses), uses)]
    accompanied = [_accompanied(matrix, count, is_minority) for count in (np.ones_like(uses), uses)]
    return ReSamplingReport(
        rows=int(matrix.shape[0]),
        draws=int(uses.sum()),
        counts_before=before,
        counts_after=after,
        irlbl_before=irlbl(before),
        irlbl_after=irlbl(after),
        mean_ir_before=mean_ir(before),
        mean_ir_after=mean_ir(after),
        minority=minority,
        majority=majority,
        together_before=together[0],
        together_after=together[1],
        accompanied_before=accompanied[0],
        accompanied_after=accompanied[1],
        class_names=tuple(class_names) if class_names is not None else tuple(map(str, range(matrix.shape[1]))),
    )


def _together(
    matrix: LabelMatrix, uses: NDArray[np.int64], minority: NDArray[np.int64], majority: NDArray[np.int64]
) -> sparse.csr_array[Any, tuple[int, int]]:
    weighted = matrix.astype(np.int64)
    weighted.data = uses[entry_rows(matrix)]
    columns = weighted.tocsc()
    return sparse.csr_array(columns[:, minority].T @ matrix.tocsc()[:, majority].astype(np.int64))


def _accompanied(matrix: LabelMatrix, uses: NDArray[np.int64], is_minority: NDArray[np.bool_]) -> float:
    rare = np.asarray(matrix @ is_minority.astype(np.int64))
    frequent = np.diff(matrix.indptr) - rare
    positives = int((uses * rare).sum())
    return float((uses * rare)[frequent > 0].sum() / positives) if positives else 0.0
