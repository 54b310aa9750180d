"""Tuning: the same budget for every method, baselines included.

Each method may train `trials` models on one tuning seed; the metric on validation decides. The first trial is the
published default with the engine's default settings; the rest of the first half changes one setting at a time, each
setting in turn, the values nearest to the default first; the second half is chosen by Optuna's tree-structured Parzen
estimator. No point of a search space is tried twice, so a method with fewer points than trials is searched completely
and has nothing more to gain from the budget.

Every trial is stored when it is finished. A rerun replays the same questions and trains only what has no answer yet.
"""

from __future__ import annotations

import logging
import math
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState

from tailwise.benchmark.cell import RESULT_FORMAT, digest, plain
from tailwise.catalog import METHODS, resolve, search_space
from tailwise.evaluation.scoring import evaluate_scores, scores_are_finite
from tailwise.evaluation.unit_metrics import check_metric
from tailwise.stages.recipe import Component, Recipe
from tailwise.training.engine import Job

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tailwise.benchmark.store import ResultStore
    from tailwise.data.corpus import Corpus
    from tailwise.evaluation.scoring import Scores
    from tailwise.models.encoder import Encoder
    from tailwise.models.fitted import FittedModel
    from tailwise.training.engine import Engine, Progress

__all__ = ["TUNING_SEED", "Candidate", "Trial", "Tuner", "Tuning", "Workplace"]

#: the one seed of all tuning; never a seed of a final run
TUNING_SEED = 7919

#: what a trial is worth whose training diverged: as little as the worst metric (a correlation) can be
DIVERGED = -1.0

#: how often Optuna is asked for a point that was not tried before
_QUESTIONS = 10

#: untried points below which the next one is looked up instead of guessed
_FEW = 1000

#: models trained in one call at most; bounds memory, open lock files and what a kill costs
_LARGEST_BATCH = 32

_OPTIMISATION = "optimisation."


@dataclass(frozen=True)
class Candidate:
    """A method that takes part in a comparison: its name, and what `tailwise.catalog.resolve` makes a recipe of."""

    name: str
    spec: str | Recipe

    @property
    def tier(self) -> str:
        """Cost tier, T0 to T4: the dearest of its parts; T2 (one training) for a recipe of the user's own."""
        if isinstance(self.spec, Recipe):
            return "T2"
        return max(METHODS[part].tier for part in self.spec.split("+"))

    def recipe(self, params: Mapping[str, Any] | None = None) -> Recipe:
        """The recipe with values by parameter path; ``optimisation.`` paths set the optimiser, ``features`` those."""
        given = dict(params or {})
        features = given.pop("features", None)
        settings = {
            path.removeprefix(_OPTIMISATION): given.pop(path) for path in list(given) if path.startswith(_OPTIMISATION)
        }
        recipe = resolve(self.spec, given)
        if features is not None:
            recipe = recipe.with_features(Component.from_data(features, "features"))
        return recipe.with_optimisation(**settings) if settings else recipe

    def space(self, engine: Engine, corpus: Corpus) -> dict[str, tuple[Any, ...]]:
        """Values by parameter path, defaults first: what the method offers, and what the engine adds for it."""
        recipe = self.recipe()
        space = {path: tuple(values) for path, values in search_space(self.spec).items()}
        for path, values in engine.search_space(recipe, corpus).items():
            field = path.removeprefix(_OPTIMISATION)
            if field == path or getattr(recipe.optimisation, field) is None:
                space[path] = tuple(values)
        return {path: values for path, values in space.items() if values}


@dataclass(frozen=True)
class Trial:
    """One trained configuration and its metric on validation."""

    params: Mapping[str, Any]
    value: float


@dataclass(frozen=True)
class Tuning:
    """What tuning of one method found.

    Attributes:
        method: its name.
        metric: what was maximised on validation.
        budget: trials that every method was granted.
        points: size of the search space.
        trials: those that were run, in order; the first is the default.
    """

    method: str
    metric: str
    budget: int
    points: int
    trials: tuple[Trial, ...]

    @property
    def best(self) -> Mapping[str, Any]:
        """Parameters of the best trial, the earliest of equals; empty without trials."""
        return max(self.trials, key=lambda trial: trial.value).params if self.trials else {}

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "method": self.method,
            "metric": self.metric,
            "budget": self.budget,
            "points": self.points,
            "trials": [{"params": plain(trial.params), "value": trial.value} for trial in self.trials],
            "best": plain(self.best),
        }


