"""Losses over several labels per row against the numbers of released code: value and gradient, float64, every case."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from tailwise.losses.binary_cross_entropy import (
    PositiveWeightedBinaryCrossEntropyLoss,
    WeightedBinaryCrossEntropyLoss,
)
from tailwise.losses.distribution_balanced import DB_VARIANTS, DistributionBalancedLoss
from tailwise.losses.focal_multilabel import MultiLabelFocalLoss

torch.set_num_threads(1)


@dataclass(frozen=True)
class Case:
    name: str
    setting: dict
    given: dict
    wanted: dict

    def evaluate(self, loss, dtype=torch.float64):
        logits = torch.from_numpy(self.given["logits"].copy()).to(dtype).requires_grad_()
        before = logits.detach().clone()
        value = loss(logits, torch.from_numpy(self.given["target"]))
        gradient = torch.autograd.grad(value.sum(), logits)[0]
        assert torch.equal(logits.detach(), before)
        return value.detach().numpy(), gradient.numpy()

    def check(self, loss, value="loss_f64", *, rtol=1e-8):
        found, gradient = self.evaluate(loss)
        # The originals take 1 - p by subtraction, so that single tiny values have lost digits; sums have not.
        atol = 1e-15 if found.ndim else 0.0
        np.testing.assert_allclose(found, self.wanted[value], rtol=1e-10, atol=atol, err_msg=self.name)
        key = next(k for k in self.wanted if k.startswith("grad_logits") and k.endswith("f64"))
        np.testing.assert_allclose(gradient, self.wanted[key], rtol=rtol, atol=1e-14, err_msg=self.name)
        if "loss_f32" in self.wanted:
            single, _ = self.evaluate(loss, torch.float32)
            np.testing.assert_allclose(single, self.wanted["loss_f64"], rtol=2e-6, atol=1e-10, err_msg=self.name)
            exact = self.exact_in_single_precision()
            theirs = self.wanted["loss_f32"]
            np.testing.assert_allclose(single[exact], theirs[exact], rtol=1e-5, err_msg=self.name)

    def exact_in_single_precision(self):
        """Which numbers of the original are within the tolerance of its own double precision.

        It loses digits where it takes 1 - b^n, or 1 - p next to p = 1, by subtraction.
        """
        return np.isclose(self.wanted["loss_f32"], self.wanted["loss_f64"], rtol=1e-5, atol=0)


@pytest.fixture(scope="session")
def cases(golden):
    return lambda method: [Case(*case) for case in golden(method)]


def test_weighted_binary_cross_entropy_equals_torch(cases):
    walked = [c for c in cases("weighted_cross_entropy") if c.name.startswith("bce_")]
    assert len(walked) == 4
    for case in walked:
        if case.setting["kind"] == "weight":
            case.check(WeightedBinaryCrossEntropyLoss(case.given["weight"]), rtol=1e-10)
        else:
            case.check(PositiveWeightedBinaryCrossEntropyLoss(case.given["pos_weight"]), rtol=1e-10)


def test_focal_loss_and_its_star_form(cases):
    walked = cases("focal_sigmoid")
    assert len(walked) == 12
    for case in walked:
        setting = case.setting
        loss = MultiLabelFocalLoss(
            setting["gamma"],
            alpha=None if setting["alpha"] < 0 else setting["alpha"],
            star=setting["variant"] == "FL*",
            reduction=setting["reduction"],
        )
        case.check(loss)


REWEIGHTING = {
    (None, None): None,
    ("rebalance", None): "rebalance",
    ("CB", "by_class"): "effective_number",
    ("CB", "average_w"): "mean_effective_number",
    ("CB", "average_n"): "effective_number_of_mean_count",
    ("sqrt_inv", None): "inverse_sqrt",
}


def arguments(case):
    setting = case.setting
    balanced = setting.get("CB_loss", {})
    mapped = setting.get("map_param", {})
    tolerant = setting["logit_reg"]
    return {
        "reweighting": REWEIGHTING[setting["reweight_func"], balanced.get("CB_mode")],
        "logit_bias": tolerant.get("init_bias", 0.0),
        "negative_scale": tolerant.get("neg_scale", 1.0),
        "divide_by_row_max": setting.get("weight_norm") == "by_instance",
        "reduction": setting.get("reduction", "none"),
        **{f"map_{name}": value for name, value in mapped.items()},
        **({"beta": balanced["CB_beta"]} if balanced else {}),
    }


def test_distribution_balanced_loss_of_huang(cases):
    walked = cases("distribution_balanced")
    assert len(walked) == 29
    for case in walked:
        focal = case.setting["focal"]
        loss = DistributionBalancedLoss(
            case.given["class_freq"],
            int(case.given["train_num"]),
            focus=focal["gamma"] if focal["focal"] else 0.0,
            alpha=focal["alpha"] if focal["focal"] else None,
            loss_weight=case.setting["loss_weight"],
            legacy_ntr=True,
            **arguments(case),
        )
        case.check(loss)
        if loss.bias is not None:
            np.testing.assert_allclose(-loss.bias.numpy(), case.wanted["init_bias"], rtol=1e-12, err_msg=case.name)
        if "rebalance_weight" in case.wanted:
            target = torch.from_numpy(case.given["target"])
            weights = loss.weights(target).expand_as(target)
            np.testing.assert_allclose(weights, case.wanted["rebalance_weight"], rtol=1e-10, err_msg=case.name)


def test_almost_all_numbers_of_huang_in_single_precision_are_compared(cases):
    left_out = {c.name: int((~c.exact_in_single_precision()).sum()) for c in cases("distribution_balanced")}
    assert {name: n for name, n in left_out.items() if n} == {"c12_CB_avg_w": 1, "none_DB": 1, "nolabel_row_DB": 1}


def test_the_named_variants_are_those_of_huang(cases):
    names = {"CB": "cb-fl", "R-FL": "r-fl", "NTR-FL": "ntr-fl", "DB-0FL": "db-0fl", "CB-NTR": "cb-ntr", "DB": "db"}
    walked = [c for c in cases("distribution_balanced") if c.name.split("_")[0] in {"tiny", "reuters90"}]
    seen = set()
    for case in walked:
        name = names.get(case.name.split("_")[1])
        if name is not None:
            counts, rows = case.given["class_freq"], int(case.given["train_num"])
            case.check(DistributionBalancedLoss(counts, rows, legacy_ntr=True, **DB_VARIANTS[name]))
            seen.add(name)
    assert seen == set(DB_VARIANTS)


def test_without_the_legacy_option_only_the_variant_without_weights_differs(cases):
    for case in cases("distribution_balanced"):
        if case.name == "tiny_NTR-FL":
            counts, rows = case.given["class_freq"], int(case.given["train_num"])
            paper, _ = case.evaluate(DistributionBalancedLoss(counts, rows, **DB_VARIANTS["ntr-fl"]))
            assert paper < 0.9 * case.wanted["loss_f64"]
        if case.name == "tiny_DB":
            case.check(DistributionBalancedLoss(counts, rows, **DB_VARIANTS["db"]))


def test_distribution_balanced_loss_of_wu(cases):
    walked = cases("distribution_balanced_wu")
    assert len(walked) == 10
    for case in walked:
        focal = case.setting["focal"]
        settings = {
            "focus": focal["gamma"] if focal["focal"] else 0.0,
            "alpha": None,
            "loss_weight": case.setting["loss_weight"] * (focal["balance_param"] if focal["focal"] else 1.0),
            "bias_over_scale": True,
            **arguments(case),
        }
        counts, rows = case.given["class_freq"], int(case.given["train_num"])
        if case.wanted["loss_f64"].ndim:
            case.check(DistributionBalancedLoss(counts, rows, **settings))
        mean, _ = case.evaluate(DistributionBalancedLoss(counts, rows, **settings | {"reduction": "mean"}))
        np.testing.assert_allclose(mean, case.wanted["loss_mean_f64"], rtol=1e-10, err_msg=case.name)
        if not case.wanted["loss_f64"].ndim:
            case.check(DistributionBalancedLoss(counts, rows, **settings | {"reduction": "mean"}))
