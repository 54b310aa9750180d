"""Every method of the catalog on every task it claims, and its refusal where it does not apply."""

import re

import numpy as np
import pytest

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

#: single texts have a test of their own, with every row watched (tests/catalog/test_common_checks.py)
ELSEWHERE = [name for name in TASKS if name not in {"text", "multilabel-pair"}]


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    cache = FeatureCache(tmp_path_factory.mktemp("features"))
    return {
        "probe": ProbeEngine(cache=cache, epochs=2, batch_size=16),
        "finetune": FinetuneEngine(epochs=0.15, batch_size=16, max_length=32, precision="float32"),
    }


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


@pytest.mark.parametrize("task", ELSEWHERE)
@pytest.mark.parametrize(
    ("name", "engine"), [(name, engine) for name, method in METHODS.items() for engine in method.engines]
)
def test_a_method_runs_where_it_says_and_nowhere_else(corpora, encoder, engines, tmp_path, name, engine, task):
    corpus, method = corpora[task], METHODS[name]
    structure, space = corpus.task.label_structure, corpus.label_space
    if recipe_refusal(method.recipe(), structure, engine, space) is not None:
        with pytest.raises(TailwiseError):
            engines[engine].fit(method.recipe(), corpus, encoder, seed=0)
        return
    check(engines[engine].fit(method.recipe(), corpus, encoder, seed=0), corpus, tmp_path / "model")


@pytest.mark.parametrize("name", list(METHODS))
def test_tasks_are_those_that_are_not_refused(name):
    method = METHODS[name]
    for task, kind in TASKS.items():
        assert method.engines_for(kind) == tuple(e for e in method.engines if method.refusal(kind, e) is None)
        assert (task in method.tasks) == bool(method.engines_for(kind)) == (method.refusal(kind) is None)


@pytest.mark.parametrize(
    ("task", "method", "engine", "nearest"),
    [
        ("tagging", "cas", "finetune", "wce"),
        ("tagging", "focal+ros", "finetune", "wce"),
        ("tagging", "crt", "finetune", "drw"),
        ("tagging", "ncm", "finetune", "tau-norm"),
        ("tagging", "influence-balanced", "finetune", "wce"),
        ("parsing", "ncm", "probe", "crt"),
        ("parsing", "dynamic-sampling", "finetune", "cas"),
        ("text", "supcon", "probe", "ce"),
        ("text", "mom", "finetune", "wce"),
        ("text", "group-dro", "finetune", "class-dro"),
        ("text", "db", "probe", "balanced-softmax"),
        ("multilabel", "dice", "finetune", "ml-focal"),
        ("multilabel", "cas+dice", "probe", "ml-focal"),
        ("multilabel", "caml+db", "finetune", "bce"),
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
