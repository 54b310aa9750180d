"""Reading golden files: one place for all tests."""

import json

import numpy as np
import pytest
import torch


@pytest.fixture(scope="session")
def golden(golden_dir):
    """Read a method's cases: name, hyperparameters, inputs and outputs by name (arrays owned by the caller)."""

    def read(method):
        arrays = np.load(golden_dir / f"{method}.npz")
        described = json.loads((golden_dir / f"{method}.json").read_text())["cases"]
        return [
            (
                case["case"],
                case["hyperparameters"],
                {name: np.array(arrays[entry["key"]]) for name, entry in case["inputs"].items()},
                {name: np.array(arrays[entry["key"]]) for name, entry in case["outputs"].items()},
            )
            for case in described
        ]

    return read


@pytest.fixture(scope="session")
def golden_tensors(golden):
    """The same as tensors."""

    def read(method):
        return [
            (name, setting, *({k: torch.from_numpy(v) for k, v in arrays.items()} for arrays in (given, wanted)))
            for name, setting, given, wanted in golden(method)
        ]

    return read
