"""Recipes: plain data that say what to do.

A recipe is a list of stages; a stage says which examples are drawn, which loss is minimised and which parameters move.
Post-hoc steps then adjust the scores. Recipes hold no state, compare by value and survive YAML and JSON unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

from tailwise.errors import SettingError
from tailwise.plain_yaml import read_yaml, write_yaml
from tailwise.registry import did_you_mean

__all__ = ["Component", "HeadInit", "Optimisation", "Recipe", "Stage", "Trainable"]

Trainable = Literal["all", "head"]
HeadInit = Literal["probe", "fresh"]


def _check_number(name: str, value: Any, *, low: float = 0.0, high: float = math.inf) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        limits = f"from {low:g}" + ("" if high == math.inf else f" to {high:g}")
        raise SettingError(f"Expected `{name}` to be a number {limits}, but got {value!r}.")


@dataclass(frozen=True)
class Component:
    """A registered loss, sampler, head or post-hoc step by name, with its parameters.

    Raises:
        SettingError: a parameter whose name is no text.
    """

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in self.params:
            if not isinstance(key, str):
                raise SettingError(f"{self.name!r}: expected parameters to have names, but got {key!r}.")
        object.__setattr__(self, "params", dict(sorted(self.params.items())))

    def __hash__(self) -> int:
        return hash((self.name, repr(self.params)))

    def with_params(self, **params: Any) -> Component:
        """The same component with some parameters replaced."""
        return Component(self.name, {**self.params, **params})

    def to_data(self) -> str | dict[str, Any]:
        """The name alone, or a mapping with ``name`` and the parameters."""
        return {"name": self.name, **self.params} if self.params else self.name

    @classmethod
    def from_data(cls, data: str | Mapping[str, Any] | Component, where: str = "component") -> Component:
        """Read a component from plain data.

        Raises:
            SettingError: neither a name nor a mapping with ``name``.
        """
        if isinstance(data, Component):
            return data
        if isinstance(data, str):
            return cls(data)
        if isinstance(data, Mapping) and isinstance(data.get("name"), str):
            return cls(data["name"], {k: v for k, v in data.items() if k != "name"})
        raise SettingError(f"{where}: expected a name or a mapping with `name`, but got {data!r}.")


@dataclass(frozen=True)
class Stage:
    """One stage of training.

    Attributes:
        sampler: which examples are drawn.
        loss: what is minimised.
        trainable: ``"all"`` parameters move, or the ``"head"`` alone (the encoder frozen, its dropout off).
        share: share of the optimiser steps of the whole recipe; the shares of all stages sum to 1. A stage of share 0
            takes no step: its head is fitted in closed form.
        head: a new head, fresh at the start of this stage; None goes on with the one there is.
        learning_rate_scale: multiplies the learning rate of the recipe.
    """

    sampler: Component = Component("natural")
    loss: Component = Component("ce")
    trainable: Trainable = "all"
    share: float = 1.0
    head: Component | None = None
    learning_rate_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.trainable not in get_args(Trainable):
            raise SettingError(f"Expected `trainable` to be 'all' or 'head', but got {self.trainable!r}.")
        _check_number("share", self.share, low=0.0, high=1.0)
        _check_number("learning_rate_scale", self.learning_rate_scale)


@dataclass(frozen=True)
class Optimisation:
    """Settings of the optimiser; None leaves the choice to the engine.

    Attributes:
        learning_rate: peak learning rate of AdamW.
        head_learning_rate: that of the final layer; a probe, which trains nothing else, prefers it to `learning_rate`.
        weight_decay: decoupled, of AdamW.
        epochs: passes over the training rows.
        batch_size: rows per step.
        C: inverse strength of L2 where a head is fitted on all rows at once, as in scikit-learn: the sum of the losses
            of all rows times C, plus half the squared norm of the weights, is minimised.
        head_init: where the final layer of a fine-tuning starts: at the solution of a ``"probe"`` on the untrained
            encoder, or ``"fresh"``; it has no meaning where the encoder is frozen.
    """

    learning_rate: float | None = None
    head_learning_rate: float | None = None
    weight_decay: float | None = None
    epochs: float | None = None
    batch_size: int | None = None
    C: float | None = None
    head_init: HeadInit | None = None

    def __post_init__(self) -> None:
        if self.head_init not in (None, *get_args(HeadInit)):
            raise SettingError(f"Expected `head_init` to be 'probe' or 'fresh', but got {self.head_init!r}.")
        for name in ("learning_rate", "head_learning_rate", "weight_decay", "epochs", "batch_size", "C"):
            if getattr(self, name) is not None:
                _check_number(name, getattr(self, name))
        if self.C == 0:
            raise SettingError("Expected `C`, the inverse strength of L2, to be larger than 0, but got 0.")
        if self.batch_size is not None and (not isinstance(self.batch_size, int) or self.batch_size < 1):
            raise SettingError(f"Expected `batch_size` to be a whole number from 1, but got {self.batch_size!r}.")


@dataclass(frozen=True)
class Recipe:
    """Stages, the head they start with, and post-hoc steps.

    Attributes:
        name: what results are filed under, for example ``"cas+focal"``.
        stages: one or more stages, in order.
        head: the head of the first stage.
        posthoc: steps fitted on validation after training, in order.
        optimisation: optimiser settings.
        features: what a probe trains its head on, see `tailwise.models.sources`; None leaves it to the engine.
        allow_stacking: let sampler and loss of a stage both correct for the class sizes, even if they overshoot.
    """

    name: str
    stages: tuple[Stage, ...] = (Stage(),)
    head: Component = Component("linear")
    posthoc: tuple[Component, ...] = ()
    optimisation: Optimisation = Optimisation()
    features: Component | None = None
    allow_stacking: bool = False

    def __post_init__(self) -> None:
        if not self.stages:
            raise SettingError(f"The recipe {self.name!r} has no stage.")
        if not isinstance(self.allow_stacking, bool):
            raise SettingError(
                f"{self.name!r}: expected `allow_stacking` to be true or false, but got {self.allow_stacking!r}."
            )
        total = sum(stage.share for stage in self.stages)
        if abs(total - 1.0) > 1e-6:
            raise SettingError(f"The shares of the stages of {self.name!r} sum to {total:g}; they must sum to 1.")

    def with_optimisation(self, **settings: Any) -> Recipe:
        """The same recipe with some optimiser settings replaced."""
        return replace(self, optimisation=replace(self.optimisation, **settings))

    def with_features(self, features: Component | None) -> Recipe:
        """The same recipe on other features."""
        return replace(self, features=features)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON and YAML; defaults are left out."""
        data: dict[str, Any] = {"name": self.name, "stages": [_stage_to_dict(s) for s in self.stages]}
        if self.head != Component("linear"):
            data["head"] = self.head.to_data()
        if self.posthoc:
            data["posthoc"] = [c.to_data() for c in self.posthoc]
        settings = {k: v for k, v in vars(self.optimisation).items() if v is not None}
        if settings:
            data["optimisation"] = settings
        if self.features is not None:
            data["features"] = self.features.to_data()
        if self.allow_stacking:
            data["allow_stacking"] = True
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Recipe:
        """Read a recipe from plain data.

        Raises:
            SettingError: an unknown key (with the nearest known one) or a value of the wrong kind.
        """
        _check_keys(data, cls, "recipe")
        if not isinstance(data.get("name"), str):
            raise SettingError(f"A recipe needs a `name`, but got {data.get('name')!r}.")
        stages = data.get("stages", [{}])
        if not isinstance(stages, list) or not stages:
            raise SettingError(f"Recipe {data['name']!r}: expected `stages` to be a list, but got {stages!r}.")
        posthoc = data.get("posthoc", [])
        if not isinstance(posthoc, list | tuple):
            raise SettingError(f"Recipe {data['name']!r}: expected `posthoc` to be a list, but got {posthoc!r}.")
        optimisation = data.get("optimisation", {})
        _check_keys(optimisation, Optimisation, "optimisation")
        return cls(
            name=data["name"],
            stages=tuple(_stage_from_dict(s, i) for i, s in enumerate(stages)),
            head=Component.from_data(data.get("head", "linear"), "head"),
            posthoc=tuple(Component.from_data(c, "posthoc") for c in posthoc),
            optimisation=Optimisation(**optimisation),
            features=None if data.get("features") is None else Component.from_data(data["features"], "features"),
            allow_stacking=data.get("allow_stacking", False),
        )

    def to_yaml(self) -> str:
        """The recipe as YAML."""
        return write_yaml(self.to_dict())

    @classmethod
    def from_yaml(cls, text: str) -> Recipe:
        """Read a recipe from YAML.

        Raises:
            SettingError: not YAML, or not a recipe.
        """
        data = read_yaml(text, "The recipe is")
        if not isinstance(data, Mapping):
            raise SettingError(f"Expected a mapping with `name` and `stages`, but got {type(data).__name__}.")
        return cls.from_dict(data)


def _stage_to_dict(stage: Stage) -> dict[str, Any]:
    default = Stage()
    data: dict[str, Any] = {"sampler": stage.sampler.to_data(), "loss": stage.loss.to_data(), "share": stage.share}
    if stage.head is not None:
        data["head"] = stage.head.to_data()
    for key in ("trainable", "learning_rate_scale"):
        if getattr(stage, key) != getattr(default, key):
            data[key] = getattr(stage, key)
    return data


def _stage_from_dict(data: Any, position: int) -> Stage:
    where = f"stage {position + 1}"
    _check_keys(data, Stage, where)
    named = [k for k in ("sampler", "loss", "head") if k in data]
    parts: dict[str, Any] = {k: Component.from_data(data[k], f"{where}, {k}") for k in named}
    return Stage(**parts, **{k: v for k, v in data.items() if k not in parts})


def _check_keys(data: Any, cls: type, where: str) -> None:
    if not isinstance(data, Mapping):
        raise SettingError(f"{where}: expected a mapping, but got {data!r}.")
    known = [f.name for f in fields(cls)]
    for key in data:
        if key not in known:
            raise SettingError(f"{where}: unknown key {key!r}. {did_you_mean(str(key), known)}")
