"""Recipes on data with several labels per row: each part in the form that fits, or a refusal that names one that does.

A recipe says ``focal`` or ``cas``; what that means depends on the data. Where a row may have several labels, softmax
losses become their sigmoid counterparts, samplers draw by label sets, and post-hoc steps act on every label alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tailwise.errors import SettingError
from tailwise.losses import LOSSES, SINGLE_LABEL_COUNTERPARTS
from tailwise.models.heads import HEADS, RowHead
from tailwise.posthoc import POSTHOC
from tailwise.sampling import MULTILABEL_SAMPLERS, SAMPLERS, SENTENCE_SAMPLERS
from tailwise.stages.recipe import Component, Recipe, Stage

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from tailwise.registry import Registry

__all__ = ["MULTILABEL_COUNTERPARTS", "for_label_structure", "for_multilabel", "for_single_label", "heads_of"]

#: single-label part to multi-label part of the same meaning, by kind
MULTILABEL_COUNTERPARTS: Mapping[str, Mapping[str, str]] = {
    "loss": {
        "ce": "bce", "wce": "pos-bce", "focal": "ml-focal", "focal-sigmoid": "ml-focal", "ldam": "ml-ldam",
        "asl-single": "asl", "ranking": "bp-mll", "dice": "ml-dice", "batch-dice": "ml-batch-dice",
    },
    "sampler": {"natural": "natural", "cas": "ml-cas", "ros": "ml-ros"},
    "posthoc": {
        "thresholds": "label-thresholds", "temperature": "label-temperature", "tau-norm": "label-tau-norm",
        "logit-adjustment": "label-logit-adjustment",
    },
}  # fmt: skip

#: what to try instead of a part that has no multi-label form
_NEAREST = {
    "tversky": "ml-batch-dice", "adl": "ml-dice", "balanced-softmax": "db",
    "logit-adjusted": "db", "vs": "db", "class-dro": "batch-balanced-focal", "power": "rfs", "rus": "ml-rus",
    "policy": "lp-ros", "frequent": "lp-rus", "mixed": "ml-cas", "progressive": "ml-cas", "performance": "ml-cas",
    "sentence-rarity": "rfs", "sentence-rfs": "rfs", "catch-all-sentences": "ml-rus",
}  # fmt: skip

#: weighted cross-entropy without weights
_UNWEIGHTED = Component("wce", {"class_weights": None})

_REGISTRIES: Mapping[str, tuple[Registry[Any], ...]] = {
    "head": (HEADS,), "loss": (LOSSES,), "posthoc": (POSTHOC,),
    "sampler": (SAMPLERS, MULTILABEL_SAMPLERS, SENTENCE_SAMPLERS),
}  # fmt: skip


def for_label_structure(recipe: Recipe, structure: str) -> Recipe:
    """The recipe for data labelled in this way, see `for_multilabel` and `for_single_label`.

    Raises:
        SettingError: a part that does not fit, naming the nearest one that does; a parameter that a part does not have,
            or of the wrong type.
    """
    _check_parameters(recipe)
    _check_words(recipe, structure)
    if structure == "multi":
        return for_multilabel(recipe)
    return for_single_label(recipe) if structure == "tags" else for_single_label(_without_sentences(recipe))


def _check_parameters(recipe: Recipe) -> None:
    parts = [("head", head) for head in heads_of(recipe)] + [("posthoc", step) for step in recipe.posthoc]
    for stage in recipe.stages:
        parts += [("sampler", stage.sampler), ("loss", stage.loss)]
    for kind, component in parts:
        for registry in _REGISTRIES[kind]:
            if component.name in registry:  # whoever builds it says that there is no such part
                registry.check_parameters(component.name, component.params)


def _check_words(recipe: Recipe, structure: str) -> None:
    """Refuse a head that reads words where no token has a tag, and what its likelihood of whole sentences excludes."""
    head = next((head.name for head in heads_of(recipe) if head.name in HEADS and HEADS[head.name].reads_words), None)
    if head is None:
        return
    if structure != "tags":
        raise SettingError(
            f"The head {head!r} gives every token of a sentence a tag, but these data have no tags. The nearest one "
            f"for them is {'bce' if structure == 'multi' else 'ce'!r}."
        )
    stage = recipe.stages[0]
    for kind, name, only in (("loss", stage.loss.name, "ce"), ("sampler", stage.sampler.name, "natural")):
        if name != only:
            raise SettingError(
                f"The head {head!r} is trained by the likelihood of all sentences, which leaves no room for the {kind} "
                f"{name!r}. Drop one of the two; post-hoc steps go with either, as in 'crf+thresholds'. The nearest "
                "one is 'crf'."
            )
    if len(recipe.stages) > 1:
        raise SettingError(
            f"The head {head!r} is trained at once, but {recipe.name!r} has {len(recipe.stages)} stages. Drop the "
            "schedule. The nearest one is 'crf'."
        )


def _without_sentences(recipe: Recipe) -> Recipe:
    """The recipe as it is, if no sampler draws sentences by their tags."""
    for stage in recipe.stages:
        if stage.sampler.name in SENTENCE_SAMPLERS:
            near = {"sentence-rarity": "cas", "sentence-rfs": "square-root-sampling"}.get(stage.sampler.name, "rus")
            raise SettingError(
                f"The sampler {stage.sampler.name!r} draws sentences by the tags of their tokens, but these data have "
                f"no tags. The nearest one for them is {near!r}."
            )
    return recipe


def for_multilabel(recipe: Recipe) -> Recipe:
    """The recipe for rows with several labels.

    Raises:
        SettingError: a part without a multi-label form, naming the nearest one that has one.
    """
    stages = tuple(_multilabel_stage(stage) for stage in recipe.stages)
    head = Component("linear") if recipe.head.name == "cosine" and not _needs_cosine(stages[0]) else recipe.head
    for name in (head.name, *(stage.head.name for stage in stages if stage.head is not None)):
        if name in HEADS and HEADS[name].closed_form and not issubclass(HEADS[name], RowHead):
            raise SettingError(f"The head {name!r} decides for one class, but rows may have several. Take 'linear'.")
    posthoc = tuple(_multilabel(component, "posthoc") for component in recipe.posthoc)
    return replace(recipe, stages=stages, head=head, posthoc=posthoc)


def for_single_label(recipe: Recipe) -> Recipe:
    """The recipe as it is, if all its parts are for one label per row.

    Raises:
        SettingError: a part for several labels per row, naming the nearest one that fits.
    """
    for head in heads_of(recipe):
        if head.name in HEADS and HEADS[head.name].takes_token_states:
            raise SettingError(
                f"The head {head.name!r} is for several labels per row, each of which reads the tokens of a text in "
                "its own way, but the data are labelled otherwise. The nearest one for these data is 'linear'."
            )
    for stage in recipe.stages:
        for kind, component in (("loss", stage.loss), ("sampler", stage.sampler)):
            if _has_multilabel_form(kind, component.name):
                known = {ours: other for other, ours in MULTILABEL_COUNTERPARTS[kind].items()}
                near = SINGLE_LABEL_COUNTERPARTS.get(component.name) if kind == "loss" else known.get(component.name)
                raise SettingError(
                    f"The {kind} {component.name!r} is for several labels per row, but the data have one label per "
                    f"row. The nearest one for these data is {near or ('ce' if kind == 'loss' else 'natural')!r}."
                )
    return recipe


def heads_of(recipe: Recipe) -> tuple[Component, ...]:
    """The head that a recipe starts with, and those that its stages bring."""
    return (recipe.head, *(stage.head for stage in recipe.stages if stage.head is not None))


def _multilabel_stage(stage: Stage) -> Stage:
    head = stage.head
    if head is not None and head.name == "cosine":
        head = Component("linear")
    return replace(
        stage, sampler=_multilabel(stage.sampler, "sampler"), loss=_multilabel(stage.loss, "loss"), head=head
    )


def _multilabel(component: Component, kind: str) -> Component:
    if _has_multilabel_form(kind, component.name):
        return component
    if kind == "loss" and component.name == "weighted-sum":
        parts = [Component.from_data(p, "weighted-sum, losses") for p in component.params.get("losses", ())]
        return component.with_params(losses=[_multilabel(part, "loss").to_data() for part in parts])
    if component == _UNWEIGHTED:
        return Component("bce")
    found = MULTILABEL_COUNTERPARTS[kind].get(component.name)
    if not _is_registered(kind, component.name):
        return component  # whoever builds it says that there is no such part
    if found is None:
        near = _NEAREST.get(component.name, {"loss": "bce", "sampler": "natural"}.get(kind, "label-thresholds"))
        raise SettingError(
            f"The {kind} {component.name!r} is for one label per row, but these data have several. The nearest one "
            f"for them is {near!r}."
        )
    if found == component.name:
        return component
    return Component(found, _kept_params(component, found, kind))


def _kept_params(component: Component, name: str, kind: str) -> dict[str, object]:
    """The parameters that the counterpart takes too; those it lacks are a setting that cannot be honoured."""
    known = _parameters(kind, name)
    lost = sorted(set(component.params) - set(known))
    if lost and kind != "loss":
        raise SettingError(
            f"On data with several labels per row the {kind} {component.name!r} becomes {name!r}, which has no "
            f"parameter {lost[0]!r}. Drop it, or name {name!r} yourself."
        )
    return {key: value for key, value in component.params.items() if key in known}


def _is_registered(kind: str, name: str) -> bool:
    return any(name in registry for registry in _REGISTRIES[kind])


def _parameters(kind: str, name: str) -> Collection[str]:
    if kind == "sampler":
        return (SAMPLERS if name == "natural" else MULTILABEL_SAMPLERS).parameters(name)
    return (LOSSES if kind == "loss" else POSTHOC).parameters(name)


def _has_multilabel_form(kind: str, name: str) -> bool:
    if kind == "loss":
        return name in LOSSES and bool(LOSSES[name].multilabel)
    if kind == "sampler":
        return name in MULTILABEL_SAMPLERS
    return name.startswith("label-")


def _needs_cosine(stage: Stage) -> bool:
    return stage.loss.name in LOSSES and bool(LOSSES[stage.loss.name].requires_cosine)