@dataclass(frozen=True, eq=False)
class Workplace:
    """What all work of one comparison shares.

    Attributes:
        store: where results go.
        engine: what trains.
        corpus: the data.
        encoder: what turns texts into features.
        progress: told about finished units, or None.
    """

    store: ResultStore
    engine: Engine
    corpus: Corpus
    encoder: Encoder
    progress: Progress | None = None

    def identity(self) -> dict[str, Any]:
        """What decides results beside recipe and seed, as plain data; the keywords of a `CellKey`."""
        return {
            "corpus": self.corpus.name,
            "corpus_fingerprint": self.corpus.fingerprint,
            "encoder": {
                "fingerprint": self.encoder.fingerprint,
                "pooling": self.encoder.pooling,
                "max_length": self.encoder.max_length,
                "dtype": str(self.encoder.dtype),
            },
            "engine": self.engine.name,
            "engine_settings": plain(self.engine.settings),
        }

    @property
    def at_most(self) -> int:
        """Models per call: many for an engine that gains from it, else one, so that each is stored at once."""
        return _LARGEST_BATCH if self.engine.batched else 1

    def fit(self, jobs: Sequence[Job]) -> list[FittedModel]:
        """Train."""
        return self.engine.fit_many(jobs, self.corpus, self.encoder, self.progress)

    def tell(self, what: str, done: int, total: int) -> None:
        """Report progress."""
        if self.progress is not None:
            self.progress(what, done, total)


@dataclass(frozen=True, eq=False)
class _Question:
    """One configuration whose metric is wanted, and where the answer is stored."""

    recipe: Recipe
    params: Mapping[str, Any]
    key: Mapping[str, Any]
    digest: str
    path: Path


