"""The steps of a parser: arcs by cross-entropy over heads, relations by any single-label loss under the gold heads.

    loss = mean over words of -log softmax(s_arc)_h  +  L(relation rows, relations)

as in Dozat and Manning, ICLR 2017, whose second term is cross-entropy. Every stage has its own AdamW state, linear
warm-up and cosine decay to zero. A stage that trains the head alone moves the relation weights and nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from tailwise.errors import SettingError
from tailwise.models.parsing.scoring import SentenceLayout
from tailwise.training.isolation import kept_random_state
from tailwise.training.loss_log import Ends, ends_of, loss_facts
from tailwise.training.parsing_plan import relation_loss

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tailwise.data.labels import LabelSpace
    from tailwise.losses import Loss
    from tailwise.models.parsing.network import ParserNetwork
    from tailwise.stages.recipe import Component, Recipe
    from tailwise.training.engine import Progress
    from tailwise.training.parsing_plan import ParserStage, Treebank

__all__ = ["ParserOptimisation", "WordSource", "train_parser"]

_SCALE_OF_COSINES = 30.0


class WordSource(Protocol):
    """Where the states of words come from."""

    def states(self, layout: SentenceLayout, sentences: Any) -> Tensor:
        """States of the words of a batch, ``(B, T, D)``, in float32."""

    def encoder(self) -> nn.Module | None:
        """What is trained below the parser, or None."""


@dataclass(frozen=True)
class ParserOptimisation:
    """Settings of the optimiser.

    Attributes:
        learning_rate: peak for the parser.
        encoder_learning_rate: peak for the encoder where it is trained.
        weight_decay: decoupled, on matrices alone.
        warmup: share of a stage's steps in which the rates rise.
        max_grad_norm: gradients are clipped to this length.
        betas: of AdamW.
    """

    learning_rate: float = 3e-3
    encoder_learning_rate: float = 3e-4
    weight_decay: float = 1e-2
    warmup: float = 0.05
    max_grad_norm: float = 5.0
    betas: tuple[float, float] = (0.9, 0.999)

    def __post_init__(self) -> None:
        if min(self.learning_rate, self.encoder_learning_rate, self.weight_decay) < 0 or not self.max_grad_norm > 0:
            raise SettingError(f"Expected learning rates and weight decay from 0 and a positive norm, but got {self}.")
        if not 0.0 <= self.warmup < 1.0:
            raise SettingError(f"Expected `warmup` to be a share in [0, 1), but got {self.warmup!r}.")


def train_parser(
    network: ParserNetwork,
    source: WordSource,
    treebank: Treebank,
    stages: Sequence[ParserStage],
    recipe: Recipe,
    space: LabelSpace,
    *,
    optimisation: ParserOptimisation,
    seed: int,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run all stages from fresh weights, and leave scores whose softmax the last loss was fitted on.

    Args:
        network: trained in place, on the processor.
        source: word states.
        treebank: the training trees.
        stages: from `parser_stages`.
        recipe: where heads are named.
        space: classes and counts of the relations.
        optimisation: settings of the optimiser.
        seed: of weights and dropout.
        progress: told after every step.

    Returns:
        Steps, and the mean loss of the first and the last tenth of every stage.

    Raises:
        SettingError: a head that relations cannot have, or a loss that does not fit.
    """
    generator = torch.Generator().manual_seed(seed)
    total = sum(len(stage.batches) for stage in stages)
    ends: list[Ends] = []
    head, before, done = recipe.head, 0, 0
    loss: Loss | None = None
    with kept_random_state():
        torch.manual_seed(seed)
        _use_head(network, head)
        network.reset(generator)
        for stage in stages:
            given = [s.head for s in recipe.stages[before : stage.index + 1] if s.head is not None]
            if given:
                head = given[-1]
                _use_head(network, head)
                network.scorer.reset_relations(generator)
            before = stage.index + 1
            loss = relation_loss(stage, space)
            losses: list[float] = []
            for value in _run(network, source, treebank, stage, loss, optimisation):
                losses.append(value)
                if progress is not None:
                    progress("train", done + len(losses), total)
            done += len(losses)
            ends.append(ends_of(losses, epoch=max(1, len(losses) // 10)))
    network.eval()
    _scale_for_prediction(network, head, loss)
    return {"steps": total, **loss_facts(ends)}


def _use_head(network: ParserNetwork, head: Component) -> None:
    """Let relation scores have the form of a head; the scale of cosines is for prediction alone."""
    scorer = network.scorer
    if head.name not in {"linear", "cosine"} or set(head.params) - ({"scale"} if head.name == "cosine" else set()):
        raise SettingError(
            f"Expected the head 'linear' or 'cosine' for the relations of a parser, but got {head.to_data()!r}."
        )
    scorer.form = "linear" if head.name == "linear" else "cosine"
    scorer.scale = 1.0


def _run(
    network: ParserNetwork,
    source: WordSource,
    treebank: Treebank,
    stage: ParserStage,
    loss: Loss,
    optimisation: ParserOptimisation,
) -> Iterator[float]:
    """The loss of every step of a stage."""
    head_alone = stage.stage.trainable == "head"
    encoder = source.encoder()
    for module in (network, encoder):
        if module is not None:
            module.train(not head_alone)
            module.requires_grad_(not head_alone)
    network.scorer.relation_weight.requires_grad = True
    scale = stage.stage.learning_rate_scale
    optimiser = torch.optim.AdamW(_groups(network, encoder, optimisation, scale), betas=optimisation.betas, fused=True)
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    steps = len(stage.batches)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _share(step, steps, optimisation.warmup))
    loss.train()
    for sentences in stage.batches:
        layout = SentenceLayout.of(treebank.offsets, sentences)
        value = _step_loss(network, source.states(layout, sentences), layout, treebank, loss, arcs=not head_alone)
        optimiser.zero_grad()
        torch.autograd.backward(value)
        nn.utils.clip_grad_norm_(parameters, optimisation.max_grad_norm)
        optimiser.step()
        schedule.step()
        yield float(value.detach())
    for module in (network, encoder):
        if module is not None:
            module.requires_grad_(requires_grad=True)


def _step_loss(
    network: ParserNetwork, states: Tensor, layout: SentenceLayout, treebank: Treebank, loss: Loss, *, arcs: bool
) -> Tensor:
    heads = torch.from_numpy(treebank.heads[layout.rows])
    relations = torch.from_numpy(treebank.relations[layout.rows])
    words = network(states, layout.lengths)
    dependents, heads_of = network.scorer.relation_inputs(words, layout.sentence, layout.word, heads)
    logits = network.scorer.relation_logits(dependents, heads_of)
    seen = torch.cat([dependents[:, :-1], heads_of[:, :-1]], dim=1) if loss.requires_features else None
    value: Tensor = loss(logits, relations, features=seen)
    if arcs:
        value = value + nn.functional.cross_entropy(words.arcs[layout.sentence, layout.word], heads)
    return value


def _groups(
    network: ParserNetwork, encoder: nn.Module | None, optimisation: ParserOptimisation, scale: float
) -> list[dict[str, Any]]:
    """Parameters with their rates; vectors do not decay."""
    groups = []
    for module, rate in ((network, optimisation.learning_rate), (encoder, optimisation.encoder_learning_rate)):
        parameters = [] if module is None else [p for p in module.parameters() if p.requires_grad]
        for decays in (True, False):
            chosen = [p for p in parameters if (p.ndim > 1) is decays]
            if chosen:
                decay = optimisation.weight_decay if decays else 0.0
                groups.append({"params": chosen, "lr": rate * scale, "weight_decay": decay})
    return groups


def _share(step: int, steps: int, warmup: float) -> float:
    """Learning rate at a step over its peak."""
    rising = math.ceil(warmup * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    return 0.5 * (1.0 + math.cos(math.pi * (step - rising) / max(steps - rising, 1)))


@torch.no_grad()
def _scale_for_prediction(network: ParserNetwork, head: Component, loss: Loss | None) -> None:
    scorer = network.scorer
    if scorer.form == "cosine":
        scorer.scale = float(head.params.get("scale", _SCALE_OF_COSINES))
        if loss is not None and loss.requires_cosine:
            scorer.scale = loss.inference_scale
    elif loss is not None:
        scorer.relation_weight.mul_(loss.inference_scale)
    if loss is None or loss.scoreless_class is None:
        return
    if scorer.form == "cosine":
        raise SettingError(
            f"{type(loss).__name__} leaves a class without a score of its own, which needs the head 'linear'."
        )
    scorer.relation_weight[loss.scoreless_class] = 0.0
