"""Fine-tuned models on disk: what transformers makes of the folder, and what hostile folders meet."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    BertTokenizer,
    RobertaConfig,
    RobertaForSequenceClassification,
    pipeline,
)

from tailwise.data.labels import LabelSpace
from tailwise.data.task import Task
from tailwise.errors import ModelError
from tailwise.models.final_layer import AffineLayer
from tailwise.models.finetuned import FinetunedModel
from tailwise.models.heads.base import AffineForm
from tailwise.models.saving import folder_kind, load_model, save_model
from tailwise.models.saving_untrusted import sha256_of
from tailwise.posthoc.base import AffineStep

TEXTS = ["how to reset the card", "lost card", "card " * 60, "fee", ""]
PAIRS = ["the second", "how", "fee " * 60, "to", "card"]
WORDS = ["how", "to", "reset", "the", "card", "lost", "fee", "second", "a"]


@pytest.fixture(scope="module")
def tokenizer():
    vocabulary = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
    return BertTokenizer(vocab=vocabulary)


def steps(num_classes):
    rng = np.random.default_rng(3)
    return (
        AffineStep("tau-norm", rng.uniform(0.5, 2.0, num_classes), np.zeros(num_classes), {"tau": 0.5}),
        AffineStep("logit-adjustment", np.ones(num_classes), rng.normal(size=num_classes)),
        AffineStep("temperature", np.full(num_classes, 0.7), np.zeros(num_classes), {"temperature": 1 / 0.7}),
    )


def fine_tuned(tokenizer, *, num_classes=3, cosine=False, architecture="bert", pair=False):
    torch.manual_seed(num_classes)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    sizes |= {"vocab_size": 14, "num_labels": num_classes, "initializer_range": 0.4, "max_position_embeddings": 64}
    if architecture == "bert":
        model = BertForSequenceClassification(BertConfig(**sizes))
    else:
        model = RobertaForSequenceClassification(RobertaConfig(**sizes, pad_token_id=0, type_vocab_size=2))
    if cosine:
        weight = torch.nn.functional.normalize(torch.randn(num_classes, 16)) * 5
        model.classifier = AffineLayer(AffineForm(weight, torch.zeros(num_classes), torch.randn(16), normalise=True))
    names = (*(f"class {i}" for i in range(num_classes - 1)), "z|<b>\n")
    return FinetunedModel(
        model=model,
        tokenizer=tokenizer,
        max_length=20,
        label_space=LabelSpace(names, np.arange(num_classes, 0, -1), catch_all=names[0], unseen=("new",)),
        task=Task("pair" if pair else "text"),
        recipe={"name": "ce", "stages": [{"loss": "ce"}]},
        seed=7,
        engine="finetune",
        steps=steps(num_classes),
        info={"seconds": np.float32(2.5), "log": [{"loss": float("nan")}], "path": Path("a/b")},
    )


def pipeline_probabilities(folder, names, inputs):
    classify = pipeline("text-classification", model=str(folder), top_k=None)
    answers = classify(inputs, truncation=True, batch_size=2)
    scores = [{a["label"]: a["score"] for a in answer} for answer in answers]
    assert all(set(s) == set(names) for s in scores)
    return np.array([[s[name] for name in names] for s in scores])


@pytest.mark.parametrize("num_classes", [2, 3, 9])
@pytest.mark.parametrize("architecture", ["bert", "roberta"])
def test_a_plain_model_gives_the_same_probabilities_in_a_transformers_pipeline(
    tokenizer, tmp_path, num_classes, architecture
):
    model = fine_tuned(tokenizer, num_classes=num_classes, architecture=architecture)
    assert folder_kind(model) == "transformers"
    folder = save_model(model, tmp_path / "model", card="# card")
    found = pipeline_probabilities(folder, model.label_space.names, TEXTS)
    np.testing.assert_allclose(found, model.predict_proba(TEXTS), atol=1e-5)
    assert (folder / "README.md").read_text() == "# card"


def test_pairs_of_texts_give_the_same_probabilities_in_a_transformers_pipeline(tokenizer, tmp_path):
    model = fine_tuned(tokenizer, pair=True)
    folder = save_model(model, tmp_path / "model")
    inputs = [{"text": a, "text_pair": b} for a, b in zip(TEXTS, PAIRS, strict=True)]
    found = pipeline_probabilities(folder, model.label_space.names, inputs)
    np.testing.assert_allclose(found, model.predict_proba(TEXTS, PAIRS), atol=1e-5)
    assert np.abs(found - model.predict_proba(TEXTS)).max() > 1e-3


def test_the_folder_opens_as_a_sequence_classification_model_with_class_names(tokenizer, tmp_path):
    model = fine_tuned(tokenizer)
    folder = save_model(model, tmp_path / "model")
    opened = AutoModelForSequenceClassification.from_pretrained(folder)
    assert opened.config.id2label == dict(enumerate(model.label_space.names))
    assert opened.config.label2id == {name: i for i, name in enumerate(model.label_space.names)}
    assert json.loads((folder / "labels.json").read_text()) == list(model.label_space.names)
    assert model.model.config.id2label[0] == "LABEL_0"  # the model in memory is as it was


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("pair", [False, True])
def test_a_reloaded_model_is_the_saved_one(tokenizer, tmp_path, cosine, pair):
    model = fine_tuned(tokenizer, cosine=cosine, pair=pair)
    loaded = load_model(save_model(model, tmp_path / "model"))
    pairs = PAIRS if pair else None
    np.testing.assert_array_equal(loaded.raw_scores(TEXTS, pairs), model.raw_scores(TEXTS, pairs))
    np.testing.assert_array_equal(loaded.predict_proba(TEXTS, pairs), model.predict_proba(TEXTS, pairs))
    assert [s.to_dict() for s in loaded.steps] == [s.to_dict() for s in model.steps]
    assert loaded.label_space.to_dict() == model.label_space.to_dict()
    assert (loaded.task, loaded.recipe, loaded.seed, loaded.engine) == (model.task, model.recipe, 7, "finetune")
    assert loaded.info == {"seconds": 2.5, "log": [{"loss": None}], "path": "a/b"}
    again = load_model(save_model(loaded, tmp_path / "again"))
    np.testing.assert_array_equal(again.predict_proba(TEXTS, pairs), model.predict_proba(TEXTS, pairs))


def test_a_cosine_model_says_that_only_tailwise_opens_it_and_transformers_does_not(tokenizer, tmp_path):
    model = fine_tuned(tokenizer, cosine=True)
    assert folder_kind(model) == "tailwise"
    folder = save_model(model, tmp_path / "model")
    assert json.loads((folder / "tailwise.json").read_text())["opens_with"] == "tailwise"
    with pytest.raises((OSError, ValueError)):
        pipeline("text-classification", model=str(folder))


def test_saving_twice_writes_the_same_bytes(tokenizer, tmp_path):
    model = fine_tuned(tokenizer)
    first, second = (save_model(model, tmp_path / name) for name in ("one", "two"))
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name


def test_no_file_is_a_pickle(tokenizer, tmp_path):
    for cosine in (False, True):
        folder = save_model(fine_tuned(tokenizer, cosine=cosine), tmp_path / str(cosine))
        suffixes = {p.suffix for p in folder.rglob("*") if p.is_file()}
        assert suffixes <= {".json", ".safetensors", ".txt"}


# Hostile folders ------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tokenizer, tmp_path_factory):
    root = tmp_path_factory.mktemp("saved")
    save_model(fine_tuned(tokenizer), root / "plain")
    save_model(fine_tuned(tokenizer, cosine=True), root / "cosine")
    return root


@pytest.fixture
def folder(saved, tmp_path):
    import shutil

    return Path(shutil.copytree(saved / "plain", tmp_path / "hostile"))


def relist(folder):
    """What an attacker does: list the files as they are now, with their hashes."""
    manifest = json.loads((folder / "tailwise.json").read_text())
    for name in list(manifest["files"]):
        path = folder / name
        if path.exists():
            manifest["files"][name] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    (folder / "tailwise.json").write_text(json.dumps(manifest))


def change(folder, name="tailwise.json", **changes):
    data = json.loads((folder / name).read_text())
    for dotted, value in changes.items():
        *parents, last = dotted.split("__")
        target = data
        for key in parents:
            target = target[int(key) if isinstance(target, list) else key]
        if value is ...:
            del target[last]
        else:
            target[last] = value
    (folder / name).write_text(json.dumps(data))
    if name != "tailwise.json":
        relist(folder)


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_pickle_is_never_opened_and_where_it_is_all_there_is_the_error_says_why(folder, tmp_path):
    exploded = tmp_path / "exploded"
    for name in ("pytorch_model.bin", "head.pkl", "training_args.bin"):
        (folder / name).write_bytes(pickle.dumps(Bomb(exploded)))
    load_model(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"there is only .*pytorch_model.bin.*can run code.*as safetensors"):
        load_model(folder)
    change(folder, files={"pytorch_model.bin": {"bytes": 1, "sha256": ""}})
    with pytest.raises(ModelError, match=r"'pytorch_model\.bin' is a pickle file"):
        load_model(folder)
    change(folder, files={})
    with pytest.raises(ModelError, match=r"there is only|missing from the list|not part of the model"):
        load_model(folder)
    assert not exploded.exists()


def test_a_missing_folder_or_manifest_is_named(tmp_path):
    with pytest.raises(ModelError, match="There is no folder"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(ModelError, match=r"not a tailwise model: it has no tailwise.json"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "key `format`"),
        ({"format_version": 2}, "2 is newer than this tailwise reads; upgrade"),
        ({"format_version": "1"}, "key `format_version`: expected a int, but found a str"),
        ({"engine": ...}, "key `engine`: missing"),
        ({"engine": "os.system"}, "engine 'os.system'"),
        ({"opens_with": "pickle"}, "key `opens_with`: expected one of"),
        ({"seed": "0"}, "key `seed`"),
        ({"recipe": []}, "key `recipe`"),
        ({"info": None}, "key `info`"),
        ({"task__input_form": "image"}, "key `task.input_form`"),
        ({"label_space__names": ["a", "a", "b"]}, "key `label_space.names`"),
        ({"label_space__names": ["a", 1, "b"]}, r"key `label_space.names\[1\]`: expected a str"),
        ({"label_space__names": ["only"]}, "two or more"),
        ({"label_space__counts": [1, 2]}, "key `label_space`"),
        ({"label_space__counts": [1, 2, -3]}, "key `label_space.counts`"),
        ({"label_space__counts": [1, 2, 10**30]}, "key `label_space.counts`"),
        ({"label_space__catch_all": "nobody"}, "key `label_space`"),
        ({"steps": {}}, "key `steps`"),
        ({"steps__0__scale": [1.0, 2.0]}, r"key `steps\[0\].scale`: expected one number per class, 3, but found 2"),
        ({"steps__0__bias": ["x", 1.0, 1.0]}, r"key `steps\[0\].bias\[0\]`"),
        ({"steps__0__details": ...}, r"key `steps\[0\].details`: missing"),
        ({"model__layer": ...}, "key `model.layer`: missing"),
        ({"model__layer": "__class__"}, "is not the final layer"),
        ({"model__max_length": 10**12}, "key `model.max_length`: expected 1 to 1,000,000"),
        ({"model__centred": 1}, "key `model.centred`"),
        ({"files": []}, "key `files`"),
        ({"files": {"../../x.json": {"bytes": 1, "sha256": ""}}}, "not a plain file name inside"),
        ({"files": {"/etc/passwd": {"bytes": 1, "sha256": ""}}}, "not a plain file name inside"),
    ],
)
def test_a_wrong_manifest_is_refused_with_file_and_key(folder, changes, message):
    change(folder, **changes)
    with pytest.raises(ModelError, match=message) as caught:
        load_model(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("content", [b"[]", b"3", b"{", b"\xff", b"[" * 100_000, b'{"seed": NaN}'])
def test_a_manifest_that_is_no_mapping_is_refused(folder, content):
    (folder / "tailwise.json").write_bytes(content)
    with pytest.raises(ModelError, match=r"tailwise\.json"):
        load_model(folder)


def test_fewer_classes_than_the_weights_have_are_refused(folder):
    change(folder, label_space__names=["a", "b"], label_space__counts=[3, 2], label_space__catch_all=None, steps=[])
    with pytest.raises(ModelError, match="2"):
        load_model(folder)


def test_changed_weights_are_noticed_by_size_and_by_hash(folder):
    path = folder / "model.safetensors"
    original = path.read_bytes()
    path.write_bytes(original[:-4])
    with pytest.raises(ModelError, match=r"expected \d+ bytes, but found \d+"):
        load_model(folder)
    path.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
    with pytest.raises(ModelError, match="sha256 differs"):
        load_model(folder)


def test_a_giant_safetensors_header_is_refused_before_it_is_read(folder):
    (folder / "head.safetensors").write_bytes((10**15).to_bytes(8, "little") + b"{}")
    relist(folder)
    with pytest.raises(ModelError, match="announces a header of 1000000000000000 bytes"):
        load_model(folder)


def test_a_head_that_disagrees_with_the_folded_model_is_refused(folder):
    tensors = load_file(folder / "head.safetensors")
    tensors["bias"] += 0.1
    save_file(tensors, folder / "head.safetensors")
    relist(folder)
    with pytest.raises(ModelError, match="would disagree about predictions"):
        load_model(folder)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("config.json", {"auto_map": {"AutoModelForSequenceClassification": "evil.Model"}}, "'auto_map' asks for code"),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.T", None]}}, "'auto_map' asks for code"),
        ("tokenizer_config.json", {"tokenizer_file": "/etc/passwd"}, "names a file outside"),
        ("config.json", {"num_hidden_layers": 10**8}, "key `num_hidden_layers`: expected at most"),
        ("config.json", {"hidden_size": 2**40}, "key `hidden_size`: expected at most"),
        ("config.json", {"vocab_size": 10**9}, "describes a model of"),
        ("config.json", {"intermediate_size": 10**6}, "describes a model of"),
        ("config.json", {"hidden_size": 15}, "transformers cannot open it"),
        ("config.json", {"vocab_size": 13}, "transformers cannot open it"),
        ("config.json", {"model_type": "no-such-model"}, "transformers cannot open it"),
        ("config.json", {"model_type": ...}, "transformers cannot open it"),
        ("config.json", {"num_hidden_layers": 1}, "not a part of the model"),
        ("config.json", {"num_hidden_layers": 3}, "is missing"),
    ],
)
def test_hostile_or_wrong_settings_of_transformers_are_refused(folder, name, changes, message):
    change(folder, name, **changes)
    with pytest.raises(ModelError, match=message):
        load_model(folder)


@pytest.mark.parametrize("name", ["adapter_config.json", "modeling_evil.py", "extra.safetensors", "spiece.model"])
def test_a_file_that_other_libraries_would_read_unasked_is_refused(folder, name):
    (folder / name).write_text("{}")
    with pytest.raises(ModelError, match="not part of the model"):
        load_model(folder)


def test_a_file_that_transformers_would_read_in_the_backbone_is_refused(saved, tmp_path):
    import shutil

    folder = Path(shutil.copytree(saved / "cosine", tmp_path / "hostile"))
    load_model(folder)
    (folder / "backbone" / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/else"}')
    with pytest.raises(ModelError, match=r"adapter_config\.json: the file is not part of the model"):
        load_model(folder)


def test_class_names_that_look_like_settings_do_no_harm(tokenizer, tmp_path):
    names = [f"a{i:03}" for i in range(400)] + ["auto_map", "num_hidden_layers", "trust_remote_code", "vocab_file"]
    model = fine_tuned(tokenizer, num_classes=len(names))
    model.label_space = LabelSpace(tuple(names), np.ones(len(names)))
    assert load_model(save_model(model, tmp_path / "model")).label_space.names == tuple(names)


def test_other_files_beside_the_model_do_no_harm(folder):
    for name in ("README.md", "notes.rst", ".gitattributes", "figure.png"):
        (folder / name).write_text("x")
    (folder / "onnx").mkdir()
    load_model(folder)


def test_weights_linked_from_outside_are_refused(folder, tmp_path):
    outside = tmp_path / "outside.safetensors"
    (folder / "model.safetensors").rename(outside)
    (folder / "model.safetensors").symlink_to(outside)
    with pytest.raises(ModelError, match="outside the model folder"):
        load_model(folder)


# Writing ------------------------------------------------------------


def test_a_failed_save_leaves_the_old_model_and_nothing_else(tokenizer, tmp_path, monkeypatch):
    model = fine_tuned(tokenizer)
    folder = save_model(model, tmp_path / "model")
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    monkeypatch.setattr("tailwise.models.saving_manifest.sha256_of", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_model(model, folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_an_older_model_is_replaced_and_a_strange_folder_is_not(tokenizer, tmp_path):
    folder = save_model(fine_tuned(tokenizer, cosine=True), tmp_path / "model")
    save_model(fine_tuned(tokenizer), folder)
    assert not (folder / "backbone").exists()
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(ModelError, match=r"holds thesis.txt, which no tailwise model wrote.*overwrite=True"):
        save_model(fine_tuned(tokenizer), folder)
    assert (folder / "thesis.txt").read_text() == "years of work"
    save_model(fine_tuned(tokenizer), folder, overwrite=True)
    assert not (folder / "thesis.txt").exists()


def test_the_working_directory_is_never_replaced(tokenizer, tmp_path, monkeypatch):
    (tmp_path / "x").mkdir()
    monkeypatch.chdir(tmp_path / "x")
    for target in (tmp_path, tmp_path / "x"):
        with pytest.raises(ModelError, match="contains the working directory"):
            save_model(fine_tuned(tokenizer), target, overwrite=True)


def test_a_file_or_link_is_never_replaced(tokenizer, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("file", "link"):
        with pytest.raises(ModelError, match="is a file or a link"):
            save_model(fine_tuned(tokenizer), tmp_path / name, overwrite=True)


def test_a_step_that_is_not_finite_is_not_saved(tokenizer, tmp_path):
    model = fine_tuned(tokenizer)
    model.steps = (AffineStep("broken", np.array([1.0, np.inf, 1.0]), np.zeros(3)),)
    with pytest.raises(ModelError, match="'broken' has numbers that are not finite"):
        save_model(model, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
