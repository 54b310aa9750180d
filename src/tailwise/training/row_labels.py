"""Read the class indices of a training set, whatever kind of data set it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tailwise.errors import SettingError
from tailwise.sampling import LabelMatrixSampler, LabelSampler, PerformanceSampler, SentenceFactorSampler

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from tailwise.sampling import PlannedSampler

__all__ = ["count_classes", "count_rows", "require_same_rows", "row_groups", "row_label_matrix", "row_labels"]

LABEL_COLUMNS = ("labels", "label", "label_ids")


def row_labels(dataset: Any) -> NDArray[Any]:
    """The labels of a map-style data set.

    Args:
        dataset: a `datasets.Dataset`, or anything with a length whose rows are mappings.

    Returns:
        Class indices ``(N,)``; for rows with a sequence of labels, an object array ``(N,)`` of index arrays.

    Raises:
        SettingError: no length (a stream), no label column, or labels that are not integers.
    """
    count_rows(dataset)
    column = _label_column(dataset)
    if hasattr(dataset, "select_columns"):
        values = dataset.select_columns([column]).with_format("numpy")[:][column]
    else:
        values = [dataset[i][column] for i in range(len(dataset))]
    if isinstance(values, np.ndarray) and values.ndim == 1 and np.issubdtype(values.dtype, np.integer):
        return values.astype(np.int64, copy=False)
    arrays = [np.asarray(value) for value in values]
    for row, array in enumerate(arrays):
        if not np.issubdtype(array.dtype, np.integer):
            raise SettingError(f"Row {row}: expected integer class indices in `{column}`, but got {array.dtype}.")
    if all(array.ndim == 0 for array in arrays):
        return np.array(arrays, dtype=np.int64)
    ragged = np.empty(len(arrays), dtype=object)
    for row, array in enumerate(arrays):
        ragged[row] = array
    return ragged


def row_label_matrix(dataset: Any) -> csr_matrix:
    """The labels of a map-style data set whose rows have several, ``(N, C)``, as ones.

    Args:
        dataset: as in `row_labels`; the labels of a row are 0 and 1 per label.

    Raises:
        SettingError: no length, no label column, rows of different lengths, or values other than 0 and 1.
    """
    from scipy.sparse import csr_matrix

    count_rows(dataset)
    column = _label_column(dataset)
    rows = dataset[column] if hasattr(dataset, "select_columns") else (dataset[i][column] for i in range(len(dataset)))
    indices: list[NDArray[np.int64]] = []
    width = -1
    for number, row in enumerate(rows):
        values = np.asarray(row)
        if values.ndim != 1 or (width not in {-1, values.size}) or not ((values == 0) | (values == 1)).all():
            raise SettingError(
                f"Row {number}: expected 0 or 1 for each of the same labels in `{column}`, but got {row!r:.60}. Turn "
                "the label sets into such rows first."
            )
        width = values.size
        indices.append(np.flatnonzero(values))
    ends = np.concatenate([[0], np.cumsum([len(found) for found in indices])])
    flat = np.concatenate(indices)
    return csr_matrix((np.ones(len(flat), dtype=np.float32), flat, ends), shape=(len(indices), width))


def _label_column(dataset: Any) -> str:
    first = dataset[0]
    column = next((name for name in LABEL_COLUMNS if name in first), None)
    if column is None:
        raise SettingError(f"Expected a column `labels` or `label`, but the rows have: {', '.join(first)}.")
    return column


def row_groups(dataset: Any) -> NDArray[np.int64]:
    """The column ``group`` of a map-style data set, ``(N,)``.

    Raises:
        SettingError: group ids that are not integers from 0.
    """
    if hasattr(dataset, "select_columns"):
        values = np.asarray(dataset.select_columns(["group"]).with_format("numpy")[:]["group"])
    else:
        values = np.asarray([dataset[i]["group"] for i in range(len(dataset))])
    if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer) or values.min() < 0:
        raise SettingError(f"Expected `group` to hold one integer from 0 per row, but got {values.dtype} values.")
    return values.astype(np.int64)


def count_rows(dataset: Any) -> int:
    """Number of rows of a map-style data set.

    Raises:
        SettingError: a stream, whose rows cannot be drawn by number, or no row at all.
    """
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise SettingError(
            f"Expected a map-style data set with a length, but got {type(dataset).__name__}: a sampler draws rows by "
            "number. Load the data into memory or on disk first."
        )
    if not len(dataset):
        raise SettingError("The training data have no row.")
    return len(dataset)


def require_same_rows(sampler: PlannedSampler, dataset: Any) -> None:
    """Check that a sampler is over as many rows as a data set, where both numbers are known.

    Raises:
        SettingError: they differ.
    """
    rows = _rows_of(sampler)
    if rows is not None and hasattr(dataset, "__len__") and rows != len(dataset):
        raise SettingError(
            f"{type(sampler).__name__} is over {rows} rows, but the training data have {len(dataset)}: rows would be "
            "missing or never drawn. Build the sampler from the labels of the training data, in their order."
        )


def _rows_of(sampler: PlannedSampler) -> int | None:
    """Rows that a sampler is over, those that it holds out among them; None for one that does not tell."""
    if isinstance(sampler, LabelMatrixSampler):
        return sampler.num_rows
    if isinstance(sampler, SentenceFactorSampler):
        return sampler.offsets.size - 1
    if not isinstance(sampler, LabelSampler):
        return None
    held_out = sampler.feedback_rows.size if isinstance(sampler, PerformanceSampler) else 0
    return sampler.labels.size + held_out


def count_classes(labels: NDArray[Any], num_classes: int, *, ignore_index: int = -100) -> NDArray[np.int64]:
    """Rows (or tokens) per class, ``(C,)``; 0 for `num_classes` takes the largest label + 1.

    Raises:
        SettingError: a label below 0, or one the model has no score for.
    """
    flat = np.concatenate([np.ravel(x) for x in labels]) if labels.dtype == object else labels
    flat = flat[flat != ignore_index]
    if flat.size == 0:
        raise SettingError("The training data have no label.")
    if flat.min() < 0 or (num_classes and flat.max() >= num_classes):
        wrong = flat.min() if flat.min() < 0 else flat.max()
        raise SettingError(
            f"The training data have the label {wrong}, but the model has {num_classes} classes: expected indices from "
            f"0 to {num_classes - 1}. Load the model with num_labels={max(int(flat.max()) + 1, 1)}, or encode the "
            "labels."
        )
    return np.bincount(flat, minlength=num_classes).astype(np.int64)
