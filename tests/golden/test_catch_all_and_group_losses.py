"""Ranking, group-aware margins and one-hot sigmoid losses against released code: value and gradient, every case."""

import numpy as np
import pytest
import torch

from tailwise.losses.cross_entropy import WeightedCrossEntropyLoss
from tailwise.losses.fairness import FairnessRegulariser
from tailwise.losses.focal_sigmoid import SigmoidFocalLoss
from tailwise.losses.group_ldam import GroupLDAMLoss
from tailwise.losses.ranking import RankingLoss


class Case:
    def __init__(self, name, setting, given, wanted):
        self.name, self.setting, self.given, self.wanted = name, setting, given, wanted

    def tensor(self, name):
        return torch.from_numpy(self.given[name].copy())

    def check(self, compute, key="loss_f64", *, atol=1e-14):
        """The value of ``compute(logits, target)`` is that of `key`, and for the main one the gradient fits too."""
        logits = self.tensor("logits").requires_grad_()
        value = compute(logits, self.tensor("target"))
        np.testing.assert_allclose(value.item(), self.wanted[key], rtol=1e-10, err_msg=self.name)
        if key == "loss_f64":
            gradient = torch.autograd.grad(value, logits)[0].numpy()
            np.testing.assert_allclose(
                gradient, self.wanted["grad_logits_f64"], rtol=1e-8, atol=atol, err_msg=self.name
            )


@pytest.fixture(scope="module")
def cases(golden):
    def read(method, number):
        found = [Case(*case) for case in golden(method)]
        assert len(found) == number
        return found

    return read


def test_ranking_loss_of_the_common_port_and_of_the_paper(cases):
    compared = 0
    for case in cases("ranking_loss", 11):
        setting = {
            "positive_margin": case.setting["margin_positive"],
            "negative_margin": case.setting["margin_negative"],
            "scale": case.setting["gamma"],
        }
        catch_all = case.setting["catch_all_index"]
        case.check(RankingLoss(catch_all, catch_all_competes=True, **setting))
        if "loss_no_other_column_f64" in case.wanted:
            case.check(RankingLoss(catch_all, **setting), "loss_no_other_column_f64")
            compared += 1
    assert compared == 8


def test_one_hot_sigmoid_losses(cases):
    for case in cases("class_balanced_loss", 15):
        weights = case.given["weights"]
        case.check(SigmoidFocalLoss(case.setting["gamma"], class_weights=weights))
        case.check(SigmoidFocalLoss(0.0, class_weights=weights), "cb_sigmoid_bce_f64")
        case.check(WeightedCrossEntropyLoss(weights, reduction="mean"), "softmax_f64")


def margins_of(case):
    """Counts and margins of a case. Only ratios of counts matter, so that the outer product has all the margins."""
    shares = tuple(case.setting[f"ldam{share}"] for share in ("c", "g", "cg"))
    by_class, by_group = case.given["class_counts"], case.given["group_counts"]
    if shares == (0, 0, 1):
        return case.given["class_group_counts"].reshape(by_class.size, by_group.size), {"margins": "cell"}
    counts = np.outer(by_class, by_group)
    if case.setting["ldam_mul_c_g"]:
        return counts, {"margins": "product"}
    if shares in {(1, 0, 0), (0, 1, 0)}:
        return counts, {"margins": "class" if shares[0] else "group"}
    assert shares == (0.5, 0.5, 0)
    return counts, {"class_share": 0.5, "group_share": 0.5, "cell_share": 0.0}


def test_group_aware_margins_instance_weights_and_the_regulariser(cases):
    seen = set()
    for case in cases("fair_ldam", 6):
        setting, group = case.setting, case.tensor("group")
        counts, margins = margins_of(case)
        seen.add(margins.get("margins", "sum"))
        assert np.array_equal(case.given["class_group"], case.given["target"] * 2 + case.given["group"])
        loss = GroupLDAMLoss(counts, max_margin=setting["max_m"], scale=setting["ldams"], **margins)
        regulariser = FairnessRegulariser(2)
        given = {"group": group}
        if setting["use_instance"]:
            # Random weights, not those of the counts; the mean is over rows, not over weights.
            given |= {"sample_weight": case.tensor("instance_weights"), "normalizer": float(group.numel())}

        def compute(logits, target, loss=loss, given=given, rho=setting["rho"], regulariser=regulariser):
            return loss(logits, target, **given) + rho * regulariser(logits, target, group=given["group"])

        case.check(compute, atol=1e-12)
    assert seen == {"class", "group", "cell", "sum", "product"}
