"""Group distributionally robust optimisation (group DRO): the worst group weighs most.

    L_g = mean loss of the rows of group g,    a_g = L_g + C / sqrt(n_g)
    q_g <- q_g exp(s a_g) / sum_h q_h exp(s a_h),    l = sum_g q_g a_g        s step size, C adjustment

    greedy: weight n_g / n to the groups of the highest running mean loss, until a share `alpha` of the rows is spent

Sagawa et al., Distributionally Robust Neural Networks for Group Shifts, ICLR 2020, algorithm 1 and section 3.3. Survey
section 4. The weights move before they are used, as in the authors' code. A group without a row in the batch has the
loss 0. Differs from the code in nothing else; q is kept as a logarithm. With the classes as groups the loss works
against class imbalance (`ClassDROLoss`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from tailwise.errors import SettingError
from tailwise.losses.base import divided
from tailwise.losses.batchwise import BatchLoss
from tailwise.losses.class_weights import as_counts, as_size, positive_counts
from tailwise.losses.cross_entropy import cross_entropy_values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

__all__ = ["ClassDROLoss", "GroupDROLoss", "greedy_weights", "group_means"]


def group_means(values: Tensor, group: Tensor, num_groups: int, sample_weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean of row values ``(M,)`` per group and whether a group has a row, both ``(G,)``; 0 for a group without."""
    weight = torch.ones_like(values) if sample_weight is None else sample_weight
    total = values.new_zeros(num_groups).index_add(0, group, values * weight)
    size = values.new_zeros(num_groups).index_add(0, group, weight)
    return divided(total, size), size > 0


def greedy_weights(reference: Tensor, shares: Tensor, alpha: float) -> Tensor:
    """Weights ``(G,)`` that sum to 1: whole groups by falling `reference` while they fit into `alpha`, then the rest.

    Args:
        reference: running mean losses, ``(G,)``.
        shares: n_g / n, ``(G,)``.
        alpha: share of the rows to spend, in (0, 1].
    """
    order = reference.argsort(descending=True)
    spent = shares.index_select(0, order).cumsum(0).clamp(max=alpha)
    weights = torch.diff(spent, prepend=spent.new_zeros(1)) / spent[-1]
    return torch.empty_like(weights).index_copy(0, order, weights)


