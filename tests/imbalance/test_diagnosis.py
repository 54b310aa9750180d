"""The diagnosis of a corpus."""

import json

import numpy as np
import pytest

from tailwise.errors import DataError, SettingError
from tailwise.imbalance.diagnosis import diagnose

TRAIN = (
    [(f"note {i}", "other") for i in range(120)]
    + [(f"call {i}", "phone") for i in range(30)]
    + [(f"mail {i}", "mail") for i in range(6)]
    + [("Mail 5", "phone")]
)
TEST = [("note 3", "other"), ("fresh", "phone"), ("unheard", "fax")]


@pytest.fixture(scope="module")
def diagnosis(make_corpus):
    return diagnose(make_corpus(TRAIN, [("x", "mail"), ("y", "other")], TEST))


def test_counts_per_split_include_unseen_classes(diagnosis):
    assert diagnosis.class_names == ("mail", "other", "phone")
    assert diagnosis.unseen == ("fax",)
    assert diagnosis.train_counts.tolist() == [6, 120, 31]
    assert diagnosis.counts["test"].tolist() == [0, 1, 1, 1]
    assert diagnosis.measures.rho == 20.0


def test_classes_that_cannot_be_learnt_are_named_rarest_first(diagnosis):
    assert diagnosis.hardly_learnt == ("mail",)
    assert diagnosis.poorly_learnt == ("mail", "phone")
    assert diagnosis.classes_below(1) == ()


def test_the_parts_agree_with_the_corpus(diagnosis):
    assert diagnosis.catch_all.name == "other"
    assert diagnosis.groups.names.tolist() == ["tail", "head", "medium"]
    assert diagnosis.duplicates.rows == 1
    assert diagnosis.conflicts.examples[0].labels == {"mail": 1, "phone": 1}
    pairs = [(leak.source, leak.target, leak.rows) for leak in diagnosis.leakage]
    assert pairs == [("train", "validation", 0), ("train", "test", 1), ("validation", "test", 0)]
    shift = diagnosis.shifts[1]
    assert (shift.first, shift.second, shift.added, shift.missing) == ("train", "test", ("fax",), ("mail",))


def test_without_features_overlap_is_unknown(diagnosis):
    assert diagnosis.overlap is None
    assert diagnosis.spectral_similarity is None


def test_plain_data_survives_json(diagnosis):
    data = json.loads(json.dumps(diagnosis.to_dict(), allow_nan=False))
    assert data["num_rows"] == {"train": 157, "validation": 2, "test": 3}
    assert data["classes"][3] == {"name": "fax", "group": None, "train": 0, "validation": 0, "test": 1}
    assert data["groups"]["tail"] == {"classes": ["mail"], "examples": 6}
    assert data["hardly_learnt"] == {"below": 25, "classes": ["mail"]}
    assert data["task"] == {"input_form": "text", "label_structure": "single"}


def test_overlap_and_spectra_come_with_the_features_of_train(make_corpus):
    corpus = make_corpus(TRAIN, (), TEST)
    labels = corpus.labels("train")
    features = np.eye(3)[labels] + 0.05 * np.random.default_rng(0).normal(size=(len(labels), 3))
    diagnosis = diagnose(corpus, features={"train": features})
    assert diagnosis.overlap.relative_purity == pytest.approx(1.0)
    assert 0.0 < diagnosis.spectral_similarity <= 1.0
    json.dumps(diagnosis.to_dict(), allow_nan=False)


def test_empty_validation_and_test_are_left_out_of_the_comparisons(make_corpus):
    diagnosis = diagnose(make_corpus(TRAIN))
    assert diagnosis.leakage == diagnosis.shifts == ()
    assert diagnosis.counts["test"].tolist() == [0, 0, 0]


def test_wrong_input_is_an_error(make_corpus):
    corpus = make_corpus(TRAIN)
    with pytest.raises(SettingError, match="features` of the train split, but got those of: test"):
        diagnose(corpus, features={"test": np.zeros((1, 2))})
    corpus.splits["train"] = corpus.splits["train"].select([]).flatten_indices()
    with pytest.raises(DataError, match="train split of 'hand' is empty"):
        diagnose(corpus)


@pytest.mark.parametrize(
    ("name", "shape", "rho", "catch_all"),
    [
        ("sms_spam", "step", 7.03, None),
        ("trec50", "long-tailed", 288.67, None),
        ("snips_intent", "balanced", 1.06, None),
        ("korean_hate_bias", "step", 4.18, "none"),
        ("germeval2018", "linear", 46.7, "OTHER"),
    ],
)
def test_real_data_are_described_as_their_source_file_says(data_dir, name, shape, rho, catch_all):
    from tailwise.data import load

    corpus = load(data_dir / name)
    diagnosis = diagnose(corpus)
    source = json.loads((data_dir / name / "SOURCE.json").read_text())
    assert diagnosis.shape.name == shape
    assert diagnosis.measures.rho == pytest.approx(rho, abs=0.01)
    assert (diagnosis.catch_all.name if diagnosis.catch_all else None) == catch_all
    for i, label in enumerate(diagnosis.class_names):
        assert diagnosis.train_counts[i] == source["label_counts"]["train"][label]
    if name == "trec50":
        leak = next(leak for leak in diagnosis.leakage if (leak.source, leak.target) == ("train", "test"))
        assert leak.examples[0].text == "What are the twin cities ?"
