"""Asymmetric losses: naive re-derivation, the sum with its gradient written out, limits, the released code's clamp."""

import math

import pytest
import torch
from torch.nn import functional

from tailwise.errors import SettingError
from tailwise.losses.asymmetric import AsymmetricLoss, AsymmetricSoftmaxLoss, asymmetric_values

FOCUSES = [0.0, 0.25, 0.5, 1.0, 2.0, 3.0, 3.5, 4.0, 5.0]


def batch(rows=8, labels=6, scale=1.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    scores = scale * torch.randn(rows, labels, dtype=torch.float64, generator=generator)
    target = (torch.rand(rows, labels, generator=generator) < 0.3).long()
    target[0], target[1] = 0, 1
    return scores.to(dtype), target


def value_and_gradient(loss, scores, target):
    scores = scores.clone().requires_grad_()
    value = loss(scores, target)
    (gradient,) = torch.autograd.grad(value.sum(), scores)
    return value.detach(), gradient


def naive(z, y, positive_focus, negative_focus, clip):
    p = 1 / (1 + math.exp(-z))
    q = max(p - clip, 0.0)
    absent = q**negative_focus * -math.log(1 - q) if q else 0.0
    return y * (1 - p) ** positive_focus * -math.log(p) + (1 - y) * absent


@pytest.mark.parametrize("setting", [(1.0, 4.0, 0.05), (0.0, 4.0, 0.05), (0.5, 2.5, 0.2), (2.0, 0.0, 0.0)])
def test_values_equal_their_definition_for_hard_and_soft_targets(setting):
    scores, target = batch()
    for labels in (target.double(), torch.linspace(0, 1, 48, dtype=torch.float64).reshape(8, 6)):
        found = AsymmetricLoss(*setting, reduction="none")(scores, labels)
        for z, y, value in zip(scores.flatten(), labels.flatten(), found.flatten(), strict=True):
            assert float(value) == pytest.approx(naive(float(z), float(y), *setting), rel=1e-10)


def test_reductions_are_means_and_sums_of_the_values():
    scores, target = batch()
    values = AsymmetricLoss(reduction="none")(scores, target)
    for reduction, wanted in (("sum", values.sum()), ("mean", values.mean()), ("row_mean", values.sum(dim=1).mean())):
        torch.testing.assert_close(AsymmetricLoss(reduction=reduction)(scores, target), wanted)


def test_negatives_of_probability_below_the_clip_cost_nothing_and_pull_nothing():
    scores = torch.tensor([[-6.0, math.log(0.04 / 0.96), math.log(0.06 / 0.94)]], dtype=torch.float64)
    for reduction in ("sum", "none"):
        value, gradient = value_and_gradient(AsymmetricLoss(reduction=reduction), scores, torch.zeros(1, 3).long())
        assert value.sum() > 0
        assert gradient[0, :2].tolist() == [0.0, 0.0]
        assert gradient[0, 2] > 0


def test_without_focus_and_clip_it_is_binary_cross_entropy():
    scores, target = batch(scale=5.0)
    for reduction in ("mean", "sum", "none"):
        wanted = value_and_gradient(
            lambda z, y, how=reduction: functional.binary_cross_entropy_with_logits(z, y.double(), reduction=how),
            scores,
            target,
        )
        torch.testing.assert_close(
            value_and_gradient(AsymmetricLoss(0.0, 0.0, 0.0, reduction=reduction), scores, target), wanted
        )


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("clip", [0.0, 0.05, 0.5])
@pytest.mark.parametrize("focus", FOCUSES)
def test_the_written_sum_and_gradient_are_those_of_the_values(focus, clip, detach):
    for scores, target in (batch(), batch(scale=30.0)):
        for labels in (target, target.double() * 0.7):
            sums, values = (
                AsymmetricLoss(focus, focus, clip, detach_factor=detach, reduction=reduction)
                for reduction in ("sum", "none")
            )
            value, gradient = value_and_gradient(sums, scores, labels)
            each, wanted = value_and_gradient(values, scores, labels)
            torch.testing.assert_close(value, each.sum())
            torch.testing.assert_close(gradient, wanted)


@pytest.mark.parametrize("layout", ["transposed", "sliced", "expanded"])
def test_the_layout_of_scores_and_targets_does_not_matter(layout):
    scores, target = batch(6, 6)
    scores = {
        "transposed": scores.t(),
        "sliced": torch.cat([scores, -scores], dim=1)[:, ::2],
        "expanded": scores[:1].expand(6, 6),
    }[layout]
    loss = AsymmetricLoss()
    for labels in (target, target.t()):
        wanted = value_and_gradient(loss, scores.contiguous(), labels.contiguous())
        torch.testing.assert_close(value_and_gradient(loss, scores, labels), wanted)


@pytest.mark.parametrize("clip", [0.0, 0.05])
def test_the_sum_in_float32_keeps_its_digits_where_all_is_well_fitted(clip):
    generator = torch.Generator().manual_seed(0)
    target = (torch.rand(64, 2000, generator=generator) < 0.005).long()
    noise = torch.randn(64, 2000, generator=generator)
    scores = torch.where(target > 0, 12.0 + noise, -8.0 + noise)
    wanted = AsymmetricLoss(1.0, 4.0, clip, reduction="none")(scores.double(), target).sum()
    found = AsymmetricLoss(1.0, 4.0, clip, reduction="sum")(scores, target)
    assert float(found) == pytest.approx(float(wanted), rel=1e-4)
    assert float(found) > 0


def test_detached_factors_weigh_the_gradient_of_binary_cross_entropy():
    scores, target = batch()
    loss = AsymmetricLoss(2.0, 3.0, 0.0, detach_factor=True, reduction="sum")
    _, gradient = value_and_gradient(loss, scores, target)
    p = torch.sigmoid(scores)
    torch.testing.assert_close(gradient, torch.where(target > 0, (1 - p) ** 2 * (p - 1), p**3 * p))


@pytest.mark.parametrize("setting", [(1.0, 4.0, 0.05), (0.5, 1.0, 0.0), (0.0, 0.5, 0.05), (2.0, 2.5, 0.3)])
def test_first_and_second_derivatives(setting):
    scores, target = batch(4, 4)
    target[2, 1] = -100
    loss = AsymmetricLoss(*setting)
    for labels in (target, target.clamp(min=0)):
        assert torch.autograd.gradcheck(lambda z, y=labels: loss(z, y), scores.requires_grad_())
        assert torch.autograd.gradgradcheck(lambda z, y=labels: loss(z, y), scores)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("detach", [False, True])
def test_value_and_gradient_are_finite_whatever_the_setting(dtype, detach):
    target = (torch.arange(32).reshape(2, 16) % 3 == 0).long()
    for scale in (30.0, 100.0, 1e4):
        scores = (scale * torch.linspace(-1, 1, 32).reshape(2, 16)).to(dtype)
        for focus in FOCUSES:
            for clip in (0.0, 1e-12, 1e-7, 0.05, 0.999):
                for reduction in ("sum", "none"):
                    loss = AsymmetricLoss(focus, focus, clip, detach_factor=detach, reduction=reduction)
                    value, gradient = value_and_gradient(loss, scores, target)
                    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
                    assert torch.isfinite(value).all(), (scale, focus, clip, reduction)
                    assert torch.isfinite(gradient).all(), (scale, focus, clip, reduction)


def test_the_legacy_clamp_bounds_each_logarithm_and_stops_its_gradient():
    scores = torch.tensor([[-30.0, 30.0, -3.0, 3.0]], dtype=torch.float64)
    target = torch.tensor([[1, 0, 1, 0]])
    for reduction in ("sum", "none"):
        setting = {"clip": 0.0, "reduction": reduction}
        value, gradient = value_and_gradient(AsymmetricLoss(0, 0, legacy_clamp=True, **setting), scores, target)
        plain, slope = value_and_gradient(AsymmetricLoss(0, 0, **setting), scores, target)
        assert float(value.sum()) == pytest.approx(float(plain.sum()) - 2 * (30.0 + math.log(1e-8)), rel=1e-10)
        assert gradient[0, :2].tolist() == [0.0, 0.0]
        assert slope[0, :2].abs().min() > 0.99
        torch.testing.assert_close(gradient[0, 2:], slope[0, 2:])


def test_the_callers_tensors_and_the_gradient_mode_stay_as_they_are():
    scores, target = batch()
    before = scores.clone(), target.clone()
    AsymmetricLoss(detach_factor=True)(scores.requires_grad_(), target).backward()
    assert torch.equal(scores, before[0])
    assert torch.equal(target, before[1])
    with torch.no_grad():
        assert not AsymmetricLoss()(scores, target).requires_grad
        assert not torch.is_grad_enabled()


def naive_single(z, y, positive_focus, negative_focus, smoothing):
    total = math.fsum(math.exp(s) for s in z)
    value = 0.0
    for j, score in enumerate(z):
        p = math.exp(score) / total
        share = smoothing / len(z) + (1 - smoothing) * (j == y)
        value -= share * ((1 - p) ** positive_focus if j == y else p**negative_focus) * math.log(p)
    return value


@pytest.mark.parametrize("setting", [(0.0, 4.0, 0.1), (1.0, 2.0, 0.3), (0.5, 0.5, 0.0), (2.0, 0.0, 1.0)])
def test_the_single_label_form_equals_its_definition(setting):
    scores, _ = batch()
    target = torch.arange(8) % 6
    loss = AsymmetricSoftmaxLoss(*setting[:2], label_smoothing=setting[2], reduction="none")
    for z, y, value in zip(scores.tolist(), target.tolist(), loss(scores, target).tolist(), strict=True):
        assert value == pytest.approx(naive_single(z, y, *setting), rel=1e-10)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_the_single_label_form_without_focus_is_cross_entropy(smoothing):
    scores, _ = batch()
    target = torch.tensor([0, 1, 2, 3, 4, 5, -100, 1])
    wanted = functional.cross_entropy(scores, target, label_smoothing=smoothing)
    torch.testing.assert_close(AsymmetricSoftmaxLoss(0.0, 0.0, label_smoothing=smoothing)(scores, target), wanted)


def test_derivatives_of_the_single_label_form():
    scores, _ = batch(4, 5)
    loss, target = AsymmetricSoftmaxLoss(1.0, 2.5), torch.tensor([0, 4, -100, 2])
    assert torch.autograd.gradcheck(lambda z: loss(z, target), scores.requires_grad_())
    assert torch.autograd.gradgradcheck(lambda z: loss(z, target), scores)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("focus", FOCUSES)
def test_the_single_label_form_is_finite(dtype, focus):
    for scores, target in (
        (1e4 * torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.5]]), torch.tensor([0, 0])),
        (torch.zeros(2, 3), torch.tensor([-100, -100])),
        (torch.zeros(1, 1), torch.tensor([0])),
    ):
        for smoothing in (0.0, 0.1, 1.0):
            loss = AsymmetricSoftmaxLoss(focus, focus, label_smoothing=smoothing)
            value, gradient = value_and_gradient(loss, scores.to(dtype), target)
            assert torch.isfinite(value)
            assert torch.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: AsymmetricLoss(math.inf),
            "`positive_focus` to be a finite number of at least 0, but got inf",
        ),
        (
            lambda: AsymmetricLoss(1.0, -2.0),
            "`negative_focus` to be a finite number of at least 0, but got -2",
        ),
        (lambda: AsymmetricLoss(clip=-0.1), r"Expected `clip` to lie in \[0, 1\), but got -0.1"),
        (lambda: AsymmetricSoftmaxLoss(math.nan), "Expected `positive_focus` to be a finite number of at least 0"),
        (lambda: AsymmetricSoftmaxLoss(negative_focus=-1), "Expected `negative_focus` to be a finite number"),
        (
            lambda: AsymmetricSoftmaxLoss(label_smoothing=-0.1),
            "Expected `label_smoothing` to lie between 0 and 1, but got -0.1",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_words(make, message):
    with pytest.raises(SettingError, match=message):
        make()


def test_the_pure_function_and_the_class_agree():
    scores, target = batch()
    found = asymmetric_values(scores, target.double(), 0.5, 2.0, 0.1)
    torch.testing.assert_close(found, AsymmetricLoss(0.5, 2.0, 0.1, reduction="none")(scores, target))
