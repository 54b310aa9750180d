"""Several labels per text, relations, tagged sentences and trees: what is recognised, refused, split and kept."""

import gzip
import json

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tailwise.data import load
from tailwise.data.corpus import SPLITS
from tailwise.data.task import TASKS
from tailwise.errors import DataError, SettingError, UnknownNameError

N = 60
ROWS = {
    "multilabel": [{"text": f"text {i}", "labels": [["a"], ["b", "a"], [], ["c"]][i % 4]} for i in range(N)],
    "multilabel-pair": [{"text": f"t{i}", "text_pair": "u", "labels": [["a"], ["b", "a"]][i % 2]} for i in range(N)],
    "relation": [
        {"tokens": ["x", str(i), "y", "z"], "head": [0, 1], "tail": [2, 4], "label": "pqr"[i % 3]} for i in range(N)
    ],
    "tagging": [
        {"tokens": ["in", str(i), "x"], "tags": [["O", "B-a", "I-a"], ["O", "B-b", "O"]][i % 2]} for i in range(N)
    ],
    "parsing": [
        {"tokens": ["a", str(i)], "upos": ["X", "Y"], "heads": [2, 0], "deprels": ["det", "root"]} for i in range(N)
    ],
}
ANNOUNCED = {
    "multilabel": "task: multilabel (text, labels): 48 texts, 3 labels in train.",
    "multilabel-pair": "task: multilabel-pair (text, text_pair, labels): 48 pairs of texts, 2 labels in train.",
    "relation": (
        "task: relation (tokens, head, tail, label): 48 sentences with two marked entities, 3 relations in train."
    ),
    "tagging": "task: tagging (tokens, tags): 48 sentences, 4 tags in train.",
    "parsing": "task: parsing (tokens, heads, relations): 48 sentences, 2 dependency relations in train.",
}


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def folder(path, train, test=None, **stated):
    path.mkdir()
    written(path / "train.jsonl", train)
    if test is not None:
        written(path / "test.jsonl", test)
    if stated:
        (path / "SOURCE.json").write_text(json.dumps(stated))
    return path


def refused(source, *expected, error=DataError, **kwargs):
    with pytest.raises(error) as caught:
        load(source, **kwargs)
    for piece in expected:
        assert piece in str(caught.value), str(caught.value)


def decoded(corpus):
    """All rows by id, with names in the place of class indices."""
    names = corpus.label_space.all_names
    column = {"single": "label", "multi": "labels", "tags": "tags", "arcs": "relations"}[corpus.task.label_structure]
    rows = {}
    for split in SPLITS:
        for row in corpus.splits[split]:
            codes = row[column]
            row[column] = [names[i] for i in codes] if isinstance(codes, list) else names[codes]
            rows[row.pop("id")] = row
    return rows


def expected(row, task):
    row = {"relations" if key == "deprels" else key: value for key, value in row.items()}
    return {**row, "labels": sorted(row["labels"])} if task.startswith("multilabel") else row


@pytest.mark.parametrize("task", ROWS)
def test_every_source_gives_the_same_corpus(tmp_path, task):
    told = []
    rows = ROWS[task]
    corpus = load(written(tmp_path / "x.jsonl", rows), notify=told.append)
    assert told[-1] == ANNOUNCED[task]
    assert corpus.task == TASKS[task]
    found = decoded(corpus)
    assert found == {f"all-{i}": expected(row, task) for i, row in enumerate(rows)}
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, tmp_path / "x.parquet")
    with gzip.open(tmp_path / "y.jsonl.gz", "wt") as handle:
        handle.writelines(json.dumps(row) + "\n" for row in rows)
    dataset = datasets.Dataset.from_list(rows)
    dataset.save_to_disk(tmp_path / "saved")
    sources = [tmp_path / "x.parquet", tmp_path / "y.jsonl.gz", dataset, tmp_path / "saved", pd.DataFrame(rows)]
    for source in [*sources, table.to_pandas()]:
        assert load(source).fingerprint == corpus.fingerprint, source
        assert load(source, task=task).fingerprint == corpus.fingerprint, source
    assert load(tmp_path / "x.jsonl", seed=1).fingerprint != corpus.fingerprint


