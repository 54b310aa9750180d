"""Dice, self-adjusting dice and Tversky: naive re-derivation, limits, gradients, what is refused."""

import math

import pytest
import torch
from torch.nn import functional

from tailwise.errors import SettingError
from tailwise.losses.dice import BatchDiceLoss, DiceLoss
from tailwise.losses.self_adjusting_dice import SelfAdjustingDiceLoss
from tailwise.losses.tversky import TverskyLoss

torch.set_num_threads(1)
Z = torch.tensor([[2.0, 0.5, -1.0, 0.0], [0.2, 1.5, 0.3, -0.7], [-0.5, 0.1, 0.4, 1.2]], dtype=torch.float64)
Y = torch.tensor([0, 2, 3])

BY_ROW = {
    "dice": (DiceLoss, {}),
    "dice plain": (DiceLoss, {"squared": False, "smooth": 0.1}),
    "dice gold": (DiceLoss, {"classes": "gold"}),
    "dice gold plain": (DiceLoss, {"classes": "gold", "squared": False}),
    "adl": (SelfAdjustingDiceLoss, {}),
    "adl squared": (SelfAdjustingDiceLoss, {"squared": True, "focus": 0.5, "detach_factor": False}),
    "adl gold": (SelfAdjustingDiceLoss, {"classes": "gold"}),
    "adl gold 1": (SelfAdjustingDiceLoss, {"classes": "gold", "focus": 1.0, "detach_factor": False}),
}
BY_BATCH = {
    "batch dice": (BatchDiceLoss, {}),
    "batch dice plain": (BatchDiceLoss, {"squared": False, "absent": "penalise"}),
    "tversky": (TverskyLoss, {}),
    "tversky focal": (TverskyLoss, {"focal_exponent": 0.75, "absent": "penalise"}),
}
DETACHED = {"adl gold 2 detached": (SelfAdjustingDiceLoss, {"classes": "gold", "focus": 2.0})}
EVERY = BY_ROW | BY_BATCH | DETACHED


def made(name, **kwargs):
    kind, setting = EVERY[name]
    return kind(**setting, **kwargs)


def batch(rows=12, classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, classes, dtype=torch.float64, generator=generator) * 2
    target = torch.arange(rows) % classes
    target[:2] = -100
    return logits, target


def naive_row(logits, gold, loss):
    exps = [math.exp(v) for v in logits]
    total, focus = 0.0, getattr(loss, "focus", 0.0)
    for j, e in enumerate(exps):
        if loss.classes == "gold" and j != gold:
            continue
        p, y, power = e / sum(exps), float(j == gold), 2 if loss.squared else 1
        f = (1 - p) ** focus * p
        total += 1 - (2 * f * y + loss.smooth) / (f**power + y**power + loss.smooth)
    return total


@pytest.mark.parametrize("name", BY_ROW)
def test_values_equal_a_naive_loop_over_rows(name):
    logits, target = batch()
    weights = [0.5, 1.0, 2.0, 0.0]
    loss = made(name, reduction="none", class_weights=weights)
    wanted = [
        0.0 if y < 0 else weights[y] * naive_row(row, y, loss)
        for row, y in zip(logits.tolist(), target.tolist(), strict=True)
    ]
    assert loss(logits, target).tolist() == pytest.approx(wanted, rel=1e-9, abs=1e-14)
    assert made(name, class_weights=weights)(logits, target).item() == pytest.approx(sum(wanted) / 10, rel=1e-9)
    weighted = made(name, class_weights=weights, reduction="weighted_mean")(logits, target)
    assert weighted.item() == pytest.approx(sum(wanted) / sum(weights[y] for y in target.tolist() if y >= 0), rel=1e-9)


def test_golden_numbers_of_the_specification():
    assert DiceLoss()(Z, Y).item() == pytest.approx(0.294544, abs=1e-6)
    assert DiceLoss(classes="gold")(Z, Y).item() == pytest.approx(0.157396, abs=1e-6)
    assert BatchDiceLoss()(Z, Y).item() == pytest.approx(0.169308, abs=1e-6)
    per_class = [0.046813, 0.288869, 0.349033, 0.112078]
    assert BatchDiceLoss(absent="penalise")(Z, Y).item() == pytest.approx(sum(per_class) / 4, abs=1e-6)
    assert TverskyLoss(absent="penalise")(Z, Y).item() == pytest.approx(0.230047, abs=1e-6)
    paper = SelfAdjustingDiceLoss(1.0, classes="gold", detach_factor=False)
    assert paper(Z, Y).item() == pytest.approx(0.363601, abs=1e-6)
    for p in (0.1, 0.9):
        logits = torch.tensor([[p, 1 - p]], dtype=torch.float64).log()
        assert paper(logits, torch.tensor([0])).item() == pytest.approx(0.435407, abs=1e-6)


