"""A comparison with a tiny engine, run by the tests in their own process or in one that they kill.

usage: worker.py OUT LOG SECONDS_PER_JOB
"""

import os
import sys
import time
import zlib
from pathlib import Path

import numpy as np
from datasets import Dataset

from tailwise.benchmark.compare import compare
from tailwise.data.corpus import Corpus
from tailwise.data.labels import LabelSpace
from tailwise.data.task import Task
from tailwise.models.fitted import FittedModel
from tailwise.posthoc.base import AffineStep

METHODS = ("ce", "wce", "logit-adjustment", "focal")
SEEDS = (0, 1)
TRIALS = 4
COUNTS = (60, 30, 15, 6, 3)


class HashEncoder:
    """Stands for an encoder: counts of hashed words."""

    name, revision, pooling, max_length, dim, dtype, fingerprint = "hash", None, "mean", 32, 48, "float32", "f" * 64

    def encode(self, texts):
        features = np.zeros((len(texts), self.dim), dtype=np.float64)
        for row, text in enumerate(texts):
            for word in text.split():
                features[row, zlib.crc32(word.encode()) % self.dim] += 1.0
        return features


class SoftmaxModel(FittedModel):
    def __init__(self, encoder, weight, **facts):
        super().__init__(engine="softmax", **facts)
        self.encoder, self.weight = encoder, weight

    def raw_scores(self, texts, text_pairs=None):
        return (self.encoder.encode(texts) @ self.weight).astype(np.float32)

    def raw_split_scores(self, corpus, split):
        return self.raw_scores(corpus.texts(split))


class SoftmaxEngine:
    """Softmax regression by gradient descent in numpy; each fit is one line of a log, with the process that ran it."""

    name = "softmax"

    def __init__(self, log=None, seconds=0.0, rates=(0.5, 0.1, 2.0), batched=True):
        self.log, self.seconds, self.rates, self.batched = log, seconds, rates, batched
        self.calls = []

    @property
    def settings(self):
        return {"steps": 30}

    def search_space(self, recipe, corpus):
        return {"optimisation.learning_rate": self.rates}

    def fit(self, recipe, corpus, encoder, seed, progress=None):
        time.sleep(self.seconds)
        features, gold = encoder.encode(corpus.texts("train")), corpus.labels("train")
        space = corpus.label_space
        weight = 0.01 * np.random.default_rng(seed).standard_normal((encoder.dim, len(space)))
        per_row = np.ones(len(gold)) if recipe.stages[0].loss.name != "wce" else (1.0 / space.counts)[gold]
        per_row, wanted = per_row / per_row.sum(), np.eye(len(space))[gold]
        for _ in range(30):
            scores = np.exp(features @ weight)
            error = per_row[:, None] * (scores / scores.sum(axis=1, keepdims=True) - wanted)
            weight -= (recipe.optimisation.learning_rate or self.rates[0]) * features.T @ error
        steps = [AffineStep(c.name, np.ones(len(space)), -np.log(space.prior), {"seen": 0.1}) for c in recipe.posthoc]
        if self.log is not None:
            line = f"{os.getpid()} {recipe.name} {recipe.optimisation.learning_rate} {recipe.stages[0].loss} {seed}\n"
            descriptor = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(descriptor, line.encode())
            os.close(descriptor)
        return SoftmaxModel(
            encoder, weight, label_space=space, task=corpus.task, recipe=recipe.to_dict(), seed=seed, steps=steps
        )

    def fit_many(self, jobs, corpus, encoder, progress=None):
        self.calls.append(list(jobs))
        return [self.fit(job.recipe, corpus, encoder, job.seed, progress) for job in jobs]


def skewed_corpus(name="toy", unseen=False):
    """Texts of noisy class words; five classes from 60 down to 3 training instances."""
    random = np.random.default_rng(5)
    splits = {}
    for split, counts in (("train", COUNTS), ("validation", (12, 9, 6, 4, 3)), ("test", (15, 9, 6, 4, 3))):
        labels = np.repeat(np.arange(5), counts)
        words = [
            [f"c{label}w{random.integers(4)}" if random.random() < 0.4 else f"w{random.integers(30)}" for _ in range(6)]
            for label in labels
        ]
        if unseen and split != "train":
            labels, words = np.append(labels, 5), [*words, ["something", "else"]]
        splits[split] = Dataset.from_dict(
            {
                "id": [f"{split}-{i}" for i in range(len(labels))],
                "text": [" ".join(w) for w in words],
                "label": labels.tolist(),
            }
        )
    space = LabelSpace(tuple("abcde"), np.array(COUNTS), unseen=("f",) if unseen else ())
    return Corpus(name, splits, Task(), space, fingerprint="c" * 64)


def run(out, engine, **changes):
    settings = {"methods": METHODS, "seeds": SEEDS, "trials": TRIALS, "encoder": HashEncoder(), **changes}
    corpus = settings.pop("corpus", None) or skewed_corpus()
    return compare(corpus, engine=engine, out=out, **settings)


if __name__ == "__main__":
    run(Path(sys.argv[1]), SoftmaxEngine(sys.argv[2], float(sys.argv[3]), batched=False))
