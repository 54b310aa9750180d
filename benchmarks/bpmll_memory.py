"""Memory of BP-MLL, forward and backward, for a growing number of labels, beside the double sum it factorises.

    OMP_NUM_THREADS=1 python benchmarks/bpmll_memory.py

Each figure is the growth of the peak resident memory of a fresh process over what it held before the call, which
includes the gradient.
"""

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from tailwise.losses import BPMLLLoss

ROWS = 16
LABELS = (500, 1_000, 2_000, 20_000, 80_000)
LARGEST_PAIRWISE = 2_000


def pairwise(logits: Tensor, target: Tensor) -> Tensor:
    """log of the mean of exp(z_l - z_k) over labels k that a row has and labels l that it has not, as a double sum."""
    gaps = logits[:, None, :] - logits[:, :, None]
    counts = target[:, :, None] * (1.0 - target[:, None, :])
    return ((gaps.exp() * counts).sum(dim=(1, 2)) / counts.sum(dim=(1, 2))).log().mean()


def factorised(logits: Tensor, target: Tensor) -> Tensor:
    loss: Tensor = BPMLLLoss()(logits, target)
    return loss


def grown(function: Callable[[Tensor, Tensor], Tensor], labels: int, found: "multiprocessing.Queue[float]") -> None:
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(ROWS, labels, generator=generator).requires_grad_()
    target = (torch.rand(ROWS, labels, generator=generator) < 0.01).float()
    target[:, 0] = 1.0
    warm = torch.randn(2, 3, requires_grad=True)
    function(warm, torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])).backward()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again
    before = resident("VmRSS")
    function(logits, target).backward()
    found.put((resident("VmHWM") - before) / 1024)


def resident(name: str) -> int:
    """KiB of a line of the status of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def measured(function: Callable[[Tensor, Tensor], Tensor], labels: int) -> float:
    context = multiprocessing.get_context("spawn")
    found: multiprocessing.Queue[float] = context.Queue()
    process = context.Process(target=grown, args=(function, labels, found))
    process.start()
    mebibytes = found.get()
    process.join()
    return mebibytes


def main() -> None:
    torch.testing.assert_close(*(f(torch.eye(4), torch.eye(4)) for f in (factorised, pairwise)))
    print(f"{'labels':>7} {'factorised':>16} {'numbers a score':>16} {'double sum':>12}   ({ROWS} rows)")
    for labels in LABELS:
        ours = measured(factorised, labels)
        numbers = ours * 2**20 / 4 / ROWS / labels
        theirs = f"{measured(pairwise, labels):.0f} MiB" if labels <= LARGEST_PAIRWISE else "-"
        print(f"{labels:>7} {ours:>12.2f} MiB {numbers:>16.1f} {theirs:>12}")


if __name__ == "__main__":
    main()