def test_batch_losses_equal_a_naive_loop_over_classes():
    logits, target = batch()
    target[target == 3] = 0  # class 3 is absent
    rows, golds = logits[2:], target[2:].tolist()
    p = torch.softmax(rows, dim=1).tolist()
    weight = [0.5 + 0.25 * i for i in range(10)]
    dice, tversky = [], []
    for j in range(4):
        y = [float(g == j) for g in golds]
        hits = sum(w * r[j] * t for w, r, t in zip(weight, p, y, strict=True))
        squares = sum(w * (r[j] ** 2 + t) for w, r, t in zip(weight, p, y, strict=True))
        dice.append(1 - (2 * hits + 0.5) / (squares + 0.5))
        wrong = sum(w * r[j] * (1 - t) for w, r, t in zip(weight, p, y, strict=True))
        missed = sum(w * (1 - r[j]) * t for w, r, t in zip(weight, p, y, strict=True))
        tversky.append((1 - (hits + 0.5) / (hits + 0.2 * wrong + 0.9 * missed + 0.5)) ** 0.75)
    given = torch.tensor([1.0, 1.0, *weight])
    for absent, classes in (("ignore", 3), ("penalise", 4)):
        loss = BatchDiceLoss(smooth=0.5, absent=absent)
        assert loss(logits, target, sample_weight=given).item() == pytest.approx(sum(dice[:classes]) / classes)
        loss = TverskyLoss(0.2, 0.9, smooth=0.5, focal_exponent=0.75, absent=absent)
        assert loss(logits, target, sample_weight=given).item() == pytest.approx(sum(tversky[:classes]) / classes)


def test_relations_between_the_losses():
    logits, target = batch()
    for given in ({"classes": "all"}, {"classes": "gold"}):
        plain = DiceLoss(squared=False, **given)(logits, target)
        assert SelfAdjustingDiceLoss(0.0, **given)(logits, target).item() == pytest.approx(plain.item(), rel=1e-12)
    for absent in ("ignore", "penalise"):
        half = TverskyLoss(0.5, 0.5, smooth=0.5, absent=absent)(logits, target)
        dice = BatchDiceLoss(squared=False, smooth=1.0, absent=absent)(logits, target)
        assert half.item() == pytest.approx(dice.item(), rel=1e-12)


def test_a_detached_factor_keeps_the_smallest_loss_at_certainty():
    logits = torch.tensor([[2.0, 0.0]], dtype=torch.float64, requires_grad=True)  # p = 0.88
    target = torch.tensor([0])
    for classes, detach, rising in (("all", True, False), ("gold", True, False), ("gold", False, True)):
        loss = SelfAdjustingDiceLoss(1.0, classes=classes, detach_factor=detach)(logits, target)
        assert (torch.autograd.grad(loss, logits)[0][0, 0].item() > 0) == rising
    assert [SelfAdjustingDiceLoss(b).detach_factor for b in (0.01, 0.1, 0.2, 1.0)] == [False, False, True, True]


def test_two_classes_and_focus_1_say_nothing_about_the_label():
    logits = torch.randn(6, 2, dtype=torch.float64)
    loss = SelfAdjustingDiceLoss(1.0, detach_factor=False, reduction="none")
    one, other = (loss(logits, torch.full((6,), y)) for y in (0, 1))
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("classes", ["all", "gold"])
def test_a_small_focus_does_not_jump_where_1_minus_p_is_below_the_precision_of_p(classes):
    loss = SelfAdjustingDiceLoss(classes=classes, smooth=1.0)
    for margin in (10.0, 16.0, 17.0, 20.0, 60.0):
        logits = torch.tensor([[margin, 0.0, 0.0]], requires_grad=True)
        exact = logits.detach().double().requires_grad_()
        found, wanted = loss(logits, torch.tensor([0])), loss(exact, torch.tensor([0]))
        f = math.exp(0.01 * (math.log(2) - margin - math.log1p(2 * math.exp(-margin)))) / (1 + 2 * math.exp(-margin))
        assert wanted.item() == pytest.approx((1 - f) / (f + 2), abs=2e-4 if classes == "all" else 1e-12)
        assert found.item() == pytest.approx(wanted.item(), rel=1e-5)
        torch.testing.assert_close(
            torch.autograd.grad(found, logits)[0].double(), torch.autograd.grad(wanted, exact)[0], rtol=1e-3, atol=1e-7
        )


@pytest.mark.parametrize("name", BY_ROW | DETACHED)
def test_the_mean_written_out_equals_the_plain_formula(name):
    logits, target = batch()
    weights = [0.5, 1.0, 2.0, 0.0]
    for kwargs in ({}, {"class_weights": weights}, {"class_weights": weights, "reduction": "weighted_mean"}):
        loss = made(name, **kwargs)
        written, plain = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        one = loss(written, target)
        other = loss(plain, target, normalizer=loss.denominator(target))
        assert one.item() == pytest.approx(other.item(), rel=1e-12)
        torch.testing.assert_close(
            torch.autograd.grad(3 * one, written)[0], torch.autograd.grad(3 * other, plain)[0], rtol=1e-10, atol=1e-14
        )


