"""Models whose labels stand below each other."""

from dataclasses import replace

import numpy as np
import pytest

from tailwise.catalog import resolve
from tailwise.models.feature_cache import FeatureCache
from tailwise.models.saving import load_model, save_model
from tailwise.training.finetune import FinetuneEngine
from tailwise.training.probe import ProbeEngine


@pytest.mark.parametrize("engine", ["probe", "finetune"])
def test_decisions_are_coherent_before_and_after_saving(corpora, encoder, tmp_path, engine):
    corpus = corpora["multilabel"]
    names = ("a/b/c", "a/b", "a")  # the most frequent one below the others
    corpus = replace(corpus, label_space=replace(corpus.label_space, names=names, path_mark="/"))
    engines = {
        "probe": ProbeEngine(cache=FeatureCache(max_bytes=0), epochs=4),
        "finetune": FinetuneEngine(epochs=0.5, max_length=32, precision="float32"),
    }
    model = engines[engine].fit(resolve("ce+thresholds"), corpus, encoder, seed=0)
    texts = corpus.texts("test")
    found, free = model.logits(texts), model.adjustment(model.raw_scores(texts))
    assert (free[:, 2] < free[:, 0]).any()  # the labels of this corpus know nothing of each other
    np.testing.assert_array_equal(found[:, 0], free[:, 0])
    np.testing.assert_array_equal(found[:, 1], free[:, :2].max(axis=1))
    np.testing.assert_array_equal(found[:, 2], free.max(axis=1))
    assert all("a" in labels for labels in model.predict(texts) if "a/b/c" in labels)
    np.testing.assert_allclose(model.split_logits(corpus, "test"), found, atol=1e-3)
    loaded = load_model(save_model(model, tmp_path / "model"))
    assert loaded.label_space.path_mark == "/"
    assert loaded.predict(texts) == model.predict(texts)
