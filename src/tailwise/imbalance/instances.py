"""What an instance of a class is in each task, and how many there are.

one class per row         a row of the class
several labels per row    a row with the label; a row counts once for each of its labels
tags that mark spans      a span of the type (`tailwise.evaluation.spans`); ``O`` marks none and is no class
other tags, arcs          a token with the tag, a token with the relation
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tailwise.data.corpus import SPLITS
from tailwise.evaluation.spans import OUTSIDE, has_spans, span_space, spans

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from tailwise.data.corpus import Corpus, SplitName

__all__ = ["Instances", "SentenceMeasures", "Unit", "count_instances", "measure_sentences"]

Unit = Literal["row", "label", "span", "token"]


@dataclass(frozen=True, eq=False)
class Instances:
    """The instances of every class.

    Attributes:
        unit: what is counted.
        names: the C classes of training, each with an instance there.
        unseen: classes that only validation or test have.
        counts: instances per class of each split, ``(C + unseen,)``.
    """

    unit: Unit
    names: tuple[str, ...]
    unseen: tuple[str, ...]
    counts: Mapping[SplitName, NDArray[np.int64]]


@dataclass(frozen=True)
class SentenceMeasures:
    """The sentences of train, where tokens are labelled.

    Attributes:
        sentences: how many.
        tokens: tokens of all sentences.
        mean_length: tokens per sentence, in the mean.
        median_length: the median.
        longest: tokens of the longest sentence.
        spans: spans of all sentences; None where tags mark none.
        without_span: sentences without a span; None where tags mark none.
        outside: tokens tagged ``O``; None where tags mark no spans.
    """

    sentences: int
    tokens: int
    mean_length: float
    median_length: float
    longest: int
    spans: int | None = None
    without_span: int | None = None
    outside: int | None = None

    @property
    def outside_share(self) -> float | None:
        """Share of the tokens tagged ``O``; None where tags mark no spans."""
        return None if self.outside is None else self.outside / max(self.tokens, 1)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "outside_share": self.outside_share}


def count_instances(corpus: Corpus) -> Instances:
    """Count the instances of every class in every split."""
    space, structure = corpus.label_space, corpus.task.label_structure
    if structure == "tags" and has_spans(space.names):
        return _spans_per_type(corpus)
    number = len(space.all_names)
    if structure == "multi":
        counts = {split: np.bincount(corpus.label_matrix(split).indices, minlength=number) for split in SPLITS}
        return Instances("label", space.names, space.unseen, counts)
    counts = {split: np.bincount(corpus.labels(split), minlength=number) for split in SPLITS}
    return Instances("token" if corpus.task.by_token else "row", space.names, space.unseen, counts)


def _spans_per_type(corpus: Corpus) -> Instances:
    tags = corpus.label_space
    types = span_space(tags.all_names, num_tags=tags.num_classes)
    counts = {split: np.bincount(_spans(corpus, split)["type"], minlength=len(types.names)) for split in SPLITS}
    return Instances("span", types.names[: types.num_types], types.unseen, counts)


def _spans(corpus: Corpus, split: SplitName) -> NDArray[np.void]:
    tags = corpus.label_space
    return spans(corpus.labels(split), corpus.offsets(split), tags.all_names, num_tags=tags.num_classes)


def measure_sentences(corpus: Corpus) -> SentenceMeasures:
    """Lengths of the sentences of train and, where tags mark spans, how much lies outside of them."""
    lengths = np.diff(corpus.offsets("train"))
    lengths_only = SentenceMeasures(
        sentences=len(lengths),
        tokens=int(lengths.sum()),
        mean_length=float(lengths.mean()),
        median_length=float(np.median(lengths)),
        longest=int(lengths.max()),
    )
    names = corpus.label_space.names
    if corpus.task.label_structure != "tags" or not has_spans(names):
        return lengths_only
    found = _spans(corpus, "train")
    return replace(
        lengths_only,
        spans=len(found),
        without_span=len(lengths) - len(np.unique(found["sentence"])),
        outside=int((corpus.labels("train") == names.index(OUTSIDE)).sum()) if OUTSIDE in names else 0,
    )
