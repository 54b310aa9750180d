"""Features are made before the first training, for all splits, once, and counted."""

import numpy as np
import pytest
from datasets import Dataset

from tailwise.catalog import resolve
from tailwise.data.corpus import Corpus
from tailwise.data.labels import LabelSpace
from tailwise.data.task import Task
from tailwise.models import feature_memo
from tailwise.models.feature_cache import FeatureCache
from tailwise.training.finetune import FinetuneEngine
from tailwise.training.preparation import Preparation, prepare_features
from tailwise.training.probe import ProbeEngine


class CountingEncoder:
    """Encodes a text as its length, and counts how often it is asked."""

    name, revision, dim, fingerprint, pooling, max_length, dtype = "counting", None, 3, "f", "mean", 9, "float32"

    def __init__(self):
        self.calls = 0

    def encode(self, texts, text_pairs=None, *, progress=None):
        del text_pairs
        self.calls += 1
        if progress is not None:
            progress("encode", len(texts), len(texts))
        return np.array([[len(text), 1, 2] for text in texts], dtype=np.float32)


@pytest.fixture
def corpus():
    feature_memo.forget_features()

    def rows(*texts):
        return Dataset.from_dict({"id": list(texts), "text": list(texts), "label": [i % 2 for i in range(len(texts))]})

    splits = {"train": rows("a", "bb", "c c"), "validation": rows("d", "e e"), "test": rows("f")}
    return Corpus("small", splits, Task("text", "single"), LabelSpace(("x", "y"), np.array([2, 1])), "small-1")


@pytest.fixture
def engine(tmp_path):
    return ProbeEngine(cache=FeatureCache(tmp_path))


def test_all_splits_are_encoded_once_and_counted(corpus, engine):
    encoder, told = CountingEncoder(), []
    recipes = [resolve("ce"), resolve("focal")]
    first = prepare_features(engine, recipes, corpus, encoder, progress=lambda *said: told.append(said))
    assert (encoder.calls, first.encoded) == (3, 6)
    assert first.seconds > 0
    assert ("encode", 3, 3) in told
    again = prepare_features(engine, recipes, corpus, encoder)
    assert (encoder.calls, again.encoded) == (3, 0)
    assert "6 texts encoded" in str(first + again)
    assert "no text had to be encoded" in str(again)


def test_training_finds_everything_there(corpus, engine):
    encoder = CountingEncoder()
    recipe = resolve("ce")
    prepare_features(engine, [recipe], corpus, encoder)
    model = engine.fit(recipe.with_optimisation(epochs=1), corpus, encoder, 0)
    model.split_scores(corpus, "test")
    assert encoder.calls == 3


def test_methods_on_lexical_features_alone_need_no_encoder(corpus, tmp_path):
    encoder = CountingEncoder()
    engine = ProbeEngine(cache=FeatureCache(tmp_path), features="tfidf")
    assert prepare_features(engine, [resolve("ce")], corpus, encoder).encoded == 0
    assert encoder.calls == 0


def test_fine_tuning_needs_no_features(corpus):
    encoder = CountingEncoder()
    assert prepare_features(FinetuneEngine(), [resolve("ce")], corpus, encoder) == Preparation()
    assert encoder.calls == 0
