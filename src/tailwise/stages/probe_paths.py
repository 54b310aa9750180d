"""How a probe fits the head of a recipe, told from the recipe alone.

    exact         one linear head under a loss that is convex in the scores, rows drawn at constant rates
    descent       the same under a loss that is a sum over rows, but not convex: a local minimum by L-BFGS, from the
                  solution for cross-entropy
    steps         AdamW: several stages, cosine heads, losses that mix rows or have a state, samplers that go by the
                  training, recipes that set a learning rate, a weight decay, epochs or a batch size
    closed form   class means, support vector machines
    tokens        label-wise attention over the states of all tokens, by AdamW
    words         conditional random fields over words, by CRFsuite
    parser        dependency parsers, by AdamW

Recipes are meant in the form they take on the data; see `tailwise.stages.label_structures`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tailwise.losses import LOSSES, WeightedSumLoss
from tailwise.models.heads import HEADS
from tailwise.stages.recipe import Component

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tailwise.losses.base import Loss
    from tailwise.stages.recipe import Recipe, Stage

__all__ = ["PATHS_IN_WORDS", "ProbePath", "last_head", "loss_path", "probe_path", "takes_lexical", "takes_token_states"]

LossPath = Literal["exact", "descent", "steps"]
ProbePath = Literal[LossPath, "closed form", "tokens", "words", "parser"]

#: what is said of a path
PATHS_IN_WORDS: dict[ProbePath, str] = {
    "exact": "exactly (convex loss; C is tuned)",
    "descent": "at the local minimum downhill from cross-entropy (L-BFGS over all rows; C is tuned)",
    "steps": "by steps of AdamW (rate and weight decay are tuned)",
    "closed form": "in closed form",
    "tokens": "by steps of AdamW over the states of all tokens (the rate is tuned)",
    "words": "by CRFsuite over words",
    "parser": "by steps of AdamW (the rate is tuned)",
}
#: samplers whose draws change in the course of a training
_CHANGING = frozenset({"performance", "progressive"})


def probe_path(recipe: Recipe, structure: str = "single", loss_of: Callable[[Stage], Loss] | None = None) -> ProbePath:
    """How the head of a recipe is fitted on data of a label structure.

    Args:
        recipe: in the form it takes on such data.
        structure: label structure.
        loss_of: the loss of a stage; None goes by the kind of the loss, which leaves out what its parameters change.
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
    if not (simple and constant):
        return "steps"
    return _component_path(stages[0].loss) if loss_of is None else loss_path(loss_of(stages[0]))


def loss_path(loss: Loss | type[Loss]) -> LossPath:
    """How a linear head is fitted to a loss, where nothing else asks for steps."""
    if isinstance(loss, WeightedSumLoss):
        return _path_of_sum({loss_path(part) for part in loss.parts})
    needs_more = loss.requires_features or loss.requires_group or loss.requires_cosine or loss.shapes_representation
    moves = loss.stateful and not loss.set_by_caller
    if needs_more or moves or not loss.separable:
        return "steps"
    return "exact" if loss.convex else "descent"


def takes_lexical(recipe: Recipe, structure: str = "single", loss_of: Callable[[Stage], Loss] | None = None) -> bool:
    """Whether the head of a recipe can be fitted on lexical features, which are sparse; arguments as `probe_path`."""
    if structure == "arcs" or takes_token_states(recipe):
        return False
    return last_head(recipe)[0].name == "linear-svm" or probe_path(recipe, structure, loss_of) in {"exact", "descent"}


def takes_token_states(recipe: Recipe) -> bool:
    """Whether the head of a recipe reads the states of all tokens."""
    head, _ = last_head(recipe)
    return bool(HEADS[head.name].takes_token_states)


def last_head(recipe: Recipe) -> tuple[Component, tuple[Stage, ...]]:
    """The head that is left in the end, and the stages that train it."""
    first = max((i for i, stage in enumerate(recipe.stages) if stage.head is not None), default=0)
    return recipe.stages[first].head or recipe.head, recipe.stages[first:]


def _component_path(loss: Component) -> LossPath:
    """That of the kind of a loss, its parameters left out."""
    if loss.params.get("losses"):
        return _path_of_sum({_component_path(Component.from_data(part)) for part in loss.params["losses"]})
    if loss.name not in LOSSES:
        return "exact"  # whoever builds it says that there is no such loss
    return loss_path(LOSSES[loss.name])


def _path_of_sum(paths: set[LossPath]) -> LossPath:
    """A sum goes the way of its parts, but is not fitted exactly."""
    return "steps" if "steps" in paths else "descent"


def _sampler_names(sampler: Component) -> Iterator[str]:
    yield sampler.name
    for part in sampler.params.get("samplers", ()):
        yield from _sampler_names(Component.from_data(part))
