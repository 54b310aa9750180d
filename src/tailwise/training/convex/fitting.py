"""Exact fits of affine heads on fixed features, by losses that are convex in the logits, under L2.

    minimise over W and b        s N (sum_i r_i v_i / sum_i r_i d_i) + 1/2 |W|^2

    s    strength, the inverse of the regularisation, as `C` of scikit-learn
    N    rows that take part
    r_i  relative rate at which row i is drawn (1)
    v_i  value of the row
    d_i  its part in the denominator: the weight of its class for ``"weighted_mean"``, else 1

For ``ce`` this is scikit-learn's ``LogisticRegression(C=s)`` to the letter, for ``wce`` with balanced weights the same
with ``class_weight="balanced"``; two classes have two scores here, where scikit-learn has one, and it is the same with
``C=2s``. Over several labels v_i is the sum over the labels and d_i is 1 (where labels are unknown, for the reduction
``"mean"`` the known share of the labels), so that ``bce`` is ``OneVsRestClassifier`` of it. With the reduction
``"sum"`` the first term is s sum_i r_i v_i.

The bias is not penalised. It is infinite where a class has no row or a label has all of them; there a ridge of 1e-8 / 2
|b'|^2, b' the bias for features less their mean, keeps it finite. Elsewhere the ridge costs less than rounding.

A problem is solved for its strengths in rising order, each from the solution of the one before. Nothing else is shared
but the features, which are prepared once, and one thread does it: what comes out does not depend, to the bit, on the
other problems of a call or on the number of threads.

Memory beyond the features and their design (see `tailwise.training.convex.design`), in numbers of four bytes: about 9
matrices ``(D, C)`` and 6 ``(N, C)``. Labels that can be fitted apart are taken some at a time. 100,000 rows of 150 of
200,000 features with 4 classes take 0.6 GiB in all.
"""

from __future__ import annotations

import copy
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.sparse import issparse

from tailwise.errors import SettingError
from tailwise.losses.multilabel import LabelwiseLoss
from tailwise.models.heads.base import AffineForm
from tailwise.training.convex.design import Design, design_of
from tailwise.training.convex.newton import minimise
from tailwise.training.convex.rows import DifferentiatedRows, RowLosses, SigmoidRows, SoftmaxRows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix
    from torch import Tensor

    from tailwise.losses.base import Loss

    Features = NDArray[np.float32] | csr_matrix
    Labels = NDArray[np.int64] | csr_matrix

__all__ = ["ConvexProblem", "fit_convex", "objective"]

_ENTRIES = 2**24  # scores, or weights, of labels that are fitted at a time
_ROWS = 4096  # whose objective is computed at a time


@dataclass(frozen=True, eq=False)
class ConvexProblem:
    """What is minimised; see the module.

    Attributes:
        loss: a loss whose `convex` is True.
        strengths: inverse strengths of L2, > 0, in any order.
        row_weights: relative rates at which rows are drawn, ``(N,)``, not negative; None: ones.
    """

    loss: Loss
    strengths: tuple[float, ...]
    row_weights: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if not self.loss.convex:
            raise SettingError(
                f"{type(self.loss).__name__} is not convex in the logits with these settings. Train its heads by "
                "gradient steps."
            )
        if not self.strengths or not all(0.0 < s < float("inf") for s in self.strengths):
            raise SettingError(f"Expected `strengths` to be finite numbers larger than 0, but got {self.strengths!r}.")


