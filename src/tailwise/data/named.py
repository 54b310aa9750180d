"""Data sets known by name: two that come with packages of the machine, and the folders below ``$TAILWISE_DATA``.

- ``chatterbot-topics``: every utterance of the English dialogues of the package chatterbot-corpus -> topic (its file).
  Repeats of an utterance within a topic are left out: the files repeat a question for each of its answers, and one
  topic repeats 20 sentences 105 times. An utterance of several topics stays in each.
- ``debian-sections``: short description of every package in this machine's Debian package index -> section, without the
  archive area (``contrib/games`` is games). One row per package name.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from tailwise.data.assembly import RawCorpus
from tailwise.data.cleaning import normalised_text
from tailwise.data.columns import Columns, Request
from tailwise.data.files import file_facts
from tailwise.data.folders import is_data_folder, read_folder
from tailwise.data.partition import ALL
from tailwise.data.rows import RowBuilder
from tailwise.errors import DataError, MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["named_datasets", "read_named"]

_APT_LISTS = Path("/var/lib/apt/lists")
_APT_HELPER = "/usr/lib/apt/apt-helper"
_APT_REMEDY = "On Debian or Ubuntu run `apt-get update`; elsewhere choose another data set."
_BUILT_IN = {
    "chatterbot-topics": "English small-talk utterances by topic, from the package chatterbot-corpus",
    "debian-sections": "short package descriptions by archive section, from this machine's Debian package index",
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
        if request != Request():
            raise DataError(f"{name}: this data set fixes its columns. Leave out text, text_pair, label and split.")
        return _chatterbot_topics(name) if name == "chatterbot-topics" else _debian_sections(name)
    root = os.environ.get("TAILWISE_DATA", "")
    if root and name == Path(name).name != ".." and is_data_folder(Path(root) / name):
        return read_folder(Path(root) / name, request, say)
    return None


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


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "of unknown version"


def _utterances(path: Path) -> Iterator[str]:
    """All lines of all dialogues of a file, in order; every scalar is read as text (``yes`` stays ``yes``)."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # noqa: S506  # makes strings only
        dialogues = content["conversations"]
        yield from (line for dialogue in dialogues for line in dialogue if isinstance(line, str))
    except (yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: expected a YAML file with conversations, lists of lines ({error}). Install chatterbot-corpus "
            "again."
        ) from None


def _debian_sections(name: str) -> RawCorpus:
    indexes = sorted(path for path in _APT_LISTS.glob("*_Packages*") if path.is_file()) if _APT_LISTS.is_dir() else []
    found: dict[str, tuple[str, str]] = {}
    for package, section, description in _stanzas(_index_lines(name, indexes)):
        found.setdefault(package, (description, section.rpartition("/")[2]))
    if not found:
        raise DataError(f"{name}: the package index of this machine holds no package with a section. {_APT_REMEDY}")
    builder = RowBuilder({"text": "description", "label": "section", "id": "package"}, name)
    for package in sorted(found):
        builder.add(0, (*found[package], package))
    facts = {
        "kind": "named",
        "name": name,
        "files": {ALL: [file_facts(path) for path in indexes]},
        "licence": "the licence of each Debian package",
    }
    return RawCorpus(name, {ALL: builder.finish()}, Columns("description", "section", id="package"), facts)


def _index_lines(name: str, indexes: list[Path]) -> Iterator[str]:
    """The package index as text: apt's own tool unpacks whatever format it keeps the lists in."""
    if indexes and Path(_APT_HELPER).is_file():
        command = [_APT_HELPER, "cat-file", *map(str, indexes)]
    elif shutil.which("apt-cache"):
        command = [str(shutil.which("apt-cache")), "dumpavail"]
    else:
        raise DataError(f"{name}: this machine has no Debian package index in {_APT_LISTS} and no apt. {_APT_REMEDY}")
    process = subprocess.Popen(  # noqa: S603  # apt's own tool on files it wrote, no shell
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8", errors="replace"
    )
    with process:
        yield from process.stdout or ()
    if process.returncode:
        raise DataError(
            f"{name}: `{command[0]} {command[1]}` failed with exit code {process.returncode}. {_APT_REMEDY}"
        )


def _stanzas(lines: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Package, section and short description of every stanza that has all three."""
    wanted = ("Package", "Section", "Description")
    stanza: dict[str, str] = {}
    for line in chain(lines, ["\n"]):
        if line == "\n":
            if all(stanza.get(key) for key in wanted):
                yield stanza["Package"], stanza["Section"], stanza["Description"]
            stanza = {}
        elif line[0] in "PSD":
            key, _, value = line.partition(":")
            if key in wanted:
                stanza[key] = value.strip()
