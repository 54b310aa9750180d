"""Evaluations made to order."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse

from tailwise.data.labels import LabelSpace
from tailwise.evaluation.base import ScoredSplit
from tailwise.evaluation.evaluation import Evaluation
from tailwise.evaluation.multilabel import MultilabelEvaluation
from tailwise.evaluation.parsing import ArcEvaluation
from tailwise.evaluation.tagging import TagEvaluation

TAGS = LabelSpace(
    ("B-LOC", "B-ORG", "B-PER", "I-LOC", "I-ORG", "I-PER", "O"),
    np.array([30, 9, 4, 12, 8, 2, 500]),
    catch_all="O",
    unseen=("B-ART", "I-ART"),
)
RELATIONS = LabelSpace(
    ("det", "nmod", "nmod:poss", "nsubj", "nsubj:pass", "punct", "root"),
    np.array([40, 22, 7, 35, 3, 50, 31]),
    unseen=("nmod:tmod", "vocative"),
)


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


def labelled(seed: int, size: int = 60, num_labels: int = 6, unseen: int = 0) -> MultilabelEvaluation:
    """Label sets, a third of them empty, and scores with ties that know something of them; one label is absent."""
    generator, of_data = np.random.default_rng(seed), np.random.default_rng(77)
    rate = np.append(0.5 * 0.6 ** np.arange(num_labels - 1), [0.0] + [0.1] * unseen)
    gold = (of_data.random((size, num_labels + unseen)) < rate) & (of_data.random((size, 1)) < 0.7)
    noise = generator.normal(size=(size, num_labels))
    logits = np.round(2.0 * (noise + 2.0 * gold[:, :num_labels] - 1.3)) / 2.0 + 0.1
    ids = tuple(f"i{(i * 7) % size:06d}" for i in range(size))
    return MultilabelEvaluation(ids, sparse.csr_matrix(gold), logits, label_space(num_labels, unseen))


def sentences(size: int) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Ids, not in their order, and offsets of sentences of 0 to 9 tokens."""
    lengths = np.random.default_rng(78).integers(0, 10, size)
    return tuple(f"s{(i * 7) % size:05d}" for i in range(size)), np.concatenate([[0], np.cumsum(lengths)])


def tagged(seed: int, size: int = 50, space: LabelSpace = TAGS) -> TagEvaluation:
    """Random tags, unseen ones among them, and scores that know something of them."""
    generator, of_data = np.random.default_rng(seed), np.random.default_rng(79)
    ids, offsets = sentences(size)
    gold = of_data.integers(0, len(space.all_names), offsets[-1])
    logits = generator.normal(size=(len(gold), len(space)))
    known = np.flatnonzero(gold < len(space))
    logits[known, gold[known]] += 2.5
    return TagEvaluation(ids, offsets, gold, logits, space)


def parsed(seed: int, size: int = 50, space: LabelSpace = RELATIONS) -> ArcEvaluation:
    """Random heads and relations, unseen ones among them, and a parser that is often right."""
    generator, of_data = np.random.default_rng(seed), np.random.default_rng(80)
    ids, offsets = sentences(size)
    lengths = np.repeat(np.diff(offsets), np.diff(offsets))
    gold_heads, gold = of_data.integers(0, lengths + 1), of_data.integers(0, len(space.all_names), len(lengths))
    heads = np.where(generator.random(len(lengths)) < 0.7, gold_heads, generator.integers(0, lengths + 1))
    logits = generator.normal(size=(len(gold), len(space)))
    known = np.flatnonzero(gold < len(space))
    logits[known, gold[known]] += 2.5
    return ArcEvaluation(ids, offsets, gold_heads, gold, heads, logits, space)


MAKERS: dict[str, Callable[..., ScoredSplit]] = {
    "single": lambda seed: scored(seed, size=150, unseen=1),
    "multi": lambda seed: labelled(seed, unseen=2),
    "tags": tagged,
    "arcs": parsed,
}


@pytest.fixture(scope="session")
def make_labelled() -> Callable[..., MultilabelEvaluation]:
    return labelled


@pytest.fixture(scope="session")
def make_tagged() -> Callable[..., TagEvaluation]:
    return tagged


@pytest.fixture(scope="session")
def make_parsed() -> Callable[..., ArcEvaluation]:
    return parsed


@pytest.fixture(params=sorted(MAKERS))
def make_any(request) -> Callable[..., ScoredSplit]:
    """A maker of evaluations, of each label structure in turn."""
    return MAKERS[request.param]


@pytest.fixture(scope="session")
def make_decided() -> Callable[..., Evaluation]:
    return decided


@pytest.fixture(scope="session")
def make_scored() -> Callable[..., Evaluation]:
    return scored


@pytest.fixture(scope="session")
def make_space() -> Callable[..., LabelSpace]:
    return label_space
