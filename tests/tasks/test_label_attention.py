"""Label-wise attention: against a naive loop, against padding and parts of batches, and as a method on tiny corpora."""

import json

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from tailwise.catalog import resolve
from tailwise.classifier_family import MultilabelTextClassifier
from tailwise.data.labels import LabelSpace
from tailwise.errors import DataError, ModelError, SettingError
from tailwise.evaluation.scoring import evaluate_scores
from tailwise.losses import LOSSES
from tailwise.models.feature_cache import FeatureCache
from tailwise.models.heads.building import build_head
from tailwise.models.label_attention import LabelAttention, label_attention_scores
from tailwise.models.label_attention_model import LabelAttentionModel
from tailwise.models.saving import load_model, save_model
from tailwise.models.token_states import TokenStates, cached_token_states, encode_token_states
from tailwise.stages.recipe import Component
from tailwise.training.engine import Job
from tailwise.training.finetune import FinetuneEngine
from tailwise.training.label_attention_probe import train_label_attention
from tailwise.training.probe import ProbeEngine
from tailwise.training.probe_plan import ProbePlan, StagePlan

#: losses over several labels that train on scores alone and need nothing but what a corpus says
TRAINABLE = sorted(n for n in LOSSES if LOSSES[n].multilabel and not LOSSES[n].requires_features)


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return ProbeEngine(
        cache=FeatureCache(tmp_path_factory.mktemp("states")), epochs=40, batch_size=16, learning_rate=0.02
    )


@pytest.fixture(scope="module")
def fitted(engine, corpora, encoder):
    recipe = resolve("caml+thresholds")
    return engine.fit(recipe, corpora["multilabel"], encoder, seed=0)


def random_head(dim=5, labels=3, seed=0):
    head = LabelAttention(dim, labels, dropout=0.0).double()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(seed + parameter.numel()))
    return head


def random_states(lengths=(4, 1, 7, 3, 2, 0, 5, 6), dim=5, seed=1):
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    values = np.random.default_rng(seed).normal(size=(offsets[-1], dim)).astype(np.float16)
    return TokenStates(values, offsets)


def test_scores_and_gradients_are_those_of_a_naive_loop():
    head, states = random_head(), random_states()
    rows = np.arange(8)
    padded, mask = states.padded(rows)
    coefficients = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    scores = head(padded.double(), mask)
    gradients = torch.autograd.grad((scores * coefficients).sum(), list(head.parameters()))

    naive = []
    for row in rows:
        own = torch.from_numpy(states.values[states.offsets[row] : states.offsets[row + 1]].astype(np.float64))
        for label in range(3):
            read = torch.zeros(5, dtype=torch.float64)
            powers = [torch.exp(head.query[label] @ h) for h in own]
            for h, power in zip(own, powers, strict=True):
                read = read + power / sum(powers) * h
            naive.append(head.weight[label] @ read + head.bias[label])
    naive = torch.stack(naive).view(8, 3)
    expected = torch.autograd.grad((naive * coefficients).sum(), list(head.parameters()))
    torch.testing.assert_close(scores, naive, rtol=1e-10, atol=1e-12)
    for found, wanted in zip(gradients, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11)


def test_attention_sums_to_one_over_the_tokens_and_ignores_padding():
    head, states = random_head(), random_states()
    padded, mask = states.padded(np.arange(8))
    weights = head.attention(padded.double(), mask)
    assert weights.shape == (8, 3, 7)
    assert (weights.masked_select(~mask[:, None].expand_as(weights)) == 0).all()
    sums = torch.ones(8, 3, dtype=torch.float64)
    sums[5] = 0.0  # a text without a token
    torch.testing.assert_close(weights.sum(dim=2), sums)
    noisy = padded.double().masked_fill(~mask[:, :, None], 9.0)
    torch.testing.assert_close(head(noisy, mask), head(padded.double(), mask))
    torch.testing.assert_close(head(padded.double(), mask)[5], head.bias)


