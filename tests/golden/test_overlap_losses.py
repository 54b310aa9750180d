"""Dice and self-adjusting dice against released code: value and gradient, every case."""

import numpy as np
import pytest
import torch

from tailwise.losses.dice import BatchDiceLoss, DiceLoss, pooled_dice
from tailwise.losses.self_adjusting_dice import SelfAdjustingDiceLoss


class Case:
    def __init__(self, name, setting, given, wanted):
        self.name, self.setting, self.wanted = name, setting, wanted
        self.given = {k: torch.from_numpy(v) for k, v in given.items()}

    def check(self, compute, gradient_key):
        logits = self.given["logits"].clone().requires_grad_()
        value = compute(logits, self.given["target"])
        np.testing.assert_allclose(
            value.detach().numpy(), self.wanted["loss_f64"].reshape(value.shape), rtol=1e-10, err_msg=self.name
        )
        gradient = torch.autograd.grad(value.sum(), logits)[0].numpy()
        assert np.isfinite(gradient).all()
        wanted = self.wanted[gradient_key]
        np.testing.assert_allclose(
            gradient[np.isfinite(wanted)], wanted[np.isfinite(wanted)], rtol=1e-8, atol=1e-12, err_msg=self.name
        )
        return bool(np.isfinite(wanted).all())


@pytest.fixture(scope="module")
def cases(golden):
    def read(method, number):
        found = [Case(*case) for case in golden(method)]
        assert len(found) == number
        return found

    return read


def mined(case):
    """Rows the released hard-example mining keeps: all positives, and negatives strictly above its threshold."""
    score, positive = torch.sigmoid(case.given["logits"]).flatten(), case.given["target"].flatten() == 1
    keep = min(int(positive.sum() * case.setting["ohem_ratio"]), int((~positive).sum()))
    assert keep == case.setting["keep_num"]
    threshold = score[~positive].sort().values[-keep + 1]
    return positive | (score > threshold)


def test_one_output_per_row_is_the_pooled_dice_of_one_column(cases):
    without_gradient, mining = [], 0
    for case in [c for c in cases("dice", 28) if c.setting["kind"] == "binary"]:
        setting = case.setting
        kept = torch.ones(case.given["logits"].shape[0], dtype=torch.bool)
        if setting.get("mask"):
            kept = case.given["mask"] != 0
        if setting["ohem_ratio"]:
            kept = mined(case)
            assert int(kept.sum()) == int(case.wanted["kept"].sum())
            mining += 1

        def compute(logits, target, kept=kept, setting=setting):
            return pooled_dice(
                torch.sigmoid(logits[kept]),
                target.reshape(-1, 1)[kept],
                squared=setting["square_denominator"],
                smooth=setting["smooth"],
                focus=setting["alpha"],
            )

        if not case.check(compute, "grad_logits_f64"):
            without_gradient.append(case.name)
    assert without_gradient == ["bin_extreme"]  # nan in the released code, finite here
    assert mining == 2


def test_squared_multiclass_branch_is_the_instance_dice(cases):
    compared = {0.0: 0, 1.0: 0}
    for case in [c for c in cases("dice", 28) if c.setting["kind"] == "multi-class"]:
        setting = case.setting
        if not setting["square_denominator"]:
            continue
        given = {"squared": True, "smooth": setting["smooth"], "reduction": setting["reduction"]}
        loss = SelfAdjustingDiceLoss(setting["alpha"], detach_factor=False, **given)
        case.check(loss, "grad_logits_of_sum_f64")
        if not setting["alpha"]:
            case.check(DiceLoss(**given), "grad_logits_of_sum_f64")
        compared[setting["alpha"]] += 1
    assert compared == {0.0: 5, 1.0: 5}


def test_multiclass_branch_that_is_not_squared_mixes_a_row_with_the_batch_and_ours_does_not(cases):
    compared = 0
    for case in [c for c in cases("dice", 28) if c.setting["kind"] == "multi-class"]:
        if case.setting["square_denominator"]:
            continue
        smooth, target = case.setting["smooth"], case.given["target"]

        def released(logits, target, smooth=smooth):
            p = torch.softmax(logits, dim=1)
            y = torch.nn.functional.one_hot(target, p.shape[1]).to(p.dtype)
            return (1 - (2 * p * y + smooth) / (p.sum(0) + y.sum(0) + smooth)).sum(1).mean()

        case.check(released, "grad_logits_of_sum_f64")
        logits = case.given["logits"].clone().requires_grad_()
        ours = DiceLoss(squared=False, smooth=smooth)(logits, target)
        p = torch.softmax(logits.detach(), dim=1)
        y = torch.nn.functional.one_hot(target, p.shape[1]).to(p.dtype)
        paper = (1 - (2 * p * y + smooth) / (p + y + smooth)).sum(1).mean()
        assert ours.item() == pytest.approx(paper.item(), rel=1e-9)
        assert torch.autograd.grad(ours, logits)[0].isfinite().all()
        if target.numel() > 1:
            assert ours.item() != pytest.approx(case.wanted["loss_f64"].item(), rel=1e-3)
        compared += 1
    assert compared == 5


def test_batch_dice_is_the_batch_level_formula(cases):
    compared = 0
    for case in [c for c in cases("dice", 28) if c.setting["kind"] == "multi-class"]:
        setting, logits, target = case.setting, case.given["logits"], case.given["target"]
        given = {"squared": False, "smooth": setting["smooth"]}  # whatever the setting of the case
        p = torch.softmax(logits, dim=1)
        y = torch.nn.functional.one_hot(target, p.shape[1])
        found = pooled_dice(p, y, focus=setting["alpha"], **given).mean().item()
        wanted = case.wanted["loss_batchlevel_f64"].item()
        assert found == pytest.approx(wanted, rel=1e-10), case.name
        if not setting["alpha"]:
            assert BatchDiceLoss(absent="penalise", **given)(logits, target).item() == pytest.approx(wanted, rel=1e-10)
        compared += 1
    assert compared == 15


def test_self_adjusting_dice_of_the_target_alone(cases):
    for case in cases("self_adjusting_dice_fursovia", 15):
        loss = SelfAdjustingDiceLoss(
            case.setting["alpha"],
            smooth=case.setting["gamma"],
            classes="gold",
            detach_factor=False,
            reduction=case.setting["reduction"],
        )
        assert case.check(loss, "grad_logits_of_sum_f64")
