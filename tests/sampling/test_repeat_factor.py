"""Repeat-factor sampling: the factors, their rounding, and what it takes as labels."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tailwise.errors import SettingError
from tailwise.sampling.label_matrix import as_label_matrix, one_hot
from tailwise.sampling.repeat_factor import (
    RepeatFactorSampler,
    instance_aware_frequencies,
    label_frequencies,
    label_repeat_factors,
    row_repeat_factors,
    threshold_for,
)

matrices = st.tuples(st.integers(1, 30), st.integers(1, 6)).flatmap(
    lambda shape: arrays(np.int8, shape, elements=st.integers(0, 1))
)


def test_factors_of_the_specification():
    factors = label_repeat_factors(np.array([700, 150, 40, 8]) / 1000, 0.05)
    np.testing.assert_allclose(factors, [1, 1, 1.118034, 2.5], rtol=1e-6)


@given(matrix=matrices, threshold=st.floats(1e-3, 1.0), power=st.sampled_from([0.25, 0.5, 1.0]))
@settings(deadline=None)
def test_factors_equal_plain_python(matrix, threshold, power):
    sampler = RepeatFactorSampler(matrix, threshold=threshold, power=power)
    rows = len(matrix)
    counts = matrix.sum(axis=0)
    of_label = [max(1.0, (threshold * rows / n) ** power) if n else None for n in counts]
    for j, factor in enumerate(of_label):
        assert sampler.label_factors[j] == pytest.approx(factor) if factor else np.isnan(sampler.label_factors[j])
    for i, row in enumerate(matrix):
        assert sampler.repeat_factors[i] == pytest.approx(max([1.0, *(of_label[j] for j in np.flatnonzero(row))]))


@given(matrix=matrices, threshold=st.floats(1e-2, 1.0), power=st.sampled_from([0.5, 1.0]), epoch=st.integers(0, 5))
@settings(deadline=None)
def test_every_epoch_rounds_the_factors_up_or_down_and_has_one_length(matrix, threshold, power, epoch):
    sampler = RepeatFactorSampler(matrix, threshold=threshold, power=power)
    uses = np.bincount(sampler.plan(epoch), minlength=len(matrix))
    assert uses.sum() == len(sampler)
    assert (uses >= np.floor(sampler.repeat_factors)).all()
    assert (uses <= np.ceil(sampler.repeat_factors)).all()
    fractions = sampler.repeat_factors - np.floor(sampler.repeat_factors)
    assert len(sampler) - np.floor(sampler.repeat_factors).sum() == pytest.approx(np.floor(fractions.sum() + 1e-9))
    assert (sampler.mean_uses() <= sampler.repeat_factors + 1e-9).all()
    assert sampler.mean_uses().sum() > sampler.repeat_factors.sum() - 1


def test_rows_are_drawn_as_often_as_their_factor_says():
    generator = np.random.default_rng(0)
    matrix = generator.random((300, 30)) < 1 / np.arange(1, 31) ** 1.2
    sampler = RepeatFactorSampler(matrix, threshold=0.3)
    epochs = 400
    uses = sum(np.bincount(sampler.plan(epoch), minlength=300) for epoch in range(epochs)) / epochs
    np.testing.assert_allclose(uses, sampler.mean_uses(), atol=5 * 0.5 / np.sqrt(epochs))
    np.testing.assert_allclose(uses.sum(), sampler.repeat_factors.sum(), atol=1)


def test_rows_are_rounded_up_independently_of_their_neighbours():
    labels = np.repeat([0, 1], [60, 40])
    sampler = RepeatFactorSampler(labels, threshold=0.9)
    frequency = sampler.mean_uses()[60] - 1
    up = np.array([np.bincount(sampler.plan(epoch), minlength=100)[60:] > 1 for epoch in range(3000)])
    together = (up[:, 0] & up[:, 1]).mean()
    assert together == pytest.approx(frequency**2, abs=0.04)


def test_one_label_per_row_in_every_form():
    labels = np.repeat([0, 1, 2], [90, 9, 1])
    wanted = RepeatFactorSampler(one_hot(labels), threshold=0.1).plan(0)
    for same in (labels, labels.tolist(), torch.from_numpy(labels), labels.astype(np.uint8), [[j] for j in labels]):
        sampler = RepeatFactorSampler(same, threshold=0.1)
        np.testing.assert_array_equal(sampler.plan(0), wanted)
    np.testing.assert_allclose(sampler.label_factors, [1, np.sqrt(0.1 / 0.09), np.sqrt(0.1 / 0.01)])
    assert sampler.effective_prior().sum() == pytest.approx(1.0)
    assert RepeatFactorSampler(labels, num_classes=5).effective_prior()[3:].tolist() == [0, 0]
    with pytest.raises(SettingError, match="RepeatFactorSampler: expected one class index per row"):
        RepeatFactorSampler(np.array([0.5, 1.0]))
    with pytest.raises(SettingError, match="class indices from 0 to 1, but got 0 to 2"):
        RepeatFactorSampler(labels, num_classes=2)


def test_with_power_one_every_rare_class_is_lifted_to_the_threshold():
    labels = np.repeat([0, 1, 2], [900, 90, 10])
    uses = np.bincount(labels[RepeatFactorSampler(labels, threshold=0.2, power=1.0).plan(0)])
    np.testing.assert_allclose(uses, [900, 200, 200], atol=1)


def test_no_label_grows_by_more_than_its_bound():
    matrix = np.random.default_rng(1).random((400, 12)) < 1 / np.arange(2, 14) ** 1.5
    report = RepeatFactorSampler(matrix, threshold=0.2).before_after()
    bound = max(1.0, np.sqrt(0.2 * 400 / report.counts_before.min()))
    assert (report.counts_after <= np.ceil(bound) * report.counts_before).all()


def test_rows_and_data_sets_without_labels_come_once():
    sampler = RepeatFactorSampler([[], [0], [], [0, 1]], threshold=1.0)
    assert sampler.repeat_factors[[0, 2]].tolist() == [1, 1]
    assert sorted(RepeatFactorSampler(np.zeros((5, 2))).plan(0)) == list(range(5))


def test_instance_aware_frequencies_are_geometric_means():
    matrix = as_label_matrix([[0], [0, 1], [0], []], num_classes=3)
    np.testing.assert_allclose(label_frequencies(matrix), [0.75, 0.25, 0])
    np.testing.assert_allclose(instance_aware_frequencies(matrix), np.sqrt([0.75 * 0.75, 0.25 * 0.25, 0]))
    shares = instance_aware_frequencies(matrix, mentions=[30, 10, 0])
    np.testing.assert_allclose(shares, np.sqrt([0.75 * 0.75, 0.25 * 0.25, 0]))
    shares = instance_aware_frequencies(matrix, mentions=[3, 27, 0])
    np.testing.assert_allclose(shares, np.sqrt([0.75 * 0.1, 0.25 * 0.9, 0]))
    sampler = RepeatFactorSampler(matrix, threshold=0.5, instance_aware=True, mentions=[3, 27, 0])
    np.testing.assert_allclose(sampler.label_factors, label_repeat_factors(shares, 0.5))
    np.testing.assert_allclose(sampler.repeat_factors, row_repeat_factors(matrix, sampler.label_factors))


def test_a_threshold_leaves_the_asked_share_of_labels_below():
    frequencies = np.array([0.0, 0.5, 0.1, 0.01, 0.002, 0.001, 0.2])
    assert (frequencies[frequencies > 0] < threshold_for(frequencies, 0.5)).mean() == 0.5
    assert threshold_for(frequencies, 0.0) == 0.001
    with pytest.raises(SettingError, match=r"`share` to lie in \[0, 1\], but got 2"):
        threshold_for(frequencies, 2)
    with pytest.raises(SettingError, match="at least one label with a row"):
        threshold_for([0.0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threshold": 0.0}, r"`threshold` to lie in \(0, 1\], but got 0.0"),
        ({"threshold": 2.0}, "but got 2.0"),
        ({"power": 0}, "`power` to be above 0, but got 0"),
        ({"mentions": [1, 1]}, "only with `instance_aware=True`"),
        ({"mentions": [1], "instance_aware": True}, "`mentions` to be 2 numbers >= 0, one per label"),
        ({"mentions": [1, -1], "instance_aware": True}, "`mentions` to be 2 numbers >= 0"),
        ({"mentions": [1, 0], "instance_aware": True}, "label 1 has none"),
    ],
)
def test_bad_settings_are_refused(arguments, message):
    with pytest.raises(SettingError, match=message):
        RepeatFactorSampler(np.eye(2), **arguments)


def test_mentions_count_by_their_shares_alone():
    matrix = as_label_matrix([[0], [0], [1]])
    wanted = np.sqrt([2 / 3 * 0.75, 1 / 3 * 0.25])
    for scale in (1e-3, 1, 100):
        np.testing.assert_allclose(instance_aware_frequencies(matrix, np.array([3, 1]) * scale), wanted)