def test_class_labels_of_datasets_give_their_names():
    names = ["O", "B-a", "I-a"]
    features = {"tokens": datasets.List(datasets.Value("string"))}
    features["ner_tags"] = datasets.List(datasets.ClassLabel(names=names))
    rows = [{"tokens": ["a", "b", str(i)], "ner_tags": [0, 1, 2]} for i in range(20)]
    corpus = load(datasets.Dataset.from_list(rows, features=datasets.Features(features)))
    assert corpus.label_space.names == ("B-a", "I-a", "O")
    assert corpus.label_space.catch_all == "O"
    assert decoded(corpus)["all-3"]["tags"] == names


def test_class_labels_of_several_labels():
    features = datasets.Features(
        {"text": datasets.Value("string"), "labels": datasets.List(datasets.ClassLabel(names=["joy", "anger"]))}
    )
    rows = [{"text": f"t{i}", "labels": [[0], [1, 0], []][i % 3]} for i in range(30)]
    corpus = load(datasets.Dataset.from_list(rows, features=features))
    assert corpus.label_space.names == ("anger", "joy")
    assert decoded(corpus)["all-1"]["labels"] == ["anger", "joy"]


def test_label_space_of_several_labels_counts_positives_and_rows(tmp_path):
    corpus = load(written(tmp_path / "x.jsonl", ROWS["multilabel"]))
    matrix = corpus.label_matrix("train")
    space = corpus.label_space
    assert space.num_rows == corpus.num_rows("train") == matrix.shape[0]
    np.testing.assert_array_equal(np.asarray(matrix.sum(axis=0)).ravel(), space.counts)
    assert (np.diff(matrix.indptr) == 0).sum() > 0, "rows without a label stay"


def test_tags_and_relations_count_tokens(tmp_path):
    for task in ("tagging", "parsing"):
        corpus = load(written(tmp_path / f"{task}.jsonl", ROWS[task]))
        assert corpus.label_space.counts.sum() == corpus.num_targets("train") == len(corpus.labels("train"))
        assert corpus.label_space.num_rows is None


@pytest.mark.parametrize("name", ["labels", "label"])
def test_joined_labels_in_a_cell(tmp_path, name):
    path = tmp_path / "x.csv"
    path.write_text(f"text,{name}\n" + "".join(f"t{i},{['a', 'b | a', ''][i % 3]}\n" for i in range(30)))
    told = []
    corpus = load(path, task="multilabel", notify=told.append)
    assert any(f"the cells of {name!r} are split into labels at '|'" in line for line in told)
    assert corpus.label_space.names == ("a", "b")
    assert [decoded(corpus)[f"all-{i}"]["labels"] for i in range(3)] == [["a"], ["a", "b"], []]
    path.write_text(path.read_text().replace("|", ";"))
    assert load(path, task="multilabel", label_separator=";").fingerprint == corpus.fingerprint
    refused(
        path, "label_separator=';' applies to task='multilabel'", error=SettingError, label_separator=";", label=name
    )
    path.write_text(path.read_text().replace("b ; a", "b ;; a"))
    refused(path, "x.csv:3, place 1 (from 0): the label is empty", task="multilabel", label_separator=";")
    refused(path, "label_separator", error=SettingError, task="multilabel", label_separator=" ")


def test_labels_of_whole_numbers_are_names_and_repeats_count_once(tmp_path):
    rows = [{"text": f"t{i}", "labels": [[1, 2], [2], [1]][i % 3]} for i in range(30)]
    assert load(written(tmp_path / "x.jsonl", rows)).label_space.names == ("1", "2")
    told = []
    rows = [{"text": f"t{i}", "labels": ["a", "b", "a"] if i == 7 else ["b"]} for i in range(30)]
    corpus = load(written(tmp_path / "y.jsonl", rows), notify=told.append)
    assert decoded(corpus)["all-7"]["labels"] == ["a", "b"]
    assert any("1 rows name a label more than once, counted once" in line and "line 8" in line for line in told)


