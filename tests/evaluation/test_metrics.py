"""Decision metrics equal scikit-learn's, given all labels of training."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from tailwise.errors import DataError, UnknownNameError
from tailwise.evaluation.metrics import (
    COUNT_METRICS,
    METRICS,
    Counts,
    confusion_counts,
    confusion_matrix,
    f1_per_class,
    macro_f1,
    metric_function,
    precision_per_class,
    recall_per_class,
    without_vanished,
)


@st.composite
def decisions(draw):
    """Gold and predicted indices; some classes absent, never predicted, or unseen in training."""
    num_classes = draw(st.integers(2, 6))
    unseen = draw(st.integers(0, 2))
    size = draw(st.integers(1, 40))
    gold = draw(st.lists(st.integers(0, num_classes + unseen - 1), min_size=size, max_size=size))
    predicted = draw(st.lists(st.integers(0, num_classes - 1), min_size=size, max_size=size))
    return np.array(gold), np.array(predicted), num_classes


@settings(max_examples=60, deadline=None)
@given(decisions())
def test_ratios_equal_scikit_learn_with_all_training_labels_given(case):
    gold, predicted, num_classes = case
    counts = confusion_counts(gold, predicted, num_classes)
    labels = range(num_classes)
    expected = sk.precision_recall_fscore_support(gold, predicted, labels=labels, zero_division=0)
    for ours, theirs in zip(
        (precision_per_class(counts), recall_per_class(counts), f1_per_class(counts), counts.seen_support),
        expected,
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    for average in ("macro", "micro", "weighted"):
        theirs = sk.f1_score(gold, predicted, labels=labels, average=average, zero_division=0)
        assert METRICS[f"{average}_f1"](gold, predicted, num_classes) == pytest.approx(theirs, rel=1e-12)
    for name, score in (("macro_precision", sk.precision_score), ("macro_recall", sk.recall_score)):
        theirs = score(gold, predicted, labels=labels, average="macro", zero_division=0)
        assert METRICS[name](gold, predicted, num_classes) == pytest.approx(theirs, rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(decisions())
def test_whole_split_figures_equal_scikit_learn(case):
    gold, predicted, num_classes = case
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mcc = sk.matthews_corrcoef(gold, predicted)
        kappa = np.nan_to_num(sk.cohen_kappa_score(gold, predicted))
        seen = gold < num_classes
        balanced = sk.balanced_accuracy_score(gold[seen], predicted[seen]) if seen.any() else 0.0
    assert METRICS["accuracy"](gold, predicted, num_classes) == pytest.approx(sk.accuracy_score(gold, predicted))
    assert METRICS["mcc"](gold, predicted, num_classes) == pytest.approx(mcc, abs=1e-12)
    assert METRICS["cohen_kappa"](gold, predicted, num_classes) == pytest.approx(kappa, abs=1e-12)
    assert METRICS["balanced_accuracy"](gold, predicted, num_classes) == pytest.approx(balanced, rel=1e-12)
    size = max(num_classes, gold.max() + 1)
    expected = sk.confusion_matrix(gold, predicted, labels=range(size))[:, :num_classes]
    np.testing.assert_array_equal(confusion_matrix(gold, predicted, num_classes), expected)


@settings(max_examples=50, deadline=None)
@given(decisions(), st.randoms(use_true_random=False))
def test_no_metric_depends_on_the_order_of_instances_or_classes(case, random):
    gold, predicted, num_classes = case
    order = list(range(len(gold)))
    random.shuffle(order)
    renamed = list(range(num_classes))
    random.shuffle(renamed)
    names = np.array([*renamed, *range(num_classes, num_classes + 2)])
    for name, metric in METRICS.items():
        moved = metric(names[gold][order], names[predicted][order], num_classes)
        assert moved == pytest.approx(metric(gold, predicted, num_classes), abs=1e-12), name


def test_absent_class_counts_as_zero_in_macro_f1_but_not_in_balanced_accuracy_or_worst_class():
    gold = predicted = np.array([0, 0, 1, 2])
    assert METRICS["macro_f1"](gold, predicted, 4) == 0.75
    assert METRICS["balanced_accuracy"](gold, predicted, 4) == 1.0
    assert METRICS["g_mean"](gold, predicted, 4) == pytest.approx(1.0)
    assert METRICS["worst_class_f1"](gold, predicted, 4) == 1.0
    assert METRICS["worst_class_recall"](gold, predicted, 4) == 1.0


def test_instances_of_an_unseen_class_are_errors_and_false_positives_but_never_averaged_over():
    gold, predicted = np.array([0, 0, 1, 2]), np.array([0, 0, 1, 1])  # class 2 was never trained on
    assert METRICS["accuracy"](gold, predicted, 2) == 0.75
    assert METRICS["macro_f1"](gold, predicted, 2) == pytest.approx((1 + 2 / 3) / 2)
    assert METRICS["balanced_accuracy"](gold, predicted, 2) == 1.0
    assert METRICS["micro_f1"](gold, predicted, 2) == pytest.approx(6 / 7)


def test_g_mean_is_the_root_of_the_product_of_recalls_and_zero_with_a_class_never_found():
    gold, predicted = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 1, 1, 2, 2])
    assert METRICS["g_mean"](gold, predicted, 3) == pytest.approx(0.5 ** (1 / 3))
    assert METRICS["g_mean"](np.array([0, 1]), np.array([0, 0]), 2) == 0.0


def test_worst_class_figures_are_minima_over_present_classes():
    gold, predicted = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 0, 0, 1, 2])
    assert METRICS["worst_class_recall"](gold, predicted, 3) == 0.5
    assert METRICS["worst_class_f1"](gold, predicted, 3) == pytest.approx(2 / 3)


def test_macro_f1_of_a_group_equals_scikit_learn_with_its_labels():
    generator = np.random.default_rng(0)
    gold, predicted = generator.integers(0, 6, 80), generator.integers(0, 6, 80)
    tail = np.array([False, False, False, True, False, True])
    ours = float(macro_f1(confusion_counts(gold, predicted, 6), tail))
    assert ours == pytest.approx(sk.f1_score(gold, predicted, labels=[3, 5], average="macro"))


def test_leading_axes_score_many_confusions_at_once():
    generator = np.random.default_rng(1)
    cases = [(generator.integers(0, 5, 30), generator.integers(0, 4, 30)) for _ in range(7)]
    single = [confusion_counts(g, p, 4) for g, p in cases]
    support = np.stack([np.pad(c.support, (0, 5 - len(c.support))) for c in single])
    stacked = Counts(
        np.stack([c.correct for c in single]), support, np.stack([c.predicted for c in single]), single[0].averaged
    )
    for name, metric in COUNT_METRICS.items():
        np.testing.assert_allclose(metric(stacked), [METRICS[name](g, p, 4) for g, p in cases], err_msg=name)


def test_a_vanished_class_leaves_the_macro_average_and_an_absent_one_stays():
    resample = confusion_counts(np.array([0, 0, 1]), np.array([0, 0, 1]), 4)
    in_split = np.array([True, True, True, False])  # class 2 vanished from the resample, class 3 was never there
    counts = without_vanished(resample, in_split)
    assert counts.averaged.tolist() == [True, True, False, True]
    assert float(macro_f1(counts)) == pytest.approx(2 / 3)
    assert float(macro_f1(resample)) == 0.5


def test_metric_function_fixes_the_number_of_classes():
    gold, predicted = np.array([0, 0, 1, 2]), np.array([0, 0, 1, 2])
    assert metric_function("macro_f1", 4)(gold, predicted) == 0.75
    assert metric_function("macro_f1", 3)(gold, predicted) == 1.0


def test_a_mistyped_metric_gets_a_suggestion():
    with pytest.raises(UnknownNameError, match=r"Unknown metric 'macro-f1'.*Did you mean.*'macro_f1'"):
        metric_function("macro-f1", 3)


@pytest.mark.parametrize(
    ("gold", "predicted", "message"),
    [
        ([], [], "at least one instance"),
        ([0, 1], [0], r"shapes \(2,\) and \(1,\)"),
        ([0, 1], [0, 3], r"predicted indices in 0\.\.2.*0\.\.3"),
        ([-1, 1], [0, 1], "gold starts at -1"),
    ],
)
def test_impossible_labels_are_refused(gold, predicted, message):
    with pytest.raises(DataError, match=message):
        confusion_counts(np.array(gold, dtype=int), np.array(predicted, dtype=int), 3)
