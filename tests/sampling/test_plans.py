"""Plans: what is drawn, how often, in which order; purity; priors; what is refused."""

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.utils.data import DataLoader, TensorDataset

from tailwise.errors import SettingError
from tailwise.sampling import (
    ClassAwareSampler,
    LabelSampler,
    NaturalSampler,
    RandomOverSampler,
    RandomUnderSampler,
)

EVERY = [NaturalSampler, RandomOverSampler, RandomUnderSampler, ClassAwareSampler]
label_sets = st.lists(st.integers(0, 7), min_size=1, max_size=60)


def uses(sampler, epoch=0):
    """How often each row is drawn."""
    return np.bincount(sampler.plan(epoch), minlength=sampler.labels.size)


def long_tail(rows=2000, classes=20, seed=0):
    weight = 1 / np.arange(1, classes + 1) ** 1.5
    drawn = np.random.default_rng(seed).choice(classes, rows, p=weight / weight.sum())
    return np.concatenate([drawn, np.arange(classes)])


@pytest.mark.parametrize("cls", EVERY)
@given(
    labels=label_sets, seed=st.integers(0, 2**40), epoch=st.integers(0, 1000), length=st.none() | st.integers(1, 300)
)
@settings(max_examples=60, deadline=None)
def test_a_plan_is_pure_and_of_the_promised_length(cls, labels, seed, epoch, length):
    sampler = cls(labels, seed=seed, num_samples=length)
    plan = sampler.plan(epoch)
    assert plan.dtype == np.int64
    assert plan.shape == (len(sampler),)
    assert plan.min() >= 0
    assert plan.max() < len(labels)
    other = cls(np.array(labels), seed=seed, num_samples=length, num_classes=8)
    other.plan(epoch + 1)
    np.testing.assert_array_equal(other.plan(epoch), plan)
    np.testing.assert_array_equal(sampler.plan(epoch), plan)


@pytest.mark.parametrize("cls", EVERY)
def test_epochs_and_seeds_give_different_plans(cls):
    labels = long_tail()
    first = cls(labels, seed=1).plan(0)
    assert not np.array_equal(first, cls(labels, seed=1).plan(1))
    assert not np.array_equal(first, cls(labels, seed=2).plan(0))


@pytest.mark.parametrize("cls", EVERY)
def test_iteration_follows_the_plan_of_the_epoch(cls):
    sampler = cls(long_tail(rows=70_000), seed=3)  # longer than a chunk
    sampler.set_epoch(5)
    drawn = list(sampler)
    assert drawn == sampler.plan(5).tolist()
    assert type(drawn[0]) is int


@pytest.mark.parametrize("cls", EVERY)
def test_a_data_loader_draws_the_plan(cls):
    labels = long_tail(rows=200)
    sampler = cls(labels, seed=3)
    loader = DataLoader(TensorDataset(torch.arange(labels.size)), batch_size=16, sampler=sampler)
    assert torch.cat([rows for (rows,) in loader]).tolist() == sampler.plan(0).tolist()


@pytest.mark.parametrize("cls", EVERY)
@given(labels=label_sets)
@settings(max_examples=40, deadline=None)
def test_the_effective_prior_is_what_whole_epochs_draw(cls, labels):
    array = np.array(labels)
    classes = np.unique(array).size
    whole = classes * 12 if cls is ClassAwareSampler else None
    sampler = cls(labels, num_classes=9, num_samples=whole)
    drawn = np.bincount(array[sampler.plan(0)], minlength=9)
    np.testing.assert_allclose(drawn / drawn.sum(), sampler.effective_prior(), atol=1e-12)
    assert sampler.effective_prior().shape == (9,)
    assert sampler.effective_prior().sum() == pytest.approx(1.0)


@pytest.mark.parametrize("cls", EVERY)
def test_a_cut_epoch_has_the_effective_prior_in_expectation(cls):
    labels = long_tail(rows=300, classes=6)
    sampler = cls(labels, num_samples=11)
    drawn = np.zeros(6)
    for epoch in range(2000):
        drawn += np.bincount(labels[sampler.plan(epoch)], minlength=6)
    wanted = sampler.effective_prior() * drawn.sum()
    assert stats.chisquare(drawn, wanted).pvalue > 1e-4


