"""Imbalance: measures, shape, groups, catch-all, duplicates, shift, overlap, the diagnosis and the synthesis."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tailwise.imbalance.diagnosis import Diagnosis, diagnose
    from tailwise.imbalance.synthesis import synthesize

__all__ = ["Diagnosis", "diagnose", "synthesize"]

_PUBLIC = {"Diagnosis": "diagnosis", "diagnose": "diagnosis", "synthesize": "synthesis"}


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
