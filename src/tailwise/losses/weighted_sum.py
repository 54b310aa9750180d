"""Several losses as one.

    l = sum_k w_k l_k

for example cross-entropy plus a contrastive loss, or dice plus cross-entropy. Every part has its own denominator, so a
sum of losses that can be split over the parts of a batch can be split too: its `denominator` has one number per part.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tailwise.errors import SettingError
from tailwise.losses.base import Loss

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["WeightedSumLoss"]


class WeightedSumLoss(Loss):
    """A weighted sum of losses over the same rows.

    What the sum says about its scores (`effective_prior`, `inference_scale`, `scoreless_class`) is what its first loss
    says: put the one that trains the classifier there.

    Args:
        losses: two or more losses, all over one label per row or all over several, none with ``reduction="none"``.
        weights: one finite number of at least 0 per loss; None weighs each by 1.

    Raises:
        SettingError: losses that do not fit together, or weights that do not fit the losses.
    """

    by_row: bool = False

    def __init__(self, losses: Sequence[Loss], weights: Sequence[float] | None = None) -> None:
        super().__init__()
        parts = list(losses) if isinstance(losses, Iterable) else []
        if len(parts) < 2 or not all(isinstance(part, Loss) for part in parts):
            raise SettingError(f"Expected `losses` to be two or more losses, but got {losses!r}.")
        try:
            given = [1.0] * len(parts) if weights is None else [float(weight) for weight in weights]
        except (TypeError, ValueError):
            given = []
        if len(given) != len(parts) or not all(math.isfinite(w) and w >= 0 for w in given) or not any(given):
            raise SettingError(
                f"Expected `weights` to be one finite number of at least 0 for each of the {len(parts)} losses, not "
                f"all 0, but got {weights!r}."
            )
        if len({part.multilabel for part in parts}) > 1 or len({part.ignore_index for part in parts}) > 1:
            raise SettingError(
                "The losses of a sum must see the same rows: all over one label per row or all over several, with the "
                f"same `ignore_index`. Got {', '.join(type(part).__name__ for part in parts)}."
            )
        if any(part.reduction == "none" for part in parts):
            raise SettingError("A loss with reduction 'none' gives no number to add. Choose 'mean'.")
        self.losses = nn.ModuleList(parts)
        self.weights = tuple(given)
        first = parts[0]
        self.ignore_index, self.multilabel = first.ignore_index, first.multilabel
        self.inference_scale, self.scoreless_class = first.inference_scale, first.scoreless_class
        self.separable = all(part.separable for part in parts)
        self.descends = all(part.descends for part in parts)
        self.gradient_of_values = all(part.gradient_of_values for part in parts)
        self.stateful = any(part.stateful for part in parts)
        self.requires_features = any(part.requires_features for part in parts)
        self.requires_group = any(part.requires_group for part in parts)
        self.requires_cosine = any(part.requires_cosine for part in parts)
        self.shapes_representation = any(part.shapes_representation for part in parts)

    @property
    def parts(self) -> list[Loss]:
        """The losses, in order."""
        return [part for part in self.losses if isinstance(part, Loss)]

    def effective_prior(self, prior: Tensor) -> Tensor:
        """That of the first loss, ``(C,)`` to ``(C,)``."""
        return self.parts[0].effective_prior(prior)

    def denominator(self, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """One number per loss, ``(K,)``, additive over parts of a batch; 1 for a loss that is a sum.

        Raises:
            SettingError: a loss of the sum cannot be split over parts of a batch.
        """
        if not self.separable:
            names = [type(part).__name__ for part in self.parts if not part.separable]
            raise SettingError(
                f"{', '.join(names)} compares the rows of a batch with each other, so a sum with it has no denominator."
            )
        one = torch.ones((), device=target.device)
        return torch.stack([
            one if part.reduction == "sum" else part.denominator(target, sample_weight).to(one.dtype)
            for part in self.parts
        ])  # fmt: skip

    def forward(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        features: Tensor | None = None,
        sample_weight: Tensor | None = None,
        group: Tensor | None = None,
        normalizer: Tensor | float | None = None,
    ) -> Tensor:
        """The loss of a batch, a scalar; see `Loss.forward`.

        Args:
            logits: ``(M, C)``.
            target: as the losses take it.
            features: ``(M, D)`` or None.
            sample_weight: ``(M,)`` or None.
            group: ``(M,)`` or None.
            normalizer: `denominator` of the whole batch, ``(K,)``, when `logits` is a part of it.

        Raises:
            SettingError: what a loss of the sum does not accept.
        """
        shape = getattr(normalizer, "shape", None)
        if normalizer is not None and shape != (len(self.weights),):
            raise SettingError(
                f"WeightedSumLoss: expected `normalizer` with one number per loss, ({len(self.weights)},), as "
                f"`denominator` gives it, but got {normalizer!r}."
            )
        total = logits.new_zeros((), dtype=torch.float32 if logits.dtype.itemsize < 4 else logits.dtype)
        for index, (part, weight) in enumerate(zip(self.parts, self.weights, strict=True)):
            own = normalizer[index] if isinstance(normalizer, Tensor) else None
            value = part(logits, target, features=features, sample_weight=sample_weight, group=group, normalizer=own)
            total = total + weight * value
        return total
