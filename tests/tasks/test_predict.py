"""`tailwise predict` on every task: files in, the decisions of the model out."""

import csv
import json

import numpy as np
import pytest

from tailwise.catalog import resolve
from tailwise.cli.main import _run
from tailwise.data.task import TASKS
from tailwise.models.feature_cache import FeatureCache
from tailwise.models.saving import load_model, save_model
from tailwise.training.probe import ProbeEngine


@pytest.fixture(scope="module")
def folders(corpora, encoder, tmp_path_factory):
    """A saved model of every task."""
    engine = ProbeEngine(cache=FeatureCache(max_bytes=0), epochs=40, batch_size=32, learning_rate=3e-2)
    root = tmp_path_factory.mktemp("models")
    return {name: save_model(engine.fit(resolve("ce"), corpora[name], encoder, seed=0), root / name) for name in TASKS}


def rows_of(corpus):
    keys = [k for k in ("text", "text_pair", "tokens", "head", "tail") if k in corpus.splits["test"].column_names]
    return [{key: row[key] for key in keys} for row in corpus.splits["test"].select(range(6))]


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def options(task):
    return ["--text-pair", "text_pair"] if TASKS[task].input_form == "pair" else []


def failure(capsys, *command):
    assert _run([str(part) for part in command]) != 0
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("task", list(TASKS))
def test_json_lines_in_and_out_hold_what_the_model_decides(corpora, folders, tmp_path, task):
    corpus, rows = corpora[task], rows_of(corpora[task])
    data, out = written(tmp_path / "new.jsonl", rows), tmp_path / "out" / "found.jsonl"
    assert _run(["predict", str(folders[task]), str(data), "--out", str(out), *options(task)]) in {0, None}
    found = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [{key: row[key] for key in rows[0]} for row in found] == rows
    model = load_model(folders[task])
    pairs = corpus.text_pairs("test")
    decided = model.predict(corpus.inputs("test")[:6], None if pairs is None else pairs[:6])
    if task == "parsing":
        assert [(tuple(r["heads"]), tuple(r["relations"])) for r in found] == [(p.heads, p.relations) for p in decided]
    else:
        key = {"single": "label", "multi": "labels", "tags": "tags"}[TASKS[task].label_structure]
        assert [row[key] for row in found] == decided


def test_probabilities_are_those_of_the_model(corpora, folders, tmp_path, capsys):
    texts = corpora["multilabel"].texts("test")[:6]
    data = written(tmp_path / "new.jsonl", [{"text": text} for text in texts])
    _run(["predict", str(folders["multilabel"]), str(data), "--json"])
    found = [list(row["probabilities"].values()) for row in json.loads(capsys.readouterr().out)]
    np.testing.assert_allclose(found, load_model(folders["multilabel"]).predict_proba(texts), atol=1e-6)


def test_labels_are_joined_in_csv(folders, tmp_path):
    data, out = tmp_path / "new.csv", tmp_path / "found.csv"
    data.write_text("text\nbird0 cat1 w1\nw0 w2\n", encoding="utf-8")
    _run(["predict", str(folders["multilabel"]), str(data), "--out", str(out)])
    with out.open(encoding="utf-8", newline="") as stream:
        table = list(csv.DictReader(stream))
    assert [row["labels"] for row in table] == ["bird|cat", ""]
    assert float(table[0]["probability of bird"]) > 0.5 > float(table[0]["probability of dog"])


def test_relations_in_csv_show_the_entities(folders, tmp_path):
    row = {"tokens": ["w0", "bird1", "w2", "w0", "w1"], "head": [1, 2], "tail": [3, 5]}
    data, out = written(tmp_path / "new.jsonl", [row]), tmp_path / "found.csv"
    _run(["predict", str(folders["relation"]), str(data), "--out", str(out)])
    with out.open(encoding="utf-8", newline="") as stream:
        (found,) = csv.DictReader(stream)
    assert (found["text"], found["head"], found["tail"]) == ("w0 bird1 w2 w0 w1", "bird1", "w0 w1")
    assert found["label"] == "bird"


CONLL = "-DOCSTART- -X- O\n\n# id 1\nw0 X O\nbird1 X B-bird\n\nw2 X O\n"
REST = "\t_" * 8 + "\n"
CONLLU = f"# sent_id = 1\n1-2\tw0bird1{REST}1\tw0{REST}2\tbird1{REST}2.1\tgone{REST}\n1\tw2{REST}"


