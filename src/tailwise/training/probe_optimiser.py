"""AdamW for stacked parameters, with a learning rate and a weight decay of its own for every head.

    m = b1 m + (1 - b1) g,   v = b2 v + (1 - b2) g^2
    p = p - r l p - r (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + e)        r learning rate, l weight decay

Loshchilov and Hutter, Decoupled Weight Decay Regularization, ICLR 2019. Equals ``torch.optim.AdamW`` to rounding, which
would take one parameter group per head and spend its time on them. Written in operations that round once each
(+, -, *, /, sqrt), so that an element gets the same bits wherever it lies in a tensor.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tailwise.training.probe_stacks import StackedParameter

__all__ = ["StackedAdamW"]


class StackedAdamW:
    """AdamW over parameters ``(H, ...)``.

    Args:
        parameters: values, gradients and where weight decay acts.
        learning_rates: peak learning rate of each head, ``(H,)``.
        weight_decays: weight decay of each head, ``(H,)``.
        betas: b1 and b2.
        eps: e.
    """

    def __init__(
        self,
        parameters: Sequence[StackedParameter],
        learning_rates: Sequence[float],
        weight_decays: Sequence[float],
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        self._parameters = list(parameters)
        self._parameters = list(parameters)
        self._rates = torch.tensor(learning_rates, dtype=torch.float64)
        self._decays = torch.tensor(weight_decays, dtype=torch.float64) if any(weight_decays) else None
        self._betas = betas
        self._eps = eps
        self._steps = 0
        self._state = [tuple(torch.zeros_like(p.value) for _ in range(3)) for p in parameters]

    def step(self, share_of_peak: float) -> None:
        """One step at `share_of_peak` of the peak learning rates."""
        self._steps += 1
        beta1, beta2 = self._betas
        rates = self._rates * share_of_peak
        # Sums M = m / (1 - b1) and V = v / (1 - b2) save a product each; their factors go into one rate and one eps.
        root = math.sqrt((1.0 - beta2**self._steps) / (1.0 - beta2))
        sizes = rates * root * (1.0 - beta1) / (1.0 - beta1**self._steps)
        for parameter, (mean, square, spare) in zip(self._parameters, self._state, strict=True):
            shape = (-1,) + (1,) * (parameter.value.ndim - 1)
            mean.mul_(beta1).add_(parameter.gradient)
            torch.mul(parameter.gradient, parameter.gradient, out=spare)
            square.mul_(beta2).add_(spare)
            torch.sqrt(square, out=spare).add_(self._eps * root)
            torch.div(mean, spare, out=spare).mul_(sizes.to(spare.dtype).view(shape))
            if parameter.decayed is not None and self._decays is not None:
                parameter.decayed.mul_((1.0 - rates * self._decays).to(spare.dtype).view(shape))
            parameter.value.sub_(spare)