def test_rows_without_a_text_are_left_out_and_told(tmp_path):
    told = []
    rows = [*ROWS["multilabel"], {"text": " ", "labels": ["a"]}]
    corpus = load(written(tmp_path / "x.jsonl", rows), notify=told.append)
    assert corpus.source["cleaning"]["rows_without_text"] == {"all": 1}
    assert any("1 of 61 rows have no text, left out" in line for line in told)


BAD = [
    ("multilabel", {"labels": "a"}, "the column labels holds 'a' of type str. Expected a list of label names"),
    ("multilabel", {"labels": ["a", None]}, "a list with None of type NoneType at place 1"),
    ("multilabel", {"labels": [["a"]]}, "at place 0. Expected a list of label names"),
    ("multilabel", {"labels": None}, "the list of labels is missing. Write []"),
    ("multilabel", {"labels": ["a", " "]}, "the label is empty"),
    ("multilabel", {"labels": ["a\0"]}, "the label holds a NUL character. Remove it."),
    ("multilabel", {"labels": ["a" * 1001]}, "longer than the limit of 1,000 characters"),
    ("multilabel", {"text": "a\0"}, "the text holds a NUL character. Remove it."),
    ("multilabel", {"text": "a" * 1_000_001}, "the text has 1,000,001 bytes; the limit is 1,000,000"),
    ("multilabel", {"text": ["a"]}, "the column 'text' (text) holds a list; expected one text per row"),
    ("multilabel", {"labels": ["\ud800"]}, "lone surrogate"),
    ("relation", {"head": [2, 2]}, "the head [2, 2] ends before or where it starts. Expected [start, end]"),
    ("relation", {"tail": [3, 1]}, "the tail [3, 1] ends before or where it starts"),
    ("relation", {"tail": [3, 5]}, "the tail [3, 5] is out of the range of the sentence"),
    ("relation", {"tail": [3, 5]}, "The sentence has 4 tokens: correct the row."),
    ("relation", {"head": [-1, 1]}, "the head [-1, 1] is out of the range"),
    ("relation", {"head": [1]}, "the span of the head has 1 numbers"),
    ("relation", {"head": None}, "the span of the head has 0 numbers"),
    ("relation", {"head": ["0", "1"]}, "a list with '0' of type str at place 0. Expected a span of tokens"),
    ("relation", {"head": [0, 10**30]}, "a number of more than 18 digits"),
    ("relation", {"head": [0.5, 1]}, "a list with 0.5 of type float"),
    ("relation", {"label": None}, "the label is missing in 1 of 60 rows"),
    ("relation", {"label": "a\0"}, "the label holds a NUL character"),
    ("relation", {"label": ["p"]}, "holds a list of labels"),
    ("relation", {"tokens": []}, "there are no tokens. Fill them in or remove the row."),
    ("relation", {"tokens": None}, "there are no tokens"),
    ("tagging", {"tokens": ["a", "", "b"]}, "place 1 (from 0): the token is empty or white space"),
    ("tagging", {"tokens": ["a", "b\0", "b"]}, "place 1 (from 0): the token holds a NUL character"),
    ("tagging", {"tokens": ["a", "b"]}, "2 tokens and 3 tags. Expected one tag per token"),
    ("tagging", {"tags": None}, "3 tokens and 0 tags"),
    ("tagging", {"tags": ["O", "O", " "]}, "the tag is empty"),
    ("tagging", {"tags": ["O", "B-a", 3]}, "Numbers need names"),
    (
        "tagging",
        {"tags": ["O", "O", "I-a"]},
        "place 2 (from 0): the tag 'I-a' follows 'O', so that its span has no start",
    ),
    (
        "tagging",
        {"tags": ["O", "O", "I-a"]},
        "Other tags are in IOB2, where every span starts with B-: write 'B-a' here",
    ),
    ("tagging", {"tags": ["O", "B-b", "I-a"]}, "the tag 'I-a' follows 'B-b'"),
    ("tagging", {"tags": ["I-a", "O", "O"]}, "the tag 'I-a' follows the start of the sentence"),
    ("tagging", {"tokens": ["a" * 1_000_000, "b", "c"]}, "the sentence has 1,000,005 bytes"),
    ("tagging", {"tokens": "a b c"}, "the column tokens holds 'a b c' of type str. Expected a list of strings"),
    ("tagging", {"tokens": ["a", "b", "\ud800"]}, "lone surrogate"),
    ("parsing", {"heads": [0, 3]}, "the head 3 of the token"),
    ("parsing", {"heads": [0, 3]}, "is out of range. Expected 1 to 2, the tokens of the sentence, or 0 for the root"),
    ("parsing", {"heads": [0, -1]}, "the head -1"),
    ("parsing", {"heads": [2, 1]}, "the sentence has no root: no head is 0"),
    ("parsing", {"heads": [0, 0]}, "the sentence has 2 roots: tokens 1, 2 (from 1)"),
    ("parsing", {"heads": [0, 2]}, "place 1 (from 0): the heads form a cycle: from the token"),
    ("parsing", {"heads": [0]}, "2 tokens and 1 heads. Expected one head per token"),
    ("parsing", {"deprels": ["root"]}, "2 tokens and 1 relations. Expected one dependency relation per token"),
    ("parsing", {"deprels": ["root", ""]}, "the dependency relation is empty"),
    ("parsing", {"upos": ["X"]}, "2 tokens and 1 upos. Expected one part of speech per token"),
    ("parsing", {"heads": [0, True]}, "a list with True of type bool"),
]


