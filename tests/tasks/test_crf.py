"""The conditional random field: against CRFsuite itself, on a tiny corpus, on disk, and where it cannot run."""

import itertools
import json
import re

import numpy as np
import pycrfsuite
import pytest
import torch
from safetensors.torch import load_file, save_file

from tailwise.benchmark.compare import compare
from tailwise.benchmark.tuning import Candidate
from tailwise.catalog import METHODS, resolve
from tailwise.catalog.baseline_entries import baselines
from tailwise.classifier_family import TokenClassifier
from tailwise.data.task import TASKS
from tailwise.errors import DataError, ModelError, SettingError
from tailwise.evaluation.scoring import evaluate_scores
from tailwise.models.crf import CRF, attribute_rows, words_in_context
from tailwise.models.crf_model import CRFModel
from tailwise.models.feature_cache import FeatureCache
from tailwise.models.saving import load_model, save_model
from tailwise.models.tag_chain import max_marginals
from tailwise.report.model_card import model_card
from tailwise.training import crf_probe
from tailwise.training.crf_probe import train_crf
from tailwise.training.crfsuite_file import read_crfsuite
from tailwise.training.engine import Job
from tailwise.training.finetune import FinetuneEngine
from tailwise.training.probe import ProbeEngine

PENALTIES = [(0.0, 0.1), (0.05, 0.05), (0.3, 0.0)]


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return ProbeEngine(cache=FeatureCache(tmp_path_factory.mktemp("features")), epochs=2)


@pytest.fixture(scope="module")
def fitted(engine, corpora, encoder):
    return engine.fit(resolve("crf+thresholds"), corpora["tagging"], encoder, seed=0)


def trained_by_crfsuite(corpus, c1, c2, path):
    """The same training by CRFsuite alone, with attributes and tags by name."""
    trainer = pycrfsuite.Trainer(algorithm="lbfgs", verbose=False)
    offsets, tags = corpus.offsets("train"), corpus.label_space.decode(corpus.labels("train"))
    for tokens, start, end in zip(corpus.tokens("train"), offsets, offsets[1:], strict=False):
        trainer.append(words_in_context([tokens]), tags[start:end])
    trainer.set_params({"c1": c1, "c2": c2, "max_iterations": 30})
    trainer.train(str(path))
    tagger = pycrfsuite.Tagger()
    tagger.open(str(path))
    return tagger


@pytest.mark.parametrize(("c1", "c2"), PENALTIES)
def test_probabilities_and_best_sequences_are_those_of_crfsuite(corpora, tmp_path, c1, c2):
    corpus = corpora["tagging"]
    names, size = corpus.label_space.names, len(corpus.label_space)
    words, offsets = words_in_context(corpus.tokens("train")), corpus.offsets("train")
    head, attributes, *_ = train_crf(CRF(0, size, c1, c2, 30), words, corpus.labels("train"), offsets)
    tagger = trained_by_crfsuite(corpus, c1, c2, tmp_path / "named.crfsuite")

    sentences, offsets = corpus.tokens("test"), corpus.offsets("test")
    rows = attribute_rows(words_in_context(sentences), {name: i for i, name in enumerate(attributes)})
    found = np.exp(head.log_probabilities(rows, offsets))
    best = max_marginals((rows @ head.weight).toarray(), head.transition, offsets).argmax(axis=1)
    for tokens, start, end in zip(sentences, offsets, offsets[1:], strict=False):
        assert [names[j] for j in best[start:end]] == tagger.tag(words_in_context([tokens]))
        theirs = [[tagger.marginal(tag, place) for tag in names] for place in range(end - start)]
        np.testing.assert_allclose(found[start:end], theirs, atol=1e-9)
    assert head.weight.nnz == len(tagger.info().state_features)


def test_weights_are_those_that_crfsuite_lists(corpora, tmp_path):
    tagger = trained_by_crfsuite(corpora["tagging"], 0.05, 0.05, tmp_path / "named.crfsuite")
    labels, attributes, state, transition = read_crfsuite(tmp_path / "named.crfsuite")
    listed = tagger.info()
    assert (sorted(labels), sorted(attributes)) == (sorted(listed.labels), sorted(listed.attributes))
    for rows, sources, expected in (
        (state, attributes, listed.state_features),
        (transition, labels, listed.transitions),
    ):
        found = {(sources[row["source"]], labels[row["target"]]): float(row["weight"]) for row in rows}
        assert found == pytest.approx(expected, abs=6e-7)
    (tmp_path / "other").write_bytes(b"lCRF" + bytes(100))
    with pytest.raises(ModelError, match="not a first-order model of CRFsuite"):
        read_crfsuite(tmp_path / "other")


