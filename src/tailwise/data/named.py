"""Data sets known by name: those that come with packages of the machine, and the folders below ``$TAILWISE_DATA``.

- ``chatterbot-topics``: every utterance of the English dialogues of the package chatterbot-corpus -> topic (its file).
  Repeats of an utterance within a topic are left out: the files repeat a question for each of its answers, and one
  topic repeats 20 sentences 105 times. An utterance of several topics stays in each.
- ``debian-sections``, ``debian-tags``: see `tailwise.data.debian`.
"""

from __future__ import annotations

import importlib.util
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tailwise.data.assembly import RawCorpus
from tailwise.data.cleaning import normalised_text
from tailwise.data.columns import Columns
from tailwise.data.debian import debian_sections, debian_tags
from tailwise.data.files import file_facts
from tailwise.data.folders import is_data_folder, read_folder
from tailwise.data.partition import ALL
from tailwise.data.rows import RowBuilder
from tailwise.errors import DataError, MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tailwise.data.columns import Request

__all__ = ["named_datasets", "read_named"]

_BUILT_IN = {
    "chatterbot-topics": "English small-talk utterances by topic, from the package chatterbot-corpus",
    "debian-sections": "short package descriptions by archive section, from this machine's Debian package index",
    "debian-tags": "short package descriptions with their Debtags (multi-label), from this machine's package index",
}


def named_datasets() -> dict[str, str]:
    """Name and one line on every data set that `load` knows by name here."""
    root = os.environ.get("TAILWISE_DATA", "")
    folders = sorted(Path(root).iterdir()) if root and Path(root).is_dir() else []
    found = {folder.name: f"folder {folder}" for folder in folders if is_data_folder(folder)}
    return {**found, **_BUILT_IN}


def read_named(name: str, request: Request, say: Callable[[str], None]) -> RawCorpus | None:
    """The data set of that name, or None where there is none.

    Raises:
        MissingDependencyError: its package is not installed.
        DataError: the machine has no package index, or columns were named for a data set that fixes them.
    """
    if name in _BUILT_IN:
        made = {"chatterbot-topics": _chatterbot_topics, "debian-sections": debian_sections, "debian-tags": debian_tags}
        return _as_requested(made[name], name, request)
    root = os.environ.get("TAILWISE_DATA", "")
    if root and name == Path(name).name != ".." and is_data_folder(Path(root) / name):
        return read_folder(Path(root) / name, request, say)
    return None


def _as_requested(make: Callable[[str], RawCorpus], name: str, request: Request) -> RawCorpus:
    if request.names_columns or request.label_separator is not None:
        raise DataError(f"{name}: this data set fixes its columns. Leave out text, text_pair, label and split.")
    raw = make(name)
    if request.task not in {None, raw.columns.task.name}:
        raise DataError(
            f"{name}: task={request.task!r}, but this data set is of {raw.columns.task.name!r}. Leave it out."
        )
    return raw


def _chatterbot_topics(name: str) -> RawCorpus:
    spec = importlib.util.find_spec("chatterbot_corpus")
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependencyError(
            f'{name}: needs the package chatterbot-corpus, which is not installed: pip install "tailwise[demo]".'
        )
    folder = Path(next(iter(spec.submodule_search_locations))) / "data" / "english"
    files = sorted(folder.glob("*.yml"))
    if not files:
        raise DataError(
            f'{name}: no *.yml files in {folder}. Install the package again: pip install -U "tailwise[demo]".'
        )
    builder = RowBuilder({"text": "utterance", "label": "topic", "id": "id"}, name)
    repeats = 0
    for path in files:
        seen: set[str] = set()
        for number, utterance in enumerate(_utterances(path)):
            key = normalised_text(utterance)
            if key in seen:
                repeats += 1
                continue
            seen.add(key)
            builder.add(0, (utterance, path.stem, f"{path.stem}-{number}"))
    facts = {
        "kind": "named",
        "name": name,
        "package": f"chatterbot-corpus {_version('chatterbot-corpus')}",
        "licence": "BSD",
        "files": {ALL: [file_facts(path) for path in files]},
        "repeats_left_out": repeats,
    }
    return RawCorpus(name, {ALL: builder.finish()}, Columns("utterance", "topic", id="id"), facts)


#: the loader that makes strings only; ten times faster where PyYAML was built with libyaml
_StringLoader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "of unknown version"


def _utterances(path: Path) -> Iterator[str]:
    """All lines of all dialogues of a file, in order; every scalar is read as text (``yes`` stays ``yes``)."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_StringLoader)  # noqa: S506  # makes strings only
        dialogues = content["conversations"]
        yield from (line for dialogue in dialogues for line in dialogue if isinstance(line, str))
    except (yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: expected a YAML file with conversations, lists of lines ({error}). Install chatterbot-corpus "
            "again."
        ) from None
