"""Every method of the catalog on every task it claims, and its refusal where it does not apply."""

import re

import numpy as np
import pytest
from scipy.special import log_softmax

from tailwise.benchmark.compare import compare
from tailwise.catalog import METHODS
from tailwise.catalog.applicability import recipe_refusal
from tailwise.data.task import TASKS
from tailwise.errors import SettingError, TailwiseError
from tailwise.evaluation.scoring import evaluate_scores, scores_are_finite
from tailwise.models.feature_cache import FeatureCache
from tailwise.models.saving import load_model, save_model
from tailwise.training.finetune import FinetuneEngine
from tailwise.training.probe import ProbeEngine

#: samplers that show more and more of what is hard, so that the loss of a batch may well rise; that of all rows falls
HARDER = {"performance", "progressive"}

#: the final layer starts at random, so that the loss has a way to go; for the other start see test_finetune_start.py
FINETUNED = {"batch_size": 16, "max_length": 32, "precision": "float32", "head_init": "fresh"}
SETTINGS = {
    "single": {"learning_rate": 2e-3, "epochs": 2},
    "harder": {"learning_rate": 2e-3, "epochs": 6},
    "multi": {"learning_rate": 2e-3, "epochs": 4},
    "tags": {"learning_rate": 2e-3, "epochs": 1.5},
    "arcs": {"learning_rate": 1e-4, "epochs": 20},
}


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    probe = ProbeEngine(cache=FeatureCache(tmp_path_factory.mktemp("features")), epochs=10, batch_size=16, C=1.0)
    tuned = {structure: FinetuneEngine(**{**FINETUNED, **own}) for structure, own in SETTINGS.items()}
    return {"probe": dict.fromkeys(SETTINGS, probe), "finetune": tuned}


def losses_of(model):
    """Where the loss of the first stage began and where it ended; None for a head in closed form."""
    if "training" in model.info:
        stages = model.info["training"]["stage_losses"]
        return stages[0] if stages else None
    logged = [entry for entry in model.info["log"] if "loss" in entry]
    losses = [entry["loss"] for entry in logged if entry["stage"] == logged[0]["stage"]]
    third = len(losses) // 3
    return np.mean(losses[:third]), np.mean(losses[-third:])


def balanced_log_loss(model, corpus):
    """Mean over the classes of the log loss on all training rows."""
    target = corpus.labels("train")
    losses = -log_softmax(model.split_logits(corpus, "train").astype(float), axis=1)[np.arange(len(target)), target]
    return np.mean([losses[target == label].mean() for label in np.unique(target)])


def check(model, corpus, folder):
    scores = model.split_scores(corpus, "test")
    assert scores_are_finite(scores)
    assert 0.0 <= evaluate_scores(corpus, "test", scores).score("macro_f1") <= 1.0
    inputs, pairs = corpus.inputs("test")[:8], corpus.text_pairs("test")
    pairs = None if pairs is None else pairs[:8]
    loaded = load_model(save_model(model, folder))
    assert loaded.predict(inputs, pairs) == model.predict(inputs, pairs)
    if corpus.task.label_structure != "arcs":
        np.testing.assert_allclose(loaded.logits(inputs, pairs), model.logits(inputs, pairs), atol=1e-4)


@pytest.mark.parametrize("task", list(TASKS))
@pytest.mark.parametrize(
    ("name", "engine"), [(name, engine) for name, method in METHODS.items() for engine in method.engines]
)
def test_a_method_runs_where_it_says_and_nowhere_else(corpora, encoder, engines, tmp_path, name, engine, task):
    corpus, method = corpora[task], METHODS[name]
    structure, space = corpus.task.label_structure, corpus.label_space
    if recipe_refusal(method.recipe(), structure, engine, space) is not None:
        with pytest.raises(TailwiseError):
            engines[engine][structure].fit(method.recipe(), corpus, encoder, seed=0)
        return
    harder = structure in {"single", "tags"} and HARDER & {stage.sampler.name for stage in method.recipe().stages}
    model = engines[engine]["harder" if harder else structure].fit(method.recipe(), corpus, encoder, seed=0)
    check(model, corpus, tmp_path / "model")
    ends = losses_of(model)
    assert (ends is None) == (name in {"ncm", "tfidf-svm"} and engine == "probe")
    if harder:
        assert balanced_log_loss(model, corpus) < np.log(len(space))  # which is that of a model that knows nothing
    elif ends is not None:
        assert ends[1] < ends[0]


@pytest.mark.parametrize("name", list(METHODS))
def test_tasks_are_those_that_are_not_refused(name):
    method = METHODS[name]
    for task, kind in TASKS.items():
        assert method.engines_for(kind) == tuple(e for e in method.engines if method.refusal(kind, e) is None)
        assert (task in method.tasks) == bool(method.engines_for(kind)) == (method.refusal(kind) is None)


@pytest.mark.parametrize(
    ("task", "method", "engine", "nearest"),
    [
        ("tagging", "cas", "finetune", "sentence-rarity"),
        ("tagging", "focal+ros", "finetune", "sentence-rarity"),
        ("tagging", "crt", "finetune", "drw"),
        ("tagging", "ncm", "finetune", "tau-norm"),
        ("tagging", "influence-balanced", "finetune", "wce"),
        ("parsing", "ncm", "probe", "crt"),
        ("parsing", "dynamic-sampling", "finetune", "cas"),
        ("text", "supcon", "probe", "ce"),
        ("text", "mom", "finetune", "wce"),
        ("text", "csr-f1", "probe", "csr-wce"),
        ("text", "group-dro", "finetune", "class-dro"),
        ("text", "db", "probe", "balanced-softmax"),
        ("multilabel", "adl", "finetune", "ml-dice"),
        ("multilabel", "cas+tversky", "probe", "ml-batch-dice"),
        ("multilabel", "caml+db", "finetune", "bce"),
        ("text", "sentence-rarity", "probe", "cas"),
        ("relation", "sentence-rfs", "finetune", "square-root-sampling"),
        ("parsing", "catch-all-sentences", "probe", "rus"),
        ("multilabel", "sentence-rfs", "finetune", "rfs"),
    ],
)
def test_a_comparison_refuses_before_any_training_and_the_nearest_method_runs(
    corpora, tmp_path, task, method, engine, nearest
):
    """No encoder is even looked for: its name does not exist."""
    corpus, seen = corpora[task], []
    with pytest.raises(SettingError, match=rf"'{re.escape(method)}' cannot take part: .* nearest one .*'{nearest}'"):
        compare(
            corpus, ["ce", method], encoder="/no/encoder", engine=engine, trials=1, out=tmp_path,
            progress=lambda *call: seen.append(call),
        )  # fmt: skip
    assert not seen
    assert METHODS[nearest].refusal(corpus.task, engine) is None
