"""Data sets of the Hugging Face hub, folders written by `save_to_disk`, and `datasets` objects.

No code of a data set is ever run: builder scripts are not supported by `datasets` since version 4, and
`trust_remote_code` is never passed. A hub data set is read at one commit, whose hash is recorded.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tailwise.data.assembly import RawCorpus
from tailwise.data.files import file_facts
from tailwise.data.folders import inside, read_json
from tailwise.data.partition import ALL, split_name
from tailwise.data.recognition import choose_columns
from tailwise.data.tables import preview_dataset, read_dataset
from tailwise.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from datasets import Dataset

    from tailwise.data.columns import Request

__all__ = ["from_datasets", "is_hub_id", "is_saved_folder", "read_hub", "read_saved_folder"]

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+(?::[\w.-]+)?|[\w-][\w.-]*(?::[\w.-]+)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_hub_id(source: str, *, pinned: bool) -> bool:
    """Whether a string can be a hub id: ``owner/name`` or ``owner/name:config``; one word only with a revision."""
    return _HUB_ID.fullmatch(source) is not None and ".." not in source and ("/" in source or pinned)


def read_hub(source: str, revision: str | None, request: Request, say: Callable[[str], None]) -> RawCorpus:
    """A data set of the hub (or its local cache) at one commit.

    Raises:
        DataError: it cannot be reached, does not exist, or needs a configuration name.
    """
    import datasets

    name, _, config = source.partition(":")
    commit = _commit(name, revision)
    if revision != commit:
        say(f"{source}: pinned to the commit {commit}; give revision={commit!r} to read the same data again.")
    try:
        loaded = datasets.load_dataset(name, config or None, revision=commit)
    except Exception as error:
        raise DataError(
            f"{source}: the hub data set cannot be read at {commit} ({type(error).__name__}: {error}). A "
            "configuration is named as owner/name:config; data sets that need code of their own are not read. "
            "Offline, download the files and load the folder."
        ) from error
    facts = {"kind": "hub", "id": name, "revision": commit, **({"config": config} if config else {})}
    return from_datasets(loaded, request, say, name=name.rpartition("/")[2], place=source, facts=facts)


def _commit(name: str, revision: str | None) -> str:
    if revision is not None and _COMMIT.fullmatch(revision):
        return revision
    from huggingface_hub import HfApi

    try:
        return str(HfApi().dataset_info(name, revision=revision).sha)
    except Exception as error:
        raise DataError(
            f"{name}: not a file or folder here, not a named data set, and as a hub data set its "
            f"{f'revision {revision!r}' if revision else 'current commit'} cannot be looked up "
            f"({type(error).__name__}). Check the name and the network; offline, give the full 40-digit commit as "
            "revision (read from the local cache), or load a downloaded folder."
        ) from error


def is_saved_folder(folder: Path) -> bool:
    """Whether the folder was written by `Dataset.save_to_disk` or `DatasetDict.save_to_disk`."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def read_saved_folder(folder: Path, request: Request, say: Callable[[str], None]) -> RawCorpus:
    """A folder written by `save_to_disk`.

    Raises:
        DataError: broken metadata, or a data file outside the folder.
    """
    import datasets

    index = folder / "dataset_dict.json"
    named = read_json(inside(folder, index)).get("splits", []) if index.is_file() else ["."]
    files = {str(split): _arrow_files(folder, str(split)) for split in named}
    try:
        loaded = datasets.load_from_disk(str(folder), keep_in_memory=False)
    except Exception as error:
        raise DataError(
            f"{folder}: the folder looks like one of save_to_disk, but cannot be read ({type(error).__name__}: "
            f"{error}). Save it again."
        ) from error
    facts = {
        "kind": "datasets-folder",
        "name": folder.resolve().name,
        "files": {split: [file_facts(path) for path in paths] for split, paths in files.items()},
    }
    return from_datasets(loaded, request, say, name=folder.resolve().name, place=str(folder), facts=facts)


def _arrow_files(folder: Path, split: str) -> list[Path]:
    """The data files of a split as its state.json names them, all inside the folder."""
    state_path = inside(folder, folder / split / "state.json")
    state = read_json(state_path)
    try:
        names = [str(entry["filename"]) for entry in state["_data_files"]]
    except (KeyError, TypeError):
        raise DataError(f"{state_path}: expected _data_files with file names. Save the data set again.") from None
    return [inside(folder, folder / split / name) for name in names]


def from_datasets(
    loaded: Any, request: Request, say: Callable[[str], None], *, name: str, place: str, facts: Mapping[str, Any]
) -> RawCorpus:
    """A `Dataset` or `DatasetDict`; splits of other names than train, validation and test are left out and told.

    Raises:
        DataError: an iterable data set, no train split, or two splits of one meaning.
    """
    tables = _by_split(loaded, place, say)
    if request.split is not None and set(tables) != {ALL}:
        raise DataError(f"{place}: split={request.split!r} names a column, but the splits are given. Leave it out.")
    first = tables.get("train", tables.get(ALL))
    columns = choose_columns(preview_dataset(first, _place(place, "train", tables)), request, say)
    parts = {split: read_dataset(table, columns, _place(place, split, tables)) for split, table in tables.items()}
    return RawCorpus(name=name, parts=parts, columns=columns, facts={**facts, **_licence(first)})


def _place(place: str, split: str, tables: Mapping[str, Any]) -> str:
    return place if ALL in tables else f"{place} [{split}]"


def _licence(dataset: Any) -> dict[str, str]:
    licence = getattr(getattr(dataset, "info", None), "license", "")
    return {"licence": licence} if isinstance(licence, str) and licence else {}


def _by_split(loaded: Any, place: str, say: Callable[[str], None]) -> dict[str, Dataset]:
    from datasets import Dataset

    if isinstance(loaded, Dataset):
        return {ALL: loaded}
    tables: dict[str, Dataset] = {}
    for written, table in loaded.items() if isinstance(loaded, dict) else []:
        split = split_name(str(written))
        if split is None:
            say(f"{place}: the split {written!r} is neither train, validation nor test and is left out.")
        elif split in tables:
            raise DataError(
                f"{place}: several splits could be {split}. Give a DatasetDict with train, validation and test."
            )
        elif not isinstance(table, Dataset):
            raise DataError(f"{place}: the split {written!r} is a {type(table).__name__}. Expected a datasets.Dataset.")
        else:
            tables[split] = table
    if "train" not in tables:
        raise DataError(
            f"{place}: expected a datasets.Dataset, or a DatasetDict with a train split; found {type(loaded).__name__}"
            f"{' with ' + ', '.join(map(str, loaded)) if isinstance(loaded, dict) else ''}. A stream must be "
            "collected first."
        )
    return {ALL: tables["train"]} if set(tables) == {"train"} else tables
