"""A cell: the result of one method on one corpus with one encoder, one engine and one seed.

It is one directory:

    cell.json            recipe, versions, hashes, seed, settings, fitted post-hoc steps; equal bytes for equal work
    scores.parquet       one row per test instance (sentence, where tokens are labelled): id, gold, logits
    validation.parquet   the same for validation, for choosing a method: no row fitted its own post-hoc steps
    timing.json          seconds; the only file that differs between two runs of the same work

Every metric, interval, figure and table is derived from the stored scores, never stored instead of them.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tailwise.data.labels import LabelSpace
from tailwise.errors import StoreError, TailwiseError
from tailwise.evaluation.score_files import read_scores
from tailwise.posthoc.base import AffineStep

if TYPE_CHECKING:
    from tailwise.evaluation.base import ScoredSplit

__all__ = [
    "RESULT_FORMAT", "Cell", "CellKey", "CellResult", "digest", "json_bytes", "plain", "read_cell", "write_cell",
]  # fmt: skip

#: raised whenever the files of a cell change their meaning; part of every key, so that old cells are never mixed in
RESULT_FORMAT = 3

PACKAGES = ("tailwise", "torch", "transformers", "numpy", "scikit-learn")
CELL, SCORES, VALIDATION, TIMING = "cell.json", "scores.parquet", "validation.parquet", "timing.json"


def plain(value: Any) -> Any:
    """`value` as JSON holds it: arrays as lists, numpy scalars as Python ones, NaN and infinities as their names."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    no_number = isinstance(value, float) and not math.isfinite(value)
    return str(value) if no_number or isinstance(value, Path) else value


