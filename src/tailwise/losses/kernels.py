"""Losses and their gradients in compiled loops; needs numba. Letters are those of the modules that call them.

Loops over columns keep to the type of the matrix, since a literal number would take their arithmetic to float64. What
is computed once per row or class may be in float64.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from tailwise.losses.compilation import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tailwise.losses.dice_gradient import DiceSetting

    Floats = NDArray[Any]  # float32 or float64
    Indices = NDArray[np.int64]

__all__ = ["focal", "instance_dice", "multiply_by_slopes", "softmax", "softmax_and_logs", "sums_of_classes"]


@compiled
def softmax_of_row(row: Floats, place: int) -> float:
    """Overwrite logits by their softmax; returns its logarithm at one place."""
    top = row[0]
    for j in range(len(row)):
        top = max(top, row[j])
    own, total = row[place] - top, row.dtype.type(0)
    for j in range(len(row)):
        row[j] = math.exp(row[j] - top)
        total += row[j]
    inverse = row.dtype.type(1) / total
    for j in range(len(row)):
        row[j] *= inverse
    return float(own - math.log(total))


@compiled
def softmax(matrix: Floats) -> None:
    """Overwrite logits by their softmax over the columns, ``(M, C)``."""
    for i in range(len(matrix)):
        softmax_of_row(matrix[i], 0)


@compiled
def softmax_and_logs(matrix: Floats, target: Indices, logs: Floats) -> None:
    """`softmax`, and its logarithm at one place of each row, in `logs` ``(M,)``.

    Raises:
        IndexError: a target is not the index of a column.
    """
    for i in range(len(matrix)):
        if target[i] < 0 or target[i] >= matrix.shape[1]:
            raise IndexError("index out of range")
        logs[i] = softmax_of_row(matrix[i], target[i])


@compiled
def focal(matrix: Floats, logs: Floats, target: Indices, weight: Floats, focus: float, tiny: float) -> float:
    """Focal loss and its gradient, -w c (p - e_y) with c = dl / d log p_y; see `tailwise.losses.focal`.

        c = f q^f (log p_y / q) p_y - q^f,   q = 1 - p_y

    Next to p_y = 1 the quotient tends to -1 and q^f to 0, so a focus below 1 is finite there too.

    Args:
        matrix: p, ``(M, C)``; overwritten by the gradient.
        logs: log p_y, ``(M,)``.
        target: valid class indices, ``(M,)``.
        weight: w, ``(M,)``.
        focus: f.
        tiny: least normal number of the type.

    Returns:
        sum_i w_i l_i.
    """
    total = 0.0
    for i in range(len(matrix)):
        miss = -math.expm1(logs[i])
        factor = miss**focus
        drop = focus * logs[i] / max(miss, tiny) * (1.0 - miss) if miss < 1.0 else 0.0  # a log may be without bound
        slope = weight[i] * factor * (1.0 - drop)
        total -= weight[i] * factor * logs[i]
        row, scale = matrix[i], matrix.dtype.type(slope)
        for j in range(len(row)):
            row[j] *= scale
        row[target[i]] = -slope * miss
    return total


@compiled
def take_out(row: Floats, place: int) -> tuple[float, float]:
    """Set an entry to 0; returns what it was, and the sum of the others."""
    zero = row.dtype.type(0)
    taken = row[place]
    row[place] = zero
    rest = zero
    for j in range(len(row)):
        rest += row[j]
    return taken, rest


@compiled
def is_crowded(row: Floats) -> bool:
    """Whether an entry is above a half; a maximum would be searched one by one."""
    one = row.dtype.type(1)
    half, found = one / (one + one), one - one
    for j in range(len(row)):
        found += one if row[j] > half else one - one
    return bool(found > 0.0)


@compiled
def score_and_slope(p: float, left: float, setting: DiceSetting, tiny: float) -> tuple[float, float]:
    """Score f and d log f / d log p, of p and 1 - p. Below the least 1 - p the power is a constant."""
    if setting.focus == 0.0:
        return p, 1.0
    least = tiny * (1.0 + setting.focus)  # b / (1 - p) is finite
    score = max(left, least) ** setting.focus * p
    if setting.detach_factor or left < least:
        return score, 1.0
    return score, 1.0 - setting.focus * p / left


@compiled
def own_term(p: float, left: float, setting: DiceSetting, tiny: float) -> tuple[float, float]:
    """The term of the class of the row, and h, of p and 1 - p."""
    score, slope = score_and_slope(p, left, setting, tiny)
    gap = 1.0 - score
    if setting.squared:
        size = score * score + 1.0 + setting.smooth
        return gap * gap / size, -2.0 * (score + 1.0 + setting.smooth) * score * gap * slope / (size * size)
    size = score + 1.0 + setting.smooth
    return gap / size, -(2.0 + setting.smooth) * score * slope / (size * size)


@compiled
def other_term(p: float, left: float, setting: DiceSetting, tiny: float) -> tuple[float, float]:
    """The term of another class, and h / (k g), of p and 1 - p."""
    score, slope = score_and_slope(p, left, setting, tiny)
    score = score * score if setting.squared else score
    share = score / (score + setting.smooth)
    return share, share / (score + setting.smooth) * slope


#: an exponent that takes every p in float32 to where larger ones do: (1 - p)^b is 0, or 1 where 1 - p is
_LARGEST = 2.0**40


@compiled
def polynomial(x: float, coefficients: tuple[float, ...]) -> float:
    """By Horner's rule, from the highest power down."""
    value = coefficients[0]
    for n in range(1, len(coefficients)):
        value = value * x + coefficients[n]
    return value


