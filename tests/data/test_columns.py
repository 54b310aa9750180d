"""Columns are guessed only where one reading is possible."""

import pytest

from tailwise.data.columns import Preview, Request
from tailwise.data.recognition import choose_columns
from tailwise.errors import DataError


def choose(names, rows=(), **request):
    lines = []
    preview = Preview("x.csv", tuple(names), lambda: list(rows))
    return choose_columns(preview, Request(**request), lines.append), lines


@pytest.mark.parametrize(
    ("names", "text", "label"),
    [
        (["text", "label"], "text", "label"),
        (["label", "text", "title", "topic"], "text", "label"),
        (["Sentence", "Intent"], "Sentence", "Intent"),
        (["id", "utterance", "category", "speaker"], "utterance", "category"),
        (["text", "kind"], "text", "kind"),
        (["headline", "label"], "headline", "label"),
        (["", "review", "class"], "review", "class"),
        (["text", "labels"], "text", "labels"),
    ],
)
def test_known_names(names, text, label):
    columns, lines = choose(names)
    assert (columns.text, columns.label, columns.text_pair) == (text, label, None)
    assert lines == [f"x.csv: columns guessed: text = {text!r}, label = {label!r}."]


@pytest.mark.parametrize(
    ("names", "pair"),
    [
        (["sentence1", "sentence2", "label"], ("sentence1", "sentence2")),
        (["idx", "question1", "question2", "label"], ("question1", "question2")),
        (["text", "text_pair", "label", "group"], ("text", "text_pair")),
    ],
)
def test_known_pairs(names, pair):
    columns, _ = choose(names)
    assert (columns.text, columns.text_pair) == pair


@pytest.mark.parametrize(
    ("names", "role"),
    [
        (["review", "comment", "label"], "text"),
        (["text", "intent", "topic"], "label"),
        (["a", "b", "c"], "text"),
        (["text", "a", "b"], "label"),
        (["text"], "label"),
    ],
)
def test_doubt_is_an_error(names, role):
    with pytest.raises(DataError, match=f"which column is the {role}"):
        choose(names)


def test_named_columns_are_not_guessed_and_not_told():
    columns, lines = choose(["a", "b", "c"], text="c", label="a")
    assert (columns.text, columns.label) == ("c", "a")
    assert lines == []


def test_the_other_one_is_guessed_where_one_is_named():
    columns, lines = choose(["a", "intent"], text="a")
    assert columns.label == "intent"
    assert lines == ["x.csv: columns guessed: label = 'intent'."]
    assert choose(["a", "b"], label="b")[0].text == "a"


def test_two_columns_are_told_apart_by_their_content():
    rows = [[f"some words {i}", "xy"[i % 2]] for i in range(30)]
    assert choose(["a", "b"], rows)[0].label == "b"
    assert choose(["a", "b"], [row[::-1] for row in rows])[0].label == "a"
    with pytest.raises(DataError, match="which column is the text"):
        choose(["a", "b"], rows[:5])
    with pytest.raises(DataError, match="which column is the text"):
        choose(["a", "b"], [["p", "q"]] * 30)
    with pytest.raises(DataError, match="which column is the text"):
        choose(["a", "b"], [[f"w{i}", f"v{i}"] for i in range(30)])


def test_id_and_split_columns():
    columns, _ = choose(["ID", "text", "label", "fold"], split="fold")
    assert (columns.id, columns.split) == ("ID", "fold")
    assert columns.by_role() == {"text": "text", "label": "label", "id": "ID", "split": "fold"}
