"""The official macro-F1 of relations, against a confusion matrix worked through by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.data.labels import LabelSpace
from tailwise.evaluation.bootstrap import bootstrap
from tailwise.evaluation.evaluation import Evaluation
from tailwise.evaluation.relations import has_directions, relation_type

NAMES = ("Cause-Effect(e1,e2)", "Cause-Effect(e2,e1)", "Entity-Origin(e1,e2)", "Entity-Origin(e2,e1)", "Other")
SPACE = LabelSpace(NAMES, np.array([5, 4, 3, 2, 9]), "Other")


def evaluation(gold, predicted, space=SPACE):
    logits = np.eye(len(space))[np.array(predicted)]
    return Evaluation(tuple(f"{i:03}" for i in range(len(gold))), np.array(gold), logits, space)


def by_hand(gold, predicted):
    """The rule of the scorer, type by type."""
    values = []
    for kind in ("Cause-Effect", "Entity-Origin"):
        of_type = [i for i, name in enumerate(NAMES) if name.startswith(kind)]
        right = sum(g == p and g in of_type for g, p in zip(gold, predicted, strict=True))
        given_, guessed = sum(g in of_type for g in gold), sum(p in of_type for p in predicted)
        precision = right / guessed if guessed else 0.0
        recall = right / given_ if given_ else 0.0
        values.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
    return float(np.mean(values))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=30))
def test_it_is_the_rule_of_the_scorer(rows):
    gold, predicted = zip(*rows, strict=True)
    assert evaluation(gold, predicted).score("relation_macro_f1") == pytest.approx(by_hand(gold, predicted))


def test_the_wrong_direction_is_wrong_and_the_catch_all_is_no_type():
    assert evaluation([0, 0], [1, 1]).score("relation_macro_f1") == 0.0
    assert evaluation([0, 2, 4], [0, 2, 4]).score("relation_macro_f1") == 1.0
    assert evaluation([4, 4], [4, 4]).score("relation_macro_f1") == 0.0


def test_without_directions_it_is_macro_f1_without_the_catch_all():
    space = LabelSpace(("advise", "effect", "negative"), np.array([2, 2, 9]), "negative")
    found = evaluation([0, 1, 1, 2], [0, 0, 1, 2], space)
    assert found.score("relation_macro_f1") == pytest.approx(found.per_class()["f1"][:2].mean())
    assert not has_directions(space)
    assert has_directions(SPACE)
    assert relation_type("Cause-Effect(e2,e1)") == "Cause-Effect"


def test_it_has_intervals():
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 5, 200)
    runs = {"a": [evaluation(gold, np.where(rng.random(200) < 0.8, gold, 4))]}
    result = bootstrap(runs, ["relation_macro_f1"], resamples=200)
    point, low, high = result.interval("a", "relation_macro_f1")
    assert low < point < high
