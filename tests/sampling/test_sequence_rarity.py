"""Re-sampling of sentences: factors of the formulas, rounding, priors, discarding."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tailwise.errors import SettingError
from tailwise.sampling.sequence_rarity import (
    CatchAllSentenceSampler,
    SentenceRaritySampler,
    count_types,
    rareness,
    rarity_factors,
    stochastic_rounding,
)

O, B_PER, I_PER, B_MISC, I_MISC = range(5)  # noqa: E741
TYPES = [-1, 0, 0, 1, 1]
BEGINS = [False, True, False, True, False]


def corpus_of_the_specification():
    """One sentence of 10 tokens with 2 PER and 1 MISC; in all 1000 tokens, 50 PER and 8 MISC."""
    first = [O, B_PER, I_PER, O, O, B_MISC, O, O, O, O]
    rest = [[B_PER] * 48, [B_MISC] * 7, [O] * 935]
    return [first, *rest]


sentences = st.lists(st.lists(st.integers(0, 4), min_size=0, max_size=9), min_size=1, max_size=12)


def test_the_numbers_of_the_specification():
    counts = count_types(corpus_of_the_specification(), tag_types=TYPES)
    np.testing.assert_allclose(rareness(counts), [4.321928, 6.965784], atol=5e-7)
    exact = {form: rarity_factors(counts, form)[0] for form in ("sC", "sCR", "sCRD", "nsCRD")}
    assert exact["sC"] == 4.0
    assert exact["sCR"] == pytest.approx(4.0755, abs=5e-5)
    for form, wanted in (("sC", 4), ("sCR", 5), ("sCRD", 6), ("nsCRD", 5)):
        sampler = SentenceRaritySampler(corpus_of_the_specification(), form=form, tag_types=TYPES)
        assert sampler.factors()[0] == wanted, form
        assert sampler.factors()[3] == 1, form
        repeats = np.bincount(sampler.plan(0))
        np.testing.assert_array_equal(repeats, sampler.factors())


def test_the_paper_form_of_the_count():
    counts = count_types(corpus_of_the_specification(), tag_types=TYPES)
    assert rarity_factors(counts, "sC", paper_form=True)[0] == 2.0
    for form in ("sCR", "sCRD", "nsCRD"):
        np.testing.assert_array_equal(rarity_factors(counts, form, paper_form=True), rarity_factors(counts, form))


@given(tags=sentences, form=st.sampled_from(["sC", "sCR", "sCRD", "nsCRD"]))
@settings(deadline=None)
def test_factors_equal_those_of_a_plain_loop(tags, form):
    total = sum(map(len, tags))
    amount = {t: sum(TYPES[tag] == t for s in tags for tag in s if tag != O) for t in (0, 1)}
    wanted = []
    for sentence in tags:
        factor = 1.0
        own = [TYPES[tag] for tag in sentence if tag != O]
        for kind in set(own):
            c, w = own.count(kind), -math.log2(amount[kind] / total)
            factor += {"sC": c, "sCR": w * c, "sCRD": w * c, "nsCRD": w * math.sqrt(c)}[form]
        if own and form == "sCR":
            factor = math.sqrt(factor)
        if own and form in {"sCRD", "nsCRD"}:
            factor /= math.sqrt(len(sentence))
        wanted.append(factor)
    np.testing.assert_allclose(rarity_factors(count_types(tags, tag_types=TYPES), form), wanted)


def test_mentions_can_be_counted_in_place_of_tokens():
    tags = [[B_PER, I_PER, I_PER, B_PER, O, I_PER], [I_MISC, I_MISC, I_PER], [B_MISC, -100, I_MISC], [O]]
    counts = count_types(tags, tag_types=TYPES, begins=BEGINS)
    got = dict(zip(zip(counts.sentence.tolist(), counts.type.tolist(), strict=True), counts.amount, strict=True))
    assert got == {(0, 0): 3, (1, 0): 1, (1, 1): 1, (2, 1): 1}
    assert counts.type_tokens.tolist() == [4, 2]
    assert counts.lengths.tolist() == [6, 3, 2, 1]


def test_ignored_tags_are_no_tokens():
    with_, without = [[-100, O, B_PER, -100, O]], [[O, B_PER, O]]
    for form in ("sC", "sCR", "sCRD", "nsCRD"):
        got, wanted = (rarity_factors(count_types(tags, tag_types=TYPES), form) for tags in (with_, without))
        np.testing.assert_array_equal(got, wanted)


@given(tags=sentences)
@settings(deadline=None)
def test_a_ragged_array_is_the_same_as_a_list(tags):
    flat = np.array(list(itertools.chain.from_iterable(tags)), dtype=np.int64)
    offsets = np.cumsum([0, *map(len, tags)])
    one, two = SentenceRaritySampler(tags), SentenceRaritySampler(flat, offsets=offsets)
    np.testing.assert_array_equal(one.plan(1), two.plan(1))


@given(tags=sentences, seed=st.integers(0, 100))
@settings(deadline=None)
def test_every_sentence_comes_at_least_once_with_either_rounding(tags, seed):
    for rounding in ("ceil", "stochastic"):
        sampler = SentenceRaritySampler(tags, rounding=rounding, form="sCRD", seed=seed)
        repeats = np.bincount(sampler.plan(0), minlength=len(tags))
        assert repeats.min() >= 1
        assert repeats.sum() == len(sampler)
        assert (np.abs(repeats - sampler.factors()) < 1).all()


@given(values=st.lists(st.floats(0, 5), min_size=1, max_size=40), seed=st.integers(0, 1000))
def test_stochastic_rounding_goes_to_the_next_whole_numbers_and_keeps_the_sum(values, seed):
    array = np.array(values)
    total = max(int(array.sum() + 1e-9), int(np.floor(array).sum()))
    rounded = stochastic_rounding(np.random.default_rng(seed), array, total)
    assert rounded.sum() == total
    assert ((rounded == np.floor(array)) | (rounded == np.floor(array) + 1)).all()


def test_stochastic_rounding_has_the_expected_counts():
    tags = [[O, B_PER], [B_MISC, I_MISC, O], [O, O, O, O], [B_PER, I_PER, I_PER]] * 3
    sampler = SentenceRaritySampler(tags, rounding="stochastic", tag_types=TYPES)
    mean = sum(np.bincount(sampler.plan(epoch), minlength=12) for epoch in range(4000)) / 4000
    np.testing.assert_allclose(mean, sampler.expected_counts(), atol=0.04)
    assert sampler.expected_counts().sum() == pytest.approx(len(sampler))
    np.testing.assert_allclose(sampler.expected_counts(), sampler.factors(), atol=1 / 3)


@pytest.mark.parametrize("rounding", ["ceil", "stochastic"])
def test_the_prior_is_that_of_the_tokens_drawn(rounding):
    generator = np.random.default_rng(0)
    tags = [generator.choice(5, generator.integers(1, 12), p=[0.8, 0.08, 0.06, 0.04, 0.02]) for _ in range(300)]
    sampler = SentenceRaritySampler(tags, rounding=rounding, num_classes=6)
    drawn = np.zeros(6)
    for epoch in range(40):
        drawn += np.bincount(np.concatenate([tags[i] for i in sampler.plan(epoch)]), minlength=6)
    prior = sampler.effective_prior()
    assert prior.shape == (6,)
    np.testing.assert_allclose(drawn / drawn.sum(), prior, atol=1e-3)
    natural = np.bincount(np.concatenate(tags), minlength=6) / sum(map(len, tags))
    assert prior[0] < natural[0]


def test_sentences_without_an_entity_are_discarded_at_the_rate_of_mikolov():
    tags = [[O, O, O]] * 80 + [[O, B_PER]] * 20
    sampler = CatchAllSentenceSampler(tags, threshold=0.2)
    assert sampler.keep == pytest.approx(0.5)
    assert len(sampler) == 60
    kept = np.zeros(100)
    for epoch in range(400):
        repeats = np.bincount(sampler.plan(epoch), minlength=100)
        assert repeats.max() == 1
        assert (repeats[80:] == 1).all()
        kept += repeats
    assert stats.chisquare(kept[:80]).pvalue > 1e-4
    np.testing.assert_allclose(sampler.effective_prior(), [140 / 160, 20 / 160])
    assert CatchAllSentenceSampler(tags, threshold=0.9).keep == 1.0
    assert CatchAllSentenceSampler(tags, threshold=0.2, form="word2vec").keep == pytest.approx(0.75)


@pytest.mark.parametrize("cls", [SentenceRaritySampler, CatchAllSentenceSampler])
def test_plans_are_pure_and_of_the_promised_length(cls):
    generator = np.random.default_rng(0)
    tags = [generator.choice(5, 6, p=[0.8, 0.08, 0.06, 0.04, 0.02]) for _ in range(200)]
    for length in (None, 7, 1000):
        sampler = cls(tags, seed=3, num_samples=length)
        plan = sampler.plan(2)
        sampler.plan(5)
        np.testing.assert_array_equal(sampler.plan(2), plan)
        assert plan.shape == (len(sampler),)
        assert plan.dtype == np.int64
        assert not np.array_equal(plan, sampler.plan(3))
        sampler.set_epoch(2)
        assert list(sampler) == plan.tolist()


def test_a_corpus_without_entities_or_without_tokens_stays_as_it_is():
    for tags in ([[O, O], [O]], [[], [O], []], [[-100, -100]]):
        for form in ("sC", "sCR", "sCRD", "nsCRD"):
            assert (SentenceRaritySampler(tags, form=form).factors() == 1).all()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SentenceRaritySampler([]), "tags of one or more sentences"),
        (lambda: SentenceRaritySampler([0, 1]), "one array of tag ids each"),
        (lambda: SentenceRaritySampler([["O"]]), "integer tag ids, but got <U1"),
        (lambda: SentenceRaritySampler([0, 1, 1], offsets=[0, 2]), "from 0 to the number of tags, 3"),
        (lambda: SentenceRaritySampler([0, 1, 1], offsets=[0, 3, 1, 3]), "`offsets` to rise"),
        (lambda: SentenceRaritySampler([[0, 1]], form="sCD"), "'sC', 'sCR', 'sCRD', 'nsCRD', but got 'sCD'"),
        (lambda: SentenceRaritySampler([[0, 1]], rounding="floor"), "'ceil' or 'stochastic', but got 'floor'"),
        (lambda: SentenceRaritySampler([[0, 4]], tag_types=[-1, 0]), r"`tag_types` to have an entry for every tag id"),
        (lambda: SentenceRaritySampler([[0, 1]], tag_types=[-1, -1]), "entity types from 0, but got -1"),
        (lambda: SentenceRaritySampler([[0, 4]], begins=[True]), "`begins` to have an entry"),
        (lambda: SentenceRaritySampler([[0, 4]], num_classes=3), "tag 4 is outside `num_classes` = 3"),
        (lambda: SentenceRaritySampler([[0, 4]], num_samples=0), "`num_samples` to be at least 1"),
        (lambda: CatchAllSentenceSampler([[0]], threshold=0), "`threshold` to be positive"),
        (lambda: CatchAllSentenceSampler([[0]], form="x"), "'paper' or 'word2vec', but got 'x'"),
    ],
)
def test_bad_input_is_refused(build, message):
    with pytest.raises(SettingError, match=message):
        build()


def test_a_long_sentence_with_one_common_entity_is_not_lost():
    tags = [[B_PER] + [O] * 24, *[[B_PER] * 50]]
    counts = count_types(tags)
    assert rarity_factors(counts, "sCRD")[0] < 0.5
    for rounding in ("ceil", "stochastic"):
        sampler = SentenceRaritySampler(tags, form="sCRD", rounding=rounding)
        assert sampler.factors()[0] == 1.0
        assert all(0 in sampler.plan(epoch) for epoch in range(20))
