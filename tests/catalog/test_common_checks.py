"""What holds for every method of the catalog in both engines.

It runs, a saved model is the model, and rows of validation and test are scored as they are: once each, never drawn.
"""

from collections import Counter

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
from tailwise.models.heads.affine import unit_rows
from tailwise.models.lexical import LexicalFeatures
from tailwise.models.saving import load_model, save_model
from tailwise.stages.recipe import Component, Recipe, Stage
from tailwise.training import FinetuneEngine, ProbeEngine, corpus_parts, probe, probe_batches

NAMES = ("complaint", "fire", "order")
COUNTS = {"train": (24, 8, 60), "validation": (6, 4, 12), "test": (6, 4, 12)}
NOISE = [f"w{i}" for i in range(12)]
#: a word of its own for every row, so that a row is known by its tokens
ROWS = {name: [f"{name}row{i}" for i in range(sum(counts))] for name, counts in COUNTS.items()}
WORDS = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *NOISE, *(f"{n}{i}" for n in NAMES for i in range(3)),
    *(word for words in ROWS.values() for word in words),
]  # fmt: skip


def split(name, generator):
    rows = []
    for label, count in enumerate(COUNTS[name]):
        for i in range(count):
            words = [f"{NAMES[label]}{generator.integers(3)}", *generator.choice(NOISE, 2), ROWS[name][len(rows)]]
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
    BertTokenizer(vocab={word: i for i, word in enumerate(WORDS)}).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=32, initializer_range=0.2,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return Encoder.from_pretrained(str(folder), max_length=16, dtype="float32")


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    cache = FeatureCache(tmp_path_factory.mktemp("features"))
    tuned = FinetuneEngine(learning_rate=5e-3, epochs=1, batch_size=8, max_length=16, precision="float32")
    return {"probe": ProbeEngine(cache=cache, epochs=5, batch_size=8, C=1.0), "finetune": tuned}


class Seen:
    """The rows that went through an encoder, by split, in training (``drawn``) and outside of it (``scored``)."""

    def __init__(self):
        self.drawn = {name: Counter() for name in COUNTS}
        self.scored = {name: Counter() for name in COUNTS}
        self.rows = {WORDS.index(word): (name, i) for name, words in ROWS.items() for i, word in enumerate(words)}

    def __call__(self, module, inputs):
        if isinstance(module, torch.nn.Embedding) and module.num_embeddings == len(WORDS):
            for token in inputs[0].flatten().tolist():
                if token in self.rows:
                    name, row = self.rows[token]
                    (self.drawn if torch.is_grad_enabled() else self.scored)[name][row] += 1


@pytest.fixture
def seen():
    seen = Seen()
    hook = torch.nn.modules.module.register_module_forward_pre_hook(seen)
    yield seen
    hook.remove()


@pytest.fixture
def fitted_on(monkeypatch):
    """The targets that post-hoc steps were fitted on."""
    targets = []
    fit = corpus_parts.fit_posthoc

    def recorded(recipe, logits, target, **facts):
        targets.append(np.array(target))
        return fit(recipe, logits, target, **facts)

    monkeypatch.setattr(corpus_parts, "fit_posthoc", recorded)
    return targets


@pytest.fixture
def head_rows(monkeypatch):
    """The training rows that the probe was given, and the positions of those it drew."""
    given, drawn = [], Counter()
    train, following = probe.ProbeEngine._train_on, probe_batches.BatchStream.next

    def recorded(engine, rows, kind, *rest):
        given.append((kind, rows))
        return train(engine, rows, kind, *rest)

    def watched(stream):
        batch = following(stream)
        drawn.update(batch.tolist())
        return batch

    monkeypatch.setattr(probe.ProbeEngine, "_train_on", recorded)
    monkeypatch.setattr(probe_batches.BatchStream, "next", watched)
    return given, drawn


