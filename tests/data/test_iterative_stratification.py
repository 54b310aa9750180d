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

#: every kind of share; those of one fold too
SHARES = st.sampled_from([(1.0,), (0.5, 0.5), (0.8, 0.1, 0.1), (0.2,) * 5])

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


# --- groups


@st.composite
def grouped(draw):
    """A label matrix and a group id for every row, most groups of one row or a few."""
    matrix = draw(matrices)
    ids = st.integers(0, draw(st.integers(0, 2 * len(matrix))))
    return matrix, np.array(draw(st.lists(ids, min_size=len(matrix), max_size=len(matrix))))


@given(data=grouped(), shares=SHARES, seed=st.integers(0, 3))
@settings(deadline=None, max_examples=200)
def test_a_group_is_never_in_two_folds_and_no_row_is_lost(data, shares, seed):
    matrix, groups = data
    fold = iterative_split(matrix, shares, seed, groups=groups)
    assert fold.dtype == np.int64
    assert fold.shape == (len(matrix),)
    assert set(fold) <= set(range(len(shares)))
    for group in np.unique(groups):
        assert np.unique(fold[groups == group]).size == 1
    # What the ids are does not matter, only who shares one.
    texts = [f"the text number {group}" for group in groups]
    np.testing.assert_array_equal(iterative_split(sparse.coo_array(matrix), shares, seed, groups=texts), fold)
    np.testing.assert_array_equal(iterative_split(matrix, shares, seed, groups=-groups.astype(float)), fold)
    np.testing.assert_array_equal(iterative_split(matrix, shares, seed, groups=[(int(g), "x") for g in groups]), fold)


@given(matrix=matrices, shares=SHARES, seed=st.integers(0, 3))
@settings(deadline=None)
def test_groups_of_one_row_change_nothing(matrix, shares, seed):
    plain = iterative_split(matrix, shares, seed)
    apart = np.random.default_rng(seed).permutation(len(matrix))
    np.testing.assert_array_equal(iterative_split(matrix, shares, seed, groups=apart), plain)


@given(data=grouped(), seed=st.integers(0, 3))
@settings(deadline=None, max_examples=200)
def test_groups_are_dealt_one_at_a_time_the_largest_first(data, seed):
    matrix, groups = data
    fold = iterative_split(matrix, IRRATIONAL, seed, groups=groups)
    ids = np.unique(groups)
    counts = np.array([matrix[groups == g].sum(axis=0, dtype=int) for g in ids])
    sizes = np.array([(groups == g).sum() for g in ids])
    chosen = np.array([fold[groups == g][0] for g in ids])
    wanted, wanted_rows = counts.sum(axis=0)[:, None] * IRRATIONAL, len(matrix) * IRRATIONAL
    left = set(range(len(ids)))

    def deal(kinds, goal):
        """Deal groups of equal kinds by the definition and compare how many each fold gets; keep what was chosen."""
        for kind in sorted(set(kinds.values()), reverse=True):
            members = [g for g in kinds if kinds[g] == kind]
            naive = goal().copy()
            dealt = []
            for _ in members:
                dealt.append(int(naive.argmax()))
                naive[dealt[-1]] -= kind[0]
            assert sorted(dealt) == sorted(chosen[members])
            for g in members:
                wanted[:, chosen[g]] -= counts[g]
                wanted_rows[chosen[g]] -= sizes[g]
                left.remove(g)

    while True:
        having = [sum(counts[g, j] > 0 for g in left) for j in range(matrix.shape[1])]
        if not any(having):
            break
        label = min((n, j) for j, n in enumerate(having) if n)[1]
        deal({g: (counts[g, label], sizes[g]) for g in left if counts[g, label]}, lambda label=label: wanted[label])
    deal({g: (sizes[g],) for g in left}, lambda: wanted_rows)


