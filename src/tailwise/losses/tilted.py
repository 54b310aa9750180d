"""Tilted empirical risk (TERM): between the mean of the losses and the largest of them.

    l = 1/t log( sum_i s_i exp(t v_i) / sum_i s_i )        v_i cross-entropy of row i, s_i sample weight (1), t tilt
    by class: v_c the mean cross-entropy of the rows of class c in the batch, every class present weighs 1

The gradient is the one of a weighted mean with weights s_i exp(t v_i), normalised. t > 0 leans towards the worst rows
or classes (t to infinity: their maximum), t = 0 is the mean, t < 0 leans towards the best, against noisy labels.

Li et al., Tilted Empirical Risk Minimization, ICLR 2021, eq. 2; by class, its tilt over groups with the classes as
groups and the plain mean within each. Survey section 4. Differs from the paper in the mean, which is over the batch
and not over the training set, and by class in that every class weighs the same, whatever its size.
"""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

import torch

from tailwise.errors import SettingError
from tailwise.losses.batchwise import BatchLoss
from tailwise.losses.cross_entropy import cross_entropy_values
from tailwise.losses.group_dro import group_means

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TiltedLoss", "tilted_mean"]


def tilted_mean(values: Tensor, tilt: float, weight: Tensor | None = None) -> Tensor:
    """1/t log of the mean of exp(t v), accurate for t next to 0 and without overflow; the mean for t = 0.

    Args:
        values: v, ``(K,)``.
        tilt: t, any finite number.
        weight: not negative, ``(K,)``; None weighs all alike.

    Returns:
        Scalar; zero that keeps the graph where no value weighs anything.
    """
    if weight is not None:
        values, weight = values[weight > 0], weight[weight > 0]
    if not values.numel():
        return values.sum()
    share = torch.full_like(values, 1.0 / values.numel()) if weight is None else weight / weight.sum()
    if tilt == 0.0:
        return (share * values).sum()
    # Any fixed number may be taken out of the values; with the one that weighs most no exponential is above 1.
    worst = (values.amax() if tilt > 0 else values.amin()).detach()
    exponents = tilt * (values - worst)
    if torch.compiler.is_compiling() or bool(exponents.detach().amin() < -1.0):
        return worst + torch.logsumexp(exponents + share.log(), dim=0) / tilt
    return worst + torch.log1p((share * torch.expm1(exponents)).sum()) / tilt


class TiltedLoss(BatchLoss):
    """Cross-entropy of the rows, or of the classes, of a batch under a tilted mean.

    Args:
        tilt: t, finite; 0.5 to 5 is usual for rare classes, 0 gives the mean.
        by_class: average within each class first and tilt over the classes present.
        ignore_index: see `Loss`.
    """

    def __init__(self, tilt: float = 1.0, *, by_class: bool = False, ignore_index: int = -100) -> None:
        super().__init__(ignore_index=ignore_index)
        if not isfinite(tilt):
            raise SettingError(f"Expected `tilt` to be a finite number, but got {tilt!r}.")
        self.tilt = float(tilt)
        self.by_class = by_class

    def batch_value(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        features: Tensor | None,
        group: Tensor | None,
        sample_weight: Tensor | None,
    ) -> Tensor:
        """The tilted loss of a batch."""
        del features, group
        values = cross_entropy_values(logits, target)
        if not self.by_class:
            return tilted_mean(values, self.tilt, sample_weight)
        means, present = group_means(values, target, logits.shape[1], sample_weight)
        return tilted_mean(means, self.tilt, present.to(means.dtype))

    def effective_prior(self, prior: Tensor) -> Tensor:
        """`prior` over rows; by class the same for all classes that occur, ``(C,)`` to ``(C,)``.

        To first order in t, and by class where every batch holds every class: the tilt itself follows the losses.
        """
        if not self.by_class:
            return prior
        occurs = (prior > 0).to(prior.dtype)
        return occurs / occurs.sum()
