"""Losses that treat the catch-all class (NA, O, Other) apart.

    catch-all-aware weights    w_A = w0,   w_j = rule(n without n_A)_j
    majority or minority       l(z, y) = CE(z, y) + lambda [y = A] CE(z, y)

A catch-all class, w0 its weight (1), lambda strength (1). By the inverse rule w_j = sum_{k != A} n_k / ((C - 1) n_j).

Weights: after Hu et al. 2022 (event detection): the classes of interest are re-weighted among themselves, the catch-all
class is left as it is. The form of the weights in the paper could not be checked; any rule may be given here.
Majority or minority (MoM): Nemoto, Kitada and Iyatomi, Majority or Minority: Data Imbalance Learning Method for Named
Entity Recognition, IEEE Access 2025 (arXiv 2401.11431). Survey section 3.3. Differs from the paper in the scale: sums
over tokens are divided by the number of tokens, not by the length of the longest sentence; a mixture of the two terms
is the same up to a factor.
"""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING

import numpy as np
import torch

from tailwise.errors import SettingError, UnknownNameError
from tailwise.losses.base import Loss
from tailwise.losses.class_weights import as_counts, class_weights
from tailwise.losses.convex_forms import SoftmaxForm
from tailwise.losses.cross_entropy import CrossEntropyLoss, cross_entropy_values
from tailwise.registry import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor

    from tailwise.losses.base import Reduction
    from tailwise.losses.class_weights import Normalisation

__all__ = [
    "CatchAllWeightedCrossEntropyLoss",
    "MajorityOrMinorityLoss",
    "catch_all_index",
    "catch_all_weights",
    "check_catch_all",
]


def catch_all_index(
    catch_all: int | str | None, class_names: Sequence[str] | None = None, num_classes: int | None = None
) -> int:
    """Index of the catch-all class.

    Args:
        catch_all: index or name.
        class_names: names of the classes, for a name and for the range of an index.
        num_classes: number of classes, for the range of an index where there are no names.

    Raises:
        UnknownNameError: no class of that name.
        SettingError: no catch-all class, a name without `class_names`, or an index that is no class.
    """
    if catch_all is None:
        raise SettingError("Expected `catch_all` to be the index or the name of the catch-all class, but got None.")
    if isinstance(catch_all, str):
        if class_names is None:
            raise SettingError(f"The catch-all class {catch_all!r} is a name, which needs `class_names`.")
        names = list(class_names)
        if catch_all not in names:
            raise UnknownNameError(f"There is no class {catch_all!r}. {did_you_mean(catch_all, map(str, names))}")
        return names.index(catch_all)
    size = len(class_names) if class_names is not None else num_classes
    try:
        index = -1 if isinstance(catch_all, bool) else operator.index(catch_all)
    except TypeError:
        index = -1
    if index < 0 or (size is not None and index >= size):
        expected = "0 on" if size is None else f"0 to {size - 1}"
        raise SettingError(
            f"Expected `catch_all` to be a class name or a class index from {expected}, but got {catch_all!r}."
        )
    return index


def check_catch_all(loss: Loss, catch_all: int, logits: Tensor) -> None:
    """Raise `SettingError` where the catch-all class of a loss is beyond the classes of the logits ``(M, C)``."""
    if catch_all >= logits.shape[1]:
        raise SettingError(
            f"{type(loss).__name__}: the catch-all class is {catch_all}, but the logits have {logits.shape[1]} classes."
        )


def catch_all_weights(
    class_counts: ArrayLike,
    catch_all: int | str,
    rule: str | None = "inverse",
    catch_all_weight: float = 1.0,
    *,
    class_names: Sequence[str] | None = None,
    normalise: Normalisation = "mean_over_instances",
    clip: tuple[float, float] | None = None,
    beta: float = 0.999,
    power: float = 0.5,
) -> NDArray[np.float64]:
    """Weights of the classes with the rule worked out, and normalised, over all classes but the catch-all, ``(C,)``.

    Args:
        class_counts: training instances per class, ``(C,)``; that of the catch-all class has no influence.
        catch_all: index or name of the catch-all class.
        rule: a rule of `tailwise.losses.class_weights`, or None for ones.
        catch_all_weight: w0 >= 0.
        class_names: names of the classes, for a catch-all given by name and for messages.
        normalise: see `class_weights`; over the classes besides the catch-all.
        clip: lowest and highest weight of the classes besides the catch-all.
        beta: of the rule ``"effective_number"``.
        power: of the rule ``"inverse_power"``.

    Raises:
        UnknownNameError: an unknown rule or class name.
        SettingError: counts or a weight out of range, or no instance besides those of the catch-all class.
    """
    counts = as_counts(class_counts, class_names)
    index = catch_all_index(catch_all, class_names, counts.size)
    if not 0.0 <= catch_all_weight < math.inf:
        raise SettingError(
            f"Expected `catch_all_weight` to be a finite number of at least 0, but got {catch_all_weight!r}."
        )
    others = np.delete(counts, index)
    if others.size == 0:
        return np.array([catch_all_weight])
    if not others.any():
        raise SettingError("Expected `class_counts` with an instance of a class besides the catch-all, but all are 0.")
    names = None if class_names is None else [name for i, name in enumerate(class_names) if i != index]
    weights = class_weights(rule, others, class_names=names, normalise=normalise, clip=clip, beta=beta, power=power)
    return np.insert(weights, index, catch_all_weight)