def fit_convex(
    problems: Sequence[ConvexProblem],
    features: Features,
    labels: Labels,
    num_classes: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[list[AffineForm]]:
    """The best heads of some problems over the same rows.

    Args:
        problems: the problems.
        features: float32 ``(N, D)``, an array or a CSR matrix.
        labels: class indices ``(N,)``, or for losses over several labels a CSR matrix ``(N, C)`` of 0 and 1.
        num_classes: C.
        progress: told how many of all pairs of problem and strength are done.

    Returns:
        One head per problem and strength, in the order given.

    Raises:
        SettingError: sizes that do not fit.
    """
    check_features(features)
    with one_thread():
        return _fit(problems, features, labels, num_classes, progress)


def _fit(
    problems: Sequence[ConvexProblem],
    features: Features,
    labels: Labels,
    num_classes: int,
    progress: Callable[[int, int], None] | None,
) -> list[list[AffineForm]]:
    num_rows = features.shape[0]
    design: Design | None = None
    total, before = sum(len(problem.strengths) for problem in problems), 0
    results = []
    for problem in problems:
        target, weight = weighed(problem.loss, problem.row_weights, labels, num_rows, num_classes)
        design = design_of(features) if design is None else design
        path = sorted(set(problem.strengths))
        parts: dict[float, list[Tensor]] = {strength: [] for strength in path}
        blocks = _column_blocks(problem.loss, num_rows, design.num_features, num_classes)
        for number, columns in enumerate(blocks):
            rows = row_losses(problem.loss, target, weight, num_classes, columns)
            head = torch.zeros(design.num_features + 1, columns.stop - columns.start)
            head[-1] = rows.start()
            for place, strength in enumerate(path):
                # Divided by the strength, the objective has the strength in its ridge alone.
                head = minimise(rows, design, head, 1.0 / strength)
                parts[strength].append(head)
                if progress is not None:
                    share = (number * len(path) + place + 1) / (len(blocks) * len(path))
                    progress(before + int(share * len(problem.strengths)), total)
        before += len(problem.strengths)
        heads = {strength: torch.cat(parts[strength], dim=1) for strength in path}
        results.append([as_head(problem.loss, design, heads[strength]) for strength in problem.strengths])
    return results


def objective(problem: ConvexProblem, strength: float, head: AffineForm, features: Features, labels: Labels) -> float:
    """What is minimised, at a head, in double precision.

    Args:
        problem: the problem.
        strength: s.
        head: weights and bias; a centre or a normalisation of the head is not applied.
        features: ``(N, D)``, an array or a CSR matrix.
        labels: as `fit_convex` takes them.
    """
    num_rows = features.shape[0]
    target, weight = weighed(problem.loss, problem.row_weights, labels, num_rows, head.weight.shape[0])
    loss = by_value(problem.loss)
    matrix, bias = head.weight.double(), head.bias.double()
    total = 0.0
    for start in range(0, num_rows, _ROWS):
        rows = slice(start, start + _ROWS)
        part = features[rows].astype(np.float64)
        scores = torch.from_numpy(np.asarray(part @ matrix.T.numpy())) + bias
        values: Tensor = loss(scores, target[rows])
        total += float(weight[rows] @ values.reshape(len(scores), -1).sum(dim=1))
    return strength * total + 0.5 * float(matrix.square().sum())


@contextmanager
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def check_features(features: Features) -> None:
    """Raise `SettingError` where features are neither a matrix nor sparse, or not in single precision."""
    if features.ndim != 2 or features.dtype != np.float32:
        raise SettingError(
            f"Expected `features` to be a float32 matrix (N, D), dense or CSR, but got {features.dtype} of shape "
            f"{features.shape}."
        )


def weighed(
    loss: Loss, row_weights: NDArray[np.float64] | None, labels: Labels, num_rows: int, num_classes: int
) -> tuple[Tensor, Tensor]:
    """Targets as the loss takes them, and the weight of every row, float64 ``(N,)``: N r_i / sum_k r_k d_k."""
    target = _target(loss, labels, num_rows, num_classes)
    share = _denominators(loss, target)
    rates = torch.ones(num_rows, dtype=torch.float64)
    if row_weights is not None:
        rates = torch.from_numpy(np.array(row_weights, dtype=np.float64))
        if rates.shape != (num_rows,) or not bool((rates.isfinite() & (rates >= 0)).all()):
            raise SettingError(
                f"Expected `row_weights` to be {num_rows} finite numbers of at least 0, one per row, but got an array "
                f"of shape {tuple(rates.shape)} with values from {rates.min()} to {rates.max()}."
            )
    known = share > 0 if loss.multilabel else target != loss.ignore_index
    rates = rates * known
    if loss.reduction == "sum":
        return target, rates
    return target, rates * (known.sum() / (rates @ share).clamp_min(torch.finfo(torch.float64).tiny))


def _target(loss: Loss, labels: Labels, num_rows: int, num_classes: int) -> Tensor:
    shape = (num_rows, num_classes) if loss.multilabel else (num_rows,)
    if labels.shape != shape:
        raise SettingError(
            f"{type(loss).__name__}: expected labels of shape {shape} for {num_rows} rows and {num_classes} classes, "
            f"but got {labels.shape}."
        )
    target = torch.from_numpy(labels.toarray() if issparse(labels) else np.array(labels)).long()
    known = target[target != loss.ignore_index]
    largest = 1 if loss.multilabel else num_classes - 1
    if bool(((known < 0) | (known > largest)).any()):
        raise SettingError(
            f"{type(loss).__name__}: expected labels from 0 to {largest}, or {loss.ignore_index} where unknown, but "
            f"got {int(known.min())} to {int(known.max())}."
        )
    return target


def _denominators(loss: Loss, target: Tensor) -> Tensor:
    """d_i, float64 ``(N,)``, 0 for a row that takes no part."""
    known = (target != loss.ignore_index).double()
    if loss.multilabel:
        by_share = isinstance(loss, LabelwiseLoss) and loss.reduction == "mean"
        return known.mean(dim=1) if by_share else known.amax(dim=1)
    if loss.reduction != "weighted_mean" or loss.class_weights is None:
        return known
    return loss.class_weights.double().index_select(0, target.where(known > 0, 0)) * known


def by_value(loss: Loss) -> Loss:
    """The loss with a value per row or entry."""
    loss = copy.copy(loss)
    loss.reduction = "none"
    return loss


def _column_blocks(loss: Loss, num_rows: int, num_features: int, num_classes: int) -> list[slice]:
    """The labels that are fitted at a time: all, unless the values are a sum over labels and there are very many."""
    size = max(1, _ENTRIES // max(num_rows, num_features)) if loss.sigmoid_form() is not None else num_classes
    return [slice(start, min(start + size, num_classes)) for start in range(0, num_classes, size)]


def row_losses(loss: Loss, target: Tensor, weight: Tensor, num_classes: int, columns: slice) -> RowLosses:
    sigmoid, softmax = loss.sigmoid_form(), loss.softmax_form(num_classes)
    if sigmoid is not None:
        return SigmoidRows.of(sigmoid.columns(columns), target[:, columns], loss.ignore_index, weight)
    if softmax is not None:
        return SoftmaxRows(softmax, target.where(target != loss.ignore_index, 0), weight, num_classes)
    return DifferentiatedRows(by_value(loss), target, weight, num_classes)


def as_head(loss: Loss, design: Design, head: Tensor) -> AffineForm:
    weight, bias = design.as_affine(head[:-1], head[-1])
    if loss.scoreless_class is not None:
        weight[loss.scoreless_class] = bias[loss.scoreless_class] = 0.0
    return AffineForm(weight, bias)
