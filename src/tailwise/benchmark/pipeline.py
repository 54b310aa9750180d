"""The whole way: diagnose, recommend, compare, train the best once more to keep it, calibrate, save, report."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from tailwise.advisor.recommend import recommend
from tailwise.benchmark.compare import compare, make_engine
from tailwise.benchmark.reporting import summarise, write_report, write_tables
from tailwise.catalog import METHODS, resolve
from tailwise.catalog.baseline_entries import baselines
from tailwise.data.corpus import SPLITS
from tailwise.evaluation.metrics import metric_function
from tailwise.evaluation.scoring import evaluate_scores
from tailwise.imbalance.diagnosis import diagnose, has_overlap
from tailwise.models.feature_cache import FeatureCache
from tailwise.models.label_attention_model import LabelAttentionModel
from tailwise.models.probe import ProbeModel
from tailwise.models.row_features import split_row_features
from tailwise.models.saving import save_model
from tailwise.models.saving_folder import write_json
from tailwise.models.shared_weights import shares_weights
from tailwise.posthoc.base import FitContext
from tailwise.posthoc.label_steps import LabelTemperature
from tailwise.posthoc.temperature import TemperatureScaling
from tailwise.report.model_card import model_card
from tailwise.training.multilabel_components import label_metric
from tailwise.training.preparation import prepare_features
from tailwise.training.probe import ProbeEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from tailwise.advisor.recommend import Recommendation
    from tailwise.benchmark.comparison import Comparison
    from tailwise.data.corpus import Corpus, SplitName
    from tailwise.imbalance.diagnosis import Diagnosis
    from tailwise.models.encoder import Encoder
    from tailwise.models.fitted import FittedModel
    from tailwise.posthoc.base import AffineStep
    from tailwise.training.engine import Engine, Progress
    from tailwise.training.preparation import Preparation

__all__ = ["Outcome", "run_pipeline"]


#: seconds by part of a run: features, diagnosis, comparison, model, report
TIMING = "timing.json"


@dataclass(frozen=True)
class Outcome:
    """What a run found, where it put it, and how many seconds each part took."""

    diagnosis: Diagnosis
    advice: Sequence[Recommendation]
    comparison: Comparison
    best: str
    model: FittedModel
    summary: Sequence[str]
    files: Mapping[str, Path]
    timing: Mapping[str, float]


def run_pipeline(
    corpus: Corpus,
    *,
    encoder: Encoder,
    engine: str = "probe",
    methods: Sequence[str] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    trials: int = 8,
    metric: str = "macro_f1",
    epochs: float | None = None,
    features: str | None = None,
    out: Path,
    command: Sequence[str] = (),
    self_contained: bool = False,
    notify: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Go the whole way and write everything below `out`; a rerun continues from what is there.

    Args:
        corpus: the data.
        encoder: turns texts into features; the model that is fine-tuned by the engine ``"finetune"``.
        engine: ``"probe"`` or ``"finetune"``.
        methods: names, compositions or recipe files; None takes the baselines and what is recommended and built.
        seeds: of the final runs.
        trials: tuning trials per method.
        metric: what tuning and selection maximise on validation.
        epochs: passes over the training rows, or None for the engine's default.
        features: what heads are trained on, for the engine ``"probe"``; None lets tuning choose.
        out: folder of the results.
        command: the command line that repeats the run, for the report.
        self_contained: whether the saved model has the weights of its encoder in a file of its own, see `save_model`.
        notify: told what happens, in words.
        progress: told how far the work is.
    """
    tell = notify or (lambda _: None)
    cache = FeatureCache()
    clock = _Clock()
    runner = make_engine(engine, metric, cache, out / "checkpoints", epochs, features)
    recipes = [resolve(method) for method in methods or baselines(corpus.task, engine)]
    preparation = prepare_features(runner, recipes, corpus, encoder, tuned=trials > 0, progress=progress)
    known: dict[SplitName, NDArray[Any]] | None = None
    if has_overlap(corpus.task):
        known = {"train": split_row_features(encoder, corpus, "train", cache=cache, progress=progress)}
    clock.lap("features")
    diagnosis = diagnose(corpus, features=known)
    advice = recommend(diagnosis, engine=engine)
    if methods is None:
        named = dict.fromkeys([*baselines(corpus.task, engine), *(a.method for a in advice if a.available)])
        methods = [name for name in named if METHODS[name].refusal(corpus.task, engine) is None]
        later = [f"{a.method} ({a.absence})" for a in advice if not a.available]
        tell(f"comparing {', '.join(methods)}" + (f"; also recommended: {', '.join(later)}" if later else ""))
    clock.lap("diagnosis")
    comparison = compare(
        corpus, methods, encoder=encoder, engine=runner, seeds=seeds, trials=trials, metric=metric, out=out,
        cache=cache, progress=progress,
    )  # fmt: skip
    preparation += comparison.preparation
    clock.lap("comparison")
    best = comparison.best()
    tell(f"training {best} once more to keep the model")
    model = _keep(runner, comparison, corpus, encoder, progress)
    clock.lap("model")
    test = evaluate_scores(corpus, "test", model.split_scores(corpus, "test"))
    card = model_card(model, evaluation=test, diagnosis=diagnosis)
    folder = save_model(model, out / "model", card=card, self_contained=self_contained)
    if shares_weights(folder):
        tell("the weights in the model folder are a link to one copy for all runs; --self-contained writes a file")
    files = _write(out, folder, corpus, diagnosis, advice, comparison, model, encoder, command, preparation)
    clock.lap("report")
    write_json(out / TIMING, {"seconds": clock.laps, "encoded": preparation.encoded})
    return Outcome(diagnosis, advice, comparison, best, model, summarise(comparison), files, clock.laps)


