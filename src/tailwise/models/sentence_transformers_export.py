"""A probe as a sentence-transformers folder: Transformer, Pooling, and head with post-hoc steps as Dense layers.

    encode(text) = a * (W t(f) + b) + c        the adjusted logits; their softmax is what tailwise predicts

A head that centres and normalises the features gets a Dense layer (identity weights, bias ``-centre``) and a Normalize
layer in front. Class paths and keys are those that sentence-transformers has read since version 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from tailwise.models.saving_folder import write_json, write_tensors

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from tailwise.models.heads.base import AffineForm

__all__ = ["write_modules"]

_CLASSES = "sentence_transformers.models"
_POOLINGS = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token"}


def write_modules(folder: Path, head: AffineForm, *, pooling: str, max_length: int) -> str:
    """Write everything that sentence-transformers needs beside the encoder's own files.

    Args:
        folder: holds ``config.json``, ``model.safetensors`` and the tokenizer.
        head: the head with every post-hoc step inside.
        pooling: ``"mean"`` or ``"cls"``.
        max_length: tokens per text.

    Returns:
        The subfolder of the last layer, whose bias and weight give the logits.
    """
    dim = head.weight.shape[1]
    layers = ["Pooling"]
    write_json(folder / "1_Pooling" / "config.json", _pooling_config(dim, pooling))
    if head.centre is not None:
        _write_dense(folder / f"{len(layers) + 1}_Dense", torch.eye(dim), -head.centre)
        layers.append("Dense")
    if head.normalise:
        layers.append("Normalize")
    _write_dense(folder / f"{len(layers) + 1}_Dense", head.weight, head.bias)
    layers.append("Dense")
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": False})
    paths = [("", "Transformer"), *((f"{i}_{name}", name) for i, name in enumerate(layers, start=1))]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"{_CLASSES}.{name}"} for i, (path, name) in enumerate(paths)
    ]
    write_json(folder / "modules.json", modules)
    write_json(folder / "config_sentence_transformers.json", {"prompts": {}, "default_prompt_name": None})
    return paths[-1][0]


def _pooling_config(dim: int, pooling: str) -> dict[str, Any]:
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
    flags = {f"pooling_mode_{mode}": f"pooling_mode_{mode}" == _POOLINGS[pooling] for mode in modes}
    return {"word_embedding_dimension": dim, **flags}


def _write_dense(folder: Path, weight: Tensor, bias: Tensor) -> None:
    write_json(
        folder / "config.json",
        {
            "in_features": weight.shape[1],
            "out_features": weight.shape[0],
            "bias": True,
            "activation_function": "torch.nn.modules.linear.Identity",
        },
    )
    write_tensors(folder / "model.safetensors", {"linear.weight": weight, "linear.bias": bias})
