"""What holds for every sampler: ranks, workers, resuming, purity, priors, odd label sets."""

import itertools
import time
from functools import partial

import numpy as np
import pytest
import torch
from accelerate import skip_first_batches
from accelerate.data_loader import BatchSamplerShard, prepare_data_loader
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.utils.data import BatchSampler, DataLoader, TensorDataset

from tailwise.sampling import MULTILABEL_SAMPLERS, SAMPLERS, SENTENCE_SAMPLERS
from tailwise.sampling.balance_policy import BalancePolicySampler
from tailwise.sampling.class_aware import ClassAwareSampler
from tailwise.sampling.frequent import FrequentSubsampler
from tailwise.sampling.m_per_class import MPerClassSampler
from tailwise.sampling.mixed import MixedSampler
from tailwise.sampling.natural import NaturalSampler
from tailwise.sampling.performance import PerformanceSampler
from tailwise.sampling.power import PowerSampler
from tailwise.sampling.progressive import ProgressiveSampler
from tailwise.sampling.random_over import RandomOverSampler
from tailwise.sampling.random_under import RandomUnderSampler
from tailwise.sampling.sequence_factors import SentenceRepeatFactorSampler, TokenFactorSampler
from tailwise.sampling.sequence_rarity import CatchAllSentenceSampler, SentenceRaritySampler
from tailwise.training.dealing import DealtBatches


def scored(labels, **settings_):
    """A performance sampler with scores of two periods."""
    sampler = PerformanceSampler(labels, **settings_)
    classes = sampler.class_counts.size
    sampler.update(np.linspace(0.1, 0.9, classes), from_epoch=0)
    sampler.update(np.linspace(1.0, 0.0, classes), from_epoch=1)
    return sampler


def sentences(cls):
    """A sampler over sentences that are made of the labels."""

    def build(labels, num_classes=None, **settings_):
        del num_classes
        return cls([[0] * int(1 + label % 3) + [int(label)] for label in labels], **settings_)

    return build


def tokens(labels, *, num_samples=None, **settings_):
    """Sentences of one token each, so that rows are labels."""
    return TokenFactorSampler(SentenceRaritySampler([[int(n)] for n in labels], **settings_), num_samples=num_samples)


OVER_LABELS = {
    "natural": NaturalSampler,
    "ros": RandomOverSampler,
    "rus": RandomUnderSampler,
    "cas": ClassAwareSampler,
    "cas, 3 visits": partial(ClassAwareSampler, samples_per_class=3),
    "policy": partial(BalancePolicySampler, base=0.75, share=0.6, max_repeat=3.0),
    "square root": PowerSampler,
    "temperature": partial(PowerSampler, temperature=5.0),
    "interpolation": partial(PowerSampler, interpolation=0.3),
    "progressive": partial(ProgressiveSampler, num_epochs=4),
    "progressive, stepwise": partial(ProgressiveSampler, num_epochs=4, stepwise=True),
    "progressive, in part of an epoch": partial(ProgressiveSampler, num_epochs=0.5, stepwise=True),
    "frequent": FrequentSubsampler,
    "performance": scored,
    "performance, nothing held out": partial(scored, feedback_share=0.0),
    "performance, natural": partial(scored, base="natural", temperature=2.0, feedback_share=0.3),
    "mixed": partial(MixedSampler, samplers=["natural", "cas", "ros"], shares=[2, 1, 1]),
    "m per class": partial(MPerClassSampler, samples_per_class=3),
}
OVER_SENTENCES = {
    "sentences, rare": sentences(SentenceRaritySampler),
    "sentences, stochastic": sentences(partial(SentenceRaritySampler, rounding="stochastic")),
    "sentences, discarded": sentences(CatchAllSentenceSampler),
    "sentences, repeat factors": sentences(partial(SentenceRepeatFactorSampler, threshold=0.3)),
    "tokens of sentences": tokens,
}


