"""Fine-tuned models on disk.

With a plain linear final layer the folder is a sequence-classification model of transformers, post-hoc steps folded into
its final layer: ``config.json``, ``model.safetensors``, the tokenizer. Any other final layer (cosine) no class of
transformers has, so the rest of the model lies in ``backbone/``, which opens through tailwise alone. Either way
``head.safetensors`` keeps the final layer before any post-hoc step, so that a reloaded model is the saved one.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tailwise.errors import ModelError
from tailwise.models.final_layer import AffineLayer, final_layer_name, replace_final_layer
from tailwise.models.finetuned import FinetunedModel
from tailwise.models.heads.base import AffineForm
from tailwise.models.saving_architecture import load_classifier, load_tokenizer, quiet_transformers, save_tokenizer
from tailwise.models.saving_folder import write_tensors
from tailwise.models.saving_untrusted import load_tensors
from tailwise.posthoc.base import compose

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel

    from tailwise.models.saving_manifest import FolderKind, Manifest

__all__ = ["kind_of_finetuned", "load_finetuned", "save_finetuned"]

HEAD = "head.safetensors"
BACKBONE = "backbone"
_ONE_FILE = "100000GB"


def kind_of_finetuned(model: FinetunedModel) -> FolderKind:
    """Which library opens the folder of a fine-tuned model."""
    return "transformers" if model.foldable else "tailwise"


def save_finetuned(model: FinetunedModel, folder: Path) -> dict[str, Any]:
    """Write weights, configuration and tokenizer into an empty folder; returns the settings for the manifest."""
    form = model.form
    tensors = {"weight": form.weight, "bias": form.bias, "centre": form.centre}
    write_tensors(folder / HEAD, {name: t.float() for name, t in tensors.items() if t is not None})
    if model.foldable:
        _save_plain(model.folded(), model, folder)
    else:
        layer = f"{model.layer_name}."
        state = {k: v for k, v in model.model.state_dict().items() if not k.startswith(layer)}
        _save_plain(model.model, model, folder / BACKBONE, state)
    save_tokenizer(model.tokenizer, folder, model.max_length)
    return {
        "layer": model.layer_name,
        "normalise": form.normalise,
        "centred": form.centre is not None,
        "max_length": model.max_length,
        "batch_size": model.batch_size,
    }


def _save_plain(
    network: PreTrainedModel, model: FinetunedModel, folder: Path, state: dict[str, torch.Tensor] | None = None
) -> None:
    config = copy.deepcopy(network.config)
    network.config.id2label = dict(enumerate(model.label_space.names))
    network.config.label2id = {name: i for i, name in enumerate(model.label_space.names)}
    network.config.problem_type = "single_label_classification"
    try:
        tensors = network.state_dict() if state is None else state
        floats = {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
        with quiet_transformers():
            network.save_pretrained(folder, state_dict=floats, max_shard_size=_ONE_FILE)
    finally:
        network.config = config


def load_finetuned(folder: Path, manifest: Manifest) -> FinetunedModel:
    """The model of a checked folder.

    Raises:
        ModelError: weights that do not fit the classes, the configuration or each other.
    """
    num_classes = manifest.label_space.num_classes
    layer_name = manifest.setting(folder, "layer", str)
    plain = manifest.opens_with == "transformers"
    manifest.require(
        folder, HEAD, *(f"{'' if plain else BACKBONE + '/'}{n}" for n in ("config.json", "model.safetensors"))
    )
    if plain:
        network = load_classifier(folder)
    else:
        absent = frozenset(f"{layer_name}.{name}" for name in ("weight", "bias"))
        network = load_classifier(folder / BACKBONE, without=absent)
    if final_layer_name(network, num_classes) != layer_name:
        raise ModelError(
            f"{folder}: {layer_name!r} is not the final layer of the model, which has {num_classes} classes."
        )
    final = network.get_submodule(layer_name)
    form = _load_form(folder, manifest, num_classes, int(final.in_features))
    if plain:
        _unfold(folder, manifest, final, form)
    else:
        replace_final_layer(network, layer_name, AffineLayer(form))
    return FinetunedModel(
        model=network,
        tokenizer=load_tokenizer(folder),
        max_length=manifest.positive(folder, "max_length"),
        batch_size=manifest.positive(folder, "batch_size"),
        **manifest.common(),
    )


def _load_form(folder: Path, manifest: Manifest, num_classes: int, num_features: int) -> AffineForm:
    expected = {"weight": (num_classes, num_features), "bias": (num_classes,)}
    if manifest.setting(folder, "centred", bool):
        expected["centre"] = (num_features,)
    tensors = load_tensors(folder / HEAD, expected)
    normalise = manifest.setting(folder, "normalise", bool)
    return AffineForm(tensors["weight"], tensors["bias"], tensors.get("centre"), normalise)


def _unfold(folder: Path, manifest: Manifest, final: torch.nn.Module, form: AffineForm) -> None:
    """Put the final layer back to what it was before the post-hoc steps, once it is shown that they lead to it."""
    weight, bias = compose(manifest.steps, len(form.bias)).fold(
        form.weight.double().numpy(), form.bias.double().numpy()
    )
    for name, folded in (("weight", weight), ("bias", bias)):
        parameter = final.get_parameter(name)
        if not np.allclose(parameter.detach().numpy(), folded, rtol=1e-5, atol=1e-6):
            raise ModelError(
                f"{folder / HEAD}: with the post-hoc steps of tailwise.json it does not give the {name} of the final layer "
                "in model.safetensors, so the two would disagree about predictions. Copy the folder again."
            )
        with torch.no_grad():
            parameter.copy_(form.weight if name == "weight" else form.bias)
