"""Class-aware sampling against `torch.utils.data.WeightedRandomSampler`: build the sampler and iterate one epoch.

    OMP_NUM_THREADS=1 python benchmarks/sampling.py [--sizes 100000 1000000 10000000] [--classes 50]

Seconds are those of the processor, the best of three runs; the ratio is taken within one run of this script.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.utils.data import Sampler, WeightedRandomSampler

from tailwise.sampling import ClassAwareSampler


def long_tailed_labels(size: int, classes: int) -> np.ndarray:
    """Labels with class frequencies proportional to 1 / rank."""
    weight = 1 / np.arange(1, classes + 1)
    return np.random.default_rng(0).choice(classes, size, p=weight / weight.sum())


def class_aware(labels: np.ndarray) -> Sampler[int]:
    return ClassAwareSampler(labels)


def weighted_random(labels: np.ndarray) -> Sampler[int]:
    weight = torch.from_numpy(1 / np.bincount(labels)[labels])
    return WeightedRandomSampler(weight, labels.size)


def seconds(build: Callable[[np.ndarray], Sampler[int]], labels: np.ndarray) -> float:
    """Build the sampler and draw one epoch."""
    found = []
    for _ in range(3):
        start = time.process_time()
        for _row in build(labels):
            pass
        found.append(time.process_time() - start)
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--classes", type=int, default=50)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'rows':>12} {'plan s':>8} {'class-aware s':>14} {'weighted s':>11} {'ratio':>6}")
    for size in arguments.sizes:
        labels = long_tailed_labels(size, arguments.classes)
        start = time.process_time()
        ClassAwareSampler(labels).plan(0)
        plan = time.process_time() - start
        ours, theirs = seconds(class_aware, labels), seconds(weighted_random, labels)
        print(f"{size:>12,} {plan:>8.3f} {ours:>14.3f} {theirs:>11.3f} {theirs / ours:>6.1f}")


if __name__ == "__main__":
    main()
