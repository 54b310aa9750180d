"""Profiles against published class counts, closed forms and properties."""

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.errors import SettingError, UnknownNameError
from tailwise.imbalance.profiles import Profile, profile_named
from tailwise.imbalance.shape import classify_shape

SHAPES = ("step", "linear", "exponential", "power")


@st.composite
def profiles(draw):
    shape = draw(st.sampled_from(SHAPES))
    classes = draw(st.integers(2, 60))
    mu = draw(st.integers(1, classes - 1)) / classes if shape == "step" else None
    return Profile(shape, draw(st.floats(1.0, 1000.0)), mu), classes


@pytest.mark.parametrize(
    ("classes", "largest", "rho", "total"),
    [(10, 5000, 100, 12406), (10, 5000, 10, 20431), (100, 500, 100, 10847), (100, 500, 10, 19573)],
)
def test_exponential_profile_makes_the_published_long_tailed_data_sets(classes, largest, rho, total):
    """Sizes of CIFAR-10-LT and CIFAR-100-LT as published."""
    assert Profile("exponential", rho).counts(classes, largest).sum() == total


def test_exponential_counts_of_cifar_10_lt():
    found = Profile("exponential", 100).counts(10, 5000)
    assert found.tolist() == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]


def test_step_of_the_survey():
    """mu 0.4, rho 10: four of ten classes have a tenth."""
    assert Profile("step", 10, 0.4).counts(10, 500).tolist() == [500] * 6 + [50] * 4


def test_linear_profile_is_an_arithmetic_progression():
    assert Profile("linear", 10).counts(10, 1000).tolist() == list(range(1000, 99, -100))


def test_power_profile_with_rho_equal_to_the_classes_is_zipf():
    assert Profile("power", 60).counts(60, 60_000).tolist() == [round(60_000 / k) for k in range(1, 61)]


@given(profiles(), st.integers(1, 10**6), st.integers(1, 20))
def test_counts_descend_from_the_wanted_first_to_the_wanted_last(case, largest, min_count):
    profile, classes = case
    found = profile.counts(classes, largest, min_count)
    assert found.shape == (classes,)
    assert (np.diff(found) <= 0).all()
    assert found[0] == max(largest, min_count)
    assert abs(found[-1] - max(largest / profile.rho, min_count)) <= 1.0
    assert found.min() >= min_count


@given(profiles(), st.integers(1, 10**5))
def test_counts_equal_a_naive_loop(case, largest):
    profile, classes = case
    for k, found in enumerate(profile.counts(classes, largest).tolist()):
        t = k / (classes - 1)
        exact = {
            "step": largest if k < classes - round((profile.mu or 0) * classes) else largest / profile.rho,
            "linear": largest * (1 - t * (1 - 1 / profile.rho)),
            "exponential": largest * math.exp(-t * math.log(profile.rho)),
            "power": largest * (k + 1) ** (-math.log(profile.rho) / math.log(classes)),
        }[profile.shape]
        lowest, highest = (exact - 1, exact) if profile.shape == "exponential" else (exact - 0.5, exact + 0.5)
        assert lowest - 1e-3 <= found <= highest + 1e-3 or found == 1


@given(profiles(), st.floats(1.0, 10.0), st.integers(1, 10**5))
def test_more_imbalance_takes_from_every_class_and_gives_to_none(case, factor, largest):
    profile, classes = case
    steeper = Profile(profile.shape, profile.rho * factor, profile.mu)
    assert (steeper.counts(classes, largest) <= profile.counts(classes, largest)).all()


@given(profiles(), st.integers(1, 10**5), st.integers(1, 5))
def test_a_wanted_sum_is_reached_exactly_and_in_descending_order(case, total, min_count):
    profile, classes = case
    if total < classes * min_count:
        with pytest.raises(SettingError, match=f"`keep_total` of at least {classes * min_count}"):
            profile.counts_with_sum(classes, total, min_count)
        return
    found = profile.counts_with_sum(classes, total, min_count)
    assert found.sum() == total
    assert (np.diff(found) <= 0).all()
    assert found.min() >= min_count


def test_a_wanted_sum_keeps_the_ratio():
    assert Profile("step", 10, 0.4).counts_with_sum(10, 640).tolist() == [100] * 6 + [10] * 4


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rho", [10, 100])
def test_the_shape_finder_names_what_the_profile_made(shape, rho):
    found = classify_shape(profile_named(shape, rho).counts(20, 5000))
    assert found.best.profile == shape
    assert found.best.rho == pytest.approx(rho, rel=0.05)


def test_other_names_of_the_shapes():
    assert profile_named("pareto", 5) == Profile("power", 5)
    assert profile_named("long-tailed", 5) == Profile("exponential", 5)
    assert profile_named("step", 5) == Profile("step", 5, 0.4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Profile("step", 0.5, 0.4), "`rho`, the largest count over the smallest, at least 1, but got 0.5"),
        (lambda: Profile("step", math.nan, 0.4), "but got nan"),
        (lambda: Profile("step", math.inf, 0.4), "but got inf"),
        (lambda: Profile("step", "10", 0.4), "but got '10'"),
        (lambda: Profile("step", 10, 0.0), "`mu`, the share of minority classes, between 0 and 1, but got 0.0"),
        (lambda: Profile("step", 10, 1.0), "between 0 and 1, but got 1.0"),
        (lambda: Profile("step", 10), "between 0 and 1, but got None"),
        (lambda: Profile("linear", 10, 0.4), "the shape linear has none. Leave it out."),
        (lambda: Profile("step", 10, 0.05).counts(6, 100), "no minority class. Expected `mu` of at least 0.167 (1 m"),
        (lambda: Profile("step", 10, 0.95).counts(6, 100), "no majority class. Expected `mu`"),
        (lambda: Profile("linear", 10).minority_classes(5), "only step has"),
        (lambda: Profile("linear", 10).counts(1, 100), "at least 2 classes, but there are 1"),
        (lambda: Profile("linear", 10).counts(5, 0), "`largest` to be a whole number of at least 1, but got 0"),
        (lambda: Profile("linear", 10).counts(5, 9.5), "`largest` to be a whole number of at least 1, but got 9.5"),
    ],
)
def test_mistakes_are_told(make, message):
    with pytest.raises(SettingError) as caught:
        make()
    assert message in str(caught.value)


@pytest.mark.parametrize("make", [lambda: profile_named("stepp", 10), lambda: Profile("stepp", 10)])
def test_an_unknown_shape_is_told_with_the_nearest_name(make):
    with pytest.raises(UnknownNameError, match="Did you mean 'step'"):
        make()


@pytest.mark.parametrize("classes", [2, 3, 6, 7, 41, 150])
def test_the_range_told_for_mu_works(classes):
    with pytest.raises(SettingError) as caught:
        Profile("step", 10, 1e-6).counts(classes, 100)
    least, most = (float(number) for number in re.findall(r"at (?:least|most) (\S+)", str(caught.value)))
    assert Profile("step", 10, least).minority_classes(classes) == 1
    assert Profile("step", 10, most).minority_classes(classes) == classes - 1


def test_a_whole_number_is_not_lost_to_a_rounding_error():
    """3 rho / rho is 3, though 147 (1/49) is a little less in floating point."""
    assert [Profile("exponential", rho).counts(7, 3 * rho)[-1] for rho in range(2, 200)] == [3] * 198
