"""One copy of an encoder's weights for all model folders on a machine.

A folder of a saved probe holds the weights of its frozen encoder, 90 MB for the default one, the same in every run.
Where a folder need not stand alone, its file is a hard link to a read-only copy in the user's cache:

    $TAILWISE_CACHE/encoders/SHA256.safetensors      one copy per encoder, made once, mode 0444

The folder is whole all the same: every library opens it, and a copy of it (``cp -r``, ``tar``) is independent. The file
that the encoder came from is never linked: who saves over the weights of a model folder must not change an installed
package or the hub's cache. A copy that no folder links to goes when the next encoder comes.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from typing import TYPE_CHECKING

from tailwise.models.encoder_source import file_digest
from tailwise.models.feature_cache import default_root

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["link_weights", "shares_weights"]


def link_weights(source: Path, target: Path, root: Path | None = None) -> bool:
    """Make `target` a hard link to a read-only copy of `source`.

    Args:
        source: a safetensors file.
        target: a path that does not exist.
        root: folder of the copies; None takes the user's cache.

    Returns:
        Whether it is one; False, with nothing written, where the system has no hard links, or where `root` cannot be
        written or is on another file system.
    """
    if os.name != "posix":  # elsewhere a read-only file cannot be deleted with its folder
        return False
    folder = default_root().parent / "encoders" if root is None else root
    digest = file_digest(source)
    copy = folder / f"{digest}.safetensors"
    try:
        if not copy.is_file() or file_digest(copy) != digest:
            folder.mkdir(parents=True, exist_ok=True)
            _remove_unused(folder)
            _copy(source, copy)
        target.hardlink_to(copy)
    except OSError:
        return False
    return True


def shares_weights(folder: Path) -> bool:
    """Whether the weights of a model folder are a link to a copy that other folders may share."""
    weights = folder / "model.safetensors"
    return weights.is_file() and weights.stat().st_nlink > 1


def _copy(source: Path, copy: Path) -> None:
    partial = copy.with_name(f".{copy.stem}.{secrets.token_hex(4)}.partial")
    try:
        shutil.copyfile(source, partial)
        partial.chmod(0o444)
        partial.replace(copy)
    finally:
        partial.unlink(missing_ok=True)


def _remove_unused(folder: Path) -> None:
    for path in folder.glob("*.safetensors"):
        with contextlib.suppress(OSError):
            if path.stat().st_nlink == 1:
                path.unlink()
