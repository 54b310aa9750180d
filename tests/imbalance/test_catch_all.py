"""Catch-all candidates and their reasons."""

import numpy as np
import pytest

from tailwise.imbalance.catch_all import find_catch_all


def find(counts, **kwargs):
    return find_catch_all(tuple(counts), np.array(list(counts.values())), **kwargs)


@pytest.mark.parametrize(
    "name", ["O", "other", "OTHER", "None", "no_relation", "No Relation", "no-relation", "NA", "nil", "NULL"]
)
def test_usual_names_are_found_whatever_their_case(name):
    found = find({"cause": 10, name: 50, "effect": 20})
    assert (found.name, found.basis, found.index) == (name, "named", 1)
    assert found.share == pytest.approx(50 / 80)
    assert (found.rho, found.rho_without, found.mu_without) == (5.0, 2.0, 0.5)
    assert found.shape_without == "step"
    assert repr(name) in found.reason


def test_negative_is_a_catch_all_unless_it_is_a_polarity():
    assert find({"negative": 50, "effect": 10, "advise": 9}).name == "negative"
    assert find({"negative": 50, "positive": 40}) is None
    assert find({"negative": 50, "Positive": 40, "neutral": 9}) is None


def test_the_label_space_goes_before_the_name():
    found = find({"other": 50, "neutral": 70, "joy": 5}, configured="neutral")
    assert (found.name, found.basis) == ("neutral", "configured")


def test_the_larger_of_two_named_classes_is_taken_and_the_other_mentioned():
    found = find({"none": 5, "other": 70, "joy": 5})
    assert found.name == "other"
    assert "'none'" in found.reason


def test_a_dominant_class_above_near_equal_others_is_a_structural_candidate():
    found = find({"a": 100, "rest": 3000, "b": 90, "c": 110, "d": 95})
    assert (found.name, found.basis) == ("rest", "structural")
    assert "88% of the training examples, 27.3 times the next class" in found.reason
    assert "check the meaning" in found.reason


@pytest.mark.parametrize(
    "counts",
    [
        {"a": 3000, "b": 500, "c": 90, "d": 15, "e": 3},  # a long tail
        {"a": 3000, "b": 100, "c": 100},  # too few classes to tell
        {"a": 200, "b": 100, "c": 100, "d": 100},  # not dominant
        {"a": 100, "b": 100, "c": 100, "d": 100},
        {"ham": 3614, "spam": 514},
    ],
)
def test_no_structural_candidate_without_dominance_over_near_equals(counts):
    assert find(counts) is None


def test_the_candidate_of_two_classes_leaves_nothing_to_compare():
    found = find({"none": 90, "hate": 10})
    assert (found.rho_without, found.mu_without, found.shape_without) == (None, None, None)
