"""Zero-bounded log-sum-exp and pairwise rank-based loss (ZLPR).

    l_i = log(1 + sum_{k in Y_i} e^(-z_k)) + log(1 + sum_{l not in Y_i} e^(z_l))

Su et al., ZLPR: A Novel Loss for Multi-label Classification, arXiv 2208.02955, 2022. A label is predicted where its
score is above 0. Differs from the paper in nothing; a row without a label is well defined.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tailwise.losses.multilabel import RowwiseLoss

__all__ = ["ZLPRLoss", "log_one_plus_sum_exp", "zlpr_values"]


def log_one_plus_sum_exp(scores: Tensor, mask: Tensor) -> Tensor:
    """log(1 + sum exp) over the entries of `mask` in each row, ``(M, C)`` to ``(M,)``; 0 where there is none."""
    padded = torch.cat([scores.masked_fill(~mask, float("-inf")), scores.new_zeros(scores.shape[0], 1)], dim=1)
    return torch.logsumexp(padded, dim=1)


def zlpr_values(logits: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """Per-row ZLPR.

    Args:
        logits: ``(M, C)``.
        positive: labels of the row, bool ``(M, C)``.
        negative: labels it does not have, bool ``(M, C)``.

    Returns:
        ``(M,)``, same dtype as `logits`.
    """
    return log_one_plus_sum_exp(-logits, positive) + log_one_plus_sum_exp(logits, negative)


class ZLPRLoss(RowwiseLoss):
    """Positives above 0 and negatives below, each side as one softmax against 0.

    Args:
        reduction: see `MultiLabelLoss`.
        ignore_index: see `MultiLabelLoss`.
    """

    convex: bool = True

    def row_values(self, logits: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """Per-row values ``(M,)``."""
        return zlpr_values(logits, positive, negative)
