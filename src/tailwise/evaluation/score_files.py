"""Score files: one Parquet file per evaluation, one row per unit, bytes that depend on the content alone.

The metadata of the schema hold the version of the format, the names of the columns of scores and, where rows have more
than one class, the label structure:

    single   id, gold (class), logits (C float32)
    multi    id, gold (list of labels), logits (L float32)
    tags     id, gold (list of tags, one per token), logits (list of C float32)
    arcs     id, gold_heads, gold_relations, heads (lists, one entry per token), logits (list of R float32)
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from tailwise.errors import DataError, StoreError
from tailwise.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tailwise.data.labels import LabelSpace
    from tailwise.data.task import LabelStructure
    from tailwise.evaluation.base import ScoredSplit

__all__ = ["read_scores", "write_table"]

_FORMAT = b"tailwise.scores"
_VERSION = b"1"
_CLASSES = b"tailwise.classes"
_STRUCTURE = b"tailwise.structure"

_KINDS: Registry[type[ScoredSplit]] = Registry(
    "label structure",
    "tailwise.evaluation.base:ScoredSplit",
    {
        "single": "tailwise.evaluation.evaluation:Evaluation",
        "multi": "tailwise.evaluation.multilabel:MultilabelEvaluation",
        "tags": "tailwise.evaluation.tagging:TagEvaluation",
        "arcs": "tailwise.evaluation.parsing:ArcEvaluation",
    },
)


def write_table(table: pa.Table, structure: LabelStructure, names: Sequence[str], path: str | Path) -> None:
    """Write a table of scores with the names of their columns; the file appears whole or not at all."""
    path = Path(path)
    metadata = {_FORMAT: _VERSION, _CLASSES: json.dumps(list(names), ensure_ascii=False).encode()}
    if structure != "single":
        metadata[_STRUCTURE] = structure.encode()
    partial = path.with_name(f".{path.name}.partial")
    pq.write_table(
        table.replace_schema_metadata(metadata), partial, compression="zstd", compression_level=3, version="2.6"
    )
    partial.replace(path)


def read_scores(path: str | Path, label_space: LabelSpace) -> ScoredSplit:
    """The inverse of `ScoredSplit.write_scores`, of the kind that was written.

    Args:
        path: the file.
        label_space: what the columns of the scores are (`ScoredSplit.score_space`): classes, labels, tags or relations.

    Raises:
        StoreError: no such file, or it is damaged or not a scores file.
        DataError: the file is of other classes than `label_space`.
    """
    path = Path(path)
    try:
        with pq.ParquetFile(path) as file:
            table = file.read()
    except FileNotFoundError:
        raise StoreError(f"There is no scores file {path}.") from None
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"{path} is not a readable Parquet file ({error}). Delete it and run again.") from error
    kind, names = _checked(table, path)
    if names != label_space.names:
        raise DataError(
            f"{path} holds scores of {len(names)} classes ({_shorten(names)}), expected {len(label_space)} "
            f"({_shorten(label_space.names)}). The data have changed since: run again into another folder."
        )
    return kind.from_table(table, label_space)


def _checked(table: pa.Table, path: Path) -> tuple[type[ScoredSplit], tuple[str, ...]]:
    """The kind of a table of scores, and the names of its columns of scores.

    Raises:
        StoreError: the table is not one that `write_table` wrote.
    """
    metadata = table.schema.metadata or {}
    structure = metadata.get(_STRUCTURE, b"single").decode("utf-8", "replace")
    if structure not in _KINDS:
        raise StoreError(
            f"{path} holds scores of the label structure {structure!r}, which this version does not know (known: "
            f"{', '.join(_KINDS)}). Read it with the version that wrote it."
        )
    kind = _KINDS[structure]
    try:
        names = tuple(str(name) for name in json.loads(metadata.get(_CLASSES, b"[]")))
    except ValueError:
        names = ()
    types = kind.table_columns(max(len(names), 1))
    found = dict(zip(table.schema.names, table.schema.types, strict=True))
    if metadata.get(_FORMAT) != _VERSION or not names or found != types or any(c.null_count for c in table.columns):
        raise StoreError(
            f"{path} is not a scores file of this version: expected the columns "
            f"{', '.join(f'{name} ({kind})' for name, kind in types.items())} without gaps and "
            f"{_FORMAT.decode()}={_VERSION.decode()} in its metadata, found the columns {', '.join(found) or 'none'}. "
            "Delete it and run again."
        )
    return kind, names


def _shorten(names: Sequence[str], limit: int = 4) -> str:
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
