"""Post-hoc steps over labels, against brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.metrics import f1_score

from tailwise.errors import SettingError
from tailwise.posthoc import FitContext, LabelLogitAdjustment, LabelTauNorm, LabelTemperature, LabelThresholds
from tailwise.posthoc.label_steps import best_f1_threshold


def macro(target, predicted):
    return f1_score(target, predicted, average="macro", zero_division=0)


def context(labels, **facts):
    return FitContext(prior=np.full(labels, 0.2), metric=macro, **facts)


def sample(rows=400, labels=4, seed=0):
    rng = np.random.default_rng(seed)
    positive = rng.random((rows, labels)) < [0.5, 0.2, 0.05, 0.01]
    scores = rng.normal(size=(rows, labels)) + 2.5 * positive - 2.0
    return scores, positive.astype(np.int64)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=12))
def test_no_threshold_beats_the_best_one(rows):
    scores = np.array([s for s, _ in rows], dtype=float)
    positive = np.array([p for _, p in rows])
    if not positive.any():
        return
    found = best_f1_threshold(scores, positive)
    places = np.concatenate([scores - 0.5, scores + 0.5])
    best = max(f1_score(positive, scores > t, zero_division=0) for t in places)
    assert f1_score(positive, scores > found, zero_division=0) == pytest.approx(best)


def test_thresholds_help_and_are_never_worse_than_none():
    scores, positive = sample()
    step = LabelThresholds(shrinkage=0.0).fit(scores, positive, context(4))
    adjusted = step(scores)
    assert macro(positive, adjusted > 0) == pytest.approx(step.details["metric_after"])
    assert step.details["metric_after"] > step.details["metric_before"]
    np.testing.assert_allclose(step.scale, 1.0)


def test_a_label_with_few_rows_takes_the_common_threshold():
    scores, positive = sample()
    positive[:, 3] = 0
    positive[:3, 3] = 1
    step = LabelThresholds().fit(scores, positive, context(4))
    if step.details["metric_after"] > step.details["metric_before"]:
        assert step.bias[3] == pytest.approx(-step.details["common"])
    assert step.details["tuned"] == 3


def test_temperature_is_the_minimum_of_the_cross_entropy():
    scores, positive = sample()
    step = LabelTemperature().fit(3.0 * scores, positive, context(4))

    def loss(log_t):
        signed = np.where(positive, 3.0 * scores, -3.0 * scores) / np.exp(log_t)
        return np.logaddexp(0.0, -signed).mean()

    wanted = np.exp(minimize_scalar(loss, bounds=(-4, 4), method="bounded").x)
    assert step.details["temperature"] == pytest.approx(wanted, rel=1e-4)
    np.testing.assert_array_equal(step(scores) > 0, scores > 0)


def test_logit_adjustment_takes_out_the_odds():
    scores, positive = sample()
    prior = np.array([0.5, 0.2, 0.05, 0.01])
    facts = FitContext(prior=prior, metric=macro)
    method = LabelLogitAdjustment(strength=1.0)
    step = method.fit(scores, positive, facts)
    np.testing.assert_allclose(step(scores), scores - np.log(prior / (1 - prior)))
    np.testing.assert_allclose(method.effective_prior(prior, step), 0.5)
    assert LabelLogitAdjustment().fit(scores, positive, facts).details["strength"] in np.linspace(0, 1, 11).round(1)


def test_tau_norm_divides_rows_and_keeps_biases():
    rng = np.random.default_rng(1)
    weight, bias, features = rng.normal(size=(4, 5)), rng.normal(size=4), rng.normal(size=(30, 5))
    positive = (rng.random((30, 4)) < 0.4).astype(np.int64)
    step = LabelTauNorm(tau=0.5).fit(features @ weight.T + bias, positive, context(4, weight=weight, bias=bias))
    wanted = features @ (weight / np.linalg.norm(weight, axis=1)[:, None] ** 0.5).T + bias
    np.testing.assert_allclose(step(features @ weight.T + bias), wanted)


@pytest.mark.parametrize("method", [LabelThresholds(), LabelTemperature(), LabelLogitAdjustment()])
def test_what_cannot_be_fitted_is_refused(method):
    with pytest.raises(SettingError, match="one shape"):
        method.fit(np.zeros((3, 2)), np.zeros((3, 3), dtype=int), context(2))
    with pytest.raises(SettingError, match="no validation row"):
        method.fit(np.zeros((0, 2)), np.zeros((0, 2), dtype=int), context(2))
    with pytest.raises(SettingError, match="row 1 are not finite"):
        method.fit(np.array([[0.0], [np.nan]]), np.array([[1], [0]]), context(1))
