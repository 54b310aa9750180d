"""The two engines that run a recipe, and the trainer for scripts of one's own."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tailwise.training.finetune import FinetuneEngine
    from tailwise.training.probe import ProbeEngine
    from tailwise.training.trainer import ImbalanceTrainer

__all__ = ["FinetuneEngine", "ImbalanceTrainer", "ProbeEngine"]

_PUBLIC = {"FinetuneEngine": "finetune", "ImbalanceTrainer": "trainer", "ProbeEngine": "probe"}


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