def test_it_learns_what_words_give_away(engine, corpora, encoder):
    corpus = corpora["tagging"]
    model = engine.fit(resolve("crf"), corpus, encoder, seed=0)
    assert isinstance(model, CRFModel)
    assert evaluate_scores(corpus, "test", model.split_scores(corpus, "test")).score("macro_f1") > 0.95
    np.testing.assert_allclose(np.exp(model.logits([["cat1"], ["never", "seen"]])).sum(axis=1), 1.0, rtol=1e-5)
    first, last = model.info["training"]["stage_losses"][0]
    assert last < first
    assert model.predict([[]]) == [[]]


def test_equal_settings_are_one_training_and_seeds_change_nothing(engine, corpora, encoder, monkeypatch):
    calls = []
    monkeypatch.setattr(crf_probe, "train_crf", lambda *given: calls.append(given[0].c1) or train_crf(*given))
    specs = [("crf", {}, 0), ("ce", {}, 0), ("crf+thresholds", {}, 1), ("crf", {"head.c1": 0.0}, 0)]
    fresh = ProbeEngine(cache=engine.cache)  # others have trained fields with this one
    models = fresh.fit_many([Job(resolve(*spec), seed) for *spec, seed in specs], corpora["tagging"], encoder)
    assert calls == [0.05, 0.0]
    assert [type(model).__name__ for model in models] == ["CRFModel", "ProbeModel", "CRFModel", "CRFModel"]
    texts = corpora["tagging"].inputs("test")
    np.testing.assert_array_equal(models[0].raw_scores(texts), models[2].raw_scores(texts))
    assert not np.array_equal(models[0].raw_scores(texts), models[3].raw_scores(texts))


def test_a_saved_model_is_the_model_and_has_neither_encoder_nor_binary_of_crfsuite(fitted, corpora, tmp_path):
    folder = save_model(fitted, tmp_path / "model", card=model_card(fitted))
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "attributes.json", "head.safetensors", "labels.json", "tailwise.json",
    ]  # fmt: skip
    loaded, texts = load_model(folder), corpora["tagging"].inputs("test")
    assert isinstance(loaded, CRFModel)
    np.testing.assert_array_equal(loaded.logits(texts), fitted.logits(texts))
    np.testing.assert_array_equal(loaded.logits(texts), fitted.split_logits(corpora["tagging"], "test"))
    assert loaded.predict(texts) == fitted.predict(texts)
    assert [step.name for step in loaded.steps] == ["thresholds"]
    card = (folder / "README.md").read_text()
    assert "no encoder takes part" in card
    assert "encoder's training texts" not in card


def changed_tensor(folder, name, value):
    tensors = load_file(folder / "head.safetensors")
    tensors[name] = value(tensors[name])
    save_file(tensors, folder / "head.safetensors")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("tags", lambda t: t + 7, "do not fit 7 tags"),
        ("tags", lambda t: t - 7, "do not fit 7 tags"),
        ("row_ends", lambda t: t.flip(0), "do not fit 7 tags"),
        ("row_ends", lambda t: t + 1, "do not fit 7 tags"),
        ("row_ends", lambda t: t[1:], "expected the tensor 'row_ends'"),
        ("transition", lambda t: t[:, 1:].contiguous(), "expected the tensor 'transition'"),
        ("transition", lambda t: t * torch.inf, "not finite"),
        ("values", lambda t: t * torch.nan, "not finite"),
        ("values", lambda t: t.float(), "numbers of 64 bits"),
    ],
)
def test_forged_weights_are_refused(fitted, tmp_path, monkeypatch, name, value, message):
    folder = save_model(fitted, tmp_path / "model")
    changed_tensor(folder, name, value)
    monkeypatch.setattr("tailwise.models.saving_manifest._check_files", lambda *_: None)
    with pytest.raises(ModelError, match=message):
        load_model(folder)


