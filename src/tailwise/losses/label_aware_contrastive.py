"""Label-aware contrastive loss (LCL): confusable negatives push harder.

    l_i = -1 / |P(i)| sum_{p in P(i)} w_i(y_i) [ s_ip - log sum_{k != i} w_i(y_k) exp(s_ik) ],   w_i = softmax(u_i)
    P(i) the other rows with the label of row i, s_ik = f_i . f_k / T, u the scores of a weighting network

Suresh and Ong, Not All Negatives are Equal: Label-Aware Contrastive Loss for Fine-grained Text Classification, EMNLP
2021, eq. 3 with the weight of the positive outside the logarithm (the authors call the printed position a typo). Survey
section 3.3. Differs from the authors' code in anchors without a positive, which are left out of the mean (theirs are
not a number). The value can be negative: the weights in the denominator are below 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from tailwise.losses.batchwise import BatchLoss
from tailwise.losses.supervised_contrastive import checked_temperature, mean_over_anchors, similarities

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LabelAwareContrastiveLoss"]


class LabelAwareContrastiveLoss(BatchLoss):
    """Contrastive loss in which the weighting network says which classes a row could be taken for.

    `logits` play the scores of the weighting network. The authors train a second encoder for it, whose logits one may
    pass; in a weighted sum with cross-entropy the classifier itself takes that part.

    Args:
        temperature: T > 0.
        normalise: bring features to length 1 first.
        detach_weights: keep the weights out of the gradient.
        ignore_index: see `Loss`.
    """

    requires_features: bool = True
    shapes_representation: bool = True

    def __init__(
        self,
        temperature: float = 0.3,
        *,
        normalise: bool = True,
        detach_weights: bool = False,
        ignore_index: int = -100,
    ) -> None:
        super().__init__(ignore_index=ignore_index)
        self.temperature = checked_temperature("temperature", temperature)
        self.normalise = normalise
        self.detach_weights = detach_weights

    def batch_value(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        features: Tensor | None,
        group: Tensor | None,
        sample_weight: Tensor | None,
    ) -> Tensor:
        """The loss of a batch."""
        del group
        assert features is not None
        scores, itself = similarities(features, self.temperature, normalise=self.normalise)
        positive = (target[:, None] == target[None, :]) & ~itself
        log_weights = functional.log_softmax(logits.detach() if self.detach_weights else logits, dim=1)
        weighted = (scores + log_weights.index_select(1, target)).masked_fill(itself, float("-inf"))
        denominator = torch.logsumexp(weighted, dim=1) if target.numel() > 1 else scores.new_zeros(1)
        counts = positive.sum(dim=1)
        attraction = (scores * positive).sum(dim=1) / counts.clamp_min(1)
        own = log_weights.gather(1, target[:, None]).squeeze(1).exp()
        loss = mean_over_anchors(own * (denominator - attraction), counts > 0, sample_weight)
        return loss + 0.0 * logits.sum()
