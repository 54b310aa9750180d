"""Comparing methods on one corpus: same splits, same tuning budget, same seeds, test scores computed once at the end.

    candidates -> tuning on validation -> one cell per method and seed -> Comparison

Without `methods` the candidates are the trivial baselines and whatever `tailwise.recommend` names for the corpus. All
results go to disk as soon as they exist. A comparison that was stopped at any moment continues where it was; what
another process is working on is awaited, not computed a second time.
"""

from __future__ import annotations

from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any

from tailwise.benchmark.cell import CellKey, CellResult
from tailwise.benchmark.comparison import Comparison
from tailwise.benchmark.store import ResultStore
from tailwise.benchmark.tuning import TUNING_SEED, Candidate, Tuner, Workplace
from tailwise.catalog import resolve
from tailwise.catalog.applicability import recipe_refusal
from tailwise.catalog.baseline_entries import baselines
from tailwise.errors import SettingError
from tailwise.evaluation.scoring import evaluate_scores, reported_label_space
from tailwise.registry import Registry
from tailwise.training.engine import Job
from tailwise.training.preparation import prepare_features

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from tailwise.benchmark.cell import Cell
    from tailwise.benchmark.tuning import Tuning
    from tailwise.data.corpus import Corpus
    from tailwise.models.encoder import Encoder
    from tailwise.models.feature_cache import FeatureCache
    from tailwise.models.fitted import FittedModel
    from tailwise.stages.recipe import Recipe
    from tailwise.training.engine import Engine, Progress

    MethodLike = str | Path | Recipe | Mapping[str, Any]

__all__ = ["ENGINES", "Comparison", "compare", "make_engine"]

ENGINES: Registry[Callable[..., Engine]] = Registry(
    "engine",
    None,
    {
        "finetune": "tailwise.training.finetune:FinetuneEngine",
        "probe": "tailwise.training.probe:ProbeEngine",
    },
)


