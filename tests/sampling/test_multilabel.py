"""Multi-label samplers: what is drawn, what it does to every label, and that the report says so."""

import math
import re
import time
import warnings

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse, stats
from torch.utils.data import DataLoader, TensorDataset

from tailwise.errors import SettingError
from tailwise.sampling.class_aware_multilabel import (
    ClassAwareMultiLabelSampler,
    co_drawn,
    draw_probabilities,
    rebalancing_factors,
    smoothed_factors,
)
from tailwise.sampling.label_balanced import LabelBalancedSampler, balanced_probabilities
from tailwise.sampling.label_matrix import (
    as_label_matrix,
    co_occurrence,
    irlbl,
    label_counts,
    label_sets,
    labels_of,
    mean_ir,
    minority_labels,
    one_hot,
    row_scumble,
)
from tailwise.sampling.label_powerset import LabelPowersetOverSampler, LabelPowersetUnderSampler, shared_out
from tailwise.sampling.multilabel_base import LabelMatrixSampler, rounded_at_random
from tailwise.sampling.multilabel_random import (
    MultiLabelRandomOverSampler,
    MultiLabelRandomUnderSampler,
    cloned_rows,
    deleted_rows,
)
from tailwise.sampling.remedial import remedial
from tailwise.sampling.repeat_factor import RepeatFactorSampler
from tailwise.sampling.resampling_report import report_of

torch.set_num_threads(1)

EVERY = [
    LabelPowersetOverSampler,
    LabelPowersetUnderSampler,
    MultiLabelRandomOverSampler,
    MultiLabelRandomUnderSampler,
    ClassAwareMultiLabelSampler,
    RepeatFactorSampler,
    LabelBalancedSampler,
]
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*leave nothing to re-sample:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*is less than half a row:UserWarning"),
]


@st.composite
def label_matrices(draw, max_rows=25, max_classes=6):
    """Random label matrices: with rows without labels, labels without rows, of one row, and of all rows."""
    rows, classes = draw(st.integers(1, max_rows)), draw(st.integers(1, max_classes))
    matrix = draw(arrays(np.int8, (rows, classes), elements=st.integers(0, 1)))
    for label in range(classes):
        kind = draw(st.sampled_from(["as drawn", "as drawn", "empty", "one row", "all rows"]))
        if kind != "as drawn":
            matrix[:, label] = kind == "all rows"
            matrix[draw(st.integers(0, rows - 1)), label] |= kind == "one row"
    return matrix


def labelled(matrix):
    """The same with at least one label: what the samplers that visit labels need."""
    matrix = matrix.copy()
    matrix[0, 0] = 1
    return matrix


def long_tail(rows=2000, classes=20, seed=0, power=1.2, per_row=2.0):
    generator = np.random.default_rng(seed)
    weight = 1 / np.arange(1, classes + 1) ** power
    lengths = generator.poisson(per_row, rows)
    matrix = np.zeros((rows, classes), dtype=np.int8)
    matrix[np.repeat(np.arange(rows), lengths), generator.choice(classes, lengths.sum(), p=weight / weight.sum())] = 1
    return matrix


def generator(seed=0):
    return np.random.default_rng(seed)


# --- label matrices


def test_every_form_of_labels_gives_the_same_matrix_and_stays_as_it_is():
    dense = np.array([[1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 1, 0]])
    unsorted = sparse.csr_array((np.array([1.0, 1, 0, 1, 1]), np.array([2, 0, 1, 2, 1]), np.array([0, 2, 3, 5])))
    unsorted.resize((3, 4))
    before = unsorted.data.copy(), unsorted.indices.copy()
    forms = [
        dense,
        dense.astype(bool),
        dense.astype(float),
        torch.from_numpy(dense),
        torch.from_numpy(dense).bfloat16(),
        torch.from_numpy(dense).to_sparse_coo(),
        sparse.csc_matrix(dense),
        unsorted,
        [[2, 0], [], [1, 2]],
        ({0, 2}, set(), np.array([2, 1])),
        np.array([[0, 2], [], [1, 2]], dtype=object),
    ]
    for form in forms:
        matrix = as_label_matrix(form, num_classes=4)
        np.testing.assert_array_equal(matrix.toarray(), dense)
        assert matrix.dtype == np.int8
        assert matrix.has_sorted_indices
        assert matrix.nnz == dense.sum()
    np.testing.assert_array_equal(unsorted.data, before[0])
    np.testing.assert_array_equal(unsorted.indices, before[1])


