"""Intervals: exact against naive resampling, honest on simulated models, independent of every order."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.metrics import balanced_accuracy_score, f1_score, matthews_corrcoef

from tailwise.data.labels import LabelSpace
from tailwise.errors import DataError, SettingError, UnknownNameError
from tailwise.evaluation.bootstrap import BootstrapResult, bootstrap, larger_is_better
from tailwise.evaluation.calibration import balanced_negative_log_likelihood, brier_score, expected_calibration_error
from tailwise.evaluation.evaluation import Evaluation
from tailwise.evaluation.metrics import METRICS
from tailwise.evaluation.resampling import Patterns

ALL = ("macro_f1", "weighted_f1", "balanced_accuracy", "mcc", "worst_class_f1", "tail_f1", "ece", "nll", "brier")
ALL += ("balanced_nll", "accuracy", "g_mean", "micro_f1")
TAIL = np.array([False, False, False, True, True])


def draws(seed: int, size: int, resamples: int):
    """The instances that `bootstrap` draws, in the order of ids."""
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
    return [generator.integers(0, size, size) for _ in range(resamples)]


def permuted(evaluation: Evaluation, order, renamed) -> Evaluation:
    """Other order of instances and other class indices, with names that follow the indices."""
    space = evaluation.label_space
    inverse = np.argsort(renamed)
    names = tuple(f"name {j}" for j in range(len(space)))
    return Evaluation(
        tuple(evaluation.ids[i] for i in order),
        renamed[evaluation.gold][order],
        evaluation.logits[:, inverse][order],
        LabelSpace(names, space.counts[inverse]),
    )


def test_replicates_equal_scikit_learn_on_the_drawn_instances(make_scored):
    methods = {"a": [make_scored(1), make_scored(2)], "b": [make_scored(3), make_scored(4)]}
    names = ("macro_f1", "balanced_accuracy", "mcc", "tail_f1")
    result = bootstrap(methods, names, tail=TAIL, resamples=12, seed=7)
    for b, drawn in enumerate(draws(7, 200, 12)):
        for m, runs in enumerate(methods.values()):
            for s, run in enumerate(runs):
                gold, predicted = run.gold[drawn], run.predicted[drawn]
                labels = np.unique(np.concatenate([gold, predicted]))
                expected = [
                    f1_score(gold, predicted, labels=labels, average="macro", zero_division=0),
                    balanced_accuracy_score(gold, predicted),
                    matthews_corrcoef(gold, predicted),
                    f1_score(gold, predicted, labels=[j for j in labels if TAIL[j]], average="macro", zero_division=0),
                ]
                np.testing.assert_allclose(result.replicates[b, m, s], expected, rtol=1e-12)


def test_replicates_of_probability_metrics_equal_their_definitions_on_the_drawn_instances(make_scored):
    run = make_scored(1, unseen=1)
    result = bootstrap({"a": [run]}, ("ece", "brier", "balanced_nll", "nll"), resamples=25, seed=3)
    for b, drawn in enumerate(draws(3, 200, 25)):
        p, gold = run.probabilities[drawn], run.gold[drawn]
        seen = gold < 5
        nll = -np.log(p[seen, gold[seen]]).mean()
        expected = [
            expected_calibration_error(p, gold),
            brier_score(p, gold),
            balanced_negative_log_likelihood(p, gold),
        ]
        np.testing.assert_allclose(result.replicates[b, 0, 0], [*expected, nll], rtol=1e-10)


def test_points_are_means_over_seeds_of_the_summary(make_scored):
    runs = [make_scored(s, unseen=1) for s in range(3)]
    result = bootstrap({"ce": runs}, ALL, tail=TAIL, resamples=10)
    for metric in ALL:
        expected = np.mean([run.summary(TAIL)[metric] for run in runs])
        assert result.point("ce", metric) == pytest.approx(expected, rel=1e-10), metric


def test_patterns_and_single_instances_give_the_same_replicates(make_scored):
    methods = {"a": [make_scored(1), make_scored(2)], "b": [make_scored(3), make_scored(4)]}
    by_decision = bootstrap(methods, ("macro_f1", "mcc"), resamples=50)
    by_instance = bootstrap(methods, ("macro_f1", "mcc", "nll"), resamples=50)
    flat = [run for runs in methods.values() for run in runs]
    assert len(Patterns.by_decision(flat).first) < 200
    np.testing.assert_allclose(by_decision.replicates, by_instance.replicates[..., :2], rtol=1e-12)


def test_blocks_of_weights_continue_one_stream(make_scored, monkeypatch):
    runs = {"a": [make_scored(1)]}
    whole = bootstrap(runs, ("macro_f1",), resamples=30)
    monkeypatch.setattr("tailwise.evaluation.resampling._BLOCK", 200)
    np.testing.assert_array_equal(bootstrap(runs, ("macro_f1",), resamples=30).replicates, whole.replicates)


def test_result_does_not_depend_on_the_order_of_instances_classes_or_methods(make_scored):
    a, b = [make_scored(1), make_scored(2)], [make_scored(3), make_scored(4)]
    names = [name for name in ALL if name != "tail_f1"]
    plain = bootstrap({"a": a, "b": b}, names, resamples=60)
    generator = np.random.default_rng(0)
    renamed = generator.permutation(5)
    moved = {
        "b": [permuted(run, generator.permutation(200), renamed) for run in b],
        "a": [permuted(run, generator.permutation(200), renamed) for run in a],
    }
    other = bootstrap(moved, names, resamples=60)
    np.testing.assert_allclose(other.replicates[:, ::-1], plain.replicates, rtol=1e-9, atol=1e-12)
    for name in names:
        assert other.interval("a", name) == pytest.approx(plain.interval("a", name), abs=1e-9)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another(make_scored):
    runs = {"a": [make_scored(1), make_scored(2)]}
    first, again, other = (bootstrap(runs, ("macro_f1",), resamples=100, seed=s) for s in (0, 0, 1))
    assert first.interval("a", "macro_f1") == again.interval("a", "macro_f1")
    assert first.interval("a", "macro_f1") != other.interval("a", "macro_f1")


def test_deviation_of_accuracy_has_the_binomial_standard_error(make_decided):
    gold = np.zeros(400, dtype=int)
    gold[200:] = 1
    run = make_decided(gold, np.where(np.arange(400) % 5 == 0, 1 - gold, gold), 2)
    result = bootstrap({"a": [run]}, ("accuracy",), resamples=4000)
    assert result.replicates.std() == pytest.approx(np.sqrt(0.8 * 0.2 / 400), rel=0.05)
    low, high = result.interval("a", "accuracy")[1:]
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.8 * 0.2 / 400), rel=0.06)


def test_spread_between_seeds_widens_the_interval_to_students_t():
    values = np.array([0.70, 0.75, 0.80]).reshape(1, 3, 1)
    generator = np.random.default_rng(0)
    noise = generator.normal(0, 1e-6, size=(20_000, 1, 1, 1))
    result = BootstrapResult(("a",), ("macro_f1",), values, values + noise, seed=0)
    point, low, high = result.interval("a", "macro_f1")
    half = 4.303 * 0.05 / np.sqrt(3)  # t with 2 degrees of freedom
    assert point == pytest.approx(0.75)
    assert (point - low, high - point) == pytest.approx((half, half), rel=0.08)


def test_equal_seeds_add_nothing_to_the_interval(make_scored):
    one = bootstrap({"a": [make_scored(1)]}, ("macro_f1",), resamples=200)
    three = bootstrap({"a": [make_scored(1)] * 3}, ("macro_f1",), resamples=200)
    assert three.interval("a", "macro_f1") == pytest.approx(one.interval("a", "macro_f1"), abs=1e-12)


def test_interval_stays_within_the_bounds_of_the_metric(make_decided):
    gold = np.arange(60) % 3
    perfect = make_decided(gold, gold, 3)
    poor = make_decided(gold, np.where(np.arange(60) < 6, (gold + 1) % 3, gold), 3)
    result = bootstrap({"a": [perfect, poor, perfect]}, ("accuracy", "mcc", "ece"), resamples=300)
    for metric in result.metrics:
        point, low, high = result.interval("a", metric)
        assert low <= point <= high
    assert result.interval("a", "accuracy").high == 1.0
    assert result.interval("a", "ece").low >= 0.0


def test_a_singleton_class_that_vanishes_does_not_pull_the_interval_below_the_point(make_decided):
    gold = np.array([0] * 60 + [1] * 30 + [2] + [3])
    result = bootstrap({"a": [make_decided(gold, gold, 5)]}, ("macro_f1",), resamples=400)
    # classes 2 and 3 are missing from a third of the resamples; class 4 is absent and always counts as 0
    assert set(np.round(result.replicates.ravel(), 12)) == {0.8, 0.75, round(2 / 3, 12)}
    assert result.point("a", "macro_f1") == pytest.approx(0.8)


def test_coverage_of_nominal_95_percent_intervals_with_long_tailed_classes(make_space):
    generator = np.random.default_rng(5)
    prior = 0.6 ** np.arange(5)
    prior /= prior.sum()
    found = np.linspace(0.9, 0.5, 5)
    joint = prior[:, None] * (np.diag(found) + (1 - found)[:, None] * prior)
    truth = (2 * np.diag(joint) / (joint.sum(axis=0) + joint.sum(axis=1))).mean()
    space, rounds, hits = make_space(5), 200, 0
    ids = tuple(f"{i:04d}" for i in range(300))
    for _ in range(rounds):
        cells = generator.choice(25, 300, p=joint.ravel() / joint.sum())
        run = Evaluation(ids, cells // 5, np.eye(5, dtype=np.float32)[cells % 5], space)
        _, low, high = bootstrap({"a": [run]}, ("macro_f1",), resamples=250).interval("a", "macro_f1")
        hits += low <= truth <= high
    assert 0.90 <= hits / rounds <= 0.99


def simulated_runs(generator, space, seeds: int, seed_spread: float, size: int = 300) -> list[list[Evaluation]]:
    """Two methods, equally good on average: shared difficulty of instances, own luck of each seed."""
    gold = np.arange(size) % 2
    difficulty = np.sqrt(0.8) * generator.normal(size=size)
    methods = []
    for _ in range(2):
        runs = []
        for level in np.clip(generator.normal(0.8, seed_spread, seeds), 0.01, 0.99):
            own = np.sqrt(0.2) * generator.normal(size=size)
            predicted = np.where(difficulty + own < norm.ppf(level), gold, 1 - gold)
            ids = tuple(f"{i:04d}" for i in range(size))
            runs.append(Evaluation(ids, gold, np.eye(2, dtype=np.float32)[predicted], space))
        methods.append(runs)
    return methods


@pytest.mark.parametrize("seed_spread", [0.0, 0.02, 0.05])
def test_coverage_over_instances_and_three_seeds(make_space, seed_spread):
    generator = np.random.default_rng(11)
    rounds, hits = 120, 0
    for _ in range(rounds):
        runs, _ = simulated_runs(generator, make_space(2), 3, seed_spread)
        _, low, high = bootstrap({"a": runs}, ("accuracy",), resamples=200).interval("a", "accuracy")
        hits += low <= 0.8 <= high
    assert 0.89 <= hits / rounds <= 0.995


def test_paired_difference_is_narrower_than_its_parts_where_methods_share_errors(make_scored):
    a = make_scored(1, size=400, signal=2.0)
    nudged = Evaluation(a.ids, a.gold, a.logits + 0.05 * make_scored(2, size=400).logits, a.label_space)
    result = bootstrap({"a": [a], "b": [nudged]}, ("macro_f1",), resamples=400)
    point, low, high = result.difference("a", "b", "macro_f1")
    assert point == pytest.approx(result.point("a", "macro_f1") - result.point("b", "macro_f1"))
    _, alone_low, alone_high = result.interval("a", "macro_f1")
    assert high - low < 0.6 * (alone_high - alone_low)


def test_number_of_resamples_grows_with_the_pairs_to_test(make_scored):
    runs = [make_scored(1, size=40)]
    assert bootstrap({"a": runs, "b": runs}, ("accuracy",)).resamples == 1000
    assert bootstrap({str(i): runs for i in range(6)}, ("accuracy",)).resamples == 1500


def test_frame_has_one_row_per_method_and_metric(make_scored):
    result = bootstrap({"a": [make_scored(1)], "b": [make_scored(2)]}, ("macro_f1", "ece"), resamples=50)
    frame = result.to_frame()
    assert isinstance(frame, pd.DataFrame)
    assert frame[["method", "metric"]].to_numpy().tolist() == [
        ["a", "macro_f1"],
        ["a", "ece"],
        ["b", "macro_f1"],
        ["b", "ece"],
    ]
    assert ((frame["low"] <= frame["point"]) & (frame["point"] <= frame["high"])).all()


def test_losses_are_better_when_smaller():
    assert larger_is_better("macro_f1")
    assert not larger_is_better("ece")
    assert all(larger_is_better(name) for name in METRICS)


def test_wrong_requests_are_refused_with_the_remedy(make_scored, make_decided):
    a, b = make_scored(1), make_scored(2)
    with pytest.raises(DataError, match="at least one method"):
        bootstrap({}, ("macro_f1",))
    with pytest.raises(DataError, match="same seeds for every method, but got a: 2, b: 1"):
        bootstrap({"a": [a, b], "b": [b]}, ("macro_f1",))
    with pytest.raises(UnknownNameError, match=r"'macro_f2' for intervals.*'macro_f1'"):
        bootstrap({"a": [a]}, ("macro_f2",))
    with pytest.raises(SettingError, match="at least one metric"):
        bootstrap({"a": [a]}, ())
    with pytest.raises(SettingError, match=r"'tail_f1' needs `tail`, a mask of shape \(5,\), but got None"):
        bootstrap({"a": [a]}, ("tail_f1",))
    with pytest.raises(SettingError, match="`resamples` to be at least 2, but got 1"):
        bootstrap({"a": [a]}, ("macro_f1",), resamples=1)
    with pytest.raises(DataError, match="same classes"):
        bootstrap({"a": [a], "b": [make_scored(1, num_classes=4)]}, ("macro_f1",))
    with pytest.raises(DataError, match="same 200 instances, but 100 ids"):
        bootstrap({"a": [a], "b": [make_scored(1, size=100)]}, ("macro_f1",))
    other_gold = Evaluation(a.ids, np.roll(a.gold, 1), a.logits, a.label_space)
    with pytest.raises(DataError, match="two different gold labels"):
        bootstrap({"a": [a], "b": [other_gold]}, ("macro_f1",))
    result = bootstrap({"a": [a]}, ("macro_f1",), resamples=10)
    with pytest.raises(UnknownNameError, match="Unknown method 'c'"):
        result.point("c", "macro_f1")
    with pytest.raises(UnknownNameError, match="'accuracy' was not resampled"):
        result.point("a", "accuracy")
    with pytest.raises(SettingError, match=r"`level` to be between 0 and 1.*got 95"):
        result.interval("a", "macro_f1", level=95)


def test_both_ends_of_an_interval_lie_within_the_bounds_of_the_metric():
    replicates = np.where(np.arange(200) < 2, 0.5, 0.0)[:, None, None, None]  # the mean lies above nearly all of them
    result = BootstrapResult(("m",), ("worst_class_f1",), np.zeros((1, 1, 1)), replicates, seed=0)
    point, low, high = result.interval("m", "worst_class_f1")
    assert (point, low, high) == (0.0, 0.0, 0.0)
