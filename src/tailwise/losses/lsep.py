"""Log-sum-exp pairwise loss (LSEP): every label of a row above every label it does not have.

    l_i = log(1 + sum_{k in Y_i} sum_{l not in Y_i} exp(z_l - z_k))
        = softplus(lse_{l not in Y_i}(z_l) + lse_{k in Y_i}(-z_k))

Li, Song, Luo, Improving Pairwise Ranking for Multi-label Image Classification, CVPR 2017, eq. 4. The double sum
factorises, so time and memory are O(C) per row. Differs from the paper in using all pairs, where the paper samples at
most t per row to bound the cost. A row without a label, or with all of them, has no pair and the value 0; it stays in
the denominator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

from tailwise.losses.multilabel import RowwiseLoss, masked_logsumexp

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LSEPLoss", "lsep_values", "pair_sums"]


def pair_sums(logits: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """Log sum over pairs of exp(z_l - z_k), and whether a row has a pair, both ``(M,)``; 0 where it has none."""
    some = positive.any(dim=1) & negative.any(dim=1)
    # Rows without a pair take sums over all their scores, which are finite, and are replaced afterwards.
    over_positives = masked_logsumexp(-logits, positive | ~some[:, None])
    over_negatives = masked_logsumexp(logits, negative | ~some[:, None])
    return (over_positives + over_negatives).where(some, 0.0), some


def lsep_values(logits: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """Per-row LSEP.

    Args:
        logits: ``(M, C)``.
        positive: labels of the row, bool ``(M, C)``.
        negative: labels it does not have, bool ``(M, C)``.

    Returns:
        ``(M,)``, same dtype as `logits`.
    """
    pairs, some = pair_sums(logits, positive, negative)
    return functional.softplus(pairs, threshold=40.0).where(some, 0.0)


class LSEPLoss(RowwiseLoss):
    """Smooth pairwise ranking of labels; scores order the labels of a row and have no natural threshold.

    Args:
        reduction: see `MultiLabelLoss`.
        ignore_index: see `MultiLabelLoss`.
    """

    convex: bool = True

    def row_values(self, logits: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """Per-row values ``(M,)``."""
        return lsep_values(logits, positive, negative)
