"""Label-distribution-aware margins over several labels per row (multi-label LDAM).

    l_j(z, y) = y s(-c (z - K D_j)) + (1 - y) s(c z),               D_j = n_j^(-1/4),  s(z) = log(1 + exp(z))

K margin constant (3), c scale (1), n_j training rows with label j.

Biswas, Pham and Zhang, TransICD: Transformer Based Code-wise Attention Model for Explainable ICD Coding, AIME 2021,
after Cao et al., NeurIPS 2019. Survey section 3.3. Differs from the paper in nothing; the scale and the division of the
margins by the largest one are options.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, get_args

import torch
from torch import Tensor

from tailwise.errors import SettingError
from tailwise.losses.binary_cross_entropy import binary_cross_entropy_sum, binary_cross_entropy_values
from tailwise.losses.class_weights import as_counts, positive_counts
from tailwise.losses.convex_forms import SigmoidForm
from tailwise.losses.multilabel import LabelwiseLoss, MultiLabelReduction

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

__all__ = ["MarginNormalisation", "MultiLabelLDAMLoss", "multilabel_ldam_margins", "multilabel_ldam_values"]

MarginNormalisation = Literal["none", "max"]


def multilabel_ldam_margins(
    class_counts: NDArray[np.float64], margin_const: float = 3.0, normalise: MarginNormalisation = "none"
) -> NDArray[np.float64]:
    """Margins K n_j^(-1/4), ``(C,)``, for counts n_j >= 1; with ``"max"`` the largest is K."""
    base = class_counts.min() if normalise == "max" else 1.0
    margins: NDArray[np.float64] = margin_const * (base / class_counts) ** 0.25
    return margins


def multilabel_ldam_values(logits: Tensor, target: Tensor, margins: Tensor, scale: float = 1.0) -> Tensor:
    """Binary cross-entropy with the margin taken from the scores of the positives, per row and label.

    Args:
        logits: ``(M, C)``.
        target: 0 to 1, ``(M, C)``, in the type of the logits.
        margins: K D_j, ``(C,)``.
        scale: c > 0.

    Returns:
        ``(M, C)``, same dtype as `logits`.
    """
    return binary_cross_entropy_values(scale * logits, target, margins=scale * margins)


class MultiLabelLDAMLoss(LabelwiseLoss):
    """Binary cross-entropy in which a positive of a rare label must win by a larger margin.

    At prediction the raw scores decide. No cosine scores are asked for; with a cosine head give a `scale`.

    Args:
        class_counts: training rows with each label; a label without one gets the margin of a label with one.
        margin_const: K >= 0; 0 gives binary cross-entropy.
        normalise: ``"none"``, or ``"max"`` for margins of which the largest is `margin_const`.
        scale: c > 0, multiplies scores and margins.
        class_names: names of the labels, for messages.
        reduction: see `MultiLabelLoss`.
        ignore_index: see `MultiLabelLoss`.

    Raises:
        SettingError: counts that are not one per label, an argument out of range.
    """

    convex: bool = True
    counts_measure_evidence: ClassVar[bool] = True
    margins: Tensor

    def __init__(
        self,
        class_counts: ArrayLike,
        *,
        margin_const: float = 3.0,
        normalise: MarginNormalisation = "none",
        scale: float = 1.0,
        class_names: Sequence[str] | None = None,
        reduction: MultiLabelReduction = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(reduction=reduction, ignore_index=ignore_index)
        if not 0.0 <= margin_const < float("inf"):
            raise SettingError(
                f"Expected `margin_const` to be a finite number of at least 0, but got {margin_const!r}."
            )
        if not 0.0 < scale < float("inf"):
            raise SettingError(f"Expected `scale` to be a finite number larger than 0, but got {scale!r}.")
        if normalise not in get_args(MarginNormalisation):
            raise SettingError(f"Expected `normalise` to be 'none' or 'max', but got {normalise!r}.")
        self.margin_const, self.normalise = float(margin_const), normalise
        self.scale = self.inference_scale = float(scale)
        counts = positive_counts(as_counts(class_counts, class_names), class_names)
        margins = multilabel_ldam_margins(counts, self.margin_const, normalise)
        self.register_buffer("margins", torch.from_numpy(margins))
        self.num_classes = counts.size

    def label_values(self, logits: Tensor, target: Tensor, *, valid: Tensor | None) -> Tensor:
        """Values ``(M, C)``."""
        del valid
        return multilabel_ldam_values(logits, target, self.cast("margins", logits), self.scale)

    def label_sum(self, logits: Tensor, target: Tensor) -> Tensor:
        """Sum of the values, with the gradient computed along."""
        scaled = logits if self.scale == 1.0 else self.scale * logits
        return binary_cross_entropy_sum(scaled, target, margins=self.scale * self.cast("margins", logits))

    def sigmoid_form(self) -> SigmoidForm | None:
        """Binary cross-entropy of scaled logits with a margin."""
        return SigmoidForm(scale=self.scale, margins=self.scale * self.margins)

    def effective_prior(self, prior: Tensor) -> Tensor:
        """The rate of each label that the fitted logits express, ``(C,)``, for scores that tell rows not apart.

        With e = exp(c K D_j) and odds x the gradient is zero where (1 - q) x^2 + (1 - 2 q) e x - q e = 0, q the prior.
        Where rows are told apart, the shift is smaller for the clear ones.
        """
        ease = (self.scale * self.margins.to(prior)).exp()
        linear, absent = (1.0 - 2.0 * prior) * ease, 1.0 - prior
        root = (linear.square() + 4.0 * absent * prior * ease).sqrt()
        # Of the two forms of the root the one without cancellation; its odds as a rate.
        upper = torch.where(linear > 0, 2.0 * prior * ease, root - linear)
        lower = torch.where(linear > 0, root + linear, 2.0 * absent)
        return upper / (upper + lower)
