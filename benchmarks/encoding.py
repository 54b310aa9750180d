"""Sentences per second of `Encoder.encode` against sentence-transformers' default `encode`.

    python benchmarks/encoding.py [--texts 5000] [--rounds 3] [--threads 2] [--short]

The same weights (all-MiniLM-L6-v2 from its package), the same texts, 256 tokens per text at most, no normalisation.
Texts of mixed length, shuffled: questions (TREC), tweets, sentences of papers (SciCite) and film reviews (IMDB) from
$TAILWISE_DATA or ../shared/data. With ``--short`` the first twelve words of each, as `tailwise predict` meets them in
utterances. Times are medians over interleaved rounds. On a machine with other work to do, look at processor time with
``--threads 1``.

The last line times the matrix products of the encoder's linear layers alone, at the same shapes: what is left of the
time is all that a better implementation could save without fewer bits. A processor without AVX-512 is imitated by

    ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 python benchmarks/encoding.py
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from tailwise.data import load
from tailwise.models.encoder import Encoder, token_budget, token_budget_batches

if TYPE_CHECKING:
    from collections.abc import Callable

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


def products(encoder: Encoder, lengths: np.ndarray) -> Callable[[], None]:
    """The matrix products of all linear layers for texts of these lengths, batched as `Encoder.encode` does."""
    layers = [module for module in encoder.model.encoder.modules() if isinstance(module, torch.nn.Linear)]
    batches = list(token_budget_batches(lengths, token_budget(encoder.device)))
    rows = [len(batch) * int(lengths[batch[0]]) for batch in batches]
    inputs = {width: torch.randn(max(rows), width) for width in {layer.in_features for layer in layers}}

    def run() -> None:
        with torch.inference_mode():
            for number in rows:
                for layer in layers:
                    layer(inputs[layer.in_features][:number])

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--short", action="store_true", help="the first twelve words of every text")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    texts = mixed_texts(Path(os.environ.get("TAILWISE_DATA", default)), arguments.texts)
    if arguments.short:
        texts = list(dict.fromkeys(" ".join(text.split()[:12]) for text in texts))
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
    quick = exact.quick()
    if quick is not exact:
        ways["tailwise predict --fast"] = lambda: quick.encode(texts)
    alone = products(exact, np.array(lengths))
    ways["its products alone"] = lambda: alone() or np.empty(0)
    for model in (auto, exact, quick):
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
    share = statistics.median(processors["its products alone"]) / statistics.median(processors["tailwise float32"])
    for name, values in list(times.items())[:-1]:
        seconds, cosine = statistics.median(values), cosines(features[name], reference)
        print(
            f"{name:<24}{len(texts) / seconds:8.1f} texts/s   {base / seconds:5.2f}x sentence-transformers "
            f"({base_processor / statistics.median(processors[name]):.2f}x in processor time)   "
            f"cosine to float32: least {cosine.min():.5f}, mean {cosine.mean():.5f}"
        )
    print(f"matrix products alone: {share:.0%} of the processor time in float32, so at most {1 / share:.2f}x is left")


if __name__ == "__main__":
    main()
