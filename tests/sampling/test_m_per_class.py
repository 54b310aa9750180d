"""Batches of several classes with several rows, and episodes."""

import itertools

import numpy as np
import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.utils.data import DataLoader, TensorDataset

from tailwise.errors import SettingError
from tailwise.sampling.m_per_class import EpisodeSampler, MPerClassBatchSampler, MPerClassSampler, class_groups

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(6), [90, 40, 12, 5, 2, 1]))
label_sets = st.lists(st.integers(0, 7), min_size=1, max_size=60)


@given(classes=st.integers(1, 12), size=st.integers(1, 12), groups=st.integers(1, 40), seed=st.integers(0, 1000))
@settings(deadline=None)
def test_groups_hold_different_classes_and_use_all_alike(classes, size, groups, seed):
    size = min(size, classes)
    order = class_groups(np.random.default_rng(seed), classes, size, groups)
    assert order.shape == (groups, size)
    assert all(np.unique(group).size == size for group in order)
    assert np.ptp(np.bincount(order.reshape(-1), minlength=classes)) <= 1


def test_every_group_of_classes_is_as_likely_as_any_other():
    pairs = np.zeros((5, 5))
    for seed in range(3000):
        for group in class_groups(np.random.default_rng(seed), 5, 2, 5):
            pairs[min(group), max(group)] += 1
    assert stats.chisquare(pairs[np.triu_indices(5, 1)]).pvalue > 1e-4


