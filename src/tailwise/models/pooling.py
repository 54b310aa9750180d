"""From token states to one feature vector per text, in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast, get_args

import torch

from tailwise.errors import SettingError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Pooling", "check_pooling", "cls_pooling", "mean_pooling", "pool"]

Pooling = Literal["mean", "cls"]


def check_pooling(pooling: str) -> Pooling:
    """`pooling` itself.

    Raises:
        SettingError: not a pooling.
    """
    if pooling not in get_args(Pooling):
        raise SettingError(f"Expected `pooling` to be one of {', '.join(get_args(Pooling))}, but got {pooling!r}.")
    return cast("Pooling", pooling)


def mean_pooling(states: Tensor, mask: Tensor) -> Tensor:
    """Mean of the states ``(M, T, D)`` of the tokens with ``mask`` 1, ``(M, T)``; zero where a text has no token."""
    weight = mask.to(torch.float32)
    return torch.einsum("mtd,mt->md", states.float(), weight) / weight.sum(dim=1, keepdim=True).clamp(min=1.0)


def cls_pooling(states: Tensor, mask: Tensor) -> Tensor:
    """State of the first token, ``(M, D)``; texts are padded on the right."""
    return states[:, 0].float() * mask[:, :1].to(torch.float32)


def pool(states: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """Feature vectors ``(M, D)`` of token states ``(M, T, D)`` under an attention mask ``(M, T)``."""
    return mean_pooling(states, mask) if pooling == "mean" else cls_pooling(states, mask)
