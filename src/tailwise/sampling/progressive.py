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
        num_epochs: E, the epochs of the run; later ones stay balanced. A fraction says where in the last epoch the run
            ends. Without `stepwise` w goes by E rounded: in 2.5 epochs it is 0, then 1, then 1 for the half epoch.
        stepwise: let the share grow within the epochs too, in a hundred steps each.
        seed: see `LabelSampler`.
        num_samples: length of an epoch; None takes N.
        num_classes: see `LabelSampler`. A class without a row is left out.

    Attributes:
        num_epochs: E as w goes by it, rounded without `stepwise`.
        run_epochs: E as given.

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
        self.run_epochs = num_epochs
        self.stepwise = stepwise

    def balanced_shares(self, epoch: int) -> NDArray[np.float64]:
        """The weight w of the balanced distribution in the parts of one epoch, ``(parts,)``."""
        return self._weights(epoch * self._parts + np.arange(self._parts))

    def shares(self, epoch: int) -> NDArray[np.float64]:
        """The class distribution of one epoch, ``(C,)``."""
        weights = self.balanced_shares(epoch)
        return interpolated_shares(self.class_counts, float(weights @ self._lengths(weights.size)) / len(self))

    def row_rates(self) -> NDArray[np.float64] | None:
        """None: what is drawn changes in the course of a training."""
        return None

    def effective_prior(self) -> NDArray[np.float64]:
        """The class distribution of what is drawn in the `run_epochs` epochs of the run together, ``(C,)``."""
        return self.prior_of_run(self.run_epochs, len(self))

    def prior_of_run(self, num_epochs: float, draws: float) -> NDArray[np.float64]:
        """The class distribution of the first draws of every epoch of a run together.

        Args:
            num_epochs: > 0; of the last epoch the fraction counts.
            draws: of each epoch, in (0, ``len(self)``]; a fraction where their number differs between epochs.

        Returns:
            ``(C,)``.
        """
        epochs, parts = np.arange(math.ceil(num_epochs)), self._parts
        weights = self._weights(np.arange(epochs.size * parts))
        ends = np.minimum(np.cumsum(self._lengths(parts)), draws * np.minimum(num_epochs - epochs, 1.0)[:, None])
        drawn = np.diff(ends, prepend=0, axis=1).reshape(-1)
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

    @property
    def _parts(self) -> int:
        """Parts of an epoch that differ in w."""
        return min(_PARTS, len(self)) if self.stepwise else 1

    def _weights(self, steps: NDArray[np.int64]) -> NDArray[np.float64]:
        """The weight w of the balanced distribution in parts counted from the start of the run, as `steps`."""
        return np.minimum(steps / max(round(self.num_epochs * self._parts) - 1, 1), 1.0)

    def _lengths(self, parts: int) -> NDArray[np.int64]:
        """Draws of each part of an epoch, ``(parts,)``."""
        return np.diff(np.arange(parts + 1) * len(self) // parts)
