"""What a corpus gives of its columns: the same as the rows of its data sets, at every call, unharmed by callers."""

import numpy as np
import pytest
import yaml
from datasets import Dataset

from tailwise.data.corpus import Corpus, RelationInput
from tailwise.data.labels import LabelSpace
from tailwise.data.named import _StringLoader
from tailwise.data.task import Task

SPACE = LabelSpace(("a", "b"), np.array([3, 1]))


def corpus(task, columns):
    rows = Dataset.from_dict(columns)
    return Corpus(
        "small", {"train": rows, "validation": rows.select([1]), "test": rows.select([1, 0])}, task, SPACE, "f"
    )


@pytest.fixture
def texts():
    return corpus(Task("text", "single"), {"id": ["x", "y"], "text": ["one", "zwei \U0001f600"], "label": [0, 1]})


def test_columns_follow_the_rows_of_every_split(texts):
    for split, rows in (("train", [0, 1]), ("validation", [1]), ("test", [1, 0])):
        assert texts.ids(split) == [["x", "y"][i] for i in rows]
        assert texts.texts(split) == [["one", "zwei \U0001f600"][i] for i in rows]
        assert texts.labels(split).tolist() == rows
        assert texts.labels(split).dtype == np.int64


def test_a_caller_may_change_what_it_was_given(texts):
    texts.ids("train").clear()
    texts.labels("train")[:] = 7
    assert texts.ids("train") == ["x", "y"]
    assert texts.labels("train").tolist() == [0, 1]


def test_ids_and_labels_are_read_from_the_data_set_once(texts, monkeypatch):
    asked = []
    read = Corpus._arrow
    monkeypatch.setattr(
        Corpus, "_arrow", lambda self, split, column: asked.append((split, column)) or read(self, split, column)
    )
    for _ in range(3):
        texts.ids("test")
        texts.labels("test")
    assert asked == [("test", "id"), ("test", "label")]


def test_columns_of_lists_keep_the_borders_of_sentences():
    tagged = corpus(Task("tokens", "tags"), {"id": ["x", "y"], "tokens": [["a", "b"], ["c"]], "tags": [[0, 1], [1]]})
    assert tagged.tokens("test") == [["c"], ["a", "b"]]
    assert tagged.offsets("test").tolist() == [0, 1, 3]
    assert tagged.labels("test").tolist() == [1, 0, 1]


def test_relations_are_spans_of_plain_numbers():
    columns = {"id": ["x", "y"], "tokens": [["a", "b"], ["c", "d"]], "head": [[0, 1], [1, 2]], "tail": [[1, 2], [0, 1]]}
    related = corpus(Task("relation", "single"), {**columns, "label": [0, 1]})
    assert related.inputs("validation") == [RelationInput(("c", "d"), (1, 2), (0, 1))]


def test_the_fast_yaml_loader_makes_the_same_strings():
    text = "categories:\n- x\nconversations:\n- - yes\n  - 'no: 1'\n- - 012\n  - ~\n"
    assert yaml.load(text, Loader=_StringLoader) == yaml.load(text, Loader=yaml.BaseLoader)