@compiled
def fill_factors(row: Floats, focus: float, factors: Floats, base: Floats) -> None:
    """Fill `factors` with (1 - p)^b of entries of at most a half, in float32 to three roundings where b is below 1.

    The functions of the C library, which serve float64, take one number at a time; what is written out here is
    computed a register at a time. b is split into a whole number and a rest r between -1/2 and 1/2, and (1 - p)^r is
    exp(r log(1 - p)) by the series of log(1 - p) = -2 artanh(p / (2 - p)) and of the exponential.
    """
    kind = row.dtype.type
    if row.itemsize > 4:
        factors[:] = np.exp(focus * np.log1p(-row))
        return
    whole, one = round(min(focus, _LARGEST)), kind(1)
    rest = kind(min(focus, _LARGEST) - whole)
    artanh = (kind(1 / 13), kind(1 / 11), kind(1 / 9), kind(1 / 7), kind(1 / 5), kind(1 / 3), one)
    exponential = (kind(1 / 5040), kind(1 / 720), kind(1 / 120), kind(1 / 24), kind(1 / 6), kind(1 / 2), one, one)
    for j in range(len(row)):
        ratio = row[j] / (one + one - row[j])
        exponent = rest * -(one + one) * ratio * polynomial(ratio * ratio, artanh)
        factors[j] = polynomial(exponent, exponential)
    if whole:
        base[:] = one - row
    while whole:
        if whole & 1:
            factors *= base
        base *= base
        whole >>= 1


@compiled
def other_terms(row: Floats, factors: Floats, pulls: Floats, setting: DiceSetting) -> tuple[float, float]:
    """`other_term` of a row without its entries above a half: the sums of both, and h / (k g) in `pulls`."""
    one = row.dtype.type(1)
    smooth, focus = row.dtype.type(setting.smooth), row.dtype.type(setting.focus)
    total, leaning = one - one, one - one
    for j in range(len(row)):
        score = row[j] * factors[j] if setting.focus else row[j]
        score = score * score if setting.squared else score
        inverse = one / (score + smooth)
        share = score * inverse
        pull = share * inverse
        if setting.focus and not setting.detach_factor:
            pull *= one - focus * row[j] / (one - row[j])
        pulls[j] = pull
        total += share
        leaning += pull
    return total, leaning


