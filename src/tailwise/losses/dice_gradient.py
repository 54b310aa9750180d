"""Instance dice and self-adjusting dice with the gradient written out; the losses are in their own modules.

    l = sum_j 1 - (2 f_j y_j + g) / (f_j^k + y_j^k + g),   f_j = (1 - p_j)^b p_j,   p = softmax(z),   k 2 or 1
      = (1 - f_y)^k / (f_y^k + 1 + g) + sum_{j != y} f_j^k / (f_j^k + g)

With h_j = p_j dl/dp_j the gradient is h_j - p_j sum_i h_i. For j other than y, and F = f_j^k,

    h_j = k g F / (F + g)^2 (1 - b p_j / (1 - p_j))          the last factor is 1 where (1 - p)^b is a constant

Two columns are taken out of the rest, computed apart and put back: the class of the row, and another one with more than
half the probability, where 1 - p is the sum of the other probabilities and not a difference that has lost its digits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from tailwise.losses.written_gradient import softmax_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DiceSetting", "instance_dice_with_gradient"]


class DiceSetting(NamedTuple):
    """The form of the loss.

    Attributes:
        squared: k is 2, else 1.
        smooth: g > 0.
        gold: only the term of the class of the row.
        focus: b >= 0.
        detach_factor: no gradient through (1 - p)^b.
    """

    squared: bool
    smooth: float
    gold: bool
    focus: float = 0.0
    detach_factor: bool = False


def instance_dice_with_gradient(
    logits: Tensor, target: Tensor, weight: Tensor, setting: DiceSetting
) -> tuple[Tensor, Tensor]:
    """sum_i w_i l_i and its gradient, by a compiled loop.

    Args:
        logits: without graph, ``(M, C)``, float32 or float64, on the CPU.
        target: class indices, ``(M,)``.
        weight: w_i >= 0, ``(M,)``, of the type of the logits.
        setting: the form.

    Returns:
        Scalar and ``(M, C)``, in the type of the logits.

    Raises:
        IndexError: a target is not the index of a column.
    """
    from tailwise.losses.kernels import instance_dice

    matrix = softmax_of(logits)
    tiny = torch.finfo(matrix.dtype).tiny
    total = instance_dice(matrix.numpy(), target.contiguous().numpy(), weight.contiguous().numpy(), setting, tiny)
    return matrix.new_tensor(total), matrix
