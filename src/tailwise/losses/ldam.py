"""Label-distribution-aware margin loss (LDAM).

    l(z, y) = -a_y log( exp(s (z_y - D_y)) / ( exp(s (z_y - D_y)) + sum_{j != y} exp(s z_j) ) ),   D_j = K n_j^(-1/4)

z are cosine scores, s the scale, a class weights (none).
Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss, NeurIPS 2019, eq. 13. Survey section
3.3. Differs from the paper in nothing; the authors' code fixes K by max(D) = max_margin, and so do we.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from tailwise.errors import SettingError
from tailwise.losses.class_weights import as_counts, class_weights_tensor, positive_counts
from tailwise.losses.convex_forms import SoftmaxForm
from tailwise.losses.cross_entropy import CrossEntropyLoss, cross_entropy_values

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from tailwise.losses.base import Reduction
    from tailwise.losses.class_weights import ClassWeights

__all__ = ["LDAMLoss", "ldam_margins", "ldam_values"]


def ldam_margins(class_counts: NDArray[np.float64], max_margin: float = 0.5) -> NDArray[np.float64]:
    """Margins D_j = max_margin (n_min / n_j)^(1/4), ``(C,)``, for counts n_j >= 1."""
    ratio: NDArray[np.float64] = class_counts.min() / class_counts
    return max_margin * ratio**0.25


def shifted_and_scaled(logits: Tensor, target: Tensor, margins: Tensor, scale: float) -> Tensor:
    """Logits with the margin taken from the target column, times `scale`, ``(M, C)``, in a fresh tensor."""
    shift = (-scale * margins).to(logits.dtype).index_select(0, target)
    return (logits * scale).scatter_add_(1, target[:, None], shift[:, None])


def ldam_values(
    logits: Tensor, target: Tensor, margins: Tensor, scale: float = 30.0, weights: Tensor | None = None
) -> Tensor:
    """Per-row LDAM values.

    Args:
        logits: cosine scores, ``(M, C)``.
        target: class indices, ``(M,)``.
        margins: D_j, ``(C,)``.
        scale: s > 0.
        weights: a_j, ``(C,)``, or None for ones.

    Returns:
        ``(M,)``, same dtype as `logits`.
    """
    return cross_entropy_values(shifted_and_scaled(logits, target, margins, scale), target, weights)


class LDAMLoss(CrossEntropyLoss):
    """Margins that grow with the rarity of the class: rare classes keep a larger distance from the boundary.

    Margins and scale presuppose cosine scores in [-1, 1], as a head with normalised features and weights gives them. On
    the scores of an ordinary linear head the default scale saturates; use ``scale=1`` there.

    Args:
        class_counts: training instances per class; a class without one gets the margin of a class with one.
        max_margin: margin of the rarest class, >= 0.
        scale: s > 0. At prediction the raw scores decide; softmax of s times the scores gives the probabilities.
        class_weights: a rule, a mapping by class name, one number per class, or None; see
            `tailwise.losses.class_weights`.
        class_names: names of the classes, for a mapping and for messages.
        beta: of the rule ``"effective_number"``.
        power: of the rule ``"inverse_power"``.
        reduction: see `Loss`; the default divides by the sum of the weights of the targets, as the authors' code does.
        ignore_index: see `Loss`.
    """

    requires_cosine: bool = True
    counts_measure_evidence: ClassVar[bool] = True
    margins: Tensor

    def __init__(
        self,
        class_counts: ArrayLike,
        *,
        max_margin: float = 0.5,
        scale: float = 30.0,
        class_weights: ClassWeights = None,
        class_names: Sequence[str] | None = None,
        beta: float = 0.999,
        power: float = 0.5,
        reduction: Reduction = "weighted_mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(reduction=reduction, ignore_index=ignore_index)
        if not 0.0 <= max_margin < float("inf"):
            raise SettingError(f"Expected `max_margin` to be a finite number of at least 0, but got {max_margin!r}.")
        if not 0.0 < scale < float("inf"):
            raise SettingError(f"Expected `scale` to be a finite number larger than 0, but got {scale!r}.")
        self.max_margin = max_margin
        self.scale = self.inference_scale = float(scale)
        counts = as_counts(class_counts, class_names)
        self.class_weights = class_weights_tensor(class_weights, counts, class_names, beta, power)
        margins = ldam_margins(positive_counts(counts, class_names), max_margin)
        self.register_buffer("margins", torch.from_numpy(margins))
        self.num_classes = counts.size

    def adjusted(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits with the margin taken from the target column, scaled."""
        valid = target != self.ignore_index
        return shifted_and_scaled(logits, target.where(valid, 0), self.margins, self.scale)

    def softmax_form(self, num_classes: int) -> SoftmaxForm | None:
        """The weighted cross-entropy of scaled logits with a margin; on the logits, whatever head gives them."""
        del num_classes
        scale = torch.full_like(self.margins, self.scale)
        return SoftmaxForm(weights=self.class_weights, scale=scale, margins=self.scale * self.margins)
