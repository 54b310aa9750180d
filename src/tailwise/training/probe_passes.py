"""Train heads on cached features, all heads of one shape in one pass.

AdamW; within a stage the learning rate rises linearly over the first 5% of the steps and then falls to 0 as half a
cosine; the optimiser starts afresh with every stage. Every batch is full. Losses are called on the rows of several
heads at once, in blocks that keep two conditions under which PyTorch's elementwise kernels give every row the same bits
wherever it stands: fewer elements than one thread takes, and a multiple of what the vector loop takes (the rest goes
through scalar code, which rounds pow, sigmoid and softplus otherwise). Losses see the features as the optimiser does,
scaled; see `PaddedFeatures`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from scipy.sparse import issparse
from torch import Tensor

from tailwise.errors import SettingError
from tailwise.models.heads.base import RowHead
from tailwise.models.heads.building import build_head
from tailwise.models.heads.linear import LinearHead
from tailwise.sampling import SENTENCE_SAMPLERS, PerformanceSampler, TokenFactorSampler
from tailwise.training.components import build_sampler
from tailwise.training.corpus_parts import corpus_loss
from tailwise.training.feedback import give_scores, require_feedback
from tailwise.training.loss_log import Ends, loss_window
from tailwise.training.multilabel_components import build_label_sampler, prior_logits
from tailwise.training.probe_batches import BatchStream, SharedBatches
from tailwise.training.probe_optimiser import StackedAdamW
from tailwise.training.probe_stacks import HeadStack, PaddedFeatures, stack_heads
from tailwise.training.probe_targets import Targets, padded_targets
from tailwise.training.sentence_components import build_sentence_sampler, sentence_shares

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from tailwise.data.labels import LabelSpace
    from tailwise.losses.base import Loss
    from tailwise.models.heads.base import Head
    from tailwise.sampling.base import PlannedSampler
    from tailwise.stages.recipe import Component
    from tailwise.training.probe_plan import ProbePlan, StagePlan

    StepDone = Callable[[int], None]

__all__ = ["TrainedHead", "TrainingRows", "build_stage_loss", "build_stage_sampler", "train_heads"]

#: Heads per pass; more would not fit the cache better.
_HEADS_PER_PASS = 32
#: `at::internal::GRAIN_SIZE`: from here on, elementwise kernels split the work among threads.
_GRAIN = 32768
_WARMUP = 0.05
#: rows of a feedback slice per matrix product
_SCORED_AT_ONCE = 4096


@dataclass(frozen=True)
class TrainingRows:
    """The training split.

    Attributes:
        features: ``(N, D)``, dense, or sparse where they are lexical.
        labels: class indices, ``(N,)``, or label sets as a sparse matrix of ones, ``(N, L)``.
        label_space: classes or labels.
        offsets: where each sentence begins, and N, ``(S + 1,)``, if rows are tokens; None otherwise.
    """

    features: Tensor | csr_matrix
    labels: NDArray[np.int64] | csr_matrix
    label_space: LabelSpace
    offsets: NDArray[np.int64] | None = None

    @property
    def num_rows(self) -> int:
        """N."""
        return int(self.labels.shape[0])

    @property
    def multilabel(self) -> bool:
        """Whether a row may have several labels."""
        return self.labels.ndim == 2


@dataclass(frozen=True)
class TrainedHead:
    """A trained head.

    Attributes:
        head: the head.
        loss: that of its last stage; None in closed form.
        losses: of the first and the last batches of every stage, see `ends_of`; none in closed form.
        drawn: the class distribution that its sampler drew in the end, ``(C,)``; None in closed form.
        steps: gradient steps that were taken.
        notes: how it was found, in words, where that is not plain from the recipe.
    """

    head: Head
    loss: Loss | None
    losses: tuple[Ends, ...] = ()
    drawn: NDArray[np.float64] | None = None
    steps: int = 0
    notes: tuple[str, ...] = ()


class _Block(NamedTuple):
    """Heads ``start`` to ``stop`` of a pass, which have the same loss; its denominator for one row of each class."""

    loss: Loss
    denominators: Tensor
    start: int
    stop: int


def train_heads(
    plans: Sequence[ProbePlan], rows: TrainingRows, progress: Callable[[int, int], None] | None = None
) -> list[TrainedHead]:
    """Fit one head per plan; the result of a plan does not depend on the others, to the bit.

    Args:
        plans: what to fit.
        rows: training features and labels.
        progress: called with the number of steps done and the total, counted over all heads.
    """
    total = sum(stage.steps for plan in plans for stage in plan.stages)
    done = 0

    def advance(steps: int) -> None:
        nonlocal done
        done += steps
        if progress is not None:
            progress(done, total)

    padded = PaddedFeatures(_dense(rows)) if total else None
    trained: dict[int, TrainedHead] = {}
    with _one_thread():
        for members in _passes(plans):
            chosen = [plans[i] for i in members]
            if padded is None or not chosen[0].stages:
                results = [_fit_closed_form(plan, rows) for plan in chosen]
            else:
                results = _train_pass(chosen, rows, padded, advance)
            trained.update(zip(members, results, strict=True))
    return [trained[i] for i in range(len(plans))]


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread for the small operations of a pass: the same bits on any number of cores, and no waiting for others.

    Threads that wait for each other a thousand times a second gain little on an idle machine and lose tenfold on a
    shared one.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _passes(plans: Sequence[ProbePlan]) -> list[list[int]]:
    """Positions of plans of equal shape, those with equal losses and batches side by side, in portions."""
    by_shape: dict[object, list[int]] = defaultdict(list)
    for i, plan in enumerate(plans):
        by_shape[plan.shape].append(i)
    portions = []
    for members in by_shape.values():
        members.sort(key=lambda i: [(repr(s.loss), repr(s.sampler), plans[i].seed) for s in plans[i].stages])
        portions += [members[s : s + _HEADS_PER_PASS] for s in range(0, len(members), _HEADS_PER_PASS)]
    return portions


def _fresh_head(plan: ProbePlan, rows: TrainingRows) -> Head:
    return build_head(plan.head.name, plan.head.params, rows.features.shape[1], rows.label_space.num_classes)


def _dense(rows: TrainingRows) -> Tensor:
    if not isinstance(rows.features, Tensor):
        raise SettingError("Heads take gradient steps on the states of the encoder alone, but got sparse features.")
    return rows.features


def _fit_closed_form(plan: ProbePlan, rows: TrainingRows) -> TrainedHead:
    head = _fresh_head(plan, rows)
    if isinstance(head, RowHead):
        head.fit_rows(rows.features, rows.labels)
    elif head.closed_form:
        head.fit(_dense(rows), torch.tensor(rows.labels))
    else:
        head.reset(head_generator(plan.seed))
    return TrainedHead(head, None)


def _train_pass(
    plans: Sequence[ProbePlan], rows: TrainingRows, features: PaddedFeatures, advance: StepDone
) -> list[TrainedHead]:
    heads = [_fresh_head(plan, rows) for plan in plans]
    for head, plan in zip(heads, plans, strict=True):
        head.reset(head_generator(plan.seed))
        _start_at_prior(head, rows)
    stack = stack_heads(heads, features)
    targets = padded_targets(rows.labels)
    ends: list[list[Ends]] = []
    for index in range(len(plans[0].stages)):
        stage = _StageRun(stack, plans, index, rows)
        stage.run(features.padded, targets, advance)
        ends.append(stage.ends_of_losses())
    stack.finish()
    drawn = stage.drawn_priors()
    steps = [sum(stage.steps for stage in plan.stages) for plan in plans]
    found = zip(heads, stage.losses, zip(*ends, strict=True), drawn, steps, strict=True)
    return [TrainedHead(*result) for result in found]


class _StageRun:
    """One stage of all heads of a pass."""

    def __init__(self, stack: HeadStack, plans: Sequence[ProbePlan], index: int, rows: TrainingRows) -> None:
        stages = [plan.stages[index] for plan in plans]
        self._stack = stack
        self._steps = stages[0].steps
        self._batch_size = plans[0].batch_size
        self._batches = shared_batches(plans, index, rows)
        self.losses = _build_losses(stages, rows)
        self._blocks = _blocks(self.losses, self._batch_size, rows.label_space.num_classes)
        rates = [plan.learning_rate * plan.stages[index].learning_rate_scale for plan in plans]
        self._optimiser = StackedAdamW(stack.parameters, rates, [plan.weight_decay for plan in plans])
        self._num_features = stack.num_features
        self._logged = torch.zeros(2, len(plans), dtype=torch.float64)
        self._window = loss_window(self._steps, math.ceil(rows.num_rows / self._batch_size))

    def run(self, features: Tensor, targets: Targets, advance: StepDone) -> None:
        """Take all steps; `features` ``(N + 1, P)`` and `targets` are padded."""
        self._feed_back(features)
        for step in range(self._steps):
            rows = self._batches.next()
            batch = self._batches.for_heads(_rows_of(features, rows))
            gradient, losses = self._gradient(batch, self._batches.for_heads(targets.take(rows)))
            self._stack.backward(batch, gradient)
            self._optimiser.step(decay(step, self._steps))
            if step < self._window:
                self._logged[0] += losses
            if step >= self._steps - self._window:
                self._logged[1] += losses
            advance(len(self.losses))

    def _feed_back(self, features: Tensor) -> None:
        """Let samplers that go by the performance of their head score it before every epoch but the first."""
        for head, order in enumerate(self._batches.order_of_head):
            stream = self._batches.streams[order]
            if isinstance(require_feedback(stream.sampler), PerformanceSampler):
                predict = partial(self._predict, head, features)
                stream.before_plan = partial(give_scores, stream.sampler, predict=predict)

    def _predict(self, head: int, features: Tensor, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Classes that one head gives rows, ``(M,)``."""
        parts = []
        for start in range(0, rows.size, _SCORED_AT_ONCE):
            part = torch.from_numpy(rows[start : start + _SCORED_AT_ONCE])
            scores = self._stack.scores_of(head, features[part])
            if self.losses[head].scoreless_class is not None:
                scores[:, self.losses[head].scoreless_class] = 0.0
            parts.append(scores.argmax(dim=1))
        return torch.cat(parts).numpy()

    def drawn_priors(self) -> list[NDArray[np.float64]]:
        """What the sampler of each head draws in the end."""
        priors = [stream.sampler.effective_prior() for stream in self._batches.streams]
        return [priors[order] for order in self._batches.order_of_head]

    def ends_of_losses(self) -> list[Ends]:
        """Mean loss of each head at the beginning and at the end."""
        first, last = (self._logged / self._window).tolist()
        return list(zip(first, last, strict=True))

    def _gradient(self, batch: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of the losses in the scores, ``(H, B, C)``, and the losses, ``(H,)``.

        `targets` is ``(H, B)``, or ``(H, B, L)`` over labels.
        """
        scores = self._stack.scores(batch)
        gradient = torch.empty_like(scores)
        losses = torch.empty(len(scores), dtype=torch.float64)
        for block in self._blocks:
            heads = slice(block.start, block.stop)
            leaf = scores[heads].requires_grad_()
            compute = self._row_losses if _by_row(block.loss) else self._batch_loss
            total = compute(block, leaf, targets[heads], batch[heads, :, : self._num_features])
            gradient[heads] = torch.autograd.grad(total.sum(), leaf)[0]
            losses[heads] = total.detach().double()
        return gradient, losses

    def _row_losses(self, block: _Block, scores: Tensor, target: Tensor, features: Tensor) -> Tensor:
        """Losses ``(h,)`` of heads whose loss is a sum over rows; rows of padding weigh nothing."""
        weight = torch.zeros(target.shape)
        weight[:, : self._batch_size] = 1.0
        if block.loss.reduction != "sum":
            divisor = block.denominators[target[:, : self._batch_size]].sum(dim=1, keepdim=True)
            weight /= divisor.where(divisor != 0, 1.0)
        # Heads with the same batches share its features; laid out row by row they are a copy per head.
        seen = features.flatten(0, 1) if block.loss.requires_features else None
        values = block.loss.values(scores.flatten(0, 1), target.flatten(), features=seen, group=None)
        return (values.view(target.shape) * weight).sum(dim=1)

    def _batch_loss(self, block: _Block, scores: Tensor, target: Tensor, features: Tensor) -> Tensor:
        """The loss ``(1,)`` of one head whose loss mixes the rows of a batch."""
        rows = slice(0, self._batch_size)
        seen = features[0, rows] if block.loss.requires_features else None
        loss: Tensor = block.loss(scores[0, rows], target[0, rows], features=seen)
        return loss[None]


def shared_batches(plans: Sequence[ProbePlan], index: int, rows: TrainingRows) -> SharedBatches:
    streams: list[BatchStream] = []
    known: dict[tuple[Component, int], int] = {}
    orders = []
    for plan in plans:
        stage = plan.stages[index]
        key = (stage.sampler, plan.seed)
        if key not in known or isinstance(streams[known[key]].sampler, PerformanceSampler):
            seed = int(np.random.SeedSequence([plan.seed, index]).generate_state(1)[0])
            known[key] = len(streams)
            streams.append(BatchStream(build_stage_sampler(stage, plan, rows, seed), plan.batch_size))
        orders.append(known[key])
    return SharedBatches(streams, orders, padding_row=rows.num_rows, batch_size=plans[0].batch_size)


def build_stage_sampler(stage: StagePlan, plan: ProbePlan, rows: TrainingRows, seed: int) -> PlannedSampler:
    """The sampler of a stage over the training rows."""
    if issparse(rows.labels):
        return build_label_sampler(stage.sampler, rows.labels, seed=seed)
    if stage.sampler.name in SENTENCE_SAMPLERS and rows.offsets is not None:
        sentences = build_sentence_sampler(stage.sampler, rows.labels, rows.offsets, rows.label_space, seed=seed)
        return TokenFactorSampler(sentences)
    draws, num_classes = stage.steps * plan.batch_size, rows.label_space.num_classes
    return build_sampler(stage.sampler, rows.labels, seed=seed, num_classes=num_classes, draws=draws)


@torch.no_grad()
def _start_at_prior(head: Head, rows: TrainingRows) -> None:
    """Let a linear head over labels start with their log odds as biases, as far as the data can tell.

    Otherwise the first steps are spent on learning that most labels are absent (Lin et al., ICCV 2017, section 3.3).
    """
    if not rows.multilabel or not isinstance(head, LinearHead):
        return
    head.bias.copy_(prior_logits(rows.label_space))


def _build_losses(stages: Sequence[StagePlan], rows: TrainingRows) -> list[Loss]:
    """One loss per head; heads with equal losses share it, unless it has a state."""
    built: dict[tuple[Component, Component], Loss] = {}
    losses = []
    for stage in stages:
        key = (stage.loss, stage.sampler)
        if key not in built or built[key].stateful:
            built[key] = build_stage_loss(stage, rows)
        losses.append(built[key])
    return losses


def build_stage_loss(stage: StagePlan, rows: TrainingRows) -> Loss:
    """The loss of a stage over the training rows.

    Raises:
        SettingError: it cannot be built for these data, or shapes a representation that is frozen here.
    """
    if issparse(rows.labels):
        targets, shares = rows.labels, None
    else:
        targets, shares = None, sentence_shares(stage.sampler, rows.labels, rows.offsets, rows.label_space)
    loss = corpus_loss(stage.loss, stage.sampler, rows.label_space, targets, shares)
    if loss.shapes_representation:
        raise SettingError(
            f"The loss {stage.loss.name!r} shapes the representation, which a probe keeps frozen. Choose the engine "
            "'finetune'."
        )
    return loss


def _by_row(loss: Loss) -> bool:
    return loss.separable and loss.by_row


def _blocks(losses: Sequence[Loss], batch_size: int, num_classes: int) -> list[_Block]:
    padded = -(-batch_size // 32) * 32
    blocks, start = [], 0
    for _, run in groupby(losses, key=id):
        members = list(run)
        size = max(1, (_GRAIN - 1) // (padded * num_classes)) if _by_row(members[0]) else 1
        stop = start + len(members)
        alone = torch.ones(num_classes)
        if _by_row(members[0]):
            alone = torch.stack([members[0].denominator(torch.tensor([j])) for j in range(num_classes)]).float()
        blocks += [_Block(members[0], alone, s, min(s + size, stop)) for s in range(start, stop, size)]
        start = stop
    return blocks


def _rows_of(values: Tensor, rows: Tensor) -> Tensor:
    return values.index_select(0, rows.flatten()).view(*rows.shape, *values.shape[1:])


def decay(step: int, steps: int) -> float:
    """Learning rate at a step over its peak."""
    warmup = math.ceil(_WARMUP * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def head_generator(seed: int) -> torch.Generator:
    state = np.random.SeedSequence([seed, 0x68656164]).generate_state(1, dtype=np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))
