"""Time and memory of lexical features against scikit-learn's TF-IDF of words and characters.

    OMP_NUM_THREADS=1 python benchmarks/lexical_features.py [--rows 100000] [--rounds 3] [--skip-times]

Real texts (questions, tweets, sentences of papers, film reviews) from $TAILWISE_DATA or ../shared/data; rows are made
by joining the halves of two texts drawn at random. Times are medians of processor time over interleaved rounds, on a
tenth of the rows. Memory is the greatest resident size of a process of its own (Linux), less what it held before.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_union

from tailwise.data import load
from tailwise.models.lexical import LexicalFeatures
from tailwise.models.lexical.counting import word_pattern

if TYPE_CHECKING:
    from collections.abc import Callable

SETS = ("trec6", "hate_offensive_tweets", "scicite", "imdb_subset")


def made_up_texts(rows: int) -> list[str]:
    folder = Path(os.environ.get("TAILWISE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    texts = [text for name in SETS for text in load(folder / name).texts("train")]
    generator = random.Random(0)
    halves = [(text[: len(text) // 2], text[len(text) // 2 :]) for text in texts]
    return [generator.choice(halves)[0] + generator.choice(halves)[1] for _ in range(rows)]


def plain_union() -> Any:
    """What `LexicalFeatures` computes, from scikit-learn alone."""
    words = TfidfVectorizer(token_pattern=word_pattern(), ngram_range=(1, 2), sublinear_tf=True, max_features=100_000)
    characters = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(3, 5), min_df=2, sublinear_tf=True, max_features=100_000
    )
    return make_union(words, characters)


def resident_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_memory(way: str, rows: int) -> None:
    """Run in a process of its own: fit and transform, then print the growth of the peak."""
    texts = made_up_texts(rows)
    before = resident_mib()
    if way == "scikit-learn":
        matrix = plain_union().fit_transform(texts)
    else:
        matrix = LexicalFeatures.fit("text", texts).transform(texts)
    print(json.dumps({"shape": matrix.shape, "stored": matrix.nnz, "mib": resident_mib() - before}))


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def measure_times(rows: int, rounds: int) -> None:
    texts = made_up_texts(rows)
    seconds: dict[str, list[float]] = {}
    for _ in range(rounds):
        union = plain_union()
        for name, work in (
            ("scikit-learn fit", lambda union=union: union.fit(texts)),
            ("scikit-learn transform", lambda union=union: union.transform(texts)),
        ):
            seconds.setdefault(name, []).append(timed(work)[0])
        spent, features = timed(lambda: LexicalFeatures.fit("text", texts))
        seconds.setdefault("tailwise fit", []).append(spent)
        spent, _ = timed(lambda features=features: features.transform(texts))
        seconds.setdefault("tailwise transform", []).append(spent)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for step in ("fit", "transform"):
        peer, ours = medians[f"scikit-learn {step}"], medians[f"tailwise {step}"]
        print(f"{step:<10}{rows} texts: scikit-learn {peer:.2f} s, tailwise {ours:.2f} s, {peer / ours:.2f}x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--skip-times", action="store_true")
    parser.add_argument("--memory-of", choices=("scikit-learn", "tailwise"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        measure_memory(arguments.memory_of, arguments.rows)
        return
    if not arguments.skip_times:
        measure_times(arguments.rows // 10, arguments.rounds)
    for way in ("tailwise", "scikit-learn"):
        command = [sys.executable, __file__, "--memory-of", way, "--rows", str(arguments.rows)]
        facts = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        rows, columns = facts["shape"]
        print(
            f"memory    {way}: {rows} x {columns}, {facts['stored'] / rows:.0f} values per row, fit and transform: "
            f"{facts['mib'] / 1024:.2f} GiB above the texts"
        )


if __name__ == "__main__":
    main()
