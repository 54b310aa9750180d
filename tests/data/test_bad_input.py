"""Bad input: every message names the file, the line and the remedy, and nothing is written."""

import gzip
import io
import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tailwise.data import load
from tailwise.errors import DataError, SettingError, TailwiseError, UnknownNameError

GOOD = "".join(f"text number {i},{'ab'[i % 2]}\n" for i in range(40))


@pytest.fixture
def write(tmp_path):
    """Write a file; at the end check that `load` left nothing else behind."""
    written = set()

    def to(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        written.add(path)
        return path

    yield to
    assert {p for p in tmp_path.rglob("*") if p.is_file()} == written


def refused(source, *expected, error=DataError, **kwargs):
    with pytest.raises(error) as caught:
        load(source, **kwargs)
    message = str(caught.value)
    for piece in expected:
        assert piece in message, message
    assert isinstance(caught.value, TailwiseError)
    return message


def test_missing_file_names_the_near_one(write, tmp_path):
    write("reviews.csv", "text,label\n" + GOOD)
    refused(tmp_path / "revews.csv", "revews.csv: no such file or folder", "Did you mean 'reviews.csv'?")
    refused(str(tmp_path / "nowhere" / "x.csv"), "no such file or folder")


@pytest.mark.parametrize("name", ["empty.csv", "empty.tsv", "empty.jsonl", "empty.parquet", "empty.jsonl.gz"])
def test_file_of_zero_bytes(write, name):
    refused(write(name, b""), name, "the file is empty (0 bytes)")


def test_file_with_a_header_only_or_white_space_only(write):
    refused(write("head.csv", "text,label\n"), "head.csv: the file is empty: a header and 0 rows")
    refused(write("blank.csv", "\n\n"), "blank.csv: the file is empty", "header line")
    refused(write("blank.jsonl", "\n  \n"), "blank.jsonl: the file is empty", "one JSON object per line")
    refused(write("packed.csv.gz", gzip.compress(b"")), "packed.csv.gz: the file is empty")
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": pa.array([], pa.string()), "label": pa.array([], pa.string())}), sink)
    refused(write("none.parquet", sink.getvalue()), "none.parquet: the file is empty: 2 columns, 0 rows")


def test_unknown_kind_of_file(write):
    refused(write("data.xlsx", b"PK"), "data.xlsx: not a kind of file", "CSV (.csv)", "Parquet")


def test_no_such_column(write):
    path = write("x.csv", "text,intent\n" + GOOD)
    refused(path, "x.csv: no column 'intnt'", "'text', 'intent'", "Did you mean 'intent'?", label="intnt")
    refused(path, "no column 'sentence'", text="sentence")
    refused(path, "no column 'fold'", split="fold")


def test_column_missing_in_the_test_file_of_a_folder(write, tmp_path):
    write("d/train.csv", "text,label\n" + GOOD)
    write("d/test.csv", "text,lable\n" + GOOD)
    refused(tmp_path / "d", "test.csv: no column 'label' (label)", "Did you mean 'lable'?")


def test_column_that_cannot_be_guessed(write):
    path = write("x.csv", "review,body,label\n" + "".join(f"a{i},b{i},{i % 2}\n" for i in range(20)))
    refused(path, "which column is the text?", "'review', 'body'", "text=...")
    path = write("y.csv", "text,intent,topic\n" + "".join(f"a{i},b{i},{i % 2}\n" for i in range(20)))
    refused(path, "which column is the label?", "'intent', 'topic'", "label=...")


def test_one_column_for_two_roles(write):
    path = write("x.csv", "text,label\n" + GOOD)
    refused(path, "cannot be both text and label", text="label", label="label")


def test_one_class_only(write):
    path = write("x.csv", "text,label\n" + "".join(f"t{i},same\n" for i in range(20)))
    refused(path, "x.csv: every row of train has the label 'same'", "at least 2 classes")


def test_missing_labels_list_their_lines(write):
    rows = ["text,label"] + [f"t{i},{'' if i in (1, 5) else 'ab'[i % 2]}" for i in range(30)]
    path = write("x.csv", "\n".join(rows))
    refused(path, "the label is missing in 2 of 30 rows", "x.csv, line 3, 7", "Fill in")


def test_missing_labels_list_at_most_ten_lines(write):
    path = write("x.csv", "text,label\n" + "".join(f"t{i},{'' if i < 15 else 'ab'[i % 2]}\n" for i in range(40)))
    refused(path, "missing in 15 of 40 rows", "line 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 5 more")


@pytest.mark.parametrize("missing", ["null", "NaN", '""', '"  "'])
def test_missing_labels_in_json(write, missing):
    rows = [f'{{"text": "t{i}", "label": {missing if i == 3 else i % 2}}}' for i in range(20)]
    refused(write("x.jsonl", "\n".join(rows)), "missing in 1 of 20 rows", "line 4")


def test_nan_among_numbers_is_a_missing_label(write):
    path = write("x.csv", "text,label\n" + "".join(f"t{i},{'nan' if i == 7 else f'{i % 2}.0'}\n" for i in range(20)))
    refused(path, "the label is missing in 1 of 20 rows", "line 9")


def test_nan_among_words_is_a_class(write):
    path = write("x.csv", "text,label\n" + "".join(f"t{i},{['nan', 'deu'][i % 2]}\n" for i in range(20)))
    assert load(path).label_space.names == ("deu", "nan")


def test_missing_labels_in_a_frame():
    frame = pd.DataFrame(
        {"text": [f"t{i}" for i in range(20)], "label": [None if i == 4 else i % 2 for i in range(20)]}
    )
    refused(frame, "DataFrame: the label is missing in 1 of 20 rows", "row (from 0) 4")


def test_bytes_that_are_not_utf8(write):
    head = "text,label\ngood,a\n"
    path = write("x.csv", head.encode() + "caf\u00e9,b\n".encode("latin-1") + GOOD.encode())
    message = refused(path, "x.csv:3: not UTF-8 at byte 21.", "iconv -f WINDOWS-1252 -t UTF-8")
    assert path.read_bytes()[21] == 0xE9
    assert str(path) in message
    packed = write("y.csv.gz", gzip.compress(path.read_bytes()))
    refused(packed, "y.csv.gz:3: not UTF-8 at byte 21 (unpacked)", "zcat")


def test_utf16(write):
    refused(write("x.csv", ("text,label\n" + GOOD).encode("utf-16")), "x.csv:1: not UTF-8", "iconv -f UTF-16")


def test_nul_bytes(write):
    refused(write("x.csv", "text,label\n" + GOOD + "a\0b,a\n"), "x.csv:42: NUL byte", "tr -d '\\000'")
    rows = [f'{{"text": "t{i}", "label": "{i % 2}"}}' for i in range(20)]
    rows[4] = '{"text": "a\\u0000b", "label": "1"}'
    refused(write("x.jsonl", "\n".join(rows)), "x.jsonl:5: the text holds a NUL character")
    frame = pd.DataFrame({"text": ["a\0", *"bcdefgh"], "label": list("xyxyxyxy")})
    refused(frame, "DataFrame, row 0 (from 0): the text holds a NUL character")


def test_lone_surrogate(write):
    rows = [f'{{"text": "t{i}", "label": "{i % 2}"}}' for i in range(20)]
    rows[2] = '{"text": "a\\ud800b", "label": "1"}'
    refused(write("x.jsonl", "\n".join(rows)), "x.jsonl:3: the text holds a lone surrogate")


def test_unequal_rows(write):
    path = write("x.csv", 'text,label\n"two\nlines",a\n' + GOOD + "one, two,b\n")
    refused(path, "x.csv:44: expected 2 fields (text, label), found 3", "double quotes")
    path = write("x.tsv", "text\tlabel\nfine\ta\nbroken\n")
    refused(path, "x.tsv:3: expected 2 fields (text, label), found 1", "TSV")


def test_broken_quoting_names_the_line_where_the_row_starts(write):
    path = write("x.csv", "text,label\n" + GOOD + '"never closed,a\n' + GOOD)
    refused(path, "x.csv:42: broken CSV in the row that starts here", "double quotes")
    path = write("y.csv", 'text,label\n"closed" early,a\n' + GOOD)
    refused(path, "y.csv:2: broken CSV")


def test_duplicate_column_names(write):
    refused(write("x.csv", "text,label,text\na,b,c\n"), "x.csv: duplicate column names 'text'", "Rename")
    refused(
        write("x.jsonl", '{"text": "a", "label": "b", "text": "c"}\n'), "x.jsonl:1", "duplicate column names", "'text'"
    )
    frame = pd.DataFrame([["a", "b", "c"]], columns=["text", "label", "label"])
    refused(frame, "DataFrame: duplicate column names 'label'")


@pytest.fixture
def with_surprise(write, tmp_path):
    write("d/train.csv", "text,label\n" + GOOD)
    write("d/test.csv", "text,label\nx,a\ny,zeta\nz,b\nw,zeta\n")
    return tmp_path / "d"


def test_class_only_in_test(with_surprise):
    refused(
        with_surprise,
        "test.csv:3: the class 'zeta' occurs in test but not in train",
        "2 rows of 1 such classes",
        "unseen='keep'",
        "unseen='drop'",
    )


def test_class_only_in_test_kept(with_surprise):
    lines = []
    corpus = load(with_surprise, unseen="keep", notify=lines.append)
    assert corpus.label_space.unseen == ("zeta",)
    assert corpus.labels("test").tolist() == [0, 2, 1, 2]
    assert any("'zeta'" in line and "never be predicted" in line for line in lines)


def test_class_only_in_test_dropped(with_surprise):
    corpus = load(with_surprise, unseen="drop")
    assert corpus.label_space.unseen == ()
    assert corpus.texts("test") == ["x", "z"]
    assert corpus.source["cleaning"]["rows_of_unseen_classes"] == {"test": 2}


def test_class_only_in_test_that_the_source_declares(with_surprise, write):
    write("d/SOURCE.json", json.dumps({"row_format": "single-label", "classes_missing_in_train": ["zeta"]}))
    assert load(with_surprise).label_space.unseen == ("zeta",)
    write("d/SOURCE.json", json.dumps({"classes_missing_in_train": ["other"]}))
    refused(with_surprise, "'zeta'")


def test_no_row_is_left_after_cleaning(write):
    path = write("x.csv", "text,label\n" + "".join(f"   ,{'ab'[i % 2]}\n" for i in range(10)))
    refused(path, "x.csv: 0 rows after cleaning", "10 rows read")


def test_rows_without_text_are_left_out_and_told(write):
    lines = []
    path = write("x.csv", "text,label\n" + GOOD + ",a\n \u2003,b\n,\n")
    corpus = load(path, notify=lines.append)
    assert sum(corpus.num_rows(s) for s in corpus.splits) == 40
    assert any("3 of 43 rows have no text, left out" in line and "line 42, 43, 44" in line for line in lines)
    assert corpus.source["cleaning"]["rows_without_text"] == {"all": 3}


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.jsonl"])
def test_text_of_five_megabytes(write, name):
    long = "word " * 1_000_000
    if name.endswith("jsonl"):
        rows = [json.dumps({"text": long if i == 3 else f"t{i}", "label": i % 2}) for i in range(20)]
    else:
        tab = "," if name == "x.csv" else "\t"
        rows = [f"text{tab}label"] + [f"{long if i == 2 else i}{tab}{i % 2}" for i in range(20)]
    refused(write(name, "\n".join(rows)), f"{name}:4: the text has 5,000,000 bytes; the limit is 1,000,000", "passages")


def test_line_over_the_limit_is_not_read_whole(write):
    path = write("x.jsonl", b'{"text": "' + b"a" * (17 * 2**20) + b'", "label": 1}\n')
    refused(path, "x.jsonl:1: the line is longer than 16,777,216 bytes")


def test_quoted_text_over_the_limit(write):
    path = write("x.csv", b'text,label\n"' + (b"a" * 4095 + b"\n") * 5000 + b'",a\n')
    refused(path, "x.csv:2: broken CSV", "field larger than field limit")


def test_label_of_ten_kilobytes(write):
    path = write("x.csv", "text,label\n" + GOOD + f"t,{'l' * 10_000}\n")
    refused(path, "x.csv:42: the label is longer than the limit of 1,000 characters", "class name")


def test_broken_json(write):
    rows = [f'{{"text": "t{i}", "label": "{i % 2}"}}' for i in range(20)]
    rows[6] = '{"text": "t", "label"'
    refused(write("x.jsonl", "\n".join(rows)), "x.jsonl:7:22: broken JSON", "one whole JSON object per line")
    refused(write("y.jsonl", '["a", "b"]\n'), "y.jsonl:1: expected a JSON object, found a list", "jq -c '.[]'")
    refused(write("z.jsonl", "[" * 100_000), "z.jsonl:1")
    refused(write("n.jsonl", '{"text": "a", "label": ' + "9" * 5000 + "}"), "n.jsonl:1")


def test_texts_of_another_type(write):
    refused(write("x.jsonl", '{"text": 5, "label": "a"}\n'), "x.jsonl:1", "holds 5 of type int", "Expected a string")
    frame = pd.DataFrame({"text": [1, 2], "label": ["a", "b"]})
    refused(frame, "DataFrame, row 0 (from 0)", "type int")
    refused(write("y.jsonl", '{"text": "t", "label": {"a": 1}}\n'), "y.jsonl:1", "type dict")


def test_truncated_and_damaged_gzip(write):
    packed = gzip.compress(("text,label\n" + GOOD * 200).encode())
    refused(write("x.csv.gz", packed[:-20]), "x.csv.gz: the gzip file is truncated or damaged", "gzip -t")
    refused(write("y.csv.gz", b"not gzip at all"), "y.csv.gz: the gzip file is truncated or damaged")


def test_damaged_parquet(write, tmp_path):
    pq.write_table(pa.table({"text": ["a"] * 50, "label": ["b"] * 50}), tmp_path / "whole.parquet")
    content = (tmp_path / "whole.parquet").read_bytes()
    write("whole.parquet", content)
    refused(write("cut.parquet", content[:-30]), "cut.parquet: not a sound Parquet file")


def test_parquet_with_bytes_that_are_not_utf8(write):
    sink = io.BytesIO()
    values = pa.array([b"good"] * 10 + [b"caf\xe9"] * 10)
    pq.write_table(pa.table({"text": values, "label": ["a", "b"] * 10}), sink)
    refused(write("x.parquet", sink.getvalue()), "x.parquet, rows 0 to 19", "'text'", "not UTF-8")


def test_folder_without_train(write, tmp_path):
    write("d/test.csv", "text,label\n" + GOOD)
    write("d/notes.md", "hello")
    refused(tmp_path / "d", "no file for train", "notes.md, test.csv", "name the file itself")


def test_two_files_for_one_split(write, tmp_path):
    write("d/train.csv", "text,label\n" + GOOD)
    write("d/dev.csv", "text,label\n" + GOOD)
    write("d/valid.jsonl", "{}")
    refused(tmp_path / "d", "several files could be the split validation", "dev.csv", "valid.jsonl")


def test_split_column_in_a_folder_with_splits(write, tmp_path):
    write("d/train.csv", "text,label\n" + GOOD)
    refused(tmp_path / "d", "one file per split", split="fold")


def test_split_column_with_another_value(write):
    path = write(
        "x.csv", "text,label,fold\n" + "".join(f"t{i},{i % 2},{'tets' if i == 4 else 'train'}\n" for i in range(9))
    )
    refused(path, "x.csv:6: the split column 'fold' holds 'tets'", "Did you mean 'test'?", split="fold")
    path = write("y.csv", "text,label,fold\n" + "".join(f"t{i},{i % 2},test\n" for i in range(9)))
    refused(path, "no row of the split column 'fold' says 'train'", split="fold")


def test_too_few_rows_to_split(write):
    refused(write("x.csv", "text,label\nt1,a\nt2,b\n"), "x.csv: 2 rows in 2 classes are too few to cut a test split")


@pytest.mark.parametrize("broken", ["{", "[]", '{"files": ["train.csv"]}', '{"classes_missing_in_train": "a"}'])
def test_broken_source_json(write, tmp_path, broken):
    write("d/train.csv", "text,label\n" + GOOD)
    write("d/SOURCE.json", broken)
    refused(tmp_path / "d", "SOURCE.json")


def test_settings_that_do_not_fit(write):
    path = write("x.csv", "text,label\n" + GOOD)
    refused(path, "'error', 'keep' or 'drop'", "'ignore'", error=SettingError, unseen="ignore")
    refused(path, "at least 0", "-1", error=SettingError, seed=-1)
    refused(path, "applies to hub ids only", error=SettingError, revision="main")
    refused(path, "There is no class 'c'", catch_all="c")


def test_a_name_nobody_knows():
    refused(
        "chaterbot-topics",
        "'chaterbot-topics' is neither a file",
        "Did you mean 'chatterbot-topics'",
        error=UnknownNameError,
    )


def test_an_object_of_another_kind():
    refused([1, 2, 3], "found list", "pandas DataFrame")
    refused(pd.Series(["a"]), "found Series")
    refused(pd.DataFrame({"text": [], "label": []}), "DataFrame: the table is empty: 0 rows")


def test_list_where_a_text_or_one_label_is_expected(write, tmp_path):
    for row, role, task in (
        ({"text": ["a", "b"], "label": "r"}, "text", None),
        ({"text": "t", "labels": ["a"]}, "labels", "text"),
    ):
        path = write(f"{role}.jsonl", "\n".join([json.dumps(row)] * 20))
        refused(path, f"{role}.jsonl", role, "one label", task=task) if task else refused(
            path, "'text' (text) holds a list"
        )
        pq.write_table(pa.Table.from_pylist([row] * 20), tmp_path / "x.parquet")
        refused(write("x.parquet", (tmp_path / "x.parquet").read_bytes()), "x.parquet", f"'{role}'", "list", task=task)


def test_path_that_the_system_refuses():
    refused("x" * 5000, "cannot be read", "File name too long")


def test_remedy_quotes_the_path_for_the_shell(write):
    refused(write("my reviews.v2.csv", b"text,label\n\xff,a\n"), "my reviews.v2.csv' > fixed.csv`")


def test_table_of_too_many_columns(write):
    refused(
        write("x.csv", ",".join(f"c{i}" for i in range(20_000)) + "\n"),
        "x.csv: 20,000 columns; expected at most 10,000",
    )
    path = write("y.csv", ",".join(f"c{i}" for i in range(50)) + "\n" + "a," * 49 + "a\n")
    assert "'c19' and 30 more" in refused(path, "no column 'text'", text="text")