def json_bytes(value: Any) -> bytes:
    """`value` as indented JSON with sorted keys, UTF-8: equal values give equal bytes."""
    text = json.dumps(plain(value), sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode("utf-8", "surrogatepass")


def digest(value: Any) -> str:
    """sha256 of the canonical JSON of `value`, as hex."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


@dataclass(frozen=True)
class CellKey:
    """Everything that decides a result.

    Attributes:
        corpus: name of the corpus.
        corpus_fingerprint: sha256 over its ids, texts and labels.
        encoder: what identifies the encoder: fingerprint, pooling, maximal length, precision.
        engine: name of the engine.
        engine_settings: every setting of the engine that changes a result.
        method: what the result is filed under.
        recipe: the recipe with its tuned parameters, as plain data.
        seed: of the run.
        result_format: `RESULT_FORMAT` of the version that wrote the cell.
    """

    corpus: str
    corpus_fingerprint: str
    encoder: Mapping[str, Any]
    engine: str
    engine_settings: Mapping[str, Any]
    method: str
    recipe: Mapping[str, Any]
    seed: int
    result_format: int = RESULT_FORMAT

    def __hash__(self) -> int:
        return hash(self.digest)

    @cached_property
    def digest(self) -> str:
        """sha256 of the canonical JSON of the key."""
        return digest(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {name: plain(getattr(self, name)) for name in self.__dataclass_fields__}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CellKey:
        """The inverse of `to_dict`."""
        return cls(**data)


@dataclass(frozen=True, eq=False)
class CellResult:
    """What is written of a finished run.

    Attributes:
        test: scores of the test split.
        validation: scores of the validation split.
        seconds: time of training and scoring; an equal share where several models were trained in one pass.
        steps: fitted post-hoc steps.
        params: tuned values by parameter path.
        encoder: what a reader wants to know of the encoder: name, revision.
        notes: remarks of the engine, in words.
    """

    test: ScoredSplit
    validation: ScoredSplit
    seconds: float
    steps: Sequence[AffineStep] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    encoder: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class Cell:
    """A finished cell on disk; scores are read when asked for.

    Attributes:
        key: what was run.
        folder: where it lies.
        label_space: what the columns of the scores are: classes (labels, tags, relations) and training counts.
        steps: fitted post-hoc steps.
        params: tuned values by parameter path.
        encoder: name and revision of the encoder.
        notes: remarks of the engine.
        versions: version of each package that had a part.
        hashes: sha256 by file name of the score files.
    """

    key: CellKey
    folder: Path
    label_space: LabelSpace
    steps: tuple[AffineStep, ...]
    params: Mapping[str, Any]
    encoder: Mapping[str, Any]
    notes: tuple[str, ...]
    versions: Mapping[str, str]
    hashes: Mapping[str, str]

    def test(self) -> ScoredSplit:
        """The stored scores of the test split.

        Raises:
            StoreError: the file is not the one that was written.
        """
        return self._scores(SCORES)

    def validation(self) -> ScoredSplit:
        """The stored scores of the validation split.

        Raises:
            StoreError: the file is not the one that was written.
        """
        return self._scores(VALIDATION)

    @property
    def scores_hash(self) -> str:
        """sha256 of the stored test scores."""
        return self.hashes[SCORES]

    @property
    def seconds(self) -> float:
        """Seconds of training and scoring.

        Raises:
            StoreError: the file cannot be read.
        """
        return float(_read_json(self.folder, TIMING)["seconds"])

    def _scores(self, name: str) -> ScoredSplit:
        path = self.folder / name
        if not path.is_file() or _file_hash(path) != self.hashes[name]:
            raise _broken(self.folder, f"{name} is missing or is not the file that was written")
        try:
            return read_scores(path, self.label_space)
        except (TailwiseError, OSError, ValueError, KeyError) as error:
            raise _broken(self.folder, f"{name} cannot be read ({error})") from error


def write_cell(folder: Path, key: CellKey, result: CellResult) -> None:
    """Write the files of a cell into an empty folder."""
    result.test.write_scores(folder / SCORES)
    result.validation.write_scores(folder / VALIDATION)
    content = {
        "key": key.to_dict(),
        "label_space": result.test.score_space.to_dict(),
        "steps": [step.to_dict() for step in result.steps],
        "params": result.params,
        "encoder": result.encoder,
        "notes": list(result.notes),
        "versions": _versions(),
        "hashes": {name: _file_hash(folder / name) for name in (SCORES, VALIDATION)},
    }
    (folder / TIMING).write_bytes(json_bytes({"seconds": result.seconds}))
    (folder / CELL).write_bytes(json_bytes(content))


def read_cell(folder: Path) -> Cell:
    """Read a finished cell.

    Raises:
        StoreError: files are missing or are not what was written; the message names the folder and the remedy.
    """
    data = _read_json(folder, CELL)
    try:
        cell = Cell(
            key=CellKey.from_dict(data["key"]),
            folder=folder,
            label_space=LabelSpace.from_dict(data["label_space"]),
            steps=tuple(AffineStep.from_dict(step) for step in data["steps"]),
            params=dict(data["params"]),
            encoder=dict(data["encoder"]),
            notes=tuple(data["notes"]),
            versions=dict(data["versions"]),
            hashes={name: str(data["hashes"][name]) for name in (SCORES, VALIDATION)},
        )
    except (TailwiseError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise _broken(folder, f"{CELL} does not hold what it should ({type(error).__name__}: {error})") from error
    missing = [name for name in (SCORES, VALIDATION, TIMING) if not (folder / name).is_file()]
    if missing:
        raise _broken(folder, f"{', '.join(missing)} missing")
    return cell


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # a source tree that was never installed
            found[package] = "unknown"
    return found


def _file_hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    try:
        data = json.loads((folder / name).read_bytes())
    except (OSError, ValueError) as error:
        raise _broken(folder, f"{name} cannot be read ({error})") from error
    if not isinstance(data, dict):
        raise _broken(folder, f"{name} holds {type(data).__name__} instead of a mapping")
    return data


def _broken(folder: Path, fault: str) -> StoreError:
    return StoreError(
        f"The result in {folder} is damaged: {fault}. Delete that folder and run the comparison again; only this "
        "result is computed anew."
    )
