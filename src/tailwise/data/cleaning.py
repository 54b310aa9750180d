"""What every row must satisfy, and the normal form under which two texts count as the same.

Limits: a text has at most `MAX_TEXT_BYTES` bytes of UTF-8, a label at most `MAX_LABEL_CHARACTERS` characters.
"""

from __future__ import annotations

import hashlib
import unicodedata
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tailwise.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

    from tailwise.data.rows import Rows

__all__ = [
    "MAX_LABEL_CHARACTERS",
    "MAX_TEXT_BYTES",
    "NUL_REMEDY",
    "check_texts",
    "clean",
    "clean_label",
    "condition_mask",
    "has_labels",
    "holds_nul",
    "keys_of",
    "normalised_text",
    "others",
    "refuse",
    "text_keys",
    "with_canonical_labels",
    "with_nul_replaced",
    "without_empty",
    "without_text",
]

MAX_TEXT_BYTES = 1_000_000
MAX_LABEL_CHARACTERS = 1_000
NUL_REMEDY = "holds a NUL character. Remove it."


def normalised_text(text: str) -> str:
    """Canonical Unicode composition (NFC), case folded, every run of white space one space, none at the ends."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return " ".join(text.casefold().split())


def text_keys(rows: Rows) -> NDArray[np.uint64]:
    """A 64-bit key per row, ``(N,)``: equal for equal normalised inputs.

    The input is the text, or text and second text together, or the tokens joined by blanks; which entities are marked
    in a sentence makes no difference.

    Two different texts share a key with probability 2^-64; they would then only be kept in the same split.
    """
    if "tokens" in rows.table.schema.names:
        return _sentence_keys(rows)
    pairs = "text_pair" in rows.table.schema.names
    digests = bytearray()
    for batch in rows.table.select(["text", "text_pair"] if pairs else ["text"]).to_batches(max_chunksize=50_000):
        inputs = [normalised_text(text) for text in batch.column(0).to_pylist()]
        if pairs:
            second = batch.column(1).to_pylist()
            inputs = [f"{a}\0{normalised_text(b)}" for a, b in zip(inputs, second, strict=True)]
        digests += _digests(inputs)
    return _as_keys(digests)


def keys_of(texts: Iterable[str]) -> NDArray[np.uint64]:
    """A 64-bit key per text, ``(N,)``: equal for equal texts."""
    return _as_keys(_digests(texts))


def _sentence_keys(rows: Rows) -> NDArray[np.uint64]:
    sentences = pc.binary_join(rows.table.column("tokens"), " ")
    digests = bytearray()
    for chunk in sentences.chunks:
        digests += _digests([normalised_text(text) for text in chunk.to_pylist()])
    return _as_keys(digests)


def _as_keys(digests: bytes | bytearray) -> NDArray[np.uint64]:
    return np.frombuffer(bytes(digests), dtype="<u8").astype(np.uint64)


def _digests(inputs: Iterable[str]) -> bytes:
    return b"".join(hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest() for text in inputs)


def has_labels(rows: Rows, role: str = "label") -> bool:
    """Whether any row has a label; the test split of a public data set often has none."""
    return not condition_mask(rows, role, _blank if role == "label" else pc.is_null).all()


def clean(rows: Rows, say: Callable[[str], None]) -> tuple[Rows, int]:
    """Rows fit for use, and how many without a text were left out.

    Labels lose white space at their ends. Rows whose text (or second text) is empty or white space are left out and
    counted; everything else that is wrong is an error.

    Raises:
        DataError: a NUL character, a text or label over the limit, rows without a label, or no row left.
    """
    check_texts(rows)
    rows = _with_trimmed_label(rows)
    empty = without_text(rows)
    _refuse_missing_labels(rows, condition_mask(rows, "label", _blank) & ~empty)
    return without_empty(rows, empty, say)


def _with_trimmed_label(rows: Rows) -> Rows:
    """The rows with labels checked and without white space at the ends of labels."""
    refuse(rows, "label", holds_nul, NUL_REMEDY)
    refuse(
        rows,
        "label",
        lambda part: pc.greater(pc.utf8_length(part), MAX_LABEL_CHARACTERS),
        f"is longer than the limit of {MAX_LABEL_CHARACTERS:,} characters. A label is a class name: name the column "
        "that holds it, or shorten it.",
    )
    return rows.with_column("label", pc.utf8_trim_whitespace(rows.table.column("label")))


def clean_label(rows: Rows) -> Rows:
    """The rows with a sound label each.

    Raises:
        DataError: a NUL character, a label over the limit, rows without a label.
    """
    rows = _with_trimmed_label(rows)
    _refuse_missing_labels(rows, condition_mask(rows, "label", _blank))
    return rows


def _texts(rows: Rows) -> list[str]:
    return [role for role in ("text", "text_pair") if role in rows.table.schema.names]


def check_texts(rows: Rows) -> None:
    """Raise `DataError` where a text or second text is too long or holds a NUL character."""
    for role in _texts(rows):
        _refuse_long_text(rows, role)
    for role in _texts(rows):
        refuse(rows, role, holds_nul, NUL_REMEDY)


def without_text(rows: Rows) -> NDArray[np.bool_]:
    """Rows whose text or second text is missing, empty or white space, ``(N,)``."""
    empty = [condition_mask(rows, role, _blank) for role in _texts(rows)]
    return np.asarray(np.logical_or.reduce(empty), dtype=bool)


def without_empty(rows: Rows, empty: NDArray[np.bool_], say: Callable[[str], None]) -> tuple[Rows, int]:
    """The rows with a text, and how many were left out.

    Raises:
        DataError: no row left.
    """
    dropped = int(empty.sum())
    if dropped == rows.num_rows:
        raise DataError(
            f"{rows.place}: 0 rows after cleaning: {dropped:,} rows read, all without a text. Check that the column "
            "taken as the text is the right one."
        )
    if dropped:
        say(f"{rows.place}: {dropped:,} of {rows.num_rows:,} rows have no text, left out: {rows.where_all(empty)}.")
    return rows.filtered(~empty), dropped


def with_canonical_labels(parts: Mapping[str, Rows]) -> dict[str, Rows]:
    """All parts with labels in one spelling.

    pandas writes a column of whole numbers with gaps as ``1.0``, ``nan``. So where all labels are whole numbers ``1.0``
    becomes ``1``, and a ``nan`` among numbers is a missing label.

    Raises:
        DataError: missing labels.
    """
    labels = _all_labels(parts)
    names = pc.unique(labels)
    gaps = pc.match_substring_regex(names, "^(nan|NaN)$")
    numbers = names.filter(pc.invert(gaps))
    if len(numbers) and _all_match(numbers, r"^-?\d+(\.\d+)?$") and pc.any(gaps).as_py():
        for rows in parts.values():
            is_gap = condition_mask(rows, "label", lambda part: pc.match_substring_regex(part, "^(nan|NaN)$"))
            _refuse_missing_labels(rows, is_gap)
    if not _all_match(names, r"^-?\d+(\.0+)?$") or not pc.any(pc.match_substring(names, ".")).as_py():
        return dict(parts)
    whole = pc.replace_substring_regex(names, r"\.0+$", "")
    return {
        name: rows.with_column("label", whole.take(pc.index_in(rows.table.column("label"), value_set=names)))
        for name, rows in parts.items()
    }


def _all_labels(parts: Mapping[str, Rows]) -> pa.ChunkedArray:
    columns = [rows.table.column("label") for rows in parts.values()]
    return pa.chunked_array([chunk for column in columns for chunk in column.chunks], pa.string())


def _all_match(names: Any, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(names, pattern)).as_py())


def _blank(part: Any) -> Any:
    return pc.or_kleene(pc.is_null(part), pc.equal(pc.utf8_trim_whitespace(part), ""))


def condition_mask(rows: Rows, role: str, condition: Callable[[Any], Any]) -> NDArray[np.bool_]:
    """Where a condition holds, ``(N,)``; chunk by chunk, so that no second copy of a column of texts is held."""
    chunks = rows.table.column(role).chunks
    masks = [np.asarray(pc.fill_null(condition(chunk), fill_value=False)) for chunk in chunks]
    return np.concatenate([mask.astype(bool) for mask in masks]) if masks else np.zeros(0, dtype=bool)


def _refuse_long_text(rows: Rows, role: str) -> None:
    mask = condition_mask(rows, role, lambda part: pc.greater(pc.binary_length(part), MAX_TEXT_BYTES))
    if mask.any():
        first = int(np.argmax(mask))
        size = len(rows.table.column(role)[first].as_py().encode())
        raise DataError(
            f"{rows.where(first)}: the text has {size:,} bytes; the limit is {MAX_TEXT_BYTES:,}. Cut it into passages "
            f"or remove the row{others(mask)}."
        )


def with_nul_replaced(rows: Rows, say: Callable[[str], None]) -> Rows:
    """The rows with U+FFFD for every NUL character of a text, told to `say`: for data that others published."""
    for role in _texts(rows):
        mask = condition_mask(rows, role, holds_nul)
        if mask.any():
            say(f"{rows.place}: NUL characters in the {role} are replaced by U+FFFD: {rows.where_all(mask)}.")
            rows = rows.with_column(role, pc.replace_substring(rows.table.column(role), "\0", "\ufffd"))
    return rows


def holds_nul(part: Any) -> Any:
    """Which strings hold a NUL character."""
    return pc.match_substring(part, "\0")


def refuse(rows: Rows, role: str, condition: Callable[[Any], Any], what: str) -> None:
    """Raise `DataError` where a condition holds in a column."""
    mask = condition_mask(rows, role, condition)
    if mask.any():
        raise DataError(f"{rows.where(int(np.argmax(mask)))}: the {role.replace('_', ' ')} {what}{others(mask)}")


def others(mask: NDArray[np.bool_]) -> str:
    """How many more rows are like the first one of a mask, for messages."""
    count = int(mask.sum()) - 1
    return f" ({count:,} more rows are like it)" if count else ""


def _refuse_missing_labels(rows: Rows, missing: NDArray[np.bool_]) -> None:
    if missing.any():
        raise DataError(
            f"{rows.place}: the label is missing in {int(missing.sum()):,} of {rows.num_rows:,} rows: "
            f"{rows.where_all(missing)}. Fill in these labels or remove the rows."
        )
