"""Do rare classes look like shifted copies of frequent ones?"""

import numpy as np
import pytest

from tailwise.imbalance.spectra import spectral_similarity, spectrum


def test_spectrum_is_that_of_the_covariance():
    rows = np.random.default_rng(0).normal(size=(40, 5)) * [5, 3, 1, 1, 0.1]
    values = np.linalg.eigvalsh(np.cov(rows.T))[::-1]
    assert spectrum(rows) == pytest.approx(values / values.sum())


def test_a_spectrum_ignores_shift_rotation_and_scale():
    generator = np.random.default_rng(1)
    rows = generator.normal(size=(20, 4)) * [4, 2, 1, 1]
    turn = np.linalg.qr(generator.normal(size=(4, 4)))[0]
    assert spectrum(7.0 * rows @ turn + 3.0) == pytest.approx(spectrum(rows))
    assert spectrum(np.ones((5, 3))).tolist() == [0.0, 0.0, 0.0]


def mixture(rare_axes):
    generator = np.random.default_rng(2)
    labels = np.repeat([0, 1, 2], [400, 300, 15])
    features = generator.normal(size=(715, 12)) * np.array([6, 5, 4, 3] + [1] * 8)
    features[labels == 2] = generator.normal(size=(15, 12)) * rare_axes + 9.0
    return features, labels, np.bincount(labels)


def test_a_shifted_copy_is_more_similar_than_a_class_of_its_own_form():
    copy = spectral_similarity(*mixture(np.array([6, 5, 4, 3] + [1] * 8)))
    line = spectral_similarity(*mixture(np.array([9] + [0.1] * 11)))
    assert copy > 0.85
    assert line < 0.55


@pytest.mark.parametrize("counts", [[50, 50], [60, 4], [40, 3, 2]])
def test_unknown_without_a_rare_class_of_five_examples(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    assert spectral_similarity(np.ones((len(labels), 3)), labels, np.array(counts)) is None
