"""Progressively-balanced sampling (PB): from natural to class-balanced in the course of training.

    P_j(e) = (1 - w_e) n_j / N + w_e / C,      w_e = e / (E - 1),   e = 0, ..., E - 1

Kang et al., Decoupling Representation and Classifier for Long-Tailed Recognition, ICLR 2020, eq. 2. Survey section 3.1.
The paper writes w_e = e / E; its code starts with exactly 0 and ends with exactly 1, and so do we. Differs from it in
the option `stepwise`, in which w grows within the epochs too, from 0 at the first draw to 1 at the last one of the run:
a fine-tuning of three epochs would otherwise see three distributions only.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from tailwise.errors import SettingError
from tailwise.sampling.class_mixture import ClassMixtureSampler
from tailwise.sampling.power import interpolated_shares

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["ProgressiveSampler"]

_PARTS = 100


class ProgressiveSampler(ClassMixtureSampler):
    """The share of class-balanced draws grows from 0 to 1.

    Args:
        labels: class index of every row, ``(N,)``.
        num_epochs: E, the epochs of the run; later ones stay balanced. A fraction tells `stepwise` where in the last
            epoch the run ends; otherwise it is rounded.
        stepwise: let the share grow within the epochs too, in a hundred steps each.
        seed: see `LabelSampler`.
        num_samples: length of an epoch; None takes N.
        num_classes: see `LabelSampler`. A class without a row is left out.

    Raises:
        SettingError: `num_epochs` not above 0, or below 2 without `stepwise`.
    """

    def __init__(
        self,
        labels: ArrayLike,
        *,
        num_epochs: float,
        stepwise: bool = False,
        seed: int = 0,
        num_samples: int | None = None,
        num_classes: int | None = None,
    ) -> None:
        super().__init__(labels, seed=seed, num_samples=num_samples, num_classes=num_classes)
        if not 0.0 < num_epochs < np.inf:
            raise SettingError(f"ProgressiveSampler: expected `num_epochs` to be above 0, but got {num_epochs}.")
        if not stepwise and round(num_epochs) < 2:
            raise SettingError(
                f"ProgressiveSampler: expected `num_epochs` to be at least 2, but got {num_epochs:g}. A run of one "
                "epoch can only go from natural to balanced with `stepwise=True`."
            )
        self.num_epochs = num_epochs if stepwise else round(num_epochs)
        self.stepwise = stepwise

    def balanced_shares(self, epoch: int) -> NDArray[np.float64]:
        """The weight w of the balanced distribution in the parts of one epoch, ``(parts,)``."""
        if not self.stepwise:
            return np.array([min(epoch / (self.num_epochs - 1), 1.0)])
        parts = min(_PARTS, len(self))
        total = round(self.num_epochs * parts)
        step = epoch * parts + np.arange(parts)
        return np.minimum(step / max(total - 1, 1), 1.0)

    def shares(self, epoch: int) -> NDArray[np.float64]:
        """The class distribution of one epoch, ``(C,)``."""
        weights = self.balanced_shares(epoch)
        return interpolated_shares(self.class_counts, float(weights @ self._lengths(weights.size)) / len(self))

    def effective_prior(self) -> NDArray[np.float64]:
        """The class distribution of what is drawn in the `num_epochs` epochs of the run together, ``(C,)``."""
        if not self.stepwise:
            return interpolated_shares(self.class_counts, 0.5)
        weights = np.concatenate([self.balanced_shares(epoch) for epoch in range(math.ceil(self.num_epochs))])
        lengths = np.resize(self._lengths(min(_PARTS, len(self))), weights.size)
        drawn = np.diff(np.minimum(np.cumsum(lengths), self.num_epochs * len(self)), prepend=0)
        return interpolated_shares(self.class_counts, float(weights @ drawn / drawn.sum()))

    def class_order(self, generator: np.random.Generator, epoch: int) -> NDArray[np.unsignedinteger]:
        """The class of every draw of one epoch, ``(len(self),)``."""
        weights = self.balanced_shares(epoch)
        parts = zip(weights, self._lengths(weights.size), strict=True)
        drawn = [
            self.shuffled_classes(generator, interpolated_shares(self.class_counts, float(weight)), int(length))
            for weight, length in parts
        ]
        return np.concatenate(drawn)

    def _lengths(self, parts: int) -> NDArray[np.int64]:
        """Draws of each part of an epoch, ``(parts,)``."""
        return np.diff(np.arange(parts + 1) * len(self) // parts)
