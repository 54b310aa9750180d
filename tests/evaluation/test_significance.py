"""Paired tests, Holm's correction and tie groups."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from statsmodels.stats.multitest import multipletests

from tailwise.errors import SettingError, UnknownNameError
from tailwise.evaluation.bootstrap import BootstrapResult, bootstrap
from tailwise.evaluation.evaluation import Evaluation
from tailwise.evaluation.significance import _inseparable, against_baseline, holm, p_value, tie_groups


def made(points: dict[str, float], noise: float = 0.01, resamples: int = 2000, metric: str = "macro_f1"):
    """A result whose methods have given means and independent normal deviations."""
    generator = np.random.default_rng(0)
    values = np.array(list(points.values())).reshape(-1, 1, 1)
    replicates = values + generator.normal(0, noise, size=(resamples, len(points), 1, 1))
    return BootstrapResult(tuple(points), (metric,), values, replicates, seed=0)


def test_p_counts_deviations_as_large_as_the_difference():
    deviations = np.array([-0.3, -0.1, 0.0, 0.1, 0.2, 0.05, -0.02, 0.01, 0.0])
    assert p_value(0.2, deviations) == pytest.approx(3 / 10)
    assert p_value(-0.2, deviations) == pytest.approx(3 / 10)
    assert p_value(1.0, deviations) == pytest.approx(1 / 10)
    assert p_value(0.0, deviations) == 1.0


def test_holm_multiplies_the_smallest_p_by_the_number_of_tests_and_keeps_the_order():
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([]) == []


def test_holm_equals_statsmodels_ties_and_ones_included():
    p_values = [0.2, 0.001, 0.2, 1.0, 0.012, 0.013, 0.0, 0.5]
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1], abs=1e-12)


def test_p_approaches_the_normal_test_of_a_paired_difference():
    result = made({"ce": 0.70, "ldam": 0.73}, noise=0.01, resamples=20_000)
    test = against_baseline(result, "ce", "macro_f1").tests[0]
    assert test.difference == pytest.approx(0.03)
    assert test.p_value == pytest.approx(2 * norm.sf(0.03 / (0.01 * np.sqrt(2))), rel=0.1)
    assert test.low > 0
    assert test.significant


def test_every_other_method_is_tested_against_the_baseline(make_scored):
    methods = {name: [make_scored(s)] for s, name in enumerate(("ce", "wce", "focal"))}
    methods["wce"] = [make_scored(9, signal=4.0)]
    outcome = against_baseline(bootstrap(methods, ("macro_f1",), resamples=500), "ce", "macro_f1")
    assert [test.method for test in outcome.tests] == ["wce", "focal"]
    assert outcome.tests[0].significant
    assert outcome.tests[0].p_value == pytest.approx(1 / 501)
    assert outcome.tests[0].p_adjusted == pytest.approx(2 / 501)
    frame = outcome.to_frame()
    assert list(frame.columns) == ["method", "difference", "low", "high", "p_value", "p_adjusted", "significant"]
    assert len(frame) == 2


def test_a_method_alone_has_nothing_to_be_tested_against(make_scored):
    result = bootstrap({"ce": [make_scored(0)]}, ("macro_f1",), resamples=50)
    assert against_baseline(result, "ce", "macro_f1").to_frame().empty
    assert tie_groups(result, "macro_f1").groups == (("ce",),)


def test_identical_methods_are_never_separated(make_scored):
    runs = [make_scored(0), make_scored(1)]
    result = bootstrap({"a": runs, "b": runs}, ("macro_f1", "ece"), resamples=200)
    assert against_baseline(result, "a", "macro_f1").tests[0].p_value == 1.0
    assert tie_groups(result, "ece").groups == (("a", "b"),)


def test_clear_steps_give_one_group_each_and_a_bridge_belongs_to_two():
    steps = tie_groups(made({"a": 0.5, "b": 0.7, "c": 0.9}), "macro_f1")
    assert steps.methods == ("c", "b", "a")
    assert steps.groups == (("c",), ("b",), ("a",))
    assert steps.separated == (("c", "b"), ("c", "a"), ("b", "a"))
    bridge = tie_groups(made({"low": 0.70, "mid": 0.72, "high": 0.74}, noise=0.0085), "macro_f1")
    assert bridge.groups == (("high", "mid"), ("mid", "low"))
    assert bridge.letters == {"high": "a", "mid": "ab", "low": "b"}
    assert bridge.to_frame()["group"].tolist() == ["a", "ab", "b"]


def test_losses_rank_the_smallest_first():
    groups = tie_groups(made({"a": 0.3, "b": 0.1}, metric="ece"), "ece")
    assert groups.methods == ("b", "a")


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.data())
def test_groups_are_the_maximal_sets_without_a_separated_pair(size, data):
    pairs = [(i, j) for i in range(size) for j in range(i + 1, size)]
    apart = data.draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    sets = [{i for i in range(size) if mask >> i & 1} for mask in range(1, 2**size)]
    free = [s for s in sets if not any(i in s and j in s for i, j in apart)]
    maximal = sorted(sorted(s) for s in free if not any(s < t for t in free))
    assert _inseparable(size, apart) == maximal


@pytest.mark.parametrize(("seeds", "seed_spread"), [(1, 0.0), (3, 0.0), (3, 0.03)])
def test_true_null_hypotheses_are_rejected_about_as_rarely_as_promised(make_space, seeds, seed_spread):
    generator = np.random.default_rng(2)
    size, rounds, rejected = 250, 150, 0
    gold, ids = np.arange(size) % 2, tuple(f"{i:04d}" for i in range(size))
    for _ in range(rounds):
        difficulty = np.sqrt(0.7) * generator.normal(size=size)
        methods = {}
        for name in ("ce", "other"):
            level = np.clip(generator.normal(0.8, seed_spread, (seeds, 1)), 0.01, 0.99)
            right = difficulty + np.sqrt(0.3) * generator.normal(size=(seeds, size)) < norm.ppf(level)
            decided = np.eye(2, dtype=np.float32)[np.where(right, gold, 1 - gold)]
            methods[name] = [Evaluation(ids, gold, logits, make_space(2)) for logits in decided]
        result = bootstrap(methods, ("accuracy",), resamples=200)
        rejected += against_baseline(result, "ce", "accuracy").tests[0].p_value <= 0.05
    assert rejected / rounds <= 0.085
    assert rejected > 0


def test_a_real_difference_is_found(make_scored):
    strong = {"ce": [make_scored(s, size=400, signal=1.5) for s in range(3)]}
    strong["better"] = [make_scored(s + 10, size=400, signal=3.0) for s in range(3)]
    result = bootstrap(strong, ("macro_f1",))
    assert tie_groups(result, "macro_f1").groups == (("better",), ("ce",))


def test_too_few_resamples_for_the_number_of_tests_are_refused():
    many = made({str(i): 0.5 + 0.01 * i for i in range(12)}, resamples=1000)
    with pytest.raises(SettingError, match=r"66 corrected tests need at least 1320 resamples.*there are 1000"):
        tie_groups(many, "macro_f1")
    assert len(against_baseline(many, "0", "macro_f1").tests) == 11


def test_wrong_names_and_levels_are_refused():
    result = made({"ce": 0.5, "wce": 0.6})
    with pytest.raises(UnknownNameError, match=r"Unknown method 'cee'.*'ce'"):
        against_baseline(result, "cee", "macro_f1")
    with pytest.raises(SettingError, match=r"`level` to be between 0 and 1.*got 5"):
        tie_groups(result, "macro_f1", level=5)
