"""Cost of the losses, forward and backward, one thread, against `F.cross_entropy` or, for several labels per row,
`F.binary_cross_entropy_with_logits`.

    export OMP_NUM_THREADS=1 MALLOC_TRIM_THRESHOLD_=1000000000 MALLOC_MMAP_THRESHOLD_=1000000000
    python benchmarks/losses.py [--rounds 200] [--device cpu] [--without-numba]

The functions are timed in turn, many rounds, and the fastest round of each counts, so that other work on the machine
falls on all alike. The two thresholds keep the C library from returning memory to the system after each call, whose
page faults would otherwise be what is measured. The scores are small, as cosine scores are: 30 times larger ones end in
subnormal numbers, which are slow in any loss. `--without-numba` times what is there without the extra ``fast``: plain
formulas of the dice family and of focal loss. On a GPU it is time by the clock, from an empty queue to an empty queue.
"""

import argparse
import functools
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from tailwise.losses import (
    AsymmetricLoss,
    BalancedSoftmaxLoss,
    BatchBalancedFocalLoss,
    BatchDiceLoss,
    BinaryCrossEntropyLoss,
    BPMLLLoss,
    CrossEntropyLoss,
    DiceLoss,
    DistributionBalancedLoss,
    FocalLoss,
    LDAMLoss,
    Loss,
    LSEPLoss,
    MultiLabelDiceLoss,
    MultiLabelFocalLoss,
    MultiLabelLDAMLoss,
    PositiveWeightedBinaryCrossEntropyLoss,
    SelfAdjustingDiceLoss,
    TverskyLoss,
    VectorScalingLoss,
    WeightedBinaryCrossEntropyLoss,
    WeightedCrossEntropyLoss,
    ZLPRLoss,
)

SHAPES = ((256, 10), (256, 1000))
LABELS = (64, 20_000)
CALLS = 10


def contestants(counts: Tensor, target: Tensor) -> dict[str, Callable[[Tensor], Tensor]]:
    losses = {
        "ce": CrossEntropyLoss(),
        "wce": WeightedCrossEntropyLoss(class_counts=counts),
        "balanced-softmax": BalancedSoftmaxLoss(counts),
        "focal": FocalLoss(),
        "ldam": LDAMLoss(counts),
        "vs": VectorScalingLoss(counts),
        "dice, gold": DiceLoss(classes="gold"),
        "dice": DiceLoss(),
        "adl, gold": SelfAdjustingDiceLoss(classes="gold"),
        "adl": SelfAdjustingDiceLoss(),
        "batch-dice": BatchDiceLoss(),
        "tversky": TverskyLoss(),
    }
    return {
        "F.cross_entropy": lambda logits: functional.cross_entropy(logits, target),
        **timed(losses, target),
    }


def multilabel_contestants(target: Tensor) -> dict[str, Callable[[Tensor], Tensor]]:
    labels = target.shape[1]
    counts = torch.randint(1, 1000, (labels,), generator=torch.Generator().manual_seed(1))
    losses = {
        "bce": BinaryCrossEntropyLoss(),
        "wbce": WeightedBinaryCrossEntropyLoss(class_counts=counts),
        "pos-bce": PositiveWeightedBinaryCrossEntropyLoss(class_counts=counts, num_rows=50_000),
        "ml-focal": MultiLabelFocalLoss(),
        "db": DistributionBalancedLoss(counts, 50_000),
        "ml-ldam": MultiLabelLDAMLoss(counts),
        "ml-dice": MultiLabelDiceLoss(),
        "batch-balanced-focal": BatchBalancedFocalLoss(labels),
        "asl": AsymmetricLoss(),
        "zlpr": ZLPRLoss(),
        "lsep": LSEPLoss(),
        "bp-mll": BPMLLLoss(),
    }
    return {
        "F.bce_with_logits": lambda logits: functional.binary_cross_entropy_with_logits(logits, target),
        **timed(losses, target),
    }


def timed(losses: dict[str, Loss], target: Tensor) -> dict[str, Callable[[Tensor], Tensor]]:
    return {name: functools.partial(loss.to(target.device), target=target) for name, loss in losses.items()}


def best_times(functions: dict[str, Callable[[Tensor], Tensor]], logits: Tensor, rounds: int) -> dict[str, float]:
    """Seconds of one forward and backward pass."""
    best = dict.fromkeys(functions, float("inf"))
    clock = on_gpu if logits.is_cuda else time.thread_time
    for _ in range(rounds):
        for name, function in functions.items():
            start = clock()
            for _call in range(CALLS):
                logits.grad = None
                function(logits).backward()
            best[name] = min(best[name], (clock() - start) / CALLS)
    return best


def on_gpu() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--without-numba", action="store_true")
    options = parser.parse_args()
    if options.without_numba:
        sys.modules["numba"] = None
    rounds, device = options.rounds, options.device
    torch.set_num_threads(1)
    for rows, classes in SHAPES:
        generator = torch.Generator().manual_seed(0)
        logits = (0.1 * torch.randn(rows, classes, generator=generator)).to(device).requires_grad_()
        target = torch.randint(classes, (rows,), generator=generator).to(device)
        counts = torch.randint(1, 1000, (classes,), generator=generator)
        show((rows, classes), best_times(contestants(counts, target), logits, rounds))
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(LABELS, generator=generator).to(device).requires_grad_()
    positives = (torch.rand(LABELS, generator=generator) < 1e-3).float().to(device)
    show(LABELS, best_times(multilabel_contestants(positives), logits, max(1, rounds // 50)))


def show(shape: tuple[int, int], times: dict[str, float]) -> None:
    reference = next(iter(times.values()))
    print(shape)
    for name, seconds in times.items():
        print(f"  {name:<20} {seconds * 1e6:>9.1f} us {seconds / reference:>6.2f}")


if __name__ == "__main__":
    main()
