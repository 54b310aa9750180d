"""Iterative stratification: the algorithm of the paper, the shares it reaches, its cost."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse

from tailwise.data.iterative_stratification import iterative_split
from tailwise.errors import SettingError

#: no two folds ever want a label equally much, so that nothing is left to chance but which row goes where
IRRATIONAL = np.array([np.pi, np.e, np.sqrt(2)]) / (np.pi + np.e + np.sqrt(2))

matrices = st.tuples(st.integers(1, 40), st.integers(1, 6)).flatmap(
    lambda shape: arrays(np.int8, shape, elements=st.integers(0, 1))
)


def long_tail(rows, classes, per_row, seed=0):
    generator = np.random.default_rng(seed)
    weight = 1 / np.arange(1, classes + 1) ** 1.1
    lengths = generator.poisson(per_row, rows)
    columns = generator.choice(classes, lengths.sum(), p=weight / weight.sum())
    matrix = sparse.csr_array((np.ones(columns.size), (np.repeat(np.arange(rows), lengths), columns)), (rows, classes))
    matrix.data[:] = 1
    return matrix


@given(matrix=matrices, seed=st.integers(0, 3))
@settings(deadline=None, max_examples=200)
def test_folds_are_those_of_the_paper_one_row_at_a_time(matrix, seed):
    fold = iterative_split(matrix, IRRATIONAL, seed)
    wanted = matrix.sum(axis=0)[:, None] * IRRATIONAL
    wanted_rows = len(matrix) * IRRATIONAL
    left = set(range(len(matrix)))
    while True:
        counts = [sum(matrix[i, j] for i in left) for j in range(matrix.shape[1])]
        if not any(counts):
            break
        label = min((n, j) for j, n in enumerate(counts) if n)[1]
        rows = [i for i in left if matrix[i, label]]
        naive = wanted[label].copy()
        for _ in rows:
            naive[max(range(3), key=lambda f, naive=naive: naive[f])] -= 1
        np.testing.assert_array_equal(np.round(wanted[label] - naive).astype(int), np.bincount(fold[rows], minlength=3))
        for i in rows:
            wanted[matrix[i] == 1, fold[i]] -= 1
            wanted_rows[fold[i]] -= 1
            left.remove(i)
    naive = wanted_rows.copy()
    for _ in left:
        naive[naive.argmax()] -= 1
    np.testing.assert_array_equal(np.round(wanted_rows - naive).astype(int), np.bincount(fold[list(left)], minlength=3))


@given(matrix=matrices, folds=st.integers(1, 5), seed=st.integers(0, 3))
@settings(deadline=None)
def test_every_row_is_in_one_fold_and_the_split_is_pure(matrix, folds, seed):
    shares = [1 / folds] * folds
    fold = iterative_split(matrix, shares, seed)
    assert fold.dtype == np.int64
    assert fold.shape == (len(matrix),)
    assert fold.min() >= 0
    assert fold.max() < folds
    np.testing.assert_array_equal(iterative_split(sparse.coo_array(matrix), shares, seed), fold)
    lists = [np.flatnonzero(row).tolist() for row in matrix]
    np.testing.assert_array_equal(iterative_split(lists, shares, seed, num_classes=matrix.shape[1]), fold)


@pytest.mark.parametrize("shares", [(0.8, 0.1, 0.1), (0.5, 0.5), (0.2,) * 5])
def test_labels_and_rows_are_dealt_by_shares(shares):
    matrix = long_tail(5000, 100, 3)
    fold = iterative_split(matrix, shares, 1)
    counts, sizes = matrix.sum(axis=0), np.bincount(fold)
    np.testing.assert_allclose(sizes / 5000, shares, atol=0.005)
    for f, share in enumerate(shares):
        inside = matrix[np.flatnonzero(fold == f)].sum(axis=0)
        assert (np.abs(inside - share * counts) <= 2 + 0.07 * share * counts).all()


def test_it_deals_rare_labels_more_evenly_than_chance():
    matrix = long_tail(3000, 60, 3)
    shares, counts = np.array([0.7, 0.3]), matrix.sum(axis=0)

    def error(fold):
        inside = matrix[np.flatnonzero(fold == 1)].sum(axis=0)
        return np.abs(inside - 0.3 * counts).sum()

    chance = [error(np.random.default_rng(s).choice(2, 3000, p=shares)) for s in range(20)]
    assert error(iterative_split(matrix, shares)) < 0.2 * min(chance)


@given(counts=st.lists(st.integers(1, 50), min_size=1, max_size=5))
@settings(deadline=None)
def test_with_one_label_per_row_it_is_plain_stratification(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    fold = iterative_split([[j] for j in labels], (0.6, 0.4))
    for j, n in enumerate(counts):
        assert abs((fold[labels == j] == 0).sum() - 0.6 * n) < 1


def test_rows_without_labels_fill_the_shares():
    matrix = np.zeros((100, 2), dtype=int)
    matrix[:3, 0] = 1
    fold = iterative_split(matrix, (0.9, 0.1))
    assert np.bincount(fold).tolist() == [90, 10]
    assert np.bincount(iterative_split(np.zeros((10, 1)), (0.7, 0.3))).tolist() == [7, 3]


def test_a_label_of_one_row_goes_to_the_largest_fold():
    matrix = np.zeros((50, 3), dtype=int)
    matrix[:, 0] = 1
    matrix[7, 1] = matrix[8, 2] = 1
    for seed in range(10):
        assert iterative_split(matrix, (0.1, 0.9), seed)[[7, 8]].tolist() == [1, 1]


def test_where_folds_want_a_label_equally_the_one_that_wants_more_rows_gets_it():
    matrix = np.zeros((20, 2), dtype=int)
    matrix[0, 0] = matrix[1, 1] = 1
    for seed in range(20):
        fold = iterative_split(matrix, (0.5, 0.5), seed)
        assert fold[0] != fold[1]


def test_seeds_give_different_splits():
    matrix = long_tail(500, 10, 2)
    first = iterative_split(matrix, (0.5, 0.5), 1)
    assert not np.array_equal(first, iterative_split(matrix, (0.5, 0.5), 2))
    inside = np.mean([iterative_split(matrix, (0.5, 0.5), s) for s in range(200)], axis=0)
    assert np.abs(inside - 0.5).max() < 0.25  # no row is tied to a fold


def test_a_hundred_thousand_rows_of_a_thousand_labels_take_seconds():
    matrix = long_tail(100_000, 1000, 5)
    start = time.thread_time()
    iterative_split(matrix, (0.8, 0.1, 0.1))
    assert time.thread_time() - start < 3.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.eye(2), (0.5, 0.6)), r"numbers above 0 that sum to 1, one per fold, but got \(0.5, 0.6\)"),
        ((np.eye(2), (1.0, 0.0)), "above 0"),
        ((np.eye(2), ()), "one per fold"),
        ((np.eye(2), (1.0,), -1), "`seed` to be a non-negative integer, but got -1"),
        ((np.zeros(3), (1.0,)), "iterative_split: expected one row of labels per instance"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(SettingError, match=message):
        iterative_split(*arguments)
