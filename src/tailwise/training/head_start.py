"""Where the final layer of a fine-tuning starts: the solution of its own linear problem on the untrained encoder.

    min over W, b:   sum_i s_i l(W f_i + b, y_i) / sum_i s_i  +  v |W|^2 / (2 c N),      v = sum_d var_i(f_id)

l is the loss of the method, f_i what the final layer sees of row i before any training, s_i how often the sampler of
the method draws the row. The penalty is scaled by the variance v of the features, so that c means the same for every
encoder: that of scikit-learn's C on features of total variance 1; over several labels the loss of a row is the sum over
its labels. The bias is free. c is the one of `STRENGTHS` with the lowest loss of the same kind on validation. A loss
that is convex in the scores is minimised exactly, another one down to a local minimum from the solution for
cross-entropy.

A fresh layer spends the first hundred steps on finding directions that this finds at once, and meanwhile distorts the
encoder: Kumar et al., Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution, ICLR 2022
(LP-FT). Differs from the paper in the loss, which is that of the method.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tailwise.losses import LOSSES
from tailwise.losses.multilabel import LabelwiseLoss
from tailwise.training.convex.fitting import ConvexProblem, fit_convex

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from tailwise.losses import Loss

__all__ = ["STRENGTHS", "HeadRows", "HeadStart", "class_directions", "linear_start", "minimise_over_head"]

#: values of c that are tried
STRENGTHS = (1.0, 10.0, 100.0)

#: no softmax or sigmoid tells larger scores apart
_LARGEST_SCORE = 1000.0

#: numbers of logits at a time; bounds the memory
_LOGITS = 1 << 22


@dataclass
class HeadRows:
    """What the final layer sees, and what it should say.

    Attributes:
        features: ``(N, D)``.
        target: class indices ``(N,)``, or labels as a sparse matrix of ones ``(N, L)``.
        weight: how often each row is drawn, ``(N,)``; None for all alike.
    """

    features: Tensor
    target: NDArray[np.int64] | csr_matrix
    weight: Tensor | None = None

    def __len__(self) -> int:
        return len(self.features)

    def parts(self, num_classes: int) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """Features, targets and weights of consecutive rows."""
        size = max(_LOGITS // num_classes, 1)
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            target = self.target[part]
            dense = target if isinstance(target, np.ndarray) else target.toarray()
            weight = None if self.weight is None else self.weight[part]
            yield self.features[part], torch.from_numpy(np.ascontiguousarray(dense)), weight


@dataclass
class HeadStart:
    """A start of the final layer.

    Attributes:
        weight: ``(C, D)``.
        bias: ``(C,)``; None for directions.
        facts: how it was found, as plain data.
    """

    weight: Tensor
    bias: Tensor | None
    facts: dict[str, Any] = field(default_factory=dict)


def linear_start(
    loss: Loss, train: HeadRows, validation: HeadRows, num_classes: int, strengths: Sequence[float] = STRENGTHS
) -> HeadStart:
    """The start of a linear layer.

    Where the loss compares rows with each other, has a state or needs more than scores, or where its solution has
    scores above 1000, cross-entropy takes its place (over several labels binary cross-entropy), and a note says so.

    Args:
        loss: that of the first stage.
        train: the training rows.
        validation: rows that choose c; without any it is the middle one.
        num_classes: C.
        strengths: values of c, in increasing order.
    """
    stand_in = "bce" if loss.multilabel else "ce"
    plain: Loss = LOSSES[stand_in]()
    facts: dict[str, Any] = {"kind": "probe", "rows": len(train)}
    note = f"The final layer started at the solution for `{stand_in}`: its loss "
    if not loss.separable or loss.stateful or loss.requires_features or loss.requires_group:
        loss = plain
        facts["note"] = note + "needs more than scores."
    variance = max(float(train.features.var(dim=0, correction=0).sum()), 1e-24)
    scaled = [c / variance for c in strengths]
    if loss.convex:
        found = _exact(loss, train, num_classes, scaled)
    else:
        begun = zip(scaled, _exact(plain, train, num_classes, scaled), strict=True)
        found = [minimise_over_head(loss.double(), train, strength, start) for strength, start in begun]
    if not all(_has_settled(train, solution) for solution in found):
        loss, found = plain, _exact(plain, train, num_classes, scaled)
        facts["note"] = note + "falls without end."
    best = len(strengths) // 2
    if len(validation):
        values = [_validation_loss(loss.double(), validation, solution) for solution in found]
        best = int(np.argmin(values))
        facts["validation_loss"] = {f"c = {c:g}": round(value, 6) for c, value in zip(strengths, values, strict=True)}
    return HeadStart(*found[best], {**facts, "c": strengths[best]})


def class_directions(train: HeadRows, num_classes: int) -> HeadStart:
    """The start of a cosine layer: the mean direction of the rows of each class, less that of all rows, ``(C, D)``."""
    directions = functional.normalize(train.features.double(), dim=1)
    rows = train.target
    one_hot = np.eye(num_classes)[rows] if isinstance(rows, np.ndarray) else rows.toarray()
    member = torch.from_numpy(np.asarray(one_hot, dtype=np.float64))
    means = member.T @ directions / member.sum(dim=0).clamp_min(1.0)[:, None] - directions.mean(dim=0)
    return HeadStart(functional.normalize(means, dim=1), None, {"kind": "class directions", "rows": len(train)})


def minimise_over_head(
    loss: Loss, rows: HeadRows, strength: float, start: tuple[Tensor, Tensor], *, iterations: int = 200
) -> tuple[Tensor, Tensor]:
    """Weight ``(C, D)`` and bias ``(C,)`` of a local minimum of the penalised loss, by L-BFGS from a start.

    Args:
        loss: a separable loss over scores.
        rows: features and targets.
        strength: that of `fit_convex`, which is for losses that are convex in the scores.
        start: weight and bias.
        iterations: at the most.
    """
    features = rows.features.double()
    centre = features.mean(dim=0)
    spread = features.var(dim=0, correction=0).sum().sqrt().clamp_min(1e-12)
    weight = (start[0] * spread).requires_grad_()
    bias = (start[1] + start[0] @ centre).requires_grad_()
    scaled = HeadRows((features - centre) / spread, rows.target, rows.weight)
    ridge = 1.0 / (2.0 * strength * len(rows) * float(spread) ** 2)
    optimiser = torch.optim.LBFGS(
        [weight, bias], max_iter=iterations, tolerance_grad=1e-7, tolerance_change=1e-10, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        penalty = ridge * weight.square().sum()
        penalty.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        return penalty.detach() + _mean_loss(loss, scaled, weight, bias, backward=True)

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    found = weight.detach() / spread
    return found, bias.detach() - found @ centre


def _exact(loss: Loss, rows: HeadRows, num_classes: int, strengths: Sequence[float]) -> list[tuple[Tensor, Tensor]]:
    """Weight and bias for every strength, of a loss that is convex in the scores."""
    problem = ConvexProblem(loss, tuple(strengths), None if rows.weight is None else rows.weight.numpy())
    heads = fit_convex([problem], rows.features.float().numpy(), rows.target, num_classes)[0]
    return [(head.weight.double(), head.bias.double()) for head in heads]


def _mean_loss(loss: Loss, rows: HeadRows, weight: Tensor, bias: Tensor, *, backward: bool = False) -> Tensor:
    """The mean over rows, over several labels of the sums over labels; its gradient is added where asked for."""
    whole, total = weight.new_zeros(1), weight.new_zeros(())  # a sum of losses has a denominator for each
    for _, target, sample_weight in rows.parts(len(bias)):
        if loss.reduction == "sum":
            whole = whole + (len(target) if sample_weight is None else sample_weight.sum())
        else:
            whole = whole + loss.denominator(target, sample_weight)
    whole = whole.squeeze()
    if isinstance(loss, LabelwiseLoss) and loss.reduction == "mean":
        whole = whole / len(bias)
    for features, target, sample_weight in rows.parts(len(bias)):
        scores = functional.linear(features.to(weight.dtype), weight, bias)
        part = loss(scores, target, sample_weight=sample_weight, normalizer=whole)
        if backward:
            part.backward()
        total += part.detach()
    return total


@torch.no_grad()
def _validation_loss(loss: Loss, rows: HeadRows, found: tuple[Tensor, Tensor]) -> float:
    value = float(_mean_loss(loss, rows, *found))
    return value if np.isfinite(value) else np.inf


def _has_settled(rows: HeadRows, found: tuple[Tensor, Tensor]) -> bool:
    """Whether the search came to an end: where a loss has no minimum, scores grow beyond all bounds."""
    weight, bias = (values.to(rows.features.dtype) for values in found)
    return bool(functional.linear(rows.features, weight, bias).abs().max() < _LARGEST_SCORE)
