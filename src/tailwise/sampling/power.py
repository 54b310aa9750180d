"""Power-law class distributions: square-root and temperature sampling, and interpolation towards balance.

    power           P_j = n_j^q / sum_k n_k^q          q = 1 natural, 1/2 square root, 0 class-balanced
    temperature     the same with q = 1 / T            T = 1 natural, 5 in the paper, infinite balanced
    interpolation   P_j = (1 - l) n_j / N + l / C      l = 0 natural, 1 class-balanced

Mahajan et al., Exploring the Limits of Weakly Supervised Pretraining, ECCV 2018 (square root); Arivazhagan et al.,
Massively Multilingual Neural Machine Translation in the Wild, arXiv 1907.05019 (temperature, there over languages);
Kang et al., ICLR 2020, eq. 1. Survey section 3.1. A class without a row has share 0, whatever q, and C counts the
classes with one. Differs from the code of Kang et al. in that classes and rows are not drawn independently: see
`class_mixture`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tailwise.errors import SettingError
from tailwise.sampling.class_mixture import ClassMixtureSampler

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["PowerSampler", "interpolated_shares", "power_shares"]


def power_shares(class_counts: NDArray[np.int64], power: float) -> NDArray[np.float64]:
    """The class distribution n_j^q / sum n_k^q.

    Args:
        class_counts: n_j, ``(C,)``.
        power: q >= 0.

    Returns:
        ``(C,)``.
    """
    present = class_counts > 0
    relative = np.where(present, class_counts / class_counts.max(), 1.0)
    weight = np.where(present, relative**power, 0.0)
    shares: NDArray[np.float64] = weight / weight.sum()
    return shares


def interpolated_shares(class_counts: NDArray[np.int64], interpolation: float) -> NDArray[np.float64]:
    """The class distribution (1 - l) n_j / N + l / C.

    Args:
        class_counts: n_j, ``(C,)``.
        interpolation: l in [0, 1].

    Returns:
        ``(C,)``.
    """
    natural, balanced = power_shares(class_counts, 1.0), power_shares(class_counts, 0.0)
    return (1.0 - interpolation) * natural + interpolation * balanced


class PowerSampler(ClassMixtureSampler):
    """Between natural and class-balanced: by a power, a temperature or an interpolation, one of them.

    Args:
        labels: class index of every row, ``(N,)``.
        power: q in [0, 1]; 1/2 if nothing is given.
        temperature: T >= 1, in place of `power`; may be infinite.
        interpolation: l in [0, 1], in place of `power`.
        seed: see `LabelSampler`.
        num_samples: length of an epoch; None takes N.
        num_classes: see `LabelSampler`. A class without a row is left out.

    Raises:
        SettingError: two of `power`, `temperature` and `interpolation`, or one outside its range.
    """

    def __init__(
        self,
        labels: ArrayLike,
        *,
        power: float | None = None,
        temperature: float | None = None,
        interpolation: float | None = None,
        seed: int = 0,
        num_samples: int | None = None,
        num_classes: int | None = None,
    ) -> None:
        super().__init__(labels, seed=seed, num_samples=num_samples, num_classes=num_classes)
        given = {"power": power, "temperature": temperature, "interpolation": interpolation}
        named = [name for name, value in given.items() if value is not None]
        if len(named) > 1:
            raise SettingError(
                f"PowerSampler: `{named[0]}` and `{named[1]}` are two ways to say the same. Give one of them."
            )
        for name, value in (("power", power), ("interpolation", interpolation)):
            if value is not None and not 0.0 <= value <= 1.0:
                raise SettingError(f"PowerSampler: expected `{name}` to lie in [0, 1], but got {value!r}.")
        if temperature is not None and not temperature >= 1.0:
            raise SettingError(f"PowerSampler: expected `temperature` to be at least 1, but got {temperature!r}.")
        self.interpolation = interpolation
        self.power = (0.5 if power is None else power) if temperature is None else 1.0 / temperature

    def shares(self, epoch: int) -> NDArray[np.float64]:
        """The class distribution, the same in every epoch, ``(C,)``."""
        del epoch
        if self.interpolation is not None:
            return interpolated_shares(self.class_counts, self.interpolation)
        return power_shares(self.class_counts, self.power)