def test_duplicate_entries_of_a_sparse_matrix_add_up():
    twice = sparse.csr_array((np.array([1, 0, 2, -1]), np.array([0, 0, 1, 1]), np.array([0, 4])), shape=(1, 2))
    np.testing.assert_array_equal(as_label_matrix(twice).toarray(), [[1, 1]])


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (np.zeros(3, dtype=int), None, r"one row of labels per instance, \(N, C\), but got shape \(3,\)"),
        (torch.zeros(3), None, r"but got shape \(3,\).*single-label sampler"),
        (np.zeros((0, 3)), None, r"at least one row and one label, but got shape \(0, 3\)"),
        (np.zeros((3, 0)), None, r"but got shape \(3, 0\)"),
        (np.array([[0, 2]]), None, "matrix of 0 and 1, but got 2"),
        (np.array([[0.5, 1.0]]), None, "but got 0.5.*scores must be thresholded first"),
        (np.array([[np.nan, 1.0]]), None, "but got nan"),
        (sparse.csr_array(np.array([[0, 3]])), None, "but got 3"),
        (np.eye(3), 4, r"`num_classes` = 4 columns, but got shape \(3, 3\)"),
        ([[0, 1], [2, -1]], None, "from 0, but got -1 in row 1"),
        ([[0], [5]], 3, "label 5 in row 1 is outside `num_classes` = 3"),
        ([[1, 0, 0], [0, 1, 0]], None, r"row 0 names a label twice: \[1, 0, 0\].*as an array"),
        ([["a"], ["b"]], None, "to be integers, but got <U1. Encode them first"),
        ([[0.0]], None, "to be integers, but got float64"),
        (["news", "sport"], None, "row 0 is 'news'"),
        ([0, 1], None, "row 0 is 0. For one class index per row use a single-label sampler"),
        ([[], []], None, "at least one row with a label, or `num_classes`"),
    ],
)
def test_labels_that_are_no_label_matrix_are_refused(labels, classes, message):
    with pytest.raises(SettingError, match=f"Mine: .*{message}"):
        as_label_matrix(labels, num_classes=classes, name="Mine")


def test_one_hot_is_a_label_matrix_of_one_label_per_row():
    np.testing.assert_array_equal(one_hot(torch.tensor([1, 0]), 3).toarray(), [[0, 1, 0], [1, 0, 0]])
    for wrong in ([0.5], [], [[0]], [-1], [3]):
        with pytest.raises(SettingError, match="class ind"):
            one_hot(wrong, 3)


def test_imbalance_of_the_specification():
    counts = [700, 150, 40, 8]
    np.testing.assert_allclose(irlbl(counts), [1, 14 / 3, 17.5, 87.5])
    assert mean_ir(counts) == pytest.approx(27.666667, abs=1e-6)
    assert minority_labels(counts).tolist() == [False, False, False, True]
    assert row_scumble(as_label_matrix([[0, 3]], num_classes=4), counts)[0] == pytest.approx(0.788607, abs=1e-6)


def test_labels_without_a_row_are_undefined_or_count_as_zero():
    counts = [4, 0, 2]
    np.testing.assert_array_equal(irlbl(counts), [1, np.nan, 2])
    np.testing.assert_array_equal(irlbl(counts, legacy_empty=True), [1, 0, 2])
    assert mean_ir(counts) == 1.5
    assert mean_ir(counts, legacy_empty=True) == 1.0
    assert np.isnan(mean_ir([0, 0]))
    assert np.isnan(mean_ir([0, 0], legacy_empty=True))


@given(label_matrices())
@settings(deadline=None)
def test_matrix_facts_equal_plain_python(dense):
    matrix = as_label_matrix(dense)
    rows = [frozenset(np.flatnonzero(row)) for row in dense]
    np.testing.assert_array_equal(label_counts(matrix), dense.sum(axis=0))
    np.testing.assert_array_equal(co_occurrence(matrix).toarray(), dense.astype(int).T @ dense)
    uses = np.arange(len(rows)) % 3
    np.testing.assert_array_equal(co_occurrence(matrix, uses).toarray(), (dense * uses[:, None]).T @ dense)
    number, sizes = label_sets(matrix)
    assert sizes.sum() == len(rows)
    for i, first in enumerate(rows):
        assert [number[i] == n for n in number] == [first == other for other in rows]
        assert sizes[number[i]] == rows.count(first)
    chosen = np.arange(len(rows))[::-2]
    members, lengths = labels_of(matrix, chosen)
    assert [frozenset(part) for part in np.split(members, np.cumsum(lengths)[:-1])] == [rows[i] for i in chosen]
    ratio = [max(dense.sum(axis=0)) / max(n, 1) for n in dense.sum(axis=0)]
    for value, labels in zip(row_scumble(matrix), rows, strict=True):
        of_row = [ratio[j] for j in labels]
        wanted = 1 - np.prod(of_row) ** (1 / len(of_row)) / np.mean(of_row) if of_row else 0.0
        assert value == pytest.approx(wanted, abs=1e-9)
        assert value >= 0
        assert len(of_row) > 1 or value == 0


def test_scumble_of_equally_rare_labels_is_exactly_zero():
    matrix = as_label_matrix([[0, 1, 2]] * 7 + [[3]] * 20)
    assert (row_scumble(matrix) == 0).all()


def test_scumble_does_not_overflow_for_many_rare_labels():
    dense = np.zeros((1000, 501), dtype=int)
    dense[:, 0] = 1
    dense[0] = 1
    value = row_scumble(as_label_matrix(dense))[0]
    assert 0 < value < 1


# --- what holds of every sampler


@pytest.mark.parametrize("cls", EVERY)
@given(
    matrix=label_matrices(),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 1000),
    length=st.none() | st.integers(1, 100),
)
@settings(max_examples=60, deadline=None)
def test_a_plan_is_pure_and_of_the_promised_length(cls, matrix, seed, epoch, length):
    matrix = labelled(matrix)
    sampler = cls(matrix, seed=seed, num_samples=length)
    plan = sampler.plan(epoch)
    assert plan.dtype == np.int64
    assert plan.shape == (len(sampler),)
    assert len(sampler) == length or length is None
    assert plan.min() >= 0
    assert plan.max() < len(matrix)
    other = cls(sparse.coo_matrix(matrix), seed=seed, num_samples=length)
    other.plan(epoch + 1)
    np.testing.assert_array_equal(other.plan(epoch), plan)
    np.testing.assert_array_equal(sampler.plan(epoch), plan)


