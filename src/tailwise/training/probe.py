"""The engine `probe`: the encoder stays frozen, its features are computed once, heads are trained on them as tensors.

Heads of one shape are trained side by side, whatever their methods, hyperparameters and seeds; see
`tailwise.training.probe_passes`. Recipes with several stages are shortened to what has an effect on a head alone; see
`tailwise.training.probe_plan`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tailwise.errors import DataError, SettingError
from tailwise.evaluation.scoring import evaluate_scores, scores_are_finite
from tailwise.evaluation.unit_metrics import metric_names
from tailwise.models.feature_cache import FeatureCache
from tailwise.models.heads import HEADS
from tailwise.models.heads.affine import scaled
from tailwise.models.heads.cosine import CosineHead
from tailwise.models.probe import ProbeModel, head_scores
from tailwise.models.row_features import split_row_features
from tailwise.stages.label_structures import for_label_structure
from tailwise.training.corpus_parts import corpus_prior, fit_corpus_steps, refuse_corpus_double_correction
from tailwise.training.crf_probe import fit_crfs
from tailwise.training.engine import Engine, Job, Progress
from tailwise.training.label_attention_probe import fit_label_attention
from tailwise.training.loss_log import loss_facts
from tailwise.training.multilabel_components import trained_labels
from tailwise.training.parsing_loop import ParserOptimisation
from tailwise.training.parsing_probe import fit_parsers
from tailwise.training.probe_passes import TrainedHead, TrainingRows, train_heads
from tailwise.training.probe_plan import ProbePlan, plan_probe
from tailwise.training.run_facts import run_facts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from tailwise.data.corpus import Corpus
    from tailwise.models.encoder import Encoder
    from tailwise.models.fitted import FittedModel
    from tailwise.models.heads.base import AffineForm, Head
    from tailwise.models.parsing.model import ParserModel
    from tailwise.stages.recipe import Recipe

__all__ = ["ProbeEngine"]


class ProbeEngine(Engine):
    """Trains heads on cached features.

    Args:
        cache: where features are kept; None takes the user's cache folder.
        epochs: passes over the training rows, None for 20 (8 where the head is a parser); every recipe takes
            ``ceil(epochs * N / batch_size)`` steps, however long the epochs of its sampler are.
        batch_size: rows per step.
        learning_rate: peak learning rate of AdamW, for features scaled to a root mean square near 1.
        weight_decay: decoupled, on weights and not on biases.
        metric: what tuned post-hoc steps maximise on validation.

    A recipe's own `optimisation` goes before these settings.
    """

    name = "probe"
    batched = True

    def __init__(
        self,
        *,
        cache: FeatureCache | None = None,
        epochs: float | None = None,
        batch_size: int = 64,
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-2,
        metric: str = "macro_f1",
    ) -> None:
        if (epochs is not None and not epochs > 0) or batch_size < 1:
            raise SettingError(
                f"Expected `epochs` larger than 0 and `batch_size` from 1, but got {epochs!r} and {batch_size!r}."
            )
        if learning_rate < 0 or weight_decay < 0:
            raise SettingError(
                f"Expected `learning_rate` and `weight_decay` of at least 0, but got {learning_rate!r} and "
                f"{weight_decay!r}."
            )
        self.cache = FeatureCache() if cache is None else cache
        self.epochs = 20.0 if epochs is None else epochs
        self.parser_epochs = 8.0 if epochs is None else epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.metric = metric

    @property
    def settings(self) -> Mapping[str, Any]:
        """Every setting that changes a result."""
        return {
            "epochs": self.epochs,
            "parser_epochs": self.parser_epochs,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "weight_decay": self.weight_decay,
            "metric": self.metric,
            "optimiser": "adamw",
            "schedule": "warm-up 5%, cosine to 0",
        }

    @property
    def search_space(self) -> Mapping[str, Sequence[Any]]:
        """Learning rates around the default."""
        factors = (1.0, 1 / 3, 10 / 3, 1 / 10, 10.0)
        return {"learning_rate": tuple(float(f"{self.learning_rate * factor:.3g}") for factor in factors)}

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
        if corpus.task.label_structure == "arcs":
            return list(self._fit_parsers(jobs, corpus, encoder, progress))
        plans = [self._plan(job, corpus) for job in jobs]
        kinds = [_kind(plan) for plan in plans]
        models: list[FittedModel | None] = [None] * len(jobs)
        for fit, which in (
            (self._fit_heads, "vectors"),
            (self._fit_label_attention, "token states"),
            (self._fit_crfs, "words"),
        ):
            places = [i for i, found in enumerate(kinds) if found == which]
            if places:
                fitted = fit([jobs[i] for i in places], [plans[i] for i in places], corpus, encoder, progress)
                for place, model in zip(places, fitted, strict=True):
                    models[place] = model
        return [model for model in models if model is not None]

    def _fit_heads(
        self,
        jobs: Sequence[Job],
        plans: Sequence[ProbePlan],
        corpus: Corpus,
        encoder: Encoder,
        progress: Progress | None,
    ) -> Sequence[FittedModel]:
        rows = self._training_rows(corpus, encoder, progress)
        validation = split_row_features(encoder, corpus, "validation", cache=self.cache, progress=progress)
        report = None if progress is None else _named(progress, "train")
        trained = train_heads(plans, rows, report)
        return [
            self._finish(job, plan, head, corpus, encoder, validation)
            for job, plan, head in zip(jobs, plans, trained, strict=True)
        ]

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
        encoder: Encoder,  # noqa: ARG002  # a CRF reads words
        progress: Progress | None,
    ) -> Sequence[FittedModel]:
        heads = [plan.head for plan in plans]
        return fit_crfs(jobs, heads, corpus, metric=self.metric, engine=self.name, progress=progress)

    def _fit_parsers(
        self, jobs: Sequence[Job], corpus: Corpus, encoder: Encoder, progress: Progress | None
    ) -> list[ParserModel]:
        return fit_parsers(
            jobs,
            corpus,
            encoder,
            epochs=self.parser_epochs,
            optimisation=ParserOptimisation(learning_rate=self.learning_rate, weight_decay=self.weight_decay),
            metric=self.metric,
            cache=self.cache,
            engine=self.name,
            progress=progress,
        )

    def _plan(self, job: Job, corpus: Corpus) -> ProbePlan:
        refuse_corpus_double_correction(job.recipe, corpus)
        return plan_probe(
            job.recipe,
            job.seed,
            num_rows=corpus.num_targets("train"),
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
        )

    def _training_rows(self, corpus: Corpus, encoder: Encoder, progress: Progress | None) -> TrainingRows:
        if not corpus.num_rows("train"):
            raise DataError(f"The corpus {corpus.name!r} has no training row.")
        features = split_row_features(encoder, corpus, "train", cache=self.cache, progress=progress)
        rows = torch.from_numpy(np.array(features, dtype=np.float32))
        if corpus.task.label_structure == "multi":
            space = corpus.label_space
            return TrainingRows(rows, trained_labels(corpus.label_matrix("train"), space), space)
        offsets = corpus.offsets("train") if corpus.task.by_token else None
        return TrainingRows(rows, corpus.labels("train"), corpus.label_space, offsets)

    def _finish(
        self,
        job: Job,
        plan: ProbePlan,
        trained: TrainedHead,
        corpus: Corpus,
        encoder: Encoder,
        validation: NDArray[np.float32],
    ) -> ProbeModel:
        head, space = _for_prediction(trained), corpus.label_space
        scores = head_scores(head, validation)
        plain = None if isinstance(head, torch.nn.Module) else head
        steps, held_out = fit_corpus_steps(
            job.recipe,
            scores,
            corpus,
            prior=_prior(job.recipe, trained, corpus),
            metric=self.metric,
            weight=None if plain is None else plain.weight.numpy(),
            bias=None if plain is None else plain.bias.numpy(),
        )
        log = {
            "steps": sum(stage.steps for stage in plan.stages),
            **loss_facts(trained.losses),
        }
        if self.metric in metric_names(corpus.task.label_structure) and scores_are_finite(held_out):
            log[f"validation_{self.metric}"] = evaluate_scores(corpus, "validation", held_out).score(self.metric)
        model = ProbeModel(
            encoder=encoder,
            head=head,
            cache=self.cache,
            label_space=space,
            task=corpus.task,
            recipe=job.recipe.to_dict(),
            seed=job.seed,
            engine=self.name,
            steps=steps,
            info={**run_facts(corpus, encoder, self.settings, log), "notes": list(plan.notes)},
        )
        model.held_out = held_out if steps else None
        return model


def _kind(plan: ProbePlan) -> str:
    """What the head of a plan is given."""
    head = HEADS[plan.head.name]
    if head.reads_words:
        return "words"
    return "token states" if head.takes_token_states else "vectors"


def _named(progress: Progress, what: str) -> Any:
    return lambda done, total: progress(what, done, total)


def _for_prediction(trained: TrainedHead) -> AffineForm | Head:
    """The head whose scores are those that softmax of the loss was fitted on."""
    head, loss = trained.head, trained.loss
    factor = 1.0 if loss is None else loss.inference_scale
    if isinstance(head, CosineHead) and loss is not None and loss.requires_cosine:
        head.scale, factor = loss.inference_scale, 1.0
    form = head.affine()
    if loss is None or loss.scoreless_class is None:
        return head if form is None else scaled(form, factor)
    if form is None or isinstance(head, CosineHead):
        raise SettingError(
            f"{type(loss).__name__} leaves a class without a score of its own, which needs a linear head, but the head "
            f"is {type(head).__name__}."
        )
    form.weight[loss.scoreless_class] = 0.0
    form.bias[loss.scoreless_class] = 0.0
    return scaled(form, factor)


def _prior(recipe: Recipe, trained: TrainedHead, corpus: Corpus) -> NDArray[np.float64]:
    """What the scores express; a head in closed form ignores how frequent the classes are."""
    num_classes = corpus.label_space.num_classes
    if trained.head.closed_form:
        return np.full(num_classes, 1.0 / num_classes)
    return corpus_prior(recipe.stages[-1], corpus, trained.drawn)
