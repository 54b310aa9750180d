"""Diagnoses of corpora with several labels per row, relations, tags and trees."""

import json

import numpy as np
import pytest
from datasets import Dataset

from tailwise.data.corpus import Corpus
from tailwise.data.labels import LabelSpace
from tailwise.data.task import Task
from tailwise.errors import DataError, SettingError
from tailwise.imbalance.diagnosis import diagnose
from tailwise.imbalance.duplicates import SplitTexts
from tailwise.report.diagnosis_figure import diagnosis_figure
from tailwise.report.findings import findings, warnings_of


def build(task, names, counts, train, *, test=(), unseen=(), num_rows=None):
    """A corpus of a task: rows are dicts of the columns of the task."""
    rows = {"train": list(train), "validation": [], "test": list(test)}
    columns = list(train[0])
    splits = {
        split: Dataset.from_dict(
            {"id": [f"{split}-{i}" for i in range(len(part))], **{c: [row[c] for row in part] for c in columns}},
            features=None if part else features_of(train),
        )
        for split, part in rows.items()
    }
    space = LabelSpace(tuple(names), np.array(counts), None, tuple(unseen), num_rows)
    return Corpus("hand", splits, Task(*task), space, "f" * 64)


def features_of(train):
    return Dataset.from_dict({"id": ["x"], **{c: [v] for c, v in train[0].items()}}).features


def tagging():
    """Names: B-loc, B-per, I-per, O; unseen: I-loc, B-org."""
    train = [
        {"tokens": ["Ann", "Lee", "left", "Rome"], "tags": [1, 2, 3, 0]},
        {"tokens": ["so", "what"], "tags": [3, 3]},
        {"tokens": ["Bob", "ran"], "tags": [1, 3]},
        {"tokens": ["bob", "ran"], "tags": [3, 3]},
    ]
    test = [{"tokens": ["New", "York", "UN"], "tags": [0, 4, 5]}, {"tokens": ["Bob", "ran"], "tags": [1, 3]}]
    names, counts = ("B-loc", "B-per", "I-per", "O"), [1, 2, 1, 6]
    return build(("tokens", "tags"), names, counts, train, test=test, unseen=("I-loc", "B-org"))


def parsing():
    train = [
        {"tokens": ["she", "sings"], "heads": [2, 0], "relations": [0, 1], "upos": ["PRON", "VERB"]},
        {"tokens": ["she", "sings"], "heads": [0, 1], "relations": [1, 0], "upos": ["PRON", "VERB"]},
        {"tokens": ["go"], "heads": [0], "relations": [1], "upos": ["VERB"]},
    ]
    return build(("tokens", "arcs"), ("nsubj", "root"), [2, 3], train)


def multilabel():
    train = [{"text": f"oil {i}", "labels": [0]} for i in range(6)]
    train += [{"text": "wheat", "labels": [0, 1]}, {"text": "wheat", "labels": [1]}, {"text": "none", "labels": []}]
    test = [{"text": "gold", "labels": [1, 2]}]
    return build(("text", "multi"), ("oil", "wheat"), [7, 2], train, test=test, unseen=("gold",), num_rows=9)


def relation(second_head=(0, 1)):
    sentence = ["Lithium", "with", "aspirin", "harms"]
    train = [
        {"tokens": sentence, "head": [0, 1], "tail": [2, 3], "label": 0},
        {"tokens": sentence, "head": list(second_head), "tail": [2, 3], "label": 1},
        {"tokens": ["x", "y", "z"], "head": [2, 3], "tail": [0, 2], "label": 1},
    ]
    return build(("relation", "single"), ("effect", "none"), [1, 2], train)


def words_of(diagnosis):
    return {row.name: f"{row.value} | {row.meaning}" for row in findings(diagnosis)}


def test_tags_are_counted_as_spans_of_types_and_o_stands_aside():
    diagnosis = diagnose(tagging())
    assert (diagnosis.unit, diagnosis.class_names, diagnosis.unseen) == ("span", ("loc", "per"), ("org",))
    assert diagnosis.train_counts.tolist() == [1, 2]
    assert diagnosis.counts["test"].tolist() == [1, 1, 1]
    assert diagnosis.num_rows == {"train": 4, "validation": 0, "test": 2}
    found = diagnosis.sentences
    assert (found.sentences, found.tokens, found.spans, found.without_span, found.outside) == (4, 10, 3, 2, 6)
    assert (found.mean_length, found.median_length, found.longest, found.outside_share) == (2.5, 2.0, 4, 0.6)
    assert (diagnosis.catch_all.name, diagnosis.catch_all.index, diagnosis.catch_all.share) == ("O", None, 0.6)
    assert (diagnosis.catch_all.rho, diagnosis.catch_all.rho_without) == (6.0, 2.0)


