"""A catalog entry: one published method, and how it changes a recipe.

A method is a fragment: it names only what it changes (sampler, loss, head, schedule, features, post-hoc steps).
Fragments compose: ``cas+focal`` is the class-aware sampler with focal loss, ``ldam-drw`` is ``ldam`` with the schedule
``drw``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from tailwise.data.task import TASKS, Task
from tailwise.errors import SettingError
from tailwise.registry import did_you_mean
from tailwise.stages.recipe import Component, Recipe, Stage
from tailwise.stages.schedules import SCHEDULES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Family", "Fragment", "Method", "Setting", "State", "Tier", "compose_fragments"]

Family = Literal["baseline", "sampling", "augmentation", "loss", "staged", "model", "posthoc"]
Setting = Literal["binary", "multiclass", "multilabel", "sequence", "relation"]
State = Literal["applied", "applicable", "open", "no"]
Tier = Literal["T0", "T1", "T2", "T3", "T4"]

#: what a fragment may set to one component
_SLOTS = ("sampler", "loss", "head", "schedule", "features")


@dataclass(frozen=True)
class Fragment:
    """What a method changes; None and empty leave the rest as it is."""

    sampler: Component | None = None
    loss: Component | None = None
    head: Component | None = None
    schedule: Component | None = None
    posthoc: tuple[Component, ...] = ()
    features: Component | None = None

    def with_params(self, params: Mapping[str, Any]) -> Fragment:
        """The fragment with parameters set by path, ``{"loss.focus": 1.0, "posthoc.tau-norm.tau": 0.5}``.

        Raises:
            SettingError: a path that names no component of this fragment.
        """
        changed = self
        for path, value in params.items():
            slot, _, rest = path.partition(".")
            if slot == "posthoc":
                changed = changed._with_posthoc(path, rest, value)
                continue
            component = getattr(changed, slot, None)
            if not isinstance(component, Component) or not rest:
                slots = [s for s in _SLOTS if getattr(self, s) is not None]
                known = [f"{s}." for s in slots] + [f"posthoc.{c.name}." for c in self.posthoc]
                raise SettingError(f"Unknown parameter path {path!r}. {did_you_mean(path, known or ['(none)'])}")
            replacement: dict[str, Any] = {slot: component.with_params(**{rest: value})}
            changed = replace(changed, **replacement)
        return changed

    def _with_posthoc(self, path: str, rest: str, value: Any) -> Fragment:
        name, _, key = rest.rpartition(".")
        if name not in [c.name for c in self.posthoc]:
            raise SettingError(f"Unknown parameter path {path!r}: there is no post-hoc step {name!r} here.")
        steps = tuple(c.with_params(**{key: value}) if c.name == name else c for c in self.posthoc)
        return replace(self, posthoc=steps)


@dataclass(frozen=True)
class Method:
    """A published method.

    Attributes:
        name: short name, as used on the command line.
        title: one line.
        family: section of the survey it belongs to, as a word.
        section: section number of the survey.
        citation: authors, title, venue, year.
        tier: cost, from T0 (post hoc, seconds) to T4 (heavy).
        settings: the survey's Table 3: where it was applied, is applicable, is an open question or does not apply.
        fragment: what it changes.
        space: values that tuning tries per parameter path; the published default comes first.
        notes: what a user should know before choosing it.
        engines: engines that run it on a corpus; empty for a method whose parts are there for loops of one's own.
    """

    name: str
    title: str
    family: Family
    section: str
    citation: str
    tier: Tier
    settings: Mapping[Setting, State]
    fragment: Fragment
    space: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    notes: str = ""
    engines: tuple[str, ...] = ("probe", "finetune")

    def recipe(self, params: Mapping[str, Any] | None = None) -> Recipe:
        """The recipe of this method, with parameters set by path."""
        return compose_fragments(self.name, [self.fragment.with_params(params or {})])

    def refusal(self, task: Task, engine: str | None = None) -> str | None:
        """Why the method cannot run on data of a task, naming the nearest one that can; None where it can.

        Args:
            task: of the data.
            engine: ``"probe"`` or ``"finetune"``; None asks whether any of its engines can.
        """
        from tailwise.catalog.applicability import recipe_refusal

        if not self.engines:
            return f"{self.name!r} runs in loops of one's own alone. {self.notes}"
        recipe, structure = self.recipe(), task.label_structure
        if engine is None:
            reasons = [recipe_refusal(recipe, structure, own) for own in self.engines]
            return None if None in reasons else reasons[0]
        reason = recipe_refusal(recipe, structure, engine)
        if reason is None and engine in {"probe", "finetune"} and engine not in self.engines:
            return f"{self.name!r} does not run with the engine {engine!r}. Choose {' or '.join(self.engines)}."
        return reason

    def engines_for(self, task: Task) -> tuple[str, ...]:
        """The engines that run it on data of a task."""
        return tuple(engine for engine in self.engines if self.refusal(task, engine) is None)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks that some engine runs it on; see `tailwise.data.task.TASKS`."""
        return tuple(name for name, task in TASKS.items() if self.engines_for(task))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "name": self.name,
            "title": self.title,
            "family": self.family,
            "section": self.section,
            "citation": self.citation,
            "tier": self.tier,
            "settings": dict(self.settings),
            "recipe": self.recipe().to_dict(),
            "space": {k: list(v) for k, v in self.space.items()},
            "notes": self.notes,
            "engines": list(self.engines),
            "tasks": list(self.tasks),
            "engines_by_task": {name: list(self.engines_for(TASKS[name])) for name in self.tasks},
        }


def compose_fragments(name: str, fragments: Sequence[Fragment]) -> Recipe:
    """One recipe out of several fragments, in order.

    Raises:
        SettingError: two fragments that set the same slot to different things.
    """
    slots: dict[str, Component] = {}
    posthoc: list[Component] = []
    for fragment in fragments:
        for slot in _SLOTS:
            component = getattr(fragment, slot)
            if component is None:
                continue
            if slot in slots and slots[slot] != component:
                raise SettingError(
                    f"{name!r} sets the {slot} twice, to {slots[slot].name!r} and to {component.name!r}. "
                    "Keep one of them."
                )
            slots[slot] = component
        posthoc += [c for c in fragment.posthoc if c not in posthoc]
    head = slots.get("head", Component("linear"))
    stage = Stage(sampler=slots.get("sampler", Component("natural")), loss=slots.get("loss", Component("ce")))
    schedule = slots.get("schedule", Component("single"))
    params = SCHEDULES.check_parameters(schedule.name, schedule.params)
    stages = SCHEDULES[schedule.name](stage, head, **params)
    return Recipe(name=name, stages=stages, head=head, posthoc=tuple(posthoc), features=slots.get("features"))
