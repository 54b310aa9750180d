"""Focal loss and cross-entropy in their one-hot sigmoid form.

    l(z, y) = -a_y sum_j (1 - q_j)^f log q_j,   q_j = sigmoid(z_j) if j = y, else sigmoid(-z_j)

f >= 0 focus (2), a class weights (none); f = 0 is sigmoid cross-entropy, the sum of C one-against-rest losses. The
weight of the gold class multiplies all C terms of a row.

Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, eq. 5; as the class-balanced losses of Cui et al.,
Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019, use it for one label per row. Survey section 3.3.
Differs from the papers in nothing; their code overflows for scores below -88 in single precision, this does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from tailwise.errors import SettingError
from tailwise.losses.base import Loss
from tailwise.losses.class_weights import class_weights_tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike
    from torch import Tensor

    from tailwise.losses.base import Reduction
    from tailwise.losses.class_weights import ClassWeights

__all__ = ["SigmoidFocalLoss", "sigmoid_focal_values"]


def sigmoid_focal_values(logits: Tensor, target: Tensor, focus: float = 2.0, weights: Tensor | None = None) -> Tensor:
    """Per-row sigmoid focal loss, summed over the classes.

    Args:
        logits: ``(M, C)``.
        target: class indices, ``(M,)``.
        focus: f >= 0; 0 gives sigmoid cross-entropy.
        weights: a_j, ``(C,)``, or None for ones.

    Returns:
        ``(M,)``, same dtype as `logits`.
    """
    gold = target[:, None]
    # What is right about each score: log q = logsigmoid(signed) and log(1 - q) = logsigmoid(-signed).
    signed = logits.neg().scatter(1, gold, logits.gather(1, gold))
    terms = functional.logsigmoid(signed)
    if focus != 0.0:
        terms = terms * torch.exp(focus * functional.logsigmoid(-signed))
    values = -terms.sum(dim=1)
    return values if weights is None else values * weights.to(values.dtype).index_select(0, target)


class SigmoidFocalLoss(Loss):
    """Focal loss over C one-against-rest sigmoids, for one label per row.

    The best scores are the log-odds of each class against the rest, so that their order is that of the probabilities;
    softmax of them is close to the probabilities where these are small.

    Args:
        focus: f >= 0; larger forgets easy scores faster.
        class_weights: a rule, a mapping by class name, one number per class, or None; see
            `tailwise.losses.class_weights`.
        class_counts: training instances per class, for rules.
        class_names: names of the classes, for a mapping and for messages.
        beta: of the rule ``"effective_number"``.
        power: of the rule ``"inverse_power"``.
        reduction: see `Loss`; the default divides by the number of rows, as the code of Cui et al. does.
        ignore_index: see `Loss`.

    Raises:
        UnknownNameError: an unknown class-weight rule or class name.
        SettingError: a focus out of range, or weights that are not one per class.
    """

    def __init__(
        self,
        focus: float = 2.0,
        *,
        class_weights: ClassWeights = None,
        class_counts: ArrayLike | None = None,
        class_names: Sequence[str] | None = None,
        beta: float = 0.999,
        power: float = 0.5,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(reduction=reduction, ignore_index=ignore_index)
        if not 0.0 <= focus < float("inf"):
            raise SettingError(f"Expected `focus` to be a finite number of at least 0, but got {focus!r}.")
        self.focus = float(focus)
        self.convex = self.focus == 0.0
        self.class_weights = class_weights_tensor(class_weights, class_counts, class_names, beta, power)
        self.num_classes = None if self.class_weights is None else self.class_weights.numel()

    def values(self, logits: Tensor, target: Tensor, *, features: Tensor | None, group: Tensor | None) -> Tensor:
        """Per-row values ``(M,)``."""
        del features, group
        return sigmoid_focal_values(logits, target, self.focus, self.class_weights)
