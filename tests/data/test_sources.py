"""Every kind of source gives the same corpus."""

import gzip
import json
import subprocess
import sys

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tailwise.data import load
from tailwise.errors import DataError

ROWS = [(f'text {i}, "quoted" é', f"class {i % 3}") for i in range(60)]
FRAME = pd.DataFrame(ROWS, columns=["text", "label"])


@pytest.fixture(scope="module")
def reference():
    return load(FRAME)


def write(frame, path):
    name = path.name.removesuffix(".gz")
    if name.endswith(".csv"):
        frame.to_csv(path, index=False)
    elif name.endswith(".tsv"):
        frame.to_csv(path, index=False, sep="\t")
    elif name.endswith(".parquet"):
        frame.to_parquet(path, index=False)
    else:
        frame.to_json(path, orient="records", lines=True)
    return path


FILES = ["x.csv", "x.tsv", "x.jsonl", "x.ndjson", "x.parquet", "x.csv.gz", "x.tsv.gz", "x.jsonl.gz", "X.CSV"]


@pytest.mark.parametrize("name", FILES)
def test_file(tmp_path, reference, name):
    path = write(FRAME, tmp_path / name.lower())
    path = path.rename(tmp_path / name)
    corpus = load(path)
    assert corpus.fingerprint == reference.fingerprint
    assert corpus.texts("test") == reference.texts("test")
    assert corpus.name == name[0]
    assert corpus.source["kind"] == "file"
    assert corpus.source["files"]["all"][0]["name"] == name
    assert len(corpus.source["files"]["all"][0]["sha256"]) == 64
    assert str(tmp_path) not in json.dumps(corpus.source)
    assert load(str(path)).fingerprint == reference.fingerprint


@pytest.mark.parametrize("variant", ["bom", "crlf", "semicolon", "blank lines"])
def test_csv_as_spreadsheets_write_it(tmp_path, reference, variant):
    text = FRAME.to_csv(index=False, sep=";" if variant == "semicolon" else ",")
    if variant == "crlf":
        text = text.replace("\n", "\r\n")
    if variant == "blank lines":
        text = text.replace("\n", "\n\n")
    path = tmp_path / "x.csv"
    path.write_bytes(text.encode("utf-8-sig" if variant == "bom" else "utf-8"))
    assert load(path).fingerprint == reference.fingerprint


def test_plain_tsv_keeps_quotes_that_are_not_around_the_field(tmp_path):
    lines = ["text\tlabel"] + [f'"never mind", she said {i}\t{"ab"[i % 2]}' for i in range(20)] + ['5" disk\ta']
    (tmp_path / "x.tsv").write_text("\n".join(lines))
    corpus = load(tmp_path / "x.tsv")
    texts = [t for s in corpus.splits for t in corpus.texts(s)]
    assert '5" disk' in texts
    assert '"never mind", she said 0' in texts


def test_fields_longer_than_the_csv_modules_own_limit(tmp_path):
    import csv

    before = csv.field_size_limit()
    frame = pd.DataFrame({"text": [f"{i} " + "x" * 200_000 for i in range(20)], "label": list("ab") * 10})
    corpus = load(write(frame, tmp_path / "x.csv"))
    assert max(map(len, corpus.texts("train"))) > 200_000
    assert csv.field_size_limit() == before


def test_data_set_and_data_set_dict(reference):
    whole = datasets.Dataset.from_pandas(FRAME)
    assert load(whole).fingerprint == reference.fingerprint
    shuffled = whole.select(list(range(59, -1, -1)))
    assert load(shuffled.select(list(range(59, -1, -1)))).fingerprint == reference.fingerprint
    parts = datasets.DatasetDict(
        {"train": whole.select(range(40)), "dev": whole.select(range(40, 50)), "test": whole.select(range(50, 60))}
    )
    corpus = load(parts)
    assert [corpus.num_rows(s) for s in ("train", "validation", "test")] == [40, 10, 10]
    assert corpus.ids("validation")[0] == "validation-0"
    assert corpus.source["splits"] == {"origin": "given"}


def test_class_labels_are_decoded_to_names():
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    data = datasets.Dataset.from_dict({"text": [f"t{i}" for i in range(40)], "label": [0, 1] * 20}, features=features)
    corpus = load(data)
    assert corpus.label_space.names == ("neg", "pos")
    assert all(
        (int(t[1:]) % 2) == label for t, label in zip(corpus.texts("train"), corpus.labels("train"), strict=True)
    )


