"""What every loss is: per-row values, and a reduction that is a step of its own.

    loss = sum_i s_i v_i / denominator        s_i sample weight (1), v_i value of row i, valid rows only

A trainer that splits a batch over micro-batches or ranks passes `normalizer`, the denominator of the whole batch; then
the sum of the parts equals the loss of the whole, to rounding. `denominator` computes it from targets alone.

Class tensors (weights, margins, priors) are buffers in float64, cast to the type of the logits in each call, so that a
loss is exact in the type it is asked in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, get_args

import torch
from torch import Tensor, nn

from tailwise.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tailwise.losses.convex_forms import SigmoidForm, SoftmaxForm

__all__ = ["Loss", "Reduction", "divided", "widened"]

Reduction = Literal["mean", "weighted_mean", "sum", "none"]


class Loss(nn.Module):
    """Base of every loss.

    Args:
        reduction: ``"mean"`` divides by the number of valid rows (the sum of `sample_weight` where given);
            ``"weighted_mean"`` divides by the sum of the class weights of the targets, as
            ``F.cross_entropy(weight=...)`` does, and equals ``"mean"`` for a loss without class weights;
            ``"sum"``; ``"none"`` returns the per-row values ``(M,)``, zero for ignored rows.
        ignore_index: rows with this target take no part.

    A subclass implements `values` and, where it has class weights, sets the buffer ``class_weights`` ``(C,)``; one that
    was made for a certain number of classes sets ``num_classes``.

    Attributes:
        separable: the loss of a batch is the sum of the values of its rows over the denominator; a loss that mixes rows
            sets it to False and cannot be accumulated over micro-batches (see `BatchLoss`).
        by_row: the loss is a weighted mean of `values`, one number per row.
        convex: the values are a convex function, without kinks, of the logits of their rows alone (`separable`, no
            features, groups or state): under L2 an affine head on fixed features has one best fit, see
            `tailwise.training.convex`.
        gradient_of_values: the gradient is that of the values; False where a factor is kept out of it.
        multilabel: targets are ``(M, C)``, several labels per row; see `MultiLabelLoss`.
        stateful: training steps change buffers, which checkpoints must carry; nothing changes in evaluation mode.
        set_by_caller: the state changes by calls of the user's alone, never in the steps of an engine.
        requires_features: the call needs `features`.
        requires_group: the call needs `group`.
        shapes_representation: acts on `features` and not on the logits, so it needs an encoder that is trained.
        requires_cosine: the logits must be cosine scores, as a normalised head gives them.
        counts_measure_evidence: class counts say how much is known of a class (margins), not how often it is drawn.
        inference_scale: what the logits must be multiplied by for softmax to give the probabilities that were fitted.
        scoreless_class: index of a class that has no score of its own: at prediction its score is 0; None.
    """

    separable: bool = True
    by_row: bool = True
    convex: bool = False
    gradient_of_values: bool = True
    multilabel: bool = False
    stateful: bool = False
    set_by_caller: bool = False
    requires_features: bool = False
    requires_group: bool = False
    shapes_representation: bool = False
    requires_cosine: bool = False
    counts_measure_evidence: ClassVar[bool] = False
    inference_scale: float = 1.0
    scoreless_class: int | None = None
    num_classes: int | None = None
    reduction: str
    class_weights: Tensor | None

    def __init__(self, *, reduction: Reduction = "mean", ignore_index: int = -100) -> None:
        super().__init__()
        if reduction not in get_args(Reduction):
            raise SettingError(
                f"Expected argument `reduction` to be one of {', '.join(get_args(Reduction))}, but got {reduction!r}."
            )
        self.reduction = reduction
        self.ignore_index = ignore_index
        self.register_buffer("class_weights", None)
        self._casts: dict[str, tuple[Tensor, int, Tensor]] = {}

    def __call__(self, logits: Tensor, *args: Any, **kwargs: Any) -> Any:
        """`forward`, outside of any autocast region, which would take products to half precision."""
        kind = logits.device.type
        if not torch.is_autocast_enabled(kind):
            return super().__call__(logits, *args, **kwargs)
        with torch.autocast(kind, enabled=False):
            return super().__call__(logits, *args, **kwargs)

    def values(self, logits: Tensor, target: Tensor, *, features: Tensor | None, group: Tensor | None) -> Tensor:
        """Per-row values ``(M,)`` for logits ``(M, C)`` and valid targets ``(M,)``."""
        raise NotImplementedError  # pragma: no cover

    def effective_prior(self, prior: Tensor) -> Tensor:
        """The class distribution the fitted logits express when rows are drawn from `prior`, ``(C,)`` to ``(C,)``.

        A weighted loss shifts it (prior times weight); a loss that takes the prior out during training makes it
        uniform. Post-hoc steps start from this distribution, so that nothing is corrected twice.
        """
        if self.class_weights is None:
            return prior
        shifted = prior * self.class_weights.to(prior)
        return shifted / shifted.sum()

    def softmax_form(self, num_classes: int) -> SoftmaxForm | None:
        """The values as the cross-entropy of scaled and shifted logits, or None where they are something else."""
        del num_classes
        return None

    def sigmoid_form(self) -> SigmoidForm | None:
        """The values as a binary cross-entropy per label, or None where they are something else."""
        return None

    def denominator(self, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """What the sum of row values is divided by: a scalar that is additive over parts of a batch."""
        target = target.long()
        valid = target != self.ignore_index
        weights = self.class_weights if self.reduction == "weighted_mean" else None
        if weights is None and sample_weight is None:
            return valid.sum(dtype=torch.get_default_dtype())
        weight = valid if weights is None else weights.index_select(0, target.where(valid, 0)) * valid
        return weight.sum() if sample_weight is None else (weight * widened(sample_weight)).sum()

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
            target: class indices ``(M,)``; rows equal to `ignore_index` take no part.
            features: what the head saw, ``(M, D)``, for losses that need it.
            sample_weight: ``(M,)``, multiplies the value of each row.
            group: group ids ``(M,)``, for losses that need them.
            normalizer: denominator of the whole batch when `logits` is a part of it.

        `sample_weight` and `normalizer` must be finite and not negative; to check it in every call would be to wait for
        the device.

        Returns:
            Scalar, or ``(M,)`` with ``reduction="none"``. Without a valid row: zero that keeps the graph.

        Raises:
            SettingError: shapes or types that do not fit, or a target outside ``[0, C)``.
        """
        self._check(logits, target, sample_weight, normalizer)
        self._check_inputs(target, features, group)
        logits, target = widened(logits), target.long()
        if self.reduction == "none" or sample_weight is not None:
            values = self._guarded(self._row_values, logits, target, features, group)
            values = values if sample_weight is None else values * sample_weight.to(values.dtype)
            if self.reduction == "none":
                return values
            total = values.sum()
        elif normalizer is None and self.reduction != "sum":
            return self._guarded(self.batch_mean, logits, target, features, group)
        else:
            total = self._guarded(self.batch_sum, logits, target, features, group)
        if normalizer is None and self.reduction == "sum":
            return total
        return divided(total, self.denominator(target, sample_weight) if normalizer is None else normalizer)

    def cast(self, name: str, like: Tensor) -> Tensor:
        """The buffer `name` in the type of `like`, cast once and kept until the buffer changes."""
        buffer: Tensor = getattr(self, name)
        if torch.compiler.is_compiling():
            return buffer.to(like.dtype)
        if torch.is_inference_mode_enabled() or buffer.is_inference():  # autograd takes no tensor of inference mode
            return buffer.clone().to(like.dtype)
        kept = self._casts.get(name)
        if kept is None or kept[0] is not buffer or kept[1] != buffer._version or kept[2].dtype != like.dtype:  # noqa: SLF001
            kept = self._casts[name] = (buffer, buffer._version, buffer.to(like.dtype))  # noqa: SLF001
        return kept[2]

    def batch_sum(self, logits: Tensor, target: Tensor, *, features: Tensor | None, group: Tensor | None) -> Tensor:
        """Sum of the values of the valid rows; a subclass may compute it in fewer operations."""
        return self._row_values(logits, target, features=features, group=group).sum()

    def batch_mean(self, logits: Tensor, target: Tensor, *, features: Tensor | None, group: Tensor | None) -> Tensor:
        """`batch_sum` over `denominator`; a subclass may compute it in fewer operations."""
        return divided(self.batch_sum(logits, target, features=features, group=group), self.denominator(target))

    def row_weights(self, target: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """What each row counts in the mean: class weight over the denominator, 0 where ignored.

        Args:
            target: class indices ``(M,)``, on the CPU.
            like: a tensor of the type wanted.

        Returns:
            The targets with a class in place of `ignore_index`, and the weights, both ``(M,)``.
        """
        if self.class_weights is None and self.ignore_index < 0 and target.numel() and int(target.amin()) >= 0:
            return target, like.new_full(target.shape, 1.0 / target.numel())
        valid = target != self.ignore_index
        target = target.where(valid, 0)
        count = valid.to(like.dtype)
        weight = (
            count if self.class_weights is None else self.cast("class_weights", like).index_select(0, target) * count
        )
        total = weight if self.reduction == "weighted_mean" else count
        return target, divided(weight, total.sum())

    def _row_values(self, logits: Tensor, target: Tensor, *, features: Tensor | None, group: Tensor | None) -> Tensor:
        valid = target != self.ignore_index
        return self.values(logits, target.where(valid, 0), features=features, group=group).where(valid, 0.0)

    def _guarded(
        self,
        compute: Callable[..., Tensor],
        logits: Tensor,
        target: Tensor,
        features: Tensor | None,
        group: Tensor | None,
    ) -> Tensor:
        # Looking at the targets first would be to wait for the device in every call; torch reports an index out of
        # range as either error, in words that depend on the operation.
        try:
            return compute(logits, target, features=features, group=group)
        except (IndexError, RuntimeError) as error:
            outside = (target != self.ignore_index) & ((target < 0) | (target >= logits.shape[1]))
            if not bool(outside.any()):
                raise
            raise SettingError(
                f"{type(self).__name__}: a target is outside the classes of the logits: {int(target[outside][0])}. "
                f"Expected class indices from 0 to {logits.shape[1] - 1}, or {self.ignore_index} for rows to ignore."
            ) from error

    def _check(
        self, logits: Tensor, target: Tensor, sample_weight: Tensor | None, normalizer: Tensor | float | None
    ) -> None:
        name = type(self).__name__
        if logits.ndim != 2 or target.ndim != 1 or logits.shape[0] != target.shape[0] or logits.shape[1] == 0:
            raise SettingError(
                f"{name}: expected logits (M, C) and target (M,), but got {tuple(logits.shape)} and "
                f"{tuple(target.shape)}. Flatten leading dimensions first."
            )
        if not logits.is_floating_point():
            raise SettingError(f"{name}: expected floating-point logits, but got {logits.dtype}.")
        if target.is_floating_point() or target.dtype == torch.bool:
            raise SettingError(f"{name}: expected integer class indices as target, but got {target.dtype}.")
        if self.num_classes is not None and self.num_classes != logits.shape[1]:
            raise SettingError(
                f"{name}: the loss was made for {self.num_classes} classes, but the logits have {logits.shape[1]}."
            )
        if sample_weight is not None and sample_weight.shape != target.shape:
            raise SettingError(
                f"{name}: expected one `sample_weight` per row, {tuple(target.shape)}, but got "
                f"{tuple(sample_weight.shape)}."
            )
        if normalizer is not None and self.reduction == "none":
            raise SettingError(f"{name}: `normalizer` has no meaning with reduction 'none'. Drop one of the two.")

    def _check_inputs(self, target: Tensor, features: Tensor | None, group: Tensor | None) -> None:
        name, rows = type(self).__name__, target.shape[0]
        if self.requires_features and (features is None or features.ndim != 2 or features.shape[0] != rows):
            found = "none" if features is None else str(tuple(features.shape))
            raise SettingError(f"{name}: expected `features` ({rows}, D), what the head saw, but got {found}.")
        if self.requires_group and (group is None or group.shape != (rows,) or group.is_floating_point()):
            found = "none" if group is None else f"{group.dtype} {tuple(group.shape)}"
            raise SettingError(f"{name}: expected `group`, one integer group id per row, ({rows},), but got {found}.")

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # Apple's devices have no float64; there the class tensors are kept in float32.
        try:
            super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        except TypeError:
            super()._apply(_to_single, recurse)  # type: ignore[no-untyped-call]
            super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self


def divided(total: Tensor, denominator: Tensor | float) -> Tensor:
    """The quotient in the type of `total`; 0 / 0, where no row takes part, is 0."""
    tiny = torch.finfo(total.dtype).tiny
    if isinstance(denominator, Tensor):
        return total / denominator.to(total.device, total.dtype).clamp_min(tiny)
    return total / max(denominator, tiny)


def widened(tensor: Tensor) -> Tensor:
    """Half precision as float32; anything else as it is."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _to_single(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype == torch.float64 else tensor
