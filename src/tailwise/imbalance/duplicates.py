"""Repeated texts: duplicates within train, label conflicts, leakage between splits.

Two texts are equal where their normal forms are (`normalised_text`: case folded, single spaces), the form under which
loading keeps duplicates within one split; exact equality is counted as well. A pair is equal where both its texts are,
a sentence where its tokens joined by blanks are, a relation where the same tokens are marked as well. Two rows with
several labels, tags or arcs have the same label where all of them are the same (`RowLabels`).

Texts are read in Arrow batches and kept as 64-bit BLAKE2b hashes, so that a million rows cost sixteen megabytes and no
list of strings. Two different texts among a million share a hash with a probability below 1e-7; every reported example
is compared as text.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np

from tailwise.data.cleaning import normalised_text
from tailwise.imbalance.row_labels import RowLabels

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from datasets import Dataset
    from numpy.typing import NDArray

    from tailwise.data.corpus import Corpus, SplitName
    from tailwise.data.task import InputForm

__all__ = [
    "Conflict",
    "Conflicts",
    "Duplicate",
    "Duplicates",
    "Leak",
    "Leakage",
    "SplitTexts",
    "find_conflicts",
    "find_duplicates",
    "find_leakage",
]

EXAMPLES = 5
_BATCH = 1024
_SHOWN = 160
_COLUMNS: dict[InputForm, list[str]] = {
    "text": ["text"],
    "pair": ["text", "text_pair"],
    "relation": ["tokens", "head", "tail"],
    "tokens": ["tokens"],
}


@dataclass(frozen=True)
class Duplicate:
    """A text that several training rows share."""

    text: str
    rows: int


@dataclass(frozen=True)
class Duplicates:
    """Repeated texts within train.

    Attributes:
        rows: rows whose normalised text an earlier row has already.
        rows_exact: rows whose exact text an earlier row has already.
        texts: distinct normalised texts that occur more than once.
        share: `rows` over all rows.
        examples: the most frequent ones.
    """

    rows: int
    rows_exact: int
    texts: int
    share: float
    examples: tuple[Duplicate, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**vars(self), "examples": [vars(example) for example in self.examples]}


@dataclass(frozen=True)
class Conflict:
    """A text with several labels: training rows per label name."""

    text: str
    labels: dict[str, int]


@dataclass(frozen=True)
class Conflicts:
    """Normalised texts of train that carry more than one label.

    Attributes:
        texts: how many there are.
        rows: training rows that hold one of them.
        share: `rows` over all rows.
        examples: those with the most rows.
    """

    texts: int
    rows: int
    share: float
    examples: tuple[Conflict, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**vars(self), "examples": [vars(example) for example in self.examples]}


@dataclass(frozen=True)
class Leak:
    """A text of one split that another split holds too: its labels here and there."""

    text: str
    source_label: str
    target_label: str


@dataclass(frozen=True)
class Leakage:
    """Rows of `target` whose text also occurs in `source`.

    Attributes:
        source: the split that is learnt from.
        target: the split that is predicted.
        rows: rows of `target` with a normalised text of `source`.
        rows_exact: rows of `target` with an exact text of `source`.
        rows_other_label: those of `rows` whose text never has the same label in `source`.
        share: `rows` over all rows of `target`.
        examples: the first ones.
    """

    source: SplitName
    target: SplitName
    rows: int
    rows_exact: int
    rows_other_label: int
    share: float
    examples: tuple[Leak, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**vars(self), "examples": [vars(example) for example in self.examples]}


class SplitTexts:
    """The texts of one split as hashes.

    Attributes:
        name: name of the split.
        labels: class indices, or what stands for all labels of a row (`RowLabels`), ``(N,)``.
        normalised: hashes of the normalised texts, ``(N,)``.
        exact: hashes of the texts as they are, ``(N,)``.
    """

    def __init__(self, corpus: Corpus, split: SplitName) -> None:
        columns = _COLUMNS[corpus.task.input_form]
        self.name = split
        self._row_labels = RowLabels(corpus, split)
        self.labels = self._row_labels.values
        self._dataset: Dataset = corpus.splits[split].select_columns(columns).with_format(None)
        exact = np.empty(len(self.labels), dtype=np.uint64)
        normalised = np.empty_like(exact)
        start = 0
        for rows in _text_batches(self._dataset, columns):
            stop = start + len(rows)
            exact[start:stop] = _hashes([_joined(texts) for texts in rows])
            normalised[start:stop] = _hashes([_joined([normalised_text(t) for t in texts]) for texts in rows])
            start = stop
        self.exact, self.normalised = exact, normalised

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """Rows sorted by normalised hash, rows of equal hash in the order of the split."""
        return np.asarray(np.argsort(self.normalised, kind="stable"), dtype=np.int64)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Where each run of equal normalised hashes starts in `order`."""
        ordered = self.normalised[self.order]
        return np.flatnonzero(np.r_[np.ones(min(len(self), 1), dtype=bool), ordered[1:] != ordered[:-1]])

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Rows in each run."""
        return np.diff(self.starts, append=len(self))

    def texts(self, row: int) -> tuple[str, ...]:
        """The text of a row, or the two texts of a pair."""
        return _texts_of(tuple(self._dataset[int(row)].values()))

    def rows(self, run: int) -> NDArray[np.int64]:
        """The rows of a run."""
        start, size = int(self.starts[run]), int(self.sizes[run])
        return np.asarray(self.order[start : start + size])

    def class_name(self, row: int) -> str:
        """The label of a row in words."""
        return self._row_labels.name(int(row))


def _text_batches(dataset: Dataset, columns: Sequence[str]) -> Iterator[list[tuple[str, ...]]]:
    for table in dataset.with_format("arrow").iter(batch_size=_BATCH):
        cells = zip(*(table.column(name).to_pylist() for name in columns), strict=True)
        yield [_texts_of(row) for row in cells]


def _texts_of(cells: tuple[Any, ...]) -> tuple[str, ...]:
    """The texts of a row: one or two texts, the tokens of a sentence, or these with its two entities marked."""
    if isinstance(cells[0], str):
        return cells
    tokens = list(cells[0])
    for name, (start, end) in zip(("e1", "e2"), cells[1:], strict=False):
        tokens[start] = f"<{name}> {tokens[start]}"
        tokens[end - 1] = f"{tokens[end - 1]} </{name}>"
    return (" ".join(tokens),)


def _joined(texts: Sequence[str]) -> str:
    """One string per text or pair, without ambiguity: the length of the first part leads a pair."""
    return texts[0] if len(texts) == 1 else f"{len(texts[0])}\n" + "".join(texts)


def _hashes(texts: Sequence[str]) -> NDArray[np.uint64]:
    digests = [blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in texts]
    return np.frombuffer(b"".join(digests), dtype=np.uint64)


def _normal_form(texts: Sequence[str]) -> list[str]:
    return [normalised_text(text) for text in texts]


def _shown(texts: Sequence[str]) -> str:
    """A text for a report: at most `_SHOWN` characters, the parts of a pair divided by a bar."""
    text = " | ".join(" ".join(part[: 4 * _SHOWN].split()) for part in texts)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def find_duplicates(texts: SplitTexts) -> Duplicates:
    """Repeated texts within one split."""
    total = len(texts)
    runs = np.flatnonzero(texts.sizes > 1)
    largest = runs[np.argsort(-texts.sizes[runs], kind="stable")][:EXAMPLES]
    examples = [Duplicate(_shown(texts.texts(texts.rows(run)[0])), int(texts.sizes[run])) for run in largest]
    rows = total - texts.sizes.size
    return Duplicates(
        rows=rows,
        rows_exact=_repeated(texts.exact),
        texts=int(runs.size),
        share=rows / total if total else 0.0,
        examples=tuple(examples),
    )


def find_conflicts(texts: SplitTexts) -> Conflicts:
    """Texts of one split with more than one label."""
    total = len(texts)
    if total == 0:
        return Conflicts(0, 0, 0.0, ())
    ordered = texts.labels[texts.order]
    lowest, highest = np.minimum.reduceat(ordered, texts.starts), np.maximum.reduceat(ordered, texts.starts)
    runs = np.flatnonzero(lowest != highest)
    rows = int(texts.sizes[runs].sum())
    largest = runs[np.argsort(-texts.sizes[runs], kind="stable")][:EXAMPLES]
    examples = (_conflict(texts, int(run)) for run in largest)
    return Conflicts(int(runs.size), rows, rows / total, tuple(e for e in examples if len(e.labels) > 1))


def _conflict(texts: SplitTexts, run: int) -> Conflict:
    """The labels of a run, most frequent first; a label whose text differs after all is left out."""
    rows = texts.rows(run)
    first = _normal_form(texts.texts(rows[0]))
    _, positions, counts = np.unique(texts.labels[rows], return_index=True, return_counts=True)
    found = {
        texts.class_name(row): count
        for row, count in zip(rows[positions], counts.tolist(), strict=True)
        if _normal_form(texts.texts(row)) == first
    }
    labels = dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))
    return Conflict(_shown(texts.texts(rows[0])), labels)


def find_leakage(source: SplitTexts, target: SplitTexts) -> Leakage:
    """Rows of one split whose text also occurs in another."""
    leaked = np.flatnonzero(_occur_in(target.normalised, source.normalised))
    same = _occur_in(_with_label(target)[leaked], _with_label(source))
    return Leakage(
        source=source.name,
        target=target.name,
        rows=int(leaked.size),
        rows_exact=int(np.count_nonzero(_occur_in(target.exact, source.exact))),
        rows_other_label=int(np.count_nonzero(~same)),
        share=leaked.size / len(target) if len(target) else 0.0,
        examples=tuple(_leaks(source, target, leaked)),
    )


def _repeated(hashes: NDArray[np.uint64]) -> int:
    """How many hashes repeat an earlier one. By sorting: `np.unique` goes by hash tables, slower at a million."""
    ordered = np.sort(hashes)
    return int(np.count_nonzero(ordered[1:] == ordered[:-1]))


def _occur_in(hashes: NDArray[np.uint64], others: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which hashes are among the others; `np.isin` by sorting and bisection."""
    if others.size == 0:
        return np.zeros(hashes.shape, dtype=bool)
    ordered = np.sort(others)
    position = np.minimum(np.searchsorted(ordered, hashes), ordered.size - 1)
    return np.asarray(ordered[position] == hashes)


def _with_label(texts: SplitTexts) -> NDArray[np.uint64]:
    """Hashes of normalised text and label together."""
    spread = texts.labels.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return texts.normalised ^ spread


def _leaks(source: SplitTexts, target: SplitTexts, leaked: NDArray[np.int64]) -> Iterator[Leak]:
    heads = source.normalised[source.order[source.starts]]
    for row in leaked[:EXAMPLES]:
        run = int(np.searchsorted(heads, target.normalised[row]))
        origin = source.order[source.starts[run]]
        texts = target.texts(row)
        if _normal_form(source.texts(origin)) == _normal_form(texts):
            yield Leak(_shown(texts), source.class_name(origin), target.class_name(row))