@pytest.mark.parametrize("cls", EVERY)
@given(matrix=label_matrices(), length=st.none() | st.integers(1, 100), epoch=st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_prior_and_report_are_those_of_the_plan(cls, matrix, length, epoch):
    matrix = labelled(matrix)
    sampler = cls(matrix, num_samples=length)
    expected = sampler.expected_uses()
    assert expected.sum() == pytest.approx(len(sampler))
    assert expected.min() >= 0
    np.testing.assert_allclose(sampler.effective_prior(), expected @ matrix / len(sampler), atol=1e-12)
    plan, report = sampler.plan(epoch), sampler.before_after(epoch)
    assert not np.setdiff1d(plan, np.flatnonzero(expected > 0)).size
    drawn = matrix[plan].astype(int)
    assert (report.rows, report.draws) == (len(matrix), len(plan))
    np.testing.assert_array_equal(report.counts_before, matrix.sum(axis=0))
    np.testing.assert_array_equal(report.counts_after, drawn.sum(axis=0))
    np.testing.assert_array_equal(report.irlbl_after, irlbl(drawn.sum(axis=0)))
    assert sorted([*report.minority, *report.majority]) == np.flatnonzero(matrix.any(axis=0)).tolist()
    for part, together in ((matrix.astype(int), report.together_before), (drawn, report.together_after)):
        np.testing.assert_array_equal(together.toarray(), part[:, report.minority].T @ part[:, report.majority])
    rare = drawn[:, report.minority].sum(axis=1)
    accompanied = rare[drawn[:, report.majority].any(axis=1)].sum() / max(1, rare.sum())
    assert report.accompanied_after == pytest.approx(accompanied)
    assert set(report.lost) == set(np.flatnonzero(matrix.any(axis=0) & ~drawn.any(axis=0)))
    assert report.scumble_before == pytest.approx(row_scumble(as_label_matrix(matrix)).mean())
    assert report.scumble_after == pytest.approx(row_scumble(as_label_matrix(drawn)).mean())
    assert str(report)


@pytest.mark.parametrize("cls", EVERY)
@pytest.mark.parametrize("length", [None, 500, 3001])
def test_the_effective_prior_is_what_many_epochs_draw(cls, length):
    matrix = long_tail(rows=400, classes=12)
    sampler = cls(matrix, num_samples=length, seed=5)
    epochs = 40
    uses = np.zeros(len(matrix))
    for epoch in range(epochs):
        uses += np.bincount(sampler.plan(epoch), minlength=len(matrix))
    draws = epochs * len(sampler)
    prior = sampler.effective_prior()
    spread = np.sqrt(np.maximum(prior * (1 - np.minimum(prior, 1)), 1e-12) / draws)
    np.testing.assert_array_less(np.abs(uses @ matrix / draws - prior), 5 * spread + 1e-9)
    expected = sampler.expected_uses() * epochs
    np.testing.assert_array_less(np.abs(uses - expected), 5 * np.sqrt(expected) + 1e-9)


@pytest.mark.parametrize("cls", EVERY)
def test_the_effective_prior_holds_on_a_million_draws(cls):
    matrix = long_tail(rows=3000, classes=30)
    sampler = cls(matrix, num_samples=1_000_000)
    drawn = np.bincount(sampler.plan(0), minlength=len(matrix)) @ matrix
    wanted = sampler.effective_prior() * 1_000_000
    # Never more spread than independent draws, so that the test of independence is a bound.
    assert stats.chi2.sf(((drawn - wanted) ** 2 / wanted).sum(), len(wanted) - 1) > 1e-4


@pytest.mark.parametrize("cls", EVERY)
def test_epochs_and_seeds_give_different_plans(cls):
    matrix = long_tail()
    first = cls(matrix, seed=1).plan(0)
    assert not np.array_equal(first, cls(matrix, seed=1).plan(1))
    assert not np.array_equal(first, cls(matrix, seed=2).plan(0))


@pytest.mark.parametrize("cls", EVERY)
def test_a_data_loader_draws_the_plan(cls):
    matrix = long_tail(rows=200)
    sampler = cls(matrix, seed=3)
    sampler.set_epoch(2)
    loader = DataLoader(TensorDataset(torch.arange(200)), batch_size=7, sampler=sampler)
    assert torch.cat([batch for (batch,) in loader]).tolist() == sampler.plan(2).tolist() == list(sampler)


@pytest.mark.parametrize("cls", EVERY)
def test_sets_of_label_indices_are_taken_too(cls):
    sampler = cls([{0, 2}, set(), {1}, frozenset({0})], num_classes=5)
    np.testing.assert_array_equal(sampler.label_matrix.toarray()[:, :3], [[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 0, 0]])


DEGENERATE = {
    "one row, one label": np.ones((1, 1), dtype=int),
    "one row, several labels": np.array([[1, 1, 0]]),
    "one label, some rows without": np.array([[1], [0], [1]]),
    "all rows alike": np.tile([1, 0, 1], (6, 1)),
    "no label anywhere": np.zeros((4, 2), dtype=int),
}


@pytest.mark.parametrize("cls", EVERY)
@pytest.mark.parametrize("matrix", DEGENERATE.values(), ids=DEGENERATE)
def test_degenerate_data_have_a_plan_or_a_reason(cls, matrix):
    if not matrix.any() and cls in {ClassAwareMultiLabelSampler, LabelBalancedSampler}:
        with pytest.raises(SettingError, match=f"{cls.__name__}: expected at least one row with a label, but got none"):
            cls(matrix)
        return
    sampler = cls(matrix, num_samples=7)
    plan = sampler.plan(0)
    assert plan.shape == (7,)
    assert set(plan) <= set(range(len(matrix)))
    assert sampler.expected_uses().sum() == pytest.approx(7)
    drawn = np.mean([matrix[sampler.plan(epoch)].mean(axis=0) for epoch in range(300)], axis=0)
    np.testing.assert_allclose(sampler.effective_prior(), drawn, atol=0.05)
    assert "Re-sampling: " in str(sampler.before_after())


@pytest.mark.parametrize("cls", EVERY)
def test_lists_of_label_indices_are_taken_too(cls):
    sampler = cls([[0, 2], [], [1], [0], [0, 1]], num_classes=5)
    assert sampler.effective_prior().shape == (5,)
    assert (sampler.effective_prior()[3:] == 0).all()


@pytest.mark.parametrize("cls", EVERY)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_samples": 0}, "`num_samples` to be at least 1, but got 0"),
        ({"seed": -1}, "`seed` to be a non-negative integer, but got -1"),
        ({"num_classes": 3}, r"`num_classes` = 3 columns, but got shape \(2, 2\)"),
    ],
)
def test_settings_of_every_sampler_are_checked(cls, arguments, message):
    with pytest.raises(SettingError, match=f"{cls.__name__}: .*{message}"):
        cls(np.eye(2), **arguments)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LabelPowersetOverSampler(np.eye(2), share=0.0), "`share` to be above 0, but got 0.0"),
        (lambda: LabelPowersetUnderSampler(np.eye(2), share=1.0), r"`share` to lie in \(0, 1\), but got 1.0"),
        (lambda: MultiLabelRandomOverSampler(np.eye(2), share=-1), "`share` to be above 0, but got -1"),
        (lambda: MultiLabelRandomUnderSampler(np.eye(2), share=1.5), r"`share` to lie in \(0, 1\), but got 1.5"),
        (lambda: ClassAwareMultiLabelSampler(np.eye(2), samples_per_class=0), "`samples_per_class` to be at least 1"),
        (lambda: ClassAwareMultiLabelSampler(np.eye(2), reduce=0), "`reduce` to be above 0, but got 0"),
        (lambda: ClassAwareMultiLabelSampler(np.zeros((2, 2))), "at least one row with a label"),
        (lambda: LabelBalancedSampler(np.zeros((2, 2))), "at least one row with a label"),
        (lambda: LabelBalancedSampler(np.eye(2), strength=1.1), r"`strength` to lie in \[0, 1\], but got 1.1"),
        (lambda: LabelBalancedSampler(np.eye(2), iterations=0), "`iterations` to be at least 1"),
        (lambda: LabelBalancedSampler(np.eye(2), target=[1.0]), "`target` to be 2 numbers"),
        (lambda: LabelBalancedSampler(np.eye(2), target=[1.0, 0.0]), "above 0 for every label with a row"),
    ],
)
def test_bad_settings_are_refused(build, message):
    with pytest.raises(SettingError, match=message):
        build()


