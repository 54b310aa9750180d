"""Losses against the numbers of the original authors' code: value and gradient, float64, every case."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from tailwise.losses import (
    BalancedSoftmaxLoss,
    CrossEntropyLoss,
    FocalLoss,
    LDAMLoss,
    WeightedCrossEntropyLoss,
    class_weights,
)
from tailwise.losses.ldam import ldam_margins


@dataclass(frozen=True)
class Case:
    name: str
    setting: dict
    given: dict
    wanted: dict

    def evaluate(self, loss):
        logits = torch.from_numpy(self.given["logits"].copy()).requires_grad_()
        value = loss(logits, torch.from_numpy(self.given["target"]))
        gradient = torch.autograd.grad(value.sum(), logits)[0]
        return value.detach().numpy(), gradient.numpy()

    def check(self, loss, *, value_rtol=1e-10, rtol=1e-9, atol=1e-12):
        value, gradient = self.evaluate(loss)
        np.testing.assert_allclose(value, self.wanted["loss_f64"], rtol=value_rtol, err_msg=self.name)
        key = next(k for k in self.wanted if k.startswith("grad_logits") and k.endswith("f64"))
        np.testing.assert_allclose(gradient, self.wanted[key], rtol=rtol, atol=atol, err_msg=self.name)


@pytest.fixture(scope="session")
def cases(golden):
    return lambda method: [Case(*case) for case in golden(method)]


def test_weighted_cross_entropy_equals_torch(cases):
    single_label = [c for c in cases("weighted_cross_entropy") if c.name.startswith("ce_")]
    assert len(single_label) == 15
    for case in single_label:
        reduction = {"mean": "weighted_mean", "sum": "sum"}[case.setting["reduction"]]
        smoothing = case.setting["label_smoothing"]
        case.check(
            WeightedCrossEntropyLoss(case.given["weight"], label_smoothing=smoothing, reduction=reduction), rtol=1e-10
        )


def test_focal_loss_is_the_textbook_form_and_the_legacy_option_the_authors_code(cases):
    for case in cases("focal_multiclass"):
        weights, focus = case.given.get("class_weights"), case.setting["gamma"]
        textbook, _ = case.evaluate(FocalLoss(focus, class_weights=weights))
        np.testing.assert_allclose(textbook, case.wanted["loss_textbook_f64"], rtol=1e-10, err_msg=case.name)
        case.check(FocalLoss(focus, class_weights=weights, legacy_weight_inside=True), rtol=1e-8)


def test_the_two_forms_of_focal_loss_differ_where_weights_differ(cases):
    differing = [
        c.name
        for c in cases("focal_multiclass")
        if not np.isclose(c.wanted["loss_f64"], c.wanted["loss_textbook_f64"], rtol=1e-3)
    ]
    assert "medium_1" in differing


def test_focal_loss_with_alpha(cases):
    for case in cases("focal_softmax_alpha"):
        loss = FocalLoss(
            case.setting["gamma"], class_weights=case.given.get("alpha"), reduction=case.setting["reduction"]
        )
        value, gradient = case.evaluate(loss)
        # Next to p = 1 the original takes 1 - p by subtraction and loses digits, hence the absolute tolerance.
        np.testing.assert_allclose(value, case.wanted["loss_f64"], rtol=1e-10, atol=1e-30, err_msg=case.name)
        # The stored gradient is that of the stored loss summed; a mean over rows keeps its 1 / M.
        np.testing.assert_allclose(
            gradient, case.wanted["grad_logits_of_sum_f64"], rtol=1e-8, atol=1e-12, err_msg=case.name
        )


def test_ldam(cases):
    for case in cases("ldam"):
        counts = case.given["class_counts"]
        margins = ldam_margins(counts.astype(float), case.setting["max_m"])
        np.testing.assert_allclose(margins, case.wanted["margins"], rtol=1e-12, err_msg=case.name)
        loss = LDAMLoss(
            counts,
            max_margin=case.setting["max_m"],
            scale=case.setting["s"],
            class_weights=case.given.get("class_weights"),
        )
        case.check(loss)
        if "loss_f32" in case.wanted:
            single = loss(torch.from_numpy(case.given["logits"]).float(), torch.from_numpy(case.given["target"]))
            np.testing.assert_allclose(single.numpy(), case.wanted["loss_f32"], rtol=1e-5, err_msg=case.name)


def test_balanced_softmax(cases):
    for case in cases("balanced_softmax"):
        case.check(BalancedSoftmaxLoss(case.given["class_counts"], reduction=case.setting["reduction"]), atol=1e-14)


def test_logit_adjusted_loss(cases):
    for case in cases("logit_adjustment"):
        # The authors' code adds 1e-12 to the prior inside the logarithm; ours does not, and differs by about that much
        # over the smallest prior.
        tau, prior = case.setting["tau"], case.given["prior"]
        case.check(BalancedSoftmaxLoss(prior=prior, strength=tau), value_rtol=1e-7, rtol=1e-7)
        case.check(BalancedSoftmaxLoss(prior=prior, strength=tau, legacy_prior=True), atol=1e-14)


def test_effective_number_weights(cases):
    for case in cases("class_weights_effective_number"):
        counts, setting = case.given["class_counts"], case.setting
        beta = setting["beta"] if "beta" in setting else setting["betas"][setting["epoch"] // setting["stage_length"]]
        found = class_weights("effective_number", counts, beta=beta, normalise="sum_to_C")
        np.testing.assert_allclose(found, case.wanted["weights"], rtol=1e-12, err_msg=case.name)
        if "effective_num_unscaled" in case.wanted:
            plain = class_weights("effective_number", counts, beta=beta, normalise="none")
            np.testing.assert_allclose(
                (1 - beta) / plain, case.wanted["effective_num_unscaled"], rtol=1e-12, err_msg=case.name
            )


def test_balanced_weights_equal_those_of_scikit_learn(cases):
    for case in cases("imblearn_resampling"):
        found = class_weights("balanced", np.bincount(case.given["y"]))
        np.testing.assert_allclose(found, case.wanted["balanced_class_weight"], rtol=1e-12, err_msg=case.name)


def test_cross_entropy_is_the_unweighted_case(cases):
    for case in cases("weighted_cross_entropy"):
        if case.name.startswith("ce_") and case.setting["label_smoothing"] == 0:
            ones = WeightedCrossEntropyLoss(np.ones_like(case.given["weight"]))
            for plain, weighted in zip(case.evaluate(CrossEntropyLoss()), case.evaluate(ones), strict=True):
                np.testing.assert_allclose(plain, weighted, rtol=1e-14)
