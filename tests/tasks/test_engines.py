"""Both engines on every task: the loss falls, scores are finite, and a model on disk is the model in memory."""

import numpy as np
import pytest

from tailwise.benchmark.compare import compare
from tailwise.catalog import resolve
from tailwise.data.task import TASKS
from tailwise.errors import SettingError
from tailwise.evaluation.scoring import evaluate_scores
from tailwise.models.feature_cache import FeatureCache
from tailwise.models.saving import load_model, save_model
from tailwise.training.finetune import FinetuneEngine
from tailwise.training.probe import ProbeEngine

BY_ROW = ("text", "pair", "multilabel", "multilabel-pair", "relation", "tagging")


def engine_of(name, epochs=100):
    if name == "probe":
        return ProbeEngine(cache=FeatureCache(max_bytes=0), epochs=epochs, batch_size=32, learning_rate=3e-2)
    return FinetuneEngine(epochs=10, batch_size=16, learning_rate=3e-3, max_length=32)


def share_right(model, corpus, split):
    scores = model.split_logits(corpus, split)
    if corpus.task.label_structure == "multi":
        gold = corpus.label_matrix(split).toarray()[:, : scores.shape[1]] > 0
        return ((scores > 0) == gold).mean()
    return (scores.argmax(axis=1) == corpus.labels(split)).mean()


@pytest.mark.parametrize("engine", ["probe", "finetune"])
@pytest.mark.parametrize("task", BY_ROW)
def test_a_task_is_learnt_and_survives_saving(corpora, encoder, tmp_path, task, engine):
    corpus = corpora[task]
    model = engine_of(engine).fit(resolve("ce+thresholds"), corpus, encoder, seed=0)
    scores = model.split_logits(corpus, "test")
    assert scores.shape == (corpus.num_targets("test"), corpus.label_space.num_classes)
    assert np.isfinite(scores).all()
    assert share_right(model, corpus, "test") > 0.85
    loaded = load_model(save_model(model, tmp_path / "model"))
    inputs, pairs = corpus.inputs("test"), corpus.text_pairs("test")
    np.testing.assert_allclose(loaded.logits(inputs, pairs), model.logits(inputs, pairs), atol=2e-5)
    assert loaded.predict(inputs, pairs) == model.predict(inputs, pairs)
    assert loaded.task == corpus.task
    assert loaded.label_space.to_dict() == corpus.label_space.to_dict()


@pytest.mark.parametrize("task", ["multilabel", "tagging"])
def test_decisions_are_lists(corpora, encoder, task):
    corpus = corpora[task]
    model = engine_of("probe").fit(resolve("ce"), corpus, encoder, seed=0)
    decisions = model.predict(corpus.inputs("test"))
    assert len(decisions) == corpus.num_rows("test")
    if task == "tagging":
        assert [len(tags) for tags in decisions] == [len(tokens) for tokens in corpus.tokens("test")]


def test_probability_of_labels_is_the_sigmoid(corpora, encoder):
    corpus = corpora["multilabel"]
    model = engine_of("probe").fit(resolve("ce"), corpus, encoder, seed=0)
    texts = corpus.texts("test")
    np.testing.assert_allclose(model.predict_proba(texts), 1.0 / (1.0 + np.exp(-model.logits(texts))), rtol=1e-5)


@pytest.mark.parametrize(
    ("task", "method", "message"),
    [
        ("multilabel", "adl", "The nearest one for them is 'ml-dice'"),
        ("multilabel", "balanced-softmax", "The nearest one for them is 'db'"),
        ("text", "db", "The nearest one for these data is 'balanced-softmax'"),
        ("tagging", "asl", "The nearest one for these data is 'asl-single'"),
    ],
)
def test_a_method_that_does_not_fit_names_one_that_does(corpora, encoder, task, method, message):
    with pytest.raises(SettingError, match=message):
        engine_of("probe").fit(resolve(method), corpora[task], encoder, seed=0)


def test_fine_tuning_on_tags_refuses_samplers_over_classes(corpora, encoder):
    with pytest.raises(SettingError, match="draws whole sentences"):
        engine_of("finetune").fit(resolve("cas"), corpora["tagging"], encoder, seed=0)


@pytest.mark.parametrize("engine", ["probe", "finetune"])
def test_a_parser_is_learnt_and_survives_saving(corpora, encoder, tmp_path, engine):
    corpus = corpora["parsing"]
    model = engine_of(engine, epochs=30).fit(resolve("wce"), corpus, encoder, seed=0)
    result = evaluate_scores(corpus, "test", model.split_scores(corpus, "test"))
    assert result.score("uas") > 0.9
    assert result.score("las") > 0.7
    loaded = load_model(save_model(model, tmp_path / "model"))
    sentences = corpus.tokens("test")[:5]
    assert loaded.parse(sentences) == model.parse(sentences)


@pytest.mark.parametrize("task", list(TASKS))
def test_the_same_comparison_runs_on_every_task(corpora, encoder, tmp_path, task):
    """One call, whatever the task: tuning, cells, intervals and tables; a rerun reads what is there."""

    def compared():
        return compare(
            corpora[task],
            ["ce", "focal"],
            encoder=encoder,
            engine=engine_of("probe", epochs=5),
            seeds=(0, 1),
            trials=0 if task == "parsing" else 2,
            out=tmp_path,
        )

    comparison = compared()
    table = comparison.table()
    assert set(table.index) == {"ce", "focal"}
    assert (table["macro_f1_low"] <= table["macro_f1"]).all()
    assert set(comparison.per_class()["class"]) == set(comparison.label_space.names)
    assert compared().table().equals(table)
