"""Performance-based re-sampling: shares, state, resuming."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import f1_score

from tailwise.errors import SettingError
from tailwise.sampling.feedback import stratified_slice
from tailwise.sampling.mixed import MixedSampler
from tailwise.sampling.performance import PerformanceSampler, per_class_f1, performance_shares

LABELS = np.repeat(np.arange(4), [500, 300, 150, 50])


def test_shares_of_pouyanfar():
    sampler = PerformanceSampler(LABELS, floor=0.0, momentum=0.0, feedback_share=0.0)
    sampler.update([0.9, 0.6, 0.3, 0.0])
    np.testing.assert_allclose(sampler.shares(0), 0.25)
    np.testing.assert_allclose(sampler.shares(1), [0.045455, 0.181818, 0.318182, 0.454545], atol=5e-7)
    drawn = np.bincount(LABELS[sampler.plan(1)], minlength=4)
    np.testing.assert_allclose(drawn, sampler.shares(1) * 1000, atol=1.0)


def test_floor_temperature_and_base():
    base = np.array([0.6, 0.4])
    need = np.array([0.1 + 0.05, 0.8 + 0.05])
    wanted = base * need**0.5
    got = performance_shares(base, np.array([0.9, 0.2]), floor=0.05, temperature=2.0)
    np.testing.assert_allclose(got, wanted / wanted.sum())
    flat = performance_shares(base, np.array([0.9, 0.2]), temperature=1e9)
    np.testing.assert_allclose(flat, base, atol=1e-6)


def test_neutral_and_unknown_scores_leave_the_base():
    base = np.array([0.7, 0.2, 0.1])
    for scores in ([1.0, 1.0, 1.0], [np.nan] * 3):
        np.testing.assert_array_equal(performance_shares(base, np.array(scores), floor=0.0), base)
    np.testing.assert_allclose(performance_shares(base, np.full(3, 0.4)), base)
    got = performance_shares(base, np.array([0.5, 0.9, np.nan]), floor=0.0)
    np.testing.assert_allclose(got, base * [0.5, 0.1, 0.3] / (base * [0.5, 0.1, 0.3]).sum())


def test_an_empty_class_is_never_drawn_whatever_its_score():
    sampler = PerformanceSampler([0, 0, 2], num_classes=4)
    sampler.update([1.0, 0.0, 0.5, np.nan])
    assert sampler.shares(1)[[1, 3]].tolist() == [0.0, 0.0]
    assert set(sampler.plan(1)) <= {0, 1, 2}


def test_scores_are_averaged_over_time_class_by_class():
    sampler = PerformanceSampler(LABELS, momentum=0.75)
    sampler.update([0.4, 0.4, np.nan, 0.0])
    sampler.set_epoch(1)
    sampler.update([0.8, np.nan, 0.5, 0.0])
    np.testing.assert_allclose(sampler.scores(1), [0.4, 0.4, np.nan, 0.0])
    np.testing.assert_allclose(sampler.scores(2), [0.5, 0.4, 0.5, 0.0])
    assert np.isnan(sampler.scores(0)).all()


def test_scores_do_not_change_the_epoch_they_come_in():
    sampler = PerformanceSampler(LABELS, seed=4)
    sampler.set_epoch(3)
    before, next_before = sampler.plan(3), sampler.plan(4)
    sampler.update([0.9, 0.9, 0.1, 0.1])
    np.testing.assert_array_equal(sampler.plan(3), before)
    assert not np.array_equal(np.sort(LABELS[sampler.plan(4)]), np.sort(LABELS[next_before]))
    np.testing.assert_allclose(sampler.effective_prior(), sampler.shares(3))


@pytest.mark.parametrize("stop", range(6))
def test_a_run_resumes_from_plain_json_at_any_epoch(stop):
    def scores(epoch):
        return np.random.default_rng(epoch).random(4)

    def run(sampler, first, last):
        plans = []
        for epoch in range(first, last):
            sampler.set_epoch(epoch)
            plans.append(list(sampler))
            sampler.update(scores(epoch))
        return plans

    whole = run(PerformanceSampler(LABELS, seed=1), 0, 6)
    first = PerformanceSampler(LABELS, seed=1)
    run(first, 0, stop)
    second = PerformanceSampler(LABELS, seed=1)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert run(second, stop, 6) == whole[stop:]


def test_a_checkpoint_taken_after_an_update_within_an_epoch_goes_on_with_that_epoch():
    sampler = PerformanceSampler(LABELS)
    sampler.update([0.1, 0.2, np.nan, 0.4], from_epoch=2)
    sampler.set_epoch(2)
    plan = list(sampler)
    sampler.update([0.9, 0.9, 0.9, 0.1])
    again = PerformanceSampler(LABELS)
    again.load_state_dict(json.loads(json.dumps(sampler.state_dict())))
    again.set_epoch(2)
    assert list(again) == plan
    np.testing.assert_array_equal(again.plan(3), sampler.plan(3))


def test_the_feedback_slice_is_stratified_and_never_drawn():
    sampler = PerformanceSampler(LABELS, seed=3, base="natural")
    held = sampler.feedback_rows
    assert np.bincount(sampler.feedback_labels).tolist() == [50, 30, 15, 5]
    np.testing.assert_array_equal(sampler.feedback_labels, LABELS[held])
    assert sampler.class_counts.tolist() == [450, 270, 135, 45]
    assert len(sampler) == 900
    assert (np.diff(held) > 0).all()
    sampler.update([0.9, 0.1, 0.5, np.nan])
    assert set(sampler.plan(0)) == set(range(1000)) - set(held)
    assert not np.isin(np.concatenate([sampler.plan(epoch) for epoch in range(5)]), held).any()
    np.testing.assert_array_equal(PerformanceSampler(LABELS, seed=3).feedback_rows, held)
    assert not np.array_equal(PerformanceSampler(LABELS, seed=4).feedback_rows, held)


@given(
    labels=st.lists(st.integers(0, 6), min_size=1, max_size=80),
    share=st.floats(0.0, 0.999),
    seed=st.integers(0, 2**40),
)
@settings(max_examples=100, deadline=None)
def test_a_slice_has_its_share_of_every_class_and_leaves_each_a_row(labels, share, seed):
    array = np.array(labels)
    held = stratified_slice(array, share, seed=seed)
    counts, taken = np.bincount(array, minlength=7), np.bincount(array[held], minlength=7)
    assert (taken <= np.maximum(counts - 1, 0)).all()
    assert (np.abs(taken - np.minimum(share * counts, np.maximum(counts - 1, 0))) <= 0.5 + 1e-9).all()
    assert np.unique(held).size == held.size


def test_which_rows_are_held_out_is_uniform():
    labels = np.repeat([0, 1], [30, 10])
    held = np.bincount(np.concatenate([stratified_slice(labels, 0.2, seed=s) for s in range(2000)]), minlength=40)
    assert stats.chisquare(held).pvalue > 1e-4


def test_predictions_are_asked_for_once_per_epoch_from_the_second_on():
    sampler = PerformanceSampler(LABELS)
    assert [sampler.rows_to_score(epoch).size for epoch in range(3)] == [0, 100, 100]
    sampler.update([0.5] * 4)
    assert [sampler.rows_to_score(epoch).size for epoch in range(3)] == [0, 0, 100]
    assert not PerformanceSampler(LABELS, feedback_share=0.0).rows_to_score(1).size
    assert not PerformanceSampler([0, 1, 1, 2]).rows_to_score(1).size


@pytest.mark.parametrize(("labels", "parts"), [([0] * 5 + [1] * 4, 2), ([0] * 10 + [1] * 10, 8)])
def test_a_slice_of_fewer_rows_than_parts_is_scored_in_every_epoch(labels, parts):
    sampler = PerformanceSampler(labels, feedback_parts=parts)
    for epoch in range(1, 12):
        rows = sampler.rows_to_score(epoch)
        assert rows.size == (sampler.feedback_rows.size if epoch == 1 else 1)
        sampler.observe(np.zeros(rows.size, dtype=int), from_epoch=epoch)


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_the_slice_is_predicted_anew_part_by_part_and_scored_whole(parts):
    sampler = PerformanceSampler(LABELS, feedback_parts=parts, momentum=0.0, num_classes=5)
    generator = np.random.default_rng(0)
    known = np.full(LABELS.size, -1)
    asked = []
    for epoch in range(1, 8):
        rows = sampler.rows_to_score(epoch)
        known[rows] = generator.integers(0, 4, rows.size)
        sampler.observe(known[rows], from_epoch=epoch)
        assert not sampler.rows_to_score(epoch).size
        wanted = per_class_f1(sampler.feedback_labels, known[sampler.feedback_rows], 5)
        np.testing.assert_array_equal(sampler.scores(epoch), wanted)
        asked.append(rows)
        again = PerformanceSampler(LABELS, feedback_parts=parts, momentum=0.0, num_classes=5)
        again.load_state_dict(json.loads(json.dumps(sampler.state_dict())))
        sampler = again
    np.testing.assert_array_equal(asked[0], sampler.feedback_rows)
    for start in range(1, 5):
        turn = asked[start : start + parts]
        np.testing.assert_array_equal(np.sort(np.concatenate(turn)), sampler.feedback_rows)
        counts = [np.bincount(LABELS[rows], minlength=4) for rows in turn]
        assert (np.ptp(counts, axis=0) <= 1).all()


def test_a_prediction_outside_the_classes_is_an_error_and_no_more():
    for outside in (-1, 2, 7):
        sampler = PerformanceSampler([0] * 10 + [1] * 10, feedback_share=0.5)
        sampler.observe([0, 0, 0, 0, outside, 1, 1, 1, 1, 1], from_epoch=1)
        np.testing.assert_allclose(sampler.scores(1), [8 / 9, 1.0])


def test_f1_is_that_of_scikit_learn_and_unknown_for_absent_classes():
    generator = np.random.default_rng(0)
    gold, predicted = generator.integers(0, 5, 400), generator.integers(0, 6, 400)
    got = per_class_f1(gold, predicted, 7)
    np.testing.assert_allclose(got[:5], f1_score(gold, predicted, labels=range(5), average=None, zero_division=0))
    assert np.isnan(got[5:]).all()
    assert np.isnan(per_class_f1([], [], 3)).all()


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda s: s.update([0.5]), r"one score per class, \(4,\), but got shape \(1,\)"),
        (lambda s: s.update([0.5, 0.5, 0.5, 50.0]), r"scores in \[0, 1\]"),
        (lambda s: s.update([0.5, 0.5, 0.5, -0.1]), r"scores in \[0, 1\]"),
        (lambda s: (s.update([0.5] * 4, from_epoch=5), s.update([0.5] * 4)), "from epoch 5 on are already in"),
        (
            lambda s: s.load_state_dict({"from_epoch": [1], "average": [[0.5]], "predicted": None}),
            "the state has 1 classes, but the",
        ),
        (
            lambda s: s.load_state_dict({"from_epoch": [], "average": [], "predicted": [0, 1]}),
            "predictions of 2 rows held out, but here 100 are",
        ),
        (
            lambda s: s.observe([0, 1], from_epoch=1),
            r"each of the 100 rows to score before epoch 1, but got shape \(2,",
        ),
        (
            lambda s: PerformanceSampler(LABELS, feedback_parts=0),
            "`feedback_parts` to be at least 1, but got 0",
        ),
        (lambda s: PerformanceSampler(LABELS, feedback_parts=1.5), "whole number, but got 1.5"),
        (lambda s: s.observe([0.5] * 100, from_epoch=1), "class indices as predictions, but got float64"),
        (lambda s: PerformanceSampler(LABELS, base="pi"), "'uniform' or 'natural', but got 'pi'"),
        (lambda s: PerformanceSampler(LABELS, floor=-1), "`floor` to be at least 0"),
        (lambda s: PerformanceSampler(LABELS, momentum=1.0), r"`momentum` to lie in \[0, 1\), but got 1.0"),
        (lambda s: PerformanceSampler(LABELS, temperature=0), "`temperature` to be positive"),
        (lambda s: PerformanceSampler(LABELS, feedback_share=1.0), r"`feedback_share` to lie in \[0, 1\), but got 1.0"),
        (lambda s: MixedSampler(LABELS, samplers=["natural", "performance"]), "PerformanceSampler, holds rows out"),
        (lambda s: MixedSampler(LABELS, samplers=["cas", "progressive"]), "2, 'progressive', needs `num_epochs`"),
        (lambda s: per_class_f1([0, 1], [0], 2), "classes of one shape"),
        (lambda s: per_class_f1([0, 1], [0, 2], 2), r"`predicted` to lie in \[0, 2\)"),
    ],
)
def test_bad_input_is_refused(act, message):
    with pytest.raises(SettingError, match=message):
        act(PerformanceSampler(LABELS))
