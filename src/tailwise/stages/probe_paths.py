"""How a probe fits the head of a recipe, told from the recipe alone.

    exact         one linear head under a loss that is convex in the scores, rows drawn at constant rates
    steps         AdamW: several stages, losses that are not convex or mix rows, samplers that go by the training
    closed form   class means, support vector machines
    tokens        label-wise attention over the states of all tokens, by AdamW
    words         conditional random fields over words, by CRFsuite
    parser        dependency parsers, by AdamW

Recipes are meant in the form they take on the data; see `tailwise.stages.label_structures`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tailwise.losses import LOSSES
from tailwise.models.heads import HEADS
from tailwise.stages.recipe import Component

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tailwise.losses.base import Loss
    from tailwise.stages.recipe import Recipe, Stage

__all__ = ["ProbePath", "last_head", "probe_path", "takes_lexical", "takes_token_states"]

ProbePath = Literal["exact", "steps", "closed form", "tokens", "words", "parser"]

#: samplers whose draws change in the course of a training
_CHANGING = frozenset({"performance", "progressive"})


def probe_path(
    recipe: Recipe, structure: str = "single", is_convex: Callable[[Stage], bool] | None = None
) -> ProbePath:
    """How the head of a recipe is fitted on data of a label structure.

    Args:
        recipe: in the form it takes on such data.
        structure: label structure.
        is_convex: whether the loss of a stage is convex in the scores; None goes by the kind of the loss, which leaves
            out what its parameters change.
    """
    if structure == "arcs":
        return "parser"
    if takes_token_states(recipe):
        return "tokens"
    head, stages = last_head(recipe)
    if HEADS[head.name].reads_words:
        return "words"
    if HEADS[head.name].closed_form:
        return "closed form"
    chosen = recipe.optimisation
    asked = (chosen.learning_rate, chosen.head_learning_rate, chosen.weight_decay, chosen.epochs, chosen.batch_size)
    simple = head.name == "linear" and len(stages) == 1 and all(value is None for value in asked)
    constant = all(name not in _CHANGING for stage in stages for name in _sampler_names(stage.sampler))
    if not (simple and constant and _losses(stages, "by_row")):
        return "steps"
    convex = _losses(stages, "convex") if is_convex is None else all(map(is_convex, stages))
    return "exact" if convex else "steps"


def takes_lexical(recipe: Recipe, structure: str = "single") -> bool:
    """Whether the head of a recipe can be fitted on lexical features, which are sparse."""
    if structure == "arcs" or takes_token_states(recipe):
        return False
    return last_head(recipe)[0].name == "linear-svm" or probe_path(recipe, structure) == "exact"


def takes_token_states(recipe: Recipe) -> bool:
    """Whether the head of a recipe reads the states of all tokens."""
    head, _ = last_head(recipe)
    return bool(HEADS[head.name].takes_token_states)


def last_head(recipe: Recipe) -> tuple[Component, tuple[Stage, ...]]:
    """The head that is left in the end, and the stages that train it."""
    first = max((i for i, stage in enumerate(recipe.stages) if stage.head is not None), default=0)
    return recipe.stages[first].head or recipe.head, recipe.stages[first:]


def _losses(stages: tuple[Stage, ...], quality: Literal["convex", "by_row"]) -> bool:
    """Whether all losses of the stages have a quality."""
    return all(_has(loss, quality) for stage in stages for loss in _parts(stage.loss))


def _has(loss: Component, quality: Literal["convex", "by_row"]) -> bool:
    if loss.name not in LOSSES:
        return True  # whoever builds it says that there is no such loss
    kind: type[Loss] = LOSSES[loss.name]
    special = kind.requires_features or kind.requires_cosine or kind.stateful or kind.shapes_representation
    if special or not (kind.separable and kind.by_row):
        return False
    return quality == "by_row" or bool(kind.convex)


def _parts(loss: Component) -> Iterator[Component]:
    parts = loss.params.get("losses")
    if not parts:
        yield loss
        return
    for part in parts:
        yield from _parts(Component.from_data(part))


def _sampler_names(sampler: Component) -> Iterator[str]:
    yield sampler.name
    for part in sampler.params.get("samplers", ()):
        yield from _sampler_names(Component.from_data(part))
