"""Which column is the text, which the label: as named by the caller, or guessed where only one reading is possible.

`tailwise.data.recognition` says which task the columns belong to.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tailwise.data.task import Task
from tailwise.errors import DataError
from tailwise.registry import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = [
    "ROLES",
    "Columns",
    "Preview",
    "Request",
    "choose_text_columns",
    "has_known_columns",
    "id_column",
    "listed",
    "require_columns",
    "require_named",
    "unfit_cell",
]

ROLES = (
    "text", "text_pair", "label", "labels", "tokens", "head", "tail", "tags", "heads", "relations", "upos",
    "id", "split",
)  # fmt: skip

_TEXT_NAMES = frozenset(
    {
        "sentence",
        "utterance",
        "content",
        "document",
        "review",
        "tweet",
        "comment",
        "message",
        "body",
        "question",
        "query",
    }
)
_LABEL_NAMES = frozenset(
    {"labels", "class", "category", "intent", "topic", "target", "gold", "gold_label", "sentiment", "emotion", "stance"}
    | {"tag", "y"}
)
_PAIR_NAMES = (
    ("text", "text_pair"),
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("sentence_a", "sentence_b"),
)
_SAMPLE_ROWS = 10
_MAX_COLUMNS = 10_000
_LISTED = 20


@dataclass(frozen=True)
class Request:
    """The column names the caller gave, None means: find it; and the task, None means: recognise it."""

    text: str | None = None
    text_pair: str | None = None
    label: str | None = None
    split: str | None = None
    task: str | None = None
    label_separator: str | None = None

    @property
    def names_columns(self) -> bool:
        """Whether any column was named."""
        return any(name is not None for name in (self.text, self.text_pair, self.label, self.split))


@dataclass(frozen=True)
class Columns:
    """The column of every role; the roles are named after the columns of a corpus.

    Attributes:
        label_separator: where a cell of `label` holds several names, what stands between them.
    """

    text: str | None = None
    label: str | None = None
    text_pair: str | None = None
    id: str | None = None
    split: str | None = None
    labels: str | None = None
    tokens: str | None = None
    head: str | None = None
    tail: str | None = None
    tags: str | None = None
    heads: str | None = None
    relations: str | None = None
    upos: str | None = None
    label_separator: str | None = None

    @property
    def task(self) -> Task:
        """The task that these columns belong to."""
        if self.tags is not None:
            return Task("tokens", "tags")
        if self.relations is not None:
            return Task("tokens", "arcs")
        if self.head is not None:
            return Task("relation", "single")
        several = self.labels is not None or self.label_separator is not None
        return Task("text" if self.text_pair is None else "pair", "multi" if several else "single")

    def by_role(self) -> dict[str, str]:
        """Role to column name, for the roles that have one."""
        return {role: getattr(self, role) for role in ROLES if getattr(self, role) is not None}


@dataclass(frozen=True)
class Preview:
    """What can be known of a table before it is read.

    Attributes:
        place: file or object, for messages.
        names: column names in order.
        sample: gives the first rows, each a sequence of cells in the order of `names`; called only where the names do
            not tell.
        lists: names of the columns whose cells are lists, as far as the first rows tell.
    """

    place: str
    names: tuple[str, ...]
    sample: Callable[[], Sequence[Sequence[Any]]]
    lists: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if len(self.names) > _MAX_COLUMNS:
            raise DataError(
                f"{self.place}: {len(self.names):,} columns; expected at most {_MAX_COLUMNS:,}. Check that the file "
                "is a table of examples, one per row, and keep only the columns of text and label."
            )
        repeated = sorted(name for name, count in Counter(self.names).items() if count > 1)
        if repeated:
            raise DataError(
                f"{self.place}: duplicate column names {listed(repeated)} among {listed(self.names)}. "
                "Rename the columns so that every name occurs once."
            )


def unfit_cell(place: str, role: str, column: str, what: str) -> DataError:
    """The error for a list, or something else that is no string, where one text or one label is expected."""
    remedy = (
        "With task='multilabel' (on the command line --task multilabel) every row has a list of labels."
        if role == "label"
        else "Name the column of the texts, or turn the values into strings."
    )
    return DataError(f"{place}: the column {column!r} ({role}) holds {what}; expected one {role} per row. {remedy}")


def require_columns(columns: Columns, names: Sequence[str], place: str) -> None:
    """Raise `DataError` where a chosen column is not in the table."""
    for role, column in columns.by_role().items():
        if column not in names and role != "id":
            raise DataError(
                f"{place}: no column {column!r} ({role}); the columns are {listed(names)}. "
                f"{did_you_mean(column, names)}"
            )


def require_named(preview: Preview, request: Request) -> None:
    """Raise `DataError` where the caller named a column that is not in the table."""
    names = preview.names
    for given in (request.text, request.text_pair, request.label, request.split):
        if given is not None and given not in names:
            raise DataError(
                f"{preview.place}: no column {given!r}; the columns are {listed(names)}. {did_you_mean(given, names)}"
            )


def has_known_columns(names: Sequence[str]) -> bool:
    """Whether the names tell of a text and a label."""
    return bool((_known_texts(names) or _guess_pair(names)[0]) and _known_labels(names))


def choose_text_columns(preview: Preview, request: Request, say: Callable[[str], None]) -> Columns:
    """Text, second text and label: those named in `request`, the others guessed where only one reading is possible.

    Every guess goes to `say`.

    Raises:
        DataError: a named column does not exist, or a column cannot be guessed without doubt.
    """
    names = preview.names
    require_named(preview, request)
    text, pair, label = request.text, request.text_pair, request.label
    if text is None and pair is None:
        text, pair = _guess_pair(names)
    open_names = [n for n in names if n not in {text, pair, label, request.split} and n.lower() != "id" and n != ""]
    if text is None and label is None:
        text, label = _guess_both(preview, open_names)
    elif text is None:
        text = _guess_one(preview, "text", _known_texts(open_names), open_names)
    elif label is None:
        label = _guess_one(preview, "label", _known_labels(open_names), open_names)
    chosen = Columns(str(text), str(label), pair, id_column(names, (text, pair, label, request.split)), request.split)
    _check_distinct(chosen, preview.place)
    _tell(chosen, request, names, preview.place, say)
    return chosen


def _check_distinct(columns: Columns, place: str) -> None:
    roles = columns.by_role()
    for role, column in roles.items():
        clash = [other for other, name in roles.items() if name == column and other != role]
        if clash:
            raise DataError(
                f"{place}: the column {column!r} cannot be both {role} and {clash[0]}. Name another column."
            )


def _guess_pair(names: Sequence[str]) -> tuple[str | None, str | None]:
    lowered = {name.lower(): name for name in names}
    found = [(lowered[a], lowered[b]) for a, b in _PAIR_NAMES if a in lowered and b in lowered]
    return found[0] if len(found) == 1 else (None, None)


def _known_texts(names: Iterable[str]) -> list[str]:
    return _known(names, "text", _TEXT_NAMES)


def _known_labels(names: Iterable[str]) -> list[str]:
    return _known(names, "label", _LABEL_NAMES)


def _known(names: Iterable[str], canonical: str, others: frozenset[str]) -> list[str]:
    """Columns of a known name; the canonical name wins over all others."""
    folded = [(name.strip().lower(), name) for name in names]
    first = [name for low, name in folded if low == canonical]
    return first or [name for low, name in folded if low in others]


def _guess_one(preview: Preview, role: str, known: list[str], open_names: list[str]) -> str:
    if len(known) == 1:
        return known[0]
    if not known and len(open_names) == 1:
        return open_names[0]
    raise _ambiguous(preview, role, known)


def _guess_both(preview: Preview, open_names: list[str]) -> tuple[str, str]:
    texts, labels = _known_texts(open_names), _known_labels(open_names)
    if len(texts) == 1 and len(labels) == 1:
        return texts[0], labels[0]
    if len(open_names) == 2:
        if len(texts) + len(labels) == 1:
            known = (texts or labels)[0]
            other = next(name for name in open_names if name != known)
            return (known, other) if texts else (other, known)
        if not texts and not labels:
            by_content = _guess_by_content(preview, open_names)
            if by_content is not None:
                return by_content
    if len(texts) != 1:
        raise _ambiguous(preview, "text", texts)
    raise _ambiguous(preview, "label", labels)


def _guess_by_content(preview: Preview, pair: list[str]) -> tuple[str, str] | None:
    """Of two columns, the label is the one whose few values repeat while the other's hardly do."""
    rows = preview.sample()
    if len(rows) < _SAMPLE_ROWS:
        return None
    positions = [preview.names.index(name) for name in pair]
    distinct = [len({str(row[i]) for row in rows}) for i in positions]
    for label, text in ((0, 1), (1, 0)):
        if 2 * distinct[label] <= len(rows) and 10 * distinct[text] >= 9 * len(rows):
            return pair[text], pair[label]
    return None


