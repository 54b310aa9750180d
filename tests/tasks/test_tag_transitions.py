"""The chain of tags on a probe: chosen on validation, saved and loaded, and left out where it does not help."""

import json

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from tailwise.catalog import resolve
from tailwise.errors import ModelError
from tailwise.evaluation.scoring import evaluate_scores
from tailwise.models.feature_cache import FeatureCache
from tailwise.models.saving import load_model, save_model
from tailwise.training.probe import ProbeEngine
from tailwise.training.tag_transitions import fit_chain


@pytest.fixture(scope="module")
def corpus(corpora):
    return corpora["tagging"]


def blurred(corpus, split="validation", seed=0):
    """Scores that know the type of every token, and not whether it begins a span or goes on with it."""
    gold, names = corpus.labels(split), corpus.label_space.names
    kinds = [name[2:] for name in names]
    scores = np.random.default_rng(seed).normal(size=(len(gold), len(names)), scale=0.1)
    same = np.array([[kinds[tag] == kind for kind in kinds] for tag in gold])
    return (scores + 4.0 * same).astype(np.float32)


def f1(corpus, scores):
    return evaluate_scores(corpus, "validation", scores).score("macro_f1")


def test_a_chain_tells_the_start_of_a_span_from_the_rest(corpus):
    scores = blurred(corpus)
    chain, chained, held_out = fit_chain(scores, None, corpus, "macro_f1")
    assert chain is not None
    np.testing.assert_array_equal(chained, chain.scores(scores, corpus.offsets("validation")))
    np.testing.assert_array_equal(held_out, chained)  # either half decides for it
    assert f1(corpus, chained) > f1(corpus, scores) + 0.2


def test_no_chain_where_it_does_not_help_or_tags_are_no_spans(corpus, corpora):
    perfect = np.eye(len(corpus.label_space), dtype=np.float32)[corpus.labels("validation")] * 20
    chain, scores, held_out = fit_chain(perfect, None, corpus, "macro_f1")
    assert chain is None
    np.testing.assert_array_equal(scores, perfect)
    np.testing.assert_array_equal(held_out, perfect)
    texts = corpora["text"]
    given = np.zeros((texts.num_rows("validation"), len(texts.label_space)), dtype=np.float32)
    assert fit_chain(given, None, texts, "macro_f1") == (None, given, None)
    assert fit_chain(perfect * np.nan, None, corpus, "macro_f1").chain is None


@pytest.mark.parametrize("features", ["encoder", "tfidf"])
def test_a_saved_probe_keeps_its_chain(corpus, encoder, tmp_path, monkeypatch, features):
    monkeypatch.setattr(
        "tailwise.training.probe.fit_chain",
        lambda scores, unfitted, *rest: fit_chain(blurred(corpus), unfitted, *rest),
    )
    engine = ProbeEngine(cache=FeatureCache(tmp_path / "features"), features=features)
    model = engine.fit(resolve("ce"), corpus, encoder, seed=0)
    assert model.chain is not None
    folder, texts = save_model(model, tmp_path / "model"), corpus.inputs("test")
    loaded = load_model(folder)
    np.testing.assert_array_equal(loaded.chain.transition, model.chain.transition)
    np.testing.assert_allclose(loaded.logits(texts), model.split_logits(corpus, "test"), atol=1e-4)
    bare = load_model(folder)
    bare.chain = None
    assert not np.allclose(bare.logits(texts), loaded.logits(texts), atol=1e-2)

    monkeypatch.setattr("tailwise.models.saving_manifest._check_files", lambda *_: None)
    tensors = load_file(folder / "transitions.safetensors")
    for forged, message in (
        ({**tensors, "start": tensors["start"] * np.nan}, "finite numbers of 64 bits"),
        ({**tensors, "start": tensors["start"].float()}, "finite numbers of 64 bits"),
        ({**tensors, "start": tensors["start"][1:]}, "expected the tensor 'start'"),
    ):
        save_file(forged, folder / "transitions.safetensors")
        with pytest.raises(ModelError, match=message):
            load_model(folder)
    manifest = json.loads((folder / "tailwise.json").read_bytes())
    (folder / "tailwise.json").write_text(json.dumps(manifest | {"model": {**manifest["model"], "chain": False}}))
    with pytest.raises(ModelError, match="transitions are for tags"):
        load_model(folder)
