"""Average precision equals scikit-learn's, ties included."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from tailwise.evaluation.ranking import average_precision, average_precision_per_class


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=1, max_size=40))
def test_average_precision_equals_scikit_learn_with_tied_scores(rows):
    positive, score = np.array([p for p, _ in rows]), np.array([s / 6 for _, s in rows])
    if not positive.any():
        assert np.isnan(average_precision(positive, score))
        return
    assert average_precision(positive, score) == pytest.approx(average_precision_score(positive, score), rel=1e-12)


def test_per_class_values_leave_absent_classes_open():
    gold = np.array([0, 0, 1, 1])
    scores = np.array([[0.9, 0.1, 0.0], [0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.85, 0.1, 0.05]])
    values = average_precision_per_class(gold, scores)
    assert values[0] == pytest.approx((1 + 2 / 3) / 2)
    assert np.isnan(values[2])


def test_a_perfect_ranking_scores_one_and_a_constant_one_the_prevalence():
    positive = np.array([True, False, False, False])
    assert average_precision(positive, np.array([0.9, 0.3, 0.2, 0.1])) == 1.0
    assert average_precision(positive, np.full(4, 0.5)) == 0.25
