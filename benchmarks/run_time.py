"""Time of `tailwise run` in this checkout against another revision, paired on one machine.

    python benchmarks/run_time.py --against REVISION [NAME ...] [--rounds 3] [--threads 1] [--options "--trials 4"]

REVISION is checked out into a temporary worktree. For every data set and round both checkouts go the whole way, in
turns, the order changing from round to round: first cold (an empty cache, so that texts are encoded), then warm (the
features of the cold run, a new folder of results). Printed are medians of processor time (user and system, children
included) and of wall time, and the medians of the ratios within a round. With other work on the machine, look at
processor time with ``--threads 1``.
"""

from __future__ import annotations

import argparse
import os
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

NAMES = ("chatterbot-topics", "clinc150_imbalanced", "hate_offensive_tweets")
HERE = Path(__file__).resolve().parents[1]
STATES = ("cold", "warm")


class Times(NamedTuple):
    """Seconds of one run."""

    processor: float
    wall: float


#: times by checkout and state, one per round
Measured = dict[tuple[str, str], list[Times]]


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def timed(command: Sequence[str], environment: Mapping[str, str], where: Path) -> Times:
    """Processor and wall time of a command, which must succeed."""
    processor, wall = _children(), time.perf_counter()
    done = subprocess.run(command, env=dict(environment), cwd=where, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{shlex.join(command)} failed in {where}:\n{done.stderr[-3000:]}")
    return Times(_children() - processor, time.perf_counter() - wall)


@contextmanager
def worktree(revision: str) -> Iterator[Path]:
    """Another revision of this repository in a temporary folder."""
    git = ("git", "-C", str(HERE), "worktree")
    with tempfile.TemporaryDirectory(prefix="run-time-") as parent:
        folder = Path(parent) / "checkout"
        subprocess.run([*git, "add", "--detach", str(folder), revision], check=True, capture_output=True)
        try:
            yield folder
        finally:
            subprocess.run([*git, "remove", "--force", str(folder)], check=True, capture_output=True)


def run_once(checkout: Path, name: str, threads: int, options: Sequence[str]) -> dict[str, Times]:
    """A cold and a warm run in folders of their own."""
    with tempfile.TemporaryDirectory(prefix="run-time-") as scratch:
        environment = {
            **os.environ,
            "PYTHONPATH": str(checkout / "src"),
            "TAILWISE_CACHE": str(Path(scratch) / "cache"),
            "OMP_NUM_THREADS": str(threads),
            "TOKENIZERS_PARALLELISM": "false",
        }
        data = str(Path(name).resolve()) if Path(name).exists() else name
        command = [sys.executable, "-m", "tailwise", "run", data, "--quiet", *options, "--out"]
        return {state: timed([*command, str(Path(scratch) / state)], environment, Path(scratch)) for state in STATES}


def measure(checkouts: Mapping[str, Path], name: str, rounds: int, threads: int, options: Sequence[str]) -> Measured:
    """Times by checkout and state, one per round."""
    found: Measured = {(side, state): [] for side in checkouts for state in STATES}
    for number in range(rounds):
        for side in sorted(checkouts, reverse=number % 2 == 1):
            for state, times in run_once(checkouts[side], name, threads, options).items():
                found[side, state].append(times)
                print(f"  {name} round {number + 1} {side} {state}: {times.processor:.1f} s", file=sys.stderr)
    return found


def report(name: str, found: Measured) -> None:
    """Print the medians of a data set."""
    for state in STATES:
        there, here = found["there", state], found["here", state]
        for kind in Times._fields:
            before, after = ([getattr(times, kind) for times in side] for side in (there, here))
            ratio = statistics.median(b / a for b, a in zip(before, after, strict=True))
            print(
                f"{name:<24}{state:<6}{kind:<10}{statistics.median(before):9.1f} s {statistics.median(after):9.1f} s "
                f"{ratio:7.2f}x",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(NAMES), help="data sets that `tailwise run` takes")
    parser.add_argument("--against", required=True, help="a git revision")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--options", default="", help="further options of `tailwise run`, known to both revisions")
    arguments = parser.parse_args()
    with worktree(arguments.against) as other:
        print(f"{'':<24}{'':<6}{'time':<10}{arguments.against[:10]:>11} {'here':>11} {'faster':>8}")
        for name in arguments.names:
            checkouts = {"there": other, "here": HERE}
            options = shlex.split(arguments.options)
            report(name, measure(checkouts, name, arguments.rounds, arguments.threads, options))


if __name__ == "__main__":
    main()
