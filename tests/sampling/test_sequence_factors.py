"""Repeat factors of sentences, and tokens drawn as often as their sentences."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.errors import SettingError
from tailwise.sampling import (
    CatchAllSentenceSampler,
    SentenceRaritySampler,
    SentenceRepeatFactorSampler,
    TokenFactorSampler,
)

#: 0 is O; 1 and 2 are the beginning and the inside of one type, 3 and 4 of another
TYPES = [0, 0, 0, 1, 1]
SENTENCES = [[0, 0], [1, 2, 0], [1, 0], [0, 3, 4, 1], [0], [1, 2], [0, 0, 0], [2, 0], [0, 1], [0]]
sentences = st.lists(st.lists(st.integers(0, 4), max_size=6), min_size=1, max_size=20)


def naive_factors(rows, threshold, power):
    kinds = [{TYPES[tag] for tag in row if tag} for row in rows]
    share = {t: sum(t in k for k in kinds) / len(rows) for t in (0, 1)}
    return [max([1.0, *(max(1.0, (threshold / share[t]) ** power) for t in k)]) for k in kinds]


@given(sentences, st.floats(0.05, 1.0), st.sampled_from([0.5, 1.0]))
def test_factors_are_those_of_the_rarest_type(rows, threshold, power):
    sampler = SentenceRepeatFactorSampler(rows, threshold=threshold, power=power, tag_types=TYPES, num_classes=5)
    np.testing.assert_allclose(sampler.factors(), naive_factors(rows, threshold, power))
    drawn = Counter(sampler.plan(0).tolist())
    for sentence, factor in enumerate(sampler.factors()):
        assert np.floor(factor + 1e-9) <= drawn[sentence] <= np.ceil(factor - 1e-9)


def test_a_rare_type_is_repeated_by_default_and_a_frequent_one_is_not():
    sampler = SentenceRepeatFactorSampler(SENTENCES, tag_types=TYPES)
    assert sampler.threshold == pytest.approx(0.1 + 0.3 * (0.6 - 0.1))  # the lower third of the shares .1 and .6
    factors = sampler.factors()
    assert factors[3] == pytest.approx((0.25 / 0.1) ** 0.5)
    assert np.delete(factors, 3).tolist() == [1.0] * 9


def test_sentences_without_any_entity_are_drawn_once():
    assert SentenceRepeatFactorSampler([[0, 0], [0]]).factors().tolist() == [1.0, 1.0]


@pytest.mark.parametrize("setting", [{"threshold": 0.0}, {"threshold": 1.5}, {"power": 0.0}])
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(SettingError, match=next(iter(setting))):
        SentenceRepeatFactorSampler(SENTENCES, **setting)


@given(sentences, st.integers(0, 3))
def test_an_epoch_holds_the_tokens_of_the_sentences_drawn(rows, epoch):
    if not any(rows):
        return
    by_sentence = SentenceRaritySampler(rows, tag_types=TYPES, num_classes=5)
    by_token = TokenFactorSampler(by_sentence)
    ends = np.cumsum([0, *map(len, rows)])
    expected = Counter(t for s in by_sentence.plan(epoch).tolist() for t in range(ends[s], ends[s + 1]))
    assert Counter(by_token.plan(epoch).tolist()) == expected
    np.testing.assert_allclose(by_token.effective_prior(), by_sentence.effective_prior())


def test_tokens_of_discarded_sentences_come_as_often_on_average():
    by_sentence = CatchAllSentenceSampler(SENTENCES, threshold=0.1, num_classes=5)
    by_token = TokenFactorSampler(by_sentence)
    assert 0.0 < by_sentence.keep < 1.0
    drawn = np.sum([np.bincount(by_token.plan(e), minlength=by_token.tags.size) for e in range(3000)], axis=0) / 3000
    np.testing.assert_allclose(drawn, by_token.expected_counts(), atol=0.05)
