"""One ratio per class from the probabilities of a batch: what batch dice and Tversky loss are made of.

    v_j = (N_j / D_j)^e,   L = mean_j v_j,   p = softmax(z), k 2 or 1
    N_j = a E_j + b M_j,   D_j = c E_j + d M_j + H_j + o n_j + g
    E_j = sum_{i: y_i != j} w_i p_ij^k        taken by class j from the rows of others
    M_j = sum_{i: y_i = j} w_i (1 - p_ij)^k   missed
    H_j = sum_{i: y_i = j} w_i p_ij^k         hit,   n_j = sum_{i: y_i = j} w_i

1 - p_iy is the sum of the other probabilities, exact next to p_iy = 1. Where a gradient is wanted it is written out:
with h_ij = p_ij dL/dp_ij it is h_ij - p_ij sum_m h_im, and h follows from the derivatives by E, M and H, one number
each per class.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tailwise.losses.written_gradient import softmax_of, sum_with_gradient, wants_compiled_gradient

__all__ = ["RatioSetting", "class_ratios", "mean_class_ratio", "mean_over_classes"]


class RatioSetting(NamedTuple):
    """The form of the ratio; letters as in the module.

    Attributes:
        taken: a, of E in N.
        missed: b, of M in N.
        taken_size: c, of E in D.
        missed_size: d, of M in D.
        own_size: o, of n in D.
        smooth: g > 0.
        squared: k is 2, else 1.
        exponent: e > 0.
        present_only: mean over the classes that occur in the batch, else over all.
    """

    taken: float
    missed: float
    taken_size: float
    missed_size: float
    own_size: float
    smooth: float
    squared: bool
    exponent: float
    present_only: bool


def class_ratios(probabilities: Tensor, target: Tensor, weight: Tensor, setting: RatioSetting) -> Tensor:
    """The ratios, as a differentiable function.

    Args:
        probabilities: p, ``(M, C)``.
        target: class indices, ``(M,)``.
        weight: w, ``(M,)``.
        setting: the form.

    Returns:
        ``(C,)``, in the type of `probabilities`.
    """
    column = target[:, None]
    rest = probabilities.scatter(1, column, 0.0)
    gold, misses = probabilities.gather(1, column).squeeze(1), rest.sum(dim=1)
    if setting.squared:
        rest, gold, misses = rest.square(), gold.square(), misses.square()
    zeros = rest.new_zeros(rest.shape[1])
    by_class = [zeros.index_add(0, target, weight * numbers) for numbers in (misses, gold, torch.ones_like(gold))]
    parts, sizes = _parts_and_sizes(torch.stack([weight @ rest, *by_class]), setting)
    values = parts / sizes
    if setting.exponent == 1.0:
        return values
    # Where nothing is wrong the slope of a fractional power is infinite; the loss is 0 there, and so is the gradient.
    return values.clamp_min(torch.finfo(values.dtype).tiny) ** setting.exponent


def mean_over_classes(values: Tensor, target: Tensor, *, present_only: bool) -> Tensor:
    """Mean of one number per class ``(C,)``, over the classes that occur in `target` ``(M,)`` or over all."""
    return torch.dot(values, _shares(values, target, present_only=present_only))


def mean_class_ratio(logits: Tensor, target: Tensor, sample_weight: Tensor | None, setting: RatioSetting) -> Tensor:
    """The loss of a batch, with the gradient computed along where one is wanted.

    Args:
        logits: ``(M, C)``, M > 0.
        target: class indices, ``(M,)``.
        sample_weight: w, ``(M,)``, or None for ones.
        setting: the form.
    """
    weight = logits.new_ones(target.shape) if sample_weight is None else sample_weight.to(logits.dtype)

    def plain(scores: Tensor) -> Tensor:
        values = class_ratios(torch.softmax(scores, dim=1), target, weight, setting)
        return mean_over_classes(values, target, present_only=setting.present_only)

    def written(scores: Tensor) -> tuple[Tensor, Tensor]:
        return _mean_with_gradient(scores, target, weight, setting)

    if weight.requires_grad or not wants_compiled_gradient(logits):
        return plain(logits)
    return sum_with_gradient(logits, target, plain, written)


def _shares(values: Tensor, target: Tensor, *, present_only: bool) -> Tensor:
    if not present_only:
        return torch.full_like(values, 1.0 / values.numel())
    present = torch.zeros_like(values).index_fill_(0, target, 1.0)
    return present.div_(present.sum())


def _parts_and_sizes(sums: Tensor, setting: RatioSetting) -> tuple[Tensor, Tensor]:
    """N and D, ``(C,)``, of E, M, H and n, ``(4, C)``."""
    taken, missed, hit, own = sums.unbind()
    sizes = torch.add(hit + setting.smooth, taken, alpha=setting.taken_size)
    if setting.missed_size:
        sizes = torch.add(sizes, missed, alpha=setting.missed_size)
    if setting.own_size:
        sizes = torch.add(sizes, own, alpha=setting.own_size)
    return torch.add(setting.missed * missed, taken, alpha=setting.taken), sizes


def _mean_with_gradient(scores: Tensor, target: Tensor, weight: Tensor, setting: RatioSetting) -> tuple[Tensor, Tensor]:
    from tailwise.losses.kernels import multiply_by_slopes, sums_of_classes

    matrix = softmax_of(scores)
    gold, misses = torch.empty_like(weight), torch.empty_like(weight)
    sums = torch.zeros(4, matrix.shape[1], dtype=torch.float64)
    rows = target.contiguous().numpy(), weight.contiguous().numpy(), setting.squared, gold.numpy(), misses.numpy()
    sums_of_classes(matrix.numpy(), *rows, sums.numpy())
    total, slopes = _mean_and_slopes(sums, target, setting)
    multiply_by_slopes(matrix.numpy(), *rows, slopes.to(matrix.dtype).numpy())
    return total.to(matrix.dtype), matrix


def _mean_and_slopes(sums: Tensor, target: Tensor, setting: RatioSetting) -> tuple[Tensor, Tensor]:
    """The loss, and its derivatives by E, M and H ``(3, C)``, of E, M, H and n ``(4, C)``."""
    parts, sizes = _parts_and_sizes(sums, setting)
    ratios = parts / sizes
    shares = _shares(ratios, target, present_only=setting.present_only)
    by_part = shares / sizes  # dL/dN
    total = torch.dot(ratios if setting.exponent == 1.0 else ratios**setting.exponent, shares)
    if setting.exponent != 1.0:
        by_part.mul_(_power_slope(ratios, setting.exponent))
    by_size = -by_part * ratios  # dL/dD
    by_taken = torch.add(setting.taken * by_part, by_size, alpha=setting.taken_size)
    by_missed = torch.add(setting.missed * by_part, by_size, alpha=setting.missed_size)
    return total, torch.stack([by_taken, by_missed, by_size])


def _power_slope(ratios: Tensor, exponent: float) -> Tensor:
    tiny = torch.finfo(ratios.dtype).tiny
    return (exponent * ratios.clamp_min(tiny) ** (exponent - 1.0)).where(ratios > tiny, 0.0)
