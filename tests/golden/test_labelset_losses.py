"""Losses over label sets against the numbers of the original authors' code: value and gradient, float64, every case."""

import torch

from tailwise.losses.asymmetric import AsymmetricLoss, AsymmetricSoftmaxLoss
from tailwise.losses.bpmll import BPMLLLoss


def check(value, scores, wanted, wanted_gradient, name, *, atol):
    gradient = torch.autograd.grad(value, scores)[0]
    torch.testing.assert_close(value.detach(), wanted, rtol=1e-10, atol=0, msg=lambda m: f"{name}: {m}")
    torch.testing.assert_close(gradient, wanted_gradient, rtol=1e-8, atol=atol, msg=lambda m: f"{name}: {m}")


def test_asymmetric_loss_over_a_softmax(golden_tensors):
    walked = 0
    for name, setting, given, wanted in golden_tensors("asymmetric_loss"):
        if setting["kind"] == "single-label":
            scores = given["logits"].requires_grad_()
            loss = AsymmetricSoftmaxLoss(setting["gamma_pos"], setting["gamma_neg"], label_smoothing=setting["eps"])
            value = loss(scores, given["target"])
            check(value, scores, wanted["loss_f64"], wanted["grad_logits_f64"], name, atol=1e-12)
            walked += 1
    assert walked == 3


def test_asymmetric_loss(golden_tensors):
    walked, saturated = 0, []
    for name, setting, given, wanted in golden_tensors("asymmetric_loss"):
        if setting["kind"] == "single-label":
            continue
        scores, target = given["logits"].requires_grad_(), given["target"]
        focus_and_clip = setting["gamma_pos"], setting["gamma_neg"], setting["clip"]
        options = {"detach_factor": setting["disable_grad_of_focusing_weight"], "reduction": "sum"}
        legacy = AsymmetricLoss(*focus_and_clip, legacy_clamp=True, **options)(scores, target)
        check(legacy, scores, wanted["loss_f64"], wanted["grad_logits_f64"], name, atol=1e-12)

        # The original clamps logarithms at log(1e-8): badly wrong entries saturate and lose their gradient there.
        value = AsymmetricLoss(*focus_and_clip, **options)(scores, target)
        clamped = clamped_entries(scores.detach(), target, setting)
        if clamped.any():
            saturated.append(name)
            gradient = torch.autograd.grad(value, scores)[0]
            torch.testing.assert_close(gradient[~clamped], wanted["grad_logits_f64"][~clamped], rtol=1e-8, atol=1e-12)
            assert value > legacy
            assert (wanted["grad_logits_f64"][clamped] == 0).all()
            assert (gradient[clamped].abs() > 1e-3).all(), "ours keeps the gradient of badly wrong entries"
        else:
            check(value, scores, wanted["loss_f64"], wanted["grad_logits_f64"], name, atol=1e-12)
        walked += 1
    assert walked == 9
    assert saturated == ["ml_extreme_0", "ml_extreme_1", "ml_extreme_2"]


def clamped_entries(scores, target, setting):
    probability = torch.sigmoid(scores)
    of_positives = (target > 0) & (probability < setting["eps"])
    of_negatives = (target == 0) & ((1 - probability + setting["clip"]).clamp(max=1) < setting["eps"])
    return of_positives | of_negatives


def test_bp_mll(golden_tensors):
    walked = 0
    for name, _, given, wanted in golden_tensors("bpmll"):
        outputs = given["outputs"].requires_grad_()
        for reduction, value_key, gradient_key in (
            ("mean", "loss_f64", "grad_outputs_f64"), ("sum", "loss_sum_f64", "grad_sum_f64")
        ):  # fmt: skip
            value = BPMLLLoss(log=False, reduction=reduction)(outputs, given["target"])
            check(value, outputs, wanted[value_key].reshape(()), wanted[gradient_key], name, atol=1e-14)
        walked += 1
    assert walked == 6
