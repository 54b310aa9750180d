"""Supervised contrastive loss on 256 features of 384 numbers, forward and backward, against pytorch-metric-learning.

    pip install --no-deps pytorch-metric-learning
    OMP_NUM_THREADS=1 python benchmarks/contrastive.py [--rounds 200]

Both compute the same value, which is checked first. They take turns; times are processor time, the ratio is that of the
medians, with the quartiles of the ratio of each pair of turns.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from tailwise.losses import SupervisedContrastiveLoss

ROWS, FEATURES, CLASSES, TEMPERATURE = 256, 384, (4, 32), 0.1


def seconds(function: Callable[[Tensor], Tensor], features: Tensor) -> float:
    features.grad = None
    start = time.thread_time()
    function(features).backward()
    return time.thread_time() - start


def compare(peer: Callable[..., Tensor], classes: int, rounds: int) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(ROWS, FEATURES, generator=generator).requires_grad_()
    target = torch.randint(classes, (ROWS,), generator=generator)
    logits = torch.zeros(ROWS, classes)
    loss = SupervisedContrastiveLoss(TEMPERATURE)
    ours = lambda given: loss(logits, target, features=given)  # noqa: E731
    theirs = lambda given: peer(given, target)  # noqa: E731
    torch.testing.assert_close(ours(features), theirs(features), rtol=1e-4, atol=1e-4)
    times = np.array([[seconds(ours, features), seconds(theirs, features)] for _ in range(rounds)])
    ratio = np.median(times[:, 0]) / np.median(times[:, 1])
    low, high = np.quantile(times[:, 0] / times[:, 1], [0.25, 0.75])
    print(
        f"{classes:>3} classes: {1e3 * np.median(times[:, 0]):.2f} ms, theirs {1e3 * np.median(times[:, 1]):.2f} ms, "
        f"ratio {ratio:.2f} (quartiles {low:.2f} to {high:.2f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    try:
        from pytorch_metric_learning.losses import SupConLoss
    except ImportError:
        print("pytorch-metric-learning is not installed: pip install --no-deps pytorch-metric-learning. Skipped.")
        return
    for classes in CLASSES:
        compare(SupConLoss(temperature=TEMPERATURE), classes, rounds)


if __name__ == "__main__":
    main()
