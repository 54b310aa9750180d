"""The prior of natural queries against all episodes there are, and against episodes drawn."""

import itertools
from math import comb, prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tailwise.sampling.episode_prior import natural_query_prior
from tailwise.sampling.m_per_class import EpisodeSampler


def over_all_episodes(counts, ways, support_size=0):
    """The mean share of every class over all sets of classes and all supports, by the rule of the sampler."""
    total = np.zeros(len(counts))
    for classes in itertools.combinations(range(len(counts)), ways):
        rows = np.array([counts[j] for j in classes])
        taken = support_size if support_size < rows.sum() else 0
        for support in itertools.product(*[range(min(n, taken) + 1) for n in rows]):
            if sum(support) != taken:
                continue
            chance = prod(comb(int(n), k) for n, k in zip(rows, support, strict=True)) / comb(int(rows.sum()), taken)
            left = rows - support if (rows > support).all() else rows
            total[list(classes)] += chance * left / left.sum()
    return total / comb(len(counts), ways)


@given(counts=st.lists(st.integers(1, 10**7), min_size=1, max_size=9), ways=st.integers(1, 9))
@settings(deadline=None)
def test_the_prior_is_the_mean_over_all_sets_of_classes(counts, ways):
    ways = min(ways, len(counts))
    prior = natural_query_prior(np.array(counts), ways)
    assert prior.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(prior, over_all_episodes(counts, ways), rtol=1e-5)


@pytest.mark.parametrize(
    ("counts", "ways", "support_size"),
    [
        ([2, 3], 2, 2),
        ([2, 2, 9], 2, 4),
        ([2, 3, 6, 20], 3, 3),
        ([2, 3, 6, 20], 2, 6),
        ([3, 3, 4, 5], 3, 9),
    ],
)
def test_a_natural_support_that_may_take_all_rows_of_a_class(counts, ways, support_size):
    wanted = over_all_episodes(counts, ways, support_size)
    assert np.abs(wanted - over_all_episodes(counts, ways)).max() > 0.0015
    prior = natural_query_prior(np.array(counts), ways, support_size)
    assert prior.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(prior, wanted, atol=0.001)


@pytest.mark.parametrize("ways", [2, 3])
@pytest.mark.parametrize("support", ["balanced", "natural"])
def test_queries_are_drawn_with_the_prior(ways, support):
    labels = np.repeat(np.arange(5), [800, 100, 60, 40, 1])
    sampler = EpisodeSampler(
        labels, ways=ways, shots=2, queries=10, support=support, query="natural", num_episodes=3000
    )
    drawn = np.bincount(labels[np.concatenate([episode.query for episode in sampler.plan(0)])], minlength=5)
    prior = sampler.effective_prior()
    assert prior[4] == drawn[4] == 0
    assert stats.chisquare(drawn[:4], prior[:4] * drawn.sum()).pvalue > 1e-4


def test_many_classes():
    counts = np.random.default_rng(0).integers(2, 300, 20_000)
    prior = natural_query_prior(counts, 10, 20)
    assert prior.sum() == pytest.approx(1.0)
    assert prior.min() > 0
    assert prior[counts == 299].mean() / prior[counts == 2].mean() == pytest.approx(299 / 2, rel=0.3)