class _Clock:
    """Wall time of the parts of a run, in seconds."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = perf_counter()

    def lap(self, name: str) -> None:
        """The time since the last call belongs to `name`."""
        now = perf_counter()
        self.laps[name], self._last = round(now - self._last, 3), now


def _keep(
    engine: Engine, comparison: Comparison, corpus: Corpus, encoder: Encoder, progress: Progress | None
) -> FittedModel:
    """The best recipe, its heads of all seeds averaged into one, and calibrated on validation.

    Where heads cannot be averaged it is the seed that did best on validation.
    """
    best = comparison.best()
    recipe, stored = comparison.recipes[best], comparison.validations
    seeds = sorted(comparison.seeds, key=lambda s: -stored[best, s].score(comparison.metric))
    model = engine.fit_mean(recipe, corpus, encoder, seeds, progress) if isinstance(engine, ProbeEngine) else None
    if model is None:
        model = engine.fit(recipe, corpus, encoder, seeds[0], progress)
    if isinstance(model, ProbeModel | LabelAttentionModel) and model.encoder is not None:
        model.encoder = encoder.in_dtype("float32")  # as the saved model computes
    step = _temperature(model, corpus)
    if step is not None:
        model.steps = (*model.steps, step)
    return model


def _temperature(model: FittedModel, corpus: Corpus) -> AffineStep | None:
    """The temperature that calibrates a model on validation; None for a parser, whose trees are no probabilities."""
    structure, space = corpus.task.label_structure, corpus.label_space
    if structure == "arcs":
        return None
    logits = model.split_logits(corpus, "validation")
    if structure == "multi":
        labels = np.asarray(corpus.label_matrix("validation")[:, : space.num_classes].todense(), dtype=np.int64)
        return LabelTemperature().fit(logits, labels, FitContext(space.prior, label_metric("macro_f1")))
    gold = corpus.labels("validation")
    known = gold < space.num_classes
    context = FitContext(space.prior, metric_function("macro_f1", space.num_classes))
    return TemperatureScaling().fit(logits[known], gold[known], context)


def _write(
    out: Path,
    folder: Path,
    corpus: Corpus,
    diagnosis: Diagnosis,
    advice: Sequence[Recommendation],
    comparison: Comparison,
    model: FittedModel,
    encoder: Encoder,
    command: Sequence[str],
    preparation: Preparation,
) -> dict[str, Path]:
    facts = {
        "corpus": f"{corpus.name}, fingerprint {corpus.fingerprint[:16]}",
        "encoder": f"{encoder.name}, {_pooling(model, encoder)}, up to {encoder.max_length} tokens",
        "engine": model.engine,
        "features": str(preparation),
        "splits": _splits_in_words(corpus),
        "licence of the data": str(corpus.source.get("licence") or "not stated"),
    }
    repeat = [shlex.join(command)] if command else []
    repeat.append(f"tailwise predict {shlex.quote(str(folder))} {_INPUTS[corpus.task.input_form]}")
    report = write_report(
        out, corpus=corpus, diagnosis=diagnosis, advice=advice, comparison=comparison, facts=facts, repeat=repeat
    )
    return {**report, "model": folder, "model card": folder / "README.md", **write_tables(comparison, out)}


def _pooling(model: FittedModel, encoder: Encoder) -> str:
    return "pooled by the class of the model" if model.engine == "finetune" else f"{encoder.pooling} pooling"


#: what `tailwise predict` takes, by input form
_INPUTS = {
    "text": "TEXTS.csv --text COLUMN",
    "pair": "PAIRS.csv --text COLUMN --text-pair COLUMN",
    "relation": "SENTENCES.jsonl",
    "tokens": "SENTENCES.jsonl",
}


def _splits_in_words(corpus: Corpus) -> str:
    splits = corpus.source.get("splits", {})
    seed = f", seed {splits['seed']}" if "seed" in splits else ""
    sizes = ", ".join(f"{name} {corpus.num_rows(name):,}" for name in SPLITS)
    return f"{sizes}; {splits.get('origin', 'as given')}{seed}"