@pytest.mark.parametrize("shares", [(0.8, 0.1, 0.1), (0.2,) * 5])
def test_labels_and_rows_are_dealt_by_shares_with_repeated_texts(shares):
    generator = np.random.default_rng(0)
    texts = np.repeat(np.arange(4000), np.minimum(generator.zipf(2.0, 4000), 5))
    matrix = long_tail(4000, 60, 3)[texts]
    order = generator.permutation(texts.size)
    texts, matrix = texts[order], matrix[order]
    fold = iterative_split(matrix, shares, 1, groups=texts)
    assert all(np.unique(fold[texts == text]).size == 1 for text in np.flatnonzero(np.bincount(texts) > 1))
    counts = matrix.sum(axis=0)
    np.testing.assert_allclose(np.bincount(fold) / texts.size, shares, atol=0.005)
    for f, share in enumerate(shares):
        inside = matrix[np.flatnonzero(fold == f)].sum(axis=0)
        assert (np.abs(inside - share * counts) <= 3 + 0.1 * share * counts).all()


@given(sizes=st.lists(st.integers(1, 30), min_size=1, max_size=30), seed=st.integers(0, 3), labelled=st.booleans())
@settings(deadline=None)
def test_no_fold_is_off_its_share_by_more_than_the_largest_group(sizes, seed, labelled):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    fold = iterative_split(np.full((groups.size, 1), labelled), (0.6, 0.4), seed, groups=groups)
    assert abs((fold == 0).sum() - 0.6 * groups.size) <= max(sizes)


def test_a_text_that_repeats_a_rare_label_takes_all_its_rows_along():
    matrix = np.zeros((100, 2), dtype=int)
    matrix[:, 0] = 1
    matrix[:4, 1] = 1
    for seed in range(10):
        fold = iterative_split(
            matrix, (0.8, 0.2), seed, groups=["twice", "twice", "thrice", "thrice", *range(95), "thrice"]
        )
        assert fold[0] == fold[1]
        assert fold[2] == fold[3] == fold[99]
        assert np.bincount(fold).tolist() == [80, 20]


# --- cost


@pytest.mark.parametrize("repeats", [0, 10_000])
def test_a_hundred_thousand_rows_of_a_thousand_labels_take_seconds(repeats):
    matrix = long_tail(100_000, 1000, 5)
    groups = np.arange(100_000)
    groups[:repeats] = np.random.default_rng(0).integers(0, 100_000, repeats)
    start = time.thread_time()
    iterative_split(matrix, (0.8, 0.1, 0.1), groups=groups if repeats else None)
    assert time.thread_time() - start < 3.0


def test_nothing_is_made_dense():
    rows, labels = 200_000, 1_000_000  # 200 GB as bytes
    generator = np.random.default_rng(0)
    label = generator.choice(labels, 40, replace=False)[generator.integers(0, 40, rows)]
    matrix = sparse.csr_array((np.ones(rows, dtype=np.int8), (np.arange(rows), label)), shape=(rows, labels))
    for groups in (None, np.arange(rows) // 2):
        fold = iterative_split(matrix, (0.9, 0.1), groups=groups)
        inside, counts = np.bincount(label[fold == 1], minlength=labels), np.bincount(label, minlength=labels)
        assert (np.abs(inside - 0.1 * counts) <= 2 + 0.01 * counts).all()


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


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([1, 2, 3], r"`groups` to be one id per row, \(2,\), but got shape \(3,\)"),
        (np.eye(2), r"one id per row, \(2,\), but got shape \(2, 2\)"),
        ("ab", r"one id per row, \(2,\), but got shape \(\)"),
        (["a", None], "row 1 has None. Give a row that belongs to no other an id of its own"),
        (np.array([np.nan, 1.0]), "row 0 has .*nan"),
        (["a", ["b"]], "numbers or strings, but got: unhashable type: 'list'"),
    ],
)
def test_groups_that_are_no_ids_are_refused(groups, message):
    with pytest.raises(SettingError, match=message):
        iterative_split(np.eye(2), (0.5, 0.5), groups=groups)
