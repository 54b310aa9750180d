"""A task: input form x label structure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from tailwise.errors import SettingError
from tailwise.registry import did_you_mean

__all__ = ["TASKS", "InputForm", "LabelStructure", "Task"]

InputForm = Literal["text", "pair", "relation", "tokens"]
LabelStructure = Literal["single", "multi", "tags", "arcs"]


@dataclass(frozen=True)
class Task:
    """What goes in and what comes out.

    Attributes:
        input_form: one text, a pair of texts, a sentence with two marked entities, or a sentence as tokens.
        label_structure: one class per instance, any number of labels per instance, a tag per token, or a head and a
            relation per token.
    """

    input_form: InputForm = "text"
    label_structure: LabelStructure = "single"

    def __post_init__(self) -> None:
        for field, kind in (("input_form", InputForm), ("label_structure", LabelStructure)):
            if getattr(self, field) not in get_args(kind):
                known = ", ".join(get_args(kind))
                raise SettingError(f"Expected `{field}` to be one of {known}, but got {getattr(self, field)!r}.")

    @property
    def by_token(self) -> bool:
        """Whether a model scores tokens: the unit of evaluation is the sentence, the row of a loss is the token."""
        return self.label_structure in {"tags", "arcs"}

    @property
    def name(self) -> str:
        """The name under which users ask for the task: see `TASKS`."""
        return next(name for name, task in TASKS.items() if task == self)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_name(cls, name: str) -> Task:
        """The task of a name.

        Raises:
            SettingError: no such task.
        """
        if name not in TASKS:
            raise SettingError(f"Unknown task {name!r}. {did_you_mean(name, TASKS)}")
        return TASKS[name]


#: what users can ask for by name
TASKS: dict[str, Task] = {
    "text": Task("text", "single"),
    "pair": Task("pair", "single"),
    "multilabel": Task("text", "multi"),
    "multilabel-pair": Task("pair", "multi"),
    "relation": Task("relation", "single"),
    "tagging": Task("tokens", "tags"),
    "parsing": Task("tokens", "arcs"),
}