@pytest.mark.parametrize("cls", EVERY)
def test_rows_of_a_class_come_in_every_order_alike(cls):
    labels = np.array([0, 0, 0, 1])
    sampler = cls(labels, seed=11)
    first = [next(int(i) for i in sampler.plan(epoch) if i < 3) for epoch in range(3000)]
    assert stats.chisquare(np.bincount(first, minlength=3)).pvalue > 1e-4


@given(labels=label_sets)
def test_natural_sampling_draws_every_row_once(labels):
    assert (uses(NaturalSampler(labels)) == 1).all()


def test_natural_sampling_beyond_an_epoch_draws_every_row_before_any_comes_again():
    plan = NaturalSampler(np.zeros(10, dtype=int), num_samples=25).plan(0)
    assert sorted(plan[:10]) == sorted(plan[10:20]) == list(range(10))
    assert np.unique(plan[20:]).size == 5


@given(labels=label_sets, ratio=st.floats(0.05, 1.0))
@settings(deadline=None)
def test_over_sampling_lifts_every_class_and_uses_its_rows_alike(labels, ratio):
    array = np.array(labels)
    counts = np.bincount(array)
    sampler = RandomOverSampler(labels, ratio=ratio)
    drawn = np.bincount(array[sampler.plan(0)], minlength=counts.size)
    wanted = np.where(counts > 0, np.maximum(counts, round(ratio * counts.max())), 0)
    np.testing.assert_array_equal(drawn, wanted)
    for label in np.unique(array):
        assert np.ptp(uses(sampler)[array == label]) <= 1
    assert uses(sampler).min() >= 1


def test_the_extra_rows_of_over_sampling_change_from_epoch_to_epoch():
    labels = np.repeat([0, 1], [100, 60])
    sampler = RandomOverSampler(labels)
    twice = [frozenset(np.flatnonzero(uses(sampler, epoch) == 2)) for epoch in range(5)]
    assert len(set(twice)) == 5


def test_a_long_over_sampled_epoch_is_several_lists():
    labels = np.repeat([0, 1], [10, 3])
    plan = RandomOverSampler(labels, num_samples=47).plan(0)
    for part in (plan[:20], plan[20:40]):
        assert np.bincount(labels[part]).tolist() == [10, 10]


@given(labels=label_sets, ratio=st.floats(1.0, 5.0))
@settings(deadline=None)
def test_under_sampling_cuts_every_class_without_replacement(labels, ratio):
    array = np.array(labels)
    counts = np.bincount(array)
    sampler = RandomUnderSampler(labels, ratio=ratio)
    drawn = np.bincount(array[sampler.plan(0)], minlength=counts.size)
    np.testing.assert_array_equal(drawn, np.minimum(counts, round(ratio * counts[counts > 0].min())))
    assert uses(sampler).max() == 1


def test_under_sampling_draws_anew_in_each_epoch():
    labels = np.repeat([0, 1], [100, 10])
    sampler = RandomUnderSampler(labels)
    seen = np.zeros(110, dtype=int)
    for epoch in range(60):
        seen += uses(sampler, epoch)
    assert (seen[:100] > 0).all()
    assert (seen[100:] == 60).all()


def test_a_long_under_sampled_epoch_goes_through_new_rows_first():
    labels = np.repeat([0, 1], [100, 10])
    plan = RandomUnderSampler(labels, num_samples=200).plan(0)
    assert (np.bincount(plan[labels[plan] == 0], minlength=100) == 1).all()
    for start in range(0, 200, 20):
        part = plan[start : start + 20]
        assert np.bincount(labels[part]).tolist() == [10, 10]
        assert np.unique(part).size == 20


@given(labels=label_sets, draws=st.integers(1, 4), length=st.integers(1, 400))
@settings(deadline=None)
def test_class_aware_sampling_visits_every_class_once_per_cycle_and_uses_rows_alike(labels, draws, length):
    array = np.array(labels)
    present = np.unique(array)
    plan = ClassAwareSampler(labels, samples_per_class=draws, num_samples=length).plan(0)
    drawn = array[plan]
    cycle = draws * present.size
    for start in range(0, length - cycle + 1, cycle):
        visits = drawn[start : start + cycle].reshape(-1, draws)
        assert (visits == visits[:, :1]).all()
        np.testing.assert_array_equal(np.sort(visits[:, 0]), present)
    for label in present:
        assert np.ptp(np.bincount(plan[drawn == label], minlength=array.size)[array == label]) <= 1


