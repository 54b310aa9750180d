"""Tables: Parquet files, pandas DataFrames and `datasets.Dataset` objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tailwise.data.columns import Columns, Preview, require_columns, unfit_cell
from tailwise.data.lines import ExpansionGuard
from tailwise.data.list_cells import LIST_ROLES, as_list_column, relisted
from tailwise.data.rows import RowBuilder, Rows, table_batch
from tailwise.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import pandas as pd
    from datasets import Dataset

__all__ = [
    "preview_dataset",
    "preview_frame",
    "preview_parquet",
    "read_dataset",
    "read_frame",
    "read_parquet",
]

_SAMPLE = 200
_BATCH = 4096
_PARQUET_BATCH = 32_768
_LIST_CELLS = (list, tuple, set, frozenset, np.ndarray)


def preview_parquet(path: Path) -> Preview:
    """Column names and the first rows of a Parquet file.

    Raises:
        DataError: not a Parquet file, a damaged one, or one without rows.
    """
    with _opened(path) as file:
        names, lists = tuple(file.schema_arrow.names), _lists(file.schema_arrow)
        if file.metadata.num_rows == 0:
            raise DataError(f"{path}: the file is empty: {len(names)} columns, 0 rows. Expected one example per row.")
    return Preview(str(path), names, lambda: _sample(_parquet_batches(path, names)), lists)


def read_parquet(path: Path, columns: Columns) -> Rows:
    """The chosen columns of a Parquet file, batch by batch."""
    names = preview_parquet(path).names
    require_columns(columns, names, str(path))
    roles = {role: name for role, name in columns.by_role().items() if name in names}
    return _from_batches(_parquet_batches(path, tuple(roles.values())), roles, str(path))


def preview_dataset(dataset: Dataset, place: str) -> Preview:
    """Column names and the first rows of a `datasets.Dataset`."""
    _require_rows(dataset.num_rows, place)
    names = tuple(dataset.column_names)
    return Preview(
        place, names, lambda: _sample(_dataset_batches(dataset, names)), _lists(dataset.features.arrow_schema)
    )


def read_dataset(dataset: Dataset, columns: Columns, place: str) -> Rows:
    """The chosen columns of a `datasets.Dataset`; a `ClassLabel` gives its class names, -1 is a missing label."""
    require_columns(columns, dataset.column_names, place)
    roles = {role: name for role, name in columns.by_role().items() if name in dataset.column_names}
    names = tuple(roles.values())
    class_names = {name: found for name in names if (found := _class_names(dataset.features[name]))}
    batches = _dataset_batches(dataset, names)
    return _from_batches((_with_class_names(batch, class_names) for batch in batches), roles, place)


def _class_names(feature: Any) -> list[str] | None:
    """The names of a `ClassLabel`, or of the `ClassLabel` of a list."""
    return getattr(feature, "names", None) or getattr(getattr(feature, "feature", None), "names", None)


def preview_frame(frame: pd.DataFrame, place: str) -> Preview:
    """Column names and the first rows of a pandas DataFrame."""
    _require_rows(len(frame), place)
    names = tuple(str(name) for name in frame.columns)
    head = frame.head(_SAMPLE)
    lists = frozenset(
        name
        for position, name in enumerate(names)
        if any(isinstance(cell, _LIST_CELLS) for cell in head.iloc[:, position])
    )
    return Preview(place, names, lambda: head.to_numpy(dtype=object).tolist(), lists)


def read_frame(frame: pd.DataFrame, columns: Columns, place: str) -> Rows:
    """The chosen columns of a pandas DataFrame, row by row in its order; the index is not used."""
    names = [str(name) for name in frame.columns]
    require_columns(columns, names, place)
    roles = {role: name for role, name in columns.by_role().items() if name in names}
    positions = [names.index(name) for name in roles.values()]
    builder = RowBuilder(roles, place)
    for start in range(0, len(frame), _BATCH):
        part = frame.iloc[start : start + _BATCH, positions]
        cells = [series.astype(object).where(series.notna(), None).tolist() for _, series in part.items()]
        for row in zip(*cells, strict=True):
            builder.add_objects(0, row)
    return builder.finish()


def _lists(schema: Any) -> frozenset[str]:
    kinds = zip(schema.names, schema.types, strict=True)
    return frozenset(name for name, kind in kinds if pa.types.is_nested(kind) and not pa.types.is_struct(kind))


def _require_rows(count: int, place: str) -> None:
    if count == 0:
        raise DataError(f"{place}: the table is empty: 0 rows. Expected one example per row.")


def _sample(batches: Iterator[Any]) -> Sequence[Sequence[Any]]:
    for batch in batches:
        return [list(row.values()) for row in batch.slice(0, _SAMPLE).to_pylist()]
    return []


def _opened(path: Path, read_dictionary: Sequence[str] = ()) -> Any:
    try:
        return pq.ParquetFile(path, read_dictionary=list(read_dictionary))
    except (pa.ArrowInvalid, OSError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: not a sound Parquet file ({error}). Write it again, or copy or download it again.")


def _parquet_batches(path: Path, names: Sequence[str]) -> Iterator[Any]:
    """Batches of a Parquet file. Strings stay dictionary-encoded until their unpacked size is known and allowed."""
    guard = ExpansionGuard(path)
    with _opened(path) as file:
        schema, metadata = file.schema_arrow, file.metadata
        groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
        guard.check(sum(group.column(j).total_uncompressed_size for group in groups for j in range(group.num_columns)))
    strings = [name for name in names if str(schema.field(name).type) in {"string", "large_string"}]
    unpacked = 0
    with _opened(path, strings) as file:
        batches = file.iter_batches(batch_size=_PARQUET_BATCH, columns=list(names))
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except (pa.ArrowException, OSError) as error:
                raise _damaged(path, error) from None
            unpacked += sum(_decoded_bytes(column) for column in batch.columns)
            guard.check(unpacked)
            yield batch.select(list(names))


def _decoded_bytes(column: Any) -> int:
    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    lengths = pc.binary_length(column.dictionary)
    return int(pc.sum(lengths.take(column.indices)).as_py() or 0)


def _dataset_batches(dataset: Dataset, names: Sequence[str]) -> Iterator[Any]:
    chosen = dataset.select_columns(list(names)).with_format("arrow")
    for table in chosen.iter(batch_size=_BATCH):
        yield from table.combine_chunks().to_batches()


def _with_class_names(batch: Any, class_names: dict[str, list[str]]) -> Any:
    columns = [
        _named(column, pa.array(class_names[name], pa.string())) if name in class_names else column
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    ]
    return pa.record_batch(columns, names=batch.schema.names)


def _named(column: Any, names: Any) -> Any:
    if not pa.types.is_nested(column.type):
        return names.take(pc.if_else(pc.less(column, 0), None, column))
    lengths = pc.list_value_length(column)
    named = relisted(_named(column.flatten(), names), np.asarray(pc.fill_null(lengths, 0), dtype=np.int64))
    return pc.if_else(pc.is_null(lengths), None, named) if lengths.null_count else named


def _from_batches(batches: Iterable[Any], roles: dict[str, str], place: str) -> Rows:
    done, parts = 0, []
    for batch in batches:
        columns = [
            _as_strings(column, role, roles[role], place, done)
            for role, column in zip(roles, batch.columns, strict=True)
        ]
        parts.append(table_batch(done, roles, columns))
        done += batch.num_rows
    _require_rows(done, place)
    return Rows(pa.Table.from_batches(parts), (place,))


def _as_strings(column: Any, role: str, name: str, place: str, start: int) -> Any:
    """A string array; numbers and booleans become strings where they are labels, ids or splits."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if role in LIST_ROLES:
        return as_list_column(column, role, name, place, start)
    kind = column.type
    if pa.types.is_nested(kind):
        what = "a list of labels (multi-label data)" if role == "label" and not pa.types.is_struct(kind) else f"{kind}"
        raise unfit_cell(place, role, name, what)
    textual = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)
    binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or "view" in str(kind)
    if role in {"text", "text_pair"} and not (textual or binary):
        raise DataError(
            f"{place}: the column {name!r} ({role}) holds {kind}. Expected strings; name another column, or turn the "
            "values into strings."
        )
    if pa.types.is_floating(kind):
        column = pc.if_else(pc.is_nan(column), None, column)
    try:
        strings = pc.cast(column, pa.string())
        strings.validate(full=True)
    except pa.ArrowInvalid as error:
        raise DataError(
            f"{place}, rows {start} to {start + len(column) - 1} (from 0): the column {name!r} ({role}) holds bytes "
            f"that are not UTF-8 ({error}). Write the table again with valid strings."
        ) from None
    except pa.ArrowNotImplementedError:
        raise DataError(f"{place}: the column {name!r} ({role}) holds {kind}. Expected strings or numbers.") from None
    return strings
