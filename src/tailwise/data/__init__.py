"""Data: from files, folders, the hub, tables and named data sets to a corpus with three splits."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tailwise.data.corpus import SPLITS, Corpus, SplitName
    from tailwise.data.labels import LabelSpace
    from tailwise.data.loading import load
    from tailwise.data.named import named_datasets
    from tailwise.data.task import Task

__all__ = ["SPLITS", "Corpus", "LabelSpace", "SplitName", "Task", "load", "named_datasets"]

_PUBLIC = {
    "SPLITS": "corpus",
    "Corpus": "corpus",
    "LabelSpace": "labels",
    "SplitName": "corpus",
    "Task": "task",
    "load": "loading",
    "named_datasets": "named",
}


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
