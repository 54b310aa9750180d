"""Hostile input: nothing outside the folder is read, memory stays bounded, no code is run."""

import gzip
import json
import resource
import subprocess
import sys
import textwrap

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tailwise.data import lines, load, tables
from tailwise.errors import DataError

CSV = "text,label\n" + "".join(f"secret {i},{'ab'[i % 2]}\n" for i in range(40))


@pytest.fixture
def outside(tmp_path):
    path = tmp_path / "outside.csv"
    path.write_text(CSV)
    return path


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


def test_link_out_of_the_folder(folder, outside):
    (folder / "train.csv").symlink_to(outside)
    with pytest.raises(DataError, match=r"train\.csv: leads out of the folder .* copy the file there"):
        load(folder)


def test_link_of_the_test_split_out_of_the_folder(folder, outside):
    (folder / "train.csv").write_text(CSV)
    (folder / "test.csv").symlink_to(outside)
    with pytest.raises(DataError, match=r"test\.csv: leads out of the folder"):
        load(folder)


def test_linked_subfolder(folder, outside, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "train.csv").write_text(CSV)
    (folder / "data").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="leads out of the folder"):
        load(folder)


def test_link_within_the_folder_and_link_to_the_folder_are_fine(folder, tmp_path):
    (folder / "whole.txt").write_text(CSV)
    (folder / "train.csv").symlink_to("whole.txt")
    (tmp_path / "alias").symlink_to(folder)
    assert load(tmp_path / "alias").fingerprint == load(folder).fingerprint


def test_link_loop(folder):
    (folder / "train.csv").symlink_to("train.csv")
    with pytest.raises(DataError, match=r"train\.csv: no such file"):
        load(folder)


@pytest.mark.parametrize("name", ["../outside.csv", "{absolute}", "sub/../../outside.csv"])
def test_source_json_that_names_a_file_outside(folder, outside, name):
    (folder / "sub").mkdir()
    stated = {"files": {"train": name.format(absolute=outside)}}
    (folder / "SOURCE.json").write_text(json.dumps(stated))
    with pytest.raises(DataError, match="leads out of the folder"):
        load(folder)


def test_source_json_that_is_a_link_or_huge(folder, tmp_path):
    (folder / "train.csv").write_text(CSV)
    (tmp_path / "other.json").write_text("{}")
    (folder / "SOURCE.json").symlink_to(tmp_path / "other.json")
    with pytest.raises(DataError, match=r"SOURCE\.json: leads out of the folder"):
        load(folder)
    (folder / "SOURCE.json").unlink()
    (folder / "SOURCE.json").write_bytes(b" " * (17 * 2**20))
    with pytest.raises(DataError, match="expected at most 16,777,216"):
        load(folder)


@pytest.mark.parametrize("escape", ["../../outside/data-00000-of-00001.arrow", "link.arrow"])
def test_saved_folder_whose_state_names_a_file_outside(tmp_path, escape):
    data = datasets.Dataset.from_dict({"text": [f"t{i}" for i in range(40)], "label": ["a", "b"] * 20})
    data.save_to_disk(tmp_path / "outside")
    data.save_to_disk(tmp_path / "deep" / "folder")
    state_path = tmp_path / "deep" / "folder" / "state.json"
    state = json.loads(state_path.read_text())
    (tmp_path / "deep" / "folder" / "link.arrow").symlink_to(tmp_path / "outside" / "data-00000-of-00001.arrow")
    state["_data_files"] = [{"filename": escape}]
    state_path.write_text(json.dumps(state))
    with pytest.raises(DataError, match="leads out of the folder"):
        load(tmp_path / "deep" / "folder")


def test_saved_dictionary_whose_index_names_a_split_outside(tmp_path):
    data = datasets.Dataset.from_dict({"text": ["t"], "label": ["a"]})
    datasets.DatasetDict({"train": data}).save_to_disk(tmp_path / "folder")
    data.save_to_disk(tmp_path / "outside")
    (tmp_path / "folder" / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "../outside"]}))
    with pytest.raises(DataError, match="leads out of the folder"):
        load(tmp_path / "folder")


def test_saved_folder_with_broken_state(tmp_path):
    data = datasets.Dataset.from_dict({"text": ["t"], "label": ["a"]})
    data.save_to_disk(tmp_path / "folder")
    (tmp_path / "folder" / "state.json").write_text("{}")
    with pytest.raises(DataError, match=r"state\.json: expected _data_files"):
        load(tmp_path / "folder")


def test_folder_with_a_builder_script_runs_no_code(folder, tmp_path):
    (folder / "folder.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    (folder / "train.csv").write_text(CSV)
    load(folder)
    assert not (tmp_path / "ran").exists()


def test_device_file_is_refused():
    with pytest.raises(DataError, match="not a regular file"):
        load("/dev/zero")


def test_name_below_tailwise_data_cannot_climb_out(monkeypatch, folder, tmp_path):
    (tmp_path / "train.csv").write_text(CSV)
    monkeypatch.setenv("TAILWISE_DATA", str(folder))
    (folder / "empty").mkdir()
    monkeypatch.chdir(folder / "empty")
    with pytest.raises(DataError, match="no file for train"):
        load("..")
    with pytest.raises(DataError, match="no such file or folder"):
        load("../../../folder/other")


def test_gzip_bomb_of_many_lines(monkeypatch, tmp_path):
    monkeypatch.setattr(lines, "FREE_BYTES", 2**20)
    path = tmp_path / "x.csv.gz"
    path.write_bytes(gzip.compress(b"text,label\n" + b"aaaaaaaa,b\n" * 500_000))
    with pytest.raises(DataError, match=r"x\.csv\.gz: [\d,]+ bytes on disk unpack to more than .* decompression bomb"):
        load(path)


def test_parquet_bomb_of_one_repeated_text(monkeypatch, tmp_path):
    monkeypatch.setattr(lines, "FREE_BYTES", 2**20)
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 50_000, pa.int32()), pa.array(["x" * 900_000]))
    table = pa.table({"text": texts, "label": ["a", "b"] * 25_000})
    pq.write_table(table, tmp_path / "x.parquet")
    decoded = []
    monkeypatch.setattr(tables, "_as_strings", lambda *a: decoded.append(a))
    with pytest.raises(DataError, match="decompression bomb"):
        load(tmp_path / "x.parquet")
    assert decoded == []


@pytest.mark.parametrize("content", ["blank lines", "one line"])
def test_gzip_bomb_stays_in_bounded_memory(tmp_path, content):
    path = tmp_path / "x.jsonl.gz"
    block = (b" " * 1023 + b"\n") * 1024 if content == "blank lines" else b"a" * 2**20
    with gzip.open(path, "wb", compresslevel=6) as handle:
        for _ in range(200):
            handle.write(block)
    code = f"""
        import resource
        import tailwise.data.loading
        from tailwise.data import load
        from tailwise.errors import DataError
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            load({str(path)!r})
        except DataError as error:
            print(error)
        print("MiB", (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
    """
    limit = 4 * 2**30
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    message, used = done.stdout.rsplit("MiB", 1)
    assert "decompression bomb" in message if content == "blank lines" else "longer than 16,777,216 bytes" in message
    assert float(used) < 150
