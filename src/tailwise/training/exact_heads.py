"""Linear heads fitted on all rows at once: exactly where the loss is convex in the scores, else to a local minimum.

    min_{W, b}   C N sum_i r_i l(W x_i + b, y_i) / sum_i r_i d_i  +  |W|^2 / 2

r_i is how often the sampler of the stage draws row i relative to natural sampling (`PlannedSampler.row_rates`), d_i the
denominator of the loss for the row: what a run of many epochs minimises in the mean over its batches. The result
depends on neither learning rate, number of epochs nor seed. Re-sampling and class weights that come to the same row
weights are the same computation, and it is done once; so are the trainings of methods that differ in post-hoc steps.

A loss that is not convex is followed downhill (`tailwise.training.convex.local`) from the solution for cross-entropy,
over several labels for binary cross-entropy, of the same C and r: what is found is the local minimum next to it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.sparse import issparse

from tailwise.errors import SettingError
from tailwise.losses.weighted_sum import WeightedSumLoss
from tailwise.models.heads.linear import LinearHead
from tailwise.stages.probe_paths import loss_path
from tailwise.training.convex import ConvexProblem, LocalProblem, fit_convex, fit_local, stand_in
from tailwise.training.probe_passes import TrainedHead, TrainingRows, build_stage_loss, build_stage_sampler

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from tailwise.losses.base import Loss
    from tailwise.models.heads.base import AffineForm
    from tailwise.training.convex import LocalFit
    from tailwise.training.loss_log import Ends
    from tailwise.training.probe_plan import ProbePlan

__all__ = ["LADDER", "ExactProblem", "exact_problem", "fit_descents", "fit_exact", "ladder"]

#: relative difference of row weights below which two problems are one
_DIGITS = 9
#: strengths on the way to a greater one
LADDER = (1.0, 5.0, 25.0, 125.0)
#: rows whose loss is computed at a time
_ROWS = 8192


@dataclass(frozen=True, eq=False)
class ExactProblem:
    """What is minimised for a plan, and what identifies it.

    Attributes:
        loss: of the last stage.
        rates: r_i, ``(N,)``; None where all are 1.
        drawn: the class distribution that the sampler draws, ``(C,)``.
        key: equal for problems of equal solution.
        start: the convex problem at whose solution the search for a local minimum starts; None where the loss is
            convex itself.
    """

    loss: Loss
    rates: NDArray[np.float64] | None
    drawn: NDArray[np.float64]
    key: str
    start: ExactProblem | None = None


def exact_problem(plan: ProbePlan, rows: TrainingRows) -> ExactProblem | None:
    """The problem of a plan, or None where its head takes gradient steps.

    Those are plans of several stages, of other heads than linear ones, of losses that mix rows, have a state or need
    more than scores, of samplers whose rates change, and of recipes that set a learning rate, epochs, a batch size or a
    weight decay.
    """
    if plan.head.name != "linear" or not plan.stages:
        return None
    if plan.asks_for_steps or len(plan.stages) > 1:
        return None
    stage = plan.stages[-1]
    loss = build_stage_loss(stage, rows)
    path = loss_path(loss)
    if path == "steps":
        return None
    sampler = build_stage_sampler(stage, plan, rows, seed=0)
    rates = sampler.row_rates()
    if rates is None:
        return None
    equal = float(np.ptp(rates)) < 10.0**-_DIGITS
    weights, drawn = None if equal else rates, sampler.effective_prior()
    start = None
    if path == "descent":
        plain = stand_in(loss)
        start = ExactProblem(plain, weights, drawn, _key(plain, rates, rows))
    return ExactProblem(loss, weights, drawn, _key(loss, rates, rows), start)


def ladder(strength: float) -> tuple[float, ...]:
    """The strengths that are fitted on the way to one, each from the solution of the one before, itself the last.

    A fit so depends on its own strength alone, whatever else is asked for beside it.
    """
    return (*(rung for rung in LADDER if rung < strength), strength)


def fit_exact(
    problems: Sequence[tuple[ExactProblem, float]],
    rows: TrainingRows,
    progress: Callable[[int, int], None] | None = None,
) -> list[TrainedHead]:
    """One head per problem and strength C; equal problems share their way up.

    Args:
        problems: what to minimise, of convex losses, and C.
        rows: training features and labels.
        progress: called with the number of fits done and the total.
    """
    asked: dict[tuple[str, tuple[float, ...]], ExactProblem] = {}
    for problem, strength in problems:
        asked.setdefault((problem.key, ladder(strength)), problem)
    # of two ladders of a problem the longer one holds the shorter one
    ways = [way for way in asked if not any(_holds(other, way) for other in asked)]
    convex = [ConvexProblem(loss=asked[way].loss, strengths=way[1], row_weights=asked[way].rates) for way in ways]
    forms = fit_convex(convex, _features(rows), rows.labels, rows.label_space.num_classes, progress)
    found = {
        (key, strength): form
        for (key, way), path in zip(ways, forms, strict=True)
        for strength, form in zip(way, path, strict=True)
    }
    heads: list[TrainedHead] = []
    for problem, strength in problems:
        head = _linear(found[problem.key, strength])
        heads.append(TrainedHead(head, problem.loss, _ends(head, problem.loss, rows), problem.drawn))
    return heads


def fit_descents(
    problems: Sequence[tuple[ExactProblem, float, TrainedHead]],
    rows: TrainingRows,
    progress: Callable[[int, int], None] | None = None,
) -> list[TrainedHead]:
    """One head per problem and strength C, a local minimum.

    Args:
        problems: what to minimise, of losses that are not convex, C, and the solution of `ExactProblem.start` for it.
        rows: training features and labels.
        progress: called with the number of fits done and the total.
    """
    local = [
        LocalProblem(loss=problem.loss, strength=strength, start=_form(start), row_weights=problem.rates)
        for problem, strength, start in problems
    ]
    fits = fit_local(local, _features(rows), rows.labels, rows.label_space.num_classes, progress)
    heads: list[TrainedHead] = []
    for (problem, _, _), fit in zip(problems, fits, strict=True):
        head = _linear(fit.head)
        ends = _ends(head, problem.loss, rows)
        heads.append(TrainedHead(head, problem.loss, ends, problem.drawn, fit.steps, notes=(_note(problem, fit),)))
    return heads


def _note(problem: ExactProblem, fit: LocalFit) -> str:
    plain = "binary cross-entropy" if problem.loss.multilabel else "cross-entropy"
    end = "settled after" if fit.converged else "had not settled after"
    return (
        f"The loss is not convex in the scores: the head is the local minimum downhill from the solution for {plain}; "
        f"the search {end} {fit.steps} steps of L-BFGS over all rows."
    )


def _features(rows: TrainingRows) -> NDArray[np.float32] | csr_matrix:
    return np.ascontiguousarray(rows.features.numpy()) if isinstance(rows.features, torch.Tensor) else rows.features


def _form(trained: TrainedHead) -> AffineForm:
    form = trained.head.affine()
    if form is None:
        raise SettingError(f"A search starts at a linear head, but got {type(trained.head).__name__}.")
    return form


def _holds(longer: tuple[str, tuple[float, ...]], shorter: tuple[str, tuple[float, ...]]) -> bool:
    (key, way), (other, rest) = longer, shorter
    return key == other and len(way) > len(rest) and way[: len(rest)] == rest


@torch.no_grad()
def _ends(head: LinearHead, loss: Loss, rows: TrainingRows) -> tuple[Ends, ...]:
    """The mean loss of the training rows at a head of zeros, and at the fitted one."""
    if isinstance(loss, WeightedSumLoss):  # every part has its own denominator
        parts = [_ends(head, part, rows)[0] for part in loss.parts]
        first, last = np.array(loss.weights) @ np.array(parts)
        return ((float(first), float(last)),)
    weight, bias = head.weight.numpy(), head.bias.numpy()
    columns = np.ascontiguousarray(weight.T)
    sums, shares = np.zeros(2), 0.0
    for start in range(0, rows.num_rows, _ROWS):
        part = rows.features[start : start + _ROWS]
        own = rows.labels[start : start + _ROWS]
        target = torch.from_numpy(own.toarray() if issparse(own) else np.asarray(own))
        scores = np.asarray((part.numpy() if isinstance(part, torch.Tensor) else part) @ columns, dtype=np.float32)
        if not issparse(own):
            target = target.long()
        share = float(loss.denominator(target))
        for end, logits in enumerate((np.zeros_like(scores), scores + bias)):
            sums[end] += share * float(loss(torch.from_numpy(logits), target))
        shares += share
    first, last = sums / max(shares, np.finfo(float).tiny)
    return ((float(first), float(last)),)


def _linear(form: AffineForm) -> LinearHead:
    head = LinearHead(form.weight.shape[1], form.weight.shape[0])
    with torch.no_grad():
        head.weight.copy_(form.weight)
        head.bias.copy_(form.bias)
    return head


def _key(loss: Loss, rates: NDArray[np.float64], rows: TrainingRows) -> str:
    """A digest of what the solution depends on: the weight of every row, and what the loss does to its scores."""
    digest, weight = hashlib.sha256(), rates / rates.mean()
    form = None if loss.multilabel else loss.softmax_form(rows.label_space.num_classes)
    if form is None:
        digest.update(type(loss).__qualname__.encode())
        for name, value in sorted(_settings(loss).items()):
            digest.update(f"{name}={value!r};".encode())
    else:
        if form.weights is not None:
            weight = weight * form.weights.double().numpy()[np.asarray(rows.labels)]
        if loss.reduction == "weighted_mean":
            weight = weight / weight.mean()
        shift = None if form.shift is None else form.shift - form.shift.mean()
        for part in (form.scale, shift, form.margins, form.smoothing):
            digest.update(b"none;" if part is None else np.round(part.double().numpy(), _DIGITS).tobytes())
    digest.update(np.round(weight, _DIGITS).tobytes())
    return digest.hexdigest()


def _settings(loss: Loss) -> dict[str, object]:
    """Numbers, names and tensors that a loss holds, those of its parts too."""
    simple = (int, float, str, bool, tuple, type(None))
    found: dict[str, object] = {
        name: value for name, value in vars(loss).items() if not name.startswith("_") and isinstance(value, simple)
    }
    for prefix, module in loss.named_modules():
        if module is not loss:
            found[prefix] = sorted(
                (type(module).__qualname__, repr(k), repr(v)) for k, v in vars(module).items() if not k.startswith("_")
            )
    found |= {name: tensor.detach().numpy().tobytes() for name, tensor in loss.named_buffers()}
    return found
