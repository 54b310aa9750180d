"""What every multi-label loss is: targets with several labels per row.

    labelwise   values l_ij per row and label;   loss = sum_ij s_i l_ij / denominator
    row-wise    values l_i per row, from the whole label set of the row

Targets are ``(M, C)`` of 0 and 1 in any number type; an entry equal to `ignore_index` is unknown: it adds nothing to
the sum and nothing to the denominator, and a row of nothing but unknown labels takes no part. Reductions:

    mean        over all known entries (rows, for a row-wise loss), as ``F.binary_cross_entropy_with_logits``
    row_mean    sum over the labels, mean over the rows: C times as large; learning rates do not carry over
    sum, none   as the names say

As for single-label losses, `normalizer` is the denominator of the whole batch when `logits` is a part of it.
"""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from tailwise.errors import SettingError
from tailwise.losses.base import Loss, divided, widened

__all__ = ["LabelwiseLoss", "MultiLabelLoss", "MultiLabelReduction", "RowwiseLoss", "masked_logsumexp"]

MultiLabelReduction = Literal["mean", "row_mean", "sum", "none"]


class MultiLabelLoss(Loss):
    """Base of the losses over several labels per row; see the module.

    Args:
        reduction: ``"mean"``, ``"row_mean"``, ``"sum"`` or ``"none"``.
        ignore_index: entries of the target with this value are unknown.

    Attributes:
        soft_targets: whether targets between 0 and 1 have a meaning (labelwise losses mix the two values of an entry).
    """

    multilabel: bool = True
    by_row: bool = False
    soft_targets: ClassVar[bool] = False

    def __init__(self, *, reduction: MultiLabelReduction = "mean", ignore_index: int = -100) -> None:
        super().__init__(reduction="mean", ignore_index=ignore_index)
        known = get_args(MultiLabelReduction) if self.separable else ("mean",)
        if reduction not in known:
            raise SettingError(f"Expected argument `reduction` to be one of {', '.join(known)}, but got {reduction!r}.")
        if ignore_index in (0, 1):
            raise SettingError(
                f"Expected `ignore_index` to be none of the targets 0 and 1, but got {ignore_index}. Mark unknown "
                "entries by another number, such as -100."
            )
        self.reduction = reduction

    def batch_value(
        self,
        logits: Tensor,
        target: Tensor,
        valid: Tensor | None,
        *,
        features: Tensor | None,
        group: Tensor | None,
        sample_weight: Tensor | None,
    ) -> Tensor:
        """Sum of the values of the batch; for a loss that is not separable, the loss itself.

        Args:
            logits: ``(M, C)``.
            target: 0 and 1 in the type of the logits, 0 where unknown, ``(M, C)``.
            valid: known entries, bool ``(M, C)``, or None where all are.
            features: ``(M, D)`` or None.
            group: ``(M,)`` or None.
            sample_weight: ``(M,)`` or None.
        """
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
        """The loss of a batch.

        Args:
            logits: ``(M, C)``; half precision is computed in float32.
            target: 0 and 1, ``(M, C)``; entries equal to `ignore_index` are unknown.
            features: what the head saw, ``(M, D)``, for losses that need it.
            sample_weight: ``(M,)``, multiplies the values of each row.
            group: group ids ``(M,)``, for losses that need them.
            normalizer: denominator of the whole batch when `logits` is a part of it.

        Returns:
            Scalar; the values with ``reduction="none"``, 0 where unknown. Without a known entry: zero that keeps the
            graph.

        Raises:
            SettingError: shapes or types that do not fit, or targets other than 0, 1 and `ignore_index`.
        """
        self._check(logits, target, sample_weight, normalizer)
        self._check_inputs(target, features, group)
        logits = widened(logits)
        known = self._known(target)
        clean = target.to(logits.dtype) if known is None else target.where(known, 0).to(logits.dtype)
        sample_weight = None if sample_weight is None else sample_weight.to(logits.dtype)
        features = None if features is None else widened(features)
        if self.reduction == "none":
            values = self._values(logits, clean, known, features=features, group=group)
            return values if sample_weight is None else _weighed(values, sample_weight)
        total = self.batch_value(logits, clean, known, features=features, group=group, sample_weight=sample_weight)
        if not self.separable or (self.reduction == "sum" and normalizer is None):
            return total
        return divided(total, self._denominator(clean, known, sample_weight) if normalizer is None else normalizer)

    def denominator(self, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """What the sum of values is divided by: a scalar that is additive over parts of a batch."""
        return self._denominator(target, self._known(target), sample_weight)

    def _values(
        self, logits: Tensor, target: Tensor, valid: Tensor | None, *, features: Tensor | None, group: Tensor | None
    ) -> Tensor:
        raise NotImplementedError  # pragma: no cover

    def _denominator(self, target: Tensor, valid: Tensor | None, sample_weight: Tensor | None) -> Tensor:
        """Known entries (``"mean"``) or rows with a known entry (``"row_mean"``), weighted."""
        rows = self._row_sizes(target, valid)
        return rows.sum() if sample_weight is None else (rows * widened(sample_weight)).sum()

    def _row_sizes(self, target: Tensor, valid: Tensor | None) -> Tensor:
        """What each row adds to the denominator, ``(M,)``."""
        dtype = torch.get_default_dtype()
        rows, labels = target.shape
        if valid is None:
            return torch.full((rows,), float(labels) if self.reduction == "mean" else 1.0, dtype=dtype).to(
                target.device
            )
        return valid.sum(dim=1).to(dtype) if self.reduction == "mean" else valid.any(dim=1).to(dtype)

    def _known(self, target: Tensor) -> Tensor | None:
        """Known entries, or None where all are. Reads the values on the CPU, where that needs no synchronisation."""
        if target.dtype == torch.bool or not target.numel():
            return None
        if target.device.type != "cpu" or torch.compiler.is_compiling():
            return target != self.ignore_index
        low, high = target.detach().aminmax()
        within = float(low) >= 0 and float(high) <= 1
        if within and (self.soft_targets or not target.is_floating_point() or _is_binary(target)):
            return None
        known = target != self.ignore_index
        wrong = known & ~((target >= 0) & (target <= 1)) if self.soft_targets else known & (target != 0) & (target != 1)
        if bool(wrong.any()):
            row, label = (int(i) for i in wrong.nonzero()[0])
            raise SettingError(
                f"{type(self).__name__}: expected targets 0, 1 or {self.ignore_index} (unknown), but got "
                f"{target[row, label].item()!r} in row {row}, label {label}."
            )
        return None if bool(known.all()) else known

    def _check(
        self, logits: Tensor, target: Tensor, sample_weight: Tensor | None, normalizer: Tensor | float | None
    ) -> None:
        name = type(self).__name__
        if logits.ndim != 2 or logits.shape != target.shape or logits.shape[1] == 0:
            raise SettingError(
                f"{name}: expected logits and target (M, C), but got {tuple(logits.shape)} and {tuple(target.shape)}. "
                "Several labels per row are given as one column of 0 and 1 per label."
            )
        if not logits.is_floating_point():
            raise SettingError(f"{name}: expected floating-point logits, but got {logits.dtype}.")
        if self.num_classes is not None and self.num_classes != logits.shape[1]:
            raise SettingError(
                f"{name}: the loss was made for {self.num_classes} labels, but the logits have {logits.shape[1]}."
            )
        if sample_weight is not None and sample_weight.shape != target.shape[:1]:
            raise SettingError(
                f"{name}: expected one `sample_weight` per row, ({target.shape[0]},), but got "
                f"{tuple(sample_weight.shape)}."
            )
        if normalizer is not None and self.reduction == "none":
            raise SettingError(f"{name}: `normalizer` has no meaning with reduction 'none'. Drop one of the two.")
        if normalizer is not None and not self.separable:
            raise SettingError(
                f"{name} compares the rows of a batch with each other, so the loss of a part of a batch has no "
                "meaning. Call it once on the whole batch, without `normalizer`."
            )


class LabelwiseLoss(MultiLabelLoss):
    """Base of the losses with a value per row and label; a subclass implements `label_values`.

    A subclass may override `label_sum` to compute the sum in fewer passes.
    """

    soft_targets: ClassVar[bool] = True

    def label_values(self, logits: Tensor, target: Tensor, *, valid: Tensor | None) -> Tensor:
        """Values ``(M, C)`` for logits and targets of 0 and 1 in one type; `valid` marks known entries (None: all)."""
        raise NotImplementedError  # pragma: no cover

    def label_sum(self, logits: Tensor, target: Tensor) -> Tensor:
        """Sum of all values where every entry is known and every row weighs 1."""
        return self.label_values(logits, target, valid=None).sum()

    def batch_value(
        self,
        logits: Tensor,
        target: Tensor,
        valid: Tensor | None,
        *,
        features: Tensor | None,
        group: Tensor | None,
        sample_weight: Tensor | None,
    ) -> Tensor:
        """Sum of the values of the batch."""
        if valid is None and sample_weight is None:
            return self.label_sum(logits, target)
        values = self._values(logits, target, valid, features=features, group=group)
        return (values if sample_weight is None else _weighed(values, sample_weight)).sum()

    def _values(
        self, logits: Tensor, target: Tensor, valid: Tensor | None, *, features: Tensor | None, group: Tensor | None
    ) -> Tensor:
        del features, group
        values = self.label_values(logits, target, valid=valid)
        return values if valid is None else values.where(valid, 0.0)


class RowwiseLoss(MultiLabelLoss):
    """Base of the losses with a value per row, from all its labels together; a subclass implements `row_values`.

    ``"mean"`` and ``"row_mean"`` are the same: the mean over the rows with a known label.
    """

    def row_values(self, logits: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """Values ``(M,)`` for logits ``(M, C)``; `positive` and `negative` are bool ``(M, C)``, False where unknown."""
        raise NotImplementedError  # pragma: no cover

    def batch_value(
        self,
        logits: Tensor,
        target: Tensor,
        valid: Tensor | None,
        *,
        features: Tensor | None,
        group: Tensor | None,
        sample_weight: Tensor | None,
    ) -> Tensor:
        """Sum of the values of the batch."""
        values = self._values(logits, target, valid, features=features, group=group)
        return (values if sample_weight is None else values * sample_weight).sum()

    def _values(
        self, logits: Tensor, target: Tensor, valid: Tensor | None, *, features: Tensor | None, group: Tensor | None
    ) -> Tensor:
        del features, group
        positive = target > 0.5
        if valid is None:
            return self.row_values(logits, positive, ~positive)
        return self.row_values(logits, positive, ~positive & valid).where(valid.any(dim=1), 0.0)

    def _row_sizes(self, target: Tensor, valid: Tensor | None) -> Tensor:
        dtype = torch.get_default_dtype()
        if valid is None:
            return torch.ones(target.shape[0], dtype=dtype, device=target.device)
        return valid.any(dim=1).to(dtype)


def masked_logsumexp(scores: Tensor, mask: Tensor, dim: int = -1) -> Tensor:
    """Log sum exp over the entries of `mask`; -inf, without gradient, where there is none.

    Args:
        scores: any shape.
        mask: bool, the same shape.
        dim: dimension to sum over.

    Returns:
        The shape of `scores` without `dim`.
    """
    some = mask.any(dim=dim, keepdim=True)
    # An empty set is summed over its real scores and replaced afterwards, so that no infinity enters the backward pass.
    filled = scores.masked_fill(~(mask | ~some), float("-inf"))
    return torch.logsumexp(filled, dim=dim).where(some.squeeze(dim), float("-inf"))


def _weighed(values: Tensor, sample_weight: Tensor) -> Tensor:
    return values * (sample_weight if values.ndim == 1 else sample_weight[:, None])


def _is_binary(target: Tensor) -> bool:
    return bool(((target == 0) | (target == 1)).all())