def test_a_fresh_head_is_a_linear_head_on_the_mean():
    head = build_head("label-attention", {}, 5, 3)
    head.reset(torch.Generator().manual_seed(0))
    states = torch.randn(2, 4, 5)
    torch.testing.assert_close(head(states), states.mean(dim=1) @ head.weight.T + head.bias)
    with pytest.raises(SettingError, match=r"Expected `dropout` to be a share in \[0, 1\), but got 1\.0"):
        LabelAttention(5, 3, dropout=1.0)


def training(loss="bce", *, dropout=0.0, seed=0, **extra):
    states = random_states(lengths=np.random.default_rng(2).integers(1, 9, size=40), dim=5)
    labels = np.random.default_rng(3).random((40, 3)) < (0.6, 0.3, 0.2)
    space = LabelSpace(("a", "b", "c"), labels.sum(axis=0), None, (), 40)
    stages = (StagePlan(Component("natural"), Component(loss), 12, 1.0),)
    plan = ProbePlan(Component("label-attention", {"dropout": dropout}), stages, 8, 3e-3, 1e-2, seed)
    return train_label_attention(plan, states, csr_matrix(labels.astype(np.int64)), space, **extra)


@pytest.mark.parametrize("loss", TRAINABLE)
def test_parts_of_a_batch_give_what_the_whole_gives(loss):
    if loss == "weighted-sum":
        pytest.skip("is made of other losses")
    whole = training(loss, divide=lambda lengths, _: iter([np.arange(len(lengths))]))
    parts = training(loss, divide=lambda lengths, _: iter(np.array_split(np.argsort(-lengths), 3)))
    twice = training(loss, held=0, divide=lambda lengths, _: iter(np.array_split(np.argsort(-lengths), 3)))
    for trained in (parts, twice):
        assert trained.losses[-1] == pytest.approx(whole.losses[-1], rel=1e-4)
        for one, other in zip(whole.head.parameters(), trained.head.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=2e-4)
    assert whole.head.query.abs().max() > 0


def test_same_seed_same_weights_and_another_seed_others():
    one, again, other = training(dropout=0.3), training(dropout=0.3), training(dropout=0.3, seed=1)
    for name, value in one.head.state_dict().items():
        assert torch.equal(value, again.head.state_dict()[name])
    assert not torch.equal(one.head.weight, other.head.weight)
    assert not torch.equal(one.head.weight, training(dropout=0.0).head.weight)


def test_states_are_those_of_the_encoder_alone_or_padded(encoder, tmp_path):
    texts = ["cat1 w0", "", "dog0 " * 60, "bird2 w1 w2"]
    states = encode_token_states(encoder, texts)
    assert states.lengths.tolist() == [4, 2, 32, 5]
    means = np.stack(
        [
            states.values[a:b].mean(axis=0, dtype=np.float64)
            for a, b in zip(states.offsets, states.offsets[1:], strict=False)
        ]
    )
    np.testing.assert_allclose(means, encoder.encode(texts), atol=2e-3)
    cache = FeatureCache(tmp_path)
    for _ in range(2):
        np.testing.assert_array_equal(cached_token_states(encoder, texts, cache=cache).values, states.values)
    assert len(list(tmp_path.glob("*.npy"))) == 1
    with pytest.raises(DataError, match="found int at position 1"):
        encode_token_states(encoder, ["cat1", 3])


@pytest.mark.parametrize("spec", ["caml", "caml+db", "caml+thresholds", "caml+asl+thresholds", "caml+ml-ros"])
def test_it_learns(engine, corpora, encoder, spec):
    corpus = corpora["multilabel"]
    model = engine.fit(resolve(spec), corpus, encoder, seed=0)
    assert isinstance(model, LabelAttentionModel)
    assert evaluate_scores(corpus, "test", model.split_scores(corpus, "test")).score("macro_f1") > 0.8
    assert model.info["training"]["steps"] == 40 * 120 // 16


def test_labels_read_the_words_that_give_them_away(fitted):
    (text,) = fitted.attention(["w0 w1 cat1 w2 w3"])
    assert text.tokens[3] == "cat1"
    np.testing.assert_allclose(text.weights.sum(axis=1), 1.0, rtol=1e-5)
    assert text.weights[1].argmax() == 3
    assert text.weights[1, 3] > 1.5 / len(text.tokens)


