"""AdamW for stacked parameters, with a learning rate and a weight decay of its own for every head.

    m = b1 m + (1 - b1) g,   v = b2 v + (1 - b2) g^2
    p = p - r l p - r (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + e)        r learning rate, l weight decay

Loshchilov and Hutter, Decoupled Weight Decay Regularization, ICLR 2019. The arithmetic is the fused kernel of
``torch.optim.AdamW``, one pass over the memory; the class around it is left out, which would take one parameter group
per head and spend its time on them. Every head is a call of its own, so its bits do not depend on its neighbours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tailwise.training.probe_stacks import StackedParameter

__all__ = ["StackedAdamW"]


class _Part(NamedTuple):
    """What one head shares in the learning rate and in whether it decays: values, gradients, m, v and t."""

    head: int
    decays: bool
    values: list[Tensor]
    gradients: list[Tensor]
    means: list[Tensor]
    squares: list[Tensor]
    steps: list[Tensor]


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
        self._rates = list(learning_rates)
        self._decays = list(weight_decays)
        self._betas = betas
        self._eps = eps
        self._steps = torch.zeros(())
        self._parts = list(self._divided(parameters))

    def step(self, share_of_peak: float) -> None:
        """One step at `share_of_peak` of the peak learning rates."""
        self._steps += 1
        for part in self._parts:
            torch._fused_adamw_(  # the kernel behind torch.optim.AdamW(fused=True)
                part.values,
                part.gradients,
                part.means,
                part.squares,
                [],
                part.steps,
                lr=self._rates[part.head] * share_of_peak,
                beta1=self._betas[0],
                beta2=self._betas[1],
                weight_decay=self._decays[part.head] if part.decays else 0.0,
                eps=self._eps,
                amsgrad=False,
                maximize=False,
            )

    def _divided(self, parameters: Sequence[StackedParameter]) -> Iterator[_Part]:
        states = [(p, torch.zeros_like(p.value), torch.zeros_like(p.value)) for p in parameters]
        for head in range(len(self._rates)):
            for decays in (True, False):
                slices = [
                    tuple(tensor[head, rows] for tensor in (p.value, p.gradient, mean, square))
                    for p, mean, square in states
                    if (rows := _rows(p, decays=decays)) is not None
                ]
                if slices:
                    values, gradients, means, squares = (list(column) for column in zip(*slices, strict=True))
                    yield _Part(head, decays, values, gradients, means, squares, [self._steps] * len(values))


def _rows(parameter: StackedParameter, *, decays: bool) -> slice | None:
    """Rows of one head's parameter that weight decay acts on, or the others; None where there are none."""
    rows = parameter.value.shape[1]
    decayed = 0 if parameter.decayed is None else parameter.decayed.shape[1]
    if decays:
        return slice(0, decayed) if decayed else None
    return slice(decayed, rows) if decayed < rows else None
