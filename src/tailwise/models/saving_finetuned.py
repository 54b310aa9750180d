"""Fine-tuned models on disk.

With a plain linear final layer the folder is a model of transformers that classifies sequences (or tokens, where tokens
are labelled), post-hoc steps folded into its final layer: ``config.json``, ``model.safetensors``, the tokenizer. Any
other final layer (cosine) no class of transformers has, so the rest of the model lies in ``backbone/``, which opens
through tailwise alone. Either way ``head.safetensors`` keeps the final layer before any post-hoc step, so that a
reloaded model is the saved one.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch

from tailwise.errors import ModelError
from tailwise.models.encoder import default_device
from tailwise.models.final_layer import AffineLayer, final_layer_name, num_features, replace_final_layer
from tailwise.models.finetuned import FinetunedModel
from tailwise.models.quiet import quiet_transformers
from tailwise.models.saving_architecture import load_classifier, load_tokenizer, save_tokenizer
from tailwise.models.saving_head import HEAD, check_agreement, read_head, write_head

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel

    from tailwise.models.saving_manifest import FolderKind, Manifest

__all__ = ["kind_of_finetuned", "load_finetuned", "save_finetuned"]

BACKBONE = "backbone"
_ONE_FILE = "100000GB"


def kind_of_finetuned(model: FinetunedModel) -> FolderKind:
    """Which library opens the folder of a fine-tuned model."""
    return "transformers" if model.foldable else "tailwise"


def save_finetuned(model: FinetunedModel, folder: Path) -> dict[str, Any]:
    """Write weights, configuration and tokenizer into an empty folder; returns the settings for the manifest."""
    head = write_head(model.form, folder)
    if model.foldable:
        _save_plain(model.folded(), model, folder)
    else:
        layer = f"{model.layer_name}."
        state = {k: v for k, v in model.model.state_dict().items() if not k.startswith(layer)}
        _save_plain(model.model, model, folder / BACKBONE, state)
    save_tokenizer(model.tokenizer, folder, model.max_length)
    return {
        "layer": model.layer_name,
        **head,
        "max_length": model.max_length,
        "batch_size": model.batch_size,
    }


def _save_plain(
    network: PreTrainedModel, model: FinetunedModel, folder: Path, state: dict[str, torch.Tensor] | None = None
) -> None:
    config = copy.deepcopy(network.config)
    network.config.id2label = dict(enumerate(model.label_space.names))
    network.config.label2id = {name: i for i, name in enumerate(model.label_space.names)}
    structure = model.task.label_structure
    if structure != "tags":
        multi = structure == "multi"
        network.config.problem_type = "multi_label_classification" if multi else "single_label_classification"
    try:
        tensors = network.state_dict() if state is None else state
        floats = {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
        with quiet_transformers():
            network.save_pretrained(folder, state_dict=floats, max_shard_size=_ONE_FILE)
    finally:
        network.config = config


def load_finetuned(folder: Path, manifest: Manifest, device: str | torch.device | None = None) -> FinetunedModel:
    """The model of a checked folder.

    Raises:
        ModelError: weights that do not fit the classes, the configuration or each other.
    """
    num_classes = manifest.label_space.num_classes
    layer_name = manifest.setting(folder, "layer", str)
    plain = manifest.opens_with == "transformers"
    by_token = manifest.task.label_structure == "tags"
    manifest.require(
        folder, HEAD, *(f"{'' if plain else BACKBONE + '/'}{n}" for n in ("config.json", "model.safetensors"))
    )
    if plain:
        network = load_classifier(folder, by_token=by_token)
    else:
        absent = frozenset(f"{layer_name}.{name}" for name in ("weight", "bias"))
        network = load_classifier(folder / BACKBONE, by_token=by_token, without=absent)
    if final_layer_name(network, num_classes) != layer_name:
        raise ModelError(
            f"{folder}: {layer_name!r} is not the final layer of the model, which has {num_classes} classes."
        )
    final = network.get_submodule(layer_name)
    form = read_head(folder, manifest, num_features(final))
    if plain:
        weight, bias = final.get_parameter("weight"), final.get_parameter("bias")
        check_agreement(folder, manifest, form, weight, bias)
        with torch.no_grad():  # back to what it was before the post-hoc steps
            weight.copy_(form.weight)
            bias.copy_(form.bias)
    else:
        replace_final_layer(network, layer_name, AffineLayer(form))
    torch.nn.Module.to(network, default_device(device))
    return FinetunedModel(
        model=network,
        tokenizer=load_tokenizer(folder),
        max_length=manifest.positive(folder, "max_length"),
        batch_size=manifest.positive(folder, "batch_size"),
        **manifest.common(),
    )
