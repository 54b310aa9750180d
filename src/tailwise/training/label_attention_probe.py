"""Label-wise attention on frozen token states: any multi-label loss, AdamW, warm-up and half a cosine.

A batch is computed in parts of texts of about equal length, so that hardly any padding is attended to. The loss always
sees the scores of the whole batch, also where it mixes rows. Where the attention of all parts is too large to be held,
they are first scored without a graph, the loss gives the gradient in all scores, and every part is then run again with
its share of that gradient. Biases start at the log odds of the labels, as those of a linear head do.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tailwise.errors import DataError, SettingError
from tailwise.evaluation.scoring import evaluate_scores, scores_are_finite
from tailwise.evaluation.unit_metrics import metric_names
from tailwise.models.heads.building import build_head
from tailwise.models.label_attention import LabelAttention, attention_batches, label_attention_scores
from tailwise.models.label_attention_model import LabelAttentionModel
from tailwise.models.token_states import split_token_states
from tailwise.training.corpus_parts import corpus_loss, corpus_prior, fit_corpus_steps
from tailwise.training.loss_log import Ends, ends_of, loss_facts
from tailwise.training.multilabel_components import build_label_sampler, prior_logits, trained_labels
from tailwise.training.probe_batches import BatchStream
from tailwise.training.probe_passes import decay, head_generator
from tailwise.training.probe_targets import LabelTargets
from tailwise.training.run_facts import run_facts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from tailwise.data.corpus import Corpus
    from tailwise.data.labels import LabelSpace
    from tailwise.losses import Loss
    from tailwise.models.encoder import Encoder
    from tailwise.models.feature_cache import FeatureCache
    from tailwise.models.token_states import TokenStates
    from tailwise.training.engine import Job, Progress
    from tailwise.training.probe_plan import ProbePlan, StagePlan

    Divide = Callable[[NDArray[np.int64], int], Any]

#: dropout is drawn as whole numbers below this, which is several times faster than by `torch.bernoulli`
_GRID = 2**16

__all__ = ["TrainedAttention", "fit_label_attention", "train_label_attention"]


class TrainedAttention(NamedTuple):
    """A trained head, and the losses of the first and the last steps of every stage, see `ends_of`."""

    head: LabelAttention
    losses: tuple[Ends, ...]


class _Part(NamedTuple):
    """Some texts of a batch: their positions in it, their states ``(b, T, D)``, and where tokens are ``(b, T)``."""

    rows: Tensor
    states: Tensor
    mask: Tensor


def fit_label_attention(
    jobs: Sequence[Job],
    plans: Sequence[ProbePlan],
    corpus: Corpus,
    encoder: Encoder,
    *,
    metric: str = "macro_f1",
    cache: FeatureCache | None = None,
    engine: str = "probe",
    settings: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> list[LabelAttentionModel]:
    """Train label-wise attention on cached token states, one job after the other.

    Args:
        jobs: recipes and seeds.
        plans: what each of them comes to on a frozen encoder.
        corpus: texts, or pairs of texts, with several labels per row.
        encoder: gives the states.
        metric: what tuned post-hoc steps maximise on validation.
        cache: where states are kept; None takes the user's cache folder.
        engine: name under which results are filed.
        settings: of the engine, for the model card.
        progress: told how far the work is.

    Raises:
        SettingError: a recipe that cannot be carried out.
        DataError: no training row.
    """
    if not corpus.num_rows("train"):
        raise DataError(f"The corpus {corpus.name!r} has no training row.")
    states = split_token_states(encoder, corpus, "train", cache=cache, progress=progress)
    held_out = split_token_states(encoder, corpus, "validation", cache=cache, progress=progress)
    targets = trained_labels(corpus.label_matrix("train"), corpus.label_space)
    models = []
    for number, (job, plan) in enumerate(zip(jobs, plans, strict=True)):
        trained = train_label_attention(
            plan, states, targets, corpus.label_space, progress=_numbered(progress, number, len(jobs))
        )
        log = {"steps": sum(stage.steps for stage in plan.stages), **loss_facts(trained.losses)}
        model = LabelAttentionModel(
            encoder=encoder,
            head=trained.head,
            cache=cache,
            label_space=corpus.label_space,
            task=corpus.task,
            recipe=job.recipe.to_dict(),
            seed=job.seed,
            engine=engine,
            info={**run_facts(corpus, encoder, settings or {}, log), "notes": list(plan.notes)},
        )
        _finish(model, job, corpus, label_attention_scores(trained.head, held_out), metric)
        models.append(model)
    return models


def train_label_attention(
    plan: ProbePlan,
    states: TokenStates,
    targets: csr_matrix,
    space: LabelSpace,
    *,
    divide: Divide = attention_batches,
    held: int = 2**23,
    progress: Callable[[int, int], None] | None = None,
) -> TrainedAttention:
    """Train one head; the result depends on nothing but the arguments.

    Args:
        plan: head, stages and settings of the optimiser.
        states: of the training texts.
        targets: their labels, ``(N, L)``.
        space: the labels.
        divide: cuts the texts of a batch, given by their lengths, into parts, given the number of labels.
        held: attention weights of a batch up to which all its parts are held for the gradient.
        progress: told after every step.

    Raises:
        SettingError: a loss that such a head cannot be trained with.
    """
    head = build_head(plan.head.name, plan.head.params, states.values.shape[1], space.num_classes)
    if not isinstance(head, LabelAttention):
        raise SettingError(f"Expected a head of label-wise attention, but got {plan.head.name!r}.")
    head.reset(head_generator(plan.seed))
    with torch.no_grad():
        head.bias.copy_(prior_logits(space))
    run = _Run(head, states, targets, divide, held, plan.seed)
    total = sum(stage.steps for stage in plan.stages)
    epoch, done = math.ceil(targets.shape[0] / plan.batch_size), 0
    ends: list[Ends] = []
    for index, stage in enumerate(plan.stages):
        losses: list[float] = []
        loss = _stage_loss(stage, space, targets)
        batches = BatchStream(_sampler(stage, targets, plan.seed, index), plan.batch_size)
        optimiser = _optimiser(head, plan, stage)
        peaks = [group["lr"] for group in optimiser.param_groups]
        for step in range(stage.steps):
            for group, peak in zip(optimiser.param_groups, peaks, strict=True):
                group["lr"] = peak * decay(step, stage.steps)
            losses.append(run.gradients(batches.next(), loss))
            optimiser.step()
            if progress is not None:
                progress(done + len(losses), total)
        done += len(losses)
        ends.append(ends_of(losses, epoch))
        if index == len(plan.stages) - 1:
            _for_prediction(head, run.scale, loss.inference_scale)
    return TrainedAttention(head.eval(), tuple(ends))


class _Run:
    """Gradients of batches; the head sees states scaled to a root mean square near 1, by a power of two."""

    def __init__(
        self,
        head: LabelAttention,
        states: TokenStates,
        targets: csr_matrix,
        divide: Divide,
        held: int,
        seed: int,
    ) -> None:
        self._head = head
        self._states = states
        self._targets = LabelTargets(targets)
        self._divide = divide
        self._held = held
        self._random = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, 0x64726F70])))
        self.scale = _scale(states)

    def gradients(self, rows: NDArray[np.int64], loss: Loss) -> float:
        """Set the gradients of a batch ``(B,)``; returns its loss."""
        head, target = self._head, self._targets.take(torch.from_numpy(rows)[None])[0]
        parts = [
            self._part(rows, positions) for positions in self._divide(self._states.lengths[rows], head.num_classes)
        ]
        head.zero_grad()
        order = torch.cat([part.rows for part in parts])
        held = sum(part.mask.numel() for part in parts) * head.num_classes <= self._held
        with torch.set_grad_enabled(held):
            scores = torch.cat([head(part.states, part.mask) for part in parts])
        if held:
            value: Tensor = loss(scores, target[order])
            torch.autograd.backward(value)
            return float(value.detach())
        value = loss(scores.requires_grad_(), target[order])
        (gradient,) = torch.autograd.grad(value, scores)
        for part, share in zip(parts, torch.split(gradient, [len(part.rows) for part in parts]), strict=True):
            torch.autograd.backward(head(part.states, part.mask), share)
        return float(value.detach())

    def _part(self, rows: NDArray[np.int64], positions: NDArray[np.int64]) -> _Part:
        states, mask = self._states.padded(rows[positions])
        lost = round(self._head.dropout * _GRID)
        if lost:
            drawn = self._random.integers(_GRID, size=tuple(states.shape), dtype=np.uint16)
            states *= torch.from_numpy(drawn >= lost)
        return _Part(torch.from_numpy(positions), states.mul_(self.scale * _GRID / (_GRID - lost)), mask)


def _scale(states: TokenStates) -> float:
    """The power of two that brings the root mean square of the states nearest to 1; see `PaddedFeatures`."""
    values = states.values
    total = sum(
        float(np.square(values[start : start + 65536], dtype=np.float32).sum(dtype=np.float64))
        for start in range(0, len(values), 65536)
    )
    return 2.0 ** -round(0.5 * math.log2(total / values.size)) if total > 0 else 1.0


def _sampler(stage: StagePlan, targets: csr_matrix, seed: int, index: int) -> Any:
    own = int(np.random.SeedSequence([seed, index]).generate_state(1)[0])
    return build_label_sampler(stage.sampler, targets, seed=own)


def _optimiser(head: LabelAttention, plan: ProbePlan, stage: StagePlan) -> torch.optim.AdamW:
    """AdamW; biases do not decay."""
    groups = [
        {"params": [head.query, head.weight], "weight_decay": plan.weight_decay},
        {"params": [head.bias], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=plan.learning_rate * stage.learning_rate_scale, fused=True)


def _stage_loss(stage: StagePlan, space: LabelSpace, targets: csr_matrix) -> Loss:
    loss, name = corpus_loss(stage.loss, stage.sampler, space, targets), stage.loss.name
    needs = {
        "cosine scores": loss.requires_cosine,
        "one feature vector per row": loss.requires_features or loss.shapes_representation,
    }
    for what, needed in needs.items():
        if needed:
            raise SettingError(
                f"The loss {name!r} needs {what}, which label-wise attention does not have. The nearest one is 'bce'."
            )
    return loss.train()


@torch.no_grad()
def _for_prediction(head: LabelAttention, scale: float, factor: float) -> None:
    """From scaled states to the states as they are, and to scores whose sigmoid was fitted."""
    head.query.mul_(scale)
    head.weight.mul_(scale * factor)
    head.bias.mul_(factor)


def _finish(model: LabelAttentionModel, job: Job, corpus: Corpus, scores: NDArray[np.float32], metric: str) -> None:
    """Fit the post-hoc steps on validation, and note how good the model is there.

    The score of a label is affine in what the label read, so steps that need an affine head have its weights.
    """
    head = model.head
    fitted = fit_corpus_steps(
        job.recipe,
        scores,
        corpus,
        prior=corpus_prior(job.recipe.stages[-1], corpus),
        metric=metric,
        weight=head.weight.detach().numpy(),
        bias=head.bias.detach().numpy(),
    )
    model.steps, model.held_out = fitted.steps, fitted.held_out if fitted.steps else None
    if metric in metric_names(corpus.task.label_structure) and scores_are_finite(fitted.held_out):
        reached = evaluate_scores(corpus, "validation", fitted.held_out).score(metric)
        model.info["training"][f"validation_{metric}"] = reached


def _numbered(progress: Progress | None, number: int, jobs: int) -> Callable[[int, int], None] | None:
    """Progress of one job as part of that of all."""
    if progress is None:
        return None
    return lambda done, total: progress("train", number * total + done, jobs * total)
