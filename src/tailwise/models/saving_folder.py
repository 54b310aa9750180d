"""Writing a model folder: whole, or not at all."""

from __future__ import annotations

import json
import secrets
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailwise.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

__all__ = ["MANIFEST", "new_folder", "write_json", "write_tensors"]

MANIFEST = "tailwise.json"


@contextmanager
def new_folder(folder: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """An empty folder beside `folder` that takes its place when the block ends; on an error nothing changes.

    An empty folder and an older tailwise model are replaced; anything else only with `overwrite`.

    Raises:
        ModelError: `folder` may not be replaced.
    """
    folder = folder.absolute()
    _check_replaceable(folder, overwrite)
    folder.parent.mkdir(parents=True, exist_ok=True)
    mark = secrets.token_hex(4)
    partial, old = (folder.with_name(f".{folder.name}.{mark}.{suffix}") for suffix in ("partial", "old"))
    partial.mkdir()
    try:
        yield partial
        for path in partial.rglob("*"):
            # Some writers make files that only the owner can read; a linked file belongs to others too.
            if path.is_file() and path.stat().st_nlink == 1:
                path.chmod(partial.stat().st_mode & 0o666)
        if folder.exists():
            folder.rename(old)
        try:
            partial.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check_replaceable(folder: Path, overwrite: bool) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise ModelError(f"{folder} is a file or a link, so no model is saved there. Give another folder.")
    if not folder.exists():
        return
    if any(folder.resolve() in (here.resolve(), *here.resolve().parents) for here in (Path.cwd(), Path.home())):
        raise ModelError(f"{folder} contains the working directory or the home directory. Give a folder of its own.")
    strangers = _strangers(folder)
    if strangers and not overwrite:
        raise ModelError(
            f"{folder} holds {', '.join(strangers[:3])}{', ...' if len(strangers) > 3 else ''}, which no tailwise "
            "model wrote. Give another folder, or pass overwrite=True to replace the whole of it."
        )


def _strangers(folder: Path) -> list[str]:
    """Files in `folder` that an older tailwise model did not write."""
    try:
        listed = json.loads((folder / MANIFEST).read_bytes())["files"]
        known = {MANIFEST, "README.md", *listed}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        known = set()
    names = (p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*")) if not p.is_dir())
    return [name for name in names if name not in known]


def write_json(path: Path, data: Any) -> None:
    """Plain data as strict JSON in UTF-8; makes the parent folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, ensure_ascii=False, allow_nan=False, indent=2) + "\n", encoding="utf-8")


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Tensors as safetensors (read by PyTorch), copied to the CPU; makes the parent folder."""
    from safetensors.torch import save

    path.parent.mkdir(parents=True, exist_ok=True)
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    path.write_bytes(save(plain, metadata={"format": "pt"}))
