"""Profiles are recognised, their parameters recovered, and fits are least squares on log counts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from tailwise.imbalance.shape import PROFILES, classify_shape, fit_profile


def step(number, rho, largest, mu):
    small = max(1, min(number - 1, round(mu * number)))
    return np.array([largest] * (number - small) + [max(1, round(largest / rho))] * small)


def ramp(number):
    return np.arange(number) / (number - 1)


def linear(number, rho, largest):
    return np.maximum(1, np.round(largest * (1 - ramp(number) * (1 - 1 / rho)))).astype(int)


def exponential(number, rho, largest):
    return np.maximum(1, np.floor(largest * rho ** -ramp(number))).astype(int)


def power(number, rho, largest):
    return np.maximum(1, np.floor(largest * np.arange(1, number + 1) ** -(np.log(rho) / np.log(number)))).astype(int)


SIZES = st.integers(5, 120)
RHOS = st.floats(5, 200)


@given(SIZES, RHOS, st.floats(0.1, 0.9))
def test_a_step_is_recognised_with_its_parameters(number, rho, mu):
    counts = step(number, rho, 20_000, mu)
    shape = classify_shape(counts)
    assert (shape.name, shape.best.profile) == ("step", "step")
    assert shape.best.r2 == pytest.approx(1.0)
    assert shape.best.mu == pytest.approx(np.mean(counts < 20_000))
    assert shape.best.rho == pytest.approx(20_000 / counts[-1])
    assert shape.best.fitted == pytest.approx(counts)


@given(SIZES, RHOS)
def test_a_linear_profile_is_recognised_with_its_parameters(number, rho):
    shape = classify_shape(linear(number, rho, 20_000))
    assert shape.name == "linear"
    assert shape.best.rho == pytest.approx(rho, rel=0.02)
    assert shape.best.largest == pytest.approx(20_000, rel=0.01)
    assert shape.best.r2 > 0.999


@given(SIZES, RHOS)
def test_an_exponential_profile_is_long_tailed(number, rho):
    shape = classify_shape(exponential(number, rho, 20_000))
    assert (shape.name, shape.best.profile) == ("long-tailed", "exponential")
    assert shape.best.rho == pytest.approx(rho, rel=0.02)


@given(SIZES, RHOS)
def test_a_power_profile_is_long_tailed(number, rho):
    shape = classify_shape(power(number, rho, 20_000))
    assert (shape.name, shape.best.profile) == ("long-tailed", "power")
    assert shape.best.rho == pytest.approx(rho, rel=0.02)


@pytest.mark.parametrize("counts", [[900, 100], [100, 900], [5, 4, 0]])
def test_two_classes_are_a_step_or_balanced(counts):
    shape = classify_shape(counts)
    assert shape.best.profile == "step"
    assert shape.name == ("balanced" if max(counts) == 5 else "step")


@pytest.mark.parametrize("counts", [[7], [50] * 20, [100, 110, 120, 150], [4, 4, 4]])
def test_near_equal_counts_are_balanced(counts):
    shape = classify_shape(counts)
    assert shape.name == "balanced"
    assert all(np.isfinite(fit.bic) and fit.r2 <= 1.0 for fit in shape.fits)


@given(st.lists(st.integers(1, 5000), min_size=2, max_size=25), st.randoms(use_true_random=False))
def test_the_order_of_the_classes_does_not_matter(counts, random):
    first, second = classify_shape(counts), classify_shape(random.sample(counts, len(counts)))
    assert first.to_dict() == second.to_dict()


@given(st.lists(st.integers(1, 5000), min_size=3, max_size=20))
def test_the_step_is_the_best_of_all_cuts(counts):
    logs = np.log(sorted(counts, reverse=True))
    errors = [
        ((logs[:cut] - logs[:cut].mean()) ** 2).sum() + ((logs[cut:] - logs[cut:].mean()) ** 2).sum()
        for cut in range(1, len(logs))
    ]
    assert fit_profile(counts, "step").rmse == pytest.approx(np.sqrt(min(errors) / len(logs)), abs=1e-7)


@given(st.lists(st.integers(1, 5000), min_size=4, max_size=20))
def test_straight_fits_are_least_squares(counts):
    logs = np.log(sorted(counts, reverse=True))
    for name, position in (("exponential", np.arange(len(logs))), ("power", np.log(np.arange(1, len(logs) + 1)))):
        residual = np.polyfit(position, logs, 1, full=True)[1]
        expected = np.sqrt((residual[0] if residual.size else 0.0) / len(logs))
        assert fit_profile(counts, name).rmse == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("seed", range(6))
def test_the_linear_fit_is_no_worse_than_a_general_optimiser(seed):
    counts = np.random.default_rng(seed).integers(1, 3000, size=15)
    logs, t = np.log(np.sort(counts)[::-1]), ramp(15)

    def error(free):
        return np.square(logs - free[0] - np.log1p(-t * -np.expm1(-np.exp(free[1])))).mean()

    starts = [minimize(error, [logs[0], start], method="Nelder-Mead").fun for start in (-2.0, 0.0, 1.5)]
    assert fit_profile(counts, "linear").rmse ** 2 <= min(starts) + 1e-6


def test_every_profile_is_reported_best_first():
    shape = classify_shape(exponential(20, 100, 1000))
    assert sorted(fit.profile for fit in shape.fits) == sorted(PROFILES)
    assert [fit.bic for fit in shape.fits] == sorted(fit.bic for fit in shape.fits)
    assert "An exponential profile" in shape.reason
    assert shape.to_dict()["fits"][0]["profile"] == "exponential"


def test_a_poor_fit_says_so():
    shape = classify_shape([10_000, 9_000, 8_500, 400, 380, 390, 3, 3, 2, 3] * 2)
    assert "No profile fits well" not in classify_shape(step(10, 20, 500, 0.5)).reason
    assert ("No profile fits well" in shape.reason) == (shape.best.r2 < 0.8)
