"""``transitions.safetensors``: what a tag says about the next one, in the folder of a probe of tags."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from tailwise.errors import ModelError
from tailwise.models.saving_folder import write_tensors
from tailwise.models.saving_untrusted import load_tensors
from tailwise.models.tag_chain import TagChain

if TYPE_CHECKING:
    from pathlib import Path

    from tailwise.models.saving_manifest import Manifest

__all__ = ["load_tag_chain", "save_tag_chain"]

TRANSITIONS = "transitions.safetensors"


def save_tag_chain(chain: TagChain | None, folder: Path) -> dict[str, Any]:
    """Write a chain, if there is one; returns the settings for the manifest."""
    if chain is None:
        return {}
    tensors = {"transition": torch.from_numpy(chain.transition), "start": torch.from_numpy(chain.start)}
    write_tensors(folder / TRANSITIONS, tensors)
    return {"chain": True}


def load_tag_chain(folder: Path, manifest: Manifest) -> TagChain | None:
    """The chain of a checked folder, or None where it has none.

    Raises:
        ModelError: data without tags, tensors of other names, shapes or types, or numbers that are not finite.
    """
    if "chain" not in manifest.model:
        return None
    if not manifest.setting(folder, "chain", bool) or manifest.task.label_structure != "tags":
        raise ModelError(f"{folder}: transitions are for tags. Copy the folder again from where it was saved.")
    manifest.require(folder, TRANSITIONS)
    size = manifest.label_space.num_classes
    tensors = load_tensors(folder / TRANSITIONS, {"transition": (size, size), "start": (size,)})
    if not all(tensor.dtype == torch.float64 and bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise ModelError(f"{folder / TRANSITIONS}: expected finite numbers of 64 bits. Copy the file again.")
    return TagChain(tensors["transition"].numpy(), tensors["start"].numpy())
