"""Every golden file is tested somewhere, or listed here with the reason why not."""

#: golden files whose cases a test walks
TESTED = {
    "balanced_softmax",
    "calibration",
    "class_aware_sampler",
    "class_weights_effective_number",
    "focal_multiclass",
    "focal_softmax_alpha",
    "imblearn_resampling",  # random over- and under-sampling, balanced weights; SMOTE is not built yet
    "ldam",
    "logit_adjustment",
    "metrics",
    "nearest_class_mean",
    "sampling_weights",  # the natural and the balanced end; the mixtures are not built yet
    "tau_norm",
    "weighted_cross_entropy",  # the single-label cases; binary cross-entropy is not built yet
}

SINGLE_LABEL = "a single-label loss that is not built yet"
MULTI_LABEL = "multi-label is not built yet"
AUGMENTATION = "augmentation is not built yet"
NOT_YET = {
    "active_learning": "annotation is not built yet",
    "asymmetric_loss": MULTI_LABEL,
    "bpmll": MULTI_LABEL,
    "class_aware_sampler_multilabel": MULTI_LABEL,
    "class_balanced_loss": MULTI_LABEL,
    "dice": SINGLE_LABEL,
    "distribution_balanced": MULTI_LABEL,
    "distribution_balanced_wu": MULTI_LABEL,
    "ecrt": AUGMENTATION,
    "eda": AUGMENTATION,
    "fair_ldam": SINGLE_LABEL,
    "focal_sigmoid": MULTI_LABEL,
    "ge3_formula": AUGMENTATION,
    "group_dro": "a stateful loss that is not built yet",
    "influence_balanced": SINGLE_LABEL,
    "label_aware_contrastive": "representation losses are not built yet",
    "learnable_weight_scaling": "the head is not built yet",
    "multilabel_imbalance_measures": MULTI_LABEL,
    "multilabel_resampling": MULTI_LABEL,
    "protobert": "the head is not built yet",
    "ranking_loss": SINGLE_LABEL,
    "repeat_factor_sampling": MULTI_LABEL,
    "self_adjusting_dice_fursovia": SINGLE_LABEL,
    "sequential_targeting": "the schedule is not built yet",
    "setconv": "the head is not built yet",
    "supcon": "representation losses are not built yet",
    "vs_loss": SINGLE_LABEL,
}


def test_every_golden_file_is_tested_or_listed_with_a_reason(golden_dir):
    present = {path.stem for path in golden_dir.glob("*.json")}
    assert present - TESTED - NOT_YET.keys() == set(), "golden files without a test and without a reason"
    assert (TESTED | NOT_YET.keys()) - present == set(), "listed, but there is no such golden file"
    assert TESTED.isdisjoint(NOT_YET)


def test_every_golden_file_listed_as_tested_is_read_by_a_test(request):
    here = request.path
    tests = request.config.rootpath / "tests"
    text = "".join(path.read_text(encoding="utf-8") for path in tests.rglob("test_*.py") if path != here)
    assert [golden for golden in TESTED if golden not in text] == []
