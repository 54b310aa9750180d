"""``tailwise.json``: what a model folder says about itself, and the list of its files with their hashes."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from tailwise.data.labels import LabelSpace
from tailwise.data.task import InputForm, LabelStructure, Task
from tailwise.errors import DataError, ModelError
from tailwise.models.saving_folder import MANIFEST, write_json
from tailwise.models.saving_untrusted import (
    check_name,
    check_settings,
    inside,
    read_json,
    safetensors_shapes,
    sha256_of,
)
from tailwise.posthoc.base import AffineStep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tailwise.models.fitted import FittedModel

__all__ = ["FolderKind", "Manifest", "installed_version", "plain"]

FORMAT = "tailwise-model"
FORMAT_VERSION = 1

FolderKind = Literal["sentence-transformers", "transformers", "tailwise"]

#: kinds of files that other libraries read by themselves, so that none may lie beside the model unlisted
_READ_UNASKED = frozenset({".json", ".safetensors", ".py", ".model", ".jinja", ".txt"})


@dataclass(frozen=True)
class Manifest:
    """The content of ``tailwise.json``.

    Attributes:
        engine: name of the engine that made the model.
        opens_with: the library that opens the folder, ``"tailwise"`` where no other one can.
        label_space: classes and training counts.
        task: what goes in and what comes out.
        recipe: the recipe as plain data.
        seed: the seed of the run.
        steps: fitted post-hoc steps, in order.
        model: what the engine's model needs beside weights.
        info: facts of the run.
        files: size and sha256 by file name, of everything but ``tailwise.json`` and ``README.md``.
        tailwise_version: the version that wrote the folder.
    """

    engine: str
    opens_with: FolderKind
    label_space: LabelSpace
    task: Task
    recipe: Mapping[str, Any]
    seed: int
    steps: tuple[AffineStep, ...]
    model: Mapping[str, Any]
    info: Mapping[str, Any]
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tailwise_version: str = ""

    @classmethod
    def of(cls, model: FittedModel, *, opens_with: FolderKind, settings: Mapping[str, Any]) -> Manifest:
        """The manifest of a fitted model; `settings` is what its loader needs beside weights."""
        return cls(
            engine=model.engine,
            opens_with=opens_with,
            label_space=model.label_space,
            task=model.task,
            recipe=model.recipe,
            seed=model.seed,
            steps=model.steps,
            model=settings,
            info=model.info,
            tailwise_version=installed_version("tailwise") or "unknown",
        )

    def write(self, folder: Path) -> None:
        """Write ``tailwise.json`` over the files that `folder` has now."""
        paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in (MANIFEST, "README.md"))
        files = {p.relative_to(folder).as_posix(): {"bytes": p.stat().st_size, "sha256": sha256_of(p)} for p in paths}
        data = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "tailwise_version": self.tailwise_version,
            "engine": self.engine,
            "opens_with": self.opens_with,
            "label_space": self.label_space.to_dict(),
            "task": self.task.to_dict(),
            "recipe": self.recipe,
            "seed": self.seed,
            "steps": [step.to_dict() for step in self.steps],
            "model": self.model,
            "info": self.info,
            "files": files,
        }
        write_json(folder / MANIFEST, plain(data))

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read ``tailwise.json`` and check every file it lists; nothing else is opened.

        Raises:
            ModelError: no tailwise model, written by a newer tailwise, broken, unsafe or changed; names file and key.
        """
        if not folder.is_dir():
            raise ModelError(f"There is no folder {str(folder)!r}. Give the folder that save_pretrained wrote.")
        if not (folder / MANIFEST).exists():
            raise ModelError(f"{folder} is not a tailwise model: it has no {MANIFEST}.")
        reader = _Reader(inside(folder, MANIFEST))
        version = reader.get("format_version", int)
        if reader.get("format", str) != FORMAT or version < 1:
            raise reader.error("format", f"expected {FORMAT!r}, version {FORMAT_VERSION}")
        if version > FORMAT_VERSION:
            raise reader.error("format_version", f"{version} is newer than this tailwise reads; upgrade tailwise")
        label_space = reader.label_space()
        manifest = cls(
            engine=reader.get("engine", str),
            opens_with=reader.one_of("opens_with", get_args(FolderKind)),
            label_space=label_space,
            task=reader.task(),
            recipe=reader.get("recipe", dict),
            seed=reader.get("seed", int),
            steps=reader.steps(label_space.num_classes),
            model=reader.get("model", dict),
            info=reader.get("info", dict),
            files=reader.files(),
            tailwise_version=reader.get("tailwise_version", str),
        )
        _check_files(folder, manifest.files)
        return manifest

    def setting(self, folder: Path, key: str, kind: type) -> Any:
        """A value of `model`, of the expected kind.

        Raises:
            ModelError: missing or of another kind; names file and key.
        """
        return _Reader(folder / MANIFEST, self.model, "model.").get(key, kind)

    def positive(self, folder: Path, key: str) -> int:
        """A count in `model`.

        Raises:
            ModelError: missing, no integer, or outside 1 to 1,000,000.
        """
        value = int(self.setting(folder, key, int))
        if not 1 <= value <= 1_000_000:
            raise _Reader(folder / MANIFEST, self.model, "model.").error(key, f"expected 1 to 1,000,000, found {value}")
        return value

    def require(self, folder: Path, *names: str) -> None:
        """Raise `ModelError` where the list of files lacks one of `names`."""
        for name in names:
            if name not in self.files:
                inside(folder, name)
                raise ModelError(f"{folder / MANIFEST}, key `files`: {name!r} is missing from the list.")

    def common(self) -> dict[str, Any]:
        """The keyword arguments that every `FittedModel` takes."""
        names = ("label_space", "task", "recipe", "seed", "engine", "steps", "info")
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name in names}