@given(labels=label_sets, wide=st.integers(1, 8), rows=st.integers(1, 5), batches=st.none() | st.integers(1, 30))
@settings(deadline=None)
def test_batches_hold_their_classes_and_rows(labels, wide, rows, batches):
    array = np.array(labels)
    counts = np.bincount(array)
    wide = min(wide, np.unique(array).size)
    sampler = MPerClassBatchSampler(labels, classes_per_batch=wide, samples_per_class=rows, num_batches=batches)
    drawn = list(sampler)
    assert len(drawn) == len(sampler) == (batches or -(-array.size // (wide * rows)))
    for batch in drawn:
        own = array[batch].reshape(wide, rows)
        assert (own == own[:, :1]).all()
        assert np.unique(own[:, 0]).size == wide
        uses = np.bincount(batch, minlength=array.size)
        for label in own[:, 0]:
            assert np.ptp(uses[array == label]) <= 1
            assert uses[array == label].max() == -(-rows // counts[label])


def test_the_rows_of_a_class_are_used_alike_over_an_epoch():
    sampler = MPerClassBatchSampler(LABELS, classes_per_batch=3, samples_per_class=4, num_batches=60)
    uses = np.bincount(sampler.plan(0).reshape(-1), minlength=LABELS.size)
    for label in (0, 1, 2):  # hands of 4 divide 40 and 12; a shuffle of 90 leaves two rows out
        assert np.ptp(uses[label == LABELS]) <= 1 + (label == 0)
    assert np.ptp(np.bincount(LABELS[sampler.plan(0).reshape(-1)])) <= 4
    np.testing.assert_allclose(sampler.effective_prior(), 1 / 6)


def test_plans_are_pure_in_seed_and_epoch():
    first = MPerClassBatchSampler(LABELS, classes_per_batch=4, seed=5)
    second = MPerClassBatchSampler(LABELS.tolist(), classes_per_batch=4, seed=5, num_classes=9)
    second.plan(0)
    np.testing.assert_array_equal(first.plan(3), second.plan(3))
    assert not np.array_equal(first.plan(3), first.plan(4))
    first.set_epoch(3)
    assert list(first) == second.plan(3).tolist()
    assert first.epoch == 3


def test_the_flat_form_is_the_same_plan():
    flat = MPerClassSampler(LABELS, classes_per_batch=3, samples_per_class=4, seed=2)
    batches = MPerClassBatchSampler(LABELS, classes_per_batch=3, samples_per_class=4, seed=2)
    np.testing.assert_array_equal(flat.plan(1), batches.plan(1).reshape(-1))
    assert MPerClassSampler(LABELS, num_samples=7).plan(0).shape == (7,)


def test_data_loaders_and_ranks_get_whole_batches_once():
    sampler = MPerClassBatchSampler(LABELS, classes_per_batch=3, samples_per_class=4)
    data = TensorDataset(torch.arange(LABELS.size))
    for workers in (0, 2):
        loader = DataLoader(data, batch_sampler=sampler, num_workers=workers)
        assert [rows.tolist() for (rows,) in loader] == sampler.plan(0).tolist()
    for world in (1, 2, 3, 8):
        shards = [list(BatchSamplerShard(sampler, world, rank, even_batches=False)) for rank in range(world)]
        dealt = [batch for step in itertools.zip_longest(*shards) for batch in step if batch is not None]
        assert dealt == sampler.plan(0).tolist()


def test_many_classes():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(100_000), 2))
    sampler = MPerClassBatchSampler(labels, classes_per_batch=16, samples_per_class=3)
    drawn = labels[sampler.plan(0)].reshape(-1, 16, 3)
    assert (drawn == drawn[:, :, :1]).all()
    assert np.ptp(np.bincount(drawn[:, :, 0].reshape(-1))) <= 1


@pytest.mark.parametrize("support", ["balanced", "natural"])
@pytest.mark.parametrize("query", ["balanced", "natural"])
@given(labels=label_sets, ways=st.integers(1, 8), shots=st.integers(1, 4), queries=st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_episodes_have_their_sizes_and_share_no_row(support, query, labels, ways, shots, queries):
    array = np.array(labels)
    eligible = int((np.bincount(array) >= 2).sum())
    if eligible == 0:
        return
    ways = min(ways, eligible)
    sampler = EpisodeSampler(
        labels, ways=ways, shots=shots, queries=queries, support=support, query=query, num_episodes=4
    )
    for classes, episode in zip(sampler.classes(0), sampler.plan(0), strict=True):
        assert episode.support.size == sampler.support_size == ways * shots
        assert episode.query.size == sampler.query_size == ways * queries
        assert not set(episode.support) & set(episode.query)
        assert set(array[episode.support]) <= set(classes)
        assert set(array[episode.query]) <= set(classes)
        if support == "balanced":
            assert (np.bincount(array[episode.support], minlength=8)[classes] == shots).all()
        if query == "balanced":
            assert (np.bincount(array[episode.query], minlength=8)[classes] == queries).all()


def test_rows_of_an_episode_repeat_only_where_there_are_too_few():
    sampler = EpisodeSampler(LABELS, shots=4, queries=4, num_episodes=20)
    for support, query in sampler.plan(0):
        rows = np.concatenate([support, query])
        for label, count in enumerate([90, 40, 12]):
            own = rows[LABELS[rows] == label]
            assert np.unique(own).size == own.size == 8, count
        assert np.unique(rows[LABELS[rows] == 3]).size == 5
        assert np.unique(rows[LABELS[rows] == 4]).size == 2
        assert 5 not in LABELS[rows]  # a single row cannot be support and query


def test_natural_halves_follow_the_natural_distribution():
    sampler = EpisodeSampler(LABELS, shots=4, queries=3, support="natural", query="natural", num_episodes=300)
    episodes = sampler.plan(0)
    for half in (0, 1):
        drawn = np.bincount(LABELS[np.concatenate([e[half] for e in episodes])], minlength=6)[:5]
        wanted = np.bincount(LABELS)[:5] / 149
        np.testing.assert_allclose(drawn / drawn.sum(), wanted, atol=0.012)
    np.testing.assert_allclose(sampler.effective_prior()[:5], wanted, atol=0.001)  # a class of two rows is spared
    balanced_support = EpisodeSampler(LABELS, shots=4, queries=3, query="natural")
    np.testing.assert_allclose(balanced_support.effective_prior()[:5], wanted)
    balanced = EpisodeSampler(LABELS)
    np.testing.assert_allclose(balanced.effective_prior(), [0.2] * 5 + [0.0])


def test_episodes_through_a_data_loader_and_over_epochs():
    sampler = EpisodeSampler(LABELS, ways=3, shots=2, queries=2, seed=1)
    loader = DataLoader(TensorDataset(torch.arange(LABELS.size)), batch_sampler=sampler)
    for episode, (rows,) in zip(sampler.plan(0), loader, strict=True):
        np.testing.assert_array_equal(rows[: sampler.support_size], episode.support)
        np.testing.assert_array_equal(rows[sampler.support_size :], episode.query)
    sampler.set_epoch(1)
    assert sampler.epoch == 1
    assert list(sampler) != [[*support, *query] for support, query in sampler.plan(0)]
    np.testing.assert_array_equal(sampler.episode(sampler.classes(1)[5], 1, 5).query, sampler.plan(1)[5].query)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MPerClassBatchSampler(LABELS, classes_per_batch=7), "between 1 and 6, .* but got 7"),
        (lambda: MPerClassBatchSampler(LABELS, classes_per_batch=0), "but got 0"),
        (lambda: MPerClassBatchSampler(LABELS, samples_per_class=0), "`samples_per_class` to be at least 1, but got 0"),
        (lambda: MPerClassBatchSampler(LABELS, num_batches=0), "`num_batches` to be at least 1, but got 0"),
        (lambda: MPerClassSampler(LABELS, num_groups=0), "`num_groups` to be at least 1, but got 0"),
        (lambda: EpisodeSampler(LABELS, ways=6), "between 1 and 5, the number of classes of two rows or more"),
        (lambda: EpisodeSampler([0, 1]), "between 1 and 0"),
        (lambda: EpisodeSampler(LABELS, shots=0), "`shots` to be at least 1, but got 0"),
        (lambda: EpisodeSampler(LABELS, queries=0), "`queries` to be at least 1, but got 0"),
        (lambda: EpisodeSampler(LABELS, num_episodes=0), "`num_episodes` to be at least 1"),
        (lambda: EpisodeSampler(LABELS, support="random"), "`support` to be 'balanced' or 'natural'"),
        (lambda: EpisodeSampler(LABELS, query="random"), "`query` to be 'balanced' or 'natural'"),
    ],
)
def test_bad_settings_are_refused(build, message):
    with pytest.raises(SettingError, match=message):
        build()
