"""Reading model folders that nobody vouches for.

Nothing here runs code from the folder or follows it elsewhere: names are checked before they become paths, sizes before
bytes are read, safetensors headers before tensors are allocated, and settings that make another library fetch or import
code are refused. Pickle files are never opened.

The hashes in ``tailwise.json`` show damage; they do not show who wrote the folder.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from tailwise.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

__all__ = [
    "check_name",
    "check_settings",
    "inside",
    "is_pickle",
    "load_tensors",
    "read_json",
    "safetensors_dtypes",
    "safetensors_shapes",
    "sha256_of",
]

MAX_JSON_BYTES = 64 * 2**20
MAX_JSON_DEPTH = 64
MAX_HEADER_BYTES = 100 * 10**6

_PICKLES = frozenset({".bin", ".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".dill", ".npy", ".npz", ".h5"})
_READABLE = frozenset({".json", ".safetensors", ".txt", ".model", ".jinja"})
#: files that make transformers load weights or code from elsewhere
_REDIRECTS = frozenset({"adapter_config.json", "model.safetensors.index.json"})
_PLAIN_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_ITEM_BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2"), 8),
}


def is_pickle(name: str) -> bool:
    """Whether a file name stands for a format that can run code when opened."""
    return Path(name).suffix.lower() in _PICKLES


def check_name(name: Any, where: str) -> str:
    """A file name from a JSON file, fit to be joined to the folder: ``file`` or ``subfolder/file``, of a known kind.

    Raises:
        ModelError: absolute, leading elsewhere, of odd characters, a pickle, or of a kind that no tailwise model has.
    """
    if not isinstance(name, str):
        raise ModelError(f"{where}: expected a file name, but got {name!r}.")
    parts = name.split("/")
    if len(parts) > 2 or not all(_PLAIN_PART.fullmatch(part) for part in parts):
        raise ModelError(
            f"{where}: {_shown(name)} is not a plain file name inside the model folder (`file` or `subfolder/file`, of "
            "letters, digits, '.', '_' and '-'). Do not use this folder unless you know who wrote it."
        )
    if is_pickle(name):
        raise ModelError(
            f"{where}: {name!r} is a pickle file, which can run code when opened, so tailwise never opens one. Ask for "
            "the model as safetensors, or save it again with tailwise."
        )
    if Path(name).suffix.lower() not in _READABLE or parts[-1] in _REDIRECTS:
        raise ModelError(f"{where}: {name!r} is not a file that a tailwise model consists of.")
    return name


def inside(folder: Path, name: str) -> Path:
    """The path of a checked `name`, which must be a regular file that really lies in `folder`.

    Raises:
        ModelError: missing (with the pickle of the same purpose named where there is one), no file, or a link outward.
    """
    path = folder / name
    if not path.exists():
        raise ModelError(_missing(folder, name))
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ModelError(
            f"{path}: the file is a link to {path.resolve()}, outside the model folder. Copy the folder with its links "
            "resolved (`cp -rL`), if you trust it."
        )
    if not path.is_file():
        raise ModelError(f"{path}: expected a file, but found something else.")
    return path


def _missing(folder: Path, name: str) -> str:
    parent = (folder / name).parent
    pickles = sorted(p.name for p in parent.iterdir() if is_pickle(p.name)) if parent.is_dir() else []
    if pickles and name.endswith(".safetensors"):
        return (
            f"{folder / name} is missing; there is only {', '.join(pickles)}, a pickle file, which can run code when "
            "opened, so tailwise never opens one. Ask for the model as safetensors, or save it again with tailwise."
        )
    return f"{folder / name} is missing. Copy the whole folder again."


def read_json(path: Path, *, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Parse a JSON file of bounded size and depth; NaN and infinities are no JSON.

    Raises:
        ModelError: too large, too deep, not UTF-8 or not JSON; names the file.
    """
    size = path.stat().st_size
    if size > max_bytes:
        raise ModelError(f"{path}: {size} bytes of JSON, where at most {max_bytes} are expected. The file is not read.")
    try:
        data = json.loads(path.read_bytes(), parse_constant=_refuse_constant)
    except RecursionError:
        raise ModelError(f"{path}: the JSON is nested more than {MAX_JSON_DEPTH} levels deep.") from None
    except ValueError as error:
        raise ModelError(f"{path}: not valid JSON ({error}). Copy the file again.") from error
    if _depth_exceeds(data, MAX_JSON_DEPTH):
        raise ModelError(f"{path}: the JSON is nested more than {MAX_JSON_DEPTH} levels deep.")
    return data


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _depth_exceeds(data: Any, limit: int) -> bool:
    level = [data]
    for _ in range(limit):
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return False
    return True


def check_settings(path: Path) -> None:
    """Refuse settings of other libraries that fetch code, import code or name files elsewhere.

    Raises:
        ModelError: names the file and the key.
    """
    for key, value in _items(read_json(path)):
        problem = _problem(key, value)
        if problem:
            raise ModelError(
                f"{path}: the key {key!r} {problem} ({_shown(value)}). tailwise never runs code that comes with a "
                "model. Remove the key if you trust the rest of the folder."
            )