def test_cost_is_small():
    matrix = sparse.random_array((100_000, 90), density=0.03, format="csr", rng=generator())
    matrix.data[:] = 1
    for cls in (MultiLabelRandomOverSampler, MultiLabelRandomUnderSampler, LabelBalancedSampler):
        start = time.thread_time()
        cls(matrix).plan(0)
        assert time.thread_time() - start < 1.0, cls


# --- the report


def test_the_report_names_majority_labels_that_grow_with_the_minority():
    matrix = np.array([[1, 0, 0]] * 90 + [[1, 0, 1]] * 4 + [[0, 1, 0]] * 40)
    sampler = MultiLabelRandomOverSampler(matrix, share=0.1)
    report = sampler.before_after(class_names=["news", "sport", "chess"])
    clones = len(sampler) - len(matrix)
    assert report.mean_ir_after < report.mean_ir_before
    assert report.grown_majority.tolist() == [0]
    assert report.accompanied_before == report.accompanied_after == 1.0
    page = str(report)
    assert f"Re-sampling: 134 rows -> {134 + clones} draws" in page
    assert f"WARNING: 1 of 2 majority labels grew, 1 of them also per draw, by {clones} positives in all" in page
    assert f"news +{clones}" in page
    assert "Minority positives in a row with a majority label: 100.0% -> 100.0%" in page
    counts = {"news": (94, 94 + clones), "sport": (40, 40), "chess": (4, 4 + clones)}
    for name, (before, after) in counts.items():
        line = next(line.split() for line in page.splitlines() if line.startswith(f"  {name} "))
        assert line[1:] == [
            str(before),
            "->",
            str(after),
            "IRLbl",
            f"{94 / before:.2f}",
            "->",
            f"{(94 + clones) / after:.2f}",
        ]
    pairs = page.splitlines()[page.splitlines().index("Minority with majority labels, most frequent pairs:") + 1 :]
    assert [line.split() for line in pairs] == [["chess", "+", "news", "4", "->", str(4 + clones)]]
    assert f"SCUMBLE {report.scumble_before:.3f} -> {report.scumble_after:.3f}" in page


