"""Losses: usable alone in anybody's training loop (survey section 3.3)."""

from tailwise.losses.balanced_softmax import BalancedSoftmaxLoss
from tailwise.losses.base import Loss
from tailwise.losses.class_weights import class_weights
from tailwise.losses.cross_entropy import CrossEntropyLoss, WeightedCrossEntropyLoss
from tailwise.losses.focal import FocalLoss
from tailwise.losses.ldam import LDAMLoss
from tailwise.registry import Registry

__all__ = [
    "LOSSES",
    "SINGLE_LABEL_COUNTERPARTS",
    "BalancedSoftmaxLoss",
    "CrossEntropyLoss",
    "FocalLoss",
    "LDAMLoss",
    "Loss",
    "WeightedCrossEntropyLoss",
    "class_weights",
]

#: what to take for one label per row in place of a loss over several; ``ce`` where nothing is nearer
SINGLE_LABEL_COUNTERPARTS = {
    "bce": "ce",
    "wbce": "wce",
    "pos-bce": "wce",
    "ml-focal": "focal",
    "batch-balanced-focal": "class-dro",
    "db": "balanced-softmax",
    "ml-ldam": "ldam",
    "asl": "asl-single",
    "zlpr": "ce",
    "bp-mll": "ranking",
    "lsep": "ranking",
    "two-way": "ce",
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
