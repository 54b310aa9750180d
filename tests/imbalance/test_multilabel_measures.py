"""Measures of label matrices against plain Python, the specification, and data with known answers."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse

from tailwise.errors import SettingError
from tailwise.imbalance.multilabel_measures import (
    as_label_matrix,
    cardinality,
    cvir,
    density,
    label_scumble,
    label_scumble_cv,
    label_set_measures,
    max_ir,
    mean_ir,
    measure_labels,
    row_scumble,
    scumble,
    scumble_cv,
    theoretical_complexity,
)

matrices = st.tuples(st.integers(1, 25), st.integers(1, 6)).flatmap(
    lambda shape: arrays(np.int8, shape, elements=st.integers(0, 1))
)


def test_measures_of_the_specification():
    counts = [700, 150, 40, 8]
    assert mean_ir(counts) == pytest.approx(27.666667, abs=1e-6)
    assert max_ir(counts) == 87.5
    assert cvir(counts) == pytest.approx(1.464264, abs=1e-6)


@given(matrices)
@settings(deadline=None, max_examples=200)
def test_measures_equal_plain_python(dense):
    dense = dense.copy()
    dense[0, 0] = 1
    matrix, found = as_label_matrix(dense), measure_labels(dense)
    rows = [tuple(np.flatnonzero(row)) for row in dense]
    counts = [int(n) for n in dense.sum(axis=0)]
    ratio = [max(counts) / n for n in counts if n]
    assert found.num_rows == len(rows)
    assert found.num_classes == len(ratio)
    assert found.empty_classes == counts.count(0)
    assert found.unlabelled_rows == rows.count(())
    assert found.cardinality == cardinality(matrix) == pytest.approx(sum(map(len, rows)) / len(rows))
    assert found.density == density(matrix) == pytest.approx(found.cardinality / len(counts))
    sets = sorted((rows.count(s) for s in set(rows)), reverse=True)
    assert label_set_measures(matrix).sizes.tolist() == sets
    assert (found.label_sets, found.largest_label_set) == (len(sets), sets[0])
    assert found.single_label_sets == sets.count(1)
    assert (found.smallest, found.largest) == (min(n for n in counts if n), max(counts))
    assert found.mean_ir == pytest.approx(np.mean(ratio))
    assert found.max_ir == max(ratio)
    assert found.cvir == pytest.approx(np.std(ratio, ddof=1) / np.mean(ratio) if len(ratio) > 1 else 0.0)
    values = row_scumble(matrix)
    assert found.scumble == scumble(matrix) == pytest.approx(values.mean())
    if found.scumble_cv is not None:
        assert found.scumble_cv == pytest.approx(values.std(ddof=1) / values.mean())
    assert np.isnan(scumble_cv(matrix)) == (found.scumble_cv is None) == (len(rows) == 1 or values.max() == 0)
    for j, (mean, spread) in enumerate(zip(label_scumble(matrix), label_scumble_cv(matrix), strict=True)):
        of_label = values[dense[:, j] == 1]
        assert mean == pytest.approx(of_label.mean()) if of_label.size else np.isnan(mean)
        if of_label.size > 1 and of_label.max() > 0:
            assert spread == pytest.approx(of_label.std(ddof=1) / of_label.mean(), abs=1e-12)
        else:
            assert np.isnan(spread)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["num_rows"] == len(rows)
    assert theoretical_complexity(matrix, 7) == pytest.approx(np.log(7 * len(counts) * len(sets)))


def test_a_label_without_a_row_takes_no_part_unless_counted_as_mldr_does():
    dense = np.array([[1, 0, 0]] * 4 + [[0, 1, 0]])
    found, legacy = measure_labels(dense), measure_labels(dense, legacy_empty=True)
    assert (found.mean_ir, legacy.mean_ir) == (2.5, pytest.approx(5 / 3))
    assert found.max_ir == legacy.max_ir == 4
    assert found.cvir == pytest.approx(np.std([1, 4], ddof=1) / 2.5)
    assert legacy.cvir == pytest.approx(np.std([1, 4, 0], ddof=1) / (5 / 3))
    assert found.cvir == measure_labels(dense[:, :2]).cvir
    matrix = as_label_matrix(dense)
    assert np.isnan(label_scumble(matrix)[2])
    assert label_scumble(matrix, legacy_empty=True)[2] == 0
    assert np.isnan(max_ir([0, 0]))
    assert np.isnan(cvir([0, 0]))
    assert np.isnan(cvir([0, 0], legacy_empty=True))


def test_scumble_grows_where_rare_labels_come_with_frequent_ones():
    def joint(both):
        return np.array([[1, 0]] * (90 - both) + [[1, 1]] * both + [[0, 1]] * (10 - both))

    values = [measure_labels(joint(both)).scumble for both in range(0, 11, 2)]
    assert values[0] == 0
    assert all(low < high for low, high in pairwise(values))


def test_a_matrix_too_large_to_be_dense_is_measured():
    rows, labels = 1_000_000, 100_000
    row = np.arange(rows)
    matrix = sparse.coo_array(
        (np.ones(2 * rows), (np.tile(row, 2), np.concatenate([row % 7, 7 + row % (labels - 7)]))), shape=(rows, labels)
    )
    found = measure_labels(matrix)
    assert found.num_classes == labels
    assert found.cardinality == 2.0
    assert 0.9 < found.scumble < 1.0


def test_what_is_refused():
    with pytest.raises(SettingError, match="measure_labels: expected at least one row with a label, but got none"):
        measure_labels(np.zeros((3, 2)))
    with pytest.raises(SettingError, match="measure_labels: expected a label matrix of 0 and 1, but got 3"):
        measure_labels(np.array([[3, 0]]))
    with pytest.raises(SettingError, match="`num_features` to be at least 1, but got 0"):
        theoretical_complexity(as_label_matrix([[0]]), 0)