def test_the_report_lists_the_pairs_that_occur_together_most_often():
    matrix = np.array(
        [[1, 0, 0, 0]] * 90 + [[1, 0, 1, 0]] * 3 + [[0, 1, 1, 0]] + [[1, 1, 0, 1]] * 2 + [[0, 1, 0, 0]] * 50
    )
    uses = np.ones(len(matrix), dtype=int)
    uses[94:96] = 5
    page = str(report_of(as_label_matrix(matrix), uses))
    pairs = [line.split() for line in page[page.index("most frequent pairs:") :].splitlines()[1:]]
    assert [(first, second, before, after) for first, _, second, before, _, after in pairs] == [
        ("3", "0", "2", "10"),
        ("3", "1", "2", "10"),
        ("2", "0", "3", "3"),
        ("2", "1", "1", "1"),
    ]


def test_the_report_says_when_no_majority_label_grew_and_when_a_label_was_lost():
    matrix = as_label_matrix([[0]] * 8 + [[1]] * 2, num_classes=3)
    page = str(report_of(matrix, np.array([1] * 8 + [0] * 2)))
    assert "No majority label has more positives than before." in page
    assert "WARNING: 1 labels are no longer drawn: 1 -2." in page
    assert re.search(r"1 +2 -> +0 +IRLbl +4.00 -> +-\n", page)
    assert "pairs" not in page
    assert "MeanIR - -> -, SCUMBLE 0.000 -> 0.000" in str(report_of(as_label_matrix(np.zeros((2, 3))), np.ones(2, int)))
    with pytest.raises(SettingError, match="Expected 3 `class_names`, one per label, but got 2"):
        report_of(matrix, np.ones(10, dtype=int), class_names=["a", "b"])


def test_the_page_of_a_thousand_labels_is_short():
    assert len(str(RepeatFactorSampler(long_tail(classes=1000), threshold=0.05).before_after()).splitlines()) < 40


# --- ML-ROS and ML-RUS


def replay_clones(matrix, clones, budget, retire):
    """Algorithm 3 of the paper in plain Python, with the random rows as given."""
    rows, counts = [set(np.flatnonzero(row)) for row in matrix], matrix.sum(axis=0).astype(int)
    present = counts[counts > 0]
    bound = math.fsum(max(present) / present) / present.size if present.size else 0.0
    active = sorted(
        (j for j in range(len(counts)) if counts[j] and max(counts) / counts[j] > bound), key=lambda j: counts[j]
    )
    left, used = list(clones), 0
    while used < budget and active:
        for label in list(active):
            row = left.pop(0)
            assert label in rows[row]
            counts[list(rows[row])] += 1
            used += 1
            if retire and max(counts) / counts[label] <= bound:
                active.remove(label)
    assert left == []
    return counts


@given(label_matrices(max_rows=40), st.integers(0, 400), st.booleans(), st.integers(0, 5))
@example(np.array([[1, 1, 1], [1, 0, 0]]), 1, True, 0)  # the first label of a turn retires
@settings(max_examples=200, deadline=None)
def test_ml_ros_follows_the_algorithm_of_the_paper_and_retires_labels(matrix, budget, retire, seed):
    clones = cloned_rows(as_label_matrix(matrix), budget, generator(seed), retire=retire)
    replay_clones(matrix, clones, budget, retire)


def test_ml_ros_follows_the_paper_across_many_blocks():
    few, many = long_tail(rows=3000, classes=60), long_tail(rows=1500, classes=900, per_row=4.0, power=1.0)
    for matrix in (few, many):
        for budget in (1, 255, 256, 257, 2000, 40_000):
            clones = cloned_rows(as_label_matrix(matrix), budget, generator(budget))
            replay_clones(matrix, clones, budget, retire=True)


def test_ml_ros_ends_when_every_label_has_retired():
    matrix = np.repeat(np.eye(3, dtype=int), [50, 10, 2], axis=0)
    counts = matrix.sum(axis=0)
    sampler = MultiLabelRandomOverSampler(matrix, share=100.0)
    after = sampler.before_after().counts_after
    bound = np.mean(50 / counts)
    assert after[:2].tolist() == [50, 10]
    assert 50 / after[2] <= bound < 50 / (after[2] - 1)
    never = MultiLabelRandomOverSampler(matrix, share=100.0, retire=False)
    assert never.before_after().counts_after[2] == 2 + 6200


def test_ml_ros_clones_the_rows_of_a_label_alike():
    matrix = np.repeat(np.eye(2, dtype=int), [1000, 5], axis=0)
    clones = MultiLabelRandomOverSampler(matrix, share=0.2, retire=False).clones
    assert len(clones) == 201
    assert stats.chisquare(np.bincount(clones)[1000:]).pvalue > 1e-4


def test_ml_ros_without_imbalance_or_labels_clones_nothing():
    for matrix in (np.eye(3), np.zeros((3, 2))):
        assert MultiLabelRandomOverSampler(matrix).clones.size == 0
        assert MultiLabelRandomUnderSampler(matrix).deletions.size == 0


def replay_deletions(matrix, deletions, budget):
    """Algorithm 4 of the paper in plain Python, with the random rows as given; the last row of a label stays."""
    rows, counts = [set(np.flatnonzero(row)) for row in matrix], matrix.sum(axis=0).astype(int)
    bound = math.fsum(max(counts) / n for n in counts if n) / np.count_nonzero(counts)
    minority = {j for j, n in enumerate(counts) if n and max(counts) / n > bound}
    active = [j for j in np.argsort(-counts, kind="stable") if counts[j] and max(counts) / counts[j] < bound]
    left, gone = list(deletions), set()
    while active and len(gone) < budget:
        for label in list(active):
            if len(gone) == budget:
                break
            possible = [
                i
                for i, labels in enumerate(rows)
                if label in labels and i not in gone and not labels & minority and all(counts[j] > 1 for j in labels)
            ]
            if not possible:
                active.remove(label)
                continue
            row = left.pop(0)
            assert row in possible
            gone.add(row)
            counts[list(rows[row])] -= 1
            if max(counts) / counts[label] >= bound:
                active.remove(label)
    assert left == []
    return counts


