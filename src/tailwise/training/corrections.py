"""The guard against correcting the class distribution twice.

    delta_j = log(P_j / pi_j) + log(Q_j / P_j)        pi natural, P drawn, Q what the logits express

The first term is what the sampler shifts, the second what the loss does (its class weights, or the prior it takes out).
A loss given by name takes its weights and its prior from what is drawn, so the two together end at a uniform Q: that is
one correction in two parts. It is two corrections where both favour a smaller class over a larger one and Q does so,
for example with inverse-frequency weights of the training counts over class-aware batches. Post-hoc steps start from Q.

Where rows may have several labels, pi, P and Q are the rates of the labels, each between 0 and 1. A margin that goes by
how well a label is known moves Q too, but is not counted as a correction, as it is not for one label per row.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from tailwise.errors import SettingError
from tailwise.losses import WeightedSumLoss
from tailwise.sampling import LabelMatrixSampler, LabelSampler, NaturalSampler, SentenceFactorSampler
from tailwise.training.components import sampled_prior, stage_loss
from tailwise.training.multilabel_components import build_label_loss, drawn_rates

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray
    from scipy.sparse import csr_matrix

    from tailwise.data.labels import LabelSpace
    from tailwise.losses import Loss
    from tailwise.sampling import PlannedSampler
    from tailwise.stages.recipe import Recipe, Stage

__all__ = [
    "PriorShift", "label_stage_shift", "prior_shift", "refuse_double_correction", "refuse_double_label_correction",
    "stage_shift", "warn_of_double_correction",
]  # fmt: skip

_LOG = logging.getLogger(__name__)

#: a ratio of shares from which on a part shifts the prior, and a smaller class counts as favoured over a larger one
_RATIO = 1.1
_COMPARED = 1000


@dataclass(frozen=True, eq=False)
class PriorShift:
    """How a sampler and a loss shift the class distribution.

    Attributes:
        natural: pi, the distribution of the training rows, or the rates of their labels, ``(C,)``.
        drawn: P, that of the rows drawn, ``(C,)``.
        expressed: Q, that of the logits once fitted, ``(C,)``.
    """

    natural: NDArray[np.float64]
    drawn: NDArray[np.float64]
    expressed: NDArray[np.float64]

    @property
    def by_sampler(self) -> NDArray[np.float64]:
        """log(P / pi), NaN for a class without a training row, ``(C,)``."""
        return _log_ratio(self.drawn, self.natural)

    @property
    def by_loss(self) -> NDArray[np.float64]:
        """log(Q / P), NaN for a class that is not drawn, ``(C,)``."""
        return _log_ratio(self.expressed, self.drawn)

    @property
    def overshoot(self) -> tuple[int, int] | None:
        """A smaller class that ends up favoured over a larger one by both parts, and the larger one; None without one.

        Of more than a thousand classes, a thousand spread over the sizes are compared with each other.
        """
        present = np.flatnonzero((self.natural > 0) & (self.drawn > 0) & (self.expressed > 0))
        if present.size < 2:
            return None
        order = present[np.argsort(self.natural[present], kind="stable")]
        chosen = order[np.linspace(0, order.size - 1, min(order.size, _COMPARED)).astype(np.int64)]
        natural, expressed = self.natural[chosen], np.log(self.expressed[chosen])
        favoured = np.where(natural[:, None] < natural, expressed[:, None] - expressed, -np.inf)
        for part in (self.by_sampler[chosen], self.by_loss[chosen]):
            favoured[part[:, None] - part <= np.log(_RATIO)] = -np.inf
        smaller, larger = np.unravel_index(int(favoured.argmax()), favoured.shape)
        if favoured[smaller, larger] <= np.log(_RATIO):
            return None
        return int(chosen[smaller]), int(chosen[larger])


def prior_shift(class_counts: ArrayLike, drawn: NDArray[np.float64], loss: Loss) -> PriorShift:
    """The shift of a loss over rows drawn from `drawn` ``(C,)``, out of training counts ``(C,)``."""
    counts = np.asarray(class_counts, dtype=np.float64)
    return _shift(counts / counts.sum(), drawn, loss)


def stage_shift(
    stage: Stage,
    class_counts: ArrayLike,
    class_names: Sequence[str] | None = None,
    catch_all: str | None = None,
    shares: NDArray[np.float64] | None = None,
) -> PriorShift:
    """The shift of a stage, before any scores where its sampler goes by scores; `shares` are those of `build_loss`."""
    counts = np.asarray(class_counts)
    loss = stage_loss(stage, counts, class_names, catch_all, shares)
    return prior_shift(counts, sampled_prior(stage.sampler, counts, shares), loss)


def label_stage_shift(stage: Stage, targets: csr_matrix, space: LabelSpace) -> PriorShift:
    """The shift of a stage over rows with several labels, ``(N, L)``."""
    drawn = drawn_rates(stage.sampler, targets)
    loss = build_label_loss(stage.loss, space, drawn)
    return _shift(space.prior, space.prior if drawn is None else drawn, loss)


def _shift(natural: NDArray[np.float64], drawn: NDArray[np.float64], loss: Loss) -> PriorShift:
    corrected = loss
    while isinstance(corrected, WeightedSumLoss):
        corrected = corrected.parts[0]
    if corrected.multilabel and corrected.counts_measure_evidence:
        return PriorShift(natural, drawn, drawn)
    expressed = loss.effective_prior(torch.from_numpy(np.array(drawn, dtype=np.float64)))
    return PriorShift(natural, drawn, np.asarray(expressed.numpy(), dtype=np.float64))


def refuse_double_correction(
    recipe: Recipe,
    class_counts: ArrayLike,
    class_names: Sequence[str],
    catch_all: str | None = None,
    shares_of: Callable[[Stage], NDArray[np.float64] | None] = lambda _: None,
) -> None:
    """Check every stage with gradient steps, and log its shift of every class (level info).

    Raises:
        SettingError: sampler and loss of a stage both correct for the class sizes, and overshoot; unless the recipe
            has ``allow_stacking``.
    """
    _refuse(
        recipe, class_names, lambda stage: stage_shift(stage, class_counts, class_names, catch_all, shares_of(stage))
    )


def refuse_double_label_correction(recipe: Recipe, targets: csr_matrix, space: LabelSpace) -> None:
    """`refuse_double_correction` for rows with several labels, ``(N, L)``."""
    _refuse(recipe, space.names, lambda stage: label_stage_shift(stage, targets, space))


def _refuse(recipe: Recipe, class_names: Sequence[str], shift_of: Callable[[Stage], PriorShift]) -> None:
    for number, stage in enumerate(recipe.stages, start=1):
        if stage.share == 0:
            continue
        shift = shift_of(stage)
        where = f"Stage {number} of {recipe.name!r}"
        _LOG.info("%s: log shift of the prior by class: %s", where, _LazyShift(shift, class_names))
        if shift.overshoot is not None and not recipe.allow_stacking:
            raise SettingError(
                f"{where} corrects for the class sizes twice, by the sampler {stage.sampler.name!r} and by the loss "
                f"{stage.loss.name!r}: {overshoot_text(shift, class_names)} Keep one of the two, leave the weights of "
                "the loss to what is drawn, or set allow_stacking: true in the recipe."
            )


def warn_of_double_correction(sampler: PlannedSampler | None, loss: Loss, class_names: Sequence[str]) -> None:
    """Warn where a sampler and a loss both correct for the class sizes, and overshoot.

    Nothing is said of a sampler whose prior is not over the classes of the loss: over one class per row where the loss
    is over several labels, or the other way round.
    """
    natural = _natural(sampler, multilabel=loss.multilabel)
    if sampler is None or natural is None or natural.size > len(class_names):
        return
    missing = (0, len(class_names) - natural.size)
    shift = _shift(np.pad(natural, missing), np.pad(sampler.effective_prior(), missing), loss)
    if shift.overshoot is not None:
        warnings.warn(
            f"{type(sampler).__name__} and {type(loss).__name__} both correct for the class sizes: "
            f"{overshoot_text(shift, class_names)} Keep one of the two, or give the loss the counts of what is drawn.",
            stacklevel=3,
        )


def _natural(sampler: PlannedSampler | None, *, multilabel: bool) -> NDArray[np.float64] | None:
    """What natural sampling has in place of `effective_prior`, ``(C,)``; None where the loss is over other classes."""
    if isinstance(sampler, LabelMatrixSampler):
        one_each = bool((np.diff(sampler.label_matrix.indptr) == 1).all())
        return sampler.class_counts / sampler.num_rows if multilabel or one_each else None
    if multilabel or sampler is None or isinstance(sampler, NaturalSampler):
        return None
    if isinstance(sampler, SentenceFactorSampler):
        counts = np.bincount(sampler.tags[sampler.tags >= 0], minlength=sampler.num_classes)
    elif isinstance(sampler, LabelSampler):
        counts = sampler.class_counts
    else:
        return None
    return np.asarray(counts / counts.sum())


@dataclass(frozen=True, eq=False)
class _LazyShift:
    """The log shift of every class in words, written out only when it is logged."""

    shift: PriorShift
    class_names: Sequence[str]

    def __str__(self) -> str:
        total = _log_ratio(self.shift.expressed, self.shift.natural)
        return ", ".join(f"{name} {value:+.2f}" for name, value in zip(self.class_names, total, strict=True))


def overshoot_text(shift: PriorShift, class_names: Sequence[str]) -> str:
    """The overshoot of a shift in words, with the log shifts of both parts."""
    if shift.overshoot is None:
        return ""
    small, large = shift.overshoot
    parts = "; ".join(
        f"{class_names[j]!r} has {shift.natural[j]:.1%} of the training rows and {shift.expressed[j]:.1%} of what the "
        f"model learns (log shift {shift.by_sampler[j]:+.2f} by the sampler, {shift.by_loss[j]:+.2f} by the loss)"
        for j in (small, large)
    )
    return f"{parts}."


def _log_ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    both = (below > 0) & (above > 0)
    ratio = np.full(above.shape, np.nan)
    ratio[both] = np.log(above[both] / below[both])
    return ratio
