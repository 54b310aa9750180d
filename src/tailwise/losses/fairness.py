"""Fairness regulariser: equal opportunity across groups.

    L = sum_t mean_g ( m_t - m_tg )^2

m_t mean probability of the gold class over the rows of class t in the batch, m_tg over those of group g among them. It
is 0 where every group of a class is recognised equally well, which is also the case for a classifier that knows
nothing: add it to a loss that trains the classifier.

Subramanian et al., Fairness-aware Class Imbalanced Learning, EMNLP 2021. Survey section 3.3. Differs from the authors'
code in that groups are any number, not two, a class without a row in the batch adds nothing (there: not-a-number), and
the mean is over the groups with a row of the class; there, a group without one adds (m_t)^2, which
`legacy_empty_groups` reproduces.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from tailwise.errors import SettingError
from tailwise.losses.batchwise import BatchLoss
from tailwise.losses.class_weights import as_size

if TYPE_CHECKING:
    from torch import Tensor

    from tailwise.losses.base import Reduction

__all__ = ["FairnessRegulariser", "opportunity_gaps"]


def opportunity_gaps(
    probability: Tensor, target: Tensor, group: Tensor, num_classes: int, num_groups: int, counted: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Gaps m_t - m_tg and which cells have a row.

    Args:
        probability: of the gold class of each row, ``(M,)``.
        target: class indices, ``(M,)``.
        group: group ids, ``(M,)``.
        num_classes: C.
        num_groups: G.
        counted: how often each row counts, ``(M,)``, or None for once.

    Returns:
        The gaps ``(C, G)``, with m_tg = 0 in a cell without a row, and bool ``(C, G)``, the cells with one.
    """
    weight = torch.ones_like(probability) if counted is None else counted.to(probability.dtype)
    cell = target * num_groups + group
    empty = probability.new_zeros(num_classes * num_groups)
    sums = empty.index_add(0, cell, probability * weight).view(num_classes, num_groups)
    counts = empty.index_add(0, cell, weight).view(num_classes, num_groups)
    tiny = torch.finfo(probability.dtype).tiny
    overall = sums.sum(dim=1, keepdim=True) / counts.sum(dim=1, keepdim=True).clamp_min(tiny)
    return overall - sums / counts.clamp_min(tiny), counts > 0


class FairnessRegulariser(BatchLoss):
    """Squared differences between the true-positive rates, in probability, of a class and of its groups.

    Args:
        num_groups: G; group ids run from 0 to G - 1.
        scale: what the logits are multiplied by before softmax, > 0: that of the loss it is added to, where the logits
            are cosine scores.
        legacy_empty_groups: a group without a row of a class counts as one that is never recognised.
        reduction: ``"mean"``: the penalty of the batch.
        ignore_index: see `Loss`.

    Raises:
        SettingError: a parameter out of its range.
    """

    requires_group: bool = True

    def __init__(
        self,
        num_groups: int,
        *,
        scale: float = 1.0,
        legacy_empty_groups: bool = False,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(reduction=reduction, ignore_index=ignore_index)
        if not 0.0 < scale < math.inf:
            raise SettingError(f"Expected `scale` to be a finite number larger than 0, but got {scale!r}.")
        self.num_groups = as_size(num_groups, "num_groups")
        self.scale = self.inference_scale = float(scale)
        self.legacy_empty_groups = legacy_empty_groups

    def batch_value(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        features: Tensor | None,
        group: Tensor | None,
        sample_weight: Tensor | None,
    ) -> Tensor:
        """The penalty, a scalar.

        Raises:
            SettingError: a group id outside the groups.
        """
        del features
        assert group is not None  # `forward` has checked it
        if bool(((group < 0) | (group >= self.num_groups)).any()):
            raise SettingError(
                f"FairnessRegulariser: expected group ids from 0 to {self.num_groups - 1}, but got some from "
                f"{int(group.min())} to {int(group.max())}. Set `num_groups`."
            )
        probability = functional.softmax(self.scale * logits, dim=1).gather(1, target[:, None]).squeeze(1)
        gaps, present = opportunity_gaps(
            probability, target, group.long(), logits.shape[1], self.num_groups, sample_weight
        )
        if self.legacy_empty_groups:
            return gaps.square().mean(dim=1).sum()
        squares = gaps.square().masked_fill(~present, 0.0)
        return (squares.sum(dim=1) / present.sum(dim=1).clamp_min(1)).sum()