@given(label_matrices(max_rows=40), st.integers(0, 40), st.integers(0, 5))
@settings(max_examples=200, deadline=None)
def test_ml_rus_follows_the_algorithm_of_the_paper_and_deletes_distinct_rows_without_rare_labels(matrix, budget, seed):
    matrix = labelled(matrix)
    deletions = deleted_rows(as_label_matrix(matrix), budget, generator(seed))
    assert np.unique(deletions).size == deletions.size <= budget
    counts = replay_deletions(matrix, deletions, budget)
    assert (counts[matrix.any(axis=0)] > 0).all()


def test_ml_rus_on_a_long_tail():
    matrix = long_tail(rows=800, classes=25)
    sampler = MultiLabelRandomUnderSampler(matrix, share=0.2)
    replay_deletions(matrix, sampler.deletions, 160)
    report = sampler.before_after()
    np.testing.assert_array_equal(report.counts_after[report.minority], report.counts_before[report.minority])
    assert report.grown_majority.size == 0
    assert len(sampler) == 800 - sampler.deletions.size


def test_ml_rus_deletes_the_rows_of_a_label_alike():
    matrix = np.zeros((40, 3), dtype=int)
    matrix[:30, 0] = 1
    matrix[20:35, 1] = 1
    matrix[35:, 2] = 1
    gone = np.zeros(40)
    for seed in range(2000):
        gone[deleted_rows(as_label_matrix(matrix), 1, generator(seed))] += 1
    assert stats.chisquare(gone[:30]).pvalue > 1e-4
    assert gone[30:].sum() == 0


# --- LP-ROS and LP-RUS


@given(st.lists(st.integers(0, 12), min_size=1, max_size=10), st.integers(0, 80))
def test_a_budget_is_shared_equally_as_far_as_there_is_room(room, budget):
    share, could, more = shared_out(np.array(room), budget)
    naive, left = [0] * len(room), min(budget, sum(room))
    while left >= sum(n < r for n, r in zip(naive, room, strict=True)) > 0:
        for i, r in enumerate(room):
            if naive[i] < r:
                naive[i] += 1
                left -= 1
    assert share.tolist() == naive
    assert more == left
    assert could.tolist() == [n < r for n, r in zip(naive, room, strict=True)]


@given(label_matrices(), st.sampled_from([0.1, 0.25, 0.5, 0.9]))
@settings(deadline=None)
def test_label_sets_grow_or_shrink_towards_their_mean_size(matrix, share):
    number, sizes = label_sets(as_label_matrix(matrix))
    mean, budget = len(matrix) / len(sizes), round(share * len(matrix))
    over = np.bincount(number[LabelPowersetOverSampler(matrix, share=share).plan(0)], minlength=len(sizes))
    assert (over[sizes >= mean] == sizes[sizes >= mean]).all()
    assert (over >= sizes).all()
    assert (over[sizes < mean] <= mean).all()
    assert (over - sizes).sum() == min(budget, np.maximum(np.floor(mean - sizes), 0).sum())
    grown = (over - sizes)[(sizes < mean) & (over < np.floor(mean))]
    assert grown.size == 0 or grown.max() - grown.min() <= 1
    plan = LabelPowersetUnderSampler(matrix, share=share).plan(0)
    under = np.bincount(number[plan], minlength=len(sizes))
    assert np.unique(plan).size == plan.size
    assert (under[sizes <= mean] == sizes[sizes <= mean]).all()
    assert (under >= np.minimum(sizes, np.floor(mean))).all()
    assert (sizes - under).sum() == min(budget, np.maximum(sizes - np.floor(mean), 0).sum())


def test_lp_ros_uses_the_rows_of_a_label_set_alike_and_draws_anew_in_each_epoch():
    matrix = np.repeat(np.eye(2, dtype=int), [50, 20], axis=0)
    sampler = LabelPowersetOverSampler(matrix, share=0.1)
    uses = [np.bincount(sampler.plan(epoch), minlength=70) for epoch in range(4)]
    assert all(np.ptp(u[50:]) == 1 and u.sum() == 77 for u in uses)
    assert len({tuple(u) for u in uses}) == 4
    small = LabelPowersetOverSampler(np.repeat(np.eye(2, dtype=int), [50, 2], axis=0), share=5.0)
    assert np.bincount(small.plan(0))[50:].tolist() == [13, 13]


def test_label_powerset_sampling_warns_where_label_sets_are_unique():
    matrix = long_tail(rows=200, classes=300, per_row=10)
    with pytest.warns(UserWarning, match="label sets in 200 rows leave nothing to re-sample.*Use ML-ROS"):
        sampler = LabelPowersetOverSampler(np.concatenate([matrix, matrix[:1]])[1:])
    assert sorted(sampler.plan(0)) == list(range(200))


