"""Losses with their gradient written out, in compiled loops, give what the plain formulas give."""

import sys

import numpy as np
import pytest
import torch

from tailwise.errors import SettingError
from tailwise.losses import (
    BalancedSoftmaxLoss,
    BatchDiceLoss,
    DiceLoss,
    FocalLoss,
    SelfAdjustingDiceLoss,
    TverskyLoss,
    VectorScalingLoss,
    compilation,
    kernels,
    written_gradient,
)
from tailwise.losses.class_ratios import RatioSetting, class_ratios, mean_class_ratio, mean_over_classes
from tailwise.losses.dice import dice_values
from tailwise.losses.dice_gradient import DiceSetting, instance_dice_with_gradient
from tailwise.losses.self_adjusting_dice import self_adjusting_dice_values

ROWS, CLASSES = 37, 5
FORMS = [
    DiceSetting(squared, smooth, gold, focus, detach)
    for squared in (False, True)
    for smooth in (1.0, 0.01)
    for gold in (False, True)
    for focus, detach in ((0.0, False), (0.01, False), (0.5, False), (1.0, False), (2.0, True))
]


def batch(scale, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    logits = scale * torch.randn(ROWS, CLASSES, dtype=torch.float64, generator=generator)
    target = torch.randint(CLASSES, (ROWS,), generator=generator)
    weight = torch.rand(ROWS, dtype=torch.float64, generator=generator)
    weight[3] = 0.0
    return logits.to(dtype).requires_grad_(), target, weight.to(dtype)


def plain_total(logits, target, weight, form):
    classes = "gold" if form.gold else "all"
    if not form.focus:
        values = dice_values(logits, target, squared=form.squared, smooth=form.smooth, classes=classes)
    else:
        values = self_adjusting_dice_values(
            logits,
            target,
            form.focus,
            detach_factor=form.detach_factor,
            squared=form.squared,
            smooth=form.smooth,
            classes=classes,
        )
    return torch.dot(values, weight)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scale", [0.1, 2.0, 8.0])  # at 8 another class has next to all the probability of many rows
def test_instance_dice(form, scale):
    logits, target, weight = batch(scale)
    wanted = plain_total(logits, target, weight, form)
    total, gradient = instance_dice_with_gradient(logits.detach(), target, weight, form)
    torch.testing.assert_close(total, wanted.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient, torch.autograd.grad(wanted, logits)[0], rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("form", FORMS)
def test_instance_dice_keeps_its_digits_next_to_certainty(form):
    for scale in (5.0, 12.0):
        logits, target, weight = batch(scale, torch.float32)
        exact = logits.detach().double().requires_grad_()
        wanted = plain_total(exact, target, weight.double(), form)
        total, gradient = instance_dice_with_gradient(logits.detach(), target, weight, form)
        (slope,) = torch.autograd.grad(wanted, exact)
        assert abs(total.item() - wanted.item()) <= 1e-6 * wanted.item()
        assert torch.linalg.vector_norm(gradient - slope) <= 2e-6 * torch.linalg.vector_norm(slope)


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("exponent", [0.75, 1.0, 2.0])
@pytest.mark.parametrize("present_only", [False, True])
def test_class_ratios(squared, exponent, present_only):
    setting = RatioSetting(0.3, 0.7, 0.4, 0.6, 0.5, 0.2, squared, exponent, present_only)
    logits, target, weight = batch(2.0)
    target[target == 1] = 0
    values = class_ratios(torch.softmax(logits, dim=1), target, weight, setting)
    wanted = mean_over_classes(values, target, present_only=present_only)
    found = mean_class_ratio(logits, target, weight, setting)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)
    for loss, other in ((found, wanted), (3.0 * found, 3.0 * wanted)):
        ours, theirs = (torch.autograd.grad(value, logits, retain_graph=True)[0] for value in (loss, other))
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-15)


def test_softmax_of_short_and_long_rows():
    for columns in (1, 2, 64, 65):
        logits = torch.randn(7, columns, dtype=torch.float64) * 30
        torch.testing.assert_close(written_gradient.softmax_of(logits), torch.softmax(logits, dim=1))
        target = torch.randint(columns, (7,))
        probabilities, gold = written_gradient.softmax_and_log_of(logits, target)
        torch.testing.assert_close(probabilities, torch.softmax(logits, dim=1))
        torch.testing.assert_close(gold, torch.log_softmax(logits, dim=1)[torch.arange(7), target])


@pytest.mark.parametrize("focus", [0.01, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 5.0, 10.3, 100.0])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_powers_of_one_minus_p(focus, kind):
    row = np.concatenate([[0.0, 1e-30], np.geomspace(1e-12, 0.5, 2000)]).astype(kind)
    found = np.empty_like(row)
    kernels.fill_factors(row, focus, found, np.empty_like(row))
    roundings = 4.0 if focus < 1.0 else 5.0 + 2.0 * focus
    np.testing.assert_allclose(found, np.exp(focus * np.log1p(-row.astype(float))), rtol=roundings * np.finfo(kind).eps)


LOSSES = [
    FocalLoss(),
    FocalLoss(0.5, class_weights=[1.0, 2.0, 0.5, 0.0, 3.0]),
    DiceLoss(),
    DiceLoss(classes="gold", squared=False),
    SelfAdjustingDiceLoss(),
    SelfAdjustingDiceLoss(1.0),
    BatchDiceLoss(),
    TverskyLoss(focal_exponent=0.75),
    BalancedSoftmaxLoss([5, 4, 3, 2, 1]),
    VectorScalingLoss([5, 4, 3, 2, 1]),
]


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_numba_the_plain_formula_gives_the_same(loss, dtype, monkeypatch):
    logits, target, _ = batch(2.0, dtype)
    target[5] = -100
    strided = target.repeat_interleave(2)[::2]
    value = loss(logits, strided)
    (slope,) = torch.autograd.grad(value, logits)
    assert "_SumWithGradient" in type(value.grad_fn).__name__
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.setattr(written_gradient, "can_compile", compilation.can_compile.__wrapped__)
    plain = loss(logits, target)
    assert "_SumWithGradient" not in type(plain.grad_fn).__name__
    torch.testing.assert_close(value, plain)
    torch.testing.assert_close(slope, torch.autograd.grad(plain, logits)[0])


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
@pytest.mark.parametrize("wrong", [-1, CLASSES, 10**6])
def test_a_target_that_is_no_class_is_refused_before_anything_is_written(loss, wrong):
    logits, target, _ = batch(2.0)
    target[-1] = wrong
    with pytest.raises(SettingError, match="outside the classes"):
        loss(logits, target)


def test_a_loop_without_a_folder_for_its_code_is_compiled_all_the_same():
    space = {}
    exec("def twice(x):\n    return x + x", space)  # a function without a file
    assert compilation.compiled(space["twice"])(21) == 42


def test_exponents_without_measure_and_scores_without_bound():
    logits, target, _ = batch(1.0, torch.float32)
    for focus in (1e19, 1e30):
        value = SelfAdjustingDiceLoss(focus)(logits, target)
        (slope,) = torch.autograd.grad(value, logits)
        assert torch.isfinite(value)
        assert torch.isfinite(slope).all()
    largest = torch.finfo(torch.float32).max
    logits = torch.tensor([[largest, -largest]], requires_grad=True)
    (slope,) = torch.autograd.grad(FocalLoss()(logits, torch.tensor([1])), logits)
    torch.testing.assert_close(slope, torch.tensor([[1.0, -1.0]]))
