"""Tags of spans: which scheme they are in, and IOB2 made of them.

    IOB1   I-x, and B-x only where a span of x follows another of x at once
    IOB2   B-x starts every span, I-x goes on
    BIOES  B-x I-x E-x, a span of one token S-x; BILOU and BMES write L, U or M for E, S or I

Ramshaw and Marcus 1995 (IOB1); Tjong Kim Sang and Veenstra 1999 (IOB2). Tags without such marks, as of parts of speech,
stay as they are.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tailwise.data.list_cells import Flat, flat, relisted
from tailwise.data.sentences import check_aligned, check_tokens, refuse_elements, with_names

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from tailwise.data.rows import Rows

__all__ = ["OUTSIDE", "clean_tags", "in_iob2", "tag_type"]

OUTSIDE = "O"
_TAG = re.compile(r"([BIESLUM])(?:-(.*))?", re.DOTALL)
_ENDED = {"BIOES": "ES", "BILOU": "LU", "BMES": "MES"}
_AS_IOB2 = {"B": "B", "S": "B", "U": "B", "I": "I", "E": "I", "L": "I", "M": "I"}


class _Marks(NamedTuple):
    """The tags of a part, taken apart: mark (one letter), type (a number; -1 outside), and those of the tag before."""

    mark: NDArray[np.str_]
    kind: NDArray[np.int64]
    mark_before: NDArray[np.str_]
    kind_before: NDArray[np.int64]
    last: NDArray[np.bool_]


def clean_tags(rows: Rows, say: Callable[[str], None]) -> tuple[Rows, int]:  # noqa: ARG001  # one form for all
    """Rows fit for use; none is left out.

    Raises:
        DataError: no or empty tokens, tags of another number than tokens, an empty tag.
    """
    check_aligned(rows, "tags", check_tokens(rows))
    return with_names(rows, "tags"), 0


def tag_type(tag: str) -> str | None:
    """The type of a tag in IOB2: ``person`` of ``B-person`` and ``I-person``; None of other tags."""
    return tag[2:] if tag[:2] in {"B-", "I-"} else None


def in_iob2(parts: Mapping[str, Rows], say: Callable[[str], None]) -> tuple[dict[str, Rows], str]:
    """The parts with their tags in IOB2, and the scheme they were in: IOB1, IOB2, BIOES, BILOU, BMES or plain.

    Raises:
        DataError: a span that goes on without a start, in tags that are neither IOB1 nor IOB2, or one without an end.
    """
    columns = {name: flat(rows, "tags") for name, rows in parts.items()}
    names = sorted({tag for part in columns.values() for tag in pc.unique(part.values).to_pylist()})
    found = {tag: _TAG.fullmatch(tag) for tag in names if tag != OUTSIDE}
    if not found or not all(found.values()):
        return dict(parts), "plain"
    marks = {name: _marks(part, names) for name, part in columns.items()}
    letters = {match[1] for match in found.values() if match}
    scheme = next((name for name, ends in _ENDED.items() if letters & set(ends) and letters <= {*"BI", *ends}), None)
    if scheme is None and not letters <= set("BI"):
        return dict(parts), "plain"
    if scheme is None:
        scheme = "IOB1" if _is_iob1(marks) else "IOB2"
    for name, rows in parts.items():
        if scheme == "IOB2":
            _check_iob2(rows, columns[name], marks[name])
        elif scheme != "IOB1":
            _check_ended(rows, columns[name], marks[name], scheme)
    if scheme == "IOB2":
        return dict(parts), scheme
    say(f"{next(iter(parts.values())).place}: the tags are in {scheme}; converted to IOB2 (every span starts with B-).")
    return {name: _converted(parts[name], columns[name], marks[name], scheme) for name in parts}, scheme


def _marks(part: Flat, names: list[str]) -> _Marks:
    matches = [_TAG.fullmatch(tag) if tag != OUTSIDE else None for tag in names]
    letters = np.array([match[1] if match else OUTSIDE for match in matches])
    types = sorted({match[2] or "" for match in matches if match})
    numbers = np.array([types.index(match[2] or "") if match else -1 for match in matches], dtype=np.int64)
    codes = np.asarray(pc.index_in(part.values, value_set=pa.array(names, pa.string())), dtype=np.int64)
    mark, kind = letters[codes], numbers[codes]
    before, kind_before = np.roll(mark, 1), np.roll(kind, 1)
    before[part.starts], kind_before[part.starts] = OUTSIDE, -1
    last = np.zeros(len(codes), dtype=bool)
    last[part.starts + part.lengths - 1] = True
    return _Marks(mark, kind, before, kind_before, last)


def _goes_on(marks: _Marks) -> NDArray[np.bool_]:
    """Whether the tag before is of the same type, and inside a span."""
    return np.asarray((marks.kind == marks.kind_before) & (marks.kind >= 0))


def _is_iob1(parts: Mapping[str, _Marks]) -> bool:
    """Whether the tags break IOB2 and keep to IOB1."""
    broken = any(bool(((m.mark == "I") & ~_goes_on(m)).any()) for m in parts.values())
    return broken and not any(bool(((m.mark == "B") & ~_goes_on(m)).any()) for m in parts.values())


def _check_iob2(rows: Rows, part: Flat, marks: _Marks) -> None:
    refuse_elements(
        rows,
        part,
        (marks.mark == "I") & ~_goes_on(marks),
        lambda at: (
            f"the tag {part.values[at].as_py()!r} follows {_before(part, marks, at)}, so that its span has no start. "
            f"Other tags are in IOB2, where every span starts with B-: write {_start(part, at)!r} here, or correct "
            "the tag before."
        ),
    )


def _check_ended(rows: Rows, part: Flat, marks: _Marks, scheme: str) -> None:
    open_before = np.isin(marks.mark_before, ["B", "I", "M"])
    inside = np.isin(marks.mark, ["I", "M", "E", "L"])
    letters = ", ".join(scheme)
    refuse_elements(
        rows,
        part,
        inside & ~(open_before & _goes_on(marks)),
        lambda at: (
            f"the tag {part.values[at].as_py()!r} follows {_before(part, marks, at)}, so that its span has no start. "
            f"The tags are in {scheme} ({letters}), where a span of several tokens starts with B-: correct the tags."
        ),
    )
    next_inside = np.append(inside[1:], np.zeros(1, dtype=bool)) & ~marks.last
    refuse_elements(
        rows,
        part,
        np.isin(marks.mark, ["B", "I", "M"]) & ~next_inside,
        lambda at: (
            f"the span of the tag {part.values[at].as_py()!r} has no end. The tags are in {scheme} ({letters}), where "
            f"its last token has {scheme[-2] if scheme != 'BILOU' else 'L'}-, and a span of one token "
            f"{scheme[-1]}-: correct the tags."
        ),
    )


def _before(part: Flat, marks: _Marks, at: int) -> str:
    first = marks.kind_before[at] == -1 and at in part.starts
    return "the start of the sentence" if first else repr(part.values[at - 1].as_py())


def _start(part: Flat, at: int) -> str:
    return "B" + str(part.values[at].as_py())[1:]


def _converted(rows: Rows, part: Flat, marks: _Marks, scheme: str) -> Rows:
    if scheme == "IOB1":
        starts = (marks.mark == "I") & ~_goes_on(marks)
        mark = np.where(starts, "B", marks.mark)
    else:
        letters, place = np.unique(marks.mark, return_inverse=True)
        mark = np.array([_AS_IOB2.get(letter, letter) for letter in letters.tolist()])[place]
    rest = pc.utf8_slice_codeunits(part.values, 1)
    tags = pc.if_else(pa.array(marks.mark == OUTSIDE), OUTSIDE, pc.binary_join_element_wise(pa.array(mark), rest, ""))
    return rows.with_column("tags", relisted(tags, part.lengths))
