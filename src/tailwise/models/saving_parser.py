"""Parsers on disk.

The folder holds the encoder, with the weights of the fine-tuning where it was trained, and ``parser.safetensors``, the
network on its word features. No other library has such a model, so the folder opens through tailwise alone. It computes
in float32, also where it was trained on features in bfloat16.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast, get_args

from tailwise.errors import ModelError, TailwiseError
from tailwise.models.encoder import Encoder
from tailwise.models.feature_cache import FeatureCache
from tailwise.models.parsing.decoding import Algorithm
from tailwise.models.parsing.model import ParserModel
from tailwise.models.parsing.network import ParserNetwork
from tailwise.models.quiet import quiet_transformers
from tailwise.models.saving_architecture import check_architecture, save_tokenizer, without_code
from tailwise.models.saving_folder import write_json, write_tensors
from tailwise.models.saving_untrusted import load_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

    from tailwise.models.saving_manifest import Manifest

__all__ = ["load_parser", "save_parser"]

NETWORK = "parser.safetensors"
_ENCODER_FILES = ("config.json", "model.safetensors", "tokenizer_config.json")
_SIZES = {"layers": 16, "hidden": 65_536, "arc": 65_536, "relation": 65_536}


def save_parser(model: ParserModel, folder: Path) -> dict[str, Any]:
    """Write encoder and network into an empty folder; returns the settings for the manifest."""
    encoder = model.encoder
    weights = {k: v.float() if v.is_floating_point() else v for k, v in encoder.model.state_dict().items()}
    with quiet_transformers():
        encoder.model.save_pretrained(folder, state_dict=weights, max_shard_size="100000GB")
    config = json.loads((folder / "config.json").read_bytes())
    config.pop("torch_dtype", None)
    write_json(folder / "config.json", without_code({**config, "dtype": "float32"}))
    save_tokenizer(encoder.tokenizer, folder, encoder.max_length)
    write_tensors(folder / NETWORK, model.network.state_dict())
    return {"max_length": encoder.max_length, "algorithm": model.algorithm, "network": model.network.settings()}


def load_parser(folder: Path, manifest: Manifest, device: str | torch.device | None = None) -> ParserModel:
    """The parser of a checked folder.

    Raises:
        ModelError: weights that do not fit the classes, the configuration or each other.
    """
    from transformers import AutoModel

    manifest.require(folder, NETWORK, *_ENCODER_FILES)
    algorithm = manifest.setting(folder, "algorithm", str)
    if algorithm not in get_args(Algorithm):
        raise ModelError(f"{folder}: expected `model.algorithm` 'mst' or 'eisner', but found {algorithm[:80]!r}.")
    max_length = manifest.positive(folder, "max_length")
    check_architecture(folder, AutoModel.from_config)
    try:
        encoder = Encoder.from_pretrained(str(folder.absolute()), max_length=max_length, device=device, dtype="float32")
        encoder.model  # noqa: B018  # the weights are read now, while the folder is there and checked
    except ModelError:
        raise
    except TailwiseError as error:
        raise ModelError(f"{folder}: the encoder cannot be used: {error}") from error
    network = _load_network(folder, manifest, encoder.dim)
    cache = FeatureCache(max_bytes=0) if manifest.engine == "finetune" else None
    return ParserModel(
        encoder=encoder, network=network, algorithm=cast("Algorithm", algorithm), cache=cache, **manifest.common()
    )


def _load_network(folder: Path, manifest: Manifest, dim: int) -> ParserNetwork:
    """The network on word features of length `dim`; its weights are compared with what is described first."""
    import torch

    settings = manifest.setting(folder, "network", dict)
    _check_sizes(folder, settings)
    try:
        with torch.device("meta"):
            network = ParserNetwork.from_settings(dim, manifest.label_space.num_classes, settings)
    except (TailwiseError, TypeError, KeyError, ValueError) as error:
        raise ModelError(f"{folder}: the parser cannot be built ({type(error).__name__}: {error}).") from error
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    tensors = {name: tensor.float() for name, tensor in load_tensors(folder / NETWORK, expected).items()}
    network.load_state_dict(tensors, assign=True)
    return network.eval()


def _check_sizes(folder: Path, settings: Mapping[str, Any]) -> None:
    for key, limit in _SIZES.items():
        value = settings.get(key)
        if type(value) is not int or not 0 <= value <= limit:
            raise ModelError(
                f"{folder}: expected `model.network.{key}` from 0 to {limit}, but found {repr(value)[:80]}."
            )
    scale = settings.get("scale")
    if not isinstance(scale, int | float) or not 0 < scale < 1e6:
        raise ModelError(f"{folder}: expected `model.network.scale` above 0, but found {repr(scale)[:80]}.")
