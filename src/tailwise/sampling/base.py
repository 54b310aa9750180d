"""What every sampler is: a plan, laid out anew for each epoch by a pure function of (labels, seed, epoch).

Nothing depends on how often or where the plan is read, so every rank sees the same plan (the data loader deals it out)
and a run that resumes at any step continues the same sequence.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import numpy as np
from torch.utils.data import Sampler

from tailwise.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

__all__ = ["LabelSampler"]


class LabelSampler(Sampler[int]):
    """Base of the samplers over one label per row.

    Args:
        labels: class index of every row, ``(N,)``.
        seed: any non-negative integer.
        num_samples: length of an epoch; None takes the sampler's own.
        num_classes: C, where classes without a row exist; None takes the largest label + 1.

    Raises:
        SettingError: labels empty, not integers, negative or not one-dimensional; `num_samples` below 1.
    """

    def __init__(
        self, labels: ArrayLike, *, seed: int = 0, num_samples: int | None = None, num_classes: int | None = None
    ) -> None:
        array = np.asarray(labels)
        name = type(self).__name__
        if array.ndim != 1 or array.size == 0:
            raise SettingError(
                f"{name}: expected one class index per row, (N,) with N > 0, but got shape {array.shape}."
            )
        if not np.issubdtype(array.dtype, np.integer):
            raise SettingError(
                f"{name}: expected integer class indices, but got {array.dtype}. Encode the labels first."
            )
        if array.min() < 0:
            raise SettingError(f"{name}: expected class indices from 0, but got {array.min()} at row {array.argmin()}.")
        if num_samples is not None and num_samples < 1:
            raise SettingError(f"{name}: expected `num_samples` to be at least 1, but got {num_samples}.")
        if num_classes is not None and array.max() >= num_classes:
            raise SettingError(f"{name}: label {array.max()} is outside `num_classes` = {num_classes}.")
        self.labels: NDArray[np.int64] = array.astype(np.int64, copy=False)
        self.class_counts: NDArray[np.int64] = np.bincount(self.labels, minlength=num_classes or 0)
        self.seed = seed
        self.epoch = 0
        self._num_samples = num_samples

    @abstractmethod
    def plan(self, epoch: int) -> NDArray[np.int64]:
        """Row indices of one epoch, in order, ``(len(self),)``; pure in (labels, seed, epoch)."""

    @abstractmethod
    def effective_prior(self) -> NDArray[np.float64]:
        """The class distribution of what is drawn, ``(C,)``."""

    @abstractmethod
    def default_num_samples(self) -> int:
        """Length of an epoch when `num_samples` is not given."""

    def __len__(self) -> int:
        return self._num_samples if self._num_samples is not None else self.default_num_samples()

    def __iter__(self) -> Iterator[int]:
        return iter(self.plan(self.epoch).tolist())

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration lays out."""
        self.epoch = epoch

    def generator(self, epoch: int) -> np.random.Generator:
        """The random stream of one epoch, the same on every machine."""
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, epoch])))
