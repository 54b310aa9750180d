"""Probes on disk.

The folder holds the encoder in float32. An affine head goes, post-hoc steps folded in, into the last layer of a
sentence-transformers model; any other head, one that sees more than the vector of a single text (pairs, relations,
tokens), and one beside a head on lexical features open through tailwise alone. Either way ``head.safetensors`` keeps
the head before any post-hoc step, so that a reloaded probe is the saved one. It computes in float32, as
sentence-transformers does, also where it was trained on features in bfloat16. A head on lexical features and what makes
them lie in ``lexical``; see `tailwise.models.saving_lexical`.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from tailwise.errors import ModelError, TailwiseError
from tailwise.models.encoder import Encoder
from tailwise.models.heads.affine import folded
from tailwise.models.heads.base import AffineForm
from tailwise.models.heads.building import build_head
from tailwise.models.probe import ProbeModel
from tailwise.models.quiet import quiet_transformers
from tailwise.models.row_features import row_width
from tailwise.models.saving_architecture import (
    check_architecture,
    save_tokenizer,
    without_code,
)
from tailwise.models.saving_folder import write_json, write_tensors
from tailwise.models.saving_head import HEAD, check_agreement, read_head, write_head
from tailwise.models.saving_lexical import holds_lexical_part, load_lexical_part, save_lexical_part
from tailwise.models.saving_tag_chain import load_tag_chain, save_tag_chain
from tailwise.models.saving_untrusted import load_tensors, safetensors_dtypes
from tailwise.models.sentence_transformers_export import write_modules
from tailwise.models.shared_weights import link_weights

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

    from tailwise.models.heads.base import Head
    from tailwise.models.pooling import Pooling
    from tailwise.models.saving_manifest import FolderKind, Manifest

__all__ = [
    "head_component", "kind_of_probe", "load_encoder", "load_head", "load_probe", "save_encoder", "save_probe",
]  # fmt: skip

_ENCODER_FILES = ("config.json", "model.safetensors", "tokenizer_config.json")


def kind_of_probe(model: ProbeModel) -> FolderKind:
    """Which library opens the folder of a probe."""
    plain = isinstance(model.head, AffineForm) and model.task.input_form == "text" and model.lexical is None
    return "sentence-transformers" if plain else "tailwise"


def save_probe(model: ProbeModel, folder: Path, *, self_contained: bool = True) -> dict[str, Any]:
    """Write encoder and heads into an empty folder; returns the settings for the manifest."""
    encoder, head = model.encoder, model.head
    settings: dict[str, Any] = {} if model.lexical is None else save_lexical_part(model.lexical, folder)
    settings |= save_tag_chain(model.chain, folder)
    if encoder is None or head is None:
        return settings
    save_encoder(encoder, folder, self_contained=self_contained)
    settings |= {"pooling": encoder.pooling, "max_length": encoder.max_length}
    if model.task.by_token:
        settings["layers"] = "all"
    if isinstance(head, AffineForm) and kind_of_probe(model) == "tailwise":
        return {**settings, "affine": True, **write_head(head, folder)}
    if not isinstance(head, AffineForm):
        write_tensors(folder / HEAD, head.state_dict())
        return {**settings, "head": head_component(model.recipe)}
    layer = write_modules(
        folder, folded(head, model.adjustment), pooling=encoder.pooling, max_length=encoder.max_length
    )
    return {**settings, "layer": layer, **write_head(head, folder)}


def save_encoder(encoder: Encoder, folder: Path, *, self_contained: bool = True) -> None:
    """Write an encoder in float32 into an empty folder; without `self_contained` its weights are a link if possible."""
    weights = encoder.path / "model.safetensors"
    if weights.is_file() and safetensors_dtypes(weights) <= {"F32", "I64", "I32", "BOOL"}:
        target = folder / "model.safetensors"
        if self_contained or not link_weights(weights, target):
            shutil.copyfile(weights, target)
        config = json.loads((encoder.path / "config.json").read_bytes())
    else:
        network = Encoder.from_pretrained(str(encoder.path.absolute()), dtype="float32", device="cpu").model
        with quiet_transformers():
            network.save_pretrained(folder, max_shard_size="100000GB")
        config = json.loads((folder / "config.json").read_bytes())
    config.pop("torch_dtype", None)
    write_json(folder / "config.json", without_code({**config, "dtype": "float32"}))
    save_tokenizer(encoder.tokenizer, folder, encoder.max_length)


def head_component(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Name and parameters of the last head of a recipe."""
    found = recipe.get("head", "linear")
    for stage in recipe.get("stages", ()):
        found = stage.get("head", found)
    return {"name": found} if isinstance(found, str) else dict(found)


