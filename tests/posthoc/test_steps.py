"""Post-hoc steps: closed forms, tuning, what is recorded, what is refused."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.metrics import f1_score, precision_recall_curve

from tailwise.errors import SettingError
from tailwise.evaluation.metrics import COUNT_METRICS, metric_function
from tailwise.posthoc import (
    POSTHOC,
    AffineStep,
    ClassThresholds,
    FitContext,
    LogitAdjustment,
    TauNorm,
    TemperatureScaling,
    compose,
)
from tailwise.posthoc.thresholds import _curves, _Sweep

#: steps over several labels per row have tests of their own (test_label_steps.py)
STEPS = [name for name in POSTHOC if not name.startswith("label-")]


def macro_f1(target, predicted):
    classes = int(max(target.max(), predicted.max())) + 1
    right = np.bincount(target[target == predicted], minlength=classes)
    total = np.bincount(target, minlength=classes) + np.bincount(predicted, minlength=classes)
    return float((2 * right / np.maximum(total, 1)).mean())


def positive_f1(target, predicted):
    return float(2 * (target & predicted).sum() / max(target.sum() + predicted.sum(), 1))


def balanced_accuracy(target, predicted):
    return float(np.mean([(predicted[target == c] == c).mean() for c in np.unique(target)]))


def accuracy(target, predicted):
    return float((target == predicted).mean())


def skewed(rows=400, classes=5, dim=16, seed=0, shift=2.0):
    """Scores of an affine head whose bias and row norms carry the prior."""
    rng = np.random.default_rng(seed)
    prior = 1 / np.arange(1, classes + 1) ** shift
    prior /= prior.sum()
    target = np.concatenate([np.repeat(np.arange(classes), 8), rng.choice(classes, rows, p=prior)])
    centres = rng.normal(size=(classes, dim))
    features = centres[target] + 1.5 * rng.normal(size=(target.size, dim))
    weight = centres * (0.4 + prior / prior.max())[:, None]
    bias = np.log(prior)
    return features @ weight.T + bias, target, FitContext(prior, macro_f1, weight, bias)


def test_every_registered_step_is_tested_here():
    assert {POSTHOC[name] for name in STEPS} == {TauNorm, LogitAdjustment, ClassThresholds, TemperatureScaling}


@pytest.mark.parametrize("name", STEPS)
def test_a_step_leaves_its_input_alone_is_deterministic_and_survives_json(name):
    logits, target, context = skewed()
    before = logits.copy(), target.copy()
    step = POSTHOC[name]().fit(logits, target, context)
    again = POSTHOC[name]().fit(logits, target, context)
    assert np.array_equal(logits, before[0])
    assert np.array_equal(target, before[1])
    assert json.dumps(step.to_dict()) == json.dumps(again.to_dict())
    back = AffineStep.from_dict(json.loads(json.dumps(step.to_dict())))
    np.testing.assert_array_equal(back(logits), step(logits))
    assert step(logits.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize("name", STEPS)
def test_a_folded_step_equals_the_step(name):
    logits, target, context = skewed()
    step = POSTHOC[name]().fit(logits, target, context)
    features = np.linalg.lstsq(context.weight, (logits - context.bias).T, rcond=None)[0].T
    weight, bias = step.fold(context.weight, context.bias)
    np.testing.assert_allclose(features @ weight.T + bias, step(logits), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize(
    ("logits", "target", "message"),
    [
        (np.zeros((3, 2)), np.array([0, 1]), r"logits \(N, C\) and targets \(N,\), but got \(3, 2\) and \(2,\)"),
        (np.zeros((0, 2)), np.zeros(0, dtype=int), "no validation row"),
        (np.zeros((2, 2)), np.array([0, 2]), "Drop rows of classes that training does not have"),
        (np.array([[0.0, 1.0], [np.nan, 0.0]]), np.array([0, 1]), "scores of validation row 1 are not finite"),
    ],
)
def test_bad_scores_are_refused(name, logits, target, message):
    with pytest.raises(SettingError, match=message):
        POSTHOC[name]().fit(logits, target, FitContext(np.full(2, 0.5), accuracy, np.eye(2), np.zeros(2)))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TauNorm(-0.1), "`tau` to lie between 0 and 2, but got -0.1"),
        (lambda: TauNorm(bias="remove"), "`bias` to be one of drop, keep, scale, but got 'remove'"),
        (lambda: LogitAdjustment(-1.0), "`strength` to lie between 0 and 4, but got -1.0"),
        (lambda: TemperatureScaling("inverse"), "`weights` to be None or 'balanced', but got 'inverse'"),
        (lambda: ClassThresholds(min_rows=0), "`min_rows` to be a finite number of at least 1, but got 0"),
        (lambda: ClassThresholds(shrinkage=-1), "`shrinkage`"),
    ],
)
def test_bad_parameters_are_refused(build, message):
    with pytest.raises(SettingError, match=message):
        build()


# tau-normalisation


def test_tau_one_makes_all_norms_equal_and_tau_zero_with_the_bias_kept_changes_nothing():
    logits, target, context = skewed()
    weight, bias = TauNorm(1.0).fit(logits, target, context).fold(context.weight, context.bias)
    np.testing.assert_allclose(np.linalg.norm(weight, axis=1), 1.0)
    np.testing.assert_allclose(bias, 0.0, atol=1e-12)
    step = TauNorm(0.0, bias="keep").fit(logits, target, context)
    np.testing.assert_array_equal(step(logits), logits)


@pytest.mark.parametrize("treatment", ["drop", "keep", "scale"])
def test_the_treatments_of_the_bias(treatment):
    logits, target, context = skewed()
    tau = 0.6
    step = TauNorm(tau, bias=treatment).fit(logits, target, context)
    norms = np.linalg.norm(context.weight, axis=1)
    bias = {"drop": 0.0, "keep": context.bias, "scale": context.bias / norms**tau}[treatment]
    np.testing.assert_allclose(step(logits), (logits - context.bias) / norms**tau + bias, rtol=1e-10, atol=1e-12)


def test_tau_is_the_smallest_of_the_best_on_validation():
    logits, target, context = skewed()
    step = TauNorm().fit(logits, target, context)
    tried = {float(k): v for k, v in step.details["validation"].items()}
    assert sorted(tried) == pytest.approx(np.linspace(0, 1, 21))
    assert step.details["tau"] == min(t for t, v in tried.items() if v == max(tried.values()))
    for tau, value in tried.items():
        fixed = TauNorm(tau).fit(logits, target, context)
        assert macro_f1(target, fixed(logits).argmax(axis=1)) == value


def test_a_row_of_zeros_stays_finite():
    weight = np.array([[3.0, 4.0], [0.0, 0.0]])
    step = TauNorm(1.0).fit(np.ones((2, 2)), np.array([0, 1]), FitContext(np.full(2, 0.5), accuracy, weight, None))
    np.testing.assert_allclose(step.scale, [0.2, 1.0])


def test_norms_that_are_alike_are_reported():
    logits, target, context = skewed()
    assert not TauNorm().fit(logits, target, context).details["alike"]
    alike = context.weight / np.linalg.norm(context.weight, axis=1, keepdims=True)
    details = TauNorm().fit(logits, target, FitContext(context.prior, macro_f1, alike, context.bias)).details
    assert details["alike"]
    assert details["norm_variation"] < 1e-12


def test_the_correlation_of_norms_and_prior_is_reported():
    weight = np.diag([3.0, 2.0, 1.0])
    scores, target = np.eye(3), np.arange(3)

    def correlation(prior):
        context = FitContext(np.array(prior), accuracy, weight, None)
        return TauNorm(0.5).fit(scores, target, context).details["norm_prior_correlation"]

    assert correlation([0.7, 0.2, 0.1]) > 0.9
    assert correlation([0.1, 0.2, 0.7]) < -0.9
    assert correlation([1 / 3, 1 / 3, 1 / 3]) is None


def test_tau_norm_needs_an_affine_head():
    with pytest.raises(SettingError, match="TauNorm needs an affine head"):
        TauNorm().fit(np.eye(2), np.array([0, 1]), FitContext(np.full(2, 0.5), accuracy))
    with pytest.raises(SettingError, match="C = 2 classes, but got"):
        TauNorm().fit(np.eye(2), np.array([0, 1]), FitContext(np.full(2, 0.5), accuracy, np.ones((3, 4)), np.ones(3)))


# Logit adjustment


def test_logit_adjustment_subtracts_the_log_prior_and_moves_the_prior_along():
    prior = np.array([0.8, 0.15, 0.05])
    logits, target = np.zeros((3, 3)), np.arange(3)
    for strength in (0.0, 0.5, 1.0, 2.0):
        method = LogitAdjustment(strength)
        step = method.fit(logits, target, FitContext(prior, accuracy))
        np.testing.assert_allclose(step(logits)[0], -strength * np.log(prior), rtol=1e-12, atol=1e-15)
        left = prior ** (1 - strength) / (prior ** (1 - strength)).sum()
        np.testing.assert_allclose(method.effective_prior(prior, step), left, rtol=1e-12)


def test_logit_adjustment_of_true_posteriors_is_the_posterior_under_equal_classes():
    rng = np.random.default_rng(0)
    prior = np.array([0.9, 0.07, 0.03])
    likelihood = rng.random((50, 3))
    posterior = likelihood * prior
    step = LogitAdjustment(1.0).fit(np.log(posterior), likelihood.argmax(axis=1), FitContext(prior, accuracy))
    np.testing.assert_allclose(
        softmax(step(np.log(posterior)), axis=1), likelihood / likelihood.sum(axis=1, keepdims=True)
    )


def test_logit_adjustment_is_tuned_by_the_metric_including_none_at_all():
    logits, target, context = skewed()
    step = LogitAdjustment().fit(logits, target, context)
    tried = {float(k): v for k, v in step.details["validation"].items()}
    assert sorted(tried) == pytest.approx(np.arange(0, 2.01, 0.25))
    assert tried[0.0] == macro_f1(target, logits.argmax(axis=1))
    assert tried[step.details["strength"]] == max(tried.values()) > tried[0.0]
    by_accuracy = LogitAdjustment().fit(logits, target, FitContext(context.prior, lambda *_: 1.0))
    assert by_accuracy.details["strength"] == 0.0


def test_a_uniform_prior_leaves_nothing_to_adjust():
    logits, target, _ = skewed()
    uniform = FitContext(np.full(5, 0.2), macro_f1)
    step = LogitAdjustment().fit(logits, target, uniform)
    assert step.details["strength"] == 0.0
    for strength in (1.0, 2.0):
        fixed = LogitAdjustment(strength).fit(logits, target, uniform)
        np.testing.assert_array_equal(fixed(logits).argmax(axis=1), logits.argmax(axis=1))


def test_a_class_of_prior_zero_is_not_catapulted():
    prior = np.array([0.75, 0.25, 0.0])
    step = LogitAdjustment(1.0).fit(np.eye(3), np.arange(3), FitContext(prior, accuracy))
    assert step.bias[2] == step.bias[1]
    for wrong in (np.array([0.5, 0.5]), np.array([0.5, 0.6, -0.1]), np.zeros(3)):
        with pytest.raises(SettingError, match="distribution over 3 classes"):
            LogitAdjustment(1.0).fit(np.eye(3), np.arange(3), FitContext(wrong, accuracy))


# Temperature


@given(st.integers(0, 10_000), st.floats(0.2, 8.0))
@settings(max_examples=25, deadline=None)
def test_temperature_minimises_the_likelihood_and_keeps_the_decision(seed, sharpness):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(120, 4)) * sharpness
    target = np.array([rng.choice(4, p=p) for p in softmax(logits / sharpness, axis=1)])
    step = TemperatureScaling().fit(logits, target, FitContext(np.full(4, 0.25), accuracy))
    found = step.details["temperature"]

    def nll(log_t):
        return -log_softmax(logits / np.exp(log_t), axis=1)[np.arange(120), target].mean()

    best = minimize_scalar(nll, bounds=(-4, 4), method="bounded", options={"xatol": 1e-10})
    assert step.details["nll_after"] <= best.fun + 1e-9
    assert step.details["nll_after"] == pytest.approx(nll(np.log(found)))
    assert step.details["nll_after"] <= step.details["nll_before"]
    np.testing.assert_array_equal(step(logits).argmax(axis=1), logits.argmax(axis=1))


def test_temperature_recovers_the_scale_of_overconfident_scores():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 3))
    target = (softmax(logits, axis=1).cumsum(axis=1) < rng.random((20_000, 1))).sum(axis=1)
    step = TemperatureScaling().fit(5 * logits, target, FitContext(np.full(3, 1 / 3), accuracy))
    assert step.details["temperature"] == pytest.approx(5.0, rel=0.05)
    assert not step.details["at_bound"]


def test_balanced_temperature_weighs_every_class_alike():
    rng = np.random.default_rng(0)
    target = np.repeat([0, 1], [90, 10])
    logits = rng.normal(size=(100, 2)) + np.eye(2)[target]
    repeated = np.concatenate([np.arange(90), np.tile(np.arange(90, 100), 9)])
    context = FitContext(np.full(2, 0.5), accuracy)
    balanced = TemperatureScaling("balanced").fit(logits, target, context)
    by_copies = TemperatureScaling().fit(logits[repeated], target[repeated], context)
    assert balanced.details["temperature"] == pytest.approx(by_copies.details["temperature"], rel=1e-9)
    assert balanced.details["nll_after"] == pytest.approx(by_copies.details["nll_after"], rel=1e-9)


def test_scores_that_separate_validation_or_miss_it_altogether_end_at_a_bound():
    logits, target = 3.0 * np.eye(3), np.arange(3)
    context = FitContext(np.full(3, 1 / 3), accuracy)
    assert TemperatureScaling().fit(logits, target, context).details["at_bound"]
    upside_down = TemperatureScaling().fit(-logits, target, context)
    assert upside_down.details["temperature"] == 100.0


# Thresholds


def binary(rows=150, seed=0):
    rng = np.random.default_rng(seed)
    target = (rng.random(rows) < 0.2).astype(np.int64)
    score = rng.normal(size=rows) + 1.2 * target - 2.0
    return np.stack([np.zeros(rows), score], axis=1), target


@pytest.mark.parametrize("seed", range(8))
def test_two_classes_get_the_f1_optimal_cut(seed):
    logits, target = binary(seed=seed)
    context = FitContext(np.array([0.8, 0.2]), positive_f1)
    step = ClassThresholds(shrinkage=0).fit(logits, target, context)
    precision, recall, _ = precision_recall_curve(target, logits[:, 1])
    best = (2 * precision * recall / np.maximum(precision + recall, 1e-12)).max()
    assert f1_score(target, step(logits).argmax(axis=1)) == pytest.approx(best)
    assert step.bias[0] == 0.0


@pytest.mark.parametrize("metric", [macro_f1, balanced_accuracy, accuracy])
@pytest.mark.parametrize("seed", range(3))
def test_two_classes_get_the_best_cut_of_any_metric(metric, seed):
    logits, target = binary(rows=90, seed=seed)
    step = ClassThresholds(shrinkage=0).fit(logits, target, FitContext(np.array([0.8, 0.2]), metric))
    cuts = np.concatenate([[-np.inf], np.sort(logits[:, 1]), [np.inf]])
    best = max(metric(target, (logits[:, 1] > cut).astype(np.int64)) for cut in cuts)
    assert metric(target, step(logits).argmax(axis=1)) == pytest.approx(best)


def test_a_large_binary_validation_set_gets_the_exact_cut_too():
    logits, target = binary(rows=20_000)
    step = ClassThresholds().fit(logits, target, FitContext(np.array([0.8, 0.2]), macro_f1))
    order = np.argsort(-logits[:, 1])
    hits, cut = np.cumsum(target[order]), np.arange(1, 20_001)
    positive = 2 * hits / (cut + target.sum())
    negative = 2 * ((1 - target).sum() - (cut - hits)) / (20_000 - cut + (1 - target).sum())
    assert step.details["metric_after"] == pytest.approx(((positive + negative) / 2).max(), abs=1e-12)


@given(st.integers(0, 10_000), st.integers(2, 6))
@settings(max_examples=8, deadline=None)
def test_the_curves_equal_the_metrics_recomputed_at_every_step(seed, classes):
    rng = np.random.default_rng(seed)
    target = rng.integers(0, classes, 15)
    chosen = int(rng.integers(classes))
    rival = rng.choice([c for c in range(classes) if c != chosen], 15)
    curves = _curves(chosen, rival, target, classes)
    labels = list(range(classes))
    predictions = [np.where(np.arange(15) < k, chosen, rival) for k in range(16)]
    f1 = np.array([f1_score(target, p, labels=labels, average=None, zero_division=0) for p in predictions])
    np.testing.assert_allclose(np.diff(curves[0]), np.diff(f1.sum(axis=1)), atol=1e-12)
    np.testing.assert_allclose(curves[1], f1[:, chosen], atol=1e-12)
    recall = [balanced_accuracy(target, p) * np.unique(target).size for p in predictions]
    np.testing.assert_allclose(np.diff(curves[2]), np.diff(recall), atol=1e-12)
    hits = [(target == p).sum() for p in predictions]
    np.testing.assert_allclose(np.diff(curves[3]), np.diff(hits), atol=1e-12)


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_thresholds_are_never_worse_than_none_on_validation(seed):
    logits, target, context = skewed(rows=60, seed=seed)
    step = ClassThresholds().fit(logits, target, context)
    after = macro_f1(target, step(logits).argmax(axis=1))
    assert after == step.details["metric_after"] >= step.details["metric_before"] - 1e-12


def test_thresholds_help_where_the_prior_hides_rare_classes():
    logits, target, context = skewed(rows=2000)
    step = ClassThresholds().fit(logits, target, context)
    assert step.details["metric_after"] > step.details["metric_before"] + 0.02
    assert step.details["reference"] == 0
    assert step.bias[0] == 0.0


def test_classes_with_few_validation_rows_keep_bias_zero_or_are_shrunk():
    rng = np.random.default_rng(0)
    target = np.repeat([0, 1, 2], [60, 10, 4])
    logits = rng.normal(size=(74, 3)) + 1.5 * np.eye(3)[target] + np.array([3.0, 0.0, 0.0])
    context = FitContext(np.full(3, 1 / 3), macro_f1)
    full, shrunk = (ClassThresholds(shrinkage=s).fit(logits, target, context) for s in (0, 10))
    assert full.details["tuned"] == [1]
    assert full.bias[2] == shrunk.bias[2] == 0.0
    assert full.bias[1] > 0
    assert shrunk.bias[1] == pytest.approx(full.bias[1] * 10 / 20)


def test_equally_good_biases_the_smallest_wins():
    # Every row of class 1 is one below the decision: any bias above 1 is as good as any other.
    logits = np.array([[1.0, 0.0]] * 10 + [[5.0, 0.0]] * 20)
    target = np.repeat([1, 0], [10, 20])
    step = ClassThresholds(shrinkage=0).fit(logits, target, FitContext(np.full(2, 0.5), accuracy))
    assert step.bias[1] == pytest.approx(3.0)  # midway between 1 and 5, the only cut between the groups
    perfect = ClassThresholds().fit(logits, 1 - target, FitContext(np.full(2, 0.5), lambda *_: 1.0))
    assert not perfect.bias.any()


def test_one_class_alone_has_nothing_to_tune():
    step = ClassThresholds().fit(np.zeros((4, 1)), np.zeros(4, dtype=int), FitContext(np.ones(1), accuracy))
    assert step.bias.tolist() == [0.0]


def test_compose_equals_the_steps_in_order():
    logits, target, context = skewed()
    steps = [method().fit(logits, target, context) for method in (TauNorm, LogitAdjustment, TemperatureScaling)]
    wanted = logits
    for step in steps:
        wanted = step(wanted)
    np.testing.assert_allclose(compose(steps, 5)(logits), wanted, rtol=1e-12)


@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.integers(1, 60))
@settings(max_examples=40, deadline=None)
def test_counts_of_all_places_are_those_of_each_place(seed, classes, rows):
    random = np.random.default_rng(seed)
    scores = random.normal(size=(rows, classes)).round(1)  # with ties
    target = random.integers(0, classes, rows)
    sweep = _Sweep.of(scores, random.normal(size=classes), int(random.integers(classes)))
    places = sweep.candidates(target, 16)
    correct, support, predicted = sweep.counts(np.array(places), target)
    for place, right, guessed in zip(places, correct, predicted, strict=True):
        decided = sweep.predicted(place)
        assert guessed.tolist() == np.bincount(decided, minlength=classes).tolist()
        assert right.tolist() == np.bincount(decided[decided == target], minlength=classes).tolist()
    assert support.tolist() == np.bincount(target, minlength=classes).tolist()


@pytest.mark.parametrize("name", sorted(COUNT_METRICS))
def test_thresholds_are_the_same_from_counts_and_from_decisions(name):
    random = np.random.default_rng(5)
    target = random.choice(5, 300, p=[0.5, 0.2, 0.15, 0.1, 0.05])
    logits = random.normal(size=(300, 5)) + 1.5 * np.eye(5)[target]
    metric = metric_function(name, 5)
    prior = np.full(5, 0.2)
    fast = ClassThresholds().fit(logits, target, FitContext(prior, metric))
    slow = ClassThresholds().fit(logits, target, FitContext(prior, metric.__call__))
    assert fast.bias.tolist() == slow.bias.tolist()
    assert fast.details == slow.details