def label_sets_of(labels):
    """Two labels for most rows, so that rare and frequent labels occur together."""
    return [sorted({int(label), int(label) // 2}) for label in labels]


def over_sets(name):
    """A sampler over label sets that are made of the labels."""

    def build(labels, **settings_):
        return MULTILABEL_SAMPLERS[name](label_sets_of(labels), **settings_)

    return build


OVER_SETS = {name: over_sets(name) for name in MULTILABEL_SAMPLERS}
EVERY = {**OVER_LABELS, **OVER_SENTENCES}
dealt = pytest.mark.parametrize("build", [*EVERY.values(), *OVER_SETS.values()], ids=[*EVERY, *OVER_SETS])
every = pytest.mark.parametrize("build", EVERY.values(), ids=EVERY)
over_labels = pytest.mark.parametrize("build", OVER_LABELS.values(), ids=OVER_LABELS)
label_sets = st.lists(st.integers(0, 7), min_size=1, max_size=60)


def test_every_registered_sampler_is_tested_here():
    assert {SAMPLERS[name] for name in SAMPLERS} <= {type(build(long_tail())) for build in OVER_LABELS.values()}
    over_sentences = {type(build(long_tail())) for build in OVER_SENTENCES.values()}
    assert {SENTENCE_SAMPLERS[name] for name in SENTENCE_SAMPLERS} <= over_sentences


def long_tail(rows=137, classes=9, seed=0):
    weight = 1 / np.arange(1, classes + 1) ** 1.5
    drawn = np.random.default_rng(seed).choice(classes, rows, p=weight / weight.sum())
    return np.concatenate([drawn, np.arange(classes)])


def loader_over(sampler, rows, batch_size=5, **settings_):
    data = TensorDataset(torch.arange(rows))
    return DataLoader(data, batch_sampler=BatchSampler(sampler, batch_size, drop_last=False), **settings_)


def in_turn(shards):
    """The batches of all ranks in the order of the plan."""
    return [row for step in itertools.zip_longest(*shards) for batch in step if batch is not None for row in batch]


@dealt
@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_the_ranks_of_accelerate_together_draw_the_plan(build, world):
    labels = long_tail()
    sampler = build(labels, seed=3)
    plan = sampler.plan(0).tolist()
    shards, loaded = [], []
    for rank in range(world):
        batches = BatchSampler(sampler, 5, drop_last=False)
        shards.append(list(BatchSamplerShard(batches, world, rank, even_batches=False)))
        prepared = prepare_data_loader(
            loader_over(build(labels, seed=3), labels.size),
            num_processes=world,
            process_index=rank,
            put_on_device=False,
            even_batches=False,
        )
        loaded.append([rows.tolist() for (rows,) in prepared])
    assert in_turn(shards) == plan
    assert in_turn(loaded) == plan


@dealt
@pytest.mark.parametrize("world", [2, 3, 8])
def test_even_batches_of_accelerate_add_rows_from_the_start_of_the_plan_only(build, world):
    sampler = build(long_tail(), seed=3)
    plan = sampler.plan(0).tolist()
    batches = BatchSampler(sampler, 5, drop_last=False)
    drawn = in_turn([list(BatchSamplerShard(batches, world, rank)) for rank in range(world)])
    assert drawn[: len(plan)] == plan
    added = drawn[len(plan) :]
    assert added == list(itertools.islice(itertools.cycle(plan), len(added)))
    assert len(added) < 5 * world


@dealt
@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_the_ranks_of_our_own_dealing_together_draw_the_plan(build, world):
    sampler = build(long_tail(), seed=3)
    batches_of = [DealtBatches(sampler, 4, rank=rank, world_size=world) for rank in range(world)]
    shards = [list(batches)[:-1] if batches.last_is_filler else list(batches) for batches in batches_of]
    assert in_turn(shards) == sampler.plan(0).tolist()


@dealt
@pytest.mark.parametrize("workers", [1, 2])
def test_the_workers_of_a_data_loader_together_draw_the_plan(build, workers):
    labels = long_tail()
    sampler = build(labels, seed=3)
    sampler.set_epoch(2)
    loader = loader_over(sampler, labels.size, batch_size=16, num_workers=workers)
    assert torch.cat([rows for (rows,) in loader]).tolist() == sampler.plan(2).tolist()


@dealt
def test_a_run_resumes_at_every_step(build):
    labels = long_tail(rows=60)
    whole = [rows.tolist() for epoch in range(2) for (rows,) in loader_over(at(build, labels, epoch), labels.size)]
    steps = len(whole) // 2
    for step in range(len(whole)):
        epoch, done = divmod(step, steps)
        rest = skip_first_batches(loader_over(at(build, labels, epoch), labels.size), done)
        assert [rows.tolist() for (rows,) in rest] == whole[step : (epoch + 1) * steps], step


def at(build, labels, epoch):
    sampler = build(labels, seed=7)
    sampler.set_epoch(epoch)
    return sampler


@every
@given(
    labels=label_sets, seed=st.integers(0, 2**40), epoch=st.integers(0, 1000), length=st.none() | st.integers(1, 300)
)
@settings(max_examples=25, deadline=None)
def test_a_plan_is_pure_and_of_the_promised_length(build, labels, seed, epoch, length):
    sampler = build(labels, seed=seed, num_samples=length, num_classes=8)
    plan = sampler.plan(epoch)
    assert plan.dtype == np.int64
    assert plan.shape == (len(sampler),)
    assert plan.min() >= 0
    assert plan.max() < len(labels)
    other = build(np.array(labels), seed=seed, num_samples=length, num_classes=8)
    other.plan(epoch + 1)
    list(other)
    np.testing.assert_array_equal(other.plan(epoch), plan)
    np.testing.assert_array_equal(sampler.plan(epoch), plan)
    np.testing.assert_array_equal(np.concatenate(list(sampler.parts(epoch))), plan)


@every
def test_epochs_and_seeds_give_different_plans_and_iteration_follows_them(build):
    labels = long_tail(rows=500)
    sampler = build(labels, seed=1)
    assert not np.array_equal(sampler.plan(2), sampler.plan(3))
    assert not np.array_equal(sampler.plan(2), build(labels, seed=2).plan(2))
    sampler.set_epoch(3)
    assert list(sampler) == sampler.plan(3).tolist()
    assert type(next(iter(sampler))) is int


@over_labels
def test_the_effective_prior_is_what_a_million_draws_show(build):
    labels = long_tail(rows=4000, classes=12)
    epochs = 4  # the run that the progressive samplers are told of
    sampler = build(labels, num_samples=250_000, num_classes=14)
    if isinstance(sampler, PerformanceSampler):
        epochs = 1  # the prior is that of the current epoch
        sampler = build(labels, num_samples=1_000_000, num_classes=14)
    if isinstance(sampler, ProgressiveSampler) and sampler.num_epochs < 1:
        sampler, epochs = build(labels, num_samples=2_000_000, num_classes=14), 1  # half an epoch is the whole run
    drawn = np.zeros(14)
    for epoch in range(epochs):
        drawn += np.bincount(labels[sampler.plan(epoch)[:1_000_000]], minlength=14)
    prior = sampler.effective_prior()
    assert drawn.sum() == 1_000_000
    assert prior.shape == (14,)
    assert prior.sum() == pytest.approx(1.0)
    assert (drawn[12:] == 0).all()
    assert (prior[12:] == 0).all()
    assert stats.chisquare(drawn[:12], prior[:12] * 1_000_000).pvalue > 1e-4


@over_labels
def test_a_short_epoch_has_the_prior_in_expectation(build):
    labels = long_tail(rows=300, classes=6)
    sampler = build(labels, num_samples=24)
    drawn, wanted = np.zeros(6), np.zeros(6)
    for run in range(250):
        for epoch in range(4):
            if isinstance(sampler, ProgressiveSampler | PerformanceSampler):
                sampler = build(labels, num_samples=24, seed=run)
                sampler.set_epoch(epoch)
                wanted += sampler.shares(epoch) * 24
                drawn += np.bincount(labels[sampler.plan(epoch)], minlength=6)
            else:
                wanted += sampler.effective_prior() * 24
                drawn += np.bincount(labels[sampler.plan(4 * run + epoch)], minlength=6)
    assert stats.chisquare(drawn, wanted).pvalue > 1e-4


@over_labels
@given(labels=label_sets)
@settings(max_examples=25, deadline=None)
def test_only_classes_with_rows_are_drawn_and_the_prior_says_so(build, labels):
    array = np.array(labels)
    sampler = build(labels, num_classes=9)
    counts = np.bincount(array, minlength=9)
    prior = sampler.effective_prior()
    assert prior.shape == sampler.drawn_counts().shape == (9,)
    assert prior.sum() == pytest.approx(1.0)
    assert (prior[counts == 0] == 0).all()
    if not isinstance(sampler, BalancePolicySampler):
        assert (prior[counts > 0] > 0).all()
    assert (np.bincount(array[sampler.plan(1)], minlength=9)[counts == 0] == 0).all()


@every
def test_one_class_and_one_row(build):
    assert (build([0], seed=1, num_samples=3).plan(0) == 0).all()
    sampler = build(np.zeros(7, dtype=int), num_samples=70)
    assert set(sampler.plan(0)) == set(range(7)) - set(getattr(sampler, "feedback_rows", ()))


@over_labels
def test_a_hundred_thousand_classes(build):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(100_000), np.arange(100_000) % 3))
    start = time.thread_time()
    sampler = build(labels, num_classes=100_001)
    drawn = np.bincount(labels[sampler.plan(0)], minlength=100_001)
    assert time.thread_time() - start < 5.0
    assert (drawn[::3] == 0).all()
    prior = sampler.effective_prior()
    assert prior.shape == (100_001,)
    assert prior.sum() == pytest.approx(1.0)
    assert (prior[:100_000:3] == 0).all()
