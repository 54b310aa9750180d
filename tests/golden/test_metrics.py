"""Decision metrics against golden values of scikit-learn and imbalanced-learn."""

import json

import numpy as np
import pytest

from tailwise.evaluation.metrics import (
    METRICS,
    confusion_counts,
    confusion_matrix,
    f1_per_class,
    precision_per_class,
    recall_per_class,
)

NAMES = {
    "balanced_accuracy": "balanced_accuracy",
    "accuracy": "accuracy",
    "macro_f1": "macro_f1",
    "micro_f1": "micro_f1",
    "weighted_f1": "weighted_f1",
    "mcc": "mcc",
    "kappa": "cohen_kappa",
    "gmean_multiclass": "g_mean",
    "sensitivity_macro": "balanced_accuracy",
}


def test_every_single_label_case_agrees(golden_dir):
    arrays = np.load(golden_dir / "metrics.npz")
    meta = json.loads((golden_dir / "metrics.json").read_text())
    checked = 0
    for case in meta["cases"]:
        gold, predicted = (arrays[case["inputs"][k]["key"]] for k in ("y_true", "y_pred"))
        if gold.ndim > 1:
            continue  # multi-label
        expected = {k: arrays[v["key"]] for k, v in case["outputs"].items()}
        classes = int(max(gold.max(), predicted.max())) + 1
        for golden, ours in NAMES.items():
            value = METRICS[ours](gold, predicted, classes)
            assert value == pytest.approx(float(expected[golden]), rel=1e-10, abs=1e-12), (case["case"], golden)
        counts = confusion_counts(gold, predicted, classes)
        np.testing.assert_allclose(precision_per_class(counts), expected["precision_per_class"], rtol=1e-10)
        np.testing.assert_allclose(recall_per_class(counts), expected["recall_per_class"], rtol=1e-10)
        np.testing.assert_allclose(f1_per_class(counts), expected["f1_per_class"], rtol=1e-10)
        np.testing.assert_array_equal(counts.support, expected["support"])
        np.testing.assert_array_equal(confusion_matrix(gold, predicted, classes), expected["confusion"])
        checked += 1
    assert checked >= 4