def test_class_aware_cycles_are_shuffled_anew():
    labels = np.repeat(np.arange(5), 3)
    cycles = labels[ClassAwareSampler(labels, num_samples=500).plan(0)].reshape(-1, 5)
    assert len({tuple(cycle) for cycle in cycles}) > 50
    firsts = np.bincount(cycles[:, 0], minlength=5)
    assert stats.chisquare(firsts).pvalue > 1e-4


def test_the_rows_of_a_class_are_shuffled_anew_in_each_of_their_cycles():
    labels = np.repeat([0, 1], [6, 6])
    plan = ClassAwareSampler(labels, num_samples=600).plan(0)
    rounds = plan[labels[plan] == 0].reshape(-1, 6)
    assert (np.sort(rounds, axis=1) == np.arange(6)).all()
    assert len({tuple(r) for r in rounds}) > 40


def test_class_aware_sampling_matches_its_prior_on_a_million_draws():
    labels = long_tail(rows=5000)
    sampler = ClassAwareSampler(labels, num_samples=1_000_000)
    drawn = np.bincount(labels[sampler.plan(0)], minlength=20)
    assert stats.chisquare(drawn, sampler.effective_prior() * 1_000_000).pvalue > 0.999


@pytest.mark.parametrize("cls", EVERY)
def test_one_class_many_classes_and_empty_classes(cls):
    assert np.unique(cls(np.zeros(7, dtype=int)).plan(0)).size == 7
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(0, 200_000, 2), 2))
    sampler = cls(labels, num_classes=200_001)
    assert (np.bincount(labels[sampler.plan(0)], minlength=200_001)[1::2] == 0).all()
    assert sampler.effective_prior()[0] == pytest.approx(1e-5)


@pytest.mark.parametrize("cls", EVERY)
def test_cost_is_linear_and_small(cls):
    labels = np.random.default_rng(0).integers(0, 50, 400_000)
    start = time.thread_time()
    cls(labels).plan(0)
    assert time.thread_time() - start < 2.0


def test_labels_may_be_tensors_or_any_integer_type_and_are_not_changed():
    labels = long_tail(rows=50)
    wanted = ClassAwareSampler(labels).plan(0)
    for same in (torch.from_numpy(labels), labels.astype(np.uint8), labels.tolist()):
        np.testing.assert_array_equal(ClassAwareSampler(same).plan(0), wanted)
    assert np.array_equal(labels, long_tail(rows=50))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: NaturalSampler([]), r"one class index per row, \(N,\) with N > 0, but got shape \(0,\)"),
        (lambda: NaturalSampler([[0, 1]]), r"but got shape \(1, 2\)"),
        (lambda: NaturalSampler(["a", "b"]), "Encode the labels first"),
        (lambda: NaturalSampler([0.0, 1.0]), "integer class indices, but got float64"),
        (lambda: NaturalSampler([0, -1]), "class indices from 0, but got -1 at row 1"),
        (lambda: NaturalSampler([0, 1], num_samples=0), "`num_samples` to be at least 1, but got 0"),
        (lambda: NaturalSampler([0, 3], num_classes=3), "label 3 is outside `num_classes` = 3"),
        (lambda: NaturalSampler([0, 1], seed=-1), "`seed` to be a non-negative integer, but got -1"),
        (lambda: RandomOverSampler([0, 1], ratio=0.0), r"`ratio` to lie in \(0, 1\], but got 0.0"),
        (lambda: RandomOverSampler([0, 1], ratio=1.5), "but got 1.5"),
        (lambda: RandomUnderSampler([0, 1], ratio=0.5), "`ratio` to be at least 1, but got 0.5"),
        (lambda: ClassAwareSampler([0, 1], samples_per_class=0), "`samples_per_class` to be at least 1, but got 0"),
    ],
)
def test_bad_input_is_refused(build, message):
    with pytest.raises(SettingError, match=message):
        build()


def test_a_sampler_of_ones_own_needs_only_counts_and_a_plan():
    class EveryOther(LabelSampler):
        def drawn_counts(self):
            return np.bincount(self.labels[::2], minlength=self.class_counts.size)

        def plan(self, epoch):
            return np.arange(0, self.labels.size, 2)

    sampler = EveryOther([0, 0, 1, 1, 1])
    assert list(sampler) == [0, 2, 4]
    assert len(sampler) == 3
    np.testing.assert_allclose(sampler.effective_prior(), [1 / 3, 2 / 3])
