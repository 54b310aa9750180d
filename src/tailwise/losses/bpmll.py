"""Cross-label dependency loss, BP-MLL.

    E_i = 1 / (|Y_i| |N_i|) sum_{k in Y_i} sum_{l in N_i} exp(c_l - c_k)        N_i the labels that row i does not have
        = mean_{k in Y_i} exp(-c_k) mean_{l in N_i} exp(c_l)

Zhang and Zhou, Multilabel Neural Networks with Applications to Functional Genomics and Text Categorization, TKDE 2006,
eq. 3; in deep learning for text Yeh et al., AAAI 2017, and Ferreira and Vlachos, EMNLP 2019. Survey section 3.3. The
double sum factorises, so time and memory are O(C) per row. Differs from the paper in the default: its outputs c are
tanh of the scores, on which E is bounded; on raw scores E grows exponentially, so the default is log E of raw scores.
``log=False, activation="tanh"`` is the paper. log E has no lower bound and a gradient however well the labels are
ordered, so the scores go on growing: stop early or decay the weights, or take LSEP, which levels off at 0. A row
without a label, or with all of them, has no pair and the value 0; it stays in the denominator.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, get_args

import torch

from tailwise.errors import SettingError
from tailwise.losses.lsep import pair_sums
from tailwise.losses.multilabel import RowwiseLoss

if TYPE_CHECKING:
    from torch import Tensor

    from tailwise.losses.multilabel import MultiLabelReduction

__all__ = ["Activation", "BPMLLLoss", "bpmll_values"]

Activation = Literal["none", "tanh", "sigmoid"]

_HEADROOM = 30.0  # sums of e^30 rows, or of fewer with weights, stay finite


def bpmll_values(outputs: Tensor, positive: Tensor, negative: Tensor, *, log: bool = False) -> Tensor:
    """Per-row E_i or log E_i.

    Args:
        outputs: c, ``(M, C)``, after any activation.
        positive: labels of the row, bool ``(M, C)``.
        negative: labels it does not have, bool ``(M, C)``.
        log: the logarithm, for outputs without bounds. Without it, E is held at a bound that sums of rows do not
            overflow (3.2e25 in float32), where a row has no gradient.

    Returns:
        ``(M,)``, same dtype as `outputs`.
    """
    pairs, some = pair_sums(outputs, positive, negative)
    sizes = positive.sum(dim=1) * negative.sum(dim=1)
    logarithm = pairs - sizes.clamp_min(1).to(outputs.dtype).log()
    if log:
        return logarithm.where(some, 0.0)
    return logarithm.clamp_max(_largest_exponent(outputs)).exp().where(some, 0.0)


def _largest_exponent(outputs: Tensor) -> float:
    return math.log(torch.finfo(outputs.dtype).max) - _HEADROOM


class BPMLLLoss(RowwiseLoss):
    """Every label of a row above every label it does not have, in exponential loss.

    Scores order the labels of a row and have no natural threshold. Ferreira and Vlachos add the loss to cross-entropy;
    see `WeightedSumLoss`.

    Args:
        log: minimise log E_i.
        activation: of the scores: ``"none"``, ``"tanh"`` (the paper) or ``"sigmoid"``.
        reduction: see `MultiLabelLoss`.
        ignore_index: see `MultiLabelLoss`.
    """

    def __init__(
        self,
        *,
        log: bool = True,
        activation: Activation = "none",
        reduction: MultiLabelReduction = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(reduction=reduction, ignore_index=ignore_index)
        if activation not in get_args(Activation):
            raise SettingError(
                f"Expected `activation` to be one of {', '.join(get_args(Activation))}, but got {activation!r}."
            )
        self.log = log
        self.activation = activation
        # E itself is held at a bound and tanh bends, so that only log E of raw scores is convex.
        self.convex = log and activation == "none"

    def row_values(self, logits: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """Per-row values ``(M,)``."""
        outputs = logits if self.activation == "none" else getattr(torch, self.activation)(logits)
        return bpmll_values(outputs, positive, negative, log=self.log)
