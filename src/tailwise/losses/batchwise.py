"""What a loss over a whole batch is: one number from all rows together.

Batch dice, contrastive losses and distributionally robust losses compare the rows of a batch with each other. Such a
loss is not the sum of parts, so it cannot be accumulated over micro-batches or ranks: it refuses a `normalizer`, and a
trainer that would split its batch refuses the loss.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from tailwise.errors import SettingError
from tailwise.losses.base import Loss, widened

if TYPE_CHECKING:
    from torch import Tensor

    from tailwise.losses.base import Reduction

__all__ = ["BatchLoss"]


class BatchLoss(Loss):
    """Base of the losses over one label per row that mix the rows of a batch.

    Args:
        reduction: ``"mean"`` only: the loss of the batch.
        ignore_index: rows with this target are dropped before anything is computed.

    A subclass implements `batch_value`.
    """

    separable: bool = False
    by_row: bool = False

    def __init__(self, *, reduction: Reduction = "mean", ignore_index: int = -100) -> None:
        super().__init__(reduction=reduction, ignore_index=ignore_index)
        if reduction != "mean":
            raise SettingError(
                f"{type(self).__name__} is one number for the whole batch; it has no reduction {reduction!r}. "
                "Use 'mean'."
            )

    def batch_value(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        features: Tensor | None,
        group: Tensor | None,
        sample_weight: Tensor | None,
    ) -> Tensor:
        """The loss, a scalar, of logits ``(M, C)`` and valid targets ``(M,)``, M > 0."""
        raise NotImplementedError  # pragma: no cover

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
        """The loss of a batch; see `Loss.forward`.

        Raises:
            SettingError: as `Loss.forward`; a `normalizer`, which would mean that the batch is a part of one.
        """
        self._check(logits, target, sample_weight, normalizer)
        self._check_inputs(target, features, group)
        if normalizer is not None:
            raise SettingError(
                f"{type(self).__name__} compares the rows of a batch with each other, so the loss of a part of a batch "
                "has no meaning. Call it once on the whole batch, without `normalizer`."
            )
        target = target.long()
        valid = target != self.ignore_index
        if not bool(valid.all()):
            logits, target = logits[valid], target[valid]
            features = None if features is None else features[valid]
            group = None if group is None else group[valid]
            sample_weight = None if sample_weight is None else sample_weight[valid]
        if not target.numel():
            return _zero(logits, features)
        logits, features = widened(logits), None if features is None else widened(features)
        sample_weight = None if sample_weight is None else sample_weight.to(logits.dtype)
        compute = functools.partial(self.batch_value, sample_weight=sample_weight)
        return self._guarded(compute, logits, target, features, group)


def _zero(logits: Tensor, features: Tensor | None) -> Tensor:
    """Zero that keeps the graph."""
    zero = widened(logits).sum() * 0.0
    return zero if features is None else zero + widened(features).sum() * 0.0
