"""Where a recipe can run: by label structure, by engine, and by what the data give.

    several labels per row      every part in its sigmoid or label-set form; see `tailwise.stages.label_structures`
    tags, fine-tuned            whole sentences are drawn and no row has a feature vector of its own, so no sampler
                                over classes, no head in closed form and no loss over features
    arcs                        no head in closed form, and no sampler that goes by the scores of the training
    fine-tuning                 no head over the states of all tokens, and none that reads words
    a head that reads words     tags alone, trained by the likelihood of whole sentences: no other loss or sampler
    frozen features             no loss that shapes the representation (a parser still trains layers of its own)

Losses that need a group per row run on no corpus; those that need a catch-all class run where there is one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tailwise.errors import SettingError, TailwiseError
from tailwise.sampling import SENTENCE_SAMPLERS
from tailwise.stages.label_structures import for_label_structure, heads_of
from tailwise.stages.probe_paths import takes_lexical
from tailwise.stages.recipe import Component

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tailwise.data.labels import LabelSpace
    from tailwise.data.task import LabelStructure
    from tailwise.stages.recipe import Recipe

__all__ = ["recipe_refusal"]

#: what to take instead of a loss whose needs the data or the engine do not meet
_NEAREST_LOSS = {
    "catch-all-wce": "wce", "mom": "wce", "group-dro": "class-dro", "group-ldam": "ldam", "influence-balanced": "wce",
    "influence-balanced-rescaled": "wce", "confusion-aware-f1": "csr-wce",
}  # fmt: skip


def recipe_refusal(
    recipe: Recipe, structure: LabelStructure, engine: str | None = None, space: LabelSpace | None = None
) -> str | None:
    """Why a recipe cannot run, naming the nearest method that can; None where nothing speaks against it.

    Args:
        recipe: what to do.
        structure: how the data are labelled.
        engine: ``"probe"`` or ``"finetune"``; None, or an engine of another name, leaves out what depends on it.
        space: the classes of the data; None leaves out what depends on them.
    """
    try:
        recipe = for_label_structure(recipe, structure)
    except SettingError as error:
        return str(error)
    by_sentence = structure == "tags" and engine == "finetune"
    return next(
        (
            reason
            for reason in (
                _features_refusal(recipe, structure, engine),
                _head_refusal(recipe, structure, engine),
                _sampler_refusal(recipe, structure, by_sentence=by_sentence),
                *(_loss_refusal(loss, structure, engine, space) for loss in _losses(recipe)),
            )
            if reason is not None
        ),
        None,
    )


def _features_refusal(recipe: Recipe, structure: LabelStructure, engine: str | None) -> str | None:
    from tailwise.models.feature_sources import check_features

    if recipe.features is None:
        return None
    name = recipe.features.name
    try:
        check_features(name, recipe.features.params)
    except TailwiseError as error:
        return str(error)
    if name == "encoder" or (engine != "finetune" and takes_lexical(recipe, structure)):
        return None
    if engine == "finetune":
        return (
            f"The features {name!r} are for the engine 'probe'; fine-tuning trains the encoder. Leave `features` out."
        )
    if structure == "arcs":
        return f"A parser sees the states of the encoder, not the features {name!r}. Leave `features` out."
    return (
        f"{recipe.name!r} cannot be fitted on the features {name!r}: sparse rows take a linear head and a loss that is "
        "a mean over rows. Take the features 'encoder', or the loss 'ce'."
    )


def _head_refusal(recipe: Recipe, structure: LabelStructure, engine: str | None) -> str | None:
    from tailwise.models.heads import HEADS

    heads = [head.name for head in heads_of(recipe) if head.name in HEADS]
    token_heads = [name for name in heads if HEADS[name].takes_token_states]
    if token_heads and engine == "finetune":
        return (
            f"The head {token_heads[0]!r} needs the states of all tokens, which fine-tuning does not hand to a head. "
            "Choose the engine 'probe'; the nearest one for fine-tuning is 'bce'."
        )
    if engine == "finetune" and any(HEADS[name].reads_words for name in heads):
        return (
            f"{recipe.name!r} reads words, shapes and affixes, without an encoder that could be fine-tuned. Choose the "
            "engine 'probe'; the nearest one for fine-tuning is 'ce'."
        )
    closed = [name for name in heads if HEADS[name].closed_form]
    if closed == ["linear-svm"] and engine == "finetune":
        return "The head 'linear-svm' is for the engine 'probe'. The nearest one for fine-tuning is 'ce'."
    if not closed or not (structure == "arcs" or (structure == "tags" and engine == "finetune")):
        return None
    where, near = ("a parser", "'crt'") if structure == "arcs" else ("fine-tuning on tags", "'tau-norm'")
    return (
        f"{recipe.name!r} fits the head {closed[0]!r} in closed form, for which {where} has no feature vectors. The "
        f"nearest one that runs there is {near}."
    )


def _sampler_refusal(recipe: Recipe, structure: LabelStructure, *, by_sentence: bool) -> str | None:
    for stage in recipe.stages:
        name = stage.sampler.name
        if by_sentence and name != "natural" and name not in SENTENCE_SAMPLERS:
            near = "sentence-rarity" if len(recipe.stages) == 1 else "drw"
            return (
                f"{recipe.name!r} draws rows by their class with the sampler {name!r}, but fine-tuning on tags draws "
                f"whole sentences. The nearest one for the engine 'finetune' is {near!r}; the engine 'probe', whose "
                "rows are tokens, runs it as it is."
            )
        if structure == "arcs" and _goes_by_scores(stage.sampler):
            return (
                f"The sampler {name!r} goes by the scores of the training, which a parser does not give it. The "
                "nearest one for trees is 'cas'."
            )
    return None


def _goes_by_scores(component: Component) -> bool:
    parts = component.params.get("samplers", ())
    named = [Component.from_data(part) for part in parts if isinstance(part, (str, dict))]
    return component.name == "performance" or any(_goes_by_scores(part) for part in named)


def _losses(recipe: Recipe) -> Iterator[Component]:
    """Every loss of the stages with gradient steps, those inside of sums too."""
    for stage in recipe.stages:
        if stage.share:
            yield from _with_parts(stage.loss)


def _with_parts(loss: Component) -> Iterator[Component]:
    yield loss
    for part in loss.params.get("losses", ()):
        yield from _with_parts(Component.from_data(part))


def _loss_refusal(
    loss: Component, structure: LabelStructure, engine: str | None, space: LabelSpace | None
) -> str | None:
    from tailwise.losses import LOSSES
    from tailwise.losses.confusion_aware import unset_costs

    if loss.name not in LOSSES or loss.name == "weighted-sum":  # whoever builds it says that there is no such loss
        return None
    kind, near = LOSSES[loss.name], _NEAREST_LOSS.get(loss.name, "ce")
    if kind.requires_group:
        return (
            f"The loss {loss.name!r} needs a group per row, which a corpus does not have. Use it with "
            f"`ImbalanceTrainer` and a column `group`; the nearest one for a corpus is {near!r}."
        )
    if kind.shapes_representation and engine == "probe" and structure != "arcs":
        return (
            f"The loss {loss.name!r} shapes the representation, which a probe keeps frozen. Choose the engine "
            f"'finetune'; the nearest one for a probe is {near!r}."
        )
    if kind.requires_features and structure == "tags" and engine == "finetune":
        return (
            f"The loss {loss.name!r} needs one feature vector per row, which fine-tuning on tags does not give. The "
            f"nearest one for it is {near!r}."
        )
    if space is not None and space.catch_all is None and _needs_catch_all(loss, LOSSES.parameters(loss.name)):
        return (
            f"The loss {loss.name!r} needs `catch_all`, the name of a class that holds everything of no interest, and "
            f"these data have none. Name it with `catch_all` when loading; the nearest one without is {near!r}."
        )
    return unset_costs(loss.name, loss.params)


def _needs_catch_all(loss: Component, known: Any) -> bool:
    return (
        "catch_all" in known
        and known["catch_all"].default is known["catch_all"].empty
        and (loss.params.get("catch_all") is None)
    )
