"""Head, medium and tail."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.errors import SettingError
from tailwise.imbalance.groups import frequency_groups, group_classes


def test_the_usual_thresholds():
    groups = group_classes([5000, 101, 100, 20, 19, 1])
    assert groups.names.tolist() == ["head", "head", "medium", "medium", "tail", "tail"]
    assert groups.rule == "head > 100 training examples, medium 20 to 100, tail < 20"
    assert groups.classes("tail").tolist() == [4, 5]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([3614, 514], ["head", "tail"]),
        ([900, 500, 200], ["head", "medium", "tail"]),
        ([1, 2, 3, 4, 5, 6], ["tail", "tail", "medium", "medium", "head", "head"]),
        ([1000, 500, 500, 500], ["head", "medium", "medium", "medium"]),
    ],
)
def test_thirds_where_the_thresholds_make_one_group(counts, expected):
    groups = group_classes(counts)
    assert groups.names.tolist() == expected
    assert groups.rule.startswith("thirds of the classes by training count")


def test_equally_frequent_classes_stay_in_one_group():
    groups = group_classes([4, 4, 4])
    assert groups.names.tolist() == ["tail"] * 3
    assert "all classes are equally frequent" in groups.rule


@given(st.lists(st.integers(1, 400), min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_groups_follow_the_counts_only(counts, random):
    names = frequency_groups(counts)
    order = list(range(len(counts)))
    random.shuffle(order)
    assert frequency_groups([counts[i] for i in order]).tolist() == names[order].tolist()
    rank = np.array([{"tail": 0, "medium": 1, "head": 2}[name] for name in names])
    by_count = np.argsort(counts, kind="stable")
    assert (np.diff(rank[by_count]) >= 0).all()
    assert all(len(set(names[np.array(counts) == n])) == 1 for n in counts)


def test_what_is_not_counts_is_an_error():
    with pytest.raises(SettingError, match=r"one number per class, but got an array of shape \(1, 2\)"):
        group_classes([[1, 2]])
