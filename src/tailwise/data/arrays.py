"""Texts and labels that are already in memory: checked, and made into a corpus with a validation split of its own."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from datasets import Dataset, Features, Value
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from tailwise.data.cleaning import normalised_text
from tailwise.data.corpus import SPLITS, Corpus
from tailwise.data.labels import LabelSpace
from tailwise.data.splits import stratified_parts
from tailwise.data.task import Task
from tailwise.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Texts", "corpus_from_arrays", "read_labels", "read_texts"]


class Texts(NamedTuple):
    """Texts, and the second text of each where the input is a pair."""

    first: list[str]
    second: list[str] | None

    def rows(self, chosen: NDArray[Any]) -> Texts:
        """Some of the rows."""
        second = None if self.second is None else [self.second[i] for i in chosen]
        return Texts([self.first[i] for i in chosen], second)


def read_texts(texts: Any) -> Texts:
    """Texts ``(N,)`` or ``(N, 1)``, or pairs of texts ``(N, 2)``, from a list, an array, a Series or a DataFrame.

    Raises:
        DataError: another shape, or something that is no text; names the row.
    """
    array = _object_array(texts, "text")
    if array.ndim not in (1, 2) or (array.ndim == 2 and array.shape[1] not in (1, 2)):
        raise DataError(
            f"Expected texts of shape (N,) or (N, 1), or pairs of texts of shape (N, 2), but got shape {array.shape}. "
            "Reshape your data."
        )
    columns = array[None] if array.ndim == 1 else array.T
    first, *second = [[_text(value, row) for row, value in enumerate(column)] for column in columns]
    return Texts(first, second[0] if second else None)


def _object_array(values: Any, what: str) -> NDArray[Any]:
    if values is None or isinstance(values, str | bytes):
        raise DataError(f"Expected a list of {what}s, but got {_shown(values)}. Put a single {what} into a list.")
    if hasattr(values, "tocsr"):
        raise DataError(f"Expected {what}s, but got sparse data, which are not supported. Give a list or an array.")
    try:
        return np.asarray(values if hasattr(values, "__array__") else list(values), dtype=object)
    except (TypeError, ValueError) as error:
        raise DataError(f"Expected a list of {what}s, but got a {type(values).__name__} ({error}).") from error


def _text(value: Any, row: int) -> str:
    if not isinstance(value, str):
        raise DataError(
            f"Row {row}: expected a text, but got {_shown(value)}. Fill in missing texts, turn other values into texts."
        )
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise DataError(f"Row {row}: the text holds half a surrogate pair ({error.reason}). Repair it.") from error
    return str(value)


def read_labels(labels: Any, num_rows: int) -> NDArray[Any]:
    """One label per text, ``(N,)``: texts, whole numbers or truth values, dtype kept.

    Raises:
        DataError: missing labels, several per text, mixed or unfit kinds, another length, or one class only.
    """
    if labels is None:
        raise DataError("TextClassifier requires y to be passed, but the target y is None. Give one label per text.")
    values = _object_array(labels, "label")
    if len(values) != num_rows:
        raise DataError(f"Expected one label per text, but got {num_rows} texts and {len(values)} labels.")
    _refuse_label_sets(values)
    try:
        values = column_or_1d(values, warn=True)
    except ValueError as error:
        raise DataError(f"The labels cannot be used: {error}") from error
    kinds = {_label_kind(value, row) for row, value in enumerate(values)}
    if len(kinds) > 1:
        raise DataError(f"Expected labels of one kind, but got {' and '.join(sorted(kinds))}. Convert them first.")
    array = (labels if isinstance(labels, np.ndarray) else np.asarray(labels)).reshape(-1)
    try:
        check_classification_targets(array)
    except ValueError as error:
        raise DataError(f"The labels cannot be used: {error}") from error
    if len(array) and len(np.unique(array)) < 2:
        raise DataError(
            f"Expected two or more classes, but every label is {values[0]!r}: only one class, nothing to learn."
        )
    return array


def _refuse_label_sets(values: NDArray[Any]) -> None:
    """Say where to go with several labels per text: rows that are lists, or a matrix of 0 and 1."""
    matrix = values.ndim == 2 and values.shape[1] > 1
    listed = values.ndim == 1 and any(
        isinstance(value, list | tuple | set | frozenset | np.ndarray) for value in values
    )
    if matrix or listed:
        found = f"an array of shape {values.shape}" if matrix else "lists of labels"
        raise DataError(
            f"Expected one label per text, but got {found}. For texts with several labels take "
            '`MultilabelTextClassifier`, or `tailwise.load(..., task="multilabel")` and `tailwise.compare`.'
        )


def _label_kind(value: Any, row: int) -> str:
    if isinstance(value, str):
        return "texts"
    if isinstance(value, bool | np.bool_):
        return "truth values"
    if isinstance(value, float | np.floating) and not math.isfinite(value):
        what = "NaN" if math.isnan(value) else "infinity or a value too large for dtype('float64')"
        raise DataError(f"Input y contains {what}: row {row} has the label {value!r}. Fill it in or remove the row.")
    if isinstance(value, int | float | np.integer | np.floating):
        return "numbers"
    raise DataError(
        f"Row {row}: expected a text or a number as label, but got {_shown(value)}. Fill in missing labels."
    )


def corpus_from_arrays(
    texts: Texts, target: NDArray[np.int64], names: Sequence[str], *, validation_size: float, seed: int
) -> Corpus:
    """A corpus of train and validation; test is empty.

    Args:
        texts: N texts or pairs.
        target: class indices, ``(N,)``.
        names: class names by index.
        validation_size: share of the rows for validation, of every class with three or more distinct texts.
        seed: of the split.

    Raises:
        DataError: no class has enough distinct texts to put one aside.
    """
    inputs = zip(texts.first, texts.second or [""] * len(texts.first), strict=True)
    joined = [f"{normalised_text(a)}\0{normalised_text(b)}" for a, b in inputs]
    keys = np.array(
        [int.from_bytes(hashlib.blake2b(t.encode(), digest_size=8).digest()) for t in joined], dtype=np.uint64
    )
    part = stratified_parts(target, keys, (validation_size,), seed=seed)
    if not part.any():
        raise DataError(
            f"None of the {len(names)} classes has three distinct texts, so nothing can be put aside for validation. "
            "Give more examples."
        )
    digest = hashlib.sha256()
    splits = {}
    for number, split in enumerate(SPLITS):
        rows = np.flatnonzero(part == number)
        chosen, labels = texts.rows(rows), target[rows]
        ids = [f"row-{row}" for row in rows]
        splits[split] = _dataset(chosen, labels, ids)
        second = chosen.second or [""] * len(rows)
        for fields in zip(ids, chosen.first, second, (names[i] for i in labels), strict=True):
            digest.update("\0".join((split, *fields, "")).encode())
    counts = np.bincount(target[part == 0], minlength=len(names))
    task = Task(input_form="text" if texts.second is None else "pair")
    source = {"origin": "arrays", "validation_size": validation_size, "seed": seed}
    return Corpus("texts", splits, task, LabelSpace(tuple(names), counts), digest.hexdigest(), source)


def _dataset(texts: Texts, labels: NDArray[np.int64], ids: list[str]) -> Dataset:
    columns: dict[str, Any] = {"id": ids, "text": texts.first}
    if texts.second is not None:
        columns["text_pair"] = texts.second
    features = {name: Value("string") for name in columns} | {"label": Value("int64")}
    return Dataset.from_dict({**columns, "label": labels}, features=Features(features))


def _shown(value: Any) -> str:
    shown = repr(value)
    return f"{type(value).__name__} {shown[:60]}{'...' if len(shown) > 60 else ''}"