def _ambiguous(preview: Preview, role: str, known: list[str]) -> DataError:
    found = f"several could be it: {listed(known)}" if known else "none has a name that says so"
    return DataError(
        f"{preview.place}: which column is the {role}? The columns are {listed(preview.names)}; {found}. "
        f"Name it: {role}=... (on the command line --{role}); column names are expected in the first row of a CSV file."
    )


def id_column(names: Sequence[str], used: Sequence[str | None]) -> str | None:
    """The one column named id that has no other role."""
    found = [name for name in names if name.lower() == "id" and name not in used]
    return found[0] if len(found) == 1 else None


def _tell(chosen: Columns, request: Request, names: Sequence[str], place: str, say: Callable[[str], None]) -> None:
    guessed = {
        role: getattr(chosen, role)
        for role in ("text", "text_pair", "label")
        if getattr(chosen, role) is not None and getattr(request, role) is None
    }
    if guessed:
        told = ", ".join(f"{role} = {name!r}" for role, name in guessed.items())
        say(f"{place}: columns guessed: {told}.")
    if chosen.split is None and "split" in names:
        say(f"{place}: there is a column 'split', which is not used; give split='split' to take the splits from it.")


def listed(names: Sequence[str]) -> str:
    """Column names for messages."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(repr(name[:80]) for name in names[:_LISTED]) + more