@pytest.mark.parametrize("cls", [LabelPowersetOverSampler, LabelPowersetUnderSampler])
def test_label_powerset_sampling_warns_where_it_can_do_nothing_and_only_there(cls):
    with pytest.warns(UserWarning, match="6 label sets in 6 rows leave nothing to re-sample"):
        cls(np.eye(6, dtype=int))
    with pytest.warns(UserWarning, match=r"`share` = 0.01 of 30 rows is less than half a row.*Raise `share`"):
        sampler = cls(np.repeat(np.eye(2, dtype=int), [25, 5], axis=0), share=0.01)
    assert sorted(sampler.plan(0)) == list(range(30))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cls(np.ones((6, 2)))  # one label set
        cls(np.ones((1, 2)))
        cls(np.repeat(np.eye(2, dtype=int), [5, 5], axis=0))  # balanced


# --- REMEDIAL


@given(label_matrices(), st.booleans())
@settings(deadline=None)
def test_remedial_takes_rare_and_frequent_labels_apart(matrix, mask):
    done = remedial(matrix, mask=mask)
    new, ignored = done.labels.toarray(), done.ignored.toarray()
    scumble, rare = row_scumble(as_label_matrix(matrix)), minority_labels(matrix.sum(axis=0))
    split = np.flatnonzero(scumble > scumble.mean() + 1e-9)
    np.testing.assert_array_equal(done.rows, [*range(len(matrix)), *split])
    wanted = matrix.copy()
    wanted[np.ix_(split, np.flatnonzero(rare))] = 0
    np.testing.assert_array_equal(new[: len(matrix)], wanted)
    np.testing.assert_array_equal(new[len(matrix) :], matrix[split] * rare)
    # Every positive is there once, and unknown, not absent, in the other half.
    np.testing.assert_array_equal(new.sum(axis=0), matrix.sum(axis=0))
    if mask:
        np.testing.assert_array_equal(new + ignored, matrix[done.rows])
    else:
        assert done.ignored.nnz == 0


def test_remedial_gives_targets_for_a_loss():
    matrix = np.array([[1, 0]] * 9 + [[1, 1]])
    done = remedial(matrix)
    assert done.rows.tolist() == [*range(10), 9]
    assert done.target(np.array([0, 9, 10])).tolist() == [[1, 0], [1, -100], [-100, 1]]
    assert remedial(matrix, mask=False).target(np.array([9, 10])).tolist() == [[1, 0], [0, 1]]


def test_remedial_leaves_rows_of_equal_scumble_alone():
    matrix = np.array([[1, 1, 0, 0, 0, 0, 0], [1, 0, 1, 0, 0, 0, 0], [1, 0, 0, 1, 0, 0, 0]] * 33)
    assert remedial(matrix).rows.size == 99


# --- class-aware sampling and its weights


@given(label_matrices(), st.integers(1, 3), st.integers(1, 120))
@settings(deadline=None, max_examples=60)
def test_class_aware_sampling_visits_every_label_once_per_cycle(matrix, draws, length):
    matrix = labelled(matrix)
    plan = ClassAwareMultiLabelSampler(matrix, samples_per_class=draws, num_samples=length).plan(0)
    present = np.flatnonzero(matrix.any(axis=0))
    cycle = draws * present.size
    for start in range(0, length - cycle + 1, cycle):
        visits = plan[start : start + cycle].reshape(-1, draws)
        possible = sparse.csr_array(matrix[visits].all(axis=1)[:, present])
        assert (sparse.csgraph.maximum_bipartite_matching(possible) >= 0).all()


def test_the_length_of_a_class_aware_epoch_is_that_of_the_authors():
    matrix = long_tail(classes=11)[:, :10]
    largest = matrix.sum(axis=0).max()
    assert len(ClassAwareMultiLabelSampler(matrix)) == int(largest * 10 / 4)
    assert len(ClassAwareMultiLabelSampler(matrix, reduce=1, num_classes=10)) == largest * 10
    assert len(ClassAwareMultiLabelSampler([[0]], num_classes=9)) == 1


@given(label_matrices())
@settings(deadline=None)
def test_rebalancing_factors_equal_the_formula(matrix):
    matrix = labelled(matrix)
    counts, classes = matrix.sum(axis=0), (matrix.any(axis=0)).sum()
    drawn = draw_probabilities(as_label_matrix(matrix))
    factors = rebalancing_factors(matrix).toarray()
    for i, row in enumerate(matrix):
        labels = np.flatnonzero(row)
        assert drawn[i] == pytest.approx(sum(1 / counts[j] for j in labels) / classes)
        for j in range(matrix.shape[1]):
            wanted = 1 / counts[j] / classes / drawn[i] if row[j] else 0.0
            assert factors[i, j] == pytest.approx(wanted)
    assert drawn.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(factors.sum(axis=1), matrix.any(axis=1))


def test_smoothed_factors_equal_the_formula_and_do_not_overflow():
    r = np.array([0.0, 0.3, 1.0])
    np.testing.assert_allclose(smoothed_factors(r), 0.1 + 1 / (1 + np.exp(-10 * (r - 0.3))))
    np.testing.assert_allclose(smoothed_factors(np.array([-1e9, 1e9]), alpha=0.2, beta=1e9, mu=0.0), [0.2, 1.2])


def test_co_drawn_is_the_share_of_rows_and_its_mean_the_effective_prior():
    matrix = long_tail(rows=300, classes=8)
    shares = co_drawn(as_label_matrix(matrix)).toarray()
    for j in range(8):
        np.testing.assert_allclose(shares[j], matrix[matrix[:, j] == 1].mean(axis=0))
    np.testing.assert_allclose(shares.mean(axis=0), ClassAwareMultiLabelSampler(matrix).effective_prior())


# --- label-balanced sampling


