"""Cost of the samplers: against torch and torchsampler, at 1e8 rows, over several labels, and how it grows.

    pip install --no-deps torchsampler iterative-stratification      # the peers; without them their parts are left out
    OMP_NUM_THREADS=1 python benchmarks/sampling.py [--largest 100000000] [--classes 50]

Build and one epoch, iterated in Python: a sampler is built and every row of one epoch is drawn from it. Seconds are
those of the processor, one thread. Contestants take turns and the fastest round of each counts; ratios are taken within
one run. The sizes from 1e4 to `--largest` each run in a process of their own, which reports the most memory it ever
held, labels and imports included. The last part writes sampling_growth.png next to this script.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from scipy import sparse
from sklearn.utils import check_random_state
from torch.utils.data import WeightedRandomSampler

from tailwise.data.iterative_stratification import iterative_split
from tailwise.report.canvas import BLUE, VERMILION, canvas, save_figure
from tailwise.sampling import ClassAwareSampler, MultiLabelRandomOverSampler

FIGURE = Path(__file__).with_name("sampling_growth.png")
TORCH_LIMIT = 2**24  # torch.multinomial takes no more categories
SHARES = (0.8, 0.1, 0.1)
PEERS = "not installed, left out: pip install --no-deps"


def long_tailed_labels(size: int, classes: int) -> np.ndarray:
    """Labels with class frequencies proportional to 1 / rank."""
    bounds = np.cumsum(1 / np.arange(1, classes + 1))
    generator, labels, part = np.random.default_rng(0), np.empty(size, dtype=np.int64), 1 << 20
    for start in range(0, size, part):
        drawn = generator.random(min(part, size - start)) * bounds[-1]
        labels[start : start + part] = np.minimum(np.searchsorted(bounds, drawn, side="right"), classes - 1)
    return labels


def label_matrix(rows: int, labels: int, per_row: float) -> sparse.csr_array:
    """0 and 1, label frequencies proportional to 1 / rank^1.1, numbers of labels per row of Poisson."""
    generator, weight = np.random.default_rng(0), 1 / np.arange(1, labels + 1) ** 1.1
    lengths = generator.poisson(per_row, rows)
    drawn = generator.choice(labels, lengths.sum(), p=weight / weight.sum())
    matrix = sparse.csr_array((np.ones(drawn.size), (np.repeat(np.arange(rows), lengths), drawn)), (rows, labels))
    matrix.data[:] = 1
    return matrix


def best(contestants: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Processor seconds of the fastest of the rounds."""
    found = dict.fromkeys(contestants, float("inf"))
    for _ in range(rounds):
        for name, call in contestants.items():
            start = time.process_time()
            call()
            found[name] = min(found[name], time.process_time() - start)
    return found


def drain(rows: Iterable[int]) -> None:
    for _row in rows:
        pass


def weighted_random(labels: np.ndarray) -> WeightedRandomSampler:
    return WeightedRandomSampler(torch.from_numpy(1 / np.bincount(labels)[labels]), labels.size)


def torchsampler_class() -> type | None:
    # torchsampler imports torchvision for data sets that are not used here, and torchvision must match torch's build.
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        sys.modules["torchvision"] = ModuleType("torchvision")
    try:
        from torchsampler import ImbalancedDatasetSampler
    except ImportError:
        return None
    return ImbalancedDatasetSampler


def against_peers(classes: int, sizes: list[int]) -> None:
    print(f"Class-aware sampler, {classes} classes, build and one epoch")
    print(
        f"{'rows':>12} {'ours s':>8} {'WeightedRandomSampler s':>24} {'ratio':>6} {'torchsampler s':>15} {'ratio':>6}"
    )
    peer = torchsampler_class()
    for size in sizes:
        labels = long_tailed_labels(size, classes)
        seconds = best(
            {
                "ours": lambda labels=labels: drain(ClassAwareSampler(labels)),
                "torch": lambda labels=labels: drain(weighted_random(labels)),
            },
            rounds=5 if size < 5_000_000 else 3,
        )
        ours = seconds["ours"]
        line = f"{size:>12,} {ours:>8.3f} {seconds['torch']:>24.3f} {seconds['torch'] / ours:>6.1f}"
        if peer is not None:
            theirs = best({"peer": lambda labels=labels: drain(peer(range(labels.size), labels=labels))}, rounds=1)
            line += f" {theirs['peer']:>15.3f} {theirs['peer'] / ours:>6.1f}"
        print(line, flush=True)
    if peer is None:
        print(f"torchsampler is {PEERS} torchsampler")


def several_labels() -> None:
    matrix = label_matrix(100_000, 90, 3)
    seconds = best({"ml-ros": lambda: MultiLabelRandomOverSampler(matrix).plan(0)}, rounds=3)
    print(f"\nML-ROS, 100,000 rows, 90 labels, build and plan: {seconds['ml-ros']:.3f} s")