@pytest.mark.parametrize("name", BY_ROW | BY_BATCH)
def test_gradients(name):
    logits, target = batch(6, 3)
    logits.requires_grad_()
    loss = made(name)
    assert torch.autograd.gradcheck(lambda z: loss(z, target), logits)
    assert torch.autograd.gradgradcheck(lambda z: loss(z, target), logits)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_everything_is_finite(name, dtype):
    high = 6e4 if dtype == torch.float16 else 1e4
    rows = torch.tensor([[high, -high, 0.0], [-high, high, 0.0], [0.0, 0.0, 0.0], [90.0, 0.0, 0.0], [17.0, 0.0, 0.0]])
    loss = made(name)
    for logits, target in (
        (rows, torch.tensor([0, 0, 1, 0, 0])),
        (rows, torch.tensor([2, 2, 2, 2, 2])),
        (rows, torch.tensor([1, 0, 1, 1, -100])),
        (rows[:1], torch.tensor([0])),
        (rows[:2], torch.tensor([-100, -100])),
        (rows[:, :1], torch.tensor([0, 0, 0, -100, 0])),
        (rows[:0], torch.tensor([], dtype=torch.long)),
    ):
        z = logits.to(dtype).requires_grad_()
        before = z.detach().clone()
        value = loss(z, target)
        gradient = torch.autograd.grad(value, z)[0]
        assert value.isfinite()
        assert gradient.isfinite().all()
        assert gradient[target == -100].count_nonzero() == 0
        assert torch.equal(z.detach(), before)


@pytest.mark.parametrize("focus", [0.0, 0.25, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("classes", ["all", "gold"])
def test_every_focus_is_finite(focus, detach, classes):
    z = torch.tensor([[1e4, -1e4, 0.0], [90.0, 0.0, 0.0], [17.0, 0.0, 0.0]], requires_grad=True)
    for target in (torch.tensor([0, 0, 0]), torch.tensor([1, 2, 1])):
        value = SelfAdjustingDiceLoss(focus, detach_factor=detach, classes=classes)(z, target)
        assert value.isfinite()
        assert torch.autograd.grad(value, z)[0].isfinite().all()


@pytest.mark.parametrize("name", EVERY)
def test_ignored_rows_and_the_order_of_classes_change_nothing(name):
    logits, target = batch()
    loss, valid = made(name), target >= 0
    value = loss(logits, target).item()
    assert loss(logits[valid], target[valid]).item() == pytest.approx(value, rel=1e-12)
    order = torch.tensor([2, 0, 3, 1])
    renamed = order.argsort()[target.clamp_min(0)].where(valid, -100)
    assert loss(logits[:, order], renamed).item() == pytest.approx(value, rel=1e-12)


def test_the_best_prediction_costs_nothing():
    logits = 60.0 * functional.one_hot(torch.tensor([0, 1, 2, 1]), 3).double()
    for name in ("dice", "dice plain", "dice gold", "batch dice", "tversky"):
        assert made(name)(logits, torch.tensor([0, 1, 2, 1])).item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DiceLoss(smooth=0.0), "Expected `smooth` to be a finite number above 0"),
        (lambda: BatchDiceLoss(smooth=-1.0), "Expected `smooth` to be a finite number above 0"),
        (lambda: TverskyLoss(smooth=float("nan")), "Expected `smooth` to be a finite number above 0"),
        (lambda: DiceLoss(classes="some"), "Expected argument `classes` to be one of all, gold, but got 'some'"),
        (lambda: SelfAdjustingDiceLoss(classes=""), "Expected argument `classes` to be one of all, gold"),
        (lambda: BatchDiceLoss(absent="drop"), "Expected argument `absent` to be one of ignore, penalise"),
        (lambda: SelfAdjustingDiceLoss(-0.1), "Expected `focus` to be a finite number of at least 0, but got -0.1"),
        (lambda: TverskyLoss(-0.1), "Expected `false_positive_weight` and `false_negative_weight` to be finite"),
        (lambda: TverskyLoss(0.0, 0.0), "not both 0, but got 0.0 and 0.0"),
        (lambda: TverskyLoss(focal_exponent=0.0), "Expected `focal_exponent` to be a finite number above 0"),
        (lambda: BatchDiceLoss(reduction="sum"), "no reduction 'sum'"),
        (lambda: DiceLoss()(torch.zeros(2, 3), torch.tensor([0, 3])), "a target is outside the classes"),
        (lambda: BatchDiceLoss()(torch.zeros(2, 3), torch.tensor([0, 3])), "a target is outside the classes"),
        (lambda: TverskyLoss()(torch.zeros(2, 3), torch.tensor([0, 3])), "a target is outside the classes"),
        (lambda: DiceLoss(class_weights=[1, 2])(torch.zeros(2, 3), torch.tensor([0, 1])), "made for 2 classes"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(SettingError, match=message):
        make()
