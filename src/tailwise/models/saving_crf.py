"""Conditional random fields on disk.

``head.safetensors`` holds the weights of the attributes in compressed rows and those of pairs of tags, in float64;
``attributes.json`` names the rows. There is no encoder, and no file of CRFsuite, whose reader trusts what it reads. The
folder opens through tailwise alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.sparse import csr_array

from tailwise.errors import ModelError, TailwiseError
from tailwise.models.crf import CRF
from tailwise.models.crf_model import CRFModel
from tailwise.models.heads import HEADS
from tailwise.models.heads.building import build_head
from tailwise.models.saving_folder import write_json, write_tensors
from tailwise.models.saving_head import HEAD
from tailwise.models.saving_probe import head_component
from tailwise.models.saving_untrusted import MAX_JSON_BYTES, load_tensors, read_json, safetensors_dtypes

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from tailwise.models.saving_manifest import Manifest

__all__ = ["holds_crf", "load_crf", "save_crf"]

ATTRIBUTES = "attributes.json"


def holds_crf(manifest: Manifest) -> bool:
    """Whether a folder describes a head that reads words."""
    head = manifest.model.get("head")
    name = head.get("name") if isinstance(head, dict) else None
    return isinstance(name, str) and name in HEADS and HEADS[name].reads_words


def save_crf(model: CRFModel, folder: Path) -> dict[str, Any]:
    """Write weights and names into an empty folder; returns the settings for the manifest.

    Raises:
        ModelError: more names than `load_crf` reads.
    """
    head, weight = model.head, model.head.weight
    write_json(folder / ATTRIBUTES, list(model.attributes))
    if (folder / ATTRIBUTES).stat().st_size > MAX_JSON_BYTES:
        raise ModelError(
            f"{len(model.attributes):,} attributes have a weight, whose names take more than the {MAX_JSON_BYTES} "
            "bytes that a model folder may have of them. Train with a larger `c1`, which drops attributes."
        )
    tensors = {
        "row_ends": torch.from_numpy(weight.indptr[1:].astype(np.int64)),
        "tags": torch.from_numpy(weight.indices.astype(np.int64)),
        "values": torch.from_numpy(weight.data),
        "transition": torch.from_numpy(head.transition),
    }
    write_tensors(folder / HEAD, tensors)
    return {"head": head_component(model.recipe), "attributes": len(model.attributes), "weights": int(weight.nnz)}


def load_crf(folder: Path, manifest: Manifest) -> CRFModel:
    """The model of a checked folder.

    Raises:
        ModelError: weights or names that do not fit the tags or each other; data of another kind.
    """
    task = manifest.task
    if task.label_structure != "tags" or manifest.engine != "probe":
        raise ModelError(
            f"{folder}: a conditional random field is a probe for tags, but `task` and `engine` say "
            f"{task.label_structure!r} and {manifest.engine!r}. Copy the folder again from where it was saved."
        )
    manifest.require(folder, HEAD, ATTRIBUTES)
    names = _names(folder, manifest)
    head = _head(folder, manifest, len(names))
    num_weights, num_tags = manifest.setting(folder, "weights", int), head.num_classes
    expected = {
        "row_ends": (len(names),), "tags": (num_weights,), "values": (num_weights,), "transition": (num_tags, num_tags),
    }  # fmt: skip
    tensors = load_tensors(folder / HEAD, expected)
    if safetensors_dtypes(folder / HEAD) != {"F64", "I64"}:
        raise ModelError(f"{folder / HEAD}: expected numbers of 64 bits. Copy the file again.")
    head.weight = _weight(folder, tensors, (len(names), num_tags))
    head.transition = tensors["transition"].numpy()
    return CRFModel(head=head, attributes=names, **manifest.common())


def _names(folder: Path, manifest: Manifest) -> list[str]:
    names = read_json(folder / ATTRIBUTES)
    count = manifest.setting(folder, "attributes", int)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ModelError(f"{folder / ATTRIBUTES}: expected a list of names. Copy the file again.")
    if len(set(names)) != len(names) or len(names) != count:
        raise ModelError(f"{folder / ATTRIBUTES}: expected {count} different names, but found {len(set(names))}.")
    return names


def _head(folder: Path, manifest: Manifest, num_attributes: int) -> CRF:
    component = dict(manifest.setting(folder, "head", dict))
    try:
        head = build_head(str(component.pop("name", "")), component, num_attributes, manifest.label_space.num_classes)
    except (TailwiseError, TypeError) as error:
        raise ModelError(f"{folder}: the head cannot be built: {error}") from error
    if not isinstance(head, CRF):
        raise ModelError(f"{folder}: expected a conditional random field, but found {type(head).__name__}.")
    return head


def _weight(folder: Path, tensors: dict[str, Tensor], shape: tuple[int, int]) -> csr_array:
    """Rows of weights, whose places are checked before any of them is looked up."""
    tags, values = tensors["tags"].numpy(), tensors["values"].numpy()
    starts: NDArray[np.int64] = np.concatenate([np.zeros(1, dtype=np.int64), tensors["row_ends"].numpy()])
    if (np.diff(starts) < 0).any() or starts[-1] != len(tags) or ((tags < 0) | (tags >= shape[1])).any():
        raise ModelError(f"{folder / HEAD}: the rows of the weights do not fit {shape[1]} tags. Copy the file again.")
    if not (np.isfinite(values).all() and np.isfinite(tensors["transition"].numpy()).all()):
        raise ModelError(f"{folder / HEAD}: found weights that are not finite. Copy the file again.")
    return csr_array((values, tags, starts), shape=shape)
