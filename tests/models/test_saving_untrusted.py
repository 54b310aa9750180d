"""What a hostile or damaged file meets before any of it is used."""

import json
import struct

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from tailwise.errors import ModelError
from tailwise.models.saving_untrusted import (
    check_name,
    check_settings,
    inside,
    load_tensors,
    read_json,
    safetensors_shapes,
)


def safetensors_bytes(header, data=b""):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def entry(shape=(2,), begin=0, end=8, dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def test_shapes_of_a_good_file_are_those_of_its_tensors(tmp_path):
    path = tmp_path / "model.safetensors"
    tensors = {
        "a": torch.arange(6.0).reshape(2, 3),
        "b": torch.zeros(4, dtype=torch.bfloat16),
        "none": torch.zeros(0, 5),
    }
    path.write_bytes(save(tensors, metadata={"format": "pt"}))
    assert safetensors_shapes(path) == {"a": (2, 3), "b": (4,), "none": (0, 5)}
    loaded = load_tensors(path, {"a": (2, 3), "b": (4,), "none": (0, 5)})
    assert torch.equal(loaded["a"], tensors["a"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "announces a header of 0 bytes"),
        (b"\x02\0\0\0", "announces a header"),
        (struct.pack("<Q", 2**63) + b"{}", f"announces a header of {2**63} bytes, but the file has 10 bytes"),
        (struct.pack("<Q", 10**12) + b"{}", "announces a header of 1000000000000 bytes"),
        (safetensors_bytes(b"not json"), "header is not valid JSON"),
        (safetensors_bytes(b"[" * 100_000), "header is not valid JSON"),
        (safetensors_bytes(b"[1]"), "header is a list, not a mapping"),
        (safetensors_bytes({"w": entry(begin=0, end=800)}, bytes(8)), "claims bytes 0 to 800, but the file holds 8"),
        (safetensors_bytes({"w": entry(begin=8, end=0)}, bytes(8)), "claims bytes 8 to 0"),
        (safetensors_bytes({"w": entry(shape=(2**40, 2**40))}, bytes(8)), "does not fit its 8 bytes"),
        (safetensors_bytes({"w": entry(shape=(-2,))}, bytes(8)), "no valid shape and offsets"),
        (safetensors_bytes({"w": entry(shape=(2.0,))}, bytes(8)), "no valid shape and offsets"),
        (safetensors_bytes({"w": entry(dtype="PICKLE")}, bytes(8)), "has no known type"),
        (safetensors_bytes({"w": 3}, bytes(8)), "has no known type"),
        (safetensors_bytes({"w": entry()}, bytes(9)), "do not fill the 9 bytes"),
    ],
)
def test_a_broken_safetensors_file_is_refused_by_its_header(tmp_path, content, message):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        safetensors_shapes(path)
    assert str(path) in str(caught.value)


def test_a_header_over_100_megabytes_is_not_read(tmp_path):
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 200_000_000))
        file.truncate(400_000_000)  # sparse: costs no disk
    with pytest.raises(ModelError, match="a header has at most 100000000"):
        safetensors_shapes(path)


@given(st.binary(max_size=200))
def test_random_bytes_never_raise_anything_but_a_model_error(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("random") / "model.safetensors"
    for attempt in (content, struct.pack("<Q", len(content)) + content):
        path.write_bytes(attempt)
        try:
            load_tensors(path)
        except ModelError:
            continue


def test_overlapping_tensors_are_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors_bytes({"a": entry(), "b": entry()}, bytes(16)))
    with pytest.raises(ModelError, match="not a usable safetensors file"):
        load_tensors(path)


