"""Thinning: closed forms, properties, and real label sets."""

import gzip
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.errors import SettingError
from tailwise.imbalance.layout import class_order_of, lay_out
from tailwise.imbalance.multilabel_measures import cardinality
from tailwise.imbalance.profiles import profile_named
from tailwise.imbalance.thinning import thin_classes, thin_label_sets, thin_label_sets_nested
from tailwise.sampling.label_matrix import as_label_matrix, label_counts, one_hot

SEED = np.random.SeedSequence(3)


@st.composite
def label_sets(draw):
    classes = draw(st.integers(2, 6))
    rows = draw(st.lists(st.sets(st.integers(0, classes - 1), max_size=3), min_size=5, max_size=60))
    rows += [{j} for j in range(classes)]
    return as_label_matrix([sorted(row) for row in rows], num_classes=classes)


@st.composite
def thinned_sets(draw):
    matrix = draw(label_sets())
    wanted = [draw(st.integers(0, int(n))) for n in label_counts(matrix)]
    return matrix, np.array(wanted)


def counts_of(matrix, rows):
    return np.bincount(matrix[rows].indices, minlength=matrix.shape[1])


@given(st.lists(st.integers(0, 4), min_size=10, max_size=80), st.data())
def test_classes_are_met_exactly_and_fewer_rows_are_among_more(labels, data):
    has = np.bincount(labels, minlength=5)
    more = np.array([data.draw(st.integers(0, int(n))) for n in has])
    fewer = np.array([data.draw(st.integers(0, int(n))) for n in more])
    first, second = thin_classes(labels, more, SEED), thin_classes(labels, fewer, SEED)
    assert np.bincount(np.array(labels)[first], minlength=5).tolist() == more.tolist()
    assert np.bincount(np.array(labels)[second], minlength=5).tolist() == fewer.tolist()
    assert set(second) <= set(first)
    assert (np.diff(first) > 0).all()


def test_every_row_of_a_class_is_as_likely_to_stay():
    """One of four rows, 2,000 seeds: each row 500 times but for chance (standard deviation 19)."""
    kept = [int(thin_classes([0, 1, 0, 0, 0], [1, 0], np.random.SeedSequence(s))[0]) for s in range(2000)]
    assert sorted(set(kept)) == [0, 2, 3, 4]
    assert np.bincount(kept)[[0, 2, 3, 4]] == pytest.approx(500, abs=90)


@given(thinned_sets())
def test_no_label_falls_below_its_number_and_no_row_could_leave_at_the_end(case):
    matrix, wanted = case
    kept = thin_label_sets(matrix, wanted, SEED)
    over = counts_of(matrix, kept) - wanted
    assert (over >= 0).all()
    for row in kept.tolist():
        labels = matrix[[row]].indices
        assert not labels.size or (over[labels] == 0).any()


@given(thinned_sets())
def test_rows_without_a_label_keep_their_share(case):
    matrix, wanted = case
    sizes = np.diff(matrix.indptr)
    kept = thin_label_sets(matrix, wanted, SEED)
    labelled, unlabelled = (sizes[kept] > 0).sum(), (sizes[kept] == 0).sum()
    assert unlabelled == labelled * (sizes == 0).sum() // (sizes > 0).sum()


@given(st.lists(st.integers(0, 3), min_size=8, max_size=60), st.data())
def test_label_sets_of_one_label_are_met_exactly(labels, data):
    matrix = one_hot(labels, num_classes=4)
    wanted = np.array([data.draw(st.integers(0, int(n))) for n in label_counts(matrix)])
    assert counts_of(matrix, thin_label_sets(matrix, wanted, SEED)).tolist() == wanted.tolist()


@settings(max_examples=40, deadline=None)
@given(label_sets(), st.sampled_from(["step", "linear", "exponential", "power"]), st.integers(1, 20), st.integers(0, 9))
def test_rows_of_a_larger_ratio_are_among_those_of_a_smaller(matrix, shape, n_max, seed):
    has = label_counts(matrix)
    order = class_order_of("random", has, [str(j) for j in range(has.size)], seed)
    layout = lay_out(profile_named(shape, 1.0), has, order, list("abcdef"), n_max=n_max, allow_clip=True)
    ratios = sorted({1.0, 1.1, 1.5, 2.0, 3.0, 7.3, 10.0, layout.steepest})
    before = None
    for rho in [r for r in ratios if r <= layout.steepest]:
        kept = thin_label_sets_nested(matrix, layout.wanted_at, rho, layout.steepest, np.random.SeedSequence(seed))
        assert (counts_of(matrix, kept) >= layout.wanted_at(rho)).all()
        assert before is None or set(kept) <= before
        before = set(kept)


def test_a_label_that_comes_with_a_scarce_one_only_stays_over_its_number():
    """Label 1 is wanted once, but every row with it has label 0, all of which are wanted."""
    matrix = as_label_matrix([[0, 1], [0, 1], [0, 1], [2], [2]])
    assert thin_label_sets(matrix, [3, 1, 1], SEED).tolist()[:3] == [0, 1, 2]
    assert counts_of(matrix, thin_label_sets(matrix, [3, 1, 1], SEED)).tolist() == [3, 3, 1]


def test_mistakes_are_told():
    with pytest.raises(SettingError, match="from 0 to 2, the rows of class 1, but got 3"):
        thin_classes([0, 1, 1], [1, 3], SEED)
    with pytest.raises(SettingError, match="one wanted number for each of 2 classes"):
        thin_label_sets(as_label_matrix([[0], [1]]), [1], SEED)
    with pytest.raises(SettingError, match="from 1 to `steepest` = 5, but got 7"):
        thin_label_sets_nested(as_label_matrix([[0], [1]]), lambda rho: np.ones(2, dtype=int), 7, 5, SEED)


def read_labels(folder):
    with gzip.open(folder / "train.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line)["labels"] for line in file]
    names = sorted({name for row in rows for name in row})
    index = {name: i for i, name in enumerate(names)}
    return as_label_matrix([sorted(index[name] for name in row) for row in rows], num_classes=len(names)), names


@pytest.mark.parametrize(
    ("name", "shape", "rho", "n_max", "order", "gap", "labels_per_row"),
    [
        ("goemotions", "exponential", 10, None, "random", 0.005, 0.15),
        ("goemotions", "step", 10, None, "random", 0.005, 0.15),
        ("goemotions", "exponential", 50, 1000, "frequency", 0.01, 0.15),
        ("reuters21578", "exponential", 100, 1500, "frequency", 0.03, 0.15),
        ("reuters21578", "power", 100, 1500, "frequency", 0.10, 0.45),
    ],
)
def test_real_label_sets_come_near_the_profile(data_dir, name, shape, rho, n_max, order, gap, labels_per_row):
    matrix, names = read_labels(data_dir / name)
    has = label_counts(matrix)
    ranks = class_order_of(order, has, names, 0)
    layout = lay_out(profile_named(shape, rho), has, ranks, names, n_max=n_max, allow_clip=True)
    kept = thin_label_sets_nested(matrix, layout.wanted_at, layout.profile.rho, layout.steepest, SEED)
    reached = counts_of(matrix, kept)
    assert (reached >= layout.wanted).all()
    assert (reached - layout.wanted).sum() <= gap * layout.wanted.sum()
    assert cardinality(matrix[kept]) == pytest.approx(cardinality(matrix), rel=labels_per_row)
    less = thin_label_sets_nested(matrix, layout.wanted_at, layout.profile.rho / 2, layout.steepest, SEED)
    assert set(kept) < set(less)
