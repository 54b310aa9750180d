"""Label-wise attention on disk.

The folder holds the encoder and ``head.safetensors``, the queries, weights and biases of the labels. No other library
has such a head, so the folder opens through tailwise alone. It computes in float32, also where it was trained on states
in bfloat16.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tailwise.errors import ModelError
from tailwise.models.heads import HEADS
from tailwise.models.label_attention import LabelAttention
from tailwise.models.label_attention_model import LabelAttentionModel
from tailwise.models.saving_folder import write_tensors
from tailwise.models.saving_head import HEAD
from tailwise.models.saving_probe import head_component, load_encoder, load_head, save_encoder

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from tailwise.models.saving_manifest import Manifest

__all__ = ["holds_label_attention", "load_label_attention", "save_label_attention"]


def holds_label_attention(manifest: Manifest) -> bool:
    """Whether a folder describes a head on token states."""
    head = manifest.model.get("head")
    name = head.get("name") if isinstance(head, dict) else None
    return isinstance(name, str) and name in HEADS and HEADS[name].takes_token_states


def save_label_attention(model: LabelAttentionModel, folder: Path, *, self_contained: bool = True) -> dict[str, Any]:
    """Write encoder and head into an empty folder; returns the settings for the manifest."""
    encoder = model.encoder
    save_encoder(encoder, folder, self_contained=self_contained)
    write_tensors(folder / HEAD, model.head.state_dict())
    return {"pooling": encoder.pooling, "max_length": encoder.max_length, "head": head_component(model.recipe)}


def load_label_attention(
    folder: Path, manifest: Manifest, device: str | torch.device | None = None
) -> LabelAttentionModel:
    """The model of a checked folder.

    Raises:
        ModelError: weights that do not fit the labels, the configuration or each other; data of another kind.
    """
    task = manifest.task
    if task.label_structure != "multi" or manifest.engine != "probe":
        raise ModelError(
            f"{folder}: label-wise attention is a probe for several labels per row, but `task` and `engine` say "
            f"{task.label_structure!r} and {manifest.engine!r}. Copy the folder again from where it was saved."
        )
    manifest.require(folder, HEAD)
    encoder = load_encoder(folder, manifest, device)
    head = load_head(folder, manifest, encoder.dim)
    if not isinstance(head, LabelAttention):
        raise ModelError(f"{folder}: expected a head of label-wise attention, but found {type(head).__name__}.")
    return LabelAttentionModel(encoder=encoder, head=head, **manifest.common())
