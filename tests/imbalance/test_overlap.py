"""Class overlap against naive loops and known geometries."""

import json

import numpy as np
import pytest

from tailwise.errors import SettingError
from tailwise.imbalance import overlap as o

NAMES = ("a", "b", "c", "d")


def blobs(counts, spread, seed=0, dim=6):
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.eye(dim)[labels] + spread * generator.normal(size=(len(labels), dim)), labels


def naive(features, labels, k):
    """Neighbours by cosine, one row at a time, in float64."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    rows = []
    for i in range(len(unit)):
        order = np.argsort(-(unit @ unit[i]), kind="stable")
        rows.append([labels[j] for j in order if j != i][:k])
    return np.array(rows)


@pytest.mark.parametrize("k", [3, 10])
def test_measures_equal_a_naive_computation(k):
    features, labels = blobs([30, 14, 6, 2], 0.45)
    found = o.class_overlap(features, labels, NAMES, neighbours=k)
    nearest = naive(features, labels, k)
    foreign = nearest != labels[:, None]
    for c in range(4):
        mine = labels == c
        assert found.purity[c] == pytest.approx(1 - foreign[mine].mean())
        assert found.kdn[c] == pytest.approx(foreign[mine].mean())
        assert found.n3_per_class[c] == pytest.approx(foreign[mine, 0].mean())
    assert found.n3 == pytest.approx(foreign[:, 0].mean())
    assert found.mean_purity == pytest.approx(1 - foreign.mean())
    assert found.macro_purity == pytest.approx(np.mean(found.purity))
    for pair in found.confused_pairs:
        a, b = NAMES.index(pair.first), NAMES.index(pair.second)
        assert pair.neighbours == (nearest[labels == a] == b).sum()
        assert pair.share == pytest.approx((nearest[labels == a] == b).mean())
    shares = [pair.share for pair in found.confused_pairs]
    assert shares == sorted(shares, reverse=True)


def test_types_count_the_foreign_among_the_nearest_five():
    features, labels = blobs([30, 14, 6, 2], 0.45)
    found = o.class_overlap(features, labels, NAMES, neighbours=10)
    foreign = (naive(features, labels, 5) != labels[:, None]).sum(axis=1)
    for c in range(4):
        mine = foreign[labels == c]
        expected = [np.mean(mine <= 1), np.mean((mine == 2) | (mine == 3)), np.mean(mine == 4), np.mean(mine == 5)]
        assert found.types[c] == pytest.approx(expected)


def test_separate_classes_are_as_pure_as_their_size_allows():
    features, labels = blobs([40, 20, 6, 1], 0.01)
    found = o.class_overlap(features, labels, NAMES)
    assert found.ceiling == pytest.approx([1.0, 1.0, 0.5, 0.0])
    assert found.purity == pytest.approx(found.ceiling)
    assert found.relative_purity[:3] == pytest.approx(1.0)
    assert np.isnan(found.relative_purity[3])


def test_classes_without_any_signal_are_as_pure_as_chance():
    generator = np.random.default_rng(3)
    labels = generator.permutation(np.repeat([0, 1], [1500, 500]))
    found = o.class_overlap(generator.normal(size=(2000, 8)), labels, ("a", "b"))
    assert found.purity == pytest.approx([0.75, 0.25], abs=0.02)


def test_length_of_the_vectors_does_not_matter_and_zero_vectors_are_allowed():
    features, labels = blobs([30, 10], 0.4)
    scaled = features * np.random.default_rng(0).uniform(0.1, 9, size=(40, 1))
    first, second = (o.class_overlap(x, labels, ("a", "b")) for x in (features, scaled))
    assert first.purity == pytest.approx(second.purity)
    features[0] = 0.0
    assert np.isfinite(o.class_overlap(features, labels, ("a", "b")).purity).all()


def test_relabelling_the_classes_permutes_the_result():
    features, labels = blobs([30, 14, 6, 2], 0.45)
    new = np.array([2, 0, 3, 1])
    first = o.class_overlap(features, labels, NAMES)
    second = o.class_overlap(features, new[labels], NAMES)
    assert second.purity[new] == pytest.approx(first.purity)
    assert second.adjusted_ratio == pytest.approx(first.adjusted_ratio)


def test_adjusted_ratio_is_the_mean_over_minority_classes():
    features, labels = blobs([40, 20, 6, 4], 0.3)
    found = o.class_overlap(features, labels, NAMES)
    assert found.adjusted_ratio == pytest.approx(
        np.mean([40 / 6 * (2 - found.purity[2]), 40 / 4 * (2 - found.purity[3])])
    )


def test_a_sample_keeps_the_proportions_and_every_class():
    labels = np.repeat(np.arange(4), [6000, 3000, 990, 2])
    rows = o.stratified_sample(labels, 1000, np.random.default_rng(0))
    assert np.bincount(labels[rows]).tolist() == [600, 300, 99, 1]
    assert (np.diff(rows) > 0).all()


def test_a_sample_is_stated_and_reproducible_and_close_to_the_whole():
    features, labels = blobs([2000, 600, 150, 50], 0.45)
    whole = o.class_overlap(features, labels, NAMES)
    first, second = (o.class_overlap(features, labels, NAMES, max_rows=1400) for _ in range(2))
    assert (first.rows, first.total_rows, whole.rows) == (1400, 2800, 2800)
    assert first.purity.tolist() == second.purity.tolist()
    assert first.mean_purity == pytest.approx(whole.mean_purity, abs=0.03)


def test_few_rows_use_fewer_neighbours():
    found = o.class_overlap(np.eye(4), np.array([0, 0, 1, 1]), ("a", "b"))
    assert found.neighbours == 3


def test_a_class_without_examples_is_nan_and_none_in_json():
    features, labels = blobs([10, 5], 0.2)
    found = o.class_overlap(features, labels, ("a", "b", "unused"))
    assert np.isnan(found.purity[2])
    data = found.to_dict(("a", "b", "unused"))
    assert data["classes"][2]["purity"] is None
    json.dumps(data, allow_nan=False)


def test_features_that_do_not_fit_are_errors():
    labels = np.array([0, 1, 0, 1])
    with pytest.raises(SettingError, match=r"one row per training example, 4, but got shape \(3, 2\)"):
        o.class_overlap(np.zeros((3, 2)), labels, ("a", "b"))
    with pytest.raises(SettingError, match="at least three training examples, but got 2"):
        o.class_overlap(np.zeros((2, 2)), labels[:2], ("a", "b"))
    broken = np.ones((4, 2))
    broken[2, 1] = np.nan
    with pytest.raises(SettingError, match="row 2 of train holds NaN or infinity"):
        o.class_overlap(broken, labels, ("a", "b"))