def test_findings_on_tags_speak_of_sentences_spans_and_types():
    rows = words_of(diagnose(tagging()))
    assert rows["sentences"] == "train 4, validation 0, test 2 | 2 types"
    assert rows["spans"].startswith("train 3, validation 0, test 3")
    assert rows["spans per sentence"] == "0.75 | 2 sentences of train (50.0%) have none"
    assert rows["catch-all tag"].startswith("O (60% of tokens)")
    assert rows["imbalance ratio rho"] == "2.0 | 2 spans of the largest type, 1 of the smallest"
    assert rows["types under 25 spans"] == "2 | loc, per"
    assert rows["label conflicts"].startswith('1 sentence | e.g. "Bob ran": ')
    assert "per[0:1] 1" in rows["label conflicts"]
    assert "no span 1" in rows["label conflicts"]
    assert "spans of one row are not independent" in rows["shift train to test"]
    warned = " ".join(warnings_of(diagnose(tagging())))
    assert "2 of 2 types have fewer than 25 training spans: loc, per." in warned
    assert "1 sentence of test also in train (50.0%)" in warned
    assert "1 types have no training instance (org)" in warned


def test_tags_without_spans_are_counted_by_token():
    train = [{"tokens": ["a", "b", "c"], "tags": [0, 1, 0]}]
    diagnosis = diagnose(build(("tokens", "tags"), ("NOUN", "VERB"), [2, 1], train))
    assert (diagnosis.unit, diagnosis.class_names, diagnosis.train_counts.tolist()) == (
        "token",
        ("NOUN", "VERB"),
        [2, 1],
    )
    assert diagnosis.sentences.outside_share is diagnosis.catch_all is None
    assert words_of(diagnosis)["tokens"].endswith("what is counted per tag")


def test_trees_are_counted_as_tokens_per_relation():
    diagnosis = diagnose(parsing())
    assert (diagnosis.unit, diagnosis.train_counts.tolist()) == ("token", [2, 3])
    assert diagnosis.conflicts.examples[0].labels == {"nsubj(2) root(0)": 1, "root(0) nsubj(1)": 1}
    rows = words_of(diagnosis)
    assert rows["tokens"] == "train 5, validation 0, test 0 | what is counted per relation"
    assert rows["tokens per sentence"].startswith("1.7 | the median is 2")
    assert "spans per sentence" not in rows
    assert "Training has 1 sentence with more than one tree (2 rows)." in warnings_of(diagnosis)


def test_several_labels_are_measured_by_label_and_by_set():
    diagnosis = diagnose(multilabel())
    assert (diagnosis.unit, diagnosis.train_counts.tolist()) == ("label", [7, 2])
    assert diagnosis.num_rows["train"] == 9
    measures = diagnosis.labels.measures
    assert (measures.num_rows, measures.unlabelled_rows, measures.label_sets) == (9, 1, 4)
    assert measures.cardinality == pytest.approx(1.0)
    assert measures.density == pytest.approx(0.5)  # of the two labels of training
    assert measures.mean_ir == pytest.approx((1.0 + 3.5) / 2)
    assert diagnosis.labels.irlbl.tolist() == [1.0, 3.5]
    together = 1 - np.sqrt(1.0 * 3.5) / ((1.0 + 3.5) / 2)
    assert diagnosis.labels.scumble == pytest.approx([together / 7, together / 2])
    assert diagnosis.conflicts.examples[0].labels == {"oil, wheat": 1, "wheat": 1}


def test_findings_on_several_labels_name_the_measures():
    rows = words_of(diagnose(multilabel()))
    assert rows["texts"] == "train 9, validation 0, test 1 | 2 labels"
    assert rows["labels given"].startswith("train 9, validation 0, test 2")
    assert rows["labels per row (Card)"] == "1.00 | 1 of 9 rows of train (11.1%) have none"
    assert rows["density (Dens)"].startswith("0.5000")
    assert rows["MeanIR"].endswith("highest IRLbl: wheat 3.5, oil 1.0")
    assert {"CVIR", "SCUMBLE", "label sets"} <= set(rows)
    assert "effective labels" in rows
    assert "spans per sentence" not in rows


