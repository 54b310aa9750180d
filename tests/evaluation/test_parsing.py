"""Attachment scores against naive counting, word by word."""

import numpy as np
import pytest

from tailwise.data.labels import LabelSpace
from tailwise.errors import DataError
from tailwise.evaluation.parsing import ArcEvaluation

FUNCTION = {"aux", "case", "cc", "clf", "cop", "det", "mark"}


def words(evaluation):
    """(gold head, gold relation, head, relation) of every token."""
    names = evaluation.label_space.all_names
    relations = evaluation.logits.argmax(axis=1)
    return [
        (a, names[b], c, names[d])
        for a, b, c, d in zip(
            evaluation.gold_heads, evaluation.gold_relations, evaluation.heads, relations, strict=True
        )
    ]


def test_attachment_scores_equal_naive_counting(make_parsed):
    ours = make_parsed(0, size=150)
    tokens = words(ours)

    def universal(relation):
        return relation.split(":")[0]

    def content(relation):
        return universal(relation) not in FUNCTION | {"punct"}

    right = [a == c and universal(b) == universal(d) for a, b, c, d in tokens]
    assert ours.score("uas") == pytest.approx(np.mean([a == c for a, _, c, _ in tokens]))
    assert ours.score("las") == pytest.approx(np.mean(right))
    assert ours.score("las_full") == pytest.approx(np.mean([(a, b) == (c, d) for a, b, c, d in tokens]))
    both = sum(content(b) for _, b, _, _ in tokens) + sum(content(d) for _, _, _, d in tokens)
    hits = sum(ok and content(b) for ok, (_, b, _, _) in zip(right, tokens, strict=True))
    assert ours.score("clas") == pytest.approx(2 * hits / both)
    assert ours.score("las_full") < ours.score("las") < ours.score("uas")


def test_relations_are_right_with_their_head_only(make_parsed):
    ours = make_parsed(1, size=150)
    tokens, table = words(ours), ours.per_class().set_index("class")
    f1 = []
    for relation in ours.label_space.names:
        hits = sum((a, b) == (c, d) and b == relation for a, b, c, d in tokens)
        gold, found = sum(b == relation for _, b, _, _ in tokens), sum(d == relation for _, _, _, d in tokens)
        f1.append(2 * hits / (gold + found))
        row = table.loc[relation]
        assert (row["support"], row["predicted"]) == (gold, found)
        assert row["f1"] == pytest.approx(f1[-1])
    assert ours.score("macro_f1") == pytest.approx(np.mean(f1))
    assert table["average_precision"].isna().all()


def test_an_unseen_subtype_can_be_right_in_las_but_an_unseen_relation_cannot():
    space = LabelSpace(("nmod", "root"), np.array([5, 5]), unseen=("nmod:tmod", "vocative"))
    gold, predicted = np.array([1, 2, 3]), np.array([1, 0, 0])
    heads = np.array([0, 1, 1])
    ours = ArcEvaluation(("s",), np.array([0, 3]), heads, gold, heads, np.eye(2)[predicted], space)
    assert ours.score("uas") == 1.0
    assert ours.score("las") == pytest.approx(2 / 3)
    assert ours.score("las_full") == pytest.approx(1 / 3)
    assert ours.groups(["head", "tail"]).set_index("group").loc["unseen", "support"] == 2


def test_punctuation_counts_in_las_and_not_in_clas():
    space = LabelSpace(("case", "obj", "punct"), np.array([5, 5, 5]))
    gold = np.array([0, 1, 2])
    heads = np.array([2, 0, 2])
    ours = ArcEvaluation(("s",), np.array([0, 3]), heads, gold, np.array([3, 0, 1]), np.eye(3)[gold], space)
    assert ours.score("las") == pytest.approx(1 / 3)
    assert ours.score("clas") == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": [0, 1]}, r"`heads` to be one head per token, \(3,\), but got shape \(2,\)"),
        ({"heads": [0, 3, 0]}, r"`heads`.*token 2 of 'a' \(2 tokens\) has 3"),
        ({"gold_heads": [0, 1, -1]}, r"`gold_heads`.*token 1 of 'b' \(1 tokens\) has -1"),
        ({"gold_relations": [0, 1, 2]}, r"gold indices in 0\.\.1.*0\.\.2"),
        ({"logits": np.zeros((2, 2))}, r"logits of shape \(M, 2\).*logits \(2, 2\)"),
    ],
)
def test_inconsistent_scores_are_refused(make_space, change, message):
    parts = {"ids": ("a", "b"), "offsets": [0, 2, 3], "gold_heads": [0, 1, 0], "gold_relations": [0, 1, 0]}
    parts |= {"heads": [2, 0, 0], "logits": np.zeros((3, 2))} | change
    with pytest.raises(DataError, match=message):
        ArcEvaluation(**parts, label_space=make_space(2))