class Tuner:
    """Tunes methods on validation.

    Args:
        workplace: store, engine, corpus and encoder.
        metric: name of the metric, larger is better.
        trials: models each method may train; 0 keeps the published defaults.
        seed: of every trial.

    Raises:
        UnknownNameError: there is no such metric for the label structure of the corpus.
    """

    def __init__(self, workplace: Workplace, *, metric: str, trials: int, seed: int = TUNING_SEED) -> None:
        check_metric(metric, workplace.corpus.task.label_structure)
        self.workplace = workplace
        self.metric = metric
        self.trials = trials
        self.seed = seed
        self._key = {**workplace.identity(), "metric": metric, "seed": seed, "result_format": RESULT_FORMAT}

    def tune(self, candidates: Sequence[Candidate]) -> dict[str, Tuning]:
        """The outcome per method. The trials of a round, over all methods, are handed to the engine together.

        Raises:
            StoreError: a stored trial is damaged.
            SettingError: the engine cannot run a recipe.
        """
        rounds = (math.ceil(self.trials / 2), self.trials // 2)
        outcomes = {}
        with _quiet_optuna():
            work = self.workplace
            searches = [_Search(c.space(work.engine, work.corpus), self.seed, rounds[0]) for c in candidates]
            total = sum(min(self.trials, search.points) for search in searches)
            for size in rounds:
                told = sum(len(search.trials) for search in searches)
                asked = [[self._question(c, p) for p in s.ask(size)] for c, s in zip(candidates, searches, strict=True)]
                self._answer([question for questions in asked for question in questions], told, total)
                for search, questions in zip(searches, asked, strict=True):
                    search.tell([self._value(question) for question in questions])
        for candidate, search in zip(candidates, searches, strict=True):
            outcomes[candidate.name] = self._record(candidate, search)
        return outcomes

    def _question(self, candidate: Candidate, params: Mapping[str, Any]) -> _Question:
        recipe = candidate.recipe(params)
        key = {**self._key, "recipe": recipe.to_dict()}
        name = digest(key)
        path = self.workplace.store.record_path(self.workplace.corpus.name, candidate.name, "trial", name)
        return _Question(recipe, params, key, name, path)

    def _answer(self, questions: Sequence[_Question], told: int, total: int) -> None:
        """Train what has no stored answer yet."""
        by_digest = {question.digest: question for question in questions}
        store, corpus = self.workplace.store, self.workplace.corpus

        def tell() -> None:
            self.workplace.tell("tuning", told + sum(q.path.is_file() for q in questions), total)

        def work(todo: list[str]) -> None:
            chosen = [by_digest[name] for name in todo]
            models = self.workplace.fit([Job(question.recipe, self.seed) for question in chosen])
            for question, model in zip(chosen, models, strict=True):
                value = self._value_of(model.validation_scores(corpus))
                data = {"key": question.key, "params": question.params, "value": value}
                store.write_record(question.path, question.digest, data)
            tell()

        tell()
        store.complete(
            list(by_digest), done=lambda name: by_digest[name].path.is_file(), work=work, at_most=self.workplace.at_most
        )
        tell()

    def _value_of(self, scores: Scores) -> float:
        if not scores_are_finite(scores):
            return DIVERGED
        return evaluate_scores(self.workplace.corpus, "validation", scores).score(self.metric)

    def _value(self, question: _Question) -> float:
        return float(self.workplace.store.read_record(question.path, question.digest)["value"])

    def _record(self, candidate: Candidate, search: _Search) -> Tuning:
        """Keep the outcome on disk too, for people and reports; a rerun does not need it."""
        outcome = Tuning(candidate.name, self.metric, self.trials, search.points, tuple(search.trials))
        store = self.workplace.store
        key = {**self._key, "recipe": candidate.recipe().to_dict(), "space": search.space, "trials": self.trials}
        name = digest(key)
        path = store.record_path(self.workplace.corpus.name, candidate.name, "study", name)
        store.complete(
            [name],
            done=lambda _: path.is_file(),
            work=lambda _: store.write_record(path, name, {"key": key, **outcome.to_dict()}),
        )
        return outcome


class _Search:
    """Which points of a search space are tried: the default, single changes of it, then Optuna's choice of the rest."""

    def __init__(self, space: Mapping[str, Sequence[Any]], seed: int, startup: int) -> None:
        self.space = dict(space)
        self.points = math.prod(len(values) for values in self.space.values())
        self.trials: list[Trial] = []
        self._asked: list[optuna.Trial] = []
        self._tried: set[tuple[int, ...]] = set()
        self._random = np.random.default_rng(seed)
        self._study = optuna.create_study(
            direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup)
        )
        self._distributions = {path: CategoricalDistribution(range(len(v))) for path, v in self.space.items()}
        self._planned = _star([len(values) for values in self.space.values()], startup)

    def ask(self, count: int) -> list[dict[str, Any]]:
        """Up to `count` configurations not tried before; fewer when the space is exhausted."""
        self._asked = []
        left = self.points - len(self._tried)
        for _ in range(min(count, left)):
            trial = self._new_trial(last=count >= left)
            self._tried.add(self._point(trial))
            self._asked.append(trial)
        return [self._params(trial) for trial in self._asked]

    def tell(self, values: Sequence[float]) -> None:
        """The metric of each configuration asked for, in order."""
        for trial, value in zip(self._asked, values, strict=True):
            self._study.tell(trial, value)
            self.trials.append(Trial(self._params(trial), value))

    def _new_trial(self, *, last: bool) -> optuna.Trial:
        """The next planned point, then Optuna's choice; one of the others where all are left to come, or it insists."""
        for _ in range(0 if self._planned or last else _QUESTIONS):
            trial = self._study.ask(self._distributions)
            if self._point(trial) not in self._tried:
                return trial
            self._study.tell(trial, state=TrialState.FAIL)
        point = self._planned.pop(0) if self._planned else self._untried()
        self._study.enqueue_trial(dict(zip(self.space, point, strict=True)))
        return self._study.ask(self._distributions)

    def _point(self, trial: optuna.Trial) -> tuple[int, ...]:
        return tuple(trial.params[path] for path in self.space)

    def _untried(self) -> tuple[int, ...]:
        """The first point not tried yet, the last parameter changing fastest; at random where there are many."""
        if self.points - len(self._tried) <= _FEW:
            return next(
                point for point in product(*(range(len(v)) for v in self.space.values())) if point not in self._tried
            )
        while True:
            point = tuple(int(self._random.integers(len(values))) for values in self.space.values())
            if point not in self._tried:
                return point

    def _params(self, trial: optuna.Trial) -> dict[str, Any]:
        return {path: values[trial.params[path]] for path, values in self.space.items()}


def _star(sizes: Sequence[int], count: int) -> list[tuple[int, ...]]:
    """Up to `count` points: the default (0, 0, ...), then one coordinate changed: all to 1 in turn, all to 2, ..."""
    points = [tuple([0] * len(sizes))]
    for value in range(1, max(sizes, default=1)):
        for axis, size in enumerate(sizes):
            if value < size:
                points.append(tuple(value if i == axis else 0 for i in range(len(sizes))))
    return points[:count]


@contextmanager
def _quiet_optuna() -> Iterator[None]:
    """Optuna announces every study at INFO; its level is put back afterwards."""
    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(max(level, logging.WARNING))
    try:
        yield
    finally:
        logger.setLevel(level)