def test_relations_are_equal_where_the_same_tokens_are_marked():
    marked = SplitTexts(relation(), "train")
    assert marked.texts(0) == ("<e1> Lithium </e1> with <e2> aspirin </e2> harms",)
    assert marked.texts(2) == ("<e2> x y </e2> <e1> z </e1>",)
    diagnosis = diagnose(relation())
    assert (diagnosis.unit, diagnosis.catch_all.name, diagnosis.conflicts.texts) == ("row", "none", 1)
    elsewhere = diagnose(relation(second_head=(3, 4)))
    assert (elsewhere.conflicts.texts, elsewhere.duplicates.rows) == (0, 0)
    rows = words_of(elsewhere)
    assert rows["relation mentions"] == "train 3, validation 0, test 0 | 2 relations"
    assert rows["catch-all relation"].startswith("none (67%)")


@pytest.mark.parametrize("make", [tagging, parsing, multilabel, relation])
def test_plain_data_survives_json(make):
    data = json.loads(json.dumps(diagnose(make()).to_dict(), allow_nan=False))
    assert data["num_rows"]["train"] >= 3
    assert (data["sentences"] is None) == (make not in {tagging, parsing})
    assert (data["labels"] is None) == (make is not multilabel)
    if make is multilabel:
        assert data["classes"][1]["irlbl"] == 3.5
        assert "irlbl" not in data["classes"][2]  # gold, which training does not have


@pytest.mark.parametrize(
    ("make", "drawn"),
    [
        (tagging, ("training spans (log)", "O: 6 tokens outside all spans, 60%", "Type shares", "catch-all: O")),
        (parsing, ("training tokens (log)", "5 tokens in 3 training sentences, 2 relations", "Relation shares")),
        (multilabel, ("training examples (log)", "no label: 1 examples, 11%", "1.00 labels each", "Label shares")),
        (relation, ("training examples (log)", "catch-all: none", "2 relations", "Relation shares")),
    ],
)
def test_the_figure_speaks_the_language_of_the_task(make, drawn, tmp_path):
    text = diagnosis_figure(diagnose(make()), tmp_path / "figure.svg").read_text()
    for words in drawn:
        assert words in text
    assert ("hatch" in text or "<pattern" in text) == (make is not parsing)


def test_overlap_needs_one_class_per_row():
    with pytest.raises(SettingError, match=r"'hand' is a corpus for tagging\. Leave `features` out"):
        diagnose(tagging(), features={"train": np.zeros((10, 2))})


def test_a_train_split_without_a_label_is_an_error():
    corpus = multilabel()
    corpus.splits["train"] = corpus.splits["train"].select([8]).flatten_indices()
    with pytest.raises(DataError, match="No row of the train split of 'hand' has a label"):
        diagnose(corpus)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("reuters21578", "label"),
        ("unfair_tos_en", "label"),
        ("semeval2010_task8", "row"),
        ("atis_slots", "span"),
        ("wnut17", "span"),
        ("ud_english_ewt", "token"),
        ("discourse_stac", "row"),
    ],
)
def test_real_data_are_counted_as_their_source_file_says(data_dir, name, unit):
    from tailwise.data import load

    diagnosis = diagnose(load(data_dir / name))
    source = json.loads((data_dir / name / "SOURCE.json").read_text())
    assert diagnosis.unit == unit
    assert (
        dict(zip(diagnosis.class_names, diagnosis.train_counts.tolist(), strict=True))
        == source["label_counts"]["train"]
    )
    assert sorted(diagnosis.unseen) == sorted(source["classes_missing_in_train"])
    assert diagnosis.num_rows == source["num_instances"]
    assert diagnosis.measures.rho == pytest.approx(source["imbalance_ratio_train_max_over_min"], abs=0.01)
    if diagnosis.labels is not None:
        assert diagnosis.labels.measures.cardinality == pytest.approx(source["label_cardinality_train"], abs=1e-3)
        assert diagnosis.labels.measures.unlabelled_rows == source["instances_without_label"]["train"]
    if unit == "span":
        assert diagnosis.sentences.outside_share == pytest.approx(source["outside_token_share_train"], abs=1e-4)
        assert diagnosis.catch_all.name == "O"
    if name == "ud_english_ewt":
        assert diagnosis.sentences.tokens == source["num_tokens"]["train"]
