"""The weighted sum of the values of all rows as a function of their scores, with gradient and curvature.

    value      sum_i w_i v_i(z_i)
    gradient   w_i dv_i / dz_i                                     (N, C)
    times      w_i d2v_i / dz_i2 t_i    for a matrix T             (N, C)
    diagonal   the diagonal of each d2v_i / dz_i2, times w_i       (N, C)

The softmax and the sigmoid form are written out; any other loss goes through automatic differentiation of its values,
twice, in blocks of rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from tailwise.losses.base import Loss
    from tailwise.losses.convex_forms import SigmoidForm, SoftmaxForm

__all__ = ["DifferentiatedRows", "Point", "RowLosses", "SigmoidRows", "SoftmaxRows", "ValuedRows"]

_ABSENT = 1e-10  # of all rows, which a class without one is given, so that the start of its bias is finite
_BLOCK = 2**19  # scores that are differentiated at a time
_PROBES = 2  # from which the diagonal is estimated where it is not written out


class Point(Protocol):
    """The rows at some scores."""

    value: Tensor  # (G,), float64

    def gradient(self) -> Tensor:
        """Of the sum, by the scores, ``(N, C)``."""

    def times(self, vectors: Tensor) -> Tensor:
        """The curvature times `vectors`, ``(N, C)``, which may be overwritten."""

    def diagonal(self) -> Tensor:
        """Of the curvature, ``(N, C)``, not negative."""


class RowLosses(Protocol):
    """The rows of a problem.

    `separate` says that the value is a sum over columns, each of which can be minimised alone; then `Point.value` has
    one number per column, else it has one for all.
    """

    separate: bool

    def at(self, scores: Tensor) -> Point:
        """The rows at scores ``(N, C)``."""

    def start(self) -> Tensor:
        """The biases of least value where the rows are not told apart, ``(C,)``."""

    def columns(self, kept: Tensor) -> RowLosses:
        """The rows with some of the columns, where they are separate."""


class SoftmaxRows:
    """Rows of the softmax form.

    Args:
        form: see `SoftmaxForm`.
        target: class indices, ``(N,)``.
        weight: w_i, float64 ``(N,)``.
        num_classes: C.
    """

    separate = False

    def __init__(self, form: SoftmaxForm, target: Tensor, weight: Tensor, num_classes: int) -> None:
        self.form, self.target = form, target
        class_weight = weight.new_ones(num_classes) if form.weights is None else form.weights
        gold = weight * class_weight.index_select(0, target)
        mass = gold if form.smoothing is None else gold + weight * form.smoothing.sum()
        self._asked = weight.new_zeros(num_classes).index_add_(0, target, gold)
        if form.smoothing is not None:
            self._asked += weight.sum() * form.smoothing
        self.weight, self.gold, self.mass = weight.float(), gold.float(), mass.float()[:, None]
        self.scale = None if form.scale is None else form.scale.float()
        self.shift = None if form.shift is None else form.shift.float()
        self.smoothing = None if form.smoothing is None else form.smoothing.float()
        self.margin = None if form.margins is None else form.margins.float().index_select(0, target)[:, None]

    def at(self, scores: Tensor) -> SoftmaxPoint:
        """The rows at scores ``(N, C)``."""
        logits = scores if self.scale is None else scores * self.scale
        logits = logits if self.shift is None else logits + self.shift
        if self.margin is not None:
            logits = logits.scatter_add(1, self.target[:, None], -self.margin)
        return SoftmaxPoint(self, torch.log_softmax(logits, dim=1))

    def start(self) -> Tensor:
        """Log shares of what is asked for, without shift and scale."""
        total = self._asked.sum()
        bias = (self._asked + _ABSENT * total).div(total).log()
        bias = bias if self.form.shift is None else bias - self.form.shift
        return (bias if self.form.scale is None else bias / self.form.scale).float()

    def columns(self, kept: Tensor) -> RowLosses:
        """Not separate."""
        raise NotImplementedError


class SoftmaxPoint:
    """See `SoftmaxRows`.

    Args:
        rows: the rows.
        logarithms: log p, ``(N, C)``; overwritten.
    """

    def __init__(self, rows: SoftmaxRows, logarithms: Tensor) -> None:
        self._rows, self._matrix, self._is_logarithm = rows, logarithms, True
        gold = logarithms.gather(1, rows.target[:, None]).squeeze(1)
        value = -torch.dot(gold.double(), rows.gold.double())
        if rows.smoothing is not None:
            value -= torch.dot((logarithms @ rows.smoothing).double(), rows.weight.double())
        self.value = value[None]

    @property
    def _probabilities(self) -> Tensor:
        if self._is_logarithm:
            self._matrix, self._is_logarithm = self._matrix.exp_(), False
        return self._matrix

    def gradient(self) -> Tensor:
        """Mass times p, less what is asked for, times the scale."""
        rows = self._rows
        gradient = self._probabilities * rows.mass
        gradient.scatter_add_(1, rows.target[:, None], -rows.gold[:, None])
        if rows.smoothing is not None:
            gradient.addr_(rows.weight, rows.smoothing, alpha=-1.0)
        return gradient if rows.scale is None else gradient.mul_(rows.scale)

    def times(self, vectors: Tensor) -> Tensor:
        """Mass times (diag p - p p') t, with the scale on both sides."""
        rows, p = self._rows, self._probabilities
        vectors = vectors.mul_(p) if rows.scale is None else vectors.mul_(rows.scale).mul_(p)
        vectors.addcmul_(p, vectors.sum(dim=1, keepdim=True), value=-1.0).mul_(rows.mass)
        return vectors if rows.scale is None else vectors.mul_(rows.scale)

    def diagonal(self) -> Tensor:
        """Mass times p (1 - p), times the square of the scale."""
        rows, p = self._rows, self._probabilities
        diagonal = (p - p.square()).mul_(rows.mass)
        return diagonal if rows.scale is None else diagonal.mul_(rows.scale.square())


class SigmoidRows:
    """Rows of the sigmoid form: with t = y ? m - k z : k z, the value of an entry is w s(t).

    Args:
        scale: k.
        signs: -k where a row has the label, k elsewhere, ``(N, C)``.
        raised: m where it has, 0 elsewhere, ``(N, C)``; None for zeros.
        weight: w, ``(N, C)``, 0 where the label is unknown.
    """

    separate = True

    def __init__(self, scale: float, signs: Tensor, raised: Tensor | None, weight: Tensor) -> None:
        self.scale, self.signs, self.raised, self.weight = scale, signs, raised, weight

    @classmethod
    def of(cls, form: SigmoidForm, target: Tensor, ignore_index: int, weight: Tensor) -> SigmoidRows:
        """Rows of labels.

        Args:
            form: see `SigmoidForm`.
            target: 0 and 1, or `ignore_index` where unknown, ``(N, C)``.
            ignore_index: see `Loss`.
            weight: w_i, float64 ``(N,)``.
        """
        present = target == 1
        one = weight.new_ones(1)
        positive, negative = (one if w is None else w for w in (form.positive_weights, form.negative_weights))
        entries = torch.where(present, positive.float(), negative.float()).mul_(weight.float()[:, None])
        entries.mul_(target != ignore_index)
        signs = torch.full(target.shape, form.scale).masked_fill_(present, -form.scale)
        raised = None if form.margins is None else present * form.margins.float()
        return cls(form.scale, signs, raised, entries)

    def at(self, scores: Tensor) -> SigmoidPoint:
        """The rows at scores ``(N, C)``."""
        turned = scores * self.signs if self.raised is None else self.raised.addcmul(scores, self.signs)
        return SigmoidPoint(self, turned)

    def start(self) -> Tensor:
        """Log odds of each label, without the scale."""
        weight = self.weight.double()
        total = weight.sum(dim=0)
        positive = (weight * (self.signs < 0)).sum(dim=0)
        least = (_ABSENT * total).clamp_min(torch.finfo(torch.float32).tiny)
        odds = (positive + least).log() - (total - positive + least).log()
        return (odds / self.scale).float()

    def columns(self, kept: Tensor) -> SigmoidRows:
        """The rows with some of the labels."""
        raised = None if self.raised is None else self.raised[:, kept]
        return SigmoidRows(self.scale, self.signs[:, kept], raised, self.weight[:, kept])


class SigmoidPoint:
    """See `SigmoidRows`.

    Args:
        rows: the rows.
        turned: t, ``(N, C)``.
    """

    def __init__(self, rows: SigmoidRows, turned: Tensor) -> None:
        self._rows, self._turned = rows, turned
        self._curvature: Tensor | None = None
        self.value = functional.softplus(turned).mul_(rows.weight).sum(dim=0, dtype=torch.float64)

    def gradient(self) -> Tensor:
        """The weight times sigmoid(t) times -k or k."""
        return torch.sigmoid(self._turned).mul_(self._rows.weight).mul_(self._rows.signs)

    def times(self, vectors: Tensor) -> Tensor:
        """Entry by entry."""
        return vectors.mul_(self.diagonal())

    def diagonal(self) -> Tensor:
        """The weight times k^2 sigmoid(t) sigmoid(-t)."""
        if self._curvature is None:
            rows, share = self._rows, torch.sigmoid(self._turned)
            self._curvature = share.sub_(share.square()).mul_(rows.weight).mul_(rows.scale**2)
        return self._curvature


class DifferentiatedRows:
    """Rows of any loss, by automatic differentiation.

    Args:
        loss: with the reduction ``"none"``.
        target: as the loss takes it, ``(N,)`` or ``(N, C)``.
        weight: w_i, float64 ``(N,)``.
        num_classes: C.
    """

    separate = False

    def __init__(self, loss: Loss, target: Tensor, weight: Tensor, num_classes: int) -> None:
        self._loss, self._num_classes = loss, num_classes
        size, weight = max(1, _BLOCK // num_classes), weight.float()
        self._parts = [slice(start, start + size) for start in range(0, len(weight), size)]
        self._target, self._weight = target, weight

    def at(self, scores: Tensor) -> DifferentiatedPoint:
        """The rows at scores ``(N, C)``."""
        leaves = [scores[part].detach().requires_grad_() for part in self._parts]
        sums = [self._sum(leaf, part) for leaf, part in zip(leaves, self._parts, strict=True)]
        return DifferentiatedPoint(self._parts, leaves, sums)

    def _sum(self, scores: Tensor, part: slice) -> Tensor:
        values: Tensor = self._loss(scores, self._target[part])
        return torch.dot(values.reshape(len(scores), -1).sum(dim=1), self._weight[part])

    def start(self) -> Tensor:
        """Zeros."""
        return torch.zeros(self._num_classes)

    def columns(self, kept: Tensor) -> RowLosses:
        """Not separate."""
        raise NotImplementedError


class DifferentiatedPoint:
    """See `DifferentiatedRows`.

    Args:
        parts: the rows of each block.
        leaves: their scores.
        sums: weighted sum of their values.
    """

    def __init__(self, parts: list[slice], leaves: list[Tensor], sums: list[Tensor]) -> None:
        self._parts, self._leaves, self._sums = parts, leaves, sums
        self._gradients: list[Tensor] = []
        self.value = torch.stack([total.detach().double() for total in sums]).sum()[None]

    def gradient(self) -> Tensor:
        """With a graph of its own, which `times` goes through."""
        if not self._gradients:
            self._gradients = [
                torch.autograd.grad(total, leaf, create_graph=True)[0]
                for total, leaf in zip(self._sums, self._leaves, strict=True)
            ]
        return torch.cat([gradient.detach() for gradient in self._gradients])

    def times(self, vectors: Tensor) -> Tensor:
        """The curvature is symmetric, so that the gradient of gradient times vectors is it."""
        self.gradient()
        blocks = zip(self._gradients, self._leaves, self._parts, strict=True)
        return torch.cat([self._product(gradient, leaf, vectors[part]) for gradient, leaf, part in blocks])

    def diagonal(self) -> Tensor:
        """The mean of s * (curvature s) over vectors s of random signs."""
        generator = torch.Generator().manual_seed(0)
        shape = sum(len(leaf) for leaf in self._leaves), self._leaves[0].shape[1]
        total = torch.zeros(shape)
        for _ in range(_PROBES):
            signs = torch.randint(2, shape, generator=generator).mul_(2).sub_(1).float()
            total += signs * self.times(signs.clone())
        return total.div_(_PROBES).clamp_min_(0.0)

    @staticmethod
    def _product(gradient: Tensor, leaf: Tensor, vectors: Tensor) -> Tensor:
        if not gradient.requires_grad:  # linear there
            return torch.zeros_like(vectors)
        return torch.autograd.grad(
            gradient, leaf, vectors, retain_graph=True, allow_unused=True, materialize_grads=True
        )[0]


class ValuedRows:
    """Rows whose value and gradient are asked for together, without curvature: of a loss, or of a sum of losses.

    Args:
        parts: losses with the reduction ``"none"``, their targets, and weights float64 ``(N,)``.
    """

    def __init__(self, parts: Sequence[tuple[Loss, Tensor, Tensor]]) -> None:
        self._parts = [(loss, target, weight, weight.float()) for loss, target, weight in parts]

    def valued(self, scores: Tensor) -> tuple[float, Tensor]:
        """The weighted sum of the values at scores ``(N, C)``, and its gradient by them."""
        gradient = torch.empty_like(scores)
        total, size = 0.0, max(1, _BLOCK // scores.shape[1])
        for start in range(0, len(scores), size):
            rows = slice(start, start + size)
            leaf = scores[rows].detach().requires_grad_()
            summed = leaf.new_zeros(())
            for loss, target, weight, single in self._parts:
                values: Tensor = loss(leaf, target[rows])
                by_row = values if values.ndim == 1 else values.sum(dim=1)
                total += float(by_row.detach().double() @ weight[rows])
                summed = summed + torch.dot(by_row, single[rows])
            (gradient[rows],) = torch.autograd.grad(summed, leaf, allow_unused=True, materialize_grads=True)
        return total, gradient
