"""Which sentences a stage of a parser draws, in which batches, and what it means for the loss over relations.

The natural sampler draws sentences. Any other one draws words by their relation; each draw trains on the whole sentence
of its word, since a parser needs it whole, so common relations come along with rare ones. What was drawn is therefore
counted from the plan itself, and class weights, priors and post-hoc steps go by these counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tailwise.errors import SettingError
from tailwise.losses import LOSSES, class_weights
from tailwise.models.encoder import token_budget_batches
from tailwise.models.parsing.scoring import SentenceLayout
from tailwise.sampling import NaturalSampler, PerformanceSampler
from tailwise.stages.recipe import Component
from tailwise.training.components import build_loss, build_sampler

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from tailwise.data.corpus import Corpus, SplitName
    from tailwise.data.labels import LabelSpace
    from tailwise.losses import Loss
    from tailwise.sampling import PlannedSampler
    from tailwise.stages.recipe import Recipe, Stage

__all__ = ["ParserStage", "Treebank", "parser_stages", "relation_loss"]


@dataclass(frozen=True, eq=False)
class Treebank:
    """Gold trees of a split.

    Attributes:
        heads: of every word, 1-based within its sentence, 0 for the root, ``(M,)``.
        relations: class index of every word, ``(M,)``.
        offsets: where sentences start, ``(N + 1,)``.
    """

    heads: NDArray[np.int64]
    relations: NDArray[np.int64]
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, corpus: Corpus, split: SplitName) -> Treebank:
        """The trees of a split."""
        return cls(corpus.heads(split), corpus.labels(split), corpus.offsets(split))

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Words per sentence, ``(N,)``."""
        return np.diff(self.offsets)


@dataclass(frozen=True, eq=False)
class ParserStage:
    """One stage of training, laid out.

    Attributes:
        stage: what the recipe says.
        index: its position in the recipe.
        batches: sentences of every step.
        drawn: words per relation in all batches, ``(R,)``.
    """

    stage: Stage
    index: int
    batches: Sequence[NDArray[np.int64]]
    drawn: NDArray[np.int64]


def parser_stages(
    recipe: Recipe, treebank: Treebank, *, num_relations: int, epochs: float, token_budget: int, seed: int
) -> list[ParserStage]:
    """The stages of a recipe, laid out.

    Args:
        recipe: what to do.
        treebank: the training trees.
        num_relations: R.
        epochs: N times this many sentences are drawn, divided among the stages by their shares.
        token_budget: words of a batch, padding included.
        seed: of the plans.

    Raises:
        SettingError: a sampler that goes by the scores of the training, or a stage that takes no step.
    """
    stages = []
    for index, stage in enumerate(recipe.stages):
        if stage.share == 0.0:
            raise SettingError(
                f"Stage {index + 1} of {recipe.name!r} takes no step: its head is fitted in closed form, which the "
                "relation scores of a parser cannot be. Take a recipe with gradient steps."
            )
        draws = round(stage.share * epochs * len(treebank.lengths))
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index, 1])))
        plan_seed = int(np.random.SeedSequence([seed, index]).generate_state(1)[0])
        drawn, batches = np.zeros(num_relations, dtype=np.int64), []
        for plan in _plans(stage.sampler, treebank, max(draws, 1), plan_seed, num_relations):
            rows = SentenceLayout.of(treebank.offsets, plan).rows
            drawn += np.bincount(treebank.relations[rows], minlength=num_relations)
            batches += _batches(plan, treebank.lengths, token_budget, generator)
        stages.append(ParserStage(stage, index, batches, drawn))
    return stages


def _plans(
    component: Component, treebank: Treebank, draws: int, seed: int, num_relations: int
) -> Iterator[NDArray[np.int64]]:
    """Sentences of every epoch until so many are drawn; the last epoch is cut."""
    sentences = len(treebank.lengths)
    natural = component.name == "natural" and not component.params
    sampler: PlannedSampler
    if natural:
        sampler = NaturalSampler(np.zeros(sentences, dtype=np.int64), seed=seed)
    else:
        sampler = build_sampler(
            component,
            treebank.relations,
            seed=seed,
            num_classes=num_relations,
            num_samples=sentences,
            draws=draws,
        )
        if any(isinstance(part, PerformanceSampler) for part in (sampler, *getattr(sampler, "samplers", ()))):
            raise SettingError(
                f"The sampler {component.name!r} goes by the scores of the training, which a parser does not give it. "
                "Take a sampler that goes by class sizes."
            )
    epoch = 0
    while draws > 0:
        plan = sampler.plan(epoch)[:draws]
        yield plan if natural else np.searchsorted(treebank.offsets, plan, side="right") - 1
        draws -= len(plan)
        epoch += 1


def _batches(
    plan: NDArray[np.int64], lengths: NDArray[np.int64], budget: int, generator: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Batches of sentences of similar length, in random order; sentences without a word are left out."""
    plan = plan[lengths[plan] > 0]
    batches = [plan[chosen] for chosen in token_budget_batches(lengths[plan], budget)]
    return [batches[i] for i in generator.permutation(len(batches))]


def relation_loss(stage: ParserStage, space: LabelSpace) -> Loss:
    """The loss of a stage over relation rows; what corrects the prior goes by what the stage draws.

    Raises:
        SettingError: a loss that gives no number, or needs a group per row.
    """
    component = stage.stage.loss
    if stage.stage.sampler != Component("natural"):
        component = _with_drawn(component, stage.drawn, space)
    loss = build_loss(component, class_counts=space.counts, class_names=space.names, catch_all=space.catch_all)
    if loss.reduction == "none":
        raise SettingError(f"The loss {component.name!r} has `reduction` = 'none'; training needs a number.")
    if loss.requires_group:
        raise SettingError(f"The loss {component.name!r} needs a group per row, which a treebank does not have.")
    return loss


def _with_drawn(component: Component, drawn: NDArray[np.int64], space: LabelSpace) -> Component:
    """The component with the numbers that correct the class prior taken from what is drawn."""
    params = LOSSES.check_parameters(component.name, component.params)
    known = LOSSES.parameters(component.name)
    filled: dict[str, Any] = {}
    if "losses" in params:
        filled["losses"] = [_with_drawn(Component.from_data(part), drawn, space) for part in params["losses"]]
    counts = np.maximum(drawn, 1)  # a class that was never drawn
    if "prior" in known and params.get("prior") is None and "class_counts" not in params:
        filled["class_counts"] = counts
    rule = params.get("class_weights", known["class_weights"].default) if "class_weights" in known else None
    if isinstance(rule, str):
        options = {key: params.get(key, known[key].default) for key in ("beta", "power") if key in known}
        filled["class_weights"] = class_weights(rule, counts, class_names=space.names, **options)
    return component.with_params(**filled)
