"""What the instances, classes and rows of a corpus are called in its task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tailwise.imbalance.diagnosis import Diagnosis

__all__ = ["TaskWords", "words_for"]


@dataclass(frozen=True)
class TaskWords:
    """Nouns of a task.

    Attributes:
        instances: what is counted per class.
        kind: one class.
        kinds: classes.
        row: what one row holds.
        rows: what several rows hold.
        annotation: all labels of one row.
    """

    instances: str
    kind: str
    kinds: str
    row: str
    rows: str
    annotation: str


def words_for(diagnosis: Diagnosis) -> TaskWords:
    """The nouns of the task of a diagnosis."""
    task = diagnosis.task
    row = {"text": "text", "pair": "pair", "relation": "relation mention", "tokens": "sentence"}[task.input_form]
    if diagnosis.unit == "span":
        instances, kind = "spans", "type"
    elif diagnosis.unit == "token":
        instances, kind = "tokens", "relation" if task.label_structure == "arcs" else "tag"
    elif diagnosis.unit == "label":
        instances, kind = "examples", "label"
    else:
        instances, kind = "examples", "relation" if task.input_form == "relation" else "class"
    annotation = {"single": "label", "multi": "label set", "tags": "tagging", "arcs": "tree"}[task.label_structure]
    return TaskWords(instances, kind, "classes" if kind == "class" else f"{kind}s", row, f"{row}s", annotation)
