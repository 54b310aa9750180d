"""Balanced softmax, also known as the logit-adjusted loss.

    l(z, y) = -log softmax(z + t log pi)_y        pi class prior, t strength (1)

Ren et al., Balanced Meta-Softmax for Long-Tailed Visual Recognition, NeurIPS 2020, eq. 3 (t = 1, log n in place of
log pi, which is the same); Menon et al., Long-Tail Learning via Logit Adjustment, ICLR 2021, eq. 10. Survey section 4.
At prediction the raw logits decide: what they express is free of the prior. Differs from the code of Menon et al. in
the term 1e-12 that it adds inside the logarithm (`legacy_prior` does too); here a class without an instance is smoothed
instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from tailwise.errors import SettingError
from tailwise.losses.class_weights import as_counts, warn_of_empty
from tailwise.losses.convex_forms import SoftmaxForm
from tailwise.losses.cross_entropy import CrossEntropyLoss, cross_entropy_values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from tailwise.losses.base import Reduction

__all__ = ["BalancedSoftmaxLoss", "balanced_softmax_values", "smoothed_prior"]

_ADDED = 1e-12  # to the prior, by the code of Menon et al.


def smoothed_prior(counts: NDArray[np.float64], class_names: Sequence[str] | None = None) -> NDArray[np.float64]:
    """pi_j = (n_j + s) / sum (n + s), ``(C,)``; s = 1 where some class has no instance (with a warning), else 0."""
    warn_of_empty(counts, class_names, "one is added to every class before the prior is taken")
    smoothed: NDArray[np.float64] = counts + float((counts == 0).any())
    total = float(smoothed.sum())
    return smoothed / total


def balanced_softmax_values(logits: Tensor, target: Tensor, log_prior: Tensor, strength: float = 1.0) -> Tensor:
    """Per-row balanced-softmax values.

    Args:
        logits: ``(M, C)``.
        target: class indices, ``(M,)``.
        log_prior: log pi_j, ``(C,)``.
        strength: t.

    Returns:
        ``(M,)``, same dtype as `logits`.
    """
    return cross_entropy_values(logits + (strength * log_prior).to(logits.dtype), target)


class BalancedSoftmaxLoss(CrossEntropyLoss):
    """Cross-entropy of logits plus the log prior, so that the logits themselves are free of it.

    Args:
        class_counts: how often rows of each class are drawn in training; after re-sampling what the sampler draws, not
            the natural counts.
        prior: the same as a distribution; exactly one of the two.
        strength: t >= 0; 0 gives cross-entropy, 1 is consistent for the balanced error.
        legacy_prior: add log(pi^t + 1e-12), as the code of Menon et al. does, in place of t log pi. Nothing is smoothed
            then: a class without an instance gets a shift of log 1e-12 = -27.6.
        class_names: names of the classes, for messages.
        reduction: see `Loss`.
        ignore_index: see `Loss`.
    """

    shift: Tensor

    def __init__(
        self,
        class_counts: ArrayLike | None = None,
        *,
        prior: ArrayLike | None = None,
        strength: float = 1.0,
        legacy_prior: bool = False,
        class_names: Sequence[str] | None = None,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(reduction=reduction, ignore_index=ignore_index)
        if not 0.0 <= strength < float("inf"):
            raise SettingError(f"Expected `strength` to be a finite number of at least 0, but got {strength!r}.")
        given = class_counts if prior is None else prior
        if given is None or (class_counts is not None and prior is not None):
            raise SettingError("Give exactly one of `class_counts` and `prior`.")
        counts = as_counts(given, class_names, "class_counts" if prior is None else "prior")
        if prior is not None and not (legacy_prior or counts.all()):
            raise SettingError("Expected `prior` without zeros. Give `class_counts` instead, which are smoothed.")
        self.strength = float(strength)
        if legacy_prior:
            shift = np.log((counts / counts.sum()) ** self.strength + _ADDED)
        else:
            shift = self.strength * np.log(smoothed_prior(counts, class_names))
        self.register_buffer("shift", torch.from_numpy(shift))
        self.num_classes = counts.size

    def adjusted(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits plus t log pi."""
        del target
        return logits + self.cast("shift", logits)

    def softmax_form(self, num_classes: int) -> SoftmaxForm | None:
        """The cross-entropy of shifted logits."""
        del num_classes
        return SoftmaxForm(shift=self.shift) if self._only_shifts else None

    @property
    def _only_shifts(self) -> bool:
        return type(self).adjusted is BalancedSoftmaxLoss.adjusted

    def effective_prior(self, prior: Tensor) -> Tensor:
        """What the raw logits express, prior / pi^t renormalised: uniform where pi is the prior and t is 1."""
        shifted = prior * torch.exp(self.shift.max() - self.shift).to(prior)
        return shifted / shifted.sum()
