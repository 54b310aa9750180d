"""A loss whose gradient is computed with its value, in fewer passes than by automatic differentiation.

Once the scores outgrow the cache the cost of a loss is the number of times it goes over them. Where the gradient has a
short formula, value and gradient share their passes. The loss is still written a second time as a plain differentiable
formula, which serves second derivatives, other devices and compilers, and is what the first is tested against.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tailwise.losses.compilation import can_compile

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "SHORT_ROW", "focal_with_gradient", "softmax_and_log_of", "softmax_of", "sum_with_gradient",
    "wants_compiled_gradient",
]  # fmt: skip

SHORT_ROW = 64  # classes up to which a loop is faster than torch's softmax


def wants_compiled_gradient(logits: Tensor) -> bool:
    """Whether a gradient is wanted, at once, where a compiled loop can give it; else the plain formula serves."""
    return (
        logits.is_cpu
        and logits.requires_grad
        and logits.dtype in {torch.float32, torch.float64}
        and torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and can_compile()
    )


def sum_with_gradient(
    logits: Tensor,
    target: Tensor,
    plain: Callable[[Tensor], Tensor],
    written: Callable[[Tensor], tuple[Tensor, Tensor]],
) -> Tensor:
    """A sum over all entries whose gradient is computed with it, in fewer passes than by automatic differentiation.

    Args:
        logits: ``(M, C)``.
        target: ``(M,)`` or ``(M, C)``.
        plain: the sum as a differentiable function of the logits. It serves second derivatives, targets that want a
            gradient, and devices other than the CPU, where to look for labels would be to wait for the device.
        written: the sum and its gradient ``(M, C)``, in a fresh tensor, of contiguous logits without graph.
    """
    if not logits.is_cpu or target.requires_grad or torch.compiler.is_compiling():
        return plain(logits)
    total: Tensor = _SumWithGradient.apply(logits, plain, written)  # type: ignore[no-untyped-call]
    return total


class _SumWithGradient(torch.autograd.Function):
    """See `sum_with_gradient`."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        plain: Callable[[Tensor], Tensor],
        written: Callable[[Tensor], tuple[Tensor, Tensor]],
    ) -> Tensor:
        total, gradient = written(logits.detach().contiguous())
        ctx.save_for_backward(logits)
        ctx.plain, ctx.written = plain, written
        ctx.gradient = gradient if ctx.needs_input_grad[0] else None
        return total

    @staticmethod
    def backward(ctx: Any, *incoming: Tensor) -> tuple[Tensor, None, None]:
        # The tensor is scaled where it lies and given away; a second pass through the graph computes it anew.
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None or torch.is_grad_enabled():
            gradient = _computed_anew(ctx, incoming[0])
        elif float(incoming[0]) != 1.0:
            gradient.mul_(incoming[0])
        return gradient, None, None


def _computed_anew(ctx: Any, incoming: Tensor) -> Tensor:
    (logits,) = ctx.saved_tensors
    gradient: Tensor
    # Losses switch autocast off in the forward pass; a backward pass may be called inside of one.
    with torch.autocast(logits.device.type, enabled=False):
        if torch.is_grad_enabled():
            (gradient,) = torch.autograd.grad(ctx.plain(logits), logits, incoming, create_graph=True)
        else:
            gradient = ctx.written(logits.detach().contiguous())[1].mul_(incoming)
    return gradient


def softmax_of(logits: Tensor) -> Tensor:
    """Softmax over the columns in a fresh tensor, of logits ``(M, C)`` without graph; compiled where rows are short."""
    if logits.shape[1] > SHORT_ROW:
        return torch.softmax(logits, dim=1)
    from tailwise.losses.kernels import softmax

    probabilities = logits.clone(memory_format=torch.contiguous_format)
    softmax(probabilities.numpy())
    return probabilities


def softmax_and_log_of(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """`softmax_of`, and the logarithm of one entry of each row.

    Args:
        logits: ``(M, C)``, without graph.
        target: indices of columns, ``(M,)``.

    Returns:
        ``(M, C)`` and ``(M,)``.

    Raises:
        IndexError, RuntimeError: an index of no column.
    """
    if logits.shape[1] > SHORT_ROW:
        logarithms = torch.log_softmax(logits, dim=1)
        gold = logarithms.gather(1, target[:, None]).squeeze(1)
        return logarithms.exp_(), gold
    from tailwise.losses.kernels import softmax_and_logs

    probabilities, gold = logits.clone(memory_format=torch.contiguous_format), logits.new_empty(target.shape)
    softmax_and_logs(probabilities.numpy(), target.contiguous().numpy(), gold.numpy())
    return probabilities, gold


def focal_with_gradient(logits: Tensor, target: Tensor, weight: Tensor, focus: float) -> tuple[Tensor, Tensor]:
    """The sum of w_i (1 - p_y)^f (-log p_y), with f = 0 of cross-entropy, and its gradient, by a compiled loop.

    Args:
        logits: ``(M, C)``, without graph, on the CPU; see `wants_compiled_gradient`.
        target: class indices, ``(M,)``.
        weight: w_i >= 0, ``(M,)``, of the type of the logits.
        focus: f >= 0.

    Returns:
        Scalar and ``(M, C)``, in the type of the logits.
    """
    from tailwise.losses.kernels import focal

    matrix, logs = softmax_and_log_of(logits, target)
    rows = logs.numpy(), target.contiguous().numpy(), weight.contiguous().numpy()
    return matrix.new_tensor(focal(matrix.numpy(), *rows, focus, torch.finfo(matrix.dtype).tiny)), matrix
