"""Evaluations made to order."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from tailwise.data.labels import LabelSpace
from tailwise.evaluation.evaluation import Evaluation


def label_space(num_classes: int, unseen: int = 0) -> LabelSpace:
    return LabelSpace(
        names=tuple(f"class {j:02d}" for j in range(num_classes)),
        counts=np.arange(1, num_classes + 1)[::-1] * 10,
        unseen=tuple(f"unseen {j}" for j in range(unseen)),
    )


def decided(gold: NDArray, predicted: NDArray, num_classes: int, unseen: int = 0) -> Evaluation:
    """An evaluation whose decisions are `predicted`."""
    logits = np.eye(num_classes, dtype=np.float32)[predicted]
    ids = tuple(f"i{i:06d}" for i in range(len(gold)))
    return Evaluation(ids, gold, logits, label_space(num_classes, unseen))


def scored(seed: int, size: int = 200, num_classes: int = 5, unseen: int = 0, signal: float = 1.5) -> Evaluation:
    """Random scores that know something of the gold label; classes are long-tailed."""
    generator = np.random.default_rng(seed)
    prior = 0.6 ** np.arange(num_classes + unseen)
    gold = np.random.default_rng(12345).choice(num_classes + unseen, size, p=prior / prior.sum())
    logits = generator.normal(size=(size, num_classes)).astype(np.float32)
    known = np.flatnonzero(gold < num_classes)
    logits[known, gold[known]] += signal
    ids = tuple(f"i{i:06d}" for i in range(size))
    return Evaluation(ids, gold, logits, label_space(num_classes, unseen))


@pytest.fixture(scope="session")
def make_decided() -> Callable[..., Evaluation]:
    return decided


@pytest.fixture(scope="session")
def make_scored() -> Callable[..., Evaluation]:
    return scored


@pytest.fixture(scope="session")
def make_space() -> Callable[..., LabelSpace]:
    return label_space
