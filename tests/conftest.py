"""Fixtures shared by all tests."""

import gc
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


@pytest.fixture(scope="module")
def quick_garbage_collection():
    """Every `Trainer.train` collects all garbage of the process; keep what pytest has loaded out of that."""
    gc.freeze()
    yield
    gc.unfreeze()
