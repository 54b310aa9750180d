"""Limited-memory BFGS for the sum of row values that need not be convex, and a ridge, from a given start.

    minimise over W and b        sum_i w_i v_i(W' x_i + b) + r / 2 |W|^2 + r e / 2 |b|^2

The first guess of the inverse of the curvature is diagonal, and given; the last `_MEMORY` steps improve it (Nocedal and
Wright, Numerical Optimization, algorithm 7.4). A step has a length that lowers the value enough and leaves less of the
slope (the weak Wolfe conditions), found by doubling and halving, which ends on kinks too (Lewis and Overton, Nonsmooth
Optimization via Quasi-Newton Methods, Mathematical Programming 2013). Scores are linear in the length, so that a trial
costs a pass over the scores and no product with the features; a step costs two.

Where the gradient of a loss is not that of its values, because it keeps a factor constant, there is no value to lower:
a length is good that leaves less of the slope, on either side of zero.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, NamedTuple

import torch

from tailwise.training.convex.newton import BIAS_SHARE

if TYPE_CHECKING:
    from torch import Tensor

    from tailwise.training.convex.design import Design
    from tailwise.training.convex.rows import ValuedRows

__all__ = ["Descent", "descend"]

_MEMORY, _LEAST_MEMORY = 10, 3
_HISTORY = 2**26  # numbers that the memory holds, unless `_LEAST_MEMORY` are more
_STEPS, _TRIALS = 200, 40
_TOLERANCE = 1e-7  # of the value that a step may promise at the end
_ARMIJO, _WOLFE = 1e-4, 0.9
_NOISE = 1e-6  # of a value that is summed from single precision


@dataclass(frozen=True, eq=False)
class Descent:
    """Where a descent ended.

    Attributes:
        head: ``(D + 1, C)``, weights and in the last row biases.
        steps: that were taken.
        converged: the next step promised less than 1e-7 of the value.
    """

    head: Tensor
    steps: int
    converged: bool


class _Place(NamedTuple):
    """What is known at a head: the value, the gradient by the scores ``(N, C)`` and by the head ``(D + 1, C)``."""

    value: float
    slope: Tensor
    scores: Tensor


class _Trial(NamedTuple):
    """A length that was tried: the value there, the derivative along the step, the gradient by the scores."""

    length: float
    value: float
    ahead: float
    gradient: Tensor


def descend(
    rows: ValuedRows, design: Design, start: Tensor, ridge: float, scale: Tensor, *, by_value: bool = True
) -> Descent:
    """A local minimum downhill from a start.

    Args:
        rows: the rows.
        design: their features.
        start: ``(D + 1, C)``.
        ridge: r > 0.
        scale: the diagonal of the first guess of the curvature, > 0, ``(D + 1, C)``.
        by_value: the gradient of the rows is that of their values.
    """
    return _Search(rows, design, ridge, scale, by_value=by_value).run(start.clone())


class _Search:
    def __init__(self, rows: ValuedRows, design: Design, ridge: float, scale: Tensor, *, by_value: bool) -> None:
        self._rows, self._design, self._by_value = rows, design, by_value
        self._ridges = scale.new_full((len(scale), 1), ridge)
        self._ridges[-1] *= BIAS_SHARE
        self._inverse = 1.0 / scale
        held = max(_LEAST_MEMORY, min(_MEMORY, _HISTORY // (2 * scale.numel())))
        self._steps: deque[tuple[Tensor, Tensor, float]] = deque(maxlen=held)

    def run(self, head: Tensor) -> Descent:
        place = self._place(head)
        for count in range(_STEPS):
            if not isfinite(place.value):
                return Descent(head, count, converged=False)
            direction = self._direction(place.slope)
            slope = _inner(place.slope, direction)
            if not slope < 0.0:  # rounding has spoilt the memory
                self._steps.clear()
                direction = self._direction(place.slope)
                slope = _inner(place.slope, direction)
            if not -0.5 * slope > _TOLERANCE * abs(place.value):
                return Descent(head, count, converged=isfinite(slope))
            move = self._design.scores(direction[:-1], direction[-1])
            trial = self._length(place, head, direction, move, slope)
            if trial is None:
                if not self._steps:
                    return Descent(head, count, converged=False)
                self._steps.clear()
                continue
            step = direction.mul_(trial.length)
            head = head + step
            found = self._slope(trial.gradient, head)
            change = found - place.slope
            self._remember(step, change)
            place = _Place(trial.value, found, torch.add(place.scores, move, alpha=trial.length))
        return Descent(head, _STEPS, converged=False)

    def _place(self, head: Tensor) -> _Place:
        scores = self._design.scores(head[:-1], head[-1])
        value, gradient = self._rows.valued(scores)
        return _Place(value + 0.5 * _inner(head * self._ridges, head), self._slope(gradient, head), scores)

    def _slope(self, gradient: Tensor, head: Tensor) -> Tensor:
        slope = torch.empty_like(head)
        slope[:-1], slope[-1] = self._design.adjoint(gradient)
        return slope.addcmul_(head, self._ridges)

    def _remember(self, step: Tensor, change: Tensor) -> None:
        bend = _inner(step, change)
        if bend > 0.0 and isfinite(bend):
            self._steps.append((step, change, 1.0 / bend))

    def _direction(self, slope: Tensor) -> Tensor:
        """The two loops of L-BFGS."""
        direction, shares = -slope, []
        for step, change, inverse in reversed(self._steps):
            share = inverse * _inner(step, direction)
            direction.add_(change, alpha=-share)
            shares.append(share)
        if self._steps:  # the guess in the units of the last step
            _, change, inverse = self._steps[-1]
            direction.mul_(1.0 / (inverse * _inner(change * self._inverse, change)))
        direction.mul_(self._inverse)
        for (step, change, inverse), share in zip(self._steps, reversed(shares), strict=True):
            direction.add_(step, alpha=share - inverse * _inner(change, direction))
        return direction

    def _length(self, place: _Place, head: Tensor, direction: Tensor, move: Tensor, slope: float) -> _Trial | None:
        """A length that meets both conditions, else the longest known that meets the first; None where none does."""
        weighed = direction * self._ridges
        linear, square = _inner(weighed, head), _inner(weighed, direction)
        constant = 0.5 * _inner(head * self._ridges, head)
        low, high, length = 0.0, float("inf"), 1.0
        best: _Trial | None = None
        for _ in range(_TRIALS):
            value, gradient = self._rows.valued(torch.add(place.scores, move, alpha=length))
            value += constant + length * (linear + 0.5 * length * square)
            trial = _Trial(length, value, _inner(gradient, move) + linear + length * square, gradient)
            if not self._falls(trial, place.value, slope):
                high = length
            elif trial.ahead < _WOLFE * slope:
                low, best = length, trial
            else:
                return trial
            length = 0.5 * (low + high) if high < float("inf") else 2.0 * length
        return best

    def _falls(self, trial: _Trial, value: float, slope: float) -> bool:
        """Whether the value falls enough; where the fall drowns in rounding the derivative tells, as on a parabola."""
        if not (isfinite(trial.value) and isfinite(trial.ahead)):
            return False
        if not self._by_value:
            return trial.ahead <= -_WOLFE * slope
        change = trial.value - value
        if change <= _ARMIJO * trial.length * slope:
            return True
        return change <= _NOISE * abs(value) and trial.ahead <= -(1.0 - 2.0 * _ARMIJO) * slope


def _inner(left: Tensor, right: Tensor) -> float:
    return float(torch.dot(left.reshape(-1), right.reshape(-1)))
