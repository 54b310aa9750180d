"""``head.safetensors``: an affine head as it was before any post-hoc step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tailwise.errors import ModelError
from tailwise.models.heads.affine import folded
from tailwise.models.heads.base import AffineForm
from tailwise.models.saving_folder import write_tensors
from tailwise.models.saving_untrusted import load_tensors
from tailwise.posthoc.base import compose

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from tailwise.models.saving_manifest import Manifest

__all__ = ["HEAD", "check_agreement", "read_head", "write_head"]

HEAD = "head.safetensors"


def write_head(form: AffineForm, folder: Path) -> dict[str, Any]:
    """Write the head; returns what `read_head` needs beside it."""
    tensors = {"weight": form.weight, "bias": form.bias, "centre": form.centre}
    write_tensors(folder / HEAD, {name: t.float() for name, t in tensors.items() if t is not None})
    return {"normalise": form.normalise, "centred": form.centre is not None, "blocks": form.blocks}


def read_head(folder: Path, manifest: Manifest, num_features: int) -> AffineForm:
    """The head, of as many classes as the label space has.

    Raises:
        ModelError: tensors of other names or shapes.
    """
    num_classes = manifest.label_space.num_classes
    expected: dict[str, tuple[int, ...]] = {"weight": (num_classes, num_features), "bias": (num_classes,)}
    if manifest.setting(folder, "centred", bool):
        expected["centre"] = (num_features,)
    tensors = load_tensors(folder / HEAD, expected)
    normalise = manifest.setting(folder, "normalise", bool)
    blocks = manifest.positive(folder, "blocks") if "blocks" in manifest.model else 1
    if num_features % blocks:
        raise ModelError(
            f"{folder}: tailwise.json says `model.blocks` = {blocks}, which does not divide the {num_features} "
            "features of the head. Copy the folder again from where it was saved."
        )
    return AffineForm(tensors["weight"], tensors["bias"], tensors.get("centre"), normalise, blocks)


def check_agreement(folder: Path, manifest: Manifest, head: AffineForm, weight: Tensor, bias: Tensor) -> None:
    """The head with its post-hoc steps must be the last layer that other libraries apply.

    Raises:
        ModelError: it is not.
    """
    whole = folded(head, compose(manifest.steps, len(head.bias)))
    for what, expected, found in (("weight", whole.weight, weight), ("bias", whole.bias, bias)):
        if not np.allclose(found.detach().numpy(), expected.numpy(), rtol=1e-5, atol=1e-6):
            raise ModelError(
                f"{folder / HEAD}: with the post-hoc steps of tailwise.json it does not give the {what} of the last "
                f"layer that {manifest.opens_with} applies, so the two would disagree about predictions. Copy the "
                "folder again."
            )