def test_weights_of_another_shape_are_refused_with_both_shapes(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(save({"weight": torch.zeros(3, 4)}))
    with pytest.raises(ModelError, match=r"expected the tensor 'weight' with shape \(5, 4\), but found \(3, 4\)"):
        load_tensors(path, {"weight": (5, 4)})
    with pytest.raises(ModelError, match=r"'bias' with shape \(3,\), but found absent"):
        load_tensors(path, {"weight": (3, 4), "bias": (3,)})


@pytest.mark.parametrize("name", ["config.json", "1_Pooling/config.json", "sentencepiece.bpe.model", "merges.txt"])
def test_plain_names_pass(name):
    assert check_name(name, "here") == name


@pytest.mark.parametrize(
    "name",
    [
        "../config.json",
        "a/../../config.json",
        "/etc/passwd.json",
        "..",
        "a\\b.json",
        "C:\\x.json",
        "c:x.json",
        ".hidden.json",
        "a//b.json",
        "a/b/c.json",
        "a\nb.json",
        "a\0.json",
        "",
        "~/x.json",
        "é.json",
        f"{'x' * 500}.json",
    ],
)
def test_names_that_could_lead_elsewhere_are_refused(name):
    with pytest.raises(ModelError, match="not a plain file name inside the model folder"):
        check_name(name, "tailwise.json")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "head.pkl", "a.pt", "a.CKPT", "x/a.joblib", "a.npy", "a.pth"])
def test_pickle_names_are_refused_with_the_reason(name):
    with pytest.raises(ModelError, match="pickle file, which can run code when opened"):
        check_name(name, "tailwise.json")


@pytest.mark.parametrize(
    "name", ["setup.py", "adapter_config.json", "model.safetensors.index.json", "run.sh", "lib.so", 3]
)
def test_files_that_no_model_consists_of_are_refused(name):
    with pytest.raises(ModelError, match=r"not a file that a tailwise model|expected a file name"):
        check_name(name, "tailwise.json")


def test_a_link_out_of_the_folder_is_refused_and_one_inside_is_not(tmp_path):
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "real.json").write_text("{}")
    (folder / "good.json").symlink_to(folder / "real.json")
    (folder / "bad.json").symlink_to(secret)
    (folder / "up").symlink_to(tmp_path)
    (folder / "directory.json").mkdir()
    assert inside(folder, "good.json") == folder / "good.json"
    for name in ("bad.json", "up/secret.json"):
        with pytest.raises(ModelError, match="outside the model folder"):
            inside(folder, name)
    with pytest.raises(ModelError, match="expected a file"):
        inside(folder, "directory.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": -Infinity}', "-Infinity is not a JSON number"),
        (b"\xff\xfe\x00", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (b"[" * 200 + b"]" * 200, "more than 64 levels deep"),
        (b"[" * 500_000 + b"]" * 500_000, "more than 64 levels deep"),
        (b'{"a": "' + b"x" * 2000 + b'"}', "at most 1000 are expected"),
    ],
)
def test_json_is_bounded_and_strict(tmp_path, content, message):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    limit = 1000 if "1000" in message else 64 * 2**20
    with pytest.raises(ModelError, match=message) as caught:
        read_json(path, max_bytes=limit)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"auto_map": {"AutoModel": "evil.Model"}}, "'auto_map' asks for code"),
        ({"nested": [{"auto_map": {"AutoTokenizer": ["x", "y"]}}]}, "'auto_map' asks for code"),
        ({"trust_remote_code": True}, "'trust_remote_code' asks for code"),
        ({"_attn_implementation": "someone/kernel"}, "'_attn_implementation' asks for a kernel"),
        ({"tokenizer_file": "/etc/passwd"}, "'tokenizer_file' names a file outside"),
        ({"vocab_file": "../../vocab.txt"}, "'vocab_file' names a file outside"),
    ],
)
def test_settings_that_fetch_or_run_code_are_refused(tmp_path, settings, message):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(settings))
    with pytest.raises(ModelError, match=message):
        check_settings(path)


def test_ordinary_settings_pass(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(
        json.dumps(
            {
                "hidden_size": 8,
                "vocab_file": "vocab.txt",
                "tokenizer_file": None,
                "auto_map": {},
                "label2id": {"auto_map": 3, "trust_remote_code": 1},
            }
        )
    )
    check_settings(path)


def test_a_scalar_has_an_empty_shape(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors_bytes({"w": entry(shape=(), end=4)}, np.float32(2).tobytes()))
    assert safetensors_shapes(path) == {"w": ()}
    assert load_tensors(path)["w"].item() == 2.0
