"""Newton's method for the sum of convex row values and a ridge, without a matrix of second derivatives.

    minimise over W and b        sum_i w_i v_i(W' x_i + b) + r / 2 |W|^2 + r e / 2 |b|^2

A step solves H d = -g by conjugate gradients, for which one product with H is two with the features and one pass over
the scores; the diagonal of H, exact at the point, preconditions them. A step is solved the better the closer the end
is: its iterations stop where another one would add little to what the step gains (Nash and Sofer, Assessing a Search
Direction within a Truncated-Newton Method, Operations Research Letters 1990). Where the value is a sum over columns,
every column has step lengths of its own and leaves when it is done.

Weights and products are in single precision, sums of values in double. The error of a gradient that is wrong by a
share u costs a share of the order u^2 of the objective, so single precision does not limit what is reached.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from tailwise.training.convex.design import Design
    from tailwise.training.convex.rows import Point, RowLosses

__all__ = ["BIAS_SHARE", "minimise"]

#: e, the ridge of the bias over that of the weights: without a say where the bias is finite, which it keeps it
BIAS_SHARE = 1e-8

_TOLERANCE = 1e-7  # of the objective that the last step may promise
_GAIN = 0.25  # share of the mean gain of the iterations of a step below which they stop
_STEPS, _ITERATIONS, _HALVINGS = 100, 250, 30
_ARMIJO = 1e-4
_NOISE = 1e-6  # of a value that is summed from single precision


def minimise(rows: RowLosses, design: Design, start: Tensor, ridge: float) -> Tensor:
    """The weights and biases of least value.

    Args:
        rows: the rows.
        design: their features.
        start: ``(D + 1, C)``, weights and in the last row biases.
        ridge: r > 0.

    Returns:
        ``(D + 1, C)``.
    """
    result, columns = start.clone(), torch.arange(start.shape[1])
    ridges = start.new_full((len(start), 1), ridge)
    ridges[-1] *= BIAS_SHARE
    head = start.clone()
    scores = design.scores(head[:-1], head[-1])
    point = rows.at(scores)
    for _ in range(_STEPS):
        step = _Step(rows, design, ridges, head, scores, point)
        head.add_(step.direction * step.length)
        scores, point, done = step.scores, step.point, step.done
        if bool(done.all()):
            break
        if rows.separate and bool(done.any()):
            result[:, columns] = head
            kept = (~done).nonzero().squeeze(1)
            columns, head, scores = columns[kept], head[:, kept], scores[:, kept]
            rows = rows.columns(kept)
            point = rows.at(scores)
    result[:, columns] = head
    return result


class _Step:
    """One step from a head.

    Attributes:
        direction: ``(D + 1, C)``.
        length: of the step, per group.
        scores: after the step.
        point: the rows there.
        done: the groups that are at their end after the step.
    """

    def __init__(
        self, rows: RowLosses, design: Design, ridges: Tensor, head: Tensor, scores: Tensor, point: Point
    ) -> None:
        self._rows, self._design, self._ridges = rows, design, ridges
        slope = torch.empty_like(head)
        slope[:-1], slope[-1] = design.adjoint(point.gradient())
        slope.addcmul_(head, ridges)
        self._slope = slope
        self.value = point.value + 0.5 * self._inner(head * ridges, head)
        self.direction, promised = self._solve(point)
        move = design.scores(self.direction[:-1], self.direction[-1])
        self.length, self.point, self.scores = self._search(head, scores, move)
        small = promised <= _TOLERANCE * self.value.abs()
        self.done = (small & (self.length == 1.0)) | (self.length == 0.0)

    def _inner(self, left: Tensor, right: Tensor) -> Tensor:
        """Inner products per group, float64."""
        if self._rows.separate:
            return (left * right).sum(dim=0, dtype=torch.float64)
        return torch.dot(left.reshape(-1), right.reshape(-1)).double()[None]

    def _curvature_times(self, point: Point, vector: Tensor) -> Tensor:
        product = vector * self._ridges
        weights, biases = self._design.adjoint(point.times(self._design.scores(vector[:-1], vector[-1])))
        product[:-1] += weights
        product[-1] += biases
        return product

    def _solve(self, point: Point) -> tuple[Tensor, Tensor]:
        """The direction, and how much of the value the quadratic model promises along it, per group."""
        curvature = point.diagonal()
        scale = self._ridges.expand_as(self._slope).clone()
        scale[:-1] += self._design.squares(curvature)
        scale[-1] += curvature.sum(dim=0)
        direction, residual = torch.zeros_like(self._slope), -self._slope
        scaled = residual / scale
        search = scaled.clone()
        size = self._inner(residual, scaled)
        promised = torch.zeros_like(size)
        going, slack = size > 0.0, 0.01 * _TOLERANCE * self.value.abs()
        for iteration in range(1, _ITERATIONS + 1):
            product = self._curvature_times(point, search)
            bend = self._inner(search, product)
            length = (size / bend).where(going & (bend > 0.0), 0.0)
            direction.addcmul_(search, length.float())
            residual.addcmul_(product, length.float(), value=-1.0)
            gained = 0.5 * length * size
            promised += gained
            going &= iteration * gained > torch.maximum(_GAIN * promised, slack)
            if not bool(going.any()):
                break
            torch.div(residual, scale, out=scaled)
            before, size = size, self._inner(residual, scaled)
            search.mul_((size / before).where(going, 0.0).float()).add_(scaled)
        return direction, promised

    def _search(self, head: Tensor, scores: Tensor, move: Tensor) -> tuple[Tensor, Point, Tensor]:
        """The largest of 1, 1/2, 1/4, ... that lowers the value, per group; 0 where none does."""
        weighed = self.direction * self._ridges
        linear, square = self._inner(weighed, head), self._inner(weighed, self.direction)
        slope = self._inner(self._slope, self.direction)
        constant = 0.5 * self._inner(head * self._ridges, head)
        length = torch.ones_like(slope)
        for _ in range(_HALVINGS):
            trial_scores = torch.addcmul(scores, move, length.float())
            trial = self._rows.at(trial_scores)
            change = trial.value + constant + length * (linear + 0.5 * length * square) - self.value
            good = change <= _ARMIJO * length * slope
            if not bool(good.all()):
                # Where the change drowns in rounding the derivative tells: the same test, exact for a parabola.
                ahead = self._inner(trial.gradient(), move) + linear + length * square
                good |= (change <= _NOISE * self.value.abs()) & (ahead <= -(1.0 - 2.0 * _ARMIJO) * slope)
            if bool(good.all()):
                return length, trial, trial_scores
            length = length.where(good, length / 2)
        length = length.where(good, 0.0)
        scores = torch.addcmul(scores, move, length.float())
        return length, self._rows.at(scores), scores
