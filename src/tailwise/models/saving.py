"""Saving fitted models, and loading them from folders that nobody vouches for.

A folder holds safetensors and JSON, never a pickle, and opens without tailwise wherever the model has a plain form:

    probe        sentence-transformers: ``SentenceTransformer(folder).encode(texts)`` gives the adjusted logits
    fine-tuned   transformers: ``pipeline("text-classification", model=folder)``

with post-hoc steps folded into plain weights. Heads without a plain form, label-wise attention, random fields and
parsers open through `load_model` alone; the model card and ``opens_with`` in ``tailwise.json`` say so.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tailwise.errors import ModelError
from tailwise.models.crf_model import CRFModel
from tailwise.models.finetuned import FinetunedModel
from tailwise.models.label_attention_model import LabelAttentionModel
from tailwise.models.parsing.model import ParserModel
from tailwise.models.probe import ProbeModel
from tailwise.models.saving_crf import holds_crf, load_crf, save_crf
from tailwise.models.saving_finetuned import kind_of_finetuned, load_finetuned, save_finetuned
from tailwise.models.saving_folder import new_folder, write_json
from tailwise.models.saving_label_attention import holds_label_attention, load_label_attention, save_label_attention
from tailwise.models.saving_manifest import Manifest
from tailwise.models.saving_parser import load_parser, save_parser
from tailwise.models.saving_probe import kind_of_probe, load_probe, save_probe

if TYPE_CHECKING:
    import torch

    from tailwise.models.fitted import FittedModel
    from tailwise.models.saving_manifest import FolderKind

__all__ = ["folder_kind", "load_model", "save_model"]

LABELS = "labels.json"


def folder_kind(model: FittedModel) -> FolderKind:
    """Which library opens the folder that `save_model` writes.

    Raises:
        ModelError: a kind of model that tailwise cannot save.
    """
    if isinstance(model, ProbeModel):
        return kind_of_probe(model)
    if isinstance(model, FinetunedModel):
        return kind_of_finetuned(model)
    if isinstance(model, ParserModel | LabelAttentionModel | CRFModel):
        return "tailwise"
    raise ModelError(
        "Expected a probe, label-wise attention, a conditional random field, a fine-tuned model or a parser, but got a "
        f"{type(model).__name__}, which cannot be saved."
    )


def save_model(
    model: FittedModel,
    folder: str | Path,
    *,
    card: str | None = None,
    overwrite: bool = False,
    self_contained: bool = True,
) -> Path:
    """Write a model folder; it appears whole or not at all.

    Args:
        model: what an engine made.
        folder: where to; an older tailwise model there is replaced.
        card: the model card, written as ``README.md``.
        overwrite: also replace a folder with other content.
        self_contained: whether the folder has a file of its own with the weights of a frozen encoder; otherwise it is
            a hard link to one copy for all folders where there are links, see `tailwise.models.shared_weights`.

    Returns:
        The folder.

    Raises:
        ModelError: the folder holds something else, or the model has no form on disk.
    """
    folder = Path(folder)
    kind = folder_kind(model)
    for step in model.steps:
        if not (np.isfinite(step.scale).all() and np.isfinite(step.bias).all()):
            raise ModelError(f"The post-hoc step {step.name!r} has numbers that are not finite, so nothing is saved.")
    with new_folder(folder, overwrite=overwrite) as partial:
        settings: dict[str, Any] = {}
        if isinstance(model, ProbeModel):
            settings = save_probe(model, partial, self_contained=self_contained)
        elif isinstance(model, FinetunedModel):
            settings = save_finetuned(model, partial)
        elif isinstance(model, ParserModel):
            settings = save_parser(model, partial)
        elif isinstance(model, LabelAttentionModel):
            settings = save_label_attention(model, partial, self_contained=self_contained)
        elif isinstance(model, CRFModel):
            settings = save_crf(model, partial)
        write_json(partial / LABELS, list(model.label_space.names))
        Manifest.of(model, opens_with=kind, settings=settings).write(partial)
        if card is not None:
            (partial / "README.md").write_text(card, encoding="utf-8")
    return folder


def load_model(folder: str | Path, device: str | torch.device | None = None) -> FittedModel:
    """Load what `save_model` wrote. No code of the folder runs, no pickle is opened, no link is followed outward.

    Args:
        folder: of the model.
        device: where the encoder computes; None takes a GPU where there is one.

    Raises:
        ModelError: not a tailwise model, damaged, unsafe, or from a newer tailwise; says which file and key.
    """
    folder = Path(folder)
    manifest = Manifest.read(folder)
    loaders = {"probe": load_probe, "finetune": load_finetuned}
    if manifest.engine not in loaders:
        raise ModelError(f"{folder}: made by the engine {manifest.engine!r}; this tailwise loads {', '.join(loaders)}.")
    if manifest.task.label_structure == "arcs":
        return load_parser(folder, manifest, device)
    if holds_crf(manifest):
        return load_crf(folder, manifest)
    if holds_label_attention(manifest):
        return load_label_attention(folder, manifest, device)
    return loaders[manifest.engine](folder, manifest, device)
