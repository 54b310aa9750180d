"""Exact heads along a path of L2 strengths against scikit-learn's logistic regression, at equal objective.

    python benchmarks/convex_heads.py [--sparse] [--data trec50] [--strengths .01 .1 1 10 100] [--balanced]

Features are those of the default encoder with rows of unit norm, or with ``--sparse`` TF-IDF of words (1 to 2) and
characters (3 to 5) as a sparse matrix; without the data set, random ones of the same shape. Both sides get float32
features, one thread and the solution of the last strength to start from (``warm_start``). scikit-learn (lbfgs) is run
with its default tolerance, and with tolerances ten times smaller each until its objective is within 1e-6 of the better
of the two; what is timed is the last fit alone. Times are of the processor. The objective is computed in double
precision; differences are relative to the least found.
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.sparse import csr_matrix, hstack
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from tailwise.data import load
from tailwise.errors import TailwiseError
from tailwise.losses import LOSSES
from tailwise.models.encoder import Encoder
from tailwise.models.heads.base import AffineForm
from tailwise.models.row_features import split_row_features
from tailwise.training.convex import ConvexProblem, fit_convex, objective

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

DEFAULT_TOLERANCE, EQUAL = 1e-4, 1e-6
TOLERANCES = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9)


def read(name: str, *, sparse: bool) -> tuple[Any, np.ndarray, str]:
    try:
        corpus = load(name)
    except TailwiseError as error:
        print(f"{error}\nRandom features take its place.")
        return *made_up(sparse=sparse), "random"
    labels = corpus.labels("train")
    if not sparse:
        features = split_row_features(Encoder.from_pretrained(None), corpus, "train")
        return features / np.linalg.norm(features, axis=1, keepdims=True), labels, name
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, dtype=np.float32)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True, dtype=np.float32)
    texts = corpus.texts("train")
    parts = [vectoriser.fit_transform(texts) * np.float32(np.sqrt(0.5)) for vectoriser in (words, characters)]
    return csr_matrix(hstack(parts), dtype=np.float32), labels, name


def made_up(*, sparse: bool) -> tuple[Any, np.ndarray]:
    generator = np.random.default_rng(0)
    prior = 0.93 ** np.arange(50)
    labels = np.concatenate([np.arange(50), generator.choice(50, 4950, p=prior / prior.sum())])
    if sparse:
        columns = (
            generator.zipf(1.2, size=(5000, 100)) + 7 * labels[:, None] * (generator.random((5000, 100)) < 0.2)
        ) % 60_000
        matrix = csr_matrix((np.full(500_000, 0.1, np.float32), (np.repeat(np.arange(5000), 100), columns.ravel())))
        matrix.sum_duplicates()
        return matrix, labels
    features = generator.normal(size=(50, 384))[labels] + 2 * generator.normal(size=(5000, 384))
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32), labels


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sparse", action="store_true")
    parser.add_argument("--balanced", action="store_true")
    parser.add_argument("--data", default="trec50")
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.01, 0.1, 1.0, 10.0, 100.0])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=ConvergenceWarning)
    features, labels, name = read(arguments.data, sparse=arguments.sparse)
    classes, path = int(labels.max()) + 1, tuple(sorted(arguments.strengths))
    loss = LOSSES["wce"](class_counts=np.bincount(labels)) if arguments.balanced else LOSSES["ce"]()
    problem, weighting = ConvexProblem(loss, path), "balanced" if arguments.balanced else None
    print(f"{name}: {features.shape[0]} rows, {features.shape[1]} features, {classes} classes")
    marks = [time.process_time()]
    heads = fit_convex([problem], features, labels, classes, lambda *_: marks.append(time.process_time()))[0]
    ours = np.diff(marks)
    ours[-1] += time.process_time() - marks[-1]
    totals = np.array([ours.sum(), 0.0, 0.0])
    print("strength    tailwise   excess    default tolerance   excess    equal objective   excess   tolerance")
    start: LogisticRegression | None = None
    for strength, head, seconds in zip(path, heads, ours, strict=True):
        own = objective(problem, strength, head, features, labels)
        tries = []
        for tolerance in TOLERANCES:
            model = LogisticRegression(
                C=strength, tol=tolerance, max_iter=20_000, class_weight=weighting, warm_start=True
            )
            if start is not None:
                model.coef_, model.intercept_, model.classes_ = start.coef_, start.intercept_, start.classes_
            spent, model = timed(lambda model=model: model.fit(features, labels))
            found = AffineForm(torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_))
            tries.append((spent, objective(problem, strength, found, features, labels), tolerance))
            if (tries[-1][1] - own) <= EQUAL * own:
                break
        start = model
        least = min(own, *(value for _, value, _ in tries))
        excess = [(value - least) / least for value in (own, tries[0][1], tries[-1][1])]
        totals[1:] += tries[0][0], tries[-1][0]
        print(
            f"{strength:8g} {seconds:9.2f} s   {excess[0]:.1e} {tries[0][0]:15.2f} s   {excess[1]:.1e} "
            f"{tries[-1][0]:15.2f} s   {excess[2]:.1e}   {tries[-1][2]:g}",
            flush=True,
        )
    print(f"   total {totals[0]:9.2f} s             {totals[1]:15.2f} s             {totals[2]:15.2f} s")
    print(f"{totals[1] / totals[0]:.1f}x, at equal objective {totals[2] / totals[0]:.1f}x (target 3x)")


if __name__ == "__main__":
    main()