class _Reader:
    """Typed access to a JSON mapping, with errors that name the file and the key."""

    def __init__(self, path: Path, data: Mapping[str, Any] | None = None, prefix: str = "") -> None:
        self.path = path
        self.prefix = prefix
        found = read_json(path) if data is None else data
        if not isinstance(found, dict):
            raise ModelError(f"{path}: expected a mapping, but found a {type(found).__name__}.")
        self.data = found

    def error(self, key: str, problem: str) -> ModelError:
        return ModelError(f"{self.path}, key `{self.prefix}{key}`: {problem}.")

    def get(self, key: str, kind: type) -> Any:
        if key not in self.data:
            raise self.error(key, f"missing; expected a {kind.__name__}")
        return self._checked(key, self.data[key], kind)

    def _checked(self, key: str, value: Any, kind: type) -> Any:
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise self.error(key, f"expected a {kind.__name__}, but found a {type(value).__name__}")
        return value

    def one_of(self, key: str, known: tuple[str, ...]) -> Any:
        value = self.get(key, str)
        if value not in known:
            raise self.error(key, f"expected one of {', '.join(known)}, but found {value[:80]!r}")
        return value

    def items(self, key: str, kind: type) -> list[Any]:
        return [self._checked(f"{key}[{i}]", value, kind) for i, value in enumerate(self.get(key, list))]

    def label_space(self) -> LabelSpace:
        inner = _Reader(self.path, self.get("label_space", dict), "label_space.")
        names, counts = inner.items("names", str), inner.items("counts", int)
        unseen = inner.items("unseen", str)
        if len(names) < 2 or len({*names, *unseen}) != len(names) + len(unseen):
            raise inner.error("names", "expected two or more different class names")
        if any(not 0 <= count < 2**62 for count in counts):
            raise inner.error("counts", "expected training counts of 0 or more")
        catch_all = inner.data.get("catch_all")
        if not isinstance(catch_all, str | None):
            raise inner.error("catch_all", f"expected a class name or null, but found a {type(catch_all).__name__}")
        num_rows = inner.data.get("num_rows")
        if num_rows is not None and (type(num_rows) is not int or not 0 <= num_rows < 2**62):
            raise inner.error("num_rows", f"expected a number of rows or null, but found {num_rows!r:.40}")
        mark = inner.data.get("path_mark")
        if mark is not None and (not isinstance(mark, str) or not mark.strip()):
            raise inner.error(
                "path_mark", f"expected a mark between the parts of names or null, but found {mark!r:.40}"
            )
        try:
            return LabelSpace(
                tuple(names), np.asarray(counts, dtype=np.int64), catch_all, tuple(unseen), num_rows, mark
            )
        except DataError as error:
            raise self.error("label_space", str(error).rstrip(".")) from error

    def task(self) -> Task:
        inner = _Reader(self.path, self.get("task", dict), "task.")
        return Task(
            input_form=inner.one_of("input_form", get_args(InputForm)),
            label_structure=inner.one_of("label_structure", get_args(LabelStructure)),
        )

    def steps(self, num_classes: int) -> tuple[AffineStep, ...]:
        return tuple(self._step(i, data, num_classes) for i, data in enumerate(self.items("steps", dict)))

    def _step(self, position: int, data: Mapping[str, Any], num_classes: int) -> AffineStep:
        inner = _Reader(self.path, data, f"steps[{position}].")
        inner.get("name", str)
        inner.get("details", dict)
        for key in ("scale", "bias"):
            values = inner.items(key, float)
            if len(values) != num_classes:
                raise inner.error(key, f"expected one number per class, {num_classes}, but found {len(values)}")
        return AffineStep.from_dict(data)

    def files(self) -> dict[str, Mapping[str, Any]]:
        listed = self.get("files", dict)
        for name, facts in listed.items():
            check_name(name, f"{self.path}, key `files`")
            inner = _Reader(self.path, facts, f"files[{name!r}].")
            inner.get("bytes", int)
            inner.get("sha256", str)
        return dict(listed)


def _check_files(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    known = {folder / name for name in (MANIFEST, *files)}
    for path in sorted(path for place in {path.parent for path in known} if place.is_dir() for path in place.iterdir()):
        if path.suffix in _READ_UNASKED and path not in known:
            raise ModelError(
                f"{path}: the file is not part of the model ({MANIFEST} does not list it), but libraries that open the "
                "folder would read it. Move it elsewhere."
            )
    for name, facts in files.items():
        path = inside(folder, name)
        size = path.stat().st_size
        if size != facts["bytes"]:
            raise ModelError(f"{path}: expected {facts['bytes']} bytes, but found {size}. Copy the file again.")
        if path.suffix == ".safetensors":
            safetensors_shapes(path)
        elif path.suffix == ".json" and name != "tokenizer.json":
            check_settings(path)
        if sha256_of(path) != facts["sha256"]:
            raise ModelError(f"{path}: the content changed after the model was saved (sha256 differs). Copy it again.")


def installed_version(package: str) -> str | None:
    """The version of an installed package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def plain(value: Any) -> Any:
    """`value` as plain JSON data; a number that JSON cannot write becomes null.

    Raises:
        ModelError: an object that has no plain form.
    """
    if isinstance(value, bool | str | int) or value is None:
        return value
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, Path):
        return value.as_posix()
    if hasattr(value, "items"):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    raise ModelError(f"A {type(value).__name__} cannot be saved as JSON: {value!r}. Give plain data in `info`.")