def test_a_folder_that_says_something_else_is_refused(fitted, tmp_path, monkeypatch):
    folder = save_model(fitted, tmp_path / "model")
    manifest = json.loads((folder / "tailwise.json").read_bytes())
    names = json.loads((folder / "attributes.json").read_bytes())
    monkeypatch.setattr("tailwise.models.saving_manifest._check_files", lambda *_: None)
    without = {name: facts for name, facts in manifest["files"].items() if name != "attributes.json"}
    for change, message in (
        ({"task": {"input_form": "text", "label_structure": "single"}}, "is a probe for tags"),
        ({"engine": "finetune"}, "is a probe for tags"),
        ({"model": {**manifest["model"], "head": {"name": "crf", "c1": -1.0}}}, "cannot be built: Expected `c1`"),
        ({"model": {**manifest["model"], "attributes": 3}}, "expected 3 different names"),
        ({"files": without}, "'attributes.json' is missing from the list"),
    ):
        (folder / "tailwise.json").write_text(json.dumps(manifest | change))
        with pytest.raises(ModelError, match=message):
            load_model(folder)
    (folder / "tailwise.json").write_text(json.dumps(manifest))
    for forged in ({"a": 1}, [1, *names[1:]], [names[1], *names[1:]], names[1:]):
        (folder / "attributes.json").write_text(json.dumps(forged))
        with pytest.raises(ModelError, match=r"attributes.json: expected (a list of|\d+ different) names"):
            load_model(folder)


@pytest.mark.parametrize(
    ("task", "near"), [("text", "ce"), ("relation", "ce"), ("parsing", "ce"), ("multilabel", "bce")]
)
def test_other_tasks_are_refused(engine, corpora, encoder, task, near):
    with pytest.raises(SettingError, match=f"every token of a sentence a tag.*nearest one .* '{near}'"):
        engine.fit(resolve("crf"), corpora[task], encoder, seed=0)


@pytest.mark.parametrize("spec", ["crf+focal", "crf+cas", "crf+drw"])
def test_what_a_likelihood_of_sentences_excludes_is_refused(corpora, tmp_path, spec):
    with pytest.raises(SettingError, match=rf"'{re.escape(spec)}' cannot take part: The head 'crf' is trained"):
        compare(corpora["tagging"], [spec], encoder="/no/encoder", out=tmp_path)


def test_wrong_inputs_and_settings_are_refused(fitted, corpora, encoder):
    with pytest.raises(SettingError, match="Choose the engine 'probe'"):
        FinetuneEngine().fit(resolve("crf"), corpora["tagging"], encoder, seed=0)
    with pytest.raises(DataError, match="Sentence 0: expected a list of tokens"):
        fitted.predict(["a text"])
    with pytest.raises(DataError, match="takes sentences alone"):
        fitted.raw_scores([["a"]], ["b"])
    for setting, message in (({"c1": -1.0}, "`c1`"), ({"c2": np.inf}, "`c2`"), ({"max_iterations": 0}, "1 or more")):
        with pytest.raises(SettingError, match=f"Expected {message}|{message}"):
            CRF(1, 2, **setting)


def test_it_is_a_baseline_of_tags_alone_and_its_own_settings_are_tuned(engine, corpora):
    for name, task in TASKS.items():
        assert ("crf" in baselines(task)) == (name == "tagging") == (METHODS["crf"].refusal(task) is None)
    assert set(Candidate("crf", "crf").space(engine, corpora["tagging"])) == {"head.c1", "head.c2"}
    assert "optimisation.C" in Candidate("ce", "ce").space(engine, corpora["tagging"])


def test_a_comparison_holds_it(engine, corpora, encoder, tmp_path):
    """By default, too: without methods the baselines take part."""
    found = compare(corpora["tagging"], encoder=encoder, engine=engine, seeds=(0,), trials=1, out=tmp_path)
    assert set(baselines(corpora["tagging"].task)) <= set(found.methods)
    assert found.validation_means["crf"] > 0.95


def test_the_classifier_takes_it(corpora, encoder):
    corpus = corpora["tagging"]
    tags = [list(corpus.label_space.names)[j] for j in corpus.labels("train")]
    bounds = corpus.offsets("train").tolist()
    per_sentence = [tags[start:end] for start, end in itertools.pairwise(bounds)]
    classifier = TokenClassifier("crf", encoder=encoder, trials=2).fit(corpus.tokens("train"), per_sentence)
    assert classifier.predict([["w0", "cat1", "cat2"]])[0][0] == "O"
    assert classifier.predict([["w0", "w1", "cat1", "cat2"]])[0][2:] == ["B-cat", "I-cat"]
