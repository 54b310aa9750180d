"""Sentences per second of `Encoder.encode` against sentence-transformers' default `encode`.

    python benchmarks/encoding.py [--texts 5000] [--rounds 3] [--threads 2]

The same weights (all-MiniLM-L6-v2 from its package), the same texts, 256 tokens per text at most, no normalisation.
Texts of mixed length, shuffled: questions (TREC), tweets, sentences of papers (SciCite) and film reviews (IMDB) from
$TAILWISE_DATA or ../shared/data. Times are medians over interleaved rounds. On a machine with other work to do, look at
processor time with ``--threads 1``.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from tailwise.data import load
from tailwise.models.encoder import Encoder

MIXTURE = {"trec6": 0.3, "hate_offensive_tweets": 0.25, "scicite": 0.25, "imdb_subset": 0.2}


def mixed_texts(folder: Path, total: int) -> list[str]:
    generator = random.Random(0)
    texts: list[str] = []
    for name, share in MIXTURE.items():
        distinct = sorted(set(load(folder / name).texts("train")))
        texts += generator.sample(distinct, round(share * total))
    generator.shuffle(texts)
    return texts


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return (left * right).sum(axis=1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    texts = mixed_texts(Path(os.environ.get("TAILWISE_DATA", default)), arguments.texts)
    auto, exact = (Encoder.from_pretrained(device="cpu", dtype=dtype) for dtype in ("auto", "float32"))
    peer = SentenceTransformer(str(auto.path), device="cpu")
    lengths = [len(ids) for ids in auto.tokenizer(texts, truncation=True, max_length=256)["input_ids"]]
    print(
        f"{len(texts)} texts, tokens: mean {np.mean(lengths):.0f}, median {np.median(lengths):.0f}, max {max(lengths)}"
    )
    ways = {
        "sentence-transformers": lambda: peer.encode(texts, normalize_embeddings=False),
        f"tailwise {str(auto.dtype).removeprefix('torch.')}": lambda: auto.encode(texts),
        "tailwise float32": lambda: exact.encode(texts),
    }
    for model in (auto, exact):
        model.encode(texts[:50])
    times: dict[str, list[float]] = {name: [] for name in ways}
    processors: dict[str, list[float]] = {name: [] for name in ways}
    features = {}
    for _ in range(arguments.rounds):
        for name, way in ways.items():
            start, processor = time.perf_counter(), time.process_time()
            features[name] = way()
            times[name].append(time.perf_counter() - start)
            processors[name].append(time.process_time() - processor)
    reference = features["tailwise float32"]
    base = statistics.median(times["sentence-transformers"])
    base_processor = statistics.median(processors["sentence-transformers"])
    for name, values in times.items():
        seconds, cosine = statistics.median(values), cosines(features[name], reference)
        print(
            f"{name:<24}{len(texts) / seconds:8.1f} texts/s   {base / seconds:5.2f}x sentence-transformers "
            f"({base_processor / statistics.median(processors[name]):.2f}x in processor time)   "
            f"cosine to float32: least {cosine.min():.5f}, mean {cosine.mean():.5f}"
        )


if __name__ == "__main__":
    main()
