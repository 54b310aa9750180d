"""Samplers by class shares and by class counts: their formulas, and how rows are drawn."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tailwise.errors import SettingError, UnknownNameError
from tailwise.sampling.balance_policy import BalancePolicySampler, balanced_counts
from tailwise.sampling.class_aware import ClassAwareSampler
from tailwise.sampling.class_mixture import apportion
from tailwise.sampling.frequent import FrequentSubsampler, keep_probability
from tailwise.sampling.mixed import MixedSampler, interleave
from tailwise.sampling.natural import NaturalSampler
from tailwise.sampling.performance import PerformanceSampler
from tailwise.sampling.power import PowerSampler
from tailwise.sampling.progressive import ProgressiveSampler
from tailwise.sampling.random_over import RandomOverSampler
from tailwise.sampling.random_under import RandomUnderSampler

FOUR = np.repeat(np.arange(4), [1000, 100, 20, 5])
label_sets = st.lists(st.integers(0, 7), min_size=1, max_size=60)


def drawn(sampler, epoch=0):
    return np.bincount(sampler.labels[sampler.plan(epoch)], minlength=sampler.class_counts.size)


@given(
    weight=st.lists(st.floats(0.0, 10.0), min_size=1, max_size=30).filter(lambda w: sum(w) > 1e-3),
    draws=st.integers(0, 5000),
    seed=st.integers(0, 1000),
)
def test_apportioning_is_within_one_of_the_expectation_and_complete(weight, draws, seed):
    shares = np.array(weight) / sum(weight)
    counts = apportion(np.random.default_rng(seed), shares, draws)
    assert counts.sum() == draws
    assert (counts >= 0).all()
    assert (np.abs(counts - shares * draws) < 1 + 1e-6).all()
    assert (counts[shares == 0] == 0).all()


def test_apportioning_has_the_exact_expectation():
    shares = np.array([0.55, 0.0, 0.31, 0.1, 0.04])
    generator = np.random.default_rng(0)
    total = sum(apportion(generator, shares, 7) for _ in range(20_000))
    np.testing.assert_allclose(total / 20_000, shares * 7, atol=0.02)


@pytest.mark.parametrize(
    ("settings_", "wanted"),
    [
        ({}, [0.654296, 0.206907, 0.092531, 0.046266]),
        ({"power": 0.5}, [0.654296, 0.206907, 0.092531, 0.046266]),
        ({"temperature": 5.0}, [0.410705, 0.259138, 0.187818, 0.142339]),
        ({"interpolation": 0.5}, [0.569444, 0.169444, 0.133889, 0.127222]),
        ({"temperature": 1.0}, [1000 / 1125, 100 / 1125, 20 / 1125, 5 / 1125]),
        ({"interpolation": 0.0}, [1000 / 1125, 100 / 1125, 20 / 1125, 5 / 1125]),
        ({"temperature": np.inf}, [0.25] * 4),
        ({"power": 0.0}, [0.25] * 4),
        ({"interpolation": 1.0}, [0.25] * 4),
    ],
)
def test_power_temperature_and_interpolation(settings_, wanted):
    sampler = PowerSampler(FOUR, num_classes=5, **settings_)
    np.testing.assert_allclose(sampler.effective_prior(), [*wanted, 0.0], atol=5e-7)
    np.testing.assert_allclose(drawn(sampler), np.array([*wanted, 0.0]) * 1125, atol=1.0)
    assert np.abs(sampler.drawn_counts() - drawn(sampler)).max() <= 1
    assert sampler.drawn_counts().sum() == len(sampler) == 1125


@given(labels=label_sets, power=st.floats(0.0, 1.0), length=st.integers(1, 400))
@settings(deadline=None)
def test_rows_of_a_class_come_in_shuffled_cycles(labels, power, length):
    array = np.array(labels)
    plan = PowerSampler(labels, power=power, num_samples=length).plan(0)
    for label in np.unique(array):
        own = plan[array[plan] == label]
        rows = np.flatnonzero(array == label)
        for start in range(0, own.size, rows.size):
            cycle = own[start : start + rows.size]
            assert np.unique(cycle).size == cycle.size
            assert np.isin(cycle, rows).all()


def test_classes_of_one_size_and_very_different_shares_are_dealt_right():
    class Skewed(PowerSampler):
        def shares(self, epoch):
            return np.array([0.001, 0.9, 0.099, 0.0])

    labels = np.repeat(np.arange(4), 2000)
    plan = Skewed(labels, num_samples=20_000).plan(0)
    uses = np.bincount(plan, minlength=labels.size).reshape(4, 2000)
    assert np.ptp(uses, axis=1).max() <= 1
    np.testing.assert_allclose(uses.sum(axis=1), [20, 18_000, 1980, 0], atol=1)


def test_draws_of_different_classes_are_mixed():
    plan = PowerSampler(np.repeat([0, 1], 5000), seed=3).plan(0)
    first = int((plan[:1000] < 5000).sum())
    assert stats.binomtest(first, 1000).pvalue > 1e-4


def test_progress_from_natural_to_balanced():
    sampler = ProgressiveSampler(FOUR, num_epochs=5)
    natural = np.array([1000, 100, 20, 5]) / 1125
    for epoch, weight in enumerate([0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0]):
        wanted = (1 - weight) * natural + weight / 4
        np.testing.assert_allclose(sampler.shares(epoch), wanted)
        np.testing.assert_allclose(drawn(sampler, epoch), wanted * 1125, atol=1.0)
    np.testing.assert_allclose(sampler.effective_prior(), (natural + 0.25) / 2)
    together = sum(drawn(sampler, epoch) for epoch in range(5)) / (5 * 1125)
    np.testing.assert_allclose(together, sampler.effective_prior(), atol=5 / (5 * 1125))


def test_stepwise_progress_grows_within_an_epoch():
    labels = np.repeat([0, 1], [9000, 1000])
    sampler = ProgressiveSampler(labels, num_epochs=1, stepwise=True)
    rare = labels[sampler.plan(0)].reshape(10, -1).mean(axis=1)
    np.testing.assert_allclose(rare, 0.1 + 0.4 * (np.arange(10) + 0.5) / 10, atol=0.02)
    np.testing.assert_allclose(sampler.effective_prior(), [0.7, 0.3], atol=1e-9)
    three = ProgressiveSampler(labels, num_epochs=3, stepwise=True)
    assert three.balanced_shares(0)[0] == 0.0
    assert three.balanced_shares(2)[-1] == 1.0
    steps = np.concatenate([three.balanced_shares(epoch) for epoch in range(3)])
    np.testing.assert_allclose(np.diff(steps), steps[1])
    assert (three.balanced_shares(3) == 1.0).all()


@pytest.mark.parametrize(
    ("epochs", "balanced"),
    [(2.4, (1 + 0.4) / 2.4), (2.5, (1 + 0.5) / 2.5), (2.6, (0.5 + 0.6) / 2.6), (3.4, (0.5 + 1 + 0.4) / 3.4)],
)
def test_a_run_that_ends_within_an_epoch_has_the_prior_of_what_it_drew(epochs, balanced):
    sampler = ProgressiveSampler(FOUR, num_epochs=epochs, num_samples=50_000)
    natural = np.array([1000, 100, 20, 5]) / 1125
    np.testing.assert_allclose(sampler.effective_prior(), (1 - balanced) * natural + balanced / 4)
    run = np.concatenate([sampler.plan(epoch) for epoch in range(4)])[: round(epochs * 50_000)]
    assert_drawn(np.bincount(FOUR[run]), sampler)


def assert_drawn(counts, sampler):
    """What was drawn, ``(C,)``, is what the sampler says."""
    assert stats.chisquare(counts, sampler.effective_prior() * counts.sum()).pvalue > 1e-4


def test_keep_probabilities_of_frequent_items():
    share = np.array([1000, 100, 20, 5]) / 1125
    np.testing.assert_allclose(keep_probability(share, 0.25), [0.530330, 1, 1, 1], atol=5e-7)
    np.testing.assert_allclose(keep_probability(share, 0.25, form="word2vec"), [0.811580, 1, 1, 1], atol=5e-7)
    assert keep_probability(np.array([0.0, 1.0]), 1e-5).tolist() == pytest.approx([1.0, 10**-2.5])


def test_frequent_classes_are_cut_and_rare_ones_kept_whole():
    sampler = FrequentSubsampler(FOUR, num_classes=6)
    assert sampler.drawn_counts().tolist() == drawn(sampler).tolist() == [530, 100, 20, 5, 0, 0]
    assert np.bincount(sampler.plan(0)).max() == 1
    assert drawn(FrequentSubsampler(FOUR, form="word2vec")).tolist() == [812, 100, 20, 5]
    assert drawn(FrequentSubsampler(FOUR, threshold=1e-9)).min() == 1
    assert drawn(FrequentSubsampler(FOUR, threshold=1.0)).tolist() == [1000, 100, 20, 5]


def test_another_part_of_a_frequent_class_is_kept_in_each_epoch():
    sampler = FrequentSubsampler(FOUR)
    seen = np.zeros(FOUR.size, dtype=int)
    for epoch in range(60):
        seen[sampler.plan(epoch)] += 1
    assert seen[:1000].min() > 0
    assert (seen[1000:] == 60).all()


@given(labels=label_sets)
@settings(deadline=None)
def test_the_policy_has_over_and_under_sampling_as_special_cases(labels):
    full, cut = BalancePolicySampler(labels), BalancePolicySampler(labels, base="min", over="min")
    np.testing.assert_array_equal(full.drawn_counts(), RandomOverSampler(labels).drawn_counts())
    np.testing.assert_array_equal(cut.drawn_counts(), RandomUnderSampler(labels).drawn_counts())
    none = BalancePolicySampler(labels, share=0.0)
    np.testing.assert_array_equal(none.drawn_counts(), none.class_counts)


@pytest.mark.parametrize(
    ("policy", "wanted"),
    [
        ({"base": 50}, [1000, 100, 50, 50]),
        ({"base": 50, "share": 0.25}, [1000, 100, 20, 50]),
        ({"base": 50, "share": 0.26}, [1000, 100, 50, 50]),
        ({"base": 50, "over": 300}, [300, 100, 50, 50]),
        ({"base": "mean"}, [1000, 281, 281, 281]),
        ({"base": "median", "over": "mean"}, [281, 100, 60, 60]),
        ({"base": 0.5}, [1000, 100, 60, 60]),
        ({"base": 1.0, "max_repeat": 4}, [1000, 400, 80, 20]),
        ({"base": 1.0, "max_repeat": 2.5}, [1000, 250, 50, 12]),
        ({"base": 1, "over": 10}, [10, 10, 10, 5]),
    ],
)
def test_balance_policies(policy, wanted):
    sampler = BalancePolicySampler(FOUR, num_classes=5, **policy)
    assert sampler.drawn_counts().tolist() == drawn(sampler).tolist() == [*wanted, 0]
    uses = np.bincount(sampler.plan(0), minlength=FOUR.size)
    for label in range(4):
        assert np.ptp(uses[label == FOUR]) <= 1


def test_classes_as_small_as_the_last_of_the_share_are_topped_up_too():
    counts = np.array([9, 3, 3, 3, 0])
    assert balanced_counts(counts, base=9, share=0.25).tolist() == [9, 9, 9, 9, 0]


def test_interleaving_spreads_every_source_evenly():
    order = interleave(np.array([6, 3, 0, 1]))
    assert np.bincount(order, minlength=4).tolist() == [6, 3, 0, 1]
    for source, share in ((0, 0.6), (1, 0.3), (3, 0.1)):
        running = np.cumsum(order == source)
        assert np.abs(running - share * np.arange(1, 11)).max() <= 1.0


def test_a_mixture_draws_from_its_samplers_by_share():
    sampler = MixedSampler(FOUR, samplers=["natural", {"name": "cas"}], shares=[3, 1], num_samples=1125)
    natural = np.array([1000, 100, 20, 5]) / 1125
    np.testing.assert_allclose(sampler.effective_prior(), 0.75 * natural + 0.25 / 4)
    total = sum(drawn(sampler, epoch) for epoch in range(200))
    assert stats.chisquare(total, sampler.effective_prior() * total.sum()).pvalue > 1e-4
    assert sampler.drawn_counts().sum() == 1125


def test_a_mixture_of_given_samplers_goes_through_several_of_their_epochs():
    labels = np.repeat([0, 1], [90, 10])
    short, natural = RandomUnderSampler(labels), NaturalSampler(labels)
    sampler = MixedSampler(labels, samplers=[short, natural], num_samples=400)
    plan = sampler.plan(2)
    from_natural = np.concatenate([natural.plan(6 + i) for i in range(3)])[:200]
    order = interleave(np.array([200, 200]))
    np.testing.assert_array_equal(plan[order == 1], from_natural)
    np.testing.assert_array_equal(plan[order == 0][:20], short.plan(2 * 11))


def progressive(**settings_):
    return {"name": "progressive", "num_epochs": 4, **settings_}


@pytest.mark.parametrize(
    ("samplers", "shares", "epochs"),
    [
        (["natural", progressive()], None, 4),
        (["natural", progressive(stepwise=True)], None, 4),
        (["natural", progressive(stepwise=True, num_epochs=2.5)], [1, 3], 2.5),
        (["natural", progressive(num_epochs=2.5)], [1, 3], 2.5),
        ([progressive(num_epochs=2), progressive(), "ros"], None, 4),
        (["rus", {"name": "mixed", "samplers": ["natural", progressive(stepwise=True)]}], [1, 3], 4),
        (["natural", ProgressiveSampler(FOUR, num_epochs=4, num_samples=200_000)], None, 4),
        (["natural", ProgressiveSampler(FOUR, num_epochs=3, num_samples=75_001, stepwise=True)], [1, 3], 3),
    ],
)
def test_a_mixture_says_what_its_progressive_samplers_draw_in_the_run(samplers, shares, epochs):
    sampler = MixedSampler(FOUR, samplers=samplers, shares=shares, num_samples=100_000)
    run = np.concatenate([sampler.plan(epoch) for epoch in range(4)])[: round(epochs * 100_000)]
    assert_drawn(np.bincount(FOUR[run]), sampler)


def test_a_mixture_of_short_epochs_counts_the_draw_that_a_stepwise_sampler_in_it_may_not_make():
    def build(seed):
        samplers = ["natural", progressive(num_epochs=1, stepwise=True)]
        return MixedSampler(FOUR, samplers=samplers, num_samples=4, seed=seed)

    assert_drawn(sum(drawn(build(seed)) for seed in range(1000)), build(0))


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        (progressive(num_samples=100), "ProgressiveSampler, .* need at least 563 draws, .* of 1125, but got 100"),
        (progressive(num_samples=100, stepwise=True), "need 563 draws, .* Set its `num_samples` to 563"),
        (ProgressiveSampler(FOUR, num_epochs=4, stepwise=True), "need 563 draws, .* but got 1125"),
        (PerformanceSampler(FOUR, feedback_share=0.0, num_samples=9), "PerformanceSampler, .* need at least 563"),
        (
            MixedSampler(FOUR, samplers=["cas", progressive(stepwise=True)]),
            "sampler 2, MixedSampler, changes in the course of a run, .* need 563 draws",
        ),
    ],
)
def test_a_sampler_that_would_not_keep_pace_with_the_mixture_is_refused(sampler, message):
    with pytest.raises(SettingError, match=message):
        MixedSampler(FOUR, samplers=["natural", sampler])


def test_samplers_of_a_mixture_have_seeds_of_their_own():
    sampler = MixedSampler(FOUR, samplers=["natural", "natural"], num_samples=2000)
    first, second = (own.plan(0)[:1000] for own in sampler.samplers)
    assert not np.array_equal(first, second)


def test_a_cycle_of_draws_equals_what_was_asked_for():
    labels = np.repeat(np.arange(5), [3000, 2000, 2000, 7, 7])
    sampler = ClassAwareSampler(labels, num_classes=7)
    draws = np.array([10, 5000, 1, 20, 3, 0, 0])
    rows = sampler.cycle(np.random.default_rng(0), draws)
    np.testing.assert_array_equal(labels[rows], np.repeat(np.arange(7), draws))
    for own in np.split(rows, np.cumsum(draws)[:4]):
        assert np.ptp(np.bincount(own, minlength=labels.size)[labels == labels[own[0]]]) <= 1


def test_rows_by_class_are_the_same_sorted_in_parts(monkeypatch):
    labels = np.random.default_rng(0).integers(0, 6, 5000)
    whole = ClassAwareSampler(labels, num_classes=9).rows_by_class
    monkeypatch.setattr("tailwise.sampling.base._SORTED_AT_ONCE", 700)
    parts = ClassAwareSampler(labels, num_classes=9).rows_by_class
    np.testing.assert_array_equal(parts, whole)
    assert parts.dtype == whole.dtype


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: PowerSampler(FOUR, power=1.5), r"`power` to lie in \[0, 1\], but got 1.5"),
        (lambda: PowerSampler(FOUR, temperature=0.5), "`temperature` to be at least 1, but got 0.5"),
        (lambda: PowerSampler(FOUR, interpolation=-1), "`interpolation` to lie in"),
        (lambda: PowerSampler(FOUR, power=0.5, temperature=2), "`power` and `temperature` are two ways"),
        (lambda: ProgressiveSampler(FOUR, num_epochs=1), "at least 2, but got 1. .*`stepwise=True`"),
        (lambda: FrequentSubsampler(FOUR, threshold=0.0), "`threshold` to be positive, but got 0.0"),
        (lambda: FrequentSubsampler(FOUR, form="gensim"), "'paper' or 'word2vec', but got 'gensim'"),
        (lambda: BalancePolicySampler(FOUR, base="large"), "one of 'min', 'mean', 'median', 'max', but got 'large'"),
        (lambda: BalancePolicySampler(FOUR, base=0), "expected `base` to be a class size"),
        (lambda: BalancePolicySampler(FOUR, base=True), "but got True"),
        (lambda: BalancePolicySampler(FOUR, over=1.5), "expected `over` to be a class size"),
        (lambda: BalancePolicySampler(FOUR, over=50), "cuts classes to 50 rows, below the 1000"),
        (lambda: BalancePolicySampler(FOUR, share=2), r"`share` to lie in \[0, 1\]"),
        (lambda: BalancePolicySampler(FOUR, max_repeat=0.5), "`max_repeat` to be at least 1"),
        (lambda: MixedSampler(FOUR, samplers=["natural"]), "at least two samplers"),
        (lambda: MixedSampler(FOUR, samplers="cas"), "at least two samplers"),
        (lambda: MixedSampler(FOUR, shares=[1.0]), "2 positive numbers, one per sampler"),
        (lambda: MixedSampler(FOUR, shares=[1.0, 0.0]), "2 positive numbers"),
        (lambda: MixedSampler(FOUR, samplers=["cas", {"seed": 1}]), "sampler 2 needs a `name`"),
        (lambda: MixedSampler(FOUR, samplers=["cas", NaturalSampler([0, 1])]), "NaturalSampler, is over other labels"),
        (lambda: PowerSampler([]), "one class index per row"),
    ],
)
def test_bad_settings_are_refused(build, message):
    with pytest.raises(SettingError, match=message):
        build()


def test_an_unknown_sampler_of_a_mixture_is_named():
    with pytest.raises(UnknownNameError, match="cass"):
        MixedSampler(FOUR, samplers=["natural", "cass"])


def test_prefixes_of_a_plan_have_the_prior_too():
    sampler = PowerSampler(FOUR, power=0.0)
    first = np.zeros(4)
    for epoch in range(2000):
        first += np.bincount(FOUR[list(itertools.islice(sampler.plan(epoch), 3))], minlength=4)
    assert stats.chisquare(first).pvalue > 1e-4
