"""The whole way: diagnose, recommend, compare, train the best once more to keep it, calibrate, save, report."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tailwise.advisor.recommend import recommend
from tailwise.benchmark.compare import BASELINES, compare, make_engine
from tailwise.benchmark.reporting import summarise, write_report, write_tables
from tailwise.data.corpus import SPLITS
from tailwise.evaluation.evaluation import Evaluation
from tailwise.evaluation.metrics import metric_function
from tailwise.imbalance.diagnosis import diagnose
from tailwise.models.feature_cache import FeatureCache, split_features
from tailwise.models.probe import ProbeModel
from tailwise.models.saving import save_model
from tailwise.posthoc.base import FitContext
from tailwise.posthoc.temperature import TemperatureScaling
from tailwise.report.model_card import model_card

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
    from tailwise.training.engine import Engine, Progress

__all__ = ["Outcome", "run_pipeline"]


@dataclass(frozen=True)
class Outcome:
    """What a run found and where it put it."""

    diagnosis: Diagnosis
    advice: Sequence[Recommendation]
    comparison: Comparison
    best: str
    model: FittedModel
    summary: Sequence[str]
    files: Mapping[str, Path]


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
    out: Path,
    command: Sequence[str] = (),
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
        out: folder of the results.
        command: the command line that repeats the run, for the report.
        notify: told what happens, in words.
        progress: told how far the work is.
    """
    tell = notify or (lambda _: None)
    cache = FeatureCache()
    features: dict[SplitName, NDArray[Any]] = {
        "train": split_features(encoder, corpus, "train", cache=cache, progress=progress)
    }
    diagnosis = diagnose(corpus, features=features)
    advice = recommend(diagnosis, engine=engine)
    if methods is None:
        methods = list(dict.fromkeys([*BASELINES, *(a.method for a in advice if a.available)]))
        later = [a.method for a in advice if not a.available]
        tell(f"comparing {', '.join(methods)}" + (f"; recommended, not built yet: {', '.join(later)}" if later else ""))
    runner = make_engine(engine, metric, cache, out / "checkpoints", epochs)
    comparison = compare(
        corpus, methods, encoder=encoder, engine=runner, seeds=seeds, trials=trials, metric=metric, out=out,
        cache=cache, progress=progress,
    )  # fmt: skip
    best = comparison.best()
    tell(f"training {best} once more to keep the model")
    model = _keep(runner, comparison, corpus, encoder, progress)
    files = _write(out, corpus, diagnosis, advice, comparison, model, encoder, command)
    return Outcome(diagnosis, advice, comparison, best, model, summarise(comparison), files)


def _keep(
    engine: Engine, comparison: Comparison, corpus: Corpus, encoder: Encoder, progress: Progress | None
) -> FittedModel:
    """The best recipe trained with the seed that did best on validation, and calibrated there."""
    best = comparison.best()
    score = metric_function(comparison.metric, comparison.label_space.num_classes)
    stored = comparison.validations
    seed = max(comparison.seeds, key=lambda s: stored[best, s].score(comparison.metric))
    model = engine.fit(comparison.recipes[best], corpus, encoder, seed, progress)
    if isinstance(model, ProbeModel):
        model.encoder = encoder.in_dtype("float32")  # as the saved model computes
    gold = corpus.labels("validation")
    known = gold < comparison.label_space.num_classes
    context = FitContext(prior=comparison.label_space.prior, metric=score)
    logits = model.split_logits(corpus, "validation")[known]
    model.steps = (*model.steps, TemperatureScaling().fit(logits, gold[known], context))
    return model


def _write(
    out: Path,
    corpus: Corpus,
    diagnosis: Diagnosis,
    advice: Sequence[Recommendation],
    comparison: Comparison,
    model: FittedModel,
    encoder: Encoder,
    command: Sequence[str],
) -> dict[str, Path]:
    test = Evaluation(
        tuple(corpus.ids("test")), corpus.labels("test"), model.split_logits(corpus, "test"), corpus.label_space
    )
    folder = save_model(model, out / "model", card=model_card(model, evaluation=test, diagnosis=diagnosis))
    facts = {
        "corpus": f"{corpus.name}, fingerprint {corpus.fingerprint[:16]}",
        "encoder": f"{encoder.name}, {encoder.pooling} pooling, up to {encoder.max_length} tokens",
        "engine": model.engine,
        "splits": _splits_in_words(corpus),
        "licence of the data": str(corpus.source.get("licence") or "not stated"),
    }
    repeat = [shlex.join(command)] if command else []
    repeat.append(f"tailwise predict {shlex.quote(str(folder))} TEXTS.csv --text COLUMN")
    report = write_report(
        out, corpus=corpus, diagnosis=diagnosis, advice=advice, comparison=comparison, facts=facts, repeat=repeat
    )
    return {**report, "model": folder, "model card": folder / "README.md", **write_tables(comparison, out)}


def _splits_in_words(corpus: Corpus) -> str:
    splits = corpus.source.get("splits", {})
    seed = f", seed {splits['seed']}" if "seed" in splits else ""
    sizes = ", ".join(f"{name} {corpus.num_rows(name):,}" for name in SPLITS)
    return f"{sizes}; {splits.get('origin', 'as given')}{seed}"
