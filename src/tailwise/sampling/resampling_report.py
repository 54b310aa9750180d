"""What re-sampling does to the labels of rows that have several: a report to read, and to test.

A row brings all its labels along, so that whoever repeats rare labels repeats their frequent companions too. The report
compares, before and after: rows with each label, IRLbl and MeanIR (Charte et al., Neurocomputing 163, 2015), which
minority labels occur together with which majority labels, and SCUMBLE, the mean over the rows of how unequal the IRLbl
of their labels are (Charte et al., HAIS 2014). Majority labels that grew and labels that are no longer drawn are named
in warnings. Survey section 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from tailwise.errors import SettingError
from tailwise.sampling.label_matrix import (
    LabelMatrix,
    entry_rows,
    irlbl,
    label_counts,
    mean_ir,
    minority_labels,
    row_scumble,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["ReSamplingReport", "report_of"]

_LISTED = 8
_PAIRS = 5


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
        scumble_before: mean SCUMBLE of the rows; above 0.1 rare labels mostly come with frequent ones, and whoever
            repeats the former repeats the latter.
        scumble_after: mean SCUMBLE of the draws, with IRLbl after.
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
    scumble_before: float
    scumble_after: float
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
        scumble = f"SCUMBLE {self.scumble_before:.3f} -> {self.scumble_after:.3f}"
        lines = [
            f"Re-sampling: {self.rows:,} rows -> {self.draws:,} draws",
            f"MeanIR {_written(self.mean_ir_before)} -> {_written(self.mean_ir_after)}, {scumble}",
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
            *self._pairs(),
        ]

    def _part(self, title: str, labels: NDArray[np.int64], width: int) -> list[str]:
        lines = [
            f"  {self.class_names[j]:<{width}}  {self.counts_before[j]:>9,} -> {self.counts_after[j]:>9,}   "
            f"IRLbl {_written(self.irlbl_before[j]):>9} -> {_written(self.irlbl_after[j]):>9}"
            for j in labels[:_LISTED]
        ]
        more = [f"  ... and {labels.size - _LISTED:,} more"] if labels.size > _LISTED else []
        return [f"{title}:", *lines, *more] if lines else []

    def _pairs(self) -> list[str]:
        """The pairs of a minority and a majority label that occur together most often, before and after."""
        pairs = (self.together_before + self.together_after).tocoo()
        rows, columns = (index[pairs.data > 0] for index in pairs.coords)
        top = np.lexsort((columns, rows, -pairs.data[pairs.data > 0]))[:_PAIRS]
        named = {
            f"{self.class_names[self.minority[i]]} + {self.class_names[self.majority[j]]}": (i, j)
            for i, j in zip(rows[top].tolist(), columns[top].tolist(), strict=True)
        }
        width = max(map(len, named), default=0)
        lines = [
            f"  {name:<{width}}  {self.together_before[pair]:>9,} -> {self.together_after[pair]:>9,}"
            for name, pair in named.items()
        ]
        more = [f"  ... and {rows.size - _PAIRS:,} more"] if rows.size > _PAIRS else []
        return ["Minority with majority labels, most frequent pairs:", *lines, *more] if lines else []


def _written(number: float) -> str:
    """Two decimals; a dash for what is undefined."""
    return "-" if np.isnan(number) else f"{number:.2f}"


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
        scumble_before=float(row_scumble(matrix).mean()),
        scumble_after=_mean_scumble(matrix, uses, after),
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


def _mean_scumble(matrix: LabelMatrix, uses: NDArray[np.int64], counts: NDArray[np.int64]) -> float:
    """Mean SCUMBLE of the draws; `counts` are theirs."""
    drawn = uses > 0
    return float(row_scumble(matrix[drawn], counts) @ uses[drawn] / max(1, int(uses.sum())))