@pytest.mark.parametrize(("task", "change", "message"), BAD)
def test_bad_row(tmp_path, task, change, message):
    rows = [dict(row) for row in ROWS[task]]
    rows[16] = {**rows[16], **change}
    path = written(tmp_path / "x.jsonl", rows)
    where = "x.jsonl: " if "missing in" in message else "x.jsonl:17"
    refused(path, where, message)


def test_bad_cell_of_a_table(tmp_path):
    refused(
        pd.DataFrame([*ROWS["tagging"], {"tokens": ["a"], "tags": ["O", "O"]}]), "row 60 (from 0): 1 tokens and 2 tags"
    )
    table = pa.table({"tokens": [["a", None]] * 20, "tags": [["O", "B-a"]] * 20})
    pq.write_table(table, tmp_path / "x.parquet")
    refused(tmp_path / "x.parquet", "x.parquet, row 0 (from 0)", "a list with a missing element")
    pq.write_table(pa.table({"tokens": [["a"]] * 20, "tags": [[1]] * 20}), tmp_path / "y.parquet")
    refused(tmp_path / "y.parquet", "the column tags holds list", "Numbers need names", "ClassLabel")


def test_heads_written_as_strings_are_read(tmp_path):
    rows = [{"tokens": ["a", str(i)], "head": ["2", "0"], "deprel": ["det", "root"]} for i in range(20)]
    corpus = load(written(tmp_path / "x.jsonl", rows))
    assert corpus.task.name == "parsing"
    assert corpus.heads("train")[:2].tolist() == [2, 0]


def test_columns_that_do_not_belong_to_the_task(tmp_path):
    path = written(tmp_path / "x.jsonl", ROWS["relation"])
    refused(path, "task='tagging' needs the columns tokens and tags; missing: tags", "'tokens', 'head'", task="tagging")
    refused(path, "Unknown task 'taging'", "Did you mean 'tagging'", error=SettingError, task="taging")
    path = written(tmp_path / "y.jsonl", ROWS["multilabel"])
    refused(path, "task='text' is one text and one label per row", "those of 'multilabel'", task="text")
    refused(path, "task='multilabel-pair' is two texts and a list of labels", task="multilabel-pair")
    refused(path, "no column 'topics'", label="topics")
    pairs = pd.DataFrame({"text": [f"t{i}" for i in range(20)], "text_pair": "u", "label": list("ab") * 10})
    refused(pairs, "task='text' is one text and one label per row, but the columns are those of 'pair'", task="text")
    assert load(pairs, task="pair").fingerprint == load(pairs).fingerprint


