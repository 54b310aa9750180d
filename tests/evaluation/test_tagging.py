"""Figures of tagged sentences against naive spans."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from tailwise.data.labels import LabelSpace
from tailwise.errors import DataError
from tailwise.evaluation.tagging import TagEvaluation, span_label_space

POS = LabelSpace(("ADJ", "NOUN", "VERB"), np.array([5, 20, 10]), unseen=("X",))


def naive_spans(tags):
    """(start, end, type) of every span of a sentence of tag names."""
    found, start, kind = set(), None, None
    for i, tag in enumerate([*tags, "O"]):
        prefix, _, name = tag.partition("-")
        if start is not None and (prefix in {"O", "B"} or name != kind):
            found.add((start, i, kind))
            start = None
        if prefix != "O" and start is None:
            start, kind = i, name
    return found


def names_by_sentence(evaluation, tags):
    words = [evaluation.tag_space.all_names[t] for t in tags]
    return [words[a:b] for a, b in zip(evaluation.offsets[:-1], evaluation.offsets[1:], strict=True)]


def test_figures_equal_those_of_naive_spans(make_tagged):
    ours = make_tagged(0, size=200)
    pairs = [
        (naive_spans(g), naive_spans(p))
        for g, p in zip(names_by_sentence(ours, ours.gold), names_by_sentence(ours, ours.predicted), strict=True)
    ]
    right, gold, found = (
        sum(len(part(g, p)) for g, p in pairs) for part in (lambda g, p: g & p, lambda g, p: g, lambda g, p: p)
    )
    assert ours.score("micro_f1") == pytest.approx(2 * right / (gold + found))
    assert ours.score("micro_precision") == pytest.approx(right / found)
    assert ours.score("micro_recall") == pytest.approx(right / gold)
    f1 = []
    for kind in ("LOC", "ORG", "PER"):
        right, gold, found = (
            sum(sum(s[2] == kind for s in spans) for spans in column)
            for column in zip(*[(g & p, g, p) for g, p in pairs], strict=True)
        )
        row = ours.per_class().set_index("class").loc[kind]
        assert (row["support"], row["predicted"]) == (gold, found)
        f1.append(2 * right / (gold + found))
        assert row["f1"] == pytest.approx(f1[-1])
    assert ours.score("macro_f1") == pytest.approx(np.mean(f1))
    assert ours.score("token_accuracy") == pytest.approx(accuracy_score(ours.gold, ours.predicted))
    lenient = ours.summary()
    assert lenient["lenient_micro_f1"] > lenient["micro_f1"]
    assert lenient["lenient_macro_f1"] > lenient["macro_f1"]


def test_reported_classes_are_types_with_the_counts_of_the_tags_that_begin_one(make_tagged):
    space = make_tagged(0).label_space
    assert space.names == ("LOC", "ORG", "PER")
    assert space.counts.tolist() == [30, 9, 4]
    assert space.unseen == ("ART",)
    inside_only = LabelSpace(("I-A", "I-B", "O", "S-B"), np.array([7, 5, 90, 2]))
    assert span_label_space(inside_only).counts.tolist() == [7, 2]


def test_a_gold_span_of_an_unseen_type_is_missed_and_a_wrong_boundary_is_right_leniently():
    space = LabelSpace(("B-A", "I-A", "O"), np.array([3, 3, 9]), unseen=("B-Z",))
    gold = np.array([0, 1, 2, 3])  # a span of A, then one of Z
    predicted = np.array([0, 2, 2, 2])
    ours = TagEvaluation(("s",), np.array([0, 4]), gold, np.eye(3)[predicted], space)
    assert ours.score("micro_f1") == 0.0
    assert ours.score("lenient_micro_f1") == pytest.approx(2 / (2 + 1))
    assert ours.score("lenient_macro_f1") == 1.0
    assert ours.groups(["tail"])["group"].tolist() == ["tail", "unseen"]


def test_tags_that_mark_no_spans_are_scored_token_by_token(make_tagged):
    ours = make_tagged(1, space=POS)
    assert ours.label_space is POS
    expected = precision_recall_fscore_support(ours.gold, ours.predicted, labels=range(3), zero_division=0)
    table = ours.per_class()
    for column, theirs in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        np.testing.assert_allclose(table[column], theirs)
    accuracy = accuracy_score(ours.gold, ours.predicted)
    assert ours.score("micro_f1") == pytest.approx(accuracy)
    assert ours.score("token_accuracy") == pytest.approx(accuracy)
    assert not any(name.startswith("lenient") for name in ours.metrics)


def test_spans_do_not_run_from_one_sentence_into_the_next():
    space = LabelSpace(("B-A", "I-A", "O"), np.array([3, 3, 9]))
    ours = TagEvaluation(("s", "t"), np.array([0, 1, 2]), np.array([0, 1]), np.eye(3)[[0, 1]], space)
    assert ours.per_class()["support"].tolist() == [2]
    assert ours.unit_counts.correct.toarray().tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": ("a",)}, r"1 ids, offsets \(3,\)"),
        ({"offsets": [0, 2, 4]}, r"up to 4, gold \(3,\)"),
        ({"offsets": [0, 4, 3]}, "rise from 0 to M"),
        ({"offsets": [1, 2, 3]}, "rise from 0 to M"),
        ({"gold": [0, 1, 4]}, r"gold indices in 0\.\.3.*0\.\.4"),
        ({"ids": ("a", "a")}, "unique ids"),
        ({"logits": np.array([[0, 0, 0], [0, 0, 0], [0, np.nan, 0]])}, "1 of 2 instances.*'b'"),
    ],
)
def test_inconsistent_scores_are_refused(change, message):
    parts = {"ids": ("a", "b"), "offsets": [0, 2, 3], "gold": [0, 1, 3], "logits": np.zeros((3, 3))}
    parts |= change
    with pytest.raises(DataError, match=message):
        TagEvaluation(**parts, tag_space=POS)
