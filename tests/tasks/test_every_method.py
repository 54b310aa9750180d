"""Every method of the catalog on every task it claims, and its refusal where it does not apply."""

import numpy as np
import pytest

from tailwise.catalog import METHODS
from tailwise.data.task import TASKS
from tailwise.errors import SettingError
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
        "finetune": FinetuneEngine(epochs=0.3, batch_size=16, max_length=32, precision="float32"),
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
@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if "probe" in method.engines])
def test_a_method_runs_on_the_tasks_it_claims(corpora, encoder, engines, tmp_path, name, task):
    corpus, method = corpora[task], METHODS[name]
    if method.refusal(corpus.task) is not None:
        with pytest.raises(SettingError, match=r"nearest one|decides for one class|closed form"):
            engines["probe"].fit(method.recipe(), corpus, encoder, seed=0)
        return
    needs_catch_all = name in {"catch-all-wce", "mom"} and corpus.label_space.catch_all is None
    if needs_catch_all or (corpus.task.label_structure == "arcs" and method.family == "sampling" and _scored(method)):
        with pytest.raises(SettingError, match=r"needs `catch_all`|scores|performance"):
            engines["probe"].fit(method.recipe(), corpus, encoder, seed=0)
        return
    check(engines["probe"].fit(method.recipe(), corpus, encoder, seed=0), corpus, tmp_path / "model")


def _scored(method):
    return any(stage.sampler.name == "performance" for stage in method.recipe().stages)


@pytest.mark.parametrize(
    ("task", "name"),
    [
        *((task, name) for task in ("pair", "relation") for name in ("ce", "ldam-drw", "crt", "cas", "thresholds")),
        *(("tagging", name) for name in ("ce", "focal", "dice", "drw", "thresholds", "tau-norm")),
        *(("multilabel", name) for name in ("ce", "db", "asl", "zlpr", "ml-ros", "cas", "thresholds", "tau-norm")),
        *(("parsing", name) for name in ("wce", "cas")),
    ],
)
def test_fine_tuning_runs_too(corpora, encoder, engines, tmp_path, task, name):
    corpus = corpora[task]
    check(engines["finetune"].fit(METHODS[name].recipe(), corpus, encoder, seed=0), corpus, tmp_path / "model")
