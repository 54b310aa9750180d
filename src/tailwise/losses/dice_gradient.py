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

from tailwise.losses.written_gradient import block_rows, softmax_of

if TYPE_CHECKING:
    from collections.abc import Sequence

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

    @property
    def scale(self) -> float:
        """The product k g."""
        return (2.0 if self.squared else 1.0) * self.smooth

    @property
    def moves_factor(self) -> bool:
        """Whether there is a gradient through (1 - p)^b."""
        return bool(self.focus) and not self.detach_factor


def instance_dice_with_gradient(
    logits: Tensor, target: Tensor, weight: Tensor, setting: DiceSetting
) -> tuple[Tensor, Tensor]:
    """sum_i w_i l_i and its gradient.

    Args:
        logits: contiguous, without graph, ``(M, C)``.
        target: class indices, ``(M,)``.
        weight: w_i >= 0, ``(M,)``.
        setting: the form.

    Returns:
        Scalar and ``(M, C)``, in the type of the logits.
    """
    column = target[:, None]
    rest = softmax_of(logits)
    gold = rest.gather(1, column).squeeze(1)
    rest.scatter_(1, column, 0.0)
    misses = rest.sum(dim=1)
    total, pull = _own_terms(gold, misses, weight, setting)
    if setting.gold:
        return total, rest.mul_(-pull[:, None]).scatter_(1, column, pull.mul_(misses)[:, None])
    row = _crowded_rows(rest, setting)
    if not row.numel():
        value, others = _other_terms(rest, pull, weight, setting)
        return total.add_(value), rest.scatter_(1, column, pull.mul_(misses).addcmul_(gold, others, value=-1)[:, None])
    top, place = rest[row].max(dim=1)
    rest[row, place] = 0.0
    left = rest[row].sum(dim=1) + gold[row]
    top_total, top_pull = _top_terms(top, left, weight[row], setting)
    pull_of_top = torch.zeros_like(pull).index_add_(0, row, top_pull)
    value, others = _other_terms(rest, pull + pull_of_top, weight, setting)
    rest.scatter_(1, column, (pull * misses - gold * (others + pull_of_top))[:, None])
    rest[row, place] = top_pull * left - top * (others + pull)[row]
    return total + top_total + value, rest


def _crowded_rows(rest: Tensor, setting: DiceSetting) -> Tensor:
    """Rows in which another class has more than half the probability, where that asks for care, ``(K,)``."""
    if not setting.focus or not rest.numel() or float(rest.amax()) <= 0.5:
        return torch.empty(0, dtype=torch.long)
    return (rest.amax(dim=1) > 0.5).nonzero().squeeze(1)


def _own_terms(gold: Tensor, misses: Tensor, weight: Tensor, setting: DiceSetting) -> tuple[Tensor, Tensor]:
    """Sum of the terms of the classes of the rows, and w h_y, of p_y, 1 - p_y and weights, all ``(M,)``."""
    scores, factor = _scores(gold, misses, setting)
    gaps = 1.0 - scores
    if setting.squared:
        sizes = scores.square().add_(1.0 + setting.smooth)
        share = weight / sizes
        pull = (scores + (1.0 + setting.smooth)).mul_(scores).mul_(gaps).mul_(-2.0)
        gaps.square_()
    else:
        sizes = scores + (1.0 + setting.smooth)
        share = weight / sizes
        pull = scores * -(2.0 + setting.smooth)
    pull.mul_(share).div_(sizes)
    return torch.dot(gaps, share), pull if factor is None else pull.mul_(factor)


def _top_terms(top: Tensor, left: Tensor, weight: Tensor, setting: DiceSetting) -> tuple[Tensor, Tensor]:
    """Sum of the terms of other classes, and w h_j, of p_j, 1 - p_j and weights, all ``(K,)``."""
    scores, factor = _scores(top, left, setting)
    scores = scores.square() if setting.squared else scores
    share = scores / (scores + setting.smooth)
    pull = share / (scores + setting.smooth) * (setting.scale * weight)
    return torch.dot(share, weight), pull if factor is None else pull * factor


def _scores(probability: Tensor, left: Tensor, setting: DiceSetting) -> tuple[Tensor, Tensor | None]:
    """The score f of p and 1 - p, and d log f / d log p, None for 1. Below the least 1 - p the power is a constant."""
    if not setting.focus:
        return probability, None
    least = torch.finfo(left.dtype).tiny * (1.0 + setting.focus)  # b / (1 - p) is finite
    clamped = left.clamp_min(least)
    scores = clamped**setting.focus * probability
    if setting.detach_factor:
        return scores, None
    return scores, (probability / clamped).mul_(-setting.focus).add_(1.0).masked_fill_(left < least, 1.0)


def _other_terms(rest: Tensor, pull: Tensor, weight: Tensor, setting: DiceSetting) -> tuple[Tensor, Tensor]:
    """The terms of the other classes, of which none has more than half the probability where there is a focus.

    Args:
        rest: p_j, 0 for the columns taken out, ``(M, C)``; overwritten by w h_j - p_j (sum_i w h_i + pull).
        pull: w h of the columns taken out, ``(M,)``.
        weight: ``(M,)``.
        setting: the form.

    Returns:
        Sum of the terms, and sum_j w h_j, ``(M,)``.
    """
    rows, columns = rest.shape
    step = block_rows(columns)
    root = (weight * setting.scale).sqrt_()
    if rows <= step:
        values, sums = _other_terms_of_block(rest, pull, root, setting, None)
    else:
        buffers = rest.new_empty(3 if setting.focus else 2, step, columns).unbind()
        parts = [slice(start, start + step) for start in range(0, rows, step)]
        found = [_other_terms_of_block(rest[part], pull[part], root[part], setting, buffers) for part in parts]
        values, sums = (torch.cat(pieces) for pieces in zip(*found, strict=True))
    return torch.dot(values, root).div_(setting.scale), sums


def _other_terms_of_block(
    block: Tensor, pull: Tensor, root: Tensor, setting: DiceSetting, buffers: Sequence[Tensor] | None
) -> tuple[Tensor, Tensor]:
    """`_other_terms`, with root = (w k g)^(1/2), so that with v = root / (F + g) h is F v^2 and the term F v / root."""
    if buffers is None:
        buffers = [torch.empty_like(block) for _ in range(3 if setting.focus else 2)]
    elif len(buffers[0]) > len(block):
        buffers = [buffer[: len(block)] for buffer in buffers]
    size, work = buffers[:2]
    if setting.focus:
        misses = torch.sub(block.new_ones(()), block, out=buffers[2])
        torch.log(misses, out=size).mul_(setting.focus).exp_().mul_(block)
        scores = size.square_() if setting.squared else size
    else:
        scores = torch.mul(block, block, out=size) if setting.squared else block
    torch.div(root[:, None], torch.add(scores, setting.smooth, out=work), out=work)
    torch.mul(scores, work, out=size)
    values = size.sum(dim=1)
    size.mul_(work)
    if setting.moves_factor:
        size.addcdiv_(torch.mul(size, block, out=work), misses, value=-setting.focus)
    sums = size.sum(dim=1)
    torch.addcmul(size, block, (sums + pull)[:, None], value=-1, out=block)
    return values, sums
