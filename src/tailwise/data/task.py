"""A task: input form x label structure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["InputForm", "LabelStructure", "Task"]

InputForm = Literal["text", "pair"]
LabelStructure = Literal["single"]


@dataclass(frozen=True)
class Task:
    """What goes in and what comes out; further forms (relation, tokens) and structures (multi, tags, arcs) move in."""

    input_form: InputForm = "text"
    label_structure: LabelStructure = "single"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)
