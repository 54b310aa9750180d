"""Writing a corpus as a folder that `load` reads back: the same rows, ids, classes and fingerprint.

    <folder>/train.jsonl, validation.jsonl, test.jsonl     one JSON object per line, classes by name
    <folder>/SOURCE.json                                   row format, catch-all class, licence and origin

The folder is written whole, or not at all.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from typing import TYPE_CHECKING, Any

from tailwise.data.corpus import SPLITS
from tailwise.errors import DataError, SettingError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tailwise.data.corpus import Corpus, SplitName

__all__ = ["write_corpus"]

_FORMATS = {"text": "single-label", "pair": "pair", "multilabel": "multi-label", "relation": "relation"}
_FACTS = ("licence", "source_repository", "source_commit", "original_paper", "language")
_BATCH = 10_000


def write_corpus(
    corpus: Corpus, folder: Path, *, documents: Mapping[str, Mapping[str, Any]] | None = None, origin: str | None = None
) -> dict[str, dict[str, Any]]:
    """Write a corpus to a new or empty folder.

    Args:
        corpus: one or several labels per text, pair or relation.
        folder: where to; made with its parents.
        documents: further JSON files, content by name.
        origin: how the splits came to be, for SOURCE.json.

    Returns:
        Name, rows and sha256 of the file of every split.

    Raises:
        DataError: the folder holds something, cannot be written, or a split has no rows.
        SettingError: a task that no row format exists for.
    """
    row_format = _FORMATS.get(corpus.task.name)
    if row_format is None:
        raise SettingError(
            f"A corpus of the task {corpus.task.name} cannot be written. Expected {', '.join(_FORMATS)}."
        )
    empty = [split for split in SPLITS if corpus.num_rows(split) == 0]
    if empty:
        raise DataError(f"{corpus.name}: no row in {', '.join(empty)}. A folder needs rows for each split.")
    stated = {
        "name": corpus.name,
        "row_format": row_format,
        "catch_all_class": corpus.label_space.catch_all,
        "classes_missing_in_train": list(corpus.label_space.unseen),
        "fingerprint": corpus.fingerprint,
        **{key: corpus.source[key] for key in _FACTS if isinstance(corpus.source.get(key), str)},
        **({"split_origin": origin} if origin else {}),
    }
    try:
        return _written(corpus, folder.absolute(), {"SOURCE.json": stated, **(documents or {})})
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror or error}. Give another folder.") from error


def _written(corpus: Corpus, folder: Path, documents: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise DataError(f"{folder} is a file or a link. Give another folder.")
    if folder.is_dir() and (found := sorted(path.name for path in folder.iterdir())):
        listed = ", ".join(found[:3]) + (", ..." if len(found) > 3 else "")
        raise DataError(f"{folder} is not empty: it holds {listed}. Give a new folder, or remove what is there.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.partial")
    partial.mkdir()
    try:
        files: dict[str, dict[str, Any]] = {
            split: _write_split(corpus, split, partial / f"{split}.jsonl") for split in SPLITS
        }
        for name, content in documents.items():
            text = json.dumps(content, ensure_ascii=False, allow_nan=False, indent=2)
            (partial / name).write_text(text + "\n", encoding="utf-8")
        partial.replace(folder)  # takes the place of an empty folder
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return files


def _write_split(corpus: Corpus, split: SplitName, path: Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for row in _rows(corpus, split):
            line = (json.dumps(row, ensure_ascii=False) + "\n").encode()
            digest.update(line)
            file.write(line)
    return {"name": path.name, "rows": corpus.num_rows(split), "sha256": digest.hexdigest()}


def _rows(corpus: Corpus, split: SplitName) -> Iterator[dict[str, Any]]:
    """Rows with class names for class indices."""
    names = corpus.label_space.all_names
    table = corpus.splits[split]
    for start in range(0, table.num_rows, _BATCH):
        batch = table.select(range(start, min(start + _BATCH, table.num_rows))).with_format(None)
        for row in batch:
            if "label" in row:
                yield {**row, "label": names[row["label"]]}
            else:
                yield {**row, "labels": [names[i] for i in row["labels"]]}
