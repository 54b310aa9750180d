"""Time and memory of `diagnose` (without class overlap) as the corpus grows.

    python benchmarks/diagnosis.py [rows ...]

Each size runs in a process of its own. The corpus is written to Arrow files first and memory-mapped. Memory is the
growth of the peak during `diagnose`, sampled every 5 ms: of anonymous pages (heap; resident minus shared), and of the
whole resident set, which also holds pages of the mapped file that the kernel may drop. Texts look like short messages:
5 to 40 words of a Zipfian vocabulary, 2 % repeated, 151 classes with an exponential profile of rho 100. Times are the
best of five runs; CPU time is the one to compare on a busy machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import psutil
from datasets import Dataset, concatenate_datasets, disable_progress_bars, load_from_disk

from tailwise.data.corpus import SPLITS, Corpus
from tailwise.data.labels import LabelSpace
from tailwise.data.task import Task
from tailwise.imbalance.diagnosis import diagnose

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIZES = (10_000, 100_000, 1_000_000)
CLASSES, RHO, WORDS = 151, 100.0, 30_000
BATCH = 50_000
REPEATS = 5


def texts(size: int, generator: np.random.Generator) -> list[str]:
    vocabulary = np.array(
        ["".join(generator.choice(list("abcdefghijklmnoprstuvwy"), n)) for n in generator.integers(2, 11, WORDS)]
    )
    shares = 1.0 / np.arange(1, WORDS + 1)
    lengths = generator.integers(5, 41, size)
    words = vocabulary[generator.choice(WORDS, size=int(lengths.sum()), p=shares / shares.sum())]
    ends = np.cumsum(lengths)
    made = [" ".join(words[a:b]).capitalize() for a, b in zip(ends - lengths, ends, strict=True)]
    for row in generator.choice(size, size=size // 50, replace=False):
        made[row] = made[(row * 7919) % size].upper()
    return made


def write(folder: Path, split: str, size: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    profile = RHO ** (-np.arange(CLASSES) / (CLASSES - 1))
    parts = []
    for start in range(0, size, BATCH):
        rows = min(BATCH, size - start)
        labels = generator.choice(CLASSES, size=rows, p=profile / profile.sum())
        if start == 0:
            labels[:CLASSES] = np.arange(CLASSES)
        ids = [f"{split}-{start + i}" for i in range(rows)]
        parts.append(Dataset.from_dict({"id": ids, "text": texts(rows, generator), "label": labels}))
    concatenate_datasets(parts).save_to_disk(str(folder / split))


def corpus_of(folder: Path) -> Corpus:
    splits = {split: load_from_disk(str(folder / split)) for split in SPLITS}
    counts = np.bincount(splits["train"].data.column("label").to_numpy(), minlength=CLASSES)
    space = LabelSpace(tuple(f"class {i:03d}" for i in range(CLASSES)), counts)
    return Corpus("synthetic", splits, Task(), space, "0" * 64)


class PeakMemory:
    """Growth of the peak of anonymous and of resident memory of this process, in bytes."""

    def __enter__(self) -> Self:
        self.process = psutil.Process()
        self.start = self.peak = self.now()
        self.running = True
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()
        return self

    def now(self) -> NDArray[np.int64]:
        info = self.process.memory_info()
        return np.array([info.rss - info.shared, info.rss])

    def watch(self) -> None:
        while self.running:
            self.peak = np.maximum(self.peak, self.now())
            time.sleep(0.005)

    def __exit__(self, *_: object) -> None:
        self.running = False
        self.thread.join()
        self.peak = np.maximum(self.peak, self.now())
        self.growth = (self.peak - self.start).tolist()


def child(folder: Path) -> None:
    corpus = corpus_of(folder)
    with PeakMemory() as memory:
        diagnosis = diagnose(corpus)
    wall, cpu = [], []
    for _ in range(REPEATS):
        started, used = time.perf_counter(), time.process_time()
        diagnose(corpus)
        wall.append(time.perf_counter() - started)
        cpu.append(time.process_time() - used)
    heap, resident = memory.growth
    found = {
        "wall": min(wall),
        "cpu": min(cpu),
        "heap": heap,
        "resident": resident,
        "repeated": diagnosis.duplicates.rows,
    }
    print(json.dumps(found))


def main(sizes: tuple[int, ...]) -> None:
    disable_progress_bars()
    print(
        f"{'rows':>10} {'seconds':>8} {'us/row':>7} {'CPU s':>7} {'CPU us/row':>11} {'heap MiB':>9} "
        f"{'resident MiB':>13} {'repeated rows':>14}"
    )
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            shares = {"train": 0.8, "validation": 0.1, "test": 0.1}
            for seed, (split, share) in enumerate(shares.items()):
                write(Path(folder), split, int(size * share), seed)
            run = subprocess.run(
                [sys.executable, __file__, "--child", folder], check=True, capture_output=True, text=True
            )
        found = json.loads(run.stdout.splitlines()[-1])
        print(
            f"{size:>10,} {found['wall']:>8.2f} {1e6 * found['wall'] / size:>7.2f} {found['cpu']:>7.2f} "
            f"{1e6 * found['cpu'] / size:>11.2f} {found['heap'] / 2**20:>9.0f} {found['resident'] / 2**20:>13.0f} "
            f"{found['repeated']:>14,}",
            flush=True,
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(Path(sys.argv[2]))
    else:
        main(tuple(int(size) for size in sys.argv[1:]) or SIZES)