class GroupDROLoss(BatchLoss):
    """Cross-entropy, averaged per group and weighted by how badly each group does.

    Draw groups equally often (a class-aware sampler over the groups), and regularise or stop early; without both it
    comes to plain training on separable data. The weights are state: they move in training mode with gradients on, and
    nowhere else.

    Args:
        num_groups: G.
        step_size: s >= 0.
        adjustment: C >= 0, for groups that are small; needs `group_counts`.
        group_counts: training instances per group, ``(G,)``.
        normalize_loss: divide the losses by their sum before the weights move.
        greedy: the greedy form; needs `group_counts`.
        alpha: of the greedy form, in (0, 1].
        momentum: of its running means, weight of the newest loss in (0, 1].
        ignore_index: see `Loss`.
    """

    stateful: bool = True
    requires_group: bool = True
    log_weights: Tensor
    group_counts: Tensor | None
    running: Tensor
    seen: Tensor

    def __init__(
        self,
        num_groups: int,
        *,
        step_size: float = 0.01,
        adjustment: float = 0.0,
        group_counts: ArrayLike | None = None,
        normalize_loss: bool = False,
        greedy: bool = False,
        alpha: float = 0.2,
        momentum: float = 0.1,
        ignore_index: int = -100,
    ) -> None:
        super().__init__(ignore_index=ignore_index)
        num_groups = as_size(num_groups, "num_groups")
        for name, value in (("step_size", step_size), ("adjustment", adjustment)):
            if not 0.0 <= value < float("inf"):
                raise SettingError(f"Expected `{name}` to be a finite number of at least 0, but got {value!r}.")
        for name, value in (("alpha", alpha), ("momentum", momentum)):
            if not 0.0 < value <= 1.0:
                raise SettingError(f"Expected `{name}` to lie in (0, 1], but got {value!r}.")
        counts = None if group_counts is None else positive_counts(as_counts(group_counts, what="group_counts"))
        if counts is None and (adjustment or greedy):
            raise SettingError("`adjustment` and `greedy` need `group_counts`, the training instances per group.")
        if counts is not None and counts.size != num_groups:
            raise SettingError(f"Got {counts.size} group counts for {num_groups} groups. Give one per group.")
        self.num_groups = num_groups
        self.step_size, self.adjustment = float(step_size), float(adjustment)
        self.normalize_loss, self.greedy = normalize_loss, greedy
        self.alpha, self.momentum = float(alpha), float(momentum)
        self.register_buffer("group_counts", None if counts is None else torch.from_numpy(np.array(counts)))
        self.register_buffer("log_weights", torch.full((num_groups,), -float(np.log(num_groups)), dtype=torch.float64))
        self.register_buffer("running", torch.zeros(num_groups, dtype=torch.float64))
        self.register_buffer("seen", torch.zeros(num_groups, dtype=torch.bool))

    @property
    def weights(self) -> Tensor:
        """q, ``(G,)``."""
        return self.log_weights.softmax(dim=0)

    def groups(self, target: Tensor, group: Tensor | None) -> Tensor:
        """The group of every row, ``(M,)``.

        Raises:
            SettingError: a group id outside ``[0, G)``.
        """
        del target
        assert group is not None
        if group.device.type == "cpu" and not torch.compiler.is_compiling():
            low, high = (int(end) for end in group.aminmax())
            if low < 0 or high >= self.num_groups:
                raise SettingError(
                    f"{type(self).__name__}: expected group ids from 0 to {self.num_groups - 1}, but got "
                    f"{low if low < 0 else high}. Number the groups from 0 and set `num_groups` to how many there are."
                )
        return group.long()

    def batch_value(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        features: Tensor | None,
        group: Tensor | None,
        sample_weight: Tensor | None,
    ) -> Tensor:
        """The robust loss of a batch."""
        del features
        values = cross_entropy_values(logits, target)
        losses, present = group_means(values, self.groups(target, group), self.num_groups, sample_weight)
        if self.greedy:
            return losses @ self._greedy(losses, present).to(losses.dtype)
        if self.adjustment and self.group_counts is not None:
            losses = losses + self.adjustment / self.group_counts.to(losses.dtype).sqrt()
        moved = losses.detach().to(self.log_weights.dtype)
        if self.normalize_loss:
            moved = moved / moved.sum().clamp_min(torch.finfo(moved.dtype).tiny)
        if self.training and torch.is_grad_enabled():
            self.log_weights = (self.log_weights + self.step_size * moved).log_softmax(dim=0)
        return losses @ self.weights.to(losses.dtype)

    def _greedy(self, losses: Tensor, present: Tensor) -> Tensor:
        assert self.group_counts is not None
        if self.training and torch.is_grad_enabled():
            kept = torch.where(present, 1.0 - self.momentum, 1.0) * self.seen
            self.running = self.running * kept + losses.detach().to(self.running.dtype) * (1.0 - kept)
            self.seen = self.seen | present
        counts = self.group_counts
        reference = self.running + self.adjustment / counts.sqrt()
        return greedy_weights(reference, counts / counts.sum(), self.alpha)


class ClassDROLoss(GroupDROLoss):
    """Group DRO with the classes as groups.

    Args:
        class_counts: training instances per class, ``(C,)``; `adjustment` needs them.
        num_classes: C, where there are no counts.
        step_size: see `GroupDROLoss`.
        adjustment: see `GroupDROLoss`.
        normalize_loss: see `GroupDROLoss`.
        class_names: names of the classes, for messages.
        ignore_index: see `Loss`.
    """

    requires_group: bool = False

    def __init__(
        self,
        class_counts: ArrayLike | None = None,
        *,
        num_classes: int | None = None,
        step_size: float = 0.01,
        adjustment: float = 0.0,
        normalize_loss: bool = False,
        class_names: Sequence[str] | None = None,
        ignore_index: int = -100,
    ) -> None:
        counts = None if class_counts is None else as_counts(class_counts, class_names)
        num_classes = None if num_classes is None else as_size(num_classes, "num_classes")
        size = num_classes if counts is None else counts.size
        if size is None:
            raise SettingError("ClassDROLoss needs `class_counts`, the training instances per class, or `num_classes`.")
        if num_classes not in (None, size):
            raise SettingError(f"Got {size} class counts for `num_classes` {num_classes}. Give one per class.")
        if counts is None and adjustment:
            raise SettingError("`adjustment` needs `class_counts`, the training instances per class.")
        super().__init__(
            size,
            step_size=step_size,
            adjustment=adjustment,
            group_counts=counts,
            normalize_loss=normalize_loss,
            ignore_index=ignore_index,
        )
        self.num_classes = size

    def effective_prior(self, prior: Tensor) -> Tensor:
        """The weights q over the classes that occur, the same for all in a new loss, ``(C,)`` to ``(C,)``.

        Exact where every batch holds every class; a class that is often absent counts for less than its q.
        """
        q = self.weights.to(prior).where(prior > 0, 0.0)
        return q / q.sum()

    def groups(self, target: Tensor, group: Tensor | None) -> Tensor:
        """The class of every row, ``(M,)``."""
        del group
        return target
