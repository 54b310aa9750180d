"""Dice losses over several labels per row: of every entry, and of every label over the batch.

    entry   l(z, y) = 1 - (2 p y + g) / (p^2 + y^2 + g)                                           p = sigmoid(z)
    batch   L = mean_j 1 - (2 sum_i p_ij y_ij + g) / (sum_i p_ij^2 + sum_i y_ij^2 + g)

g smooth (1); the form that is not squared has p and y in place of p^2 and y^2.
Li et al., Dice Loss for Data-imbalanced NLP Tasks, ACL 2020, eq. 7 with two classes per label (entry); Milletari et
al., V-Net, 3DV 2016, with a column per label (batch), known as soft macro-F1. Survey section 3.3, Tables 1 and 3.
Differs from the papers in nothing. Both are bounded, and confidently wrong entries receive next to no gradient: start
from binary cross-entropy, or add it (`tailwise.losses.WeightedSumLoss`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tailwise.losses.dice import Absent, checked_choice, checked_smooth
from tailwise.losses.multilabel import LabelwiseLoss, MultiLabelLoss, MultiLabelReduction

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MultiLabelBatchDiceLoss", "MultiLabelDiceLoss", "multilabel_dice_values"]


def multilabel_dice_values(logits: Tensor, target: Tensor, *, squared: bool = True, smooth: float = 1.0) -> Tensor:
    """Dice per row and label: (1 - p)^k / (p^k + 1 + g) where y = 1, p^k / (p^k + g) where y = 0, k = 2 or 1.

    These quotients are those of the module's formula with nothing left to cancel.

    Args:
        logits: ``(M, C)``.
        target: 0 to 1, ``(M, C)``, in the type of the logits; between them the two values are mixed.
        squared: k = 2.
        smooth: g > 0.

    Returns:
        ``(M, C)``, same dtype as `logits`.
    """
    present, absent = torch.sigmoid(logits), torch.sigmoid(-logits)
    if squared:
        present, absent = present.square(), absent.square()
    return target * absent / (present + (1.0 + smooth)) + (1.0 - target) * present / (present + smooth)


class MultiLabelDiceLoss(LabelwiseLoss):
    """Dice of every entry: a label that is there and one that is not count by how far the probability misses them.

    Args:
        squared: squares in the denominator.
        smooth: g > 0; smaller makes labels that are predicted and not there cost more.
        reduction: see `MultiLabelLoss`.
        ignore_index: see `MultiLabelLoss`.

    Raises:
        SettingError: a setting out of its range.
    """

    def __init__(
        self,
        *,
        squared: bool = True,
        smooth: float = 1.0,
        reduction: MultiLabelReduction = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(reduction=reduction, ignore_index=ignore_index)
        self.squared, self.smooth = squared, checked_smooth(smooth)

    def label_values(self, logits: Tensor, target: Tensor, *, valid: Tensor | None) -> Tensor:
        """Values ``(M, C)``."""
        del valid
        return multilabel_dice_values(logits, target, squared=self.squared, smooth=self.smooth)


class MultiLabelBatchDiceLoss(MultiLabelLoss):
    """Batch dice: a soft macro-F1 of the batch, over its labels.

    Every label weighs the same, however rare. A batch should have 64 rows or more and hold most labels; the loss of a
    large batch is not the sum of the losses of its parts.

    Args:
        squared: squares in the denominator.
        smooth: g > 0.
        absent: of labels that no row of the batch has: ``"ignore"`` leaves them out of the mean, ``"penalise"`` keeps
            them in, which pushes their probabilities down.
        ignore_index: see `MultiLabelLoss`; unknown entries enter no sum.

    Raises:
        SettingError: a setting out of its range.
    """

    separable: bool = False

    def __init__(
        self, *, squared: bool = True, smooth: float = 1.0, absent: Absent = "penalise", ignore_index: int = -100
    ) -> None:
        super().__init__(ignore_index=ignore_index)
        self.squared, self.smooth = squared, checked_smooth(smooth)
        self.absent: Absent = checked_choice("absent", absent, Absent)

    def batch_value(
        self,
        logits: Tensor,
        target: Tensor,
        valid: Tensor | None,
        *,
        features: Tensor | None,
        group: Tensor | None,
        sample_weight: Tensor | None,
    ) -> Tensor:
        """The loss, a scalar; `sample_weight` multiplies the share of a row in every sum."""
        del features, group
        scores = torch.sigmoid(logits)
        gaps = target * torch.sigmoid(-logits) + (1.0 - target) * scores
        gaps, sizes = (gaps.square(), scores.square() + target) if self.squared else (gaps, scores + target)
        known = torch.ones_like(target) if valid is None else valid.to(target.dtype)
        rows = known if sample_weight is None else known * sample_weight[:, None]
        values = (rows * gaps).sum(dim=0) / ((rows * sizes).sum(dim=0) + self.smooth)
        counted = rows.sum(dim=0) > 0
        if self.absent == "ignore":
            counted = (rows * target).sum(dim=0) > 0
        return values.where(counted, 0.0).sum() / counted.sum().clamp_min(1)
