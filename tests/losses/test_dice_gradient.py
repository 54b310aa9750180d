"""The dice family with its gradient written out gives what the plain formulas give, in one block of rows or in many."""

import pytest
import torch

from tailwise.losses import written_gradient
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


@pytest.fixture(params=["one block", "small blocks"])
def _blocks(request, monkeypatch):
    if request.param == "small blocks":
        monkeypatch.setattr(written_gradient, "_BLOCK", 80)
        monkeypatch.setattr(written_gradient, "_SHORT_ROW", 1)
        assert 0 < written_gradient.block_rows(CLASSES) < ROWS / 2


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


@pytest.mark.usefixtures("_blocks")
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


@pytest.mark.usefixtures("_blocks")
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


def test_rows_of_a_block_start_where_vector_registers_do():
    for columns in (1, 3, 10, 1000, 4096, 20_000, 100_001):
        rows = written_gradient.block_rows(columns)
        assert rows >= 1
        assert rows * columns % 16 == 0


def test_softmax_of_short_and_long_rows():
    for columns in (1, 2, 64, 65):
        logits = torch.randn(7, columns, dtype=torch.float64) * 30
        torch.testing.assert_close(written_gradient.softmax_of(logits), torch.softmax(logits, dim=1))
