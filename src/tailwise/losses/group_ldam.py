"""Group-aware margin loss (fair LDAM).

    l(z, y, g) = -w_yg a_y log( exp(s (z_y - D_yg)) / ( exp(s (z_y - D_yg)) + sum_{j != y} exp(s z_j) ) )

    class     D_yg = D(n_y)                    D(n) = K n^(-1/4), the largest D is `max_margin`
    group     D_yg = D(n_g)
    cell      D_yg = D(n_yg)
    sum       D_yg = r_c D(n_y) + r_g D(n_g) + r_cg D(n_yg)
    product   D_yg = D(n_y) D(n_g)

n_y, n_g and n_yg training instances per class, group and cell of both; z cosine scores, s scale, a class weights
(none), w instance weights, inverse to n_yg (none), r shares (0.5 each).

Subramanian et al., Fairness-aware Class Imbalanced Learning, EMNLP 2021. Survey section 3.3. Differs from the authors'
code in that groups are any number, not two, and instance weights are worked out from the counts.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from tailwise.errors import SettingError
from tailwise.losses.base import Loss
from tailwise.losses.class_weights import class_weights_tensor, warn_of_empty
from tailwise.losses.cross_entropy import cross_entropy_values
from tailwise.losses.ldam import ldam_margins

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from tailwise.losses.base import Reduction
    from tailwise.losses.class_weights import ClassWeights

__all__ = ["GroupLDAMLoss", "group_ldam_margins", "group_ldam_values"]

MarginKind = Literal["class", "group", "cell", "sum", "product"]


def group_ldam_margins(
    cell_counts: NDArray[np.float64],
    margins: MarginKind = "sum",
    *,
    class_share: float = 0.5,
    group_share: float = 0.5,
    cell_share: float = 0.5,
    max_margin: float = 0.5,
) -> NDArray[np.float64]:
    """Margins D_yg per class and group, ``(C, G)``.

    Args:
        cell_counts: n_yg, ``(C, G)``; a class, group or cell without an instance is treated as if it had one.
        margins: which; see the module.
        class_share: r_c, of ``"sum"``.
        group_share: r_g, of ``"sum"``.
        cell_share: r_cg, of ``"sum"``.
        max_margin: largest D of each kind, >= 0.
    """

    def of(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        return ldam_margins(_filled(counts), max_margin)

    by_class, by_group = of(cell_counts.sum(axis=1))[:, None], of(cell_counts.sum(axis=0))[None, :]
    chosen = {
        "class": lambda: by_class,
        "group": lambda: by_group,
        "cell": lambda: of(cell_counts),
        "sum": lambda: class_share * by_class + group_share * by_group + cell_share * of(cell_counts),
        "product": lambda: by_class * by_group,
    }[margins]()
    return np.broadcast_to(chosen, cell_counts.shape).copy()


def group_ldam_values(
    logits: Tensor, target: Tensor, margins: Tensor, scale: float = 30.0, weights: Tensor | None = None
) -> Tensor:
    """Per-row margin loss with a margin per row.

    Args:
        logits: cosine scores, ``(M, C)``.
        target: class indices, ``(M,)``.
        margins: D of each row, ``(M,)``.
        scale: s > 0.
        weights: a_j, ``(C,)``, or None for ones.

    Returns:
        ``(M,)``, same dtype as `logits`.
    """
    shift = (-scale * margins).to(logits.dtype)
    return cross_entropy_values((scale * logits).scatter_add_(1, target[:, None], shift[:, None]), target, weights)


class GroupLDAMLoss(Loss):
    """Margins that grow with the rarity of the class, of the group (for example an author's gender), or of both.

    The group is needed in training only. Margins and scale presuppose cosine scores, as for `LDAMLoss`.

    Args:
        cell_counts: training instances per class and group, ``(C, G)``.
        margins: ``"class"`` (LDAM), ``"group"``, ``"cell"``, ``"sum"`` or ``"product"``; see the module.
        class_share: r_c >= 0, of ``"sum"``.
        group_share: r_g >= 0, of ``"sum"``.
        cell_share: r_cg >= 0, of ``"sum"``.
        max_margin: largest margin of each kind, >= 0.
        scale: s > 0. At prediction the raw scores decide; softmax of s times the scores gives the probabilities.
        instance_weights: weigh a row inversely to the training instances of its class and group, 1 on average.
        class_weights: a rule, worked out from the class counts, a mapping by class name, one number per class, or None.
        class_names: names of the classes, for a mapping and for messages.
        beta: of the rule ``"effective_number"``.
        power: of the rule ``"inverse_power"``.
        reduction: see `Loss`; instance weights do not enter the denominator.
        ignore_index: see `Loss`.

    Raises:
        UnknownNameError: an unknown class-weight rule or class name.
        SettingError: counts that are not one per class and group, or a parameter out of its range.
    """

    requires_group: bool = True
    requires_cosine: bool = True
    counts_measure_evidence: ClassVar[bool] = True
    margins: Tensor
    instance_weights: Tensor | None
    mean_weights: Tensor | None

    def __init__(
        self,
        cell_counts: ArrayLike,
        *,
        margins: MarginKind = "sum",
        class_share: float = 0.5,
        group_share: float = 0.5,
        cell_share: float = 0.5,
        max_margin: float = 0.5,
        scale: float = 30.0,
        instance_weights: bool = False,
        class_weights: ClassWeights = None,
        class_names: Sequence[str] | None = None,
        beta: float = 0.999,
        power: float = 0.5,
        reduction: Reduction = "weighted_mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(reduction=reduction, ignore_index=ignore_index)
        if margins not in get_args(MarginKind):
            raise SettingError(
                f"Expected `margins` to be one of {', '.join(get_args(MarginKind))}, but got {margins!r}."
            )
        amounts = {
            "class_share": class_share,
            "group_share": group_share,
            "cell_share": cell_share,
            "max_margin": max_margin,
        }
        for name, amount in amounts.items():
            if not 0.0 <= amount < math.inf:
                raise SettingError(f"Expected `{name}` to be a finite number of at least 0, but got {amount!r}.")
        if not 0.0 < scale < math.inf:
            raise SettingError(f"Expected `scale` to be a finite number larger than 0, but got {scale!r}.")
        self.scale = self.inference_scale = float(scale)
        counts = _as_cells(cell_counts, class_names)
        _warn_of_empty_cells(counts, class_names)
        self.num_classes, self.num_groups = counts.shape
        self.class_weights = class_weights_tensor(class_weights, counts.sum(axis=1), class_names, beta, power)
        self.register_buffer("margins", torch.from_numpy(group_ldam_margins(counts, margins, **amounts)))
        by_cell = _inverse_weights(counts) if instance_weights else None
        self.register_buffer("instance_weights", None if by_cell is None else torch.from_numpy(by_cell))
        by_class = None if by_cell is None else _class_means(by_cell, counts)
        self.register_buffer("mean_weights", None if by_class is None else torch.from_numpy(by_class))

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
        """The loss of a batch; see `Loss.forward`. The group of an ignored row may be anything.

        Raises:
            SettingError: as `Loss.forward`; no group ids, or one outside the groups of the counts.
        """
        if group is not None and group.shape == target.shape:
            group = group.where(target != self.ignore_index, 0)
        return super().forward(
            logits, target, features=features, sample_weight=sample_weight, group=group, normalizer=normalizer
        )

    def values(self, logits: Tensor, target: Tensor, *, features: Tensor | None, group: Tensor | None) -> Tensor:
        """Per-row values ``(M,)``."""
        del features
        cells = (target, self._checked(group))
        values = group_ldam_values(logits, target, self.margins[cells], self.scale, self.class_weights)
        return values if self.instance_weights is None else values * self.instance_weights[cells].to(values.dtype)

    def effective_prior(self, prior: Tensor) -> Tensor:
        """The prior as class and instance weights shift it, ``(C,)`` to ``(C,)``.

        Groups are taken to be as frequent within a class as in the training counts.
        """
        prior = super().effective_prior(prior)
        if self.mean_weights is None:
            return prior
        shifted = prior * self.mean_weights.to(prior)
        return shifted / shifted.sum()

    def _checked(self, group: Tensor | None) -> Tensor:
        assert group is not None  # `forward` has checked it
        if group.device.type == "cpu" and group.numel() and not torch.compiler.is_compiling():
            low, high = (int(end) for end in group.aminmax())
            if low < 0 or high >= self.num_groups:
                raise SettingError(
                    f"GroupLDAMLoss: expected group ids from 0 to {self.num_groups - 1}, as many as `cell_counts` has "
                    f"columns, but got {low if low < 0 else high}."
                )
        return group.long()


def _as_cells(cell_counts: ArrayLike, class_names: Sequence[str] | None) -> NDArray[np.float64]:
    if isinstance(cell_counts, Tensor):
        cell_counts = cell_counts.detach().cpu().numpy()
    try:
        counts = np.array(cell_counts, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise SettingError(
            f"Expected `cell_counts` to be one number per class and group, (C, G), but got {cell_counts!r}."
        ) from error
    if counts.ndim != 2 or counts.size == 0:
        raise SettingError(
            f"Expected `cell_counts` to be one number per class and group, (C, G), but got shape {counts.shape}."
        )
    if not (np.isfinite(counts) & (counts >= 0)).all() or not counts.any():
        raise SettingError("Expected `cell_counts` to be finite and not negative, with at least one instance.")
    if class_names is not None and len(class_names) != len(counts):
        raise SettingError(f"Got {len(counts)} rows of `cell_counts` for {len(class_names)} class names.")
    return counts


def _filled(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(counts == 0, 1.0, counts)


def _inverse_weights(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights inverse to the counts of the cells, ``(C, G)``, 1 on average over the training instances."""
    weights: NDArray[np.float64] = 1.0 / _filled(counts)
    return weights * float(counts.sum() / (counts * weights).sum())


def _class_means(weights: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean weight of an instance of each class, ``(C,)``; of its groups, for a class without an instance."""
    frequency = np.where(counts.sum(axis=1, keepdims=True) == 0, 1.0, counts)
    return np.average(weights, axis=1, weights=frequency)


def _warn_of_empty_cells(counts: NDArray[np.float64], class_names: Sequence[str] | None) -> None:
    classes = range(len(counts)) if class_names is None else class_names
    names = [f"{name} in group {group}" for name in classes for group in range(counts.shape[1])]
    warn_of_empty(counts.ravel(), names, "each counts as if it had one where margins or weights depend on it")
