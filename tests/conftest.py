"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def _shared(variable: str, default: str) -> Path:
    folder = Path(os.environ.get(variable) or ROOT.parent / "shared" / default)
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here; set {variable} to the folder")
    return folder


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Reference numbers computed with the original authors' code."""
    return _shared("TAILWISE_GOLDEN", "golden")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real data sets, one folder each."""
    return _shared("TAILWISE_DATA", "data")