def test_unlabelled_test_split_of_a_public_data_set_is_replaced():
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    train = datasets.Dataset.from_dict({"text": [f"t{i}" for i in range(40)], "label": [0, 1] * 20}, features=features)
    test = datasets.Dataset.from_dict({"text": ["u1", "u2"], "label": [-1, -1]}, features=features)
    lines = []
    corpus = load(
        datasets.DatasetDict({"train": train, "validation": train.select(range(4)), "test": test}), notify=lines.append
    )
    assert any("no row of test has a label" in line for line in lines)
    assert "u1" not in corpus.texts("test")
    assert corpus.num_rows("test") >= 2


def test_other_splits_of_a_data_set_dict_are_left_out_and_told():
    whole = datasets.Dataset.from_pandas(FRAME)
    lines = []
    corpus = load(datasets.DatasetDict({"train": whole, "unsupervised": whole}), notify=lines.append)
    assert any("'unsupervised'" in line and "left out" in line for line in lines)
    assert sum(corpus.num_rows(s) for s in corpus.splits) == 60
    with pytest.raises(DataError, match="a DatasetDict with a train split; found DatasetDict with unsupervised"):
        load(datasets.DatasetDict({"unsupervised": whole}))


def test_stream_is_refused():
    with pytest.raises(DataError, match="A stream must be collected first"):
        load(datasets.Dataset.from_pandas(FRAME).to_iterable_dataset())


def test_folder_of_save_to_disk(tmp_path, reference):
    whole = datasets.Dataset.from_pandas(FRAME)
    whole.save_to_disk(tmp_path / "one")
    corpus = load(tmp_path / "one")
    assert corpus.fingerprint == reference.fingerprint
    assert corpus.source["kind"] == "datasets-folder"
    assert corpus.name == "one"
    datasets.DatasetDict({"train": whole, "test": whole.select(range(9))}).save_to_disk(tmp_path / "many")
    corpus = load(tmp_path / "many")
    assert corpus.num_rows("test") == 9
    assert corpus.num_rows("train") + corpus.num_rows("validation") == 60
    assert {len(f["sha256"]) for files in corpus.source["files"].values() for f in files} == {64}


def test_hub_data_set_is_read_at_a_commit(monkeypatch, reference):
    calls = []

    def load_dataset(name, config, **kwargs):
        calls.append((name, config, kwargs))
        return datasets.DatasetDict({"train": datasets.Dataset.from_pandas(FRAME)})

    class Api:
        def dataset_info(self, name, revision):
            return type("Info", (), {"sha": "c" * 40})

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    lines = []
    corpus = load("owner/small:subset", notify=lines.append)
    assert calls == [("owner/small", "subset", {"revision": "c" * 40})]
    assert corpus.fingerprint == reference.fingerprint
    assert corpus.source["revision"] == "c" * 40
    assert corpus.source["id"] == "owner/small"
    assert corpus.name == "small"
    assert any("pinned to the commit " + "c" * 40 in line for line in lines)
    load("owner/small", revision="d" * 40)
    assert calls[1] == ("owner/small", None, {"revision": "d" * 40})


def test_hub_data_set_that_cannot_be_reached(monkeypatch):
    class Api:
        def dataset_info(self, name, revision):
            raise ConnectionError("no network")

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    with pytest.raises(DataError, match=r"owner/nothing: not a file or folder here.*ConnectionError.*Check the name"):
        load("owner/nothing")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def load_dataset(*args, **kwargs):
        raise FileNotFoundError("not in the cache")

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    with pytest.raises(DataError, match=r"owner/nothing: the hub data set cannot be read at e{40}.*load the folder"):
        load("owner/nothing", revision="e" * 40)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "jsonl.gz", "parquet"])
@pytest.mark.parametrize("validation", ["validation", "dev", "valid"])
def test_folder_with_a_file_per_split(tmp_path, suffix, validation):
    folder = tmp_path / "my data"
    folder.mkdir()
    for name, rows in (("train", FRAME[:40]), (validation, FRAME[40:50]), ("test", FRAME[50:])):
        write(rows, folder / f"{name}.{suffix}")
    corpus = load(folder)
    assert [corpus.num_rows(s) for s in ("train", "validation", "test")] == [40, 10, 10]
    assert corpus.texts("validation") == FRAME.text[40:50].tolist()
    assert corpus.name == "my-data"


