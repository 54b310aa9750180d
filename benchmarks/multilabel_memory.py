"""Memory of a corpus with several labels per row: 60,000 rows, 600 labels, from the file to the batches of training.

    python benchmarks/multilabel_memory.py

Peak of what Python and NumPy allocate in each step (tracemalloc), beside the size of the dense label matrix.
"""

from __future__ import annotations

import json
import sys
import tempfile
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import tailwise
from tailwise.imbalance.diagnosis import diagnose
from tailwise.sampling import MULTILABEL_SAMPLERS
from tailwise.training.multilabel_components import trained_labels
from tailwise.training.probe_targets import LabelTargets

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS, LABELS, BATCH = 60_000, 600, 64


def write(path: Path) -> None:
    """A long-tailed multi-label corpus as JSON Lines."""
    rng = np.random.default_rng(0)
    share = 1.0 / np.arange(1, LABELS + 1)
    sizes = rng.poisson(3.5, ROWS)
    with path.open("w", encoding="utf-8") as file:
        for row, size in enumerate(sizes):
            chosen = np.unique(rng.choice(LABELS, size, p=share / share.sum()))
            file.write(json.dumps({"text": f"text {row}", "labels": [f"label-{j}" for j in chosen]}) + "\n")


def peak(work: Callable[[], Any]) -> tuple[Any, float]:
    """What `work` gives, and the most it had allocated at a time, in MiB."""
    tracemalloc.start()
    try:
        result = work()
        return result, tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def main() -> None:
    """Measure every step."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "corpus.jsonl"
        write(path)
        corpus, loading = peak(lambda: tailwise.load(path, task="multilabel"))
    rows = corpus.num_rows("train")
    matrix, making = peak(lambda: trained_labels(corpus.label_matrix("train"), corpus.label_space))
    _, measuring = peak(lambda: diagnose(corpus))
    _, sampling = peak(lambda: MULTILABEL_SAMPLERS["ml-cas"](matrix, seed=0).plan(0))
    targets = LabelTargets(matrix)
    _, batching = peak(lambda: targets.take(torch.arange(BATCH)[None]))
    dense = rows * matrix.shape[1] * 4 / 2**20
    sys.stdout.write(f"{rows:,} training rows, {matrix.shape[1]} labels; dense float32: {dense:.0f} MiB\n")
    steps = {"load": loading, "label matrix": making, "diagnose": measuring, "sampler": sampling, "batch": batching}
    for name, size in steps.items():
        sys.stdout.write(f"{name:<14}{size:>8.1f} MiB\n")


if __name__ == "__main__":
    main()
