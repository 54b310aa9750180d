"""Label-confusion-aware loss: cost-sensitive regularisation (CSR).

    l(z, y) = -a_y log p_y - r sum_{j != y} c_j log(1 - p_j),   p = softmax(z)

    population   c_j = C_yj, share of the errors on gold class y that name class j, from decisions on unseen data
    instance     c_j = p_j, how likely this row is mislabelled as j at present; a constant in the gradient

r reg_weight (1), a class weights (none), which act on the gold term only: the costs say which classes are confusable,
the weights which are rare. With F1 balancing, rows of the catch-all class A weigh

    w = sum_{y_i != A} p_i / (M - sum_{y_i = A} p_i),   p_i = p_{y_i} of row i

Lin, Lu, Han and Sun, Cost-sensitive Regularization for Label Confusion-aware Event Detection, ACL 2019; balancing: the
same authors, Adaptive Scaling for Sparse Detection in Information Extraction, ACL 2018. Survey section 3.3. Differs
from the paper in that C comes from out-of-fold decisions on training data and not from the development set. The
authors' code has, at instance level, r sum_{j != y} p_j log p_j, which rewards competitors for being equally likely
(`legacy_entropy`), and lets the gradient pass through w (`legacy_gradient`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tailwise.errors import SettingError
from tailwise.losses.base import Loss, divided
from tailwise.losses.batchwise import BatchLoss
from tailwise.losses.catch_all import catch_all_index, check_catch_all
from tailwise.losses.class_weights import as_array, as_size, class_weights_tensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from tailwise.losses.base import Reduction
    from tailwise.losses.class_weights import ClassWeights

__all__ = [
    "BalancedConfusionAwareLoss",
    "ConfusionAwareLoss",
    "confusion_aware_values",
    "confusion_costs",
    "confusion_entropy_values",
    "unset_costs",
]

CostMode = Literal["instance", "population"]


def confusion_costs(gold: NDArray[np.int64], predicted: NDArray[np.int64], num_classes: int) -> NDArray[np.float64]:
    """Costs C_ab, the share of the errors on gold class a that name class b, ``(C, C)``.

    The diagonal is 0, and so is the row of a class without an error.

    Args:
        gold: class indices, ``(N,)``.
        predicted: class indices, ``(N,)``, decided by a model that was not trained on them.
        num_classes: C.
    """
    errors = np.bincount(gold * num_classes + predicted, minlength=num_classes**2).reshape(num_classes, num_classes)
    np.fill_diagonal(errors, 0)
    shares: NDArray[np.float64] = errors / np.maximum(errors.sum(axis=1, keepdims=True), 1)
    return shares


def unset_costs(name: str, params: Mapping[str, Any]) -> str | None:
    """Why a recipe cannot have this loss: its costs would stay zero, which is cross-entropy; None where they do not.

    Costs of the population are refreshed from decisions on rows that take no part in the training. Neither the engines
    nor a trainer that is given the loss by name hold such rows out.

    Args:
        name: of the loss, for the message.
        params: of the recipe.
    """
    if params.get("mode") != "population" or params.get("cost_matrix") is not None:
        return None
    return (
        f"The loss {name!r} with mode 'population' needs a `cost_matrix`, for nothing in a recipe sets its costs: they "
        "would stay zero, which is plain cross-entropy. Give `cost_matrix`, choose mode 'instance', or call "
        "`update_costs` after every epoch in a loop of your own or in a callback of `ImbalanceTrainer`, which then "
        "takes the loss as an object."
    )


def confusion_aware_values(
    logits: Tensor,
    target: Tensor,
    costs: Tensor | None = None,
    reg_weight: float = 1.0,
    weights: Tensor | None = None,
) -> Tensor:
    """Per-row confusion-aware loss.

    Args:
        logits: ``(M, C)``.
        target: class indices, ``(M,)``.
        costs: c_j per row, ``(M, C)``, those of the gold classes without influence; None takes the probabilities of
            the row, without gradient.
        reg_weight: r >= 0.
        weights: a_j, ``(C,)``, or None for ones.

    Returns:
        ``(M,)``, same dtype as `logits`.
    """
    log_probabilities, values = _log_probabilities_and_gold(logits, target, weights)
    if reg_weight == 0.0 or logits.shape[1] == 1:
        return values
    probabilities = log_probabilities.exp()
    costs = probabilities.detach() if costs is None else costs.to(logits.dtype)
    # Only the largest probability can be above one half. It may be 1 in the arithmetic at hand, where the logarithm of
    # its complement is that of the sum of the others, from their logarithms.
    gold, top = target[:, None], log_probabilities.argmax(dim=1, keepdim=True)
    of_top = torch.logsumexp(log_probabilities.scatter(1, top, -math.inf), dim=1)
    cost_of_top = costs.gather(1, top).where(top != gold, 0.0).squeeze(1)
    of_others = torch.log1p(-probabilities.scatter(1, torch.cat([top, gold], dim=1), 0.0))
    return values - reg_weight * ((costs * of_others).sum(dim=1) + cost_of_top * of_top)


def confusion_entropy_values(
    logits: Tensor, target: Tensor, reg_weight: float = 1.0, weights: Tensor | None = None
) -> Tensor:
    """Per-row values of the authors' code at instance level: -a_y log p_y + r sum_{j != y} p_j log p_j.

    Args:
        logits: ``(M, C)``.
        target: class indices, ``(M,)``.
        reg_weight: r >= 0.
        weights: a_j, ``(C,)``, or None for ones.

    Returns:
        ``(M,)``, same dtype as `logits`.
    """
    log_probabilities, values = _log_probabilities_and_gold(logits, target, weights)
    information = (log_probabilities.exp() * log_probabilities).scatter(1, target[:, None], 0.0)
    return values + reg_weight * information.sum(dim=1)


def _log_probabilities_and_gold(logits: Tensor, target: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    log_probabilities = functional.log_softmax(logits, dim=1)
    weights = None if weights is None else weights.to(logits.dtype)
    return log_probabilities, functional.nll_loss(log_probabilities, target, weight=weights, reduction="none")


class ConfusionAwareLoss(Loss):
    """Cross-entropy that also pushes down the classes a row is, or its class often is, mistaken for.

    With ``mode="population"`` the costs start at `cost_matrix`, or at zero, which is cross-entropy; `update_costs` sets
    them from decisions, usually after every epoch, in the training loop or in a callback of `ImbalanceTrainer`. They
    are saved with the loss, in checkpoints too. In a recipe, which has no place for such a call, the matrix must be
    given.

    Args:
        mode: ``"instance"``, costs from the probabilities of the row; ``"population"``, from a matrix.
        cost_matrix: C_ab >= 0, gold class by predicted class, ``(C, C)``, for ``"population"``.
        reg_weight: r >= 0; 0 gives cross-entropy.
        legacy_entropy: the instance level of the authors' code.
        class_weights: a rule, a mapping by class name, one number per class, or None; see
            `tailwise.losses.class_weights`. They weigh the gold term only.
        class_counts: training instances per class, for rules.
        class_names: names of the classes, for a mapping and for messages.
        num_classes: C, which ``"population"`` needs; left out where another argument tells.
        beta: of the rule ``"effective_number"``.
        power: of the rule ``"inverse_power"``.
        reduction: see `Loss`.
        ignore_index: see `Loss`.

    Raises:
        SettingError: a mode or number out of range, a matrix that is not square, or options that do not go together.
    """

    cost_matrix: Tensor | None

    def __init__(
        self,
        mode: CostMode = "instance",
        *,
        cost_matrix: ArrayLike | None = None,
        reg_weight: float = 1.0,
        legacy_entropy: bool = False,
        class_weights: ClassWeights = None,
        class_counts: ArrayLike | None = None,
        class_names: Sequence[str] | None = None,
        num_classes: int | None = None,
        beta: float = 0.999,
        power: float = 0.5,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(reduction=reduction, ignore_index=ignore_index)
        if mode not in get_args(CostMode):
            raise SettingError(f"Expected `mode` to be one of {', '.join(get_args(CostMode))}, but got {mode!r}.")
        if not 0.0 <= reg_weight < math.inf:
            raise SettingError(f"Expected `reg_weight` to be a finite number of at least 0, but got {reg_weight!r}.")
        if mode == "population" and legacy_entropy:
            raise SettingError("`legacy_entropy` is the instance level of the authors' code. Use mode 'instance'.")
        if mode == "instance" and cost_matrix is not None:
            raise SettingError("A `cost_matrix` is used with mode 'population' only. Use that, or drop the matrix.")
        self.mode = mode
        self.stateful = mode == "population"
        self.reg_weight = float(reg_weight)
        self.convex = self.reg_weight == 0.0  # cross-entropy
        self.gradient_of_values = self.convex or legacy_entropy or mode == "population"
        self.legacy_entropy = legacy_entropy
        self.class_weights = class_weights_tensor(class_weights, class_counts, class_names, beta, power)
        self.num_classes = _one_size(
            class_weights=None if self.class_weights is None else self.class_weights.numel(),
            cost_matrix=None if cost_matrix is None else len(_as_costs(cost_matrix)),
            num_classes=None if num_classes is None else as_size(num_classes, "num_classes"),
            class_counts=None if class_counts is None else as_array(class_counts, "class_counts").size,
            class_names=None if class_names is None else len(class_names),
        )
        self.register_buffer("cost_matrix", self._starting_costs(cost_matrix) if mode == "population" else None)

    def _starting_costs(self, cost_matrix: ArrayLike | None) -> Tensor:
        if cost_matrix is not None:
            return torch.from_numpy(_as_costs(cost_matrix))
        if self.num_classes is None:
            raise SettingError(
                "Mode 'population' needs the number of classes: give `num_classes`, `class_counts`, `class_names` or a "
                "`cost_matrix`."
            )
        return torch.zeros(self.num_classes, self.num_classes, dtype=torch.float64)

    @torch.no_grad()
    def update_costs(self, gold: ArrayLike, predicted: ArrayLike) -> None:
        """Set the costs from decisions on data that the deciding model was not trained on (`confusion_costs`).

        Args:
            gold: class indices, ``(N,)``; rows equal to `ignore_index` take no part.
            predicted: class indices, ``(N,)``.

        Raises:
            SettingError: not two equally long lists of class indices, or a loss without a cost matrix.
        """
        if self.cost_matrix is None:
            raise SettingError("The loss has no costs to set in mode 'instance'. Make it with mode 'population'.")
        truth, decided = _to_numpy(gold, "gold"), _to_numpy(predicted, "predicted")
        integers = np.issubdtype(truth.dtype, np.integer) and np.issubdtype(decided.dtype, np.integer)
        if truth.ndim != 1 or truth.shape != decided.shape or (truth.size and not integers):
            raise SettingError(
                "Expected `gold` and `predicted` to be class indices (N,), but got "
                f"{truth.dtype} {truth.shape} and {decided.dtype} {decided.shape}."
            )
        valid = truth != self.ignore_index
        truth, decided = truth[valid].astype(np.int64), decided[valid].astype(np.int64)
        size = len(self.cost_matrix)
        for name, classes in (("gold", truth), ("predicted", decided)):
            wrong = classes[(classes < 0) | (classes >= size)]
            if wrong.size:
                raise SettingError(f"Expected class indices from 0 to {size - 1} in `{name}`, but got {wrong[0]}.")
        self.cost_matrix.copy_(torch.from_numpy(confusion_costs(truth, decided, size)))

    def values(self, logits: Tensor, target: Tensor, *, features: Tensor | None, group: Tensor | None) -> Tensor:
        """Per-row values ``(M,)``."""
        del features, group
        if self.legacy_entropy:
            return confusion_entropy_values(logits, target, self.reg_weight, self.class_weights)
        costs = None if self.cost_matrix is None else self.cost_matrix.index_select(0, target)
        return confusion_aware_values(logits, target, costs, self.reg_weight, self.class_weights)


class BalancedConfusionAwareLoss(BatchLoss):
    """`ConfusionAwareLoss` with the rows of the catch-all class weighed down so that the loss follows F1.

    The weight of the catch-all rows comes from all rows of the batch together: it is small while the classes of
    interest are not found yet, and 0 in a batch without them.

    Args:
        catch_all: index or name of the catch-all class.
        mode: see `ConfusionAwareLoss`, as the arguments below.
        cost_matrix: ``(C, C)``.
        reg_weight: r >= 0; 0 leaves balanced cross-entropy, the adaptive scaling of Lin et al. 2018.
        legacy_entropy: the instance level of the authors' code.
        legacy_gradient: let the gradient pass through the weight of the catch-all rows.
        class_weights: weigh the gold term only.
        class_counts: training instances per class.
        class_names: names of the classes.
        num_classes: C.
        beta: of the rule ``"effective_number"``.
        power: of the rule ``"inverse_power"``.
        reduction: ``"mean"`` over the rows.
        ignore_index: see `Loss`.

    Raises:
        UnknownNameError: no class of that name.
        SettingError: as `ConfusionAwareLoss`; no catch-all class.
    """

    def __init__(
        self,
        catch_all: int | str,
        *,
        mode: CostMode = "instance",
        cost_matrix: ArrayLike | None = None,
        reg_weight: float = 1.0,
        legacy_entropy: bool = False,
        legacy_gradient: bool = False,
        class_weights: ClassWeights = None,
        class_counts: ArrayLike | None = None,
        class_names: Sequence[str] | None = None,
        num_classes: int | None = None,
        beta: float = 0.999,
        power: float = 0.5,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(reduction=reduction, ignore_index=ignore_index)
        self.rows = ConfusionAwareLoss(
            mode,
            cost_matrix=cost_matrix,
            reg_weight=reg_weight,
            legacy_entropy=legacy_entropy,
            class_weights=class_weights,
            class_counts=class_counts,
            class_names=class_names,
            num_classes=num_classes,
            beta=beta,
            power=power,
            ignore_index=ignore_index,
        )
        self.num_classes = self.rows.num_classes
        self.stateful = self.rows.stateful
        self.catch_all = catch_all_index(catch_all, class_names, self.num_classes)
        self.legacy_gradient = legacy_gradient

    def update_costs(self, gold: ArrayLike, predicted: ArrayLike) -> None:
        """Set the costs from decisions on unseen data; see `ConfusionAwareLoss.update_costs`."""
        self.rows.update_costs(gold, predicted)

    def effective_prior(self, prior: Tensor) -> Tensor:
        """The prior shifted by the class weights; the weight of the catch-all class, which moves, is not counted."""
        return self.rows.effective_prior(prior)

    def batch_value(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        features: Tensor | None,
        group: Tensor | None,
        sample_weight: Tensor | None,
    ) -> Tensor:
        """Mean of the balanced values of the rows, a scalar; a row of sample weight 2 counts as two rows."""
        check_catch_all(self, self.catch_all, logits)
        values = self.rows.values(logits, target, features=features, group=group)
        counted = torch.ones_like(values) if sample_weight is None else sample_weight.to(values.dtype)
        weight = self._catch_all_weight(logits, target, counted)
        balanced = values * weight.where(target == self.catch_all, 1.0)
        return divided((counted * balanced).sum(), counted.sum())

    def _catch_all_weight(self, logits: Tensor, target: Tensor, counted: Tensor) -> Tensor:
        logits = logits if self.legacy_gradient else logits.detach()
        found = functional.softmax(logits, dim=1).gather(1, target[:, None]).squeeze(1) * counted
        rejected = target == self.catch_all
        return divided(found.masked_fill(rejected, 0.0).sum(), counted.sum() - found.masked_fill(~rejected, 0.0).sum())


def _one_size(**sizes: int | None) -> int | None:
    """The number of classes that all arguments agree on, or None where none tells."""
    known = {name: size for name, size in sizes.items() if size is not None}
    if len(set(known.values())) > 1:
        described = ", ".join(f"{size} by `{name}`" for name, size in known.items())
        raise SettingError(f"The arguments disagree on the number of classes: {described}.")
    return next(iter(known.values()), None)


def _as_costs(cost_matrix: ArrayLike) -> NDArray[np.float64]:
    expected = "one number per pair of classes, (C, C)"
    costs = np.array(as_array(cost_matrix, "cost_matrix", expected))
    if costs.ndim != 2 or costs.shape[0] != costs.shape[1] or costs.size == 0:
        raise SettingError(f"Expected `cost_matrix` to be {expected}, but got {costs.shape}.")
    if not (np.isfinite(costs) & (costs >= 0)).all():
        raise SettingError("Expected `cost_matrix` to be finite and not negative.")
    np.fill_diagonal(costs, 0.0)
    return costs


def _to_numpy(values: Any, what: str) -> NDArray[Any]:
    try:
        return np.asarray(values.detach().cpu().numpy() if isinstance(values, Tensor) else values)
    except (TypeError, ValueError) as error:
        raise SettingError(f"Expected `{what}` to be class indices (N,), but got {values!r}.") from error
