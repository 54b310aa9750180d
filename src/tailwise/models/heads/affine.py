"""What can be done with a head as plain weights: score with it, and put post-hoc steps inside."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from tailwise.models.heads.base import AffineForm
    from tailwise.posthoc.base import AffineStep

__all__ = ["affine_scores", "folded", "scaled"]


def affine_scores(form: AffineForm, features: Tensor) -> Tensor:
    """Scores ``weight @ t(f) + bias``, ``(M, C)``, of features ``(M, D)``."""
    if form.centre is not None:
        features = features - form.centre
    if form.normalise:
        features = functional.normalize(features, dim=-1)
    return functional.linear(features, form.weight, form.bias)


def scaled(form: AffineForm, factor: float) -> AffineForm:
    """The head whose scores are `factor` times those of `form`."""
    return form if factor == 1.0 else replace(form, weight=factor * form.weight, bias=factor * form.bias)


def folded(form: AffineForm, step: AffineStep) -> AffineForm:
    """The head with a post-hoc step inside: its scores are ``step(scores of form)``; folded in float64."""
    weight, bias = step.fold(form.weight.double().cpu().numpy(), form.bias.double().cpu().numpy())
    return replace(form, weight=torch.from_numpy(weight).to(form.weight), bias=torch.from_numpy(bias).to(form.bias))