def test_folder_with_shards_as_the_hub_lays_them_out(tmp_path):
    (tmp_path / "d" / "data").mkdir(parents=True)
    write(FRAME[:30], tmp_path / "d" / "data" / "train-00000-of-00002.parquet")
    write(FRAME[30:], tmp_path / "d" / "data" / "train-00001-of-00002.parquet")
    corpus = load(tmp_path / "d")
    assert sum(corpus.num_rows(s) for s in corpus.splits) == 60
    assert "all-59" in {i for s in corpus.splits for i in corpus.ids(s)}


def test_error_in_the_second_shard_names_that_file(tmp_path):
    (tmp_path / "d").mkdir()
    write(FRAME[:30], tmp_path / "d" / "train-0-of-2.csv")
    broken = FRAME[30:].copy()
    broken.loc[33, "label"] = None
    write(broken, tmp_path / "d" / "train-1-of-2.csv")
    with pytest.raises(DataError, match=r"train-1-of-2\.csv, line 5\."):
        load(tmp_path / "d")


def test_missing_validation_is_cut_from_train_and_avoids_texts_of_test(tmp_path):
    frame = pd.DataFrame({"text": [f"t{i}" for i in range(100)], "label": list("ab") * 50})
    write(frame, tmp_path / "train.csv")
    write(frame[:30].assign(text=lambda f: f.text.str.upper()), tmp_path / "test.csv")
    lines = []
    corpus = load(tmp_path, notify=lines.append)
    leaked = {t.lower() for t in corpus.texts("test")}
    assert leaked <= set(corpus.texts("train")), "rows of train that occur in test are left to the diagnosis"
    assert not leaked & set(corpus.texts("validation"))
    assert [corpus.num_rows(s) for s in ("train", "validation", "test")] == [92, 8, 30]
    assert corpus.source["splits"]["origin"] == "given; validation is a stratified 10% of train"
    assert any("no validation split given; cut, stratified, with seed 13" in line for line in lines)


def test_source_json_is_read(tmp_path):
    for name in ("one", "two", "three"):
        write(FRAME[:40] if name == "one" else FRAME[40:], tmp_path / f"{name}.csv")
    source = {
        "row_format": "single-label",
        "licence": "CC BY 4.0",
        "catch_all_class": "class 0 (everything else)",
        "files": {"train": "one.csv", "dev": "two.csv", "test": "three.csv"},
    }
    (tmp_path / "SOURCE.json").write_text(json.dumps(source))
    lines = []
    corpus = load(tmp_path, notify=lines.append)
    assert corpus.label_space.catch_all == "class 0"
    assert corpus.source["licence"] == "CC BY 4.0"
    assert lines == []
    assert load(tmp_path, catch_all="class 2").label_space.catch_all == "class 2"


def test_split_column(tmp_path):
    fold = ["train"] * 40 + ["Dev"] * 10 + ["TEST"] * 10
    path = write(FRAME.assign(fold=fold), tmp_path / "x.csv")
    corpus = load(path, split="fold")
    assert [corpus.num_rows(s) for s in ("train", "validation", "test")] == [40, 10, 10]
    assert corpus.texts("test") == FRAME.text[50:].tolist()
    assert corpus.ids("test")[0] == "all-50"
    corpus = load(FRAME.assign(fold=[*["train"] * 50, *["test"] * 10]), split="fold")
    assert corpus.texts("test") == FRAME.text[50:].tolist()


def test_a_column_named_split_is_pointed_out(tmp_path):
    lines = []
    load(FRAME.assign(split="train"), notify=lines.append)
    assert any("there is a column 'split'" in line for line in lines)


def test_ids_are_taken_where_they_are_unique(tmp_path):
    frame = FRAME.assign(id=[f"doc-{i}" for i in range(60)])
    corpus = load(frame)
    assert set(corpus.ids("train")) < set(frame.id)
    by_id = dict(zip(frame.id, frame.text, strict=True))
    assert [by_id[i] for i in corpus.ids("test")] == corpus.texts("test")
    lines = []
    corpus = load(frame.assign(id="same"), notify=lines.append)
    assert all(i.startswith("all-") for i in corpus.ids("train"))
    assert any("id column" in line for line in lines)


def test_ids_name_the_row_of_the_source_even_after_cleaning():
    frame = pd.concat([pd.DataFrame({"text": [" "], "label": ["class 0"]}), FRAME], ignore_index=True)
    corpus = load(frame)
    for name in corpus.splits:
        for i, text in zip(corpus.ids(name), corpus.texts(name), strict=True):
            assert frame.text[int(i.removeprefix("all-"))] == text