def _problem(key: str, value: Any) -> str | None:
    code = key in {"auto_map", "custom_pipelines"} and isinstance(value, dict | list | str) and value
    if code or (key == "trust_remote_code" and value is True):
        return "asks for code from the model's repository"
    if key in {"attn_implementation", "_attn_implementation", "experts_implementation"} and "/" in str(value):
        return "asks for a kernel from the hub"
    if key.endswith("_file") and isinstance(value, str) and not _PLAIN_PART.fullmatch(value):
        return "names a file outside the folder"
    return None


def _items(data: Any) -> Iterator[tuple[str, Any]]:
    """Every key and value of a JSON document, at any depth."""
    pending = [data]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            yield from item.items()
            pending += item.values()
        elif isinstance(item, list):
            pending += item


def safetensors_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors in a safetensors file, from a header that was checked against the file's size.

    Raises:
        ModelError: header longer than the file or 100 MB, not JSON, offsets outside the data, or sizes that disagree.
    """
    header, data_bytes = _read_header(path)
    shapes = {name: _shape(path, name, entry, data_bytes) for name, entry in header.items()}
    if sum(entry["data_offsets"][1] - entry["data_offsets"][0] for entry in header.values()) != data_bytes:
        raise ModelError(
            f"{path}: the tensors do not fill the {data_bytes} bytes of data exactly. Copy the file again."
        )
    return shapes


def safetensors_dtypes(path: Path) -> set[str]:
    """Types of the tensors in a safetensors file, as ``"F32"``.

    Raises:
        ModelError: as `safetensors_shapes`.
    """
    safetensors_shapes(path)
    return {entry["dtype"] for entry in _read_header(path)[0].values()}


def _read_header(path: Path) -> tuple[Mapping[str, Any], int]:
    """Entries by tensor name, and the number of bytes that follow."""
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 2 <= length <= min(size - 8, MAX_HEADER_BYTES):
            raise ModelError(
                f"{path}: not a usable safetensors file: it announces a header of {length} bytes, but the file has "
                f"{size} bytes and a header has at most {MAX_HEADER_BYTES}. Copy the file again."
            )
        header = _header(path, file.read(length))
    return header, size - 8 - length


def _header(path: Path, raw: bytes) -> Mapping[str, Any]:
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: the safetensors header is not valid JSON ({error}). Copy the file again.") from None
    if not isinstance(header, dict):
        raise ModelError(f"{path}: the safetensors header is a {type(header).__name__}, not a mapping.")
    return {name: entry for name, entry in header.items() if name != "__metadata__"}


def _shape(path: Path, name: str, entry: Any, data_bytes: int) -> tuple[int, ...]:
    if not isinstance(entry, dict) or entry.get("dtype") not in _ITEM_BITS:
        raise ModelError(f"{path}: the tensor {_shown(name)} has no known type: {_shown(entry)}.")
    shape, offsets = entry.get("shape"), entry.get("data_offsets")
    if not (_are_sizes(shape) and _are_sizes(offsets) and len(offsets) == 2):
        raise ModelError(f"{path}: the tensor {_shown(name)} has no valid shape and offsets: {_shown(entry)}.")
    begin, end = offsets
    if not begin <= end <= data_bytes:
        raise ModelError(
            f"{path}: the tensor {_shown(name)} claims bytes {begin} to {end}, but the file holds {data_bytes} bytes "
            "of data."
        )
    if math.prod(shape) * _ITEM_BITS[entry["dtype"]] != 8 * (end - begin):
        raise ModelError(f"{path}: the tensor {_shown(name)} of shape {shape} does not fit its {end - begin} bytes.")
    return tuple(shape)


def _are_sizes(values: Any) -> TypeGuard[list[int]]:
    return isinstance(values, list) and len(values) <= 8 and all(type(v) is int and v >= 0 for v in values)


def load_tensors(path: Path, expected: Mapping[str, tuple[int, ...]] | None = None) -> dict[str, Tensor]:
    """All tensors of a safetensors file, on the CPU.

    Args:
        path: the file.
        expected: shapes by name, checked before anything is allocated.

    Raises:
        ModelError: as `safetensors_shapes`, or names and shapes that differ from `expected`.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    shapes = safetensors_shapes(path)
    if expected is not None and shapes != dict(expected):
        differing = sorted(n for n in {*shapes, *expected} if shapes.get(n) != expected.get(n))
        name = differing[0]
        raise ModelError(
            f"{path}: expected the tensor {_shown(name)} with shape {expected.get(name, 'absent')}, but found "
            f"{shapes.get(name, 'absent')}. The weights belong to another model."
        )
    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise ModelError(f"{path}: not a usable safetensors file ({error}). Copy the file again.") from error


def sha256_of(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