def test_there_must_be_a_label_to_balance():
    with pytest.raises(SettingError, match="at least one row with a label to balance labels, but got none"):
        balanced_probabilities(as_label_matrix(np.zeros((3, 2))), np.ones(2))


def test_labels_that_can_be_balanced_are():
    matrix = long_tail(rows=3000, classes=10)
    sampler = LabelBalancedSampler(matrix)
    assert sampler.residual < 1e-3
    assert np.ptp(sampler.effective_prior()) < 2e-3 * sampler.effective_prior().max()
    assert len(sampler) == 3000
    uses = np.bincount(sampler.plan(0), minlength=3000)
    assert (np.abs(uses - sampler.expected_uses()) < 1).all()


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_with_one_label_per_row_balance_is_exact(strength):
    labels = np.repeat(np.arange(3), [100, 30, 2])
    sampler = LabelBalancedSampler(one_hot(labels), strength=strength, num_samples=999)
    wanted = np.bincount(labels) ** (1.0 - strength)
    np.testing.assert_allclose(sampler.effective_prior(), wanted / wanted.sum())
    assert sampler.residual < 1e-6


def test_a_target_of_ones_own():
    matrix = long_tail(rows=3000, classes=4)
    prior = LabelBalancedSampler(matrix, target=[1, 2, 3, 4]).effective_prior()
    np.testing.assert_allclose(prior / prior.sum(), np.array([1, 2, 3, 4]) / 10, rtol=1e-3)


def test_what_cannot_be_balanced_is_reported():
    matrix = np.array([[1, 0]] * 90 + [[1, 1]] * 10)
    sampler = LabelBalancedSampler(matrix, iterations=2000)
    assert sampler.residual < 1e-2  # in the limit only rows with both labels are drawn
    assert sampler.fit.effective_rows < 11
    always = np.array([[1, 0, 0], [1, 1, 0], [1, 0, 1]] * 10)
    fit = LabelBalancedSampler(always, iterations=2000).fit
    np.testing.assert_allclose(fit.frequencies, always.T @ fit.probabilities)
    assert fit.residual == pytest.approx(0.5, abs=1e-2)
    np.testing.assert_allclose(fit.gaps, [0.5, -0.25, -0.25], atol=1e-2)


@given(label_matrices())
@settings(deadline=None)
def test_balanced_probabilities_depend_on_the_label_set_alone(matrix):
    matrix = as_label_matrix(labelled(matrix))
    fit = balanced_probabilities(matrix, np.ones(matrix.shape[1]))
    assert fit.probabilities.sum() == pytest.approx(1.0)
    assert np.isfinite(fit.probabilities).all()
    number, sizes = label_sets(matrix)
    for s in range(len(sizes)):
        assert np.ptp(fit.probabilities[number == s]) == 0
    np.testing.assert_allclose(fit.frequencies, matrix.T @ fit.probabilities)
    there = label_counts(matrix) > 0
    assert fit.residual == pytest.approx(np.abs(fit.frequencies[there] / fit.target[there] - 1).max())


def test_balanced_probabilities_are_those_nearest_to_natural_sampling():
    matrix = long_tail(rows=500, classes=5)
    csr = as_label_matrix(matrix)
    x = balanced_probabilities(csr, np.ones(5), iterations=3000, tolerance=1e-12).probabilities
    lengths = matrix.sum(axis=1)
    # Stationarity: k_i log x_i is a sum of one number per label, apart from the scale of all.
    scale = np.log(x[lengths == 0][0])
    inner = lengths * (np.log(x) - scale)
    numbers = np.linalg.lstsq(matrix.astype(float), inner, rcond=None)[0]
    np.testing.assert_allclose(matrix @ numbers, inner, atol=1e-8)


@given(st.lists(st.floats(0, 5), min_size=1, max_size=30), st.integers(0, 1000))
def test_numbers_are_rounded_up_or_down_at_random_with_a_fixed_sum(numbers, seed):
    expected = np.array([*numbers, np.ceil(sum(numbers)) - sum(numbers)])
    rounded = rounded_at_random(expected, generator(seed))
    assert rounded.sum() == round(expected.sum())
    assert (np.abs(rounded - expected) < 1 + 1e-9).all()


def test_rounding_at_random_does_not_hang_on_the_last_bits():
    expected = np.array([1.0, 2.0, 0.3, 0.7, 1.5, 0.5] * 50)
    noisy = expected * (1 + np.random.default_rng(1).uniform(-1e-15, 1e-15, expected.size))
    for seed in range(50):
        np.testing.assert_array_equal(
            rounded_at_random(noisy, generator(seed)), rounded_at_random(expected, generator(seed))
        )


def test_the_expectation_of_rounding_at_random_is_the_number():
    expected = np.array([0.1, 0.9, 1.5, 2.0, 0.0, 0.25, 0.25])
    mean = np.mean([rounded_at_random(expected, generator(seed)) for seed in range(4000)], axis=0)
    np.testing.assert_allclose(mean, expected, atol=0.04)


def test_a_sampler_of_ones_own_needs_a_plan_its_length_and_expectation():
    class EveryOther(LabelMatrixSampler):
        def default_num_samples(self):
            return self.num_rows // 2

        def expected_uses(self):
            return np.arange(self.num_rows) % 2.0

        def plan(self, epoch):
            return np.arange(1, self.num_rows, 2)

    sampler = EveryOther([[0], [1], [0, 1], [1]])
    assert list(sampler) == [1, 3]
    assert sampler.effective_prior().tolist() == [0.0, 1.0]
    assert sampler.before_after().lost.tolist() == [0]
