"""Data sets from this machine's Debian package index, one row per package name.

- ``debian-sections``: short description -> section, without the archive area (``contrib/games`` is games).
- ``debian-tags``: short description -> Debtags such as ``role::program``, any number of them; packages without tags are
  left out. https://debtags.debian.org
"""

from __future__ import annotations

import re
import shutil
import subprocess
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailwise.data.assembly import RawCorpus
from tailwise.data.columns import Columns
from tailwise.data.files import file_facts
from tailwise.data.partition import ALL
from tailwise.data.rows import RowBuilder
from tailwise.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["debian_sections", "debian_tags"]

_APT_LISTS = Path("/var/lib/apt/lists")
_APT_HELPER = "/usr/lib/apt/apt-helper"
_TAG = re.compile(r"([^\s,{}]+?)::(?:\{([^{}]*)\}|([^\s,{}]+))")
_APT_REMEDY = "On Debian or Ubuntu run `apt-get update`; elsewhere choose another data set."


def debian_sections(name: str) -> RawCorpus:
    """Descriptions and sections.

    Raises:
        DataError: the machine has no package index.
    """
    columns = Columns("description", "section", id="package")
    return _packages(name, "Section", columns, lambda section: section.rpartition("/")[2])


def debian_tags(name: str) -> RawCorpus:
    """Descriptions and tags.

    Raises:
        DataError: the machine has no package index.
    """
    return _packages(name, "Tag", Columns("description", labels="tags", id="package"), _tags)


def _tags(written: str) -> list[str]:
    """The tags of a field, sorted: ``use::{editing,viewing}, role::program`` stands for three."""
    tags = set[str]()
    for facet, braced, plain in _TAG.findall(written):
        tags.update(f"{facet}::{tag.strip()}" for tag in (braced or plain).split(","))
    return sorted(tags)


def _packages(name: str, field: str, columns: Columns, read: Callable[[str], Any]) -> RawCorpus:
    indexes = sorted(path for path in _APT_LISTS.glob("*_Packages*") if path.is_file()) if _APT_LISTS.is_dir() else []
    found: dict[str, tuple[str, str]] = {}
    for package, value, description in _stanzas(_index_lines(name, indexes), field):
        found.setdefault(package, (description, value))
    if not found:
        raise DataError(
            f"{name}: the package index of this machine holds no package with a {field.lower()}. {_APT_REMEDY}"
        )
    builder = RowBuilder(columns.by_role(), name)
    for package in sorted(found):
        description, value = found[package]
        builder.add(0, (description, read(value), package))
    facts = {
        "kind": "named",
        "name": name,
        "files": {ALL: [file_facts(path) for path in indexes]},
        "licence": "the licence of each Debian package",
    }
    return RawCorpus(name, {ALL: builder.finish()}, columns, facts)


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


def _stanzas(lines: Iterable[str], field: str) -> Iterator[tuple[str, str, str]]:
    """Package, a field with its folded lines, and short description of every stanza that has all three."""
    wanted = ("Package", field, "Description")
    stanza: dict[str, str] = {}
    key = ""
    for line in chain(lines, ["\n"]):
        if line == "\n":
            if all(stanza.get(name) for name in wanted):
                yield stanza["Package"], stanza[field], stanza["Description"]
            stanza, key = {}, ""
        elif line[0] in " \t":
            if key == "Tag":
                stanza[key] += f" {line.strip()}"
        else:
            key, _, value = line.partition(":")
            if key in wanted:
                stanza[key] = value.strip()
            else:
                key = ""
