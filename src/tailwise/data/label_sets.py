"""Label sets and tags in memory: checked, and made into a corpus with a validation split of its own."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_matrix, issparse

from tailwise.data.cleaning import keys_of, normalised_text
from tailwise.data.corpus import SPLITS, Corpus
from tailwise.data.labels import LabelSpace
from tailwise.data.multilabel_split import multilabel_parts
from tailwise.data.splits import TRAIN, stratified_sets
from tailwise.data.task import Task
from tailwise.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tailwise.data.arrays import Texts

__all__ = ["corpus_from_label_sets", "corpus_from_tags", "read_label_sets", "read_sentences", "read_tags"]

_INDICES = pa.list_(pa.int64())


def read_label_sets(labels: Any, num_rows: int) -> tuple[tuple[str, ...], csr_matrix]:
    """Names of the labels, and which row has which, ``(N, L)``.

    Args:
        labels: a matrix of 0 and 1, ``(N, L)``, dense, sparse or a DataFrame (whose columns are the names; else they
            are numbers), or one list of label names per row.
        num_rows: N.

    Raises:
        DataError: another length, entries other than 0 and 1, or names that are not strings; names the row.
    """
    names: tuple[str, ...] | None = tuple(str(c) for c in labels.columns) if hasattr(labels, "columns") else None
    if not issparse(labels) and (names is not None or getattr(labels, "ndim", 1) == 2):
        labels = csr_matrix(np.asarray(labels))
    if not issparse(labels):
        return _read_lists(labels, num_rows)
    sparse: Any = labels
    matrix = sparse.tocsr()
    if matrix.shape[0] != num_rows:
        raise DataError(f"Expected one row of labels per text, but got {num_rows} texts and {matrix.shape[0]} rows.")
    odd = np.flatnonzero((matrix.data != 0) & (matrix.data != 1))
    if odd.size:
        row = int(np.searchsorted(matrix.indptr, odd[0], side="right")) - 1
        raise DataError(f"Row {row}: expected 0 and 1, but found {matrix.data[odd[0]]!r}.")
    matrix.eliminate_zeros()
    return names or tuple(str(j) for j in range(matrix.shape[1])), matrix.astype(np.float32)


def _read_lists(labels: Any, num_rows: int) -> tuple[tuple[str, ...], csr_matrix]:
    if labels is None or isinstance(labels, str) or len(labels) != num_rows:
        found = type(labels).__name__ if labels is None or isinstance(labels, str) else f"{len(labels)} of them"
        raise DataError(f"Expected one list of labels per text, {num_rows}, but got {found}.")
    for row, own in enumerate(labels):
        if isinstance(own, str) or not hasattr(own, "__iter__") or not all(isinstance(name, str) for name in own):
            raise DataError(f"Row {row}: expected a list of label names, but got {own!r:.60}. An empty list is fine.")
    names = tuple(sorted({name for own in labels for name in own}))
    index = {name: j for j, name in enumerate(names)}
    sets = [sorted({index[name] for name in own}) for own in labels]
    indptr = np.concatenate([[0], np.cumsum([len(own) for own in sets])])
    indices = np.array([j for own in sets for j in own], dtype=np.int64)
    return names, csr_matrix((np.ones(len(indices), np.float32), indices, indptr), shape=(num_rows, len(names)))


def corpus_from_label_sets(
    texts: Texts, labels: csr_matrix, names: Sequence[str], *, validation_size: float, seed: int
) -> Corpus:
    """A corpus of train and validation, cut by iterative stratification, equal texts together; test is empty.

    Raises:
        DataError: fewer than two labels, or too few texts to put some aside.
    """
    if len(names) < 2:
        raise DataError(f"Expected two or more labels, but got {len(names)}.")
    second = texts.second or [""] * len(texts.first)
    keys = keys_of(f"{normalised_text(a)}\0{normalised_text(b)}" for a, b in zip(texts.first, second, strict=True))
    row = np.repeat(np.arange(labels.shape[0]), np.diff(labels.indptr))
    part = multilabel_parts(labels.indices.astype(np.int64), row, keys, (validation_size,), seed=seed)
    columns: dict[str, Any] = {"text": texts.first}
    if texts.second is not None:
        columns["text_pair"] = texts.second
    columns["labels"] = pa.array([labels.indices[a:b] for a, b in zip(labels.indptr, labels.indptr[1:])], _INDICES)  # noqa: B905
    counts = np.asarray(labels[part == 0].sum(axis=0), dtype=np.int64).ravel()
    space = LabelSpace(tuple(names), counts, num_rows=int((part == 0).sum()))
    return _corpus(columns, part, Task("text" if texts.second is None else "pair", "multi"), space, seed)


def read_sentences(sentences: Any) -> list[list[str]]:
    """Token lists.

    Raises:
        DataError: something else; names the sentence.
    """
    if sentences is None or isinstance(sentences, str):
        raise DataError(f"Expected a list of sentences, each a list of tokens, but got {type(sentences).__name__}.")
    read = []
    for row, tokens in enumerate(sentences):
        if isinstance(tokens, str) or not all(isinstance(token, str) for token in tokens):
            raise DataError(f"Sentence {row}: expected a list of tokens, but got {tokens!r:.60}. Split the text first.")
        read.append(list(tokens))
    return read


def read_tags(tags: Any, sentences: Sequence[Sequence[str]]) -> list[list[str]]:
    """A tag per token.

    Raises:
        DataError: another number of sentences, or of tags than of tokens; names the sentence.
    """
    read = read_sentences(tags)
    if len(read) != len(sentences):
        raise DataError(f"Expected one list of tags per sentence, {len(sentences)}, but got {len(read)}.")
    for row, (own, tokens) in enumerate(zip(read, sentences, strict=True)):
        if len(own) != len(tokens):
            raise DataError(f"Sentence {row}: {len(tokens)} tokens, but {len(own)} tags. Give one tag per token.")
    return read


def corpus_from_tags(
    sentences: Sequence[Sequence[str]], tags: Sequence[Sequence[str]], *, validation_size: float, seed: int
) -> Corpus:
    """A corpus of train and validation, stratified by the tags of the sentences; test is empty.

    Raises:
        DataError: fewer than two tags.
    """
    names = tuple(sorted({tag for own in tags for tag in own}))
    if len(names) < 2:
        raise DataError(f"Expected two or more different tags, but got {list(names)}.")
    index = {name: j for j, name in enumerate(names)}
    coded = [[index[tag] for tag in own] for own in tags]
    row = np.repeat(np.arange(len(coded)), [len(own) for own in coded])
    flat = np.array([j for own in coded for j in own], dtype=np.int64)
    keys = keys_of("\0".join(tokens) for tokens in sentences)
    part = stratified_sets(flat, row, keys, (validation_size,), seed=seed)
    counts = np.bincount(flat[part[row] == TRAIN], minlength=len(names))
    columns = {"tokens": [list(tokens) for tokens in sentences], "tags": pa.array(coded, _INDICES)}
    space = LabelSpace(names, counts, "O" if "O" in names else None)
    return _corpus(columns, part, Task("tokens", "tags"), space, seed)


def _corpus(columns: dict[str, Any], part: NDArray[np.int8], task: Task, space: LabelSpace, seed: int) -> Corpus:
    from datasets import Dataset

    if not (part == 1).any() or not (part == 0).any():
        raise DataError("There are too few different texts to put some aside for validation. Give more examples.")
    table = pa.table({"id": [f"row-{i}" for i in range(len(part))], **columns})
    digest = hashlib.sha256()
    splits = {}
    for number, split in enumerate(SPLITS):
        rows = table.filter(pa.array(part == number))
        digest.update(f"{split}\0{rows.to_pylist()!r}".encode("utf-8", "surrogatepass"))
        splits[split] = Dataset(rows)
    source = {"origin": "arrays", "seed": seed}
    return Corpus("texts", splits, task, space, digest.hexdigest(), source)
