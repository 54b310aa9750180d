"""Cost of the losses, forward and backward, against `F.cross_entropy`, one thread.

    export OMP_NUM_THREADS=1 MALLOC_TRIM_THRESHOLD_=1000000000 MALLOC_MMAP_THRESHOLD_=1000000000
    python benchmarks/losses.py [--rounds 200]

The functions are timed in turn, many rounds, and the fastest round of each counts, so that other work on the machine
falls on all alike. The two thresholds keep the C library from returning memory to the system after each call, whose
page faults would otherwise be what is measured. The scores are small, as cosine scores are: 30 times larger ones end in
subnormal numbers, which are slow in any loss.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from tailwise.losses import BalancedSoftmaxLoss, CrossEntropyLoss, FocalLoss, LDAMLoss, WeightedCrossEntropyLoss

SHAPES = ((256, 10), (256, 1000))
CALLS = 10


def contestants(counts: Tensor, target: Tensor) -> dict[str, Callable[[Tensor], Tensor]]:
    losses = {
        "ce": CrossEntropyLoss(),
        "wce": WeightedCrossEntropyLoss(class_counts=counts),
        "balanced-softmax": BalancedSoftmaxLoss(counts),
        "focal": FocalLoss(),
        "ldam": LDAMLoss(counts),
    }
    return {
        "F.cross_entropy": lambda logits: functional.cross_entropy(logits, target),
        **{name: (lambda logits, loss=loss: loss(logits, target)) for name, loss in losses.items()},
    }


def best_times(functions: dict[str, Callable[[Tensor], Tensor]], logits: Tensor, rounds: int) -> dict[str, float]:
    """Seconds of one forward and backward pass."""
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.thread_time()
            for _call in range(CALLS):
                logits.grad = None
                function(logits).backward()
            best[name] = min(best[name], (time.thread_time() - start) / CALLS)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    for rows, classes in SHAPES:
        generator = torch.Generator().manual_seed(0)
        logits = (0.1 * torch.randn(rows, classes, generator=generator)).requires_grad_()
        target = torch.randint(classes, (rows,), generator=generator)
        counts = torch.randint(1, 1000, (classes,), generator=generator)
        times = best_times(contestants(counts, target), logits, rounds)
        reference = times["F.cross_entropy"]
        print(f"({rows}, {classes})")
        for name, seconds in times.items():
            print(f"  {name:<18} {seconds * 1e6:>8.1f} us {seconds / reference:>6.2f}")


if __name__ == "__main__":
    main()