def compare(
    corpus: Corpus,
    methods: Sequence[MethodLike] | None = None,
    *,
    encoder: Encoder | str | None = None,
    engine: Engine | str = "probe",
    seeds: Sequence[int] = (0, 1, 2),
    trials: int = 8,
    metric: str = "macro_f1",
    out: Path | str,
    cache: FeatureCache | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Compare methods on equal terms.

    Args:
        corpus: the data.
        methods: names (``"focal"``), compositions (``"cas+focal"``), YAML files, mappings or recipes; None takes the
            trivial baselines and what `tailwise.recommend` names.
        encoder: an `Encoder`, the name or folder of one, or None for the default one.
        engine: ``"probe"``, ``"finetune"`` or an engine.
        seeds: one run per method and seed; three or more make the intervals worth something.
        trials: tuning trials per method, baselines included; 0 takes the published defaults.
        metric: what tuning maximises on validation and `Comparison.best` selects by; see
            `tailwise.evaluation.unit_metrics.metric_names`.
        out: folder of the results; a rerun with the same folder continues.
        cache: where features are kept, or None for the engine's own choice.
        progress: told how far the work is.

    Raises:
        UnknownNameError: an unknown method or engine, or a metric that the label structure does not have.
        SettingError: no method, seeds that are not distinct, or a recipe that the engine cannot run.
        StoreError: a stored result is damaged, or the folder cannot be written.
    """
    _check(seeds, trials)
    store = ResultStore(out)
    chosen = make_engine(engine, metric, cache, store.root / "checkpoints")
    candidates, skipped = _candidates(corpus, methods, chosen)
    always = baselines(corpus.task, chosen.name)
    optional = [c.name for c in candidates if methods is None and c.name not in always]
    work = Workplace(store, chosen, corpus, _encoder(encoder), progress)
    recipes = [candidate.recipe() for candidate in candidates]
    preparation = prepare_features(chosen, recipes, corpus, work.encoder, tuned=trials > 0, progress=progress)
    tunings = _tune(Tuner(work, metric=metric, trials=trials), candidates, optional, skipped)
    cells: dict[str, dict[int, Cell]] = {}
    candidates = [c for c in candidates if c.name in tunings]
    for done, candidate in enumerate(candidates):
        work.tell("final runs", done * len(seeds), len(candidates) * len(seeds))
        with _refusals(candidate, optional, skipped):
            cells[candidate.name] = _cells(work, candidate, tunings[candidate.name], seeds)
    work.tell("final runs", len(candidates) * len(seeds), len(candidates) * len(seeds))
    candidates = [c for c in candidates if c.name in cells]
    return Comparison(
        corpus=corpus.name,
        label_space=reported_label_space(corpus),
        structure=corpus.task.label_structure,
        metric=metric,
        cells=cells,
        tunings={c.name: tunings[c.name] for c in candidates},
        tiers={c.name: c.tier for c in candidates},
        recipes={c.name: c.recipe(tunings[c.name].best) for c in candidates},
        skipped=skipped,
        folder=work.store.root,
        preparation=preparation,
    )


def _check(seeds: Sequence[int], trials: int) -> None:
    if not seeds or len(set(seeds)) != len(seeds) or any(seed < 0 for seed in seeds):
        raise SettingError(f"Expected `seeds` to be distinct integers from 0, at least one, but got {list(seeds)}.")
    if TUNING_SEED in seeds:
        raise SettingError(
            f"The seed {TUNING_SEED} is the one that tuning uses. Choose another seed for the final runs."
        )
    if trials < 0:
        raise SettingError(f"Expected `trials` to be 0 (published defaults) or more, but got {trials}.")


def make_engine(
    engine: Engine | str,
    metric: str = "macro_f1",
    cache: FeatureCache | None = None,
    checkpoints: Path | None = None,
    epochs: float | None = None,
    features: str | None = None,
) -> Engine:
    """The engine of a name, set up for a comparison; an engine stays as it is.

    Args:
        engine: ``"probe"``, ``"finetune"``, the name of a plug-in, or an engine.
        metric: what tuned post-hoc steps maximise on validation, for engines that let one choose.
        cache: where features are kept, for engines that work on features.
        checkpoints: folder of checkpoints, for engines whose runs are long.
        epochs: passes over the training rows, or None for the engine's default.
        features: what heads are trained on, for the engine ``"probe"``; None lets tuning choose.

    Raises:
        UnknownNameError: there is no such engine, or no such features.
        SettingError: features for an engine that takes none.
    """
    if not isinstance(engine, str):
        return engine
    known = ENGINES.parameters(engine)
    if features is not None and "features" not in known:
        raise SettingError(f"The engine {engine!r} takes no `features`; leave them out, or choose the engine 'probe'.")
    offered = {"metric": metric, "cache": cache, "checkpoints": checkpoints, "epochs": epochs, "features": features}
    return ENGINES[engine](**{name: value for name, value in offered.items() if name in known and value is not None})


def _encoder(encoder: Encoder | str | None) -> Encoder:
    if encoder is not None and not isinstance(encoder, str):
        return encoder
    from tailwise.models.encoder import Encoder

    return Encoder.from_pretrained(encoder)


def _candidates(
    corpus: Corpus, methods: Sequence[MethodLike] | None, engine: Engine
) -> tuple[list[Candidate], dict[str, str]]:
    """Who takes part, by name, and who does not and why."""
    skipped: dict[str, str] = {}
    if methods is None:
        names, skipped = _recommended(corpus, engine)
        always = baselines(corpus.task, engine.name)
        methods = [name for name in dict.fromkeys([*always, *names]) if _fits(name, corpus, engine, skipped)]
    candidates: dict[str, Candidate] = {}
    for method in [methods] if isinstance(methods, str) else methods:
        candidate = _candidate(method)
        known = candidates.setdefault(candidate.name, candidate)
        if known.recipe() != candidate.recipe():
            raise SettingError(f"Two different recipes are called {candidate.name!r}. Give each a name of its own.")
    for candidate in candidates.values():  # before anything is trained
        reason = _refusal(candidate.recipe(), corpus, engine)
        if reason is not None:
            raise SettingError(f"{candidate.name!r} cannot take part: {reason}")
    if not candidates:
        raise SettingError("Expected at least one method to compare, but got none. See `tailwise methods`.")
    return list(candidates.values()), skipped


def _refusal(recipe: Recipe, corpus: Corpus, engine: Engine) -> str | None:
    """Why a recipe cannot run here."""
    return recipe_refusal(recipe, corpus.task.label_structure, engine.name, corpus.label_space)


def _fits(name: str, corpus: Corpus, engine: Engine, skipped: dict[str, str]) -> bool:
    """Whether a method can run here; if not, the reason goes to `skipped`."""
    reason = _refusal(resolve(name), corpus, engine)
    if reason is not None:
        skipped[name] = reason
    return reason is None


def _candidate(method: MethodLike) -> Candidate:
    recipe = resolve(method)
    if isinstance(method, str) and recipe.name == method:
        return Candidate(method, method)
    return Candidate(recipe.name, recipe)


def _recommended(corpus: Corpus, engine: Engine) -> tuple[list[str], dict[str, str]]:
    from tailwise.advisor.recommend import recommend
    from tailwise.imbalance.diagnosis import diagnose

    advice = recommend(diagnose(corpus), engine=engine.name)
    names = [item.method for item in advice if item.available]
    return names, {
        item.method: f"recommended ({item.rule}), but {item.absence}" for item in advice if not item.available
    }


def _tune(
    tuner: Tuner, candidates: Sequence[Candidate], optional: Sequence[str], skipped: dict[str, str]
) -> dict[str, Tuning]:
    """Tune all together; where a recipe is refused, one by one, to find out which."""
    try:
        return tuner.tune(candidates)
    except SettingError:
        if not optional:
            raise
    tunings: dict[str, Tuning] = {}
    for candidate in candidates:
        with _refusals(candidate, optional, skipped):
            tunings.update(tuner.tune([candidate]))
    return tunings


@contextmanager
def _refusals(candidate: Candidate, optional: Sequence[str], skipped: dict[str, str]) -> Iterator[None]:
    """A recipe that the engine refuses is left out with the reason, if it was only recommended."""
    try:
        yield
    except SettingError as error:
        if candidate.name not in optional:
            raise
        skipped[candidate.name] = str(error)


def _cells(work: Workplace, candidate: Candidate, tuning: Tuning, seeds: Sequence[int]) -> dict[int, Cell]:
    """The finished cells of one method by seed; those not on disk yet are computed."""
    recipe = candidate.recipe(tuning.best)
    identity = work.identity()
    keys = {seed: CellKey(**identity, method=candidate.name, recipe=recipe.to_dict(), seed=seed) for seed in seeds}
    by_digest = {key.digest: key for key in keys.values()}

    def fit(todo: list[str]) -> None:
        started = perf_counter()
        models = work.fit([Job(recipe, by_digest[name].seed) for name in todo])
        share = (perf_counter() - started) / len(todo)
        for name, model in zip(todo, models, strict=True):
            work.store.write(by_digest[name], _result(work, model, tuning, share))

    work.store.complete(
        list(by_digest), done=lambda name: work.store.has(by_digest[name]), work=fit, at_most=work.at_most
    )
    return {seed: work.store.read(key) for seed, key in keys.items()}


def _result(work: Workplace, model: FittedModel, tuning: Tuning, seconds: float) -> CellResult:
    started = perf_counter()
    test = evaluate_scores(work.corpus, "test", model.split_scores(work.corpus, "test"))
    validation = evaluate_scores(work.corpus, "validation", model.validation_scores(work.corpus))
    return CellResult(
        test=test,
        validation=validation,
        seconds=seconds + perf_counter() - started,
        steps=model.steps,
        params=tuning.best,
        encoder={"name": work.encoder.name, "revision": work.encoder.revision},
        notes=[str(note) for note in model.info.get("notes", ())],
    )
