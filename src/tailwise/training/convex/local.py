"""Local fits of affine heads on fixed features, by losses that need not be convex in the logits, under L2.

What is minimised is what `fit_convex` minimises; a weighted sum of losses has the sum of what its parts have. The
search starts at a given head, as a rule the one of cross-entropy (over several labels binary cross-entropy) of the same
strength and row weights, and goes downhill; the curvature of cross-entropy there is its first guess. It ends in a local
minimum next to the start, not in the best head of all: another start may lead to another one. Up to 200 steps are
taken; `LocalFit.converged` says whether that was enough.

The same features give the same bits whatever else is asked for, on any number of threads.

Memory beyond the features and their design, in numbers of four bytes: 3 to 10 times 2 matrices ``(D, C)``, fewer where
they are large, 6 more of them and 6 ``(N, C)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from tailwise.losses.binary_cross_entropy import BinaryCrossEntropyLoss
from tailwise.losses.cross_entropy import CrossEntropyLoss
from tailwise.losses.weighted_sum import WeightedSumLoss
from tailwise.training.convex.descent import descend
from tailwise.training.convex.design import Design, design_of
from tailwise.training.convex.fitting import as_head, by_value, check_features, one_thread, row_losses, weighed
from tailwise.training.convex.newton import BIAS_SHARE
from tailwise.training.convex.rows import ValuedRows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from tailwise.losses.base import Loss
    from tailwise.models.heads.base import AffineForm
    from tailwise.training.convex.fitting import Features, Labels

__all__ = ["LocalFit", "LocalProblem", "fit_local", "stand_in"]


@dataclass(frozen=True, eq=False)
class LocalProblem:
    """What is minimised, and from where.

    Attributes:
        loss: separable, of scores alone.
        strength: inverse strength of L2, > 0.
        start: a head.
        row_weights: relative rates at which rows are drawn, ``(N,)``, not negative; None: ones.
    """

    loss: Loss
    strength: float
    start: AffineForm
    row_weights: NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False)
class LocalFit:
    """Where a search ended.

    Attributes:
        head: weights and bias.
        steps: that were taken.
        converged: it ended by itself: the next step promised less than 1e-7 of the objective.
    """

    head: AffineForm
    steps: int
    converged: bool


def stand_in(loss: Loss) -> Loss:
    """The convex loss at whose solution a search starts."""
    return BinaryCrossEntropyLoss() if loss.multilabel else CrossEntropyLoss()


def fit_local(
    problems: Sequence[LocalProblem],
    features: Features,
    labels: Labels,
    num_classes: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[LocalFit]:
    """A local minimum of each problem over the same rows.

    Args:
        problems: the problems.
        features: float32 ``(N, D)``, an array or a CSR matrix.
        labels: class indices ``(N,)``, or for losses over several labels a CSR matrix ``(N, C)`` of 0 and 1.
        num_classes: C.
        progress: told how many problems are done.

    Raises:
        SettingError: sizes that do not fit.
    """
    check_features(features)
    with one_thread():
        design, fits = design_of(features) if problems else None, []
        for count, problem in enumerate(problems, start=1):
            if design is not None:
                fits.append(_fit(problem, design, labels, num_classes))
            if progress is not None:
                progress(count, len(problems))
        return fits


def _fit(problem: LocalProblem, design: Design, labels: Labels, num_classes: int) -> LocalFit:
    loss, ridge = problem.loss, 1.0 / problem.strength
    start = torch.empty(design.num_features + 1, num_classes)
    weight, bias = problem.start.weight, problem.start.bias
    if loss.scoreless_class is not None:  # scores mean the same less that of one class
        weight, bias = weight - weight[loss.scoreless_class], bias - bias[loss.scoreless_class]
    start[:-1], start[-1] = design.from_affine(weight, bias)
    rows = ValuedRows(_parts(problem, loss, 1.0, labels, design.num_rows, num_classes))
    scale = _scale(problem, start, design, labels, num_classes, ridge)
    found = descend(rows, design, start, ridge, scale, by_value=loss.gradient_of_values)
    return LocalFit(as_head(loss, design, found.head), found.steps, found.converged)


def _parts(
    problem: LocalProblem, loss: Loss, share: float, labels: Labels, num_rows: int, num_classes: int
) -> list[tuple[Loss, Tensor, Tensor]]:
    """The losses that are added up, by value, with targets and weights of the rows."""
    if isinstance(loss, WeightedSumLoss):
        shares = zip(loss.parts, loss.weights, strict=True)
        parts = [_parts(problem, part, share * own, labels, num_rows, num_classes) for part, own in shares]
        return [item for part in parts for item in part]
    target, weight = weighed(loss, problem.row_weights, labels, num_rows, num_classes)
    return [(by_value(loss), target, share * weight)]


def _scale(
    problem: LocalProblem, start: Tensor, design: Design, labels: Labels, num_classes: int, ridge: float
) -> Tensor:
    """The diagonal of the curvature of cross-entropy at the start, and of the ridge, ``(D + 1, C)``."""
    plain = stand_in(problem.loss)
    target, weight = weighed(plain, problem.row_weights, labels, design.num_rows, num_classes)
    rows = row_losses(plain, target, weight, num_classes, slice(0, num_classes))
    curvature = rows.at(design.scores(start[:-1], start[-1])).diagonal()
    scale = torch.empty_like(start)
    scale[:-1] = design.squares(curvature).add_(ridge)
    scale[-1] = curvature.sum(dim=0).add_(ridge * BIAS_SHARE)
    return scale