NUMBERS = [0, 1, 2] * 20


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (NUMBERS, ("0", "1", "2")),
        ([float(v) for v in NUMBERS], ("0", "1", "2")),
        ([v == 1 for v in NUMBERS], ("false", "true")),
        ([v + 0.5 for v in NUMBERS], ("0.5", "1.5", "2.5")),
        (np.array(NUMBERS, dtype=np.int8), ("0", "1", "2")),
        (pd.Categorical([f"k{v}" for v in NUMBERS]), ("k0", "k1", "k2")),
        (pd.array(NUMBERS, dtype="Int64"), ("0", "1", "2")),
    ],
)
def test_labels_become_strings_alike_in_every_source(tmp_path, values, names):
    frame = FRAME.assign(label=values)
    assert load(frame).label_space.names == names
    assert load(write(frame, tmp_path / "x.parquet")).label_space.names == names
    assert load(write(frame, tmp_path / "x.jsonl")).label_space.names == names
    assert load(datasets.Dataset.from_pandas(frame)).label_space.names == names
    if names[0] != "false":
        assert load(write(frame, tmp_path / "x.csv")).label_space.names == names


def test_white_space_around_labels_is_no_part_of_them(tmp_path):
    frame = FRAME.assign(label=[f" {label}" if i % 2 else f"{label}\t" for i, label in enumerate(FRAME.label)])
    assert load(frame).label_space.names == ("class 0", "class 1", "class 2")


def test_pairs(tmp_path):
    frame = pd.DataFrame(
        {"premise": [f"p{i}" for i in range(40)], "hypothesis": [f"h{i}" for i in range(40)], "label": list("ab") * 20}
    )
    lines = []
    corpus = load(frame, notify=lines.append)
    assert corpus.task.input_form == "pair"
    assert corpus.text_pairs("test") == [t.replace("p", "h") for t in corpus.texts("test")]
    assert "text = 'premise', text_pair = 'hypothesis', label = 'label'" in lines[0]
    single = load(frame, text="premise")
    assert single.task.input_form == "text"
    assert single.text_pairs("test") is None


def test_rows_of_a_pair_without_a_second_text_are_left_out():
    frame = pd.DataFrame(
        {"text": [f"p{i}" for i in range(40)], "text_pair": [None, *map(str, range(39))], "label": list("ab") * 20}
    )
    corpus = load(frame)
    assert sum(corpus.num_rows(s) for s in corpus.splits) == 39


def test_fingerprint_changes_with_a_text_a_label_an_id_and_not_with_the_chunks(tmp_path):
    whole = pa.table({"id": [f"i{n}" for n in range(60)], "text": FRAME.text.tolist(), "label": FRAME.label.tolist()})
    pq.write_table(whole, tmp_path / "one.parquet")
    pq.write_table(whole, tmp_path / "many.parquet", row_group_size=7)
    frame = whole.to_pandas()
    first = load(tmp_path / "one.parquet").fingerprint
    assert first == load(tmp_path / "many.parquet").fingerprint == load(frame).fingerprint
    for column, value in (("id", "other"), ("text", "other"), ("label", "class 2")):
        changed = frame.copy()
        changed.loc[0, column] = value
        assert load(changed).fingerprint != first


def test_columns_of_the_splits():
    corpus = load(FRAME)
    for split in corpus.splits.values():
        assert split.column_names == ["id", "text", "label"]
        assert str(split.features["label"].dtype) == "int64"
    assert corpus.label_space.counts.sum() == corpus.num_rows("train")
    assert np.array_equal(np.bincount(corpus.labels("train")), corpus.label_space.counts)


def test_source_is_plain_data(tmp_path):
    for source in (FRAME, write(FRAME, tmp_path / "x.csv"), datasets.Dataset.from_pandas(FRAME)):
        json.dumps(load(source).source)


def test_import_of_the_room_is_light():
    code = "import tailwise.data, sys; assert not {'torch', 'datasets', 'pandas', 'pyarrow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    code = "import tailwise.data.loading, sys; assert not {'torch', 'datasets', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_gz_is_told_by_name_and_holds_the_same_rows(tmp_path, reference):
    path = tmp_path / "x.csv.gz"
    path.write_bytes(gzip.compress(FRAME.to_csv(index=False).encode()))
    assert load(path).fingerprint == reference.fingerprint
