"""A head on lexical features on disk: ``lexical/head.safetensors`` beside what `LexicalFeatures.save` writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tailwise.errors import ModelError, TailwiseError
from tailwise.models.heads.base import AffineForm
from tailwise.models.lexical import LexicalFeatures
from tailwise.models.probe import LexicalPart
from tailwise.models.saving_folder import write_tensors
from tailwise.models.saving_untrusted import load_tensors

if TYPE_CHECKING:
    from pathlib import Path

    from tailwise.models.saving_manifest import Manifest

__all__ = ["holds_lexical_part", "load_lexical_part", "save_lexical_part"]

FOLDER = "lexical"
HEAD = "head.safetensors"


def save_lexical_part(part: LexicalPart, folder: Path) -> dict[str, Any]:
    """Write features and head below `folder`; returns the settings for the manifest."""
    (folder / FOLDER).mkdir()
    part.features.save(folder / FOLDER)
    write_tensors(folder / FOLDER / HEAD, {"weight": part.form.weight.float(), "bias": part.form.bias.float()})
    return {"lexical": True}


def holds_lexical_part(manifest: Manifest) -> bool:
    """Whether a folder has such a head."""
    return manifest.model.get("lexical") is True


def load_lexical_part(folder: Path, manifest: Manifest) -> LexicalPart:
    """The head of a checked folder.

    Raises:
        ModelError: files that are missing, damaged or do not fit each other or the task.
    """
    manifest.require(folder, f"{FOLDER}/{HEAD}")
    try:
        features = LexicalFeatures.load(folder / FOLDER)
    except ModelError:
        raise
    except TailwiseError as error:
        raise ModelError(f"{folder / FOLDER}: the lexical features cannot be used: {error}") from error
    if features.form != manifest.task.input_form:
        raise ModelError(
            f"{folder / FOLDER}: lexical features of the form {features.form!r}, but the task takes "
            f"{manifest.task.input_form!r}. Copy the folder again from where it was saved."
        )
    classes = manifest.label_space.num_classes
    tensors = load_tensors(folder / FOLDER / HEAD, {"weight": (classes, features.num_features), "bias": (classes,)})
    return LexicalPart(features, AffineForm(tensors["weight"], tensors["bias"]))