def load_probe(folder: Path, manifest: Manifest, device: str | torch.device | None = None) -> ProbeModel:
    """The probe of a checked folder.

    Raises:
        ModelError: weights that do not fit the classes, the configuration or each other.
    """
    lexical = load_lexical_part(folder, manifest) if holds_lexical_part(manifest) else None
    chain = load_tag_chain(folder, manifest)
    if lexical is not None and "pooling" not in manifest.model:
        return ProbeModel(encoder=None, head=None, lexical=lexical, chain=chain, **manifest.common())
    manifest.require(folder, HEAD)
    if manifest.task.by_token and manifest.setting(folder, "layers", str) != "all":
        raise ModelError(f"{folder}: the head is for other states than the mean over all layers. Train it again.")
    encoder = load_encoder(folder, manifest, device)
    head: AffineForm | Head
    width = row_width(manifest.task.input_form, encoder.dim)
    if manifest.opens_with == "sentence-transformers":
        head = read_head(folder, manifest, width)
        _check_last_layer(folder, manifest, head)
    elif manifest.model.get("affine") is True:
        head = read_head(folder, manifest, width)
    else:
        head = load_head(folder, manifest, width)
    return ProbeModel(encoder=encoder, head=head, lexical=lexical, chain=chain, **manifest.common())


def load_encoder(folder: Path, manifest: Manifest, device: str | torch.device | None = None) -> Encoder:
    """The encoder of a checked folder, as `save_encoder` wrote it.

    Raises:
        ModelError: weights that do not fit the configuration, or settings that the encoder does not take.
    """
    from transformers import AutoModel

    manifest.require(folder, *_ENCODER_FILES)
    pooling: Pooling = manifest.setting(folder, "pooling", str)
    max_length = manifest.positive(folder, "max_length")
    check_architecture(folder, AutoModel.from_config)
    try:
        encoder = Encoder.from_pretrained(
            str(folder.absolute()),
            pooling=pooling,
            max_length=max_length,
            device=device,
            dtype="float32",
        )
        encoder.model  # noqa: B018  # the weights are read now, while the folder is there and checked
    except ModelError:
        raise
    except TailwiseError as error:
        raise ModelError(f"{folder}: the encoder cannot be used: {error}") from error
    if encoder.max_length != max_length:
        raise ModelError(
            f"{folder}: tailwise.json says `model.max_length` = {max_length}, but the encoder takes at most "
            f"{encoder.max_length} tokens. Copy the folder again from where it was saved."
        )
    return encoder


def _check_last_layer(folder: Path, manifest: Manifest, head: AffineForm) -> None:
    name = f"{manifest.setting(folder, 'layer', str)}/model.safetensors"
    manifest.require(folder, name)
    shapes = {"linear.weight": tuple(head.weight.shape), "linear.bias": tuple(head.bias.shape)}
    layer = load_tensors(folder / name, shapes)
    check_agreement(folder, manifest, head, layer["linear.weight"], layer["linear.bias"])


def load_head(folder: Path, manifest: Manifest, dim: int) -> Head:
    """The head that `model.head` describes, on features of length `dim`.

    Raises:
        ModelError: no such head, or tensors of other names or shapes.
    """
    component = dict(manifest.setting(folder, "head", dict))
    try:
        head = build_head(str(component.pop("name", "")), component, dim, manifest.label_space.num_classes)
    except (TailwiseError, TypeError) as error:
        raise ModelError(f"{folder}: the head cannot be built: {error}") from error
    expected = {name: tuple(tensor.shape) for name, tensor in head.state_dict().items()}
    head.load_state_dict(load_tensors(folder / HEAD, expected))
    return head.eval()
