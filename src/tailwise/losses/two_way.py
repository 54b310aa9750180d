"""Two-way loss: labels are ranked within each row, and rows within each label.

    rows     mean over rows with a label of
             softplus(T_n lse_{l not in Y_i}(z_il / T_n) + T_p lse_{k in Y_i}(-z_ik / T_p))
    labels   the same over the rows of the batch, for every label that a row of the batch has

Kobayashi, Two-way Multi-Label Loss, CVPR 2023, eq. 8 and 9. Differs from the author's code in empty sets: where a row
has all labels, or all rows have a label, there is nothing to rank and the value is 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from tailwise.errors import SettingError
from tailwise.losses.multilabel import MultiLabelLoss, masked_logsumexp

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TwoWayLoss", "one_way_mean"]


def one_way_mean(
    logits: Tensor,
    positive: Tensor,
    negative: Tensor,
    dim: int,
    positive_temperature: float,
    negative_temperature: float,
    weight: Tensor | None = None,
) -> Tensor:
    """One of the two means, over the sets along `dim` that hold a positive.

    Args:
        logits: ``(M, C)``.
        positive: bool ``(M, C)``.
        negative: bool ``(M, C)``; an entry of neither is unknown.
        dim: 1 ranks labels within rows, 0 rows within labels.
        positive_temperature: T_p.
        negative_temperature: T_n.
        weight: of each set, or None for ones.

    Returns:
        Scalar; zero that keeps the graph where no set holds a positive.
    """
    some = positive.any(dim=dim)
    whole = (some & negative.any(dim=dim)).unsqueeze(dim)
    low = positive_temperature * masked_logsumexp(-logits / positive_temperature, positive | ~whole, dim)
    high = negative_temperature * masked_logsumexp(logits / negative_temperature, negative | ~whole, dim)
    values = functional.softplus(low + high, threshold=40.0).where(whole.squeeze(dim), 0.0)
    count = some.to(values.dtype) if weight is None else some * weight
    return (values * count).sum() / count.sum().clamp_min(torch.finfo(values.dtype).tiny)


class TwoWayLoss(MultiLabelLoss):
    """Ranks labels within rows and rows within labels; needs batches that hold most labels.

    Scores are relative: there is no natural threshold.

    Args:
        positive_temperature: T_p > 0.
        negative_temperature: T_n > 0.
        ignore_index: see `MultiLabelLoss`.
    """

    separable: bool = False

    def __init__(
        self, *, positive_temperature: float = 4.0, negative_temperature: float = 1.0, ignore_index: int = -100
    ) -> None:
        super().__init__(ignore_index=ignore_index)
        for name, value in (
            ("positive_temperature", positive_temperature), ("negative_temperature", negative_temperature)
        ):  # fmt: skip
            if not 0.0 < value < float("inf"):
                raise SettingError(f"Expected `{name}` to be a finite number larger than 0, but got {value!r}.")
        self.positive_temperature = float(positive_temperature)
        self.negative_temperature = float(negative_temperature)

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
        """The sum of the two means; `sample_weight` weighs the rows of the first."""
        del features, group
        positive = target > 0.5
        negative = ~positive if valid is None else ~positive & valid
        temperatures = self.positive_temperature, self.negative_temperature
        rows = one_way_mean(logits, positive, negative, 1, *temperatures, weight=sample_weight)
        return rows + one_way_mean(logits, positive, negative, 0, *temperatures)