class CatchAllWeightedCrossEntropyLoss(CrossEntropyLoss):
    """Cross-entropy whose class weights are worked out without the catch-all class.

    A rule over all classes would take the catch-all class for one more frequent class and weigh it down to almost
    nothing; here it keeps its weight and the other classes are balanced among themselves.

    Args:
        class_counts: training instances per class.
        catch_all: index or name of the catch-all class.
        rule: a rule of `tailwise.losses.class_weights`, or None for ones.
        catch_all_weight: w0 >= 0.
        class_names: names of the classes, for a catch-all given by name and for messages.
        beta: of the rule ``"effective_number"``.
        power: of the rule ``"inverse_power"``.
        label_smoothing: e in [0, 1].
        reduction: see `Loss`; the default divides by the sum of the weights of the targets, as PyTorch does.
        ignore_index: see `Loss`.

    Raises:
        UnknownNameError: an unknown rule or class name.
        SettingError: see `catch_all_weights`.
    """

    def __init__(
        self,
        class_counts: ArrayLike,
        catch_all: int | str,
        *,
        rule: str | None = "inverse",
        catch_all_weight: float = 1.0,
        class_names: Sequence[str] | None = None,
        beta: float = 0.999,
        power: float = 0.5,
        label_smoothing: float = 0.0,
        reduction: Reduction = "weighted_mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(label_smoothing=label_smoothing, reduction=reduction, ignore_index=ignore_index)
        weights = catch_all_weights(
            class_counts, catch_all, rule, catch_all_weight, class_names=class_names, beta=beta, power=power
        )
        self.class_weights = torch.from_numpy(weights)
        self.num_classes = weights.size


class MajorityOrMinorityLoss(Loss):
    """Cross-entropy plus, once more, the cross-entropy of the rows of the catch-all class.

    It teaches the model what is *not* of interest. In effect the catch-all class weighs 1 + lambda, and rows are
    counted, not weights: ``"weighted_mean"`` is the same as ``"mean"``.

    Args:
        catch_all: index or name of the catch-all class.
        strength: lambda >= 0; 0 gives cross-entropy.
        class_names: names of the classes, for a catch-all given by name.
        reduction: see `Loss`.
        ignore_index: see `Loss`.

    Raises:
        UnknownNameError: no class of that name.
        SettingError: no catch-all class, or a strength out of range.
    """

    convex: bool = True

    def __init__(
        self,
        catch_all: int | str,
        *,
        strength: float = 1.0,
        class_names: Sequence[str] | None = None,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(reduction=reduction, ignore_index=ignore_index)
        if not 0.0 <= strength < math.inf:
            raise SettingError(f"Expected `strength` to be a finite number of at least 0, but got {strength!r}.")
        self.catch_all = catch_all_index(catch_all, class_names)
        self.strength = float(strength)
        self.num_classes = None if class_names is None else len(class_names)

    def values(self, logits: Tensor, target: Tensor, *, features: Tensor | None, group: Tensor | None) -> Tensor:
        """Per-row values ``(M,)``."""
        del features, group
        check_catch_all(self, self.catch_all, logits)
        values = cross_entropy_values(logits, target)
        return values + self.strength * values.where(target == self.catch_all, 0.0)

    def softmax_form(self, num_classes: int) -> SoftmaxForm | None:
        """Cross-entropy with 1 + lambda as the weight of the catch-all class."""
        weights = torch.ones(num_classes, dtype=torch.float64)
        weights[self.catch_all] += self.strength
        return SoftmaxForm(weights=weights)

    def effective_prior(self, prior: Tensor) -> Tensor:
        """The prior with the catch-all class counted 1 + lambda times, ``(C,)`` to ``(C,)``."""
        weight = torch.ones_like(prior)
        weight[self.catch_all] = 1.0 + self.strength
        return prior * weight / (prior * weight).sum()
