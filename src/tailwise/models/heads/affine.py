"""What can be done with a head as plain weights: score with it, and put post-hoc steps inside."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tailwise.models.heads.base import AffineForm
    from tailwise.posthoc.base import AffineStep

__all__ = ["affine_scores", "folded", "mean_form", "scaled", "unit_rows"]


def affine_scores(form: AffineForm, features: Tensor) -> Tensor:
    """Scores ``weight @ t(f) + bias``, ``(M, C)``, of features ``(M, D)``."""
    if form.centre is not None:
        features = features - form.centre
    if form.normalise:
        features = unit_rows(features, form.blocks)
    return functional.linear(features, form.weight, form.bias)


def unit_rows(features: Tensor, blocks: int = 1) -> Tensor:
    """Rows ``(M, D)`` of which each of `blocks` equal parts has the length ``blocks ** -0.5``, or 0 if it was 0."""
    if blocks == 1:
        return functional.normalize(features, dim=-1)
    parts = features.reshape(*features.shape[:-1], blocks, -1)
    return functional.normalize(parts, dim=-1).mul(blocks**-0.5).reshape(features.shape)


def scaled(form: AffineForm, factor: float) -> AffineForm:
    """The head whose scores are `factor` times those of `form`."""
    return form if factor == 1.0 else replace(form, weight=factor * form.weight, bias=factor * form.bias)


def mean_form(forms: Sequence[AffineForm]) -> AffineForm | None:
    """The head whose scores are the mean of those of `forms`; None where they transform the features differently."""
    first = forms[0]
    for form in forms[1:]:
        same_centre = (form.centre is None) == (first.centre is None) and (
            form.centre is None or first.centre is None or torch.equal(form.centre, first.centre)
        )
        if not same_centre or (form.normalise, form.blocks) != (first.normalise, first.blocks):
            return None
    if len(forms) == 1:
        return first
    weight = torch.stack([form.weight for form in forms]).double().mean(dim=0).to(first.weight)
    bias = torch.stack([form.bias for form in forms]).double().mean(dim=0).to(first.bias)
    return replace(first, weight=weight, bias=bias)


def folded(form: AffineForm, step: AffineStep) -> AffineForm:
    """The head with a post-hoc step inside: its scores are ``step(scores of form)``; folded in float64."""
    weight, bias = step.fold(form.weight.double().cpu().numpy(), form.bias.double().cpu().numpy())
    return replace(form, weight=torch.from_numpy(weight).to(form.weight), bias=torch.from_numpy(bias).to(form.bias))