def test_columns_of_two_tasks_must_be_told_apart(tmp_path):
    rows = [{**a, **b, "tags": ["O", "B-a"]} for a, b in zip(ROWS["parsing"], ROWS["parsing"], strict=True)]
    path = written(tmp_path / "x.jsonl", rows)
    refused(path, "could be tagging or parsing", "task='tagging' (on the command line --task tagging)")
    assert load(path, task="parsing").task.name == "parsing"
    assert load(path, task="tagging").label_space.names == ("B-a", "O")
    assert load(path, task="tagging", label="upos").label_space.names == ("X", "Y")


def test_texts_with_a_label_beside_tags_stay_texts(tmp_path):
    told = []
    rows = [{"text": f"t{i}", "label": "ab"[i % 2], "tokens": ["t", str(i)], "tags": ["O", "B-a"]} for i in range(40)]
    path = written(tmp_path / "x.jsonl", rows)
    assert load(path, notify=told.append).task.name == "text"
    assert any("task='tagging' to read them so" in line for line in told)
    assert load(path, task="tagging").task.name == "tagging"


def test_unseen_labels_follow_the_policy(tmp_path):
    test = [{"text": "u0", "labels": ["zz", "a"]}, {"text": "u1", "labels": ["zz"]}, {"text": "u2", "labels": []}]
    path = folder(tmp_path / "d", ROWS["multilabel"], test)
    refused(
        path,
        "test.jsonl:1: the class 'zz' occurs in test but not in train",
        "2 rows of 1 such classes",
        "the labels are left",
    )
    kept = load(path, unseen="keep")
    assert kept.label_space.unseen == ("zz",)
    assert kept.label_matrix("test").toarray().tolist() == [[1, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]]
    dropped = load(path, unseen="drop")
    assert dropped.num_rows("test") == 3, "the label is dropped, not the row"
    assert dropped.label_matrix("test").toarray().tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert dropped.source["cleaning"]["labels_of_unseen_classes"] == {"test": 2}


def test_unseen_tags_follow_the_policy(tmp_path):
    test = [
        {"tokens": ["a", "b"], "tags": ["B-b", "I-b"]},
        {"tokens": ["c", "d"], "tags": ["O", "B-new"]},
        {"tokens": ["e"], "tags": ["B-a"]},
    ]
    path = folder(tmp_path / "d", ROWS["tagging"], test)
    refused(path, "test.jsonl:2: the class 'B-new' occurs in test but not in train")
    assert load(path, unseen="keep").label_space.unseen == ("B-new", "I-b")
    dropped = load(path, unseen="drop")
    assert dropped.tokens("test") == [["e"]]
    assert dropped.label_space.unseen == ()


def test_a_further_tag_of_a_known_type_is_no_surprise(tmp_path):
    test = [{"tokens": ["a", "b"], "tags": ["B-b", "I-b"]}]
    assert load(folder(tmp_path / "d", ROWS["tagging"], test)).label_space.unseen == ("I-b",)
    test = [{"tokens": ["a", "b"], "tags": ["B-new", "I-new"]}]
    path = folder(
        tmp_path / "e", ROWS["tagging"], test, row_format="sequence labelling", classes_missing_in_train=["new"]
    )
    assert load(path).label_space.unseen == ("B-new", "I-new")


def test_folder_states_row_format_and_catch_all(tmp_path):
    told = []
    path = folder(tmp_path / "d", ROWS["relation"], row_format="relation", catch_all_class="q", licence="MIT")
    corpus = load(path, notify=told.append)
    assert corpus.label_space.catch_all == "q"
    assert load(path, catch_all="p").label_space.catch_all == "p"
    path = folder(tmp_path / "e", ROWS["relation"], row_format="multi-label")
    refused(path, "which column is the text?")
    refused(
        folder(tmp_path / "f", ROWS["relation"], row_format="graph"),
        "the row format is 'graph'. Expected one of single-label",
    )


