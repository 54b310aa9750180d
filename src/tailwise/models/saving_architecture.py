"""Opening transformers models from an untrusted folder: what ``config.json`` describes must be what the weights hold.

A configuration can ask for terabytes or for a million layers. The model is therefore built without storage first (on
PyTorch's meta device), and its size compared with the weights that are really there.
"""

from __future__ import annotations

import copy
import json
import math
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch

from tailwise.errors import ModelError
from tailwise.models.quiet import quiet_transformers
from tailwise.models.saving_folder import write_json
from tailwise.models.saving_untrusted import safetensors_shapes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "check_architecture",
    "load_classifier",
    "load_tokenizer",
    "save_tokenizer",
    "without_code",
]

_LARGEST_NUMBER = 2**31
_ALWAYS_FINE_LAYERS = 256
_LAYER_COUNT = re.compile(r".*(layers?|blocks)")
_LOADING_FAULTS = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError, IndexError)
_POINTERS = frozenset({"auto_map", "custom_pipelines", "name_or_path", "_name_or_path", "trust_remote_code"})
_LOCAL = {"local_files_only": True, "trust_remote_code": False}


def check_architecture(folder: Path, build: Callable[[Any], torch.nn.Module]) -> None:
    """Compare ``config.json`` with ``model.safetensors`` in `folder` before anything is allocated.

    Args:
        folder: a folder whose files were checked.
        build: makes the model of a configuration, such as ``AutoModel.from_config``.

    Raises:
        ModelError: numbers out of all proportion, an architecture transformers does not have, or more parameters than
            the weights file holds.
    """
    from transformers import AutoConfig

    path = folder / "config.json"
    shapes = safetensors_shapes(folder / "model.safetensors")
    _check_numbers(path, json.loads(path.read_bytes()), max_layers=max(len(shapes), _ALWAYS_FINE_LAYERS))
    with _faults(path), torch.device("meta"):
        model = build(AutoConfig.from_pretrained(folder, **_LOCAL))
    described = sum(parameter.numel() for parameter in model.parameters())
    held = sum(math.prod(shape) for shape in shapes.values())
    if described > 2 * held:
        raise ModelError(
            f"{path}: describes a model of {described} parameters, but {folder / 'model.safetensors'} holds {held}. "
            "The configuration belongs to another model."
        )


def _check_numbers(path: Path, config: Any, *, max_layers: int) -> None:
    if not isinstance(config, dict):
        raise ModelError(f"{path}: expected a mapping, but found a {type(config).__name__}.")
    for key, value in config.items():
        if isinstance(value, dict) and key != "label2id":
            _check_numbers(path, value, max_layers=max_layers)
        if not isinstance(value, int) or isinstance(value, bool):
            continue
        limit = max_layers if _LAYER_COUNT.fullmatch(key) else _LARGEST_NUMBER
        if abs(value) > limit:
            raise ModelError(f"{path}, key `{key}`: expected at most {limit}, but found {value:.3g}.")


def load_classifier(folder: Path, *, by_token: bool = False, without: frozenset[str] = frozenset()) -> PreTrainedModel:
    """A model that classifies sequences or tokens, in float32, from checked files.

    Args:
        folder: with configuration and weights.
        by_token: whether tokens are classified.
        without: parameters set elsewhere.

    Raises:
        ModelError: transformers cannot open it, or parameters are missing or left over.
    """
    from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

    kind = AutoModelForTokenClassification if by_token else AutoModelForSequenceClassification
    check_architecture(folder, kind.from_config)
    with _faults(folder), quiet_transformers():
        model, report = kind.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **_LOCAL
        )
    wrong = {*report["missing_keys"], *report["unexpected_keys"]} ^ without
    if wrong:
        raise ModelError(
            f"{folder / 'model.safetensors'}: the tensor {min(wrong)!r} is missing, or not a part of the model that "
            "config.json describes."
        )
    return cast("PreTrainedModel", model)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder whose files were checked.

    Raises:
        ModelError: transformers cannot open it.
    """
    from transformers import AutoTokenizer

    with _faults(folder):
        return AutoTokenizer.from_pretrained(folder, **_LOCAL)


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path, max_length: int) -> None:
    """Write a copy of the tokenizer that cuts at `max_length` tokens when asked to truncate."""
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.model_max_length = max_length
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:  # what the last call left behind
        backend.no_truncation()
        backend.no_padding()
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    write_json(path, without_code(json.loads(path.read_bytes())))


def without_code(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of transformers without pointers to code or to files of this machine."""
    return {key: v for key, v in settings.items() if key not in _POINTERS and not key.endswith("_file")}


@contextmanager
def _faults(where: Path) -> Iterator[None]:
    """Whatever another library raises over files of the folder, as `ModelError`."""
    try:
        yield
    except ModelError:
        raise
    except _LOADING_FAULTS as error:
        raise ModelError(f"{where}: transformers cannot open it ({type(error).__name__}: {error}).") from error