@pytest.mark.parametrize("task", ["tagging", "parsing"])
@pytest.mark.parametrize(
    ("name", "content"), [("a.conll", CONLL), ("a.conllu", CONLLU), ("a.txt", "w0\nbird1\n\nw2\n")]
)
def test_sentences_without_labels_are_read_from_conll_files(folders, tmp_path, capsys, task, name, content):
    (tmp_path / name).write_text(content, encoding="utf-8")
    _run(["predict", str(folders[task]), str(tmp_path / name), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert [row["tokens"] for row in found] == [["w0", "bird1"], ["w2"]]
    assert all(len(row["tags" if task == "tagging" else "heads"]) == len(row["tokens"]) for row in found)


def test_people_see_one_line_per_row_or_token(folders, tmp_path, capsys):
    data = tmp_path / "new.txt"
    data.write_text("w0\nbird1\nbird2\n", encoding="utf-8")
    _run(["predict", str(folders["tagging"]), str(data)])
    tokens = ["w0", "bird1", "bird2"]
    (tags,) = load_model(folders["tagging"]).predict([tokens])
    assert tags[0] == "O" != tags[1]
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert shown == [*map(list, zip(tokens, tags, strict=True)), []]
    data.write_text("bird0 cat1\nw0\n", encoding="utf-8")
    _run(["predict", str(folders["multilabel"]), str(data)])
    both, none = capsys.readouterr().out.splitlines()
    assert both.startswith("bird 0.")
    assert ", cat 0." in both
    assert none.split() == ["(none)", "w0"]


@pytest.mark.parametrize(
    ("task", "row", "message"),
    [
        ("relation", {"tokens": ["a", "b"], "head": [0, 1]}, "lacks tail; it has the columns tokens, head."),
        ("relation", {"tokens": ["a", "b"], "head": [0, 1], "tail": [1, 3]}, "the tail is [1, 3], in a sentence of 2"),
        ("relation", {"tokens": ["a", "b"], "head": [1, 1], "tail": [0, 1]}, "row 1: the head is [1, 1]"),
        ("tagging", {"tokens": "a text"}, "row 1: expected a list of tokens"),
        ("tagging", {"tokens": []}, "row 1: expected a list of tokens"),
        ("parsing", {"tokens": ["a", " "]}, "row 1: expected a list of tokens"),
        ("tagging", {"a": ["x"], "b": ["y"]}, "name the one with the tokens by --text"),
        ("multilabel", {"a": "x", "b": "y"}, "name the one with the text by --text"),
        ("text", {"text": "\ud800"}, "row 1: the column is empty or no text"),
    ],
)  # fmt: skip
def test_a_row_that_does_not_fit_the_task_is_named(folders, tmp_path, capsys, task, row, message):
    data = written(tmp_path / "new.jsonl", [row])
    assert message in failure(capsys, "predict", folders[task], data, *options(task))


def test_files_and_options_that_do_not_fit_the_task_are_refused(folders, tmp_path, capsys):
    data = tmp_path / "new.csv"
    data.write_text("text\na\n", encoding="utf-8")
    assert "with a token per line" in failure(capsys, "predict", folders["tagging"], data)
    assert "`head` and `tail`" in failure(capsys, "predict", folders["relation"], data)
    assert "by --text-pair" in failure(capsys, "predict", folders["pair"], data)
    assert "not trained on pairs" in failure(capsys, "predict", folders["text"], data, "--text-pair", "text")
    assert "no column 'txt'" in failure(capsys, "predict", folders["text"], data, "--text", "txt")
    data.write_text("text\n", encoding="utf-8")
    assert "has no rows" in failure(capsys, "predict", folders["text"], data)
    sentences = tmp_path / "new.conllu"
    sentences.write_text("w0\n", encoding="utf-8")
    assert "new.conllu:1: expected the number of a word" in failure(capsys, "predict", folders["parsing"], sentences)
    sentences.write_text("1\tw0\n", encoding="utf-8")
    command = ("predict", folders["tagging"], sentences, "--out", tmp_path / "found.csv")
    assert "to end in .jsonl" in failure(capsys, *command)