def test_nul_characters_of_published_texts_are_replaced_and_told(tmp_path):
    told = []
    rows = [dict(row) for row in ROWS["multilabel"]]
    rows[3]["text"] = "a\0b"
    corpus = load(folder(tmp_path / "d", rows, row_format="multi-label"), notify=told.append)
    assert decoded(corpus)["all-3"]["text"] == "a\ufffdb"
    assert any("NUL characters in the text are replaced by U+FFFD" in line and "line 4" in line for line in told)


@pytest.mark.parametrize("task", ["multilabel", "relation", "tagging"])
def test_equal_inputs_stay_in_one_split_and_every_class_is_in_train(tmp_path, task):
    rng = np.random.default_rng(0)
    rows = [ROWS[task][i] for i in rng.integers(0, N, 300)]
    rows.append({**ROWS[task][0], **({"text": "once", "labels": ["rare"]} if task == "multilabel" else {})})
    corpus = load(written(tmp_path / "x.jsonl", rows))
    seen = [set(corpus.texts(split)) for split in SPLITS]
    assert len(set.union(*seen)) == sum(map(len, seen))
    assert corpus.label_space.unseen == ()
    assert sum(corpus.num_rows(split) for split in SPLITS) == 301
    shares = [corpus.num_rows(split) / 301 for split in SPLITS]
    np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.08)


def test_a_rare_type_is_in_every_split_of_sentences(tmp_path):
    rows = [{"tokens": ["w", str(i)], "tags": ["O", "B-rare" if i % 30 == 0 else "O"]} for i in range(300)]
    corpus = load(written(tmp_path / "x.jsonl", rows))
    rare = corpus.label_space.names.index("B-rare")
    assert [int((corpus.labels(split) == rare).sum()) for split in SPLITS] == [8, 1, 1]


def test_a_split_column_and_an_id_column_serve_all_tasks(tmp_path):
    rows = [{**row, "id": f"r{i}", "fold": ["train", "dev", "test"][i % 3]} for i, row in enumerate(ROWS["tagging"])]
    corpus = load(written(tmp_path / "x.jsonl", rows), split="fold")
    assert corpus.ids("validation")[:2] == ["r1", "r4"]


def test_one_class_only(tmp_path):
    refused(
        written(tmp_path / "x.jsonl", [{**row, "label": "p"} for row in ROWS["relation"]]), "every row of train has the"
    )
    rows = [{**row, "tags": ["O"] * 3} for row in ROWS["tagging"]]
    refused(written(tmp_path / "y.jsonl", rows), "every token of train has the class 'O'")
    rows = [{**row, "labels": []} for row in ROWS["multilabel"]]
    refused(written(tmp_path / "z.jsonl", rows), "no row of train has a label")


def test_unknown_name_is_no_task():
    refused("multilable", "is neither a file nor a folder", error=UnknownNameError)


def test_real_data_counts_are_those_stated(data_dir):
    formats = set()
    for path in sorted(data_dir.glob("*/SOURCE.json")):
        stated = json.loads(path.read_text())
        if stated["row_format"] in {"single-label", "pair"}:
            continue
        corpus = load(path.parent)
        formats.add(corpus.task.name)
        space, structure = corpus.label_space, corpus.task.label_structure
        assert {split: corpus.num_rows(split) for split in SPLITS} == stated["num_instances"], path
        for split in SPLITS:
            if structure == "multi":
                counts = np.asarray(corpus.label_matrix(split).sum(axis=0)).ravel()
            else:
                counts = np.bincount(corpus.labels(split), minlength=len(space.all_names))
            found = dict(zip(space.all_names, counts.astype(int).tolist(), strict=True))
            if structure == "tags":
                found = {name[2:]: count for name, count in found.items() if name.startswith("B-")}
            known = {name: count for name, count in stated["label_counts"][split].items() if count}
            assert {name: count for name, count in found.items() if count} == known, (path, split)
        if structure == "tags":
            assert {name[2:] for name in space.unseen} >= set(stated["classes_missing_in_train"])
            assert space.catch_all == "O"
        else:
            assert set(space.unseen) == set(stated["classes_missing_in_train"])
    assert formats == {"multilabel", "relation", "tagging", "parsing"}
