"""The tiny engine, encoder and corpus of `worker.py` for the tests of this folder."""

import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def worker():
    """The module `worker.py`, which the kill tests also run as a program."""
    path = Path(__file__).with_name("worker.py")
    spec = importlib.util.spec_from_file_location("benchmark_worker", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
