"""The corpus: train, validation and test of one data set, with its task and label space."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np

from tailwise.errors import DataError, SettingError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from datasets import Dataset
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from tailwise.data.labels import LabelSpace
    from tailwise.data.task import Task

__all__ = ["SPLITS", "Corpus", "RelationInput", "SplitName"]

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)


class RelationInput(NamedTuple):
    """A sentence with two marked entities, each ``(start, end)`` in tokens, the end exclusive."""

    tokens: tuple[str, ...]
    head: tuple[int, int]
    tail: tuple[int, int]

    def check(self) -> None:
        """Raise `DataError` where an entity lies outside the sentence, or has no token."""
        size = len(self.tokens)
        for name, (start, end) in (("head", self.head), ("tail", self.tail)):
            if not 0 <= start < end <= size:
                raise DataError(
                    f"Expected the {name} to be a span [start, end) within the {size} tokens, but got [{start}, {end})."
                )


@dataclass(frozen=True, eq=False)
class Corpus:
    """Three splits of rows.

    The columns are ``id`` (string), those of the input form and those of the label structure:

        text      text                          single   label (class index)
        pair      text, text_pair               multi    labels (sorted label indices, possibly none)
        relation  tokens, head, tail            tags     tags (class index per token)
        tokens    tokens                        arcs     heads (1-based, 0 is the root), relations (class index), upos

    ``head`` and ``tail`` are ``[start, end]`` in tokens, the end exclusive. Class indices are those of `label_space`.

    Attributes:
        name: short name, fit for a folder.
        splits: `datasets.Dataset` per split name; train, validation and test are always there.
        task: input form and label structure.
        label_space: class names, training counts, catch-all class.
        fingerprint: sha256 over ids, texts and labels of all splits; equal data have equal fingerprints.
        source: where the data came from: path or package, revision, columns, how splits were made, licence where known.
    """

    name: str
    splits: Mapping[SplitName, Dataset]
    task: Task
    label_space: LabelSpace
    fingerprint: str
    source: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = [s for s in SPLITS if s not in self.splits]
        if missing:
            raise DataError(f"A corpus has the splits train, validation and test; missing: {', '.join(missing)}.")

    def num_rows(self, split: SplitName) -> int:
        """Instances in a split."""
        return int(self.splits[split].num_rows)

    def texts(self, split: SplitName) -> list[str]:
        """The texts of a split: the first of each pair, and tokens joined by blanks."""
        if self.task.input_form in {"relation", "tokens"}:
            return [" ".join(tokens) for tokens in self.tokens(split)]
        return self._strings(split, "text")

    def tokens(self, split: SplitName) -> list[list[str]]:
        """The tokens of every sentence of a split."""
        return self._strings(split, "tokens")

    def inputs(self, split: SplitName) -> list[Any]:
        """What a model takes: texts, token lists, or sentences with two marked entities (`RelationInput`)."""
        if self.task.input_form == "tokens":
            return self.tokens(split)
        if self.task.input_form == "relation":
            columns = zip(*(self._strings(split, name) for name in ("tokens", "head", "tail")), strict=True)
            return [RelationInput(tuple(t), (h[0], h[1]), (e[0], e[1])) for t, h, e in columns]
        return self.texts(split)

    def text_pairs(self, split: SplitName) -> list[str] | None:
        """The second texts of a split, or None where the input is a single text."""
        return self._strings(split, "text_pair") if self.task.input_form == "pair" else None

    def ids(self, split: SplitName) -> list[str]:
        """Stable instance ids of a split, unique within the corpus."""
        return list(self._kept(split, "id", _strings_of))

    def labels(self, split: SplitName) -> NDArray[np.int64]:
        """Class indices of the rows of a split, ``(M,)``: one per instance, or one per token where tokens are labelled.

        Raises:
            SettingError: rows may have several labels; see `label_matrix`.
        """
        if self.task.label_structure == "multi":
            raise SettingError(f"The rows of {self.name!r} may have several labels; take `label_matrix`.")
        column = {"single": "label", "tags": "tags", "arcs": "relations"}[self.task.label_structure]
        return self._flat(split, column)

    def label_matrix(self, split: SplitName) -> csr_matrix:
        """The labels of every instance as a sparse matrix of ones, ``(N, L)``, unseen labels in the last columns.

        Raises:
            SettingError: the data have one label per row.
        """
        from scipy.sparse import csr_matrix

        if self.task.label_structure != "multi":
            raise SettingError(f"The rows of {self.name!r} have one label each; take `labels`.")
        indices = self._flat(split, "labels")
        offsets = self._offsets(split, "labels")
        shape = (self.num_rows(split), len(self.label_space.all_names))
        return csr_matrix((np.ones(len(indices), dtype=np.float32), indices, offsets), shape=shape)

    def targets(self, split: SplitName) -> NDArray[np.int64] | csr_matrix:
        """What a loss is given: `labels`, or `label_matrix` where rows may have several."""
        return self.label_matrix(split) if self.task.label_structure == "multi" else self.labels(split)

    def heads(self, split: SplitName) -> NDArray[np.int64]:
        """The head of every token of a split, 1-based within its sentence, 0 for the root, ``(M,)``."""
        return self._flat(split, "heads")

    def offsets(self, split: SplitName) -> NDArray[np.int64]:
        """Where the rows of every instance start, and the number of rows, ``(N + 1,)``."""
        if self.task.by_token:
            return self._offsets(split, "tokens")
        return np.arange(self.num_rows(split) + 1)

    def num_targets(self, split: SplitName) -> int:
        """Rows that a loss sees: tokens where tokens are labelled, else instances."""
        return int(self.offsets(split)[-1])

    def _flat(self, split: SplitName, column: str) -> NDArray[np.int64]:
        flat: NDArray[np.int64] = self._kept(split, column, _flattened).copy()
        return flat

    def _offsets(self, split: SplitName, column: str) -> NDArray[np.int64]:
        offsets: NDArray[np.int64] = self._kept(split, column, _starts).copy()
        return offsets

    def _strings(self, split: SplitName, column: str) -> list[Any]:
        """A column as Python objects, made anew at each call: texts are large and read seldom."""
        return self._arrow(split, column).to_pylist()  # type: ignore[no-any-return]

    def _kept(self, split: SplitName, column: str, form: Callable[[Any], Any]) -> Any:
        """What `form` makes of a column, made once: ids, labels and offsets are asked for by every evaluation."""
        key = (split, column, form.__name__)
        if key not in self._columns:
            self._columns[key] = form(self._arrow(split, column))
        return self._columns[key]

    @cached_property
    def _columns(self) -> dict[tuple[str, str, str], Any]:
        return {}

    def _arrow(self, split: SplitName, column: str) -> Any:
        table = self.splits[split].select_columns([column]).with_format("arrow")[:]
        return table.column(column).combine_chunks()


def _strings_of(values: Any) -> tuple[str, ...]:
    return tuple(values.to_pylist())


def _flattened(values: Any) -> NDArray[np.int64]:
    return np.asarray(values.flatten() if hasattr(values, "value_lengths") else values, dtype=np.int64)


def _starts(values: Any) -> NDArray[np.int64]:
    lengths = np.asarray(values.value_lengths(), dtype=np.int64)
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
