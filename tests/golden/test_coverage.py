"""Every golden file is tested somewhere, or listed here with the reason why not."""

#: golden files whose cases a test walks
TESTED = {
    "supcon",
    "label_aware_contrastive",
    "group_dro",
    "bpmll",
    "asymmetric_loss",
    "balanced_softmax",
    "calibration",
    "class_aware_sampler",
    "class_aware_sampler_multilabel",
    "class_balanced_loss",
    "class_weights_effective_number",
    "dice",
    "distribution_balanced",
    "distribution_balanced_wu",
    "fair_ldam",
    "focal_multiclass",
    "focal_sigmoid",
    "focal_softmax_alpha",
    "imblearn_resampling",  # random over- and under-sampling, balanced weights; SMOTE is not built yet
    "influence_balanced",
    "ldam",
    "logit_adjustment",
    "metrics",
    "multilabel_imbalance_measures",
    "multilabel_resampling",
    "nearest_class_mean",
    "ranking_loss",
    "repeat_factor_sampling",
    "sampling_weights",
    "self_adjusting_dice_fursovia",
    "tau_norm",
    "vs_loss",
    "weighted_cross_entropy",
}

AUGMENTATION = "augmentation is not built yet"
NOT_YET = {
    "active_learning": "annotation is not built yet",
    "ecrt": AUGMENTATION,
    "eda": AUGMENTATION,
    "ge3_formula": AUGMENTATION,
    "learnable_weight_scaling": "the head is not built yet",
    "protobert": "the head is not built yet",
    "sequential_targeting": "the schedule is not built yet",
    "setconv": "the head is not built yet",
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
