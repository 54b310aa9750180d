"""The final layer of a sequence-classification model: find it, replace it, read its inputs.

Every ``...ForSequenceClassification`` ends in a linear layer with one output per class, under a name of its own
(``classifier``, ``score``, ``classifier.out_proj``, ...). Heads of tailwise take its place; whatever stands there maps
features ``(..., D)`` to scores ``(..., C)``.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from tailwise.errors import ModelError
from tailwise.models.heads.affine import affine_scores
from tailwise.models.heads.base import AffineForm, Head

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "AffineLayer", "capture_features", "final_layer_name", "layer_form", "num_features", "replace_final_layer",
    "without_final_layer",
]  # fmt: skip


class AffineLayer(nn.Module):
    """A fixed final layer, ``z = weight @ t(f) + bias``: a fitted head as plain tensors.

    Args:
        form: weights and transform of the features.
    """

    centre: Tensor | None

    def __init__(self, form: AffineForm) -> None:
        super().__init__()
        self.out_features, self.in_features = form.weight.shape
        self.normalise = form.normalise
        self.weight = nn.Parameter(form.weight.detach().clone(), requires_grad=False)
        self.bias = nn.Parameter(form.bias.detach().clone(), requires_grad=False)
        self.register_buffer("centre", None if form.centre is None else form.centre.detach().clone())

    def forward(self, features: Tensor) -> Tensor:
        """Scores ``(..., C)`` of features ``(..., D)``."""
        return affine_scores(AffineForm(self.weight, self.bias, self.centre, self.normalise), features)


def final_layer_name(model: nn.Module, num_classes: int) -> str:
    """The dotted name of the last layer with one output per class.

    Raises:
        ModelError: no layer has `num_classes` outputs.
    """
    names = [name for name, module in model.named_modules() if _num_outputs(module) == num_classes]
    if not names:
        raise ModelError(
            f"{type(model).__name__} has no linear layer with {num_classes} outputs. Expected a sequence-"
            f"classification model loaded with num_labels={num_classes}."
        )
    return str(names[-1])


def _num_outputs(module: nn.Module) -> int | None:
    if isinstance(module, nn.Linear | AffineLayer):
        return module.out_features
    return module.num_classes if isinstance(module, Head) else None


def num_features(layer: nn.Module) -> int:
    """D, the number of inputs of a final layer."""
    return layer.num_features if isinstance(layer, Head) else cast("nn.Linear", layer).in_features


def layer_form(layer: nn.Module) -> AffineForm | None:
    """A final layer as plain weights for prediction, or None where it has no such form."""
    if isinstance(layer, Head):
        return layer.affine()
    if isinstance(layer, AffineLayer):
        return AffineForm(layer.weight.detach(), layer.bias.detach(), layer.centre, layer.normalise)
    if isinstance(layer, nn.Linear):
        bias = torch.zeros_like(layer.weight[:, 0]) if layer.bias is None else layer.bias
        return AffineForm(layer.weight.detach(), bias.detach())
    return None


def replace_final_layer(model: nn.Module, name: str, layer: nn.Module) -> None:
    """Put `layer` where the final layer called `name` is, on the same device."""
    parent, _, attribute = name.rpartition(".")
    old = model.get_submodule(name)
    tensors = (*old.parameters(), *old.buffers(), *model.parameters())  # fitted heads have buffers alone
    setattr(model.get_submodule(parent), attribute, layer.to(tensors[0].device))


@contextmanager
def capture_features(model: nn.Module, name: str, *, detach: bool = True) -> Iterator[list[Tensor]]:
    """Collect the inputs ``(B, D)`` of the final layer of every forward pass inside the context.

    Args:
        model: the model.
        name: of its final layer, see `final_layer_name`.
        detach: without their graph.

    Raises:
        ModelError: the final layer sees one vector per token, not one per text.
    """
    seen: list[Tensor] = []

    def remember(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0].ndim != 2:
            raise ModelError(
                f"{type(model).__name__} classifies tokens and pools the scores: its final layer {name!r} has inputs "
                f"{tuple(inputs[0].shape)}, so there is no feature vector per text to fit a head on."
            )
        seen.append(inputs[0].detach() if detach else inputs[0])

    handle = model.get_submodule(name).register_forward_pre_hook(remember)
    try:
        yield seen
    finally:
        handle.remove()


@contextmanager
def without_final_layer(model: nn.Module, name: str) -> Iterator[None]:
    """Inside the context the model gives as logits what its final layer called `name` would see.

    A model that classifies tokens and then takes the scores of one of them gives the features of that token.
    """
    parent, _, attribute = name.rpartition(".")
    layer = model.get_submodule(name)
    setattr(model.get_submodule(parent), attribute, nn.Identity())
    try:
        yield
    finally:
        setattr(model.get_submodule(parent), attribute, layer)
