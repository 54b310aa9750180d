"""What a recipe comes to when the encoder is frozen: one head, the stages that train it, and their steps.

On frozen features a stage moves nothing but its head. A stage whose head the next stage replaces therefore has no
effect on the result; it is skipped, and its steps go to the stage that follows. Classifier re-training (``crt``) so
becomes a head trained on class-balanced batches from the start. Every such change is written down in `ProbePlan.notes`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tailwise.errors import SettingError
from tailwise.models.heads import HEADS

if TYPE_CHECKING:
    from tailwise.stages.recipe import Component, Optimisation, Recipe, Stage

__all__ = ["ProbePlan", "StagePlan", "plan_probe", "training_key"]


@dataclass(frozen=True)
class StagePlan:
    """Gradient steps of one kind."""

    sampler: Component
    loss: Component
    steps: int
    learning_rate_scale: float


@dataclass(frozen=True)
class ProbePlan:
    """How to fit one head.

    Attributes:
        head: the head.
        stages: stages of gradient steps in order; none for a head fitted in closed form.
        batch_size: rows per step.
        learning_rate: before the scale of a stage.
        weight_decay: decoupled, on weights and not on biases.
        seed: of the job.
        C: inverse strength of L2, for a head that is fitted on all rows at once; see `tailwise.training.exact_heads`.
        asks_for_steps: the recipe sets learning rate, weight decay, epochs or batch size, so it wants gradient steps.
        notes: where this differs from the recipe, in words.
    """

    head: Component
    stages: tuple[StagePlan, ...]
    batch_size: int
    learning_rate: float
    weight_decay: float
    seed: int
    C: float = 1.0
    asks_for_steps: bool = False
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[Component, int, tuple[int, ...]]:
        """Heads of equal shape can be trained in one batched pass."""
        return self.head, self.batch_size, tuple(stage.steps for stage in self.stages)


def plan_probe(
    recipe: Recipe,
    seed: int,
    *,
    num_rows: int,
    epochs: float,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    C: float = 1.0,  # noqa: N803
) -> ProbePlan:
    """The plan of a recipe on `num_rows` training rows; `Recipe.optimisation` goes before the settings given here.

    Raises:
        SettingError: a negative seed, or gradient steps for a head that is fitted in closed form.
        UnknownNameError: no such head.
    """
    if seed < 0:
        raise SettingError(f"Expected `seed` to be a non-negative integer, but got {seed}.")
    chosen = recipe.optimisation
    rates = (chosen.head_learning_rate, chosen.learning_rate, learning_rate)
    batch_size = batch_size if chosen.batch_size is None else chosen.batch_size
    epochs = epochs if chosen.epochs is None else chosen.epochs
    first = max((i for i, stage in enumerate(recipe.stages) if stage.head is not None), default=0)
    kept = recipe.stages[first:]
    head = kept[0].head or recipe.head
    plan = ProbePlan(
        head=head,
        stages=(),
        batch_size=batch_size,
        learning_rate=next(rate for rate in rates if rate is not None),
        weight_decay=weight_decay if chosen.weight_decay is None else chosen.weight_decay,
        seed=seed,
        C=C if chosen.C is None else chosen.C,
        asks_for_steps=_asks_for_steps(chosen),
        notes=_skipping_notes(recipe, first),
    )
    if HEADS[head.name].closed_form:
        return _closed_form(plan, kept, recipe.name)
    shares = [stage.share for stage in kept]
    shares[0] += sum(stage.share for stage in recipe.stages[:first])
    steps = _divide(math.ceil(epochs * num_rows / batch_size), shares)
    stages = (StagePlan(s.sampler, s.loss, n, s.learning_rate_scale) for s, n in zip(kept, steps, strict=True))
    return replace(plan, stages=tuple(stage for stage in stages if stage.steps))


def training_key(plan: ProbePlan) -> tuple[object, ...]:
    """Equal for plans whose heads come out equal to the bit."""
    if not plan.stages and HEADS[plan.head.name].closed_form:
        return (plan.head,)
    return plan.head, plan.stages, plan.batch_size, plan.learning_rate, plan.weight_decay, plan.seed


def _asks_for_steps(chosen: Optimisation) -> bool:
    settings = (chosen.learning_rate, chosen.head_learning_rate, chosen.weight_decay, chosen.epochs, chosen.batch_size)
    return any(value is not None for value in settings)


def _skipping_notes(recipe: Recipe, first: int) -> tuple[str, ...]:
    if first == 0:
        return ()
    stage = recipe.stages[first]
    head = stage.head or recipe.head
    if HEADS[head.name].closed_form:
        remains = "fitted in closed form"
    else:
        remains = f"trained with the sampler {stage.sampler.name!r} from the start"
    note = (
        f"The encoder is frozen, so what comes before stage {first + 1} of {len(recipe.stages)}, which replaces the "
        f"head, changes nothing and was skipped: the head {head.name!r} was {remains}."
    )
    return (note,)


def _closed_form(plan: ProbePlan, kept: tuple[Stage, ...], name: str) -> ProbePlan:
    if any(stage.share for stage in kept[1:]):
        raise SettingError(
            f"The recipe {name!r} goes on training the head {plan.head.name!r}, which is fitted in closed form. Give "
            f"the later stages a head of their own."
        )
    if not kept[0].share:
        return plan
    return replace(
        plan, notes=(*plan.notes, f"The head {plan.head.name!r} is fitted in closed form; no step was taken.")
    )


def _divide(total: int, shares: list[float]) -> list[int]:
    """Whole numbers that sum to `total`, in proportion to `shares`."""
    ends = np.rint(np.cumsum(shares) / sum(shares) * total).astype(int)
    return [int(n) for n in np.diff(ends, prepend=0)]
