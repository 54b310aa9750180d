"""A head from its registered name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tailwise.models.heads import HEADS, Head

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["build_head"]


def build_head(name: str, params: Mapping[str, Any], num_features: int, num_classes: int) -> Head:
    """The head registered as `name`.

    Args:
        name: registered name.
        params: what its constructor takes beside the two sizes.
        num_features: D.
        num_classes: C.

    Raises:
        UnknownNameError: no such head.
        SettingError: a parameter the head does not have, or a value of the wrong type.
    """
    checked = HEADS.check_parameters(name, params)
    return HEADS[name](num_features, num_classes, **checked)
