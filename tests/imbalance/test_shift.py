"""Shift of the class distribution between splits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2

from tailwise.imbalance.shift import chi_square_p_value, class_shift, jensen_shannon, total_variation

PAIR = st.integers(2, 12).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(0, 500), min_size=n, max_size=n).filter(any)] * 2)
)


@given(PAIR)
def test_distances_equal_reference_and_lie_in_the_unit_interval(pair):
    first, second = map(np.array, pair)
    p, q = first / first.sum(), second / second.sum()
    assert total_variation(first, second) == pytest.approx(max((p - q)[p > q].sum(), 0.0), abs=1e-9)
    assert jensen_shannon(first, second) == pytest.approx(jensenshannon(p, q, base=2) ** 2, abs=1e-7)
    assert 0.0 <= jensen_shannon(first, second) <= 1.0
    assert total_variation(first, second) == pytest.approx(total_variation(second, first))


def test_equal_distributions_do_not_differ_and_disjoint_ones_do():
    assert total_variation(np.array([90, 10]), np.array([9, 1])) == pytest.approx(0.0)
    assert jensen_shannon(np.array([5, 0]), np.array([0, 7])) == 1.0
    assert chi_square_p_value(np.array([900, 100]), np.array([90, 10]))[0] == pytest.approx(1.0)


def test_chi_square_equals_the_formula():
    first, second = np.array([60, 30, 10]), np.array([20, 20, 20])
    table = np.stack([first, second])
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    statistic = ((table - expected) ** 2 / expected).sum()
    assert chi_square_p_value(first, second) == (pytest.approx(chi2.sf(statistic, 2)), 3, 0)


def test_rare_classes_are_pooled():
    """Expected counts of the rare classes in the small split are 0.4 to 0.9: together 2, so the next class joins."""
    first, second = np.array([400, 60, 9, 6, 4]), np.array([40, 6, 0, 1, 0])
    p_value, cells, pooled = chi_square_p_value(first, second)
    assert (cells, pooled) == (2, 4)
    table = np.array([[400, 79], [40, 7]])
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    assert p_value == pytest.approx(chi2.sf(((table - expected) ** 2 / expected).sum(), 1))


def test_too_few_instances_give_no_p_value():
    assert chi_square_p_value(np.array([3, 2]), np.array([1, 1])) == (None, 1, 2)


@given(PAIR)
def test_every_tested_cell_has_an_expected_count_of_five(pair):
    first, second = map(np.array, pair)
    p_value, cells, pooled = chi_square_p_value(first, second)
    assert p_value is None or 0.0 <= p_value <= 1.0
    assert (p_value is None) == (cells < 2)
    classes = np.count_nonzero(first + second)
    assert cells == classes - max(pooled - 1, 0)


def test_p_values_are_uniform_when_nothing_shifts():
    generator = np.random.default_rng(0)
    prior = np.array([0.6, 0.25, 0.1, 0.03, 0.01, 0.005, 0.005])
    draws = [
        chi_square_p_value(generator.multinomial(2000, prior), generator.multinomial(300, prior))[0] for _ in range(800)
    ]
    assert np.mean(np.array(draws) < 0.05) == pytest.approx(0.05, abs=0.025)


def test_missing_and_added_classes_are_named():
    shift = class_shift(("train", np.array([9, 4, 0])), ("test", np.array([5, 0, 3])), ["a", "b", "new"])
    assert (shift.missing, shift.added) == (("b",), ("new",))
    assert shift.to_dict()["missing"] == ["b"]
