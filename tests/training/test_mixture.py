"""Weights of added scores: the minimum of the loss, the plain mean without rows, nothing fitted on the row itself."""

import numpy as np
import pytest
from scipy.special import expit, log_softmax

from tailwise.training.mixture import cross_fitted_mixture, fit_mixture


def problem(seed=0, rows=200, classes=4):
    generator = np.random.default_rng(seed)
    target = generator.integers(classes, size=rows)
    signal = np.eye(classes)[target]
    good = 2.0 * signal + generator.normal(size=(rows, classes))
    noise = generator.normal(size=(rows, classes))
    return good, noise, target


def test_the_weights_minimise_the_loss_over_a_grid():
    good, noise, target = problem()
    weights = fit_mixture([good, noise], target)

    def objective(first, second):
        logits = first * good + second * noise
        value = -log_softmax(logits, axis=1)[np.arange(len(target)), target].mean()
        return value + ((first - 0.5) ** 2 + (second - 0.5) ** 2) / len(target)

    grid = np.linspace(0.0, 3.0, 61)
    best = min(objective(a, b) for a in grid for b in grid)
    assert objective(*weights) <= best + 1e-6
    assert weights[0] > 10 * weights[1]


def test_over_labels_the_loss_is_the_binary_one():
    generator = np.random.default_rng(1)
    target = (generator.random((150, 3)) < 0.3).astype(float)
    good, noise = 3 * (target - 0.5) + generator.normal(size=target.shape), generator.normal(size=target.shape)
    weights = fit_mixture([good, noise], target)
    grid = np.linspace(0.0, 3.0, 61)

    def objective(first, second):
        p = expit(first * good + second * noise)
        value = -(target * np.log(p) + (1 - target) * np.log1p(-p)).mean()
        return value + ((first - 0.5) ** 2 + (second - 0.5) ** 2) / len(target)

    assert objective(*weights) <= min(objective(a, b) for a in grid for b in grid) + 1e-6


def test_a_shift_of_the_prior_is_taken_into_account():
    generator = np.random.default_rng(2)
    target = (generator.random(4000) < 0.1).astype(np.int64)
    evidence = np.where(target == 1, 1.0, -1.0) + generator.normal(size=target.size)
    balanced = np.stack([-evidence, evidence], axis=1)  # the exact log likelihood ratio: expresses equal classes
    shift = np.log([0.9, 0.1]) - np.log([0.5, 0.5])
    weights = fit_mixture([balanced, np.zeros_like(balanced)], target, shift)
    assert weights[0] == pytest.approx(1.0, abs=0.06)


def test_without_rows_and_with_unknown_classes_the_mean_is_left():
    empty = np.zeros((0, 3))
    np.testing.assert_allclose(fit_mixture([empty, empty], np.zeros(0, dtype=np.int64)), [0.5, 0.5])
    scores = np.zeros((2, 3))
    np.testing.assert_allclose(fit_mixture([scores, scores], np.array([3, 4])), [0.5, 0.5])


def test_no_row_has_a_part_in_its_own_weights():
    good, noise, target = problem(rows=50)
    added = cross_fitted_mixture([good, noise], target)
    changed = target.copy()
    changed[7] = (changed[7] + 1) % 4
    again = cross_fitted_mixture([good, noise], changed)
    np.testing.assert_array_equal(added[7], again[7])
    assert not np.array_equal(added, again)