@compiled
def instance_dice(matrix: Floats, target: Indices, weight: Floats, setting: DiceSetting, tiny: float) -> float:
    """Instance dice and its gradient.

    Args:
        matrix: p, ``(M, C)``; overwritten by the gradient.
        target: class indices, ``(M,)``.
        weight: w, ``(M,)``.
        setting: the form.
        tiny: least normal number of the type.

    Returns:
        sum_i w_i l_i.

    Raises:
        IndexError: a target is not the index of a column.
    """
    kind = matrix.dtype.type
    pulls, factors = np.empty(matrix.shape[1], matrix.dtype), np.empty(matrix.shape[1], matrix.dtype)
    total = 0.0
    for i in range(len(matrix)):
        row, own = matrix[i], target[i]
        if own < 0 or own >= len(row):
            raise IndexError("index out of range")
        gold, misses = take_out(row, own)
        value, pull = own_term(gold, misses, setting, tiny)
        pull *= weight[i]
        if setting.gold:
            total += weight[i] * value
            row *= kind(-pull)
            row[own] = pull * misses
            continue
        top, top_place, top_left, top_pull = 0.0, own, 0.0, 0.0
        scale = weight[i] * setting.smooth * (2.0 if setting.squared else 1.0)
        if setting.focus and misses > 0.5 and is_crowded(row):
            top_place = row.argmax()
            top, top_left = take_out(row, top_place)
            top_left += gold
            top_value, top_pull = other_term(top, top_left, setting, tiny)
            value += top_value
            top_pull *= scale
        if setting.focus:
            fill_factors(row, setting.focus, factors, pulls)
        other_values, leaning = other_terms(row, factors, pulls, setting)
        total += weight[i] * (value + other_values)
        leaning *= scale
        kind_of_scale, drop = kind(scale), kind(leaning + pull + top_pull)
        for j in range(len(row)):
            row[j] = kind_of_scale * pulls[j] - drop * row[j]
        if top_place != own:
            row[top_place] = top_pull * top_left - top * (leaning + pull)
        row[own] = pull * misses - gold * (leaning + top_pull)
    return total


@compiled
def sums_of_classes(
    matrix: Floats, target: Indices, weight: Floats, squared: bool, gold: Floats, misses: Floats, sums: Floats
) -> None:
    """Take the classes of the rows out of p, and sum over the rows.

    Args:
        matrix: p, ``(M, C)``; p of the class of the row is set to 0.
        target: class indices, ``(M,)``.
        weight: w, ``(M,)``.
        squared: k is 2, else 1.
        gold: filled with p of the class of the row, ``(M,)``.
        misses: filled with the sum of the others, ``(M,)``.
        sums: zeros, to which E, M, H and n are added, float64, ``(4, C)``.

    Raises:
        IndexError: a target is not the index of a column.
    """
    for i in range(len(matrix)):
        row, own = matrix[i], target[i]
        if own < 0 or own >= len(row):
            raise IndexError("index out of range")
        gold[i], misses[i] = take_out(row, own)
        for j in range(len(row)):
            sums[0, j] += weight[i] * (row[j] * row[j] if squared else row[j])
        sums[1, own] += weight[i] * (misses[i] * misses[i] if squared else misses[i])
        sums[2, own] += weight[i] * (gold[i] * gold[i] if squared else gold[i])
        sums[3, own] += weight[i]


@compiled
def multiply_by_slopes(
    matrix: Floats,
    target: Indices,
    weight: Floats,
    squared: bool,
    gold: Floats,
    misses: Floats,
    slopes: Floats,
) -> None:
    """The gradient, from the derivatives of the loss by E, M and H.

    Args:
        matrix: as `sums_of_classes` leaves it; overwritten by the gradient.
        target: class indices, ``(M,)``.
        weight: w, ``(M,)``.
        squared: k is 2, else 1.
        gold: p of the class of the row, ``(M,)``.
        misses: sum of the others, ``(M,)``.
        slopes: dL/dE, dL/dM and dL/dH, of the type of the matrix, ``(3, C)``.
    """
    kind = matrix.dtype.type
    by_taken = slopes[0]
    for i in range(len(matrix)):
        row, own = matrix[i], target[i]
        factor = kind(weight[i] * 2.0) if squared else weight[i]
        others = factor - factor
        for j in range(len(row)):
            others += (row[j] * row[j] if squared else row[j]) * by_taken[j]
        pull = slopes[2, own] * factor * (gold[i] * gold[i] if squared else gold[i])
        by_miss = slopes[1, own] * factor * (misses[i] if squared else kind(1))
        others = factor * others + by_miss * misses[i]
        rise = by_miss - others - pull
        for j in range(len(row)):
            row[j] *= factor * (row[j] if squared else kind(1)) * by_taken[j] + rise
        row[own] = pull * misses[i] - gold[i] * others
