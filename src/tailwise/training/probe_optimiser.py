"""AdamW for stacked parameters, with a learning rate and a weight decay of its own for every head.

    m = b1 m + (1 - b1) g,   v = b2 v + (1 - b2) g^2
    p = p - r l p - r (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + e)        r learning rate, l weight decay

Loshchilov and Hutter, Decoupled Weight Decay Regularization, ICLR 2019. Equals ``torch.optim.AdamW`` to rounding, which
would take one parameter group per head and spend its time on them. Written in operations that round once each
(+, -, *, /, sqrt), so that an element gets the same bits wherever it lies in a tensor.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tailwise.training.probe_stacks import StackedParameter

__all__ = ["StackedAdamW"]

#: Elements updated at a time; few enough for all they need to stay in the cache of one core.
_PORTION = 65536


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
        self._rates = torch.tensor(learning_rates, dtype=torch.float64)
        self._decays = torch.tensor(weight_decays, dtype=torch.float64) if any(weight_decays) else None
        self._betas = betas
        self._eps = eps
        self._steps = 0
        self._portions = [portion for parameter in parameters for portion in _portions(parameter)]

    def step(self, share_of_peak: float) -> None:
        """One step at `share_of_peak` of the peak learning rates."""
        self._steps += 1
        beta1, beta2 = self._betas
        rates = self._rates * share_of_peak
        # Sums M = m / (1 - b1) and V = v / (1 - b2) save a product each; their factors go into one rate and one eps.
        root = math.sqrt((1.0 - beta2**self._steps) / (1.0 - beta2))
        sizes = (rates * root * (1.0 - beta1) / (1.0 - beta1**self._steps)).to(torch.float32)
        kept = None if self._decays is None else (1.0 - rates * self._decays).to(torch.float32)
        for heads, value, gradient, decayed, mean, square, spare in self._portions:
            ones = (1,) * (value.ndim - 1)
            mean.mul_(beta1).add_(gradient)
            torch.mul(gradient, gradient, out=spare)
            square.mul_(beta2).add_(spare)
            torch.sqrt(square, out=spare).add_(self._eps * root)
            torch.div(mean, spare, out=spare).mul_(sizes[heads].view(-1, *ones))
            if decayed is not None and kept is not None:
                decayed.mul_(kept[heads].view(-1, *ones))
            value.sub_(spare)


class _Portion(NamedTuple):
    """Some heads of a parameter: views of value, gradient and what decays, and the state of the optimiser."""

    heads: slice
    value: Tensor
    gradient: Tensor
    decayed: Tensor | None
    mean: Tensor
    square: Tensor
    spare: Tensor


def _portions(parameter: StackedParameter) -> Iterator[_Portion]:
    count = max(1, _PORTION // max(1, parameter.value[0].numel()))
    spare = torch.empty_like(parameter.value[:count])
    for start in range(0, len(parameter.value), count):
        heads = slice(start, start + count)
        value, gradient = parameter.value[heads], parameter.gradient[heads]
        decayed = None if parameter.decayed is None else parameter.decayed[heads]
        mean, square = torch.zeros_like(value), torch.zeros_like(value)
        yield _Portion(heads, value, gradient, decayed, mean, square, spare[: len(value)])
