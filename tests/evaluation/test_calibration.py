"""Calibration figures against closed forms and naive loops."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.sparse import csr_matrix
from scipy.special import expit, log_softmax
from sklearn.metrics import log_loss

from tailwise.data.labels import LabelSpace
from tailwise.errors import DataError, SettingError
from tailwise.evaluation.calibration import (
    CALIBRATION_METRICS,
    balanced_negative_log_likelihood,
    brier_score,
    calibrated,
    calibrated_labels,
    classwise_calibration_error,
    expected_calibration_error,
    negative_log_likelihood,
    reliability_table,
)
from tailwise.evaluation.evaluation import Evaluation
from tailwise.evaluation.multilabel import MultilabelEvaluation


def naive_ece(probabilities, gold, bins):
    total = 0.0
    for b in range(bins):
        inside = [
            (p.max(), p.argmax() == y)
            for p, y in zip(probabilities, gold, strict=True)
            if b / bins < p.max() <= (b + 1) / bins
        ]
        if inside:
            confidence, hit = np.mean([c for c, _ in inside]), np.mean([h for _, h in inside])
            total += len(inside) / len(gold) * abs(hit - confidence)
    return total


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("bins", [1, 7, 15])
def test_ece_equals_a_naive_loop_over_bins(make_scored, seed, bins):
    evaluation = make_scored(seed, unseen=1)
    ours = expected_calibration_error(evaluation.probabilities, evaluation.gold, bins=bins)
    assert ours == pytest.approx(naive_ece(evaluation.probabilities, evaluation.gold, bins), abs=1e-12)


def test_bins_are_open_below_and_closed_above():
    probabilities = np.array([[0.6, 0.4], [0.8, 0.2]])
    table = reliability_table(probabilities, np.array([0, 0]), bins=5)
    assert table["count"].tolist() == [0, 0, 1, 1, 0]


def test_ece_is_zero_when_confidence_equals_accuracy_in_every_bin():
    probabilities = np.tile([0.75, 0.25], (4, 1))
    assert expected_calibration_error(probabilities, np.array([0, 0, 0, 1])) == pytest.approx(0.0, abs=1e-15)
    assert expected_calibration_error(probabilities, np.array([1, 1, 1, 1])) == pytest.approx(0.75)


def test_equal_mass_bins_hold_equal_shares_and_keep_ties_together(make_scored):
    evaluation = make_scored(0, size=300)
    table = evaluation.reliability(bins=10, binning="equal_mass")
    assert table["count"].tolist() == [30] * 10
    tied = np.tile([0.7, 0.3], (10, 1))
    gold = np.array([0] * 5 + [1] * 5)
    value = expected_calibration_error(tied, gold, bins=4, binning="equal_mass")
    assert value == pytest.approx(0.2)
    assert expected_calibration_error(tied, gold[::-1], bins=4, binning="equal_mass") == pytest.approx(value)


def test_classwise_ece_is_the_mean_of_binary_calibration_errors(make_scored):
    evaluation = make_scored(1, num_classes=4)
    p, gold = evaluation.probabilities, evaluation.gold
    total = 0.0
    for j in range(4):
        for b in range(15):
            inside = (p[:, j] > b / 15) & (p[:, j] <= (b + 1) / 15)
            if inside.any():
                total += inside.mean() * abs((gold[inside] == j).mean() - p[inside, j].mean())
    assert classwise_calibration_error(p, gold) == pytest.approx(total / 4, abs=1e-12)


def test_nll_and_brier_equal_their_definitions(make_scored):
    evaluation = make_scored(2, num_classes=4)
    p, gold = evaluation.probabilities, evaluation.gold
    assert negative_log_likelihood(p, gold) == pytest.approx(log_loss(gold, p, labels=range(4)), rel=1e-9)
    assert brier_score(p, gold) == pytest.approx(((p - np.eye(4)[gold]) ** 2).sum(axis=1).mean(), rel=1e-12)
    per_class = [-np.log(p[gold == j, j]).mean() for j in np.unique(gold)]
    assert balanced_negative_log_likelihood(p, gold) == pytest.approx(np.mean(per_class), rel=1e-12)


def test_unseen_classes_cost_one_in_brier_and_nothing_in_nll():
    p = np.array([[0.5, 0.5], [0.9, 0.1]])
    gold = np.array([2, 0])
    assert brier_score(p, gold) == pytest.approx(((0.5 + 1.0) + (0.01 + 0.01)) / 2)
    assert negative_log_likelihood(p, gold) == pytest.approx(-np.log(0.9))
    assert np.isnan(negative_log_likelihood(p, np.array([2, 2])))
    assert np.isnan(balanced_negative_log_likelihood(p, np.array([2, 2])))


def test_a_probability_that_underflows_costs_a_finite_loss():
    assert negative_log_likelihood(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(708.4, abs=0.1)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_no_figure_depends_on_the_order_of_instances_or_classes(seed):
    generator = np.random.default_rng(seed)
    p = generator.dirichlet(np.ones(4), size=50)
    gold = generator.integers(0, 4, 50)
    order, renamed = generator.permutation(50), generator.permutation(4)
    for name, metric in CALIBRATION_METRICS.items():
        moved = metric(p[:, np.argsort(renamed)][order], renamed[gold][order])
        assert moved == pytest.approx(metric(p, gold), abs=1e-12), name


def test_calibration_divides_all_logits_by_the_temperature_of_least_validation_nll(make_scored):
    validation, test = make_scored(3, size=400, unseen=1), make_scored(4, size=100, unseen=1)
    hot = [Evaluation(e.ids, e.gold, 4.0 * e.logits, e.label_space) for e in (validation, test)]
    after = calibrated(hot[1], hot[0])
    seen = validation.gold < 5

    def nll(log_temperature):
        log_p = log_softmax(hot[0].logits[seen].astype(float) / np.exp(log_temperature), axis=1)
        return -log_p[np.arange(seen.sum()), validation.gold[seen]].mean()

    temperature = np.exp(minimize_scalar(nll, bounds=(-3, 5), method="bounded", options={"xatol": 1e-8}).x)
    np.testing.assert_allclose(after.logits, hot[1].logits / temperature, rtol=2e-3)
    assert temperature > 2.0
    np.testing.assert_array_equal(after.predicted, hot[1].predicted)
    assert after.summary()["nll"] < hot[1].summary()["nll"]
    assert after.summary()["ece"] < hot[1].summary()["ece"]


def test_labels_are_calibrated_by_the_temperature_of_least_validation_loss():
    generator = np.random.default_rng(8)
    space = LabelSpace(("a", "b", "c"), np.array([30, 20, 10]), unseen=("u",), num_rows=100)

    def scored(size):
        logits = generator.normal(-0.5, 1.5, (size, 3)).astype(np.float32)
        gold = np.c_[generator.random((size, 3)) < expit(logits), generator.random(size) < 0.1].astype(int)
        return MultilabelEvaluation(tuple(map(str, range(size))), csr_matrix(gold), 4.0 * logits, space)

    validation, test = scored(1500), scored(500)
    after = calibrated_labels(test, validation)
    gold = validation.gold[:, :3].toarray()

    def loss(log_temperature):
        logits = validation.logits.astype(float) / np.exp(log_temperature)
        return (np.logaddexp(0.0, logits) - gold * logits).mean()

    temperature = np.exp(minimize_scalar(loss, bounds=(-3, 5), method="bounded", options={"xatol": 1e-8}).x)
    np.testing.assert_allclose(after.logits, test.logits / temperature, rtol=1e-4)
    assert temperature == pytest.approx(4.0, rel=0.1)
    assert (after.predicted != test.predicted).nnz == 0
    assert after.score("nll") < test.score("nll")
    assert after.score("ece") < test.score("ece")
    other = replace(validation, label_space=LabelSpace(("a", "b", "x"), space.counts, unseen=("u",), num_rows=100))
    with pytest.raises(DataError, match="same 3 classes"):
        calibrated_labels(test, other)


def test_calibration_refuses_scores_of_other_classes_and_empty_validation(make_scored, make_decided):
    with pytest.raises(DataError, match="same 5 classes"):
        calibrated(make_scored(0), make_scored(0, num_classes=4))
    unseen_only = make_decided(np.array([5, 5]), np.array([0, 1]), 5, unseen=1)
    with pytest.raises(DataError, match="there are none"):
        calibrated(make_scored(0), unseen_only)


def test_wrong_bins_are_refused(make_scored):
    evaluation = make_scored(0)
    with pytest.raises(SettingError, match="`bins` to be at least 1, but got 0"):
        evaluation.reliability(bins=0)
    with pytest.raises(SettingError, match="'equal_width' or 'equal_mass', but got 'mass'"):
        evaluation.reliability(binning="mass")
