"""Both passes over a chain of tags, against all sequences one by one."""

import itertools

import numpy as np
import pytest
from scipy.special import logsumexp

from tailwise.models import tag_chain
from tailwise.models.tag_chain import TagChain, log_marginals, max_marginals

LENGTHS = (3, 0, 1, 5, 2, 3)


@pytest.fixture(params=[2**21, 1], ids=["one block", "a block per sentence"])
def chain(request, monkeypatch):
    monkeypatch.setattr(tag_chain, "_BLOCK", request.param)
    rng = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(LENGTHS)]).astype(np.int64)
    return rng.normal(size=(offsets[-1], 4), scale=2), rng.normal(size=(4, 4), scale=2), offsets


def by_sequence(chain):
    """Per sentence all sequences of tags, ``(S, T)``, and their scores, ``(S,)``."""
    unary, transition, offsets = chain
    for start, end in itertools.pairwise(offsets):
        every = np.array(list(itertools.product(range(4), repeat=end - start)), dtype=int).reshape(
            4 ** (end - start), end - start
        )
        scores = unary[np.arange(start, end), every].sum(axis=1) + transition[every[:, :-1], every[:, 1:]].sum(axis=1)
        yield every, scores


def test_log_marginals_are_sums_over_all_sequences(chain):
    expected = [
        logsumexp(scores[every[:, place] == tag]) - logsumexp(scores)
        for every, scores in by_sequence(chain)
        for place in range(every.shape[1])
        for tag in range(4)
    ]
    found = log_marginals(*chain)
    np.testing.assert_allclose(found.ravel(), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1.0, rtol=1e-12)


def test_max_marginals_are_the_best_of_all_sequences_and_their_largest_is_the_best_one(chain):
    found, offsets = max_marginals(*chain), chain[2]
    for (every, scores), start, end in zip(by_sequence(chain), offsets, offsets[1:], strict=False):
        own = found[start:end]
        assert own.argmax(axis=1).tolist() == every[scores.argmax()].tolist()
        for place, tag in itertools.product(range(end - start), range(1, 4)):
            gap = scores[every[:, place] == tag].max() - scores[every[:, place] == 0].max()
            assert own[place, tag] - own[place, 0] == pytest.approx(gap, rel=1e-10, abs=1e-10)


def test_without_transitions_a_token_stands_alone():
    unary = np.random.default_rng(1).normal(size=(7, 3))
    alone = unary - logsumexp(unary, axis=1, keepdims=True)
    for scores in (log_marginals, max_marginals):
        np.testing.assert_allclose(scores(unary, np.zeros((3, 3)), np.array([0, 4, 7])), alone, rtol=1e-12)


def test_long_sentences_and_large_scores_stay_finite():
    unary = np.random.default_rng(2).normal(size=(5000, 3), scale=300)
    transition = np.array([[0.0, -900.0, 800.0], [3.0, 0.0, -900.0], [-800.0, 900.0, 0.0]])
    for scores in (log_marginals, max_marginals):
        assert np.isfinite(scores(unary, transition, np.array([0, 5000]))).all()


def test_no_sentence_gives_no_score():
    assert log_marginals(np.zeros((0, 3)), np.zeros((3, 3)), np.array([0])).shape == (0, 3)
    assert log_marginals(np.zeros((0, 3)), np.zeros((3, 3)), np.array([0, 0, 0])).shape == (0, 3)


def test_a_chain_is_counted_from_sentences():
    """Pairs and first tags by hand; an empty sentence adds nothing."""
    tags, offsets = np.array([0, 1, 1, 0, 2]), np.array([0, 3, 3, 5, 5])
    chain = TagChain.counted(tags, offsets, 3, weight=0.5)
    pairs = np.array([[0.1, 1.1, 1.1], [0.1, 1.1, 0.1], [0.1, 0.1, 0.1]])
    alone = np.array([2.1, 2.1, 1.1]) / 5.3
    expected = 0.5 * np.log(pairs / pairs.sum(axis=1, keepdims=True) / alone)
    np.testing.assert_allclose(chain.transition, expected, rtol=1e-12)
    np.testing.assert_allclose(chain.start, 0.5 * np.log(np.array([2.1, 0.1, 0.1]) / 2.3 / alone), rtol=1e-12)


def test_the_scores_of_a_chain_decide_for_the_best_sequence(chain):
    unary, transition, offsets = chain
    start = np.array([0.0, 5.0, 0.0, -5.0])
    found = TagChain(transition, start).scores(unary.astype(np.float32), offsets)
    shifted = unary.astype(np.float32).astype(float)
    shifted[offsets[:-1][np.diff(offsets) > 0]] += start
    for (every, scores), begin, end in zip(
        by_sequence((shifted, transition, offsets)), offsets, offsets[1:], strict=False
    ):
        assert found[begin:end].argmax(axis=1).tolist() == every[scores.argmax()].tolist()
    assert found.dtype == np.float32
