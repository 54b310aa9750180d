"""Measures of class counts against closed forms, naive loops and invariances."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.errors import SettingError
from tailwise.imbalance import measures as m

COUNTS = st.lists(st.integers(1, 10**6), min_size=2, max_size=30)


@pytest.mark.parametrize("number", [2, 7, 151])
def test_equal_counts_are_balanced_by_every_measure(number):
    found = m.measure([40] * number)
    assert (found.rho, found.mu, found.gini, found.coefficient_of_variation) == (1.0, 0.0, 0.0, 0.0)
    assert found.imbalance_degree == 0.0
    assert found.likelihood_ratio_degree == pytest.approx(0.0, abs=1e-9)
    assert found.normalised_entropy == pytest.approx(1.0)
    assert found.effective_classes == pytest.approx(number)
    assert found.inverse_simpson == pytest.approx(number)


def test_closed_forms_of_a_step():
    """Six classes of 100, four of 10: the figure of the survey (mu 0.4, rho 10)."""
    found = m.measure([100] * 6 + [10] * 4)
    assert found.rho == 10.0
    assert found.mu == 0.4
    assert (found.total, found.smallest, found.median, found.largest) == (640, 10, 100.0, 100)
    entropy = -(6 * (100 / 640) * math.log(100 / 640) + 4 * (10 / 640) * math.log(10 / 640))
    assert found.normalised_entropy == pytest.approx(entropy / math.log(10))
    assert found.effective_classes == pytest.approx(math.exp(entropy))
    assert found.inverse_simpson == pytest.approx(1 / (6 * (100 / 640) ** 2 + 4 * (10 / 640) ** 2))
    assert found.gini == pytest.approx(2 * 6 * 4 * 90 / (2 * 10 * 640))
    assert found.coefficient_of_variation == pytest.approx(np.sqrt(0.6 * 36**2 + 0.4 * 54**2) / 64)


@given(COUNTS)
def test_measures_equal_naive_loops(counts):
    total, number = sum(counts), len(counts)
    shares = [n / total for n in counts]
    found = m.measure(counts)
    assert found.gini == pytest.approx(sum(abs(a - b) for a in counts for b in counts) / (2 * number * total), abs=1e-9)
    assert found.likelihood_ratio_degree == pytest.approx(
        -2 * math.fsum(n * math.log(total / (number * n)) for n in counts), rel=1e-6, abs=1e-5
    )
    assert found.effective_classes == pytest.approx(math.exp(-math.fsum(p * math.log(p) for p in shares)), rel=1e-9)
    assert found.mu == sum(n * number < total for n in counts) / number


@given(COUNTS, st.randoms(use_true_random=False))
def test_relabelling_the_classes_changes_nothing(counts, random):
    shuffled = random.sample(counts, len(counts))
    first, second = m.measure(counts).to_dict(), m.measure(shuffled).to_dict()
    assert first == pytest.approx(second, rel=1e-9, abs=1e-9)


@given(COUNTS)
def test_bounds(counts):
    found = m.measure(counts)
    number = len(counts)
    assert found.rho >= 1.0
    assert 0.0 <= found.mu < 1.0
    assert 0.0 <= found.normalised_entropy <= 1.0
    assert 1.0 - 1e-9 <= found.inverse_simpson <= found.effective_classes + 1e-9 <= number + 1e-6
    assert 0.0 <= found.gini < 1.0
    minority = round(found.mu * number)
    if minority:
        assert minority - 1 < found.imbalance_degree <= minority + 1e-9


@given(COUNTS, st.integers(2, 50))
def test_all_but_the_likelihood_ratio_ignore_the_size_of_the_data(counts, factor):
    small, large = m.measure(counts), m.measure([factor * n for n in counts])
    for name in ("rho", "mu", "normalised_entropy", "gini", "coefficient_of_variation", "imbalance_degree"):
        assert getattr(small, name) == pytest.approx(getattr(large, name), rel=1e-9, abs=1e-9)
    assert large.likelihood_ratio_degree == pytest.approx(factor * small.likelihood_ratio_degree, rel=1e-6, abs=1e-3)


def test_imbalance_degree_reaches_the_number_of_minority_classes_at_the_farthest_distribution():
    """C = 4, m = 2: two classes (nearly) empty, one at 1/4, the rest on the last."""
    assert m.imbalance_degree([1, 1, 25 * 10**8 + 2, 75 * 10**8]) == pytest.approx(2.0, abs=1e-3)


@given(COUNTS)
def test_imbalance_degree_by_total_variation_is_what_the_minority_classes_lack(counts):
    total, number = sum(counts), len(counts)
    minority = [n for n in counts if n * number < total]
    lacking = 1.0 - number * sum(minority) / (total * len(minority)) if minority else 0.0
    expected = len(minority) - 1 + lacking if minority else 0.0
    assert m.imbalance_degree(counts, "total_variation") == pytest.approx(expected, abs=1e-9)


def test_imbalance_degree_of_two_classes_by_hand():
    """Shares 0.9 and 0.1 against 0.5 and 0.5; the farthest distribution is 1 and 0."""
    near = math.sqrt(((math.sqrt(0.9) - math.sqrt(0.5)) ** 2 + (math.sqrt(0.1) - math.sqrt(0.5)) ** 2) / 2)
    far = math.sqrt(((1 - math.sqrt(0.5)) ** 2 + 0.5) / 2)
    assert m.imbalance_degree([90, 10]) == pytest.approx(near / far)
    assert m.imbalance_degree([90, 10], "total_variation") == pytest.approx(0.8)


def test_likelihood_ratio_degree_by_hand():
    """LRID of 90 and 10: -2 (90 log(100 / 180) + 10 log(100 / 20))."""
    expected = -2 * (90 * math.log(100 / 180) + 10 * math.log(100 / 20))
    assert m.likelihood_ratio_degree([90, 10]) == pytest.approx(expected)


def test_an_unknown_distance_is_an_error():
    with pytest.raises(SettingError, match="one of hellinger, total_variation, but got 'kl'"):
        m.imbalance_degree([1, 2], "kl")


def test_empty_classes_are_counted_and_otherwise_left_out():
    found, without = m.measure([10, 0, 5, 0]), m.measure([10, 5])
    assert (found.num_classes, found.empty_classes) == (2, 2)
    assert found.rho == without.rho == 2.0
    assert found.effective_classes == without.effective_classes
    assert m.minority_classes([10, 0, 5, 0]).tolist() == [False, False, True, False]


def test_a_single_class_is_balanced():
    assert m.measure([7]).normalised_entropy == 1.0


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([[1, 2]], "one number per class, but got an array of shape"),
        ([1, -2], "whole numbers >= 0, but got [1, -2]"),
        ([1.5, 2.0], "whole numbers >= 0"),
        ([0, 0], "every class has none"),
        ([], "every class has none"),
    ],
)
def test_what_is_not_counts_is_an_error(counts, message):
    with pytest.raises(SettingError) as caught:
        m.measure(counts)
    assert message in str(caught.value)


def test_an_unknown_order_of_diversity_is_an_error():
    with pytest.raises(SettingError, match="`order` to be 1 or 2, but got 3"):
        m.effective_classes([1, 2], order=3)
