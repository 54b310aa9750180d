"""Calibration errors against golden values of the authors' code (Guo et al.; Nixon et al.)."""

import json

import numpy as np
import pytest

from tailwise.evaluation.calibration import brier_score, classwise_calibration_error, expected_calibration_error


def test_every_case_agrees(golden_dir):
    arrays = np.load(golden_dir / "calibration.npz")
    meta = json.loads((golden_dir / "calibration.json").read_text())
    for case in meta["cases"]:
        bins = case["hyperparameters"]["num_bins"]
        probabilities, gold = (arrays[case["inputs"][k]["key"]] for k in ("probs", "target"))
        expected = {k: float(arrays[v["key"]]) for k, v in case["outputs"].items()}
        ece = expected_calibration_error(probabilities, gold, bins=bins)
        assert ece == pytest.approx(expected["ece_gpleiss"], rel=1e-6), case["case"]
        assert ece == pytest.approx(expected["ece_netcal"], rel=1e-6), case["case"]
        classwise = classwise_calibration_error(probabilities, gold, bins=bins)
        assert classwise == pytest.approx(expected["classwise_ece"], rel=1e-9), case["case"]
        assert brier_score(probabilities, gold) == pytest.approx(expected["brier"], rel=1e-9), case["case"]