@pytest.mark.parametrize("engine", ["probe", "finetune"])
@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_runs_and_a_saved_model_is_the_model(
    name, engine, engines, corpus, encoder, seen, fitted_on, head_rows, tmp_path
):
    recipe = METHODS[name].recipe()
    if engine not in METHODS[name].engines or METHODS[name].refusal(corpus.task) is not None:
        with pytest.raises(
            SettingError, match=r"several labels per row|representation|needs|have no tags|engine 'probe'"
        ):
            engines[engine].fit(recipe, corpus, encoder, seed=0)
        return
    model = engines[engine].fit(recipe, corpus, encoder, seed=0)
    for target in fitted_on:
        np.testing.assert_array_equal(target, corpus.labels("validation"))
    check_rows = check_rows_of_finetuning if engine == "finetune" else check_rows_of_probe
    check_rows(recipe, seen, corpus, encoder, head_rows)
    already = seen.scored["test"].copy()
    logits = model.split_logits(corpus, "test")
    assert set((seen.scored["test"] - already).values()) <= {1}
    assert logits.shape == (22, 3)
    assert np.isfinite(logits).all()
    steps = [step.name for step in model.steps]
    assert steps == [component.name for component in METHODS[name].recipe().posthoc]
    loaded = load_model(save_model(model, tmp_path / "model"))
    texts = corpus.texts("test")
    np.testing.assert_array_equal(loaded.predict_proba(texts), model.predict_proba(texts))


@pytest.mark.parametrize("engine", ["probe", "finetune"])
def test_confusion_costs_of_the_population_are_given_or_refused(engine, engines, corpus, encoder):
    def fit(**params):
        loss = Component("confusion-aware", {"mode": "population", **params})
        return engines[engine].fit(Recipe("mine", (Stage(loss=loss),)), corpus, encoder, seed=0)

    with pytest.raises(SettingError, match=r"needs a `cost_matrix`.* plain cross-entropy"):
        fit()
    costs, zeros = np.ones((3, 3)).tolist(), np.zeros((3, 3)).tolist()
    found = [fit(cost_matrix=matrix).split_logits(corpus, "test") for matrix in (costs, zeros)]
    assert not np.allclose(*found)


def by_scores(recipe):
    return any(stage.sampler.name == "performance" for stage in recipe.stages)


def check_rows_of_finetuning(recipe, seen, corpus, *_):
    """Only rows of train are drawn; validation is evaluated row by row, equally often; test is not looked at."""
    steps = -(-sum(COUNTS["train"]) // 8)
    assert sum(seen.drawn["train"].values()) == pytest.approx(8 * steps, abs=7 * (len(recipe.stages) + 2))
    assert not seen.drawn["validation"]
    assert not seen.drawn["test"]
    assert sorted(seen.scored["validation"]) == list(range(22))
    assert len(set(seen.scored["validation"].values())) == 1
    assert not seen.scored["test"]
    if {stage.sampler.name for stage in recipe.stages} == {"natural"} and len(recipe.stages) == 1:
        assert seen.drawn["train"] == Counter(range(corpus.num_rows("train")))
    if by_scores(recipe):
        # the start of the final layer scores every row once
        again = {row for row, times in seen.scored["train"].items() if times > 1}
        assert again
        assert not seen.drawn["train"].keys() & again


def check_rows_of_probe(recipe, seen, corpus, encoder, head_rows):
    """Heads are given the rows of train alone; each text is encoded at most once; by scores, some rows are held out."""
    given, drawn = head_rows
    for counts in (*seen.drawn.values(), *seen.scored.values()):
        assert set(counts.values()) <= {1}
    assert given or recipe.head.name == "crf"
    for kind, rows in given:
        np.testing.assert_array_equal(rows.labels, corpus.labels("train"))
        if kind.source == "tfidf":
            expected = LexicalFeatures.fit("text", corpus.texts("train")).transform(corpus.texts("train"))
            assert (rows.features != expected).nnz == 0
            continue
        states = torch.from_numpy(encoder.encode(corpus.texts("train")))
        np.testing.assert_allclose(rows.features, unit_rows(states) if kind.unit else states, atol=1e-5)
    assert all(0 <= row < corpus.num_rows("train") for row in drawn)
    if by_scores(recipe):
        assert 0 < len(drawn) < corpus.num_rows("train")
