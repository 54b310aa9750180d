"""Supervised contrastive loss (SupCon).

    l_i = -1 / |P(i)| sum_{p in P(i)} [ s_ip - log sum_{k != i} exp(s_ik) ],   s_ik = f_i . f_k / T
    P(i) the other rows with the label of row i, f features of length 1, T temperature

Khosla et al., Supervised Contrastive Learning, NeurIPS 2020, eq. 2 (L_out). Survey section 3.3. With `class_averaged`
every class has the same weight in the denominator, the mean of its rows in place of their sum (Zhu et al., Balanced
Contrastive Learning, CVPR 2022). Differs from the authors' code in the mean, which leaves anchors without a positive
out (theirs counts them as 0), and in the factor T / base_temperature, which is an option.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tailwise.errors import SettingError
from tailwise.losses.base import divided
from tailwise.losses.batchwise import BatchLoss

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["SupervisedContrastiveLoss", "checked_temperature", "mean_over_anchors", "similarities", "unit_rows"]

_NO_LENGTH = 1e-12


def similarities(features: Tensor, temperature: float, *, normalise: bool = True) -> tuple[Tensor, Tensor]:
    """s_ik ``(M, M)``, and which entries are of a row with itself, bool ``(M, M)``, of features ``(M, D)``."""
    unit = unit_rows(features) if normalise else features
    itself = torch.eye(features.shape[0], dtype=torch.bool, device=features.device)
    return unit @ unit.T / temperature, itself


def unit_rows(features: Tensor) -> Tensor:
    """Rows brought to length 1, ``(M, D)``; one without a direction stays as it is, and so its gradient is finite."""
    lengths = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    unit: Tensor = features / lengths.where(lengths > _NO_LENGTH, 1.0)
    return unit


def mean_over_anchors(values: Tensor, anchors: Tensor, sample_weight: Tensor | None) -> Tensor:
    """Mean of `values` over the rows that are anchors, weighted; zero that keeps the graph where there is none."""
    weight = anchors.to(values.dtype) if sample_weight is None else anchors * sample_weight
    return divided((values.where(anchors, 0.0) * weight).sum(), weight.sum())


class SupervisedContrastiveLoss(BatchLoss):
    """Rows of a class near each other, others far: shapes the representation, so it needs an encoder that is trained.

    Batches should hold several rows of a class; see `tailwise.sampling.MPerClassBatchSampler`. Time is O(M^2 D).

    Args:
        temperature: T > 0.
        normalise: bring features to length 1 first.
        class_averaged: every class has the same weight in the denominator.
        base_temperature: T0 > 0 multiplies the loss by T / T0, as the authors' code does; None leaves it out.
        ignore_index: see `Loss`.
    """

    requires_features: bool = True
    shapes_representation: bool = True

    def __init__(
        self,
        temperature: float = 0.1,
        *,
        normalise: bool = True,
        class_averaged: bool = False,
        base_temperature: float | None = None,
        ignore_index: int = -100,
    ) -> None:
        super().__init__(ignore_index=ignore_index)
        self.temperature = checked_temperature("temperature", temperature)
        self.normalise = normalise
        self.class_averaged = class_averaged
        self.factor = 1.0
        if base_temperature is not None:
            self.factor = self.temperature / checked_temperature("base_temperature", base_temperature)

    def batch_value(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        features: Tensor | None,
        group: Tensor | None,
        sample_weight: Tensor | None,
    ) -> Tensor:
        """The loss of a batch; `logits` take no part."""
        del group
        assert features is not None
        scores, itself = similarities(features, self.temperature, normalise=self.normalise)
        same = target[:, None] == target[None, :]
        positive = same & ~itself
        others = scores.masked_fill(itself, float("-inf"))
        if self.class_averaged:
            # Rows of a class beside the anchor: its own class has one less.
            sizes = same.sum(dim=0) - positive.to(torch.int64)
            others = others - sizes.clamp_min(1).to(scores.dtype).log()
        # A batch of one row has nothing to compare with.
        denominator = torch.logsumexp(others, dim=1) if target.numel() > 1 else scores.new_zeros(1)
        counts = positive.sum(dim=1)
        attraction = (scores * positive).sum(dim=1) / counts.clamp_min(1)
        loss = mean_over_anchors(denominator - attraction, counts > 0, sample_weight)
        return self.factor * loss + 0.0 * logits.sum()


def checked_temperature(name: str, value: float) -> float:
    """The value, if it is a finite number above 0.

    Raises:
        SettingError: it is not.
    """
    if not 0.0 < value < float("inf"):
        raise SettingError(f"Expected `{name}` to be a finite number larger than 0, but got {value!r}.")
    return float(value)
