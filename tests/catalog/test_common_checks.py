"""What holds for every method of the catalog in both engines: it runs, and a saved model is the model."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import BertConfig, BertModel, BertTokenizer

from tailwise.catalog import METHODS
from tailwise.data.corpus import Corpus
from tailwise.data.labels import LabelSpace
from tailwise.data.task import Task
from tailwise.errors import SettingError
from tailwise.models.encoder import Encoder
from tailwise.models.feature_cache import FeatureCache
from tailwise.models.saving import load_model, save_model
from tailwise.training import FinetuneEngine, ProbeEngine

NAMES = ("complaint", "fire", "order")
COUNTS = {"train": (24, 8, 60), "validation": (6, 4, 12), "test": (6, 4, 12)}
NOISE = [f"w{i}" for i in range(12)]


def split(name, generator):
    rows = []
    for label, count in enumerate(COUNTS[name]):
        for i in range(count):
            words = [f"{NAMES[label]}{generator.integers(3)}", *generator.choice(NOISE, 2)]
            rows.append({"id": f"{name}-{label}-{i}", "text": " ".join(generator.permutation(words)), "label": label})
    return Dataset.from_list(rows)


@pytest.fixture(scope="module")
def corpus():
    generator = np.random.default_rng(3)
    splits = {name: split(name, generator) for name in COUNTS}
    return Corpus(
        "tickets", splits, Task(), LabelSpace(NAMES, np.array(COUNTS["train"]), "order"), fingerprint="0" * 64
    )


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *NOISE, *(f"{n}{i}" for n in NAMES for i in range(3))]
    BertTokenizer(vocab={word: i for i, word in enumerate(words)}).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=32, initializer_range=0.2,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return Encoder.from_pretrained(str(folder), max_length=16, dtype="float32")


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    cache = FeatureCache(tmp_path_factory.mktemp("features"))
    tuned = FinetuneEngine(learning_rate=5e-3, epochs=1, batch_size=8, max_length=16, precision="float32")
    return {"probe": ProbeEngine(cache=cache, epochs=5, batch_size=8), "finetune": tuned}


@pytest.mark.parametrize("engine", ["probe", "finetune"])
@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_runs_and_a_saved_model_is_the_model(name, engine, engines, corpus, encoder, tmp_path):
    recipe = METHODS[name].recipe()
    if engine not in METHODS[name].engines:
        with pytest.raises(SettingError, match=r"several labels per row|representation|needs"):
            engines[engine].fit(recipe, corpus, encoder, seed=0)
        return
    model = engines[engine].fit(recipe, corpus, encoder, seed=0)
    logits = model.split_logits(corpus, "test")
    assert logits.shape == (22, 3)
    assert np.isfinite(logits).all()
    steps = [step.name for step in model.steps]
    assert steps == [component.name for component in METHODS[name].recipe().posthoc]
    loaded = load_model(save_model(model, tmp_path / "model"))
    texts = corpus.texts("test")
    np.testing.assert_array_equal(loaded.predict_proba(texts), model.predict_proba(texts))