def test_a_job_does_not_depend_on_the_others(engine, corpora, encoder):
    corpus = corpora["multilabel"]
    jobs = [Job(resolve("ce"), 0), Job(resolve("caml"), 0), Job(resolve("caml+db"), 1)]
    together = engine.fit_many(jobs, corpus, encoder)
    assert [type(model).__name__ for model in together] == ["ProbeModel", "LabelAttentionModel", "LabelAttentionModel"]
    for job, model in zip(jobs, together, strict=True):
        alone = engine.fit(job.recipe, corpus, encoder, job.seed)
        assert alone.recipe == model.recipe
        np.testing.assert_array_equal(alone.split_logits(corpus, "test"), model.split_logits(corpus, "test"))


def test_a_saved_model_is_the_model(fitted, corpora, encoder, tmp_path):
    texts = corpora["multilabel"].inputs("test")
    loaded = load_model(save_model(fitted, tmp_path / "model"))
    assert isinstance(loaded, LabelAttentionModel)
    np.testing.assert_array_equal(loaded.logits(texts), fitted.logits(texts))
    np.testing.assert_allclose(fitted.logits(texts), fitted.split_logits(corpora["multilabel"], "test"), atol=1e-4)
    assert loaded.predict(texts) == fitted.predict(texts)
    assert [step.name for step in loaded.steps] == ["label-thresholds"]
    assert fitted.held_out.shape == (40, 3)


def test_a_folder_that_says_something_else_is_refused(fitted, tmp_path):
    folder = save_model(fitted, tmp_path / "model")
    manifest = json.loads((folder / "tailwise.json").read_bytes())
    for change, message in (
        ({"task": {"input_form": "text", "label_structure": "single"}}, "several labels per row"),
        ({"model": {**manifest["model"], "head": {"name": "label-attention", "dropout": 2}}}, "cannot be built"),
    ):
        (folder / "tailwise.json").write_text(json.dumps(manifest | change))
        with pytest.raises(ModelError, match=message):
            load_model(folder)


@pytest.mark.parametrize("task", ["text", "pair", "relation", "tagging", "parsing"])
def test_other_tasks_are_refused(engine, corpora, encoder, task):
    with pytest.raises(SettingError, match=r"'label-attention' is for several labels per row.*nearest one .* 'linear'"):
        engine.fit(resolve("caml"), corpora[task], encoder, seed=0)


def test_fine_tuning_is_refused(corpora, encoder):
    with pytest.raises(SettingError, match="Choose the engine 'probe'"):
        FinetuneEngine().fit(resolve("caml"), corpora["multilabel"], encoder, seed=0)


def test_pairs_are_read_together(engine, corpora, encoder, tmp_path):
    corpus = corpora["multilabel-pair"]
    model = engine.fit(resolve("caml"), corpus, encoder, seed=0)
    texts, pairs = corpus.inputs("test"), corpus.text_pairs("test")
    assert evaluate_scores(corpus, "test", model.split_scores(corpus, "test")).score("macro_f1") > 0.7
    loaded = load_model(save_model(model, tmp_path / "model"))
    np.testing.assert_array_equal(loaded.logits(texts, pairs), model.logits(texts, pairs))
    states = encode_token_states(encoder, texts[:3], pairs[:3])
    np.testing.assert_array_equal(model.raw_scores(texts[:3], pairs[:3]), label_attention_scores(model.head, states))


def test_the_classifier_takes_it(corpora, encoder, tmp_path):
    corpus = corpora["multilabel"]
    texts, names = list(corpus.inputs("train")), corpus.label_space.names
    labels = [[names[j] for j in row.indices] for row in corpus.label_matrix("train")]
    engine = ProbeEngine(cache=FeatureCache(tmp_path / "cache"), epochs=40, batch_size=16, learning_rate=0.02)
    classifier = MultilabelTextClassifier("caml", encoder=encoder, engine=engine, trials=0)
    classifier.fit(texts, labels)
    assert list(classifier.classes_) == ["bird", "cat", "dog"]
    assert classifier.predict(["cat1 w0", "bird2 w1", "bird0 cat2 w3"]).tolist() == [[0, 1, 0], [1, 0, 0], [1, 1, 0]]
