"""Situations and rules."""

import pytest

from tailwise.advisor.situation import Situation


@pytest.fixture(scope="session")
def situation():
    """A multi-class situation in which only R0, R1, R3 and R16 fire; keywords change it."""

    def make(**changes):
        facts = {
            "task": "multiclass",
            "num_classes": 6,
            "num_rows": 5000,
            "n_min": 150,
            "rho": 8.0,
            "shape": "linear",
            "minority_classes": 3,
            "minority_purity": 0.8,
            "spectral_similarity": 0.5,
        }
        return Situation(**(facts | changes))

    return make
