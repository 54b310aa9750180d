"""Class weights: every rule against its formula, normalisation, what is refused."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tailwise.errors import SettingError, UnknownNameError
from tailwise.losses import class_weights
from tailwise.losses.class_weights import RULES

COUNTS = np.array([1000, 100, 20, 5])
FORMULAS = {
    "balanced": 1125 / (4 * COUNTS),
    "inverse": 1125 / (4 * COUNTS),
    "inverse_sqrt": np.sqrt(1125 / (4 * COUNTS)),
    "inverse_power": COUNTS**-0.3,
    "log_inverse": np.log(1 + 1125 / COUNTS),
    "max_ratio": 1000 / COUNTS,
    "median_freq": 60 / COUNTS,
    "effective_number": (1 - 0.99) / (1 - 0.99**COUNTS),
}


def test_every_rule_is_checked():
    assert FORMULAS.keys() == RULES.keys()


@pytest.mark.parametrize("rule", FORMULAS)
def test_rules_follow_their_formula(rule):
    found = class_weights(rule, COUNTS, normalise="none", beta=0.99, power=0.3)
    np.testing.assert_allclose(found, FORMULAS[rule], rtol=1e-12)


@given(
    st.sampled_from(sorted(FORMULAS)),
    st.lists(st.integers(1, 10**6), min_size=1, max_size=30),
)
def test_normalisations_hold_for_every_rule(rule, counts):
    n = np.array(counts, dtype=float)
    assert class_weights(rule, n) @ n == pytest.approx(n.sum(), rel=1e-9)
    assert class_weights(rule, n, normalise="sum_to_C").sum() == pytest.approx(n.size, rel=1e-9)
    assert class_weights(rule, n, normalise="max_1").max() == pytest.approx(1.0, rel=1e-12)


def test_values_of_the_specification():
    np.testing.assert_allclose(class_weights("balanced", COUNTS), [0.28125, 2.8125, 14.0625, 56.25])
    found = class_weights("effective_number", COUNTS, beta=0.999, normalise="sum_to_C")
    np.testing.assert_allclose(found, [0.024057, 0.159770, 0.767817, 3.048356], atol=5e-7)


def test_effective_number_is_exact_next_to_one_and_tends_to_inverse_frequency():
    found = class_weights("effective_number", [1, 2, 3], beta=1 - 1e-12, normalise="none")
    np.testing.assert_allclose(found, [1, 1 / 2, 1 / 3], rtol=1e-10)
    np.testing.assert_array_equal(class_weights("effective_number", [1, 50], beta=0.0), [1, 1])


def test_no_rule_gives_ones():
    np.testing.assert_array_equal(class_weights(None, COUNTS), np.ones(4))
    np.testing.assert_array_equal(class_weights(None, class_names=["a", "b"]), np.ones(2))


def test_counts_may_be_lists_arrays_or_tensors_and_are_not_changed():
    given = np.array([4, 0, 2])
    with pytest.warns(UserWarning, match="1 of 3 classes have no training instance"):
        wanted = class_weights("balanced", given)
    assert given.tolist() == [4, 0, 2]
    for same in ([4, 0, 2], (4.0, 0.0, 2.0), torch.tensor([4, 0, 2])):
        with pytest.warns(UserWarning, match="no training instance"):
            np.testing.assert_array_equal(class_weights("balanced", same), wanted)


def test_an_empty_class_counts_as_one_instance_and_leaves_the_others_as_scikit_learn_has_them():
    with pytest.warns(UserWarning, match="'b'"):
        found = class_weights("balanced", [4, 0, 2], class_names=["a", "b", "c"])
    np.testing.assert_allclose(found[[0, 2]], [6 / (2 * 4), 6 / (2 * 2)])
    assert np.isfinite(found).all()


def test_given_weights_are_taken_as_they_are():
    np.testing.assert_array_equal(class_weights([3.0, 0.0], [10, 1]), [3.0, 0.0])
    np.testing.assert_array_equal(class_weights(torch.tensor([3.0, 1.0])), [3.0, 1.0])
    by_name = class_weights({"rare": 5.0}, class_names=["common", "rare"])
    np.testing.assert_array_equal(by_name, [1.0, 5.0])


def test_clip_is_applied_last():
    np.testing.assert_allclose(class_weights("balanced", COUNTS, clip=(0.5, 10)), [0.5, 2.8125, 10, 10])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: class_weights("balancd", COUNTS), UnknownNameError, "Did you mean 'balanced'"),
        (lambda: class_weights("balanced", COUNTS, normalise="max1"), UnknownNameError, "Did you mean 'max_1'"),
        (lambda: class_weights({"spm": 2}, class_names=["spam", "ham"]), UnknownNameError, "Did you mean 'spam'"),
        (lambda: class_weights({"spam": 2}), SettingError, "by name need `class_names`"),
        (lambda: class_weights("balanced"), SettingError, "needs `class_counts`"),
        (lambda: class_weights(None), SettingError, "how many classes"),
        (lambda: class_weights([1.0, 2.0], COUNTS), SettingError, "Got 2 class weights for 4 classes"),
        (lambda: class_weights([1.0, -2.0]), SettingError, "but got -2.0 for class 1"),
        (lambda: class_weights([1.0, float("nan")]), SettingError, "but got nan for class 1"),
        (lambda: class_weights([0.0, 0.0]), SettingError, "at least one positive weight"),
        (lambda: class_weights([[1.0]]), SettingError, r"one number per class, \(C,\), but got shape \(1, 1\)"),
        (lambda: class_weights(["a", "b"]), SettingError, "one number per class, but got"),
        (lambda: class_weights({"a": -1.0}, class_names=["a"]), SettingError, "but got -1.0 for class 'a'"),
        (lambda: class_weights("balanced", [3, -1]), SettingError, "`class_counts` to be finite and not negative"),
        (lambda: class_weights("balanced", [0, 0]), SettingError, "all are 0"),
        (lambda: class_weights("balanced", []), SettingError, "but got shape"),
        (
            lambda: class_weights("balanced", [1, 2], class_names=["a"]),
            SettingError,
            "`class_counts` for 2 classes, but 1 class names",
        ),
        (lambda: class_weights("effective_number", COUNTS, beta=1.0), SettingError, r"`beta` to lie in \[0, 1\)"),
        *(
            (
                lambda power=power: class_weights("inverse_power", COUNTS, power=power),
                SettingError,
                "`power` to lie betw",
            )
            for power in (float("inf"), float("nan"), 1e3, -1e3, 1.01, -0.01)
        ),
        *(
            (lambda clip=clip: class_weights("balanced", COUNTS, clip=clip), SettingError, "`clip` to be two numbers")
            for clip in (
                (2.0, 1.0),
                (1,),
                3,
                (0.1, None),
                (1, 2, 3),
                "ab",
                (0, 0),
                (float("nan"), 1),
                (float("inf"),) * 2,
            )
        ),
        (lambda: class_weights({"a": "x"}, class_names=["a"]), SettingError, "but got 'x' for class 'a'"),
        (lambda: class_weights({"a": [1, 2]}, class_names=["a"]), SettingError, r"but got \[1, 2\] for class 'a'"),
        (lambda: class_weights({"a": 0, "b": 0}, class_names=["a", "b"]), SettingError, "at least one positive weight"),
        (lambda: class_weights([1.0, -2.0], class_names=["a", "b"]), SettingError, "but got -2.0 for class 'b'"),
        (lambda: class_weights("balanced", COUNTS, normalise=0), UnknownNameError, "Unknown normalisation 0"),
        (lambda: class_weights("balanced", [1e-320, 1.0]), SettingError, "'balanced' gives no usable weights"),
        (lambda: class_weights("max_ratio", [1e308, 1e308]), SettingError, r"from 1e\+308 to 1e\+308"),
    ],
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_no_warning_without_an_empty_class():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        class_weights("balanced", COUNTS)
