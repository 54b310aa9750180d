"""Parsers on frozen word features: the encoder stays as it is, layers and scorer on top of it are trained."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tailwise.errors import DataError, SettingError
from tailwise.models.feature_cache import FeatureCache
from tailwise.models.parsing.model import ParserModel
from tailwise.models.parsing.network import ParserNetwork, ParserSizes
from tailwise.models.parsing.scoring import SentenceLayout, padded, score_sentences
from tailwise.models.word_features import split_word_features
from tailwise.posthoc.base import compose
from tailwise.training.components import FOLDS, effective_prior, fit_posthoc, row_metric
from tailwise.training.isolation import kept_random_state
from tailwise.training.parsing_loop import ParserOptimisation, train_parser
from tailwise.training.parsing_plan import Treebank, parser_stages
from tailwise.training.run_facts import run_facts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from tailwise.data.corpus import Corpus
    from tailwise.models.encoder import Encoder
    from tailwise.models.parsing.decoding import Algorithm
    from tailwise.posthoc.base import AffineStep
    from tailwise.stages.recipe import Recipe
    from tailwise.training.engine import Job, Progress
    from tailwise.training.parsing_plan import ParserStage

__all__ = ["FrozenWords", "finish_parser", "fit_parsers", "with_recipe"]


class FrozenWords:
    """Word states that do not change.

    Args:
        features: ``(M, D)``.
    """

    def __init__(self, features: NDArray[np.float16]) -> None:
        self.features = features

    def states(self, layout: SentenceLayout, sentences: Any) -> Tensor:
        """States of the words of a batch, ``(B, T, D)``."""
        del sentences
        return padded(self.features, layout)

    def encoder(self) -> nn.Module | None:
        """Nothing is trained below."""
        return None


def fit_parsers(
    jobs: Sequence[Job],
    corpus: Corpus,
    encoder: Encoder,
    *,
    epochs: float = 8.0,
    token_budget: int = 1024,
    optimisation: ParserOptimisation | None = None,
    sizes: ParserSizes | None = None,
    algorithm: Algorithm = "mst",
    metric: str = "macro_f1",
    cache: FeatureCache | None = None,
    engine: str = "probe",
    progress: Progress | None = None,
) -> list[ParserModel]:
    """Train parsers on cached word features, one after the other.

    Args:
        jobs: recipes and seeds; `Recipe.optimisation` goes before the settings given here, its `batch_size` being words
            per step.
        corpus: the treebank.
        encoder: gives the features.
        epochs: passes over the training sentences.
        token_budget: words per step, padding included.
        optimisation: settings of the optimiser.
        sizes: of the network.
        algorithm: how trees are found, ``"mst"`` or ``"eisner"``.
        metric: what tuned post-hoc steps maximise over relations on validation; macro-F1 for a metric over arcs.
        cache: where features are kept; None takes the user's cache folder.
        engine: name under which results are filed.
        progress: told how far the work is.

    Raises:
        SettingError: a recipe that cannot be carried out, or data that are not trees.
        DataError: no training sentence.
    """
    if corpus.task.label_structure != "arcs":
        raise SettingError(f"A parser needs a treebank, but {corpus.name!r} is for {corpus.task.name!r}.")
    treebank = Treebank.of(corpus, "train")
    if not treebank.relations.size:
        raise DataError(f"The corpus {corpus.name!r} has no training row.")
    cache = FeatureCache() if cache is None else cache
    sizes = ParserSizes() if sizes is None else sizes
    features, _ = split_word_features(encoder, corpus, "train", cache=cache, progress=progress)
    split_word_features(encoder, corpus, "validation", cache=cache, progress=progress)
    models = []
    for number, job in enumerate(jobs):
        chosen, passes, budget = with_recipe(job.recipe, optimisation or ParserOptimisation(), epochs, token_budget)
        stages = parser_stages(
            job.recipe,
            treebank,
            num_relations=corpus.label_space.num_classes,
            epochs=passes,
            token_budget=budget,
            seed=job.seed,
        )
        with kept_random_state():
            network = ParserNetwork(features.shape[1], corpus.label_space.num_classes, sizes)
        log = train_parser(
            network,
            FrozenWords(features),
            treebank,
            stages,
            job.recipe,
            corpus.label_space,
            optimisation=chosen,
            seed=job.seed,
            progress=_numbered(progress, number, len(jobs)),
        )
        settings = {"epochs": passes, "token_budget": budget, "optimisation": asdict(chosen), "sizes": asdict(sizes)}
        model = ParserModel(
            encoder=encoder,
            network=network,
            algorithm=algorithm,
            cache=cache,
            label_space=corpus.label_space,
            task=corpus.task,
            recipe=job.recipe.to_dict(),
            seed=job.seed,
            engine=engine,
            info=run_facts(corpus, encoder, settings, log),
        )
        finish_parser(model, job.recipe, corpus, stages, metric)
        models.append(model)
    return models


def with_recipe(
    recipe: Recipe,
    optimisation: ParserOptimisation,
    epochs: float,
    token_budget: int,
    *,
    rate: str = "learning_rate",
) -> tuple[ParserOptimisation, float, int]:
    """The settings with those that a recipe asks for: of the optimiser, passes and words per step.

    The recipe's learning rate is that of the field `rate`.

    Raises:
        SettingError: no pass or no word per step.
    """
    asked = recipe.optimisation
    changes = {rate: asked.learning_rate, "weight_decay": asked.weight_decay}
    epochs = epochs if asked.epochs is None else asked.epochs
    token_budget = token_budget if asked.batch_size is None else asked.batch_size
    if not epochs > 0 or token_budget < 1:
        raise SettingError(f"Expected `epochs` above 0 and words per step from 1, but got {epochs} and {token_budget}.")
    known: dict[str, Any] = {key: value for key, value in changes.items() if value is not None}
    return replace(optimisation, **known), epochs, token_budget


def finish_parser(
    model: ParserModel, recipe: Recipe, corpus: Corpus, stages: Sequence[ParserStage], metric: str
) -> None:
    """Fit the post-hoc steps on the relations of validation under gold heads, and note how good the parser is.

    The scores kept for choosing are those of the decoded heads, the steps of each sentence fitted on other sentences.
    """
    gold = Treebank.of(corpus, "validation")
    features, offsets = model.features(corpus, "validation")
    decoded = score_sentences(model.network, features, offsets, algorithm=model.algorithm)
    if recipe.posthoc:
        under_gold = score_sentences(model.network, features, offsets, heads=gold.heads)
        facts = _posthoc_facts(model, stages, metric)
        model.steps = fit_posthoc(recipe, under_gold.logits, gold.relations, **facts)
        decoded = decoded._replace(logits=_held_out(recipe, under_gold.logits, decoded.logits, gold, facts))
        model.held_out_scores = decoded
    model.info["training"] |= {
        "validation_uas": _share_right(decoded.heads == gold.heads),
        "validation_las": _share_right(
            (decoded.heads == gold.heads) & (decoded.logits.argmax(axis=1) == gold.relations)
        ),
    }


def _posthoc_facts(model: ParserModel, stages: Sequence[ParserStage], metric: str) -> dict[str, Any]:
    """What `fit_posthoc` needs beside scores; a bilinear form is affine in the outer product of its two sides."""
    space, scorer = model.label_space, model.network.scorer
    last = stages[-1]
    drawn = last.drawn / max(int(last.drawn.sum()), 1)
    prior = effective_prior(last.stage, space.counts, space.num_classes, space.names, space.catch_all, drawn)
    linear = scorer.form == "linear"
    return {
        "prior": prior,
        "metric": row_metric(metric, space.num_classes),
        "weight": scorer.relation_weight.detach().flatten(1).numpy() if linear else None,
        "bias": np.zeros(space.num_classes) if linear else None,
    }


def _held_out(
    recipe: Recipe,
    under_gold: NDArray[np.float32],
    decoded: NDArray[np.float32],
    gold: Treebank,
    facts: Mapping[str, Any],
) -> NDArray[np.float32]:
    """Scores of the decoded heads ``(M, R)``, adjusted by steps that were fitted on the other sentences."""
    order = np.random.Generator(np.random.PCG64(FOLDS)).permutation(len(gold.lengths))
    part = np.repeat(order % FOLDS, gold.lengths)
    known = gold.relations < decoded.shape[1]
    adjusted = decoded.copy()
    for fold in range(FOLDS):
        others, own = part != fold, part == fold
        if known[others].any():
            steps: tuple[AffineStep, ...] = fit_posthoc(recipe, under_gold[others], gold.relations[others], **facts)
            adjusted[own] = compose(steps, decoded.shape[1])(decoded[own])
    return adjusted


def _share_right(right: NDArray[np.bool_]) -> float:
    return float(right.mean()) if right.size else 0.0


def _numbered(progress: Progress | None, number: int, jobs: int) -> Progress | None:
    """Progress of one job as part of that of all."""
    if progress is None:
        return None
    return lambda what, done, total: progress(what, number * total + done, jobs * total)
