"""Conditions with a third value for what is not known."""

import itertools

import pytest

from tailwise.advisor.conditions import Clause, Comparison

YES = Comparison("rho", ">", 1.0)
NO = Comparison("rho", "<", 1.0)
UNKNOWN = Comparison("minority_purity", "<", 0.5)
VALUES = {YES: True, NO: False, UNKNOWN: None}


def kleene_and(values):
    return False if False in values else (None if None in values else True)


@pytest.mark.parametrize("parts", list(itertools.product(VALUES, repeat=3)))
def test_all_and_any_follow_kleene(situation, parts):
    case = situation(minority_purity=None)
    values = [VALUES[part] for part in parts]
    assert Clause("all", parts).holds(case) is kleene_and(values)
    negated = kleene_and([None if value is None else not value for value in values])
    assert Clause("any", parts).holds(case) is (None if negated is None else not negated)


def test_all_of_nothing_holds_and_any_of_nothing_does_not(situation):
    assert Clause("all", ()).holds(situation()) is True
    assert Clause("any", ()).holds(situation()) is False


@pytest.mark.parametrize(
    ("op", "value", "expected"),
    [
        ("==", 8.0, True),
        ("!=", 8.0, False),
        ("<", 8.0, False),
        ("<=", 8.0, True),
        (">", 8.0, False),
        (">=", 8.0, True),
        ("in", [1, 8.0], True),
    ],
)
def test_operators(situation, op, value, expected):
    assert Comparison("rho", op, value).holds(situation(rho=8.0)) is expected


def test_an_explanation_names_the_comparisons_that_decide(situation):
    clause = Clause("all", (YES, Clause("any", (NO, UNKNOWN))))
    case = situation(minority_purity=None, rho=3256.0)
    assert clause.explain(case, True) == ["rho is 3256"]
    assert clause.explain(case, False) == ["rho is 3256, needs < 1"]
    assert clause.explain(case, None) == ["minority_purity is unknown (give features to diagnose())"]