def stratification() -> None:
    try:
        from iterstrat.ml_stratifiers import IterativeStratification
    except ImportError:
        IterativeStratification = None
    print("\nIterative stratification in 80 / 10 / 10 %; off: mean rows by which a label misses its share in a fold")
    head = ("ours s", "off", "grouped s", "peer s", "off", "ratio")
    print(f"{'rows':>9} {'labels':>7} " + " ".join(f"{name:>9}" for name in head))
    for rows, labels in ((10_000, 100), (10_000, 1_000), (100_000, 1_000)):
        matrix = label_matrix(rows, labels, 5)
        texts = np.arange(rows)
        texts[: rows // 10] = np.random.default_rng(0).integers(0, rows, rows // 10)  # a tenth repeats another text
        contestants = {
            "ours": lambda matrix=matrix: iterative_split(matrix, SHARES),
            "groups": lambda matrix=matrix, texts=texts: iterative_split(matrix, SHARES, groups=texts),
        }
        seconds = best(contestants, rounds=3)
        line = f"{rows:>9,} {labels:>7,} {seconds['ours']:>9.3f} {off(matrix, contestants['ours']()):>9.2f}"
        line += f" {seconds['groups']:>9.3f}"
        if IterativeStratification is not None:
            dense = matrix.toarray().astype(bool)
            start = time.process_time()
            found = IterativeStratification(dense, np.array(SHARES), check_random_state(0))
            theirs = time.process_time() - start
            line += f" {theirs:>9.2f} {off(matrix, found):>9.2f} {theirs / seconds['ours']:>9.0f}"
        print(line, flush=True)
    if IterativeStratification is None:
        print(f"iterative-stratification is {PEERS} iterative-stratification")


def off(matrix: sparse.csr_array, fold: np.ndarray) -> float:
    counts = matrix.sum(axis=0)
    inside = np.array([matrix[np.flatnonzero(fold == f)].sum(axis=0) for f in range(len(SHARES))])
    return float(np.abs(inside - np.outer(SHARES, counts))[:, counts > 0].mean())


def growth(classes: int, largest: int) -> None:
    print(f"\nGrowth, {classes} classes, build and one epoch, each size in a process of its own")
    print(f"{'rows':>12} {'ours s':>8} {'ns per row':>11} {'peak GiB':>9} {'WeightedRandomSampler s':>24}")
    sizes = sorted({round(size) for size in np.geomspace(1e4, largest, 2 * round(np.log10(largest / 1e4)) + 1)})
    results = []
    for size in sizes:
        command = [sys.executable, __file__, "--one", str(size), "--classes", str(classes)]
        results.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        ours, theirs = results[-1]["ours"], results[-1].get("torch")
        peak = results[-1]["peak_bytes"] / 2**30
        other = "refuses" if theirs is None else f"{theirs:.3f}"
        print(f"{size:>12,} {ours:>8.4f} {ours / size * 1e9:>11.1f} {peak:>9.2f} {other:>24}", flush=True)
    ours = np.array([result["ours"] for result in results])
    slope, offset = np.polyfit(np.log(sizes), np.log(ours), 1)
    print(f"seconds ~ rows^{slope:.3f}")
    large = np.array(sizes) >= 1_000_000
    if large.sum() > 1:
        steep = np.polyfit(np.log(sizes)[large], np.log(ours)[large], 1)[0]
        print(f"from 1,000,000 rows, where a fixed cost no longer counts: seconds ~ rows^{steep:.3f}")
    draw(np.array(sizes), ours, [result.get("torch") for result in results], slope, offset)


def one_size(size: int, classes: int) -> None:
    """Seconds and the peak memory of our sampler, then the seconds of torch's, as JSON."""
    labels = long_tailed_labels(size, classes)
    rounds = int(np.clip(3e7 / size, 2, 30))
    result = best({"ours": lambda: drain(ClassAwareSampler(labels))}, rounds)
    result["peak_bytes"] = peak_bytes()
    if size <= TORCH_LIMIT:
        result |= best({"torch": lambda: drain(weighted_random(labels))}, min(rounds, 5))
    print(json.dumps(result))


def peak_bytes() -> int:
    """The most memory that this process held; not, as ru_maxrss, what its parent held when it was started."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def draw(sizes: np.ndarray, ours: np.ndarray, theirs: list[float | None], slope: float, offset: float) -> None:
    there = [i for i, seconds in enumerate(theirs) if seconds is not None]
    with canvas(6.0, 3.8) as figure:
        axes = figure.subplots()
        axes.loglog(
            sizes[there],
            [theirs[i] for i in there],
            "s-",
            color=VERMILION,
            markersize=4,
            linewidth=1,
            label="torch's WeightedRandomSampler, up to its 2^24 rows",
        )
        axes.loglog(sizes, ours, "o", color=BLUE, markersize=5, label="class-aware sampler")
        fitted = np.exp(offset) * sizes**slope
        axes.loglog(sizes, fitted, "-", color=BLUE, linewidth=1, label=f"fitted: seconds ~ rows^{slope:.2f}")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(numticks=20))
            axis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:,.10g}"))
            axis.set_minor_formatter(NullFormatter())
        axes.legend(loc="lower right")
        axes.set_xlabel("rows")
        axes.set_ylabel("processor seconds")
        axes.set_title("Build a sampler and iterate one epoch, one thread")
        print(f"written: {save_figure(figure, FIGURE)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--largest", type=int, default=100_000_000)
    parser.add_argument("--classes", type=int, default=50)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.one:
        one_size(arguments.one, arguments.classes)
        return
    against_peers(arguments.classes, arguments.sizes)
    several_labels()
    stratification()
    growth(arguments.classes, arguments.largest)


if __name__ == "__main__":
    main()
