"""The engine `probe`: the encoder stays frozen, its features are computed once, heads are trained on them.

Beside the states of the encoder a head may see lexical features, or there is one on each and their scores are added
(`tailwise.models.feature_sources`). Linear heads under convex losses are fitted exactly, under other sums over rows to
a local minimum (`tailwise.training.exact_heads`); the others take steps, those of one shape side by side, whatever
their methods, hyperparameters and seeds (`tailwise.training.probe_passes`). Every distinct training is done once.
Recipes with several stages are shortened to what has an effect on a head alone (`tailwise.training.probe_plan`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from tailwise.errors import SettingError
from tailwise.evaluation.scoring import evaluate_scores, scores_are_finite
from tailwise.evaluation.unit_metrics import metric_names
from tailwise.models.feature_cache import FeatureCache
from tailwise.models.feature_sources import FEATURES, Source, check_features, sources_of
from tailwise.models.heads import RowHead
from tailwise.models.probe import ProbeModel
from tailwise.stages.label_structures import for_label_structure
from tailwise.stages.probe_paths import probe_path, takes_lexical, takes_token_states
from tailwise.stages.recipe import Component
from tailwise.training.corpus_parts import (
    corpus_prior,
    fit_corpus_steps,
    refuse_corpus_double_correction,
    stage_loss,
)
from tailwise.training.crf_probe import TrainedCRF, fit_crfs
from tailwise.training.engine import Engine, Job, Progress
from tailwise.training.exact_heads import ExactProblem, exact_problem, fit_descents, fit_exact, ladder
from tailwise.training.label_attention_probe import fit_label_attention
from tailwise.training.loss_log import loss_facts
from tailwise.training.parsing_loop import ParserOptimisation
from tailwise.training.parsing_probe import fit_parsers
from tailwise.training.probe_parts import ProbePart, ProbeRows, RowKind, join_parts, mean_part
from tailwise.training.probe_passes import TrainedHead, TrainingRows, train_heads
from tailwise.training.probe_plan import ProbePlan, plan_probe, training_key
from tailwise.training.run_facts import run_facts
from tailwise.training.tag_transitions import fit_chain
from tailwise.training.training_memory import TrainingMemory

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from numpy.typing import NDArray

    from tailwise.data.corpus import Corpus
    from tailwise.models.encoder import Encoder
    from tailwise.models.fitted import FittedModel
    from tailwise.models.parsing.model import ParserModel
    from tailwise.stages.recipe import Recipe

__all__ = ["DEFAULT_FEATURES", "LEAST_STEPS", "ProbeEngine"]

#: what a recipe is trained on that leaves its features open
DEFAULT_FEATURES = "encoder+tfidf"
#: gradient steps that a head takes at least, where nothing else is asked for
LEAST_STEPS = 300


class ProbeEngine(Engine):
    """Trains heads on cached features.

    Linear heads under a loss that is convex in the scores are fitted exactly, see `tailwise.training.exact_heads`: the
    result depends on `C` alone. Under any other loss that is a sum over rows a linear head goes down from the solution
    for cross-entropy to a local minimum, which depends on `C` alone too. All other heads take steps of AdamW.

    Args:
        cache: where features are kept; None takes the user's cache folder.
        features: what every recipe that does not say so is trained on, see `tailwise.models.feature_sources`; None
            starts from `DEFAULT_FEATURES` and lets tuning try the others.
        C: inverse strength of L2 of heads that take no steps of AdamW, on rows of unit length, as in scikit-learn.
        epochs: passes over the training rows where heads take steps; None for 5, or more where that is less than
            `LEAST_STEPS` steps (8 where the head is a parser, 20 for label-wise attention). Every recipe takes
            ``ceil(epochs * N / batch_size)`` steps, however long the epochs of its sampler are.
        batch_size: rows per step.
        learning_rate: peak learning rate of AdamW, for features scaled to a root mean square near 1; None for .01
            (.003 for parsers and label-wise attention).
        weight_decay: decoupled, on weights and not on biases; None for .3 (.01 for parsers and label-wise attention).
        metric: what tuned post-hoc steps maximise on validation.

    A recipe's own `optimisation` goes before these settings; one that sets a learning rate, a weight decay, epochs or a
    batch size asks for steps.
    """

    name = "probe"
    batched = True

    def __init__(
        self,
        *,
        cache: FeatureCache | None = None,
        features: str | None = None,
        C: float = 25.0,  # noqa: N803  # the name that everybody knows
        epochs: float | None = None,
        batch_size: int = 64,
        learning_rate: float | None = None,
        weight_decay: float | None = None,
        metric: str = "macro_f1",
    ) -> None:
        if (epochs is not None and not epochs > 0) or batch_size < 1:
            raise SettingError(
                f"Expected `epochs` larger than 0 and `batch_size` from 1, but got {epochs!r} and {batch_size!r}."
            )
        if any(value is not None and value < 0 for value in (learning_rate, weight_decay)):
            raise SettingError(
                f"Expected `learning_rate` and `weight_decay` of at least 0, but got {learning_rate!r} and "
                f"{weight_decay!r}."
            )
        if not 0.0 < C < float("inf"):
            raise SettingError(f"Expected `C` to be a finite number larger than 0, but got {C!r}.")
        sources_of(features or DEFAULT_FEATURES)
        self.cache = FeatureCache() if cache is None else cache
        self.features = features
        self.C = C
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.metric = metric
        self._trained: TrainingMemory[TrainedHead] = TrainingMemory()
        self._fields: TrainingMemory[TrainedCRF] = TrainingMemory(size=TrainedCRF.num_bytes)

    @property
    def settings(self) -> Mapping[str, Any]:
        """Every setting that changes a result."""
        return {
            "features": self.features,
            "C": self.C,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "weight_decay": self.weight_decay,
            "metric": self.metric,
            "optimiser": "exact where the loss is convex, l-bfgs where it is a sum over rows, else adamw",
            "schedule": "warm-up 5%, cosine to 0",
        }

    def search_space(self, recipe: Recipe, corpus: Corpus) -> Mapping[str, Sequence[Any]]:
        """Features and C of a head fitted on all rows at once; rates and weight decays of one that takes steps."""
        recipe = for_label_structure(recipe, corpus.task.label_structure)
        space: dict[str, Sequence[Any]] = {}
        if self.features is None and recipe.features is None and self._takes_lexical(recipe, corpus):
            others = [name for name in FEATURES if name != DEFAULT_FEATURES]
            space["features"] = (DEFAULT_FEATURES, *others)
        path = probe_path(recipe, corpus.task.label_structure, lambda stage: stage_loss(stage, corpus))
        if path in {"closed form", "words"}:
            return space
        if path in {"exact", "descent"}:
            if len(recipe.stages) > 1:  # the shares of stages that are skipped
                space["schedule.share"] = ()
            return {**space, "optimisation.C": _around(self.C, (0.2, 5.0, 0.04))}
        deep = path in {"tokens", "parser"}
        if not deep:
            space["optimisation.weight_decay"] = _around(self._weight_decay(deep=deep), (10 / 3, 0.1))
        return {**space, "optimisation.learning_rate": _around(self._learning_rate(deep=deep), (0.3, 3.0))}

    def _refuse_features(self, recipe: Recipe, corpus: Corpus) -> None:
        if recipe.features is None:
            return
        name = recipe.features.name
        check_features(name, recipe.features.params)
        if "tfidf" in sources_of(name) and not self._takes_lexical(recipe, corpus):
            raise SettingError(
                f"{recipe.name!r} cannot be fitted on the features {name!r} of {corpus.name!r}: sparse rows take a "
                "linear head and a loss that is a sum over rows. Take the features 'encoder'."
            )

    @staticmethod
    def _takes_lexical(recipe: Recipe, corpus: Corpus) -> bool:
        return takes_lexical(recipe, corpus.task.label_structure, lambda stage: stage_loss(stage, corpus))

    def _learning_rate(self, *, deep: bool) -> float:
        return self.learning_rate if self.learning_rate is not None else 3e-3 if deep else 1e-2

    def _weight_decay(self, *, deep: bool) -> float:
        return self.weight_decay if self.weight_decay is not None else 1e-2 if deep else 0.3

    def _epochs(self, num_rows: int, *, deep: bool) -> float:
        if self.epochs is not None:
            return self.epochs
        return 20.0 if deep else max(5.0, LEAST_STEPS * self.batch_size / max(num_rows, 1))

    def fit(
        self, recipe: Recipe, corpus: Corpus, encoder: Encoder, seed: int, progress: Progress | None = None
    ) -> FittedModel:
        """Train one head and fit its post-hoc steps on validation."""
        return self.fit_many([Job(recipe, seed)], corpus, encoder, progress)[0]

    def fit_many(
        self, jobs: Sequence[Job], corpus: Corpus, encoder: Encoder, progress: Progress | None = None
    ) -> list[FittedModel]:
        """Train several heads side by side; parsers, label-wise attention and random fields one by one.

        The result of a job does not depend on the others, to the bit.

        Raises:
            SettingError: a recipe that cannot be carried out.
            DataError: no training row.
        """
        jobs = [Job(for_label_structure(job.recipe, corpus.task.label_structure), job.seed) for job in jobs]
        for job in jobs:
            self._refuse_features(job.recipe, corpus)
        if corpus.task.label_structure == "arcs":
            return list(self._fit_parsers(jobs, corpus, encoder, progress))
        plans = [self._plan(job, corpus) for job in jobs]
        kinds = [_kind(job.recipe) for job in jobs]
        models: list[FittedModel | None] = [None] * len(jobs)
        for fit, which in (
            (self._fit_heads, "rows"),
            (self._fit_label_attention, "tokens"),
            (self._fit_crfs, "words"),
        ):
            places = [i for i, found in enumerate(kinds) if found == which]
            if places:
                fitted = fit([jobs[i] for i in places], [plans[i] for i in places], corpus, encoder, progress)
                for place, model in zip(places, fitted, strict=True):
                    models[place] = model
        return [model for model in models if model is not None]

    def fit_mean(
        self,
        recipe: Recipe,
        corpus: Corpus,
        encoder: Encoder,
        seeds: Sequence[int],
        progress: Progress | None = None,
    ) -> FittedModel | None:
        """One model whose head is the mean of those of several seeds, post-hoc steps fitted on it.

        Linear heads average into one, which scores as the mean of the scores does and costs no more.

        Args:
            recipe: what to do.
            corpus: the data.
            encoder: the encoder.
            seeds: at least one; the model is filed under the first.
            progress: told how far the work is.

        Returns:
            The model, or None where heads have no plain weights to average.
        """
        recipe = for_label_structure(recipe, corpus.task.label_structure)
        if corpus.task.label_structure == "arcs" or _kind(recipe) != "rows":
            return None
        jobs = [Job(recipe, seed) for seed in seeds]
        plans = [self._plan(job, corpus) for job in jobs]
        parts = [mean_part(own) for own in zip(*self._parts(jobs, plans, corpus, encoder, progress), strict=True)]
        averaged = [part for part in parts if part is not None]
        if len(averaged) < len(parts):
            return None
        return self._finish(jobs[0], plans[0], averaged, corpus, encoder)

    def _fit_heads(
        self,
        jobs: Sequence[Job],
        plans: Sequence[ProbePlan],
        corpus: Corpus,
        encoder: Encoder,
        progress: Progress | None,
    ) -> Sequence[FittedModel]:
        parts = self._parts(jobs, plans, corpus, encoder, progress)
        return [
            self._finish(job, plan, own, corpus, encoder) for job, plan, own in zip(jobs, plans, parts, strict=True)
        ]

    def _parts(
        self,
        jobs: Sequence[Job],
        plans: Sequence[ProbePlan],
        corpus: Corpus,
        encoder: Encoder,
        progress: Progress | None,
    ) -> list[list[ProbePart]]:
        """The trained heads of every job, one per source of its features."""
        sources = [sources_of(self._features(job.recipe, corpus).name) for job in jobs]
        parts: list[list[ProbePart]] = [[] for _ in jobs]
        for source in get_args(Source):
            chosen = [i for i, own in enumerate(sources) if source in own]
            if chosen:
                own_plans = [plans[i] for i in chosen]
                trained = self._train(source, [jobs[i] for i in chosen], own_plans, corpus, encoder, progress)
                for i, part in zip(chosen, trained, strict=True):
                    parts[i].append(part)
        return parts

    def _features(self, recipe: Recipe, corpus: Corpus) -> Component:
        """What a recipe is trained on: what it says, else the engine's choice as far as the recipe can take it."""
        if recipe.features is not None:
            return recipe.features
        return Component((self.features or DEFAULT_FEATURES) if self._takes_lexical(recipe, corpus) else "encoder")

    def _train(
        self,
        source: Source,
        jobs: Sequence[Job],
        plans: Sequence[ProbePlan],
        corpus: Corpus,
        encoder: Encoder,
        progress: Progress | None,
    ) -> list[ProbePart]:
        """The heads of some plans on one source; each distinct training is done once."""
        rows_of = ProbeRows(corpus, encoder, self.cache, progress)
        kinds = [
            rows_of.kind(source, plan, self._features(job.recipe, corpus))
            for job, plan in zip(jobs, plans, strict=True)
        ]
        found: dict[int, ProbePart] = {}
        for kind in dict.fromkeys(kinds):
            members = [i for i, own in enumerate(kinds) if own == kind]
            trained = self._train_on(rows_of.training(kind), kind, [plans[i] for i in members], progress)
            for i, head in zip(members, trained, strict=True):
                found[i] = rows_of.part(kind, head)
        return [found[i] for i in range(len(plans))]

    def _train_on(
        self, rows: TrainingRows, kind: RowKind, plans: Sequence[ProbePlan], progress: Progress | None
    ) -> list[TrainedHead]:
        report = None if progress is None else _named(progress, "train")
        problems = [exact_problem(plan, rows) for plan in plans]
        exact: list[tuple[ExactProblem, float]] = []
        for plan, problem in zip(plans, problems, strict=True):
            if problem is not None:  # the steps on the way come for nothing, and are asked for next as a rule
                exact += [(problem.start or problem, rung) for rung in ladder(plan.C)]

        def train_exact(positions: list[int]) -> list[TrainedHead]:
            return fit_exact([exact[i] for i in positions], rows, report)

        keys: list[Hashable] = [(kind, problem.key, strength) for problem, strength in exact]
        solved = dict(zip(keys, self._trained.get_or_train(keys, train_exact), strict=True))

        def train(positions: list[int]) -> list[TrainedHead]:
            heads: dict[int, TrainedHead] = {}
            descents, stepped = dict[int, tuple[ExactProblem, float, TrainedHead]](), list[int]()
            for i in positions:
                plan, problem = plans[i], problems[i]
                if problem is None:
                    stepped.append(i)
                elif problem.start is None:
                    heads[i] = solved[kind, problem.key, plan.C]
                else:
                    descents[i] = (problem, plan.C, solved[kind, problem.start.key, plan.C])
            if descents:
                heads |= zip(descents, fit_descents(list(descents.values()), rows, report), strict=True)
            if stepped:
                heads |= zip(stepped, train_heads([plans[i] for i in stepped], rows, report), strict=True)
            return [heads[i] for i in positions]

        keys = [
            (kind, *training_key(plan)) if problem is None else (kind, problem.key, plan.C)
            for plan, problem in zip(plans, problems, strict=True)
        ]
        return self._trained.get_or_train(keys, train)

    def _fit_label_attention(
        self,
        jobs: Sequence[Job],
        plans: Sequence[ProbePlan],
        corpus: Corpus,
        encoder: Encoder,
        progress: Progress | None,
    ) -> Sequence[FittedModel]:
        return fit_label_attention(
            jobs,
            plans,
            corpus,
            encoder,
            metric=self.metric,
            cache=self.cache,
            engine=self.name,
            settings=self.settings,
            progress=progress,
        )

    def _fit_crfs(
        self,
        jobs: Sequence[Job],
        plans: Sequence[ProbePlan],
        corpus: Corpus,
        encoder: Encoder,  # noqa: ARG002  # a conditional random field reads words
        progress: Progress | None,
    ) -> Sequence[FittedModel]:
        heads = [plan.head for plan in plans]
        return fit_crfs(
            jobs, heads, corpus, metric=self.metric, engine=self.name, memory=self._fields, progress=progress
        )

    def _fit_parsers(
        self, jobs: Sequence[Job], corpus: Corpus, encoder: Encoder, progress: Progress | None
    ) -> list[ParserModel]:
        return fit_parsers(
            jobs,
            corpus,
            encoder,
            epochs=8.0 if self.epochs is None else self.epochs,
            optimisation=ParserOptimisation(
                learning_rate=self._learning_rate(deep=True), weight_decay=self._weight_decay(deep=True)
            ),
            metric=self.metric,
            cache=self.cache,
            engine=self.name,
            progress=progress,
        )

    def _plan(self, job: Job, corpus: Corpus) -> ProbePlan:
        refuse_corpus_double_correction(job.recipe, corpus)
        deep, num_rows = takes_token_states(job.recipe), corpus.num_targets("train")
        return plan_probe(
            job.recipe,
            job.seed,
            num_rows=num_rows,
            epochs=self._epochs(num_rows, deep=deep),
            batch_size=self.batch_size,
            learning_rate=self._learning_rate(deep=deep),
            weight_decay=self._weight_decay(deep=deep),
            C=self.C,
        )

    def _finish(
        self, job: Job, plan: ProbePlan, parts: Sequence[ProbePart], corpus: Corpus, encoder: Encoder
    ) -> ProbeModel:
        trained = parts[0].trained
        prior = _prior(job.recipe, trained, corpus)
        joined = join_parts(parts, corpus, prior)
        chain, scores, unfitted = fit_chain(joined.scores, joined.held_out, corpus, self.metric)
        steps, held_out = fit_corpus_steps(
            job.recipe,
            scores,
            corpus,
            prior=prior,
            metric=self.metric,
            weight=joined.weight,
            bias=joined.bias,
            unfitted=unfitted,
        )
        log = {
            "steps": sum(part.trained.steps for part in parts),
            **loss_facts(trained.losses),
        }
        if self.metric in metric_names(corpus.task.label_structure) and scores_are_finite(held_out):
            log[f"validation_{self.metric}"] = evaluate_scores(corpus, "validation", held_out).score(self.metric)
        found = dict.fromkeys(note for part in parts for note in part.trained.notes)
        chosen = self._features(job.recipe, corpus)
        if job.recipe.features is None and self.features not in (None, chosen.name):
            found[
                f"The head of {job.recipe.name!r} cannot be fitted on {self.features!r}, which is sparse; it was "
                "trained on the states of the encoder."
            ] = None
        facts = run_facts(corpus, encoder, self.settings, log)
        if joined.head is None:  # words alone
            del facts["encoder"]
        model = ProbeModel(
            encoder=None if joined.head is None else encoder,
            head=joined.head,
            lexical=joined.lexical,
            chain=chain,
            cache=self.cache,
            label_space=corpus.label_space,
            task=corpus.task,
            recipe=job.recipe.with_features(chosen).to_dict(),
            seed=job.seed,
            engine=self.name,
            steps=steps,
            info={**facts, **joined.facts, "notes": [*plan.notes, *joined.notes, *found]},
        )
        model.held_out = held_out if steps or unfitted is not None else None
        return model


def _around(value: float, factors: Sequence[float]) -> tuple[float, ...]:
    return (value, *(float(f"{value * factor:.3g}") for factor in factors))


def _kind(recipe: Recipe) -> str:
    """What the head of a recipe is given: rows of features, the states of all tokens, or words."""
    path = probe_path(recipe)
    return path if path in {"tokens", "words"} else "rows"


def _named(progress: Progress, what: str) -> Any:
    return lambda done, total: progress(what, done, total)


def _prior(recipe: Recipe, trained: TrainedHead, corpus: Corpus) -> NDArray[np.float64]:
    """What the scores express; a head in closed form ignores how frequent the classes are."""
    num_classes = corpus.label_space.num_classes
    if trained.head.closed_form and not isinstance(trained.head, RowHead):
        return np.full(num_classes, 1.0 / num_classes)
    return corpus_prior(recipe.stages[-1], corpus, trained.drawn)
