"""Losses: usable alone in anybody's training loop (survey section 3.3)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tailwise.losses.base import Loss
from tailwise.registry import Registry

if TYPE_CHECKING:
    from tailwise.losses.balanced_softmax import BalancedSoftmaxLoss
    from tailwise.losses.class_weights import class_weights
    from tailwise.losses.cross_entropy import CrossEntropyLoss, WeightedCrossEntropyLoss
    from tailwise.losses.focal import FocalLoss
    from tailwise.losses.ldam import LDAMLoss

__all__ = [
    "LOSSES",
    "BalancedSoftmaxLoss",
    "CrossEntropyLoss",
    "FocalLoss",
    "LDAMLoss",
    "Loss",
    "WeightedCrossEntropyLoss",
    "class_weights",
]

_PUBLIC = {
    "BalancedSoftmaxLoss": "balanced_softmax",
    "CrossEntropyLoss": "cross_entropy",
    "FocalLoss": "focal",
    "LDAMLoss": "ldam",
    "WeightedCrossEntropyLoss": "cross_entropy",
    "class_weights": "class_weights",
}

LOSSES: Registry[type[Loss]] = Registry(
    "loss",
    "tailwise.losses.base:Loss",
    {
        "ce": "tailwise.losses.cross_entropy:CrossEntropyLoss",
        "wce": "tailwise.losses.cross_entropy:WeightedCrossEntropyLoss",
        "focal": "tailwise.losses.focal:FocalLoss",
        "ldam": "tailwise.losses.ldam:LDAMLoss",
        "balanced-softmax": "tailwise.losses.balanced_softmax:BalancedSoftmaxLoss",
    },
)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
