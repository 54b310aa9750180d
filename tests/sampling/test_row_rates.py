"""Rates of rows against what plans draw."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from tailwise.sampling import MULTILABEL_SAMPLERS, SAMPLERS, SENTENCE_SAMPLERS

LABELS = np.repeat([0, 1, 2], [60, 25, 5])
CLASS_SAMPLERS = {
    "natural": {}, "ros": {}, "rus": {"ratio": 2.0}, "cas": {}, "power": {"power": 0.5}, "frequent": {},
    "policy": {"base": 0.75, "over": 0.9}, "mixed": {"samplers": ["natural", "cas"]},
}  # fmt: skip


def drawn(sampler, rows, epochs=100):
    counts = np.zeros(rows)
    for epoch in range(epochs):
        counts += np.bincount(sampler.plan(epoch), minlength=rows)
    return counts / counts.mean()


def close(rates, counts, sampler, epochs=100):
    """Within five standard errors of the Poisson counts."""
    expected = rates * epochs * len(sampler) / rates.size
    found = counts * epochs * len(sampler) / rates.size
    return np.all(np.abs(found - expected) <= 5 * np.sqrt(expected) + 1)


@pytest.mark.parametrize("name", sorted(CLASS_SAMPLERS))
def test_rates_over_classes_are_what_is_drawn(name):
    sampler = SAMPLERS[name](LABELS, seed=3, **CLASS_SAMPLERS[name])
    rates = sampler.row_rates()
    assert rates.mean() == pytest.approx(1.0, rel=1e-6)
    assert close(rates, drawn(sampler, LABELS.size), sampler)


@pytest.mark.parametrize("name", ["rfs", "ml-cas", "label-balanced"])
def test_rates_over_label_sets_are_what_is_drawn(name):
    labels = csr_matrix((np.random.default_rng(0).random((80, 4)) < [0.6, 0.3, 0.1, 0.05]).astype(np.float32))
    sampler = MULTILABEL_SAMPLERS[name](labels, seed=1)
    rates = sampler.row_rates()
    assert rates.mean() == pytest.approx(1.0, rel=1e-6)
    assert close(rates, drawn(sampler, 80), sampler)


def test_rates_over_sentences_are_what_is_drawn():
    sentences = [[0, 0, 1], [0, 2], [0, 0, 0, 0], [1, 0]] * 10
    sampler = SENTENCE_SAMPLERS["sentence-rarity"](sentences, seed=1)
    assert close(sampler.row_rates(), drawn(sampler, 40), sampler)


@pytest.mark.parametrize("name", ["progressive", "performance"])
def test_rates_that_change_in_the_course_of_a_training_are_not_told(name):
    params = {"num_epochs": 4} if name == "progressive" else {}
    assert SAMPLERS[name](LABELS, **params).row_rates() is None
