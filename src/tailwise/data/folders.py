"""Folders with one file (or numbered shards) per split, and a SOURCE.json on their origin.

    <folder>/train.jsonl.gz, validation.jsonl.gz (or dev, valid), test.jsonl.gz; also train-00000-of-00002.parquet,
             also below data/
    <folder>/SOURCE.json      optional: row_format, licence, source_repository, source_commit, catch_all_class,
                              classes_missing_in_train, files ({"train": "name.csv", ...} for files of other names)

Nothing outside the folder is read: links and paths that lead out are refused.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from tailwise.data.assembly import RawCorpus
from tailwise.data.files import DATA_FILE, KINDS, file_facts, preview_file, read_file
from tailwise.data.partition import ALL, split_name
from tailwise.data.recognition import ROW_FORMATS, choose_columns, fixed_columns
from tailwise.data.rows import joined
from tailwise.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tailwise.data.columns import Request

__all__ = ["inside", "is_data_folder", "read_folder", "read_json"]

_SHARD = re.compile(r"(?P<split>[A-Za-z]+)(?:[-_.]\d+[-_]of[-_]\d+.*)?")
_TEXT_FILE = re.compile(r"\.txt(\.gz)?$", re.IGNORECASE)
_JSON_LIMIT = 16 * 2**20
_FACTS = ("licence", "source_repository", "source_commit", "original_paper", "language", "split_origin")


def inside(folder: Path, path: Path) -> Path:
    """The file `path` of a folder, resolved.

    Raises:
        DataError: it does not exist, or it lies outside the folder (by ``..``, an absolute path or a link).
    """
    root = folder.resolve()
    try:
        found = path.resolve(strict=True)
    except (OSError, RuntimeError):
        raise DataError(f"{path}: no such file. Correct the name or copy the file into {folder}.") from None
    if not found.is_relative_to(root):
        raise DataError(
            f"{path}: leads out of the folder {folder}, to {found}. Only files inside the folder are read: copy the "
            "file there."
        )
    return path


def read_json(path: Path) -> dict[str, Any]:
    """The object in a small JSON file.

    Raises:
        DataError: too large, not UTF-8, broken, or not an object.
    """
    if path.stat().st_size > _JSON_LIMIT:
        raise DataError(f"{path}: {path.stat().st_size:,} bytes; expected at most {_JSON_LIMIT:,} of such a file.")
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{error.lineno}:{error.colno}: broken JSON: {error.msg}. Correct or remove the file."
        ) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error}). Correct or remove the file.") from None
    if not isinstance(found, dict):
        raise DataError(f"{path}: expected a JSON object, found a {type(found).__name__}. Correct or remove the file.")
    return found


def is_data_folder(folder: Path) -> bool:
    """Whether the folder has a file for train (or more than one, which is an error only where it is loaded)."""
    try:
        return folder.is_dir() and "train" in _files_by_split(folder)
    except DataError:
        return True


def read_folder(folder: Path, request: Request, say: Callable[[str], None]) -> RawCorpus:
    """All splits of a folder.

    Raises:
        DataError: no train file, several readings of one split, a path that leads out, an unsupported row format.
    """
    stated = read_json(inside(folder, folder / "SOURCE.json")) if (folder / "SOURCE.json").exists() else {}
    row_format = stated.get("row_format")
    if row_format is not None and row_format not in ROW_FORMATS:
        raise DataError(
            f"{folder / 'SOURCE.json'}: the row format is {row_format!r}. Expected one of {', '.join(ROW_FORMATS)}."
        )
    if request.split is not None:
        raise DataError(
            f"{folder}: split={request.split!r} names a column, but a folder has one file per split. Leave it out."
        )
    files = _stated_files(folder, stated) if "files" in stated else _files_by_split(folder)
    files = {split: [inside(folder, path) for path in paths] for split, paths in files.items()}
    if "train" not in files:
        raise _no_train(folder)
    preview = preview_file(files["train"][0], say)
    known = request if row_format is None else fixed_columns(request, row_format, preview.names)
    columns = choose_columns(preview, known, say)
    parts = {split: joined([read_file(path, columns, say) for path in paths]) for split, paths in files.items()}
    if set(parts) == {"train"}:
        parts = {ALL: parts["train"]}
    facts = {
        "kind": "folder",
        "name": folder.resolve().name,
        "files": {split: [file_facts(path) for path in paths] for split, paths in files.items()},
        **{key: stated[key] for key in _FACTS if isinstance(stated.get(key), str)},
    }
    missing = stated.get("classes_missing_in_train") or []
    if not (isinstance(missing, list) and all(isinstance(name, str) for name in missing)):
        raise DataError(f"{folder / 'SOURCE.json'}: expected classes_missing_in_train to be a list of class names.")
    catch_all = stated.get("catch_all_class")
    return RawCorpus(
        name=folder.resolve().name,
        parts=parts,
        columns=columns,
        facts=facts,
        catch_all=catch_all if isinstance(catch_all, str) else None,
        missing_in_train=tuple(missing),
        published=bool(stated),
    )


def _stated_files(folder: Path, stated: Mapping[str, Any]) -> dict[str, list[Path]]:
    place = folder / "SOURCE.json"
    named = stated["files"]
    if not (isinstance(named, dict) and all(isinstance(name, str) for name in named.values())):
        raise DataError(
            f'{place}: expected files to be an object such as {{"train": "train.csv", "test": "test.csv"}}.'
        )
    files: dict[str, list[Path]] = {}
    for written, name in named.items():
        split = split_name(written)
        if split is None:
            raise DataError(f"{place}: files names the split {written!r}. Expected train, validation or test.")
        files[split] = [inside(folder, folder / name)]
    return files


def _files_by_split(folder: Path) -> dict[str, list[Path]]:
    """Data files whose name starts with a split, in the folder or in its subfolder ``data``."""
    found: dict[str, dict[str, list[Path]]] = {}
    for place in (folder, folder / "data"):
        for path in sorted(place.iterdir()) if place.is_dir() else []:
            match = DATA_FILE.fullmatch(path.name)
            shard = _SHARD.fullmatch(match["stem"]) if match else None
            split = split_name(shard["split"]) if shard else None
            if split is None or shard is None or match is None:
                continue
            whole = shard["split"] == match["stem"]
            found.setdefault(split, {}).setdefault(str(path) if whole else f"{place} shards", []).append(path)
        if found:
            break
    found = {split: _without_notes(readings) for split, readings in found.items()}
    for name, readings in found.items():
        if len(readings) > 1:
            names = ", ".join(path.name for paths in readings.values() for path in paths)
            raise DataError(f"{folder}: several files could be the split {name}: {names}. Keep one of them.")
    return {split: next(iter(readings.values())) for split, readings in found.items()}


def _without_notes(readings: dict[str, list[Path]]) -> dict[str, list[Path]]:
    """The readings of a split; a text file beside a file of another kind is taken for a note."""
    others = {key: paths for key, paths in readings.items() if _TEXT_FILE.search(paths[0].name) is None}
    return others or readings


def _no_train(folder: Path) -> DataError:
    names = sorted(path.name for path in folder.iterdir())
    listed = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    return DataError(
        f"{folder}: no file for train. Expected train.<suffix>, and validation (or dev, valid) and test where there "
        f"are some, as {KINDS}; found: {listed or 'nothing'}. To load one file, name the file itself."
    )
