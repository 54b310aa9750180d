"""Losses over label sets: naive re-derivations, published numbers, derivatives, limits, what is refused."""

import math

import pytest
import torch
from torch.nn import functional

from tailwise.errors import SettingError
from tailwise.losses.asymmetric import AsymmetricLoss, AsymmetricSoftmaxLoss, asymmetric_values
from tailwise.losses.bpmll import BPMLLLoss
from tailwise.losses.lsep import LSEPLoss
from tailwise.losses.two_way import TwoWayLoss
from tailwise.losses.zlpr import ZLPRLoss

SCORES = torch.tensor([[2.0, 0.5, -1.0, 0.0], [0.2, 1.5, 0.3, -0.7], [-0.5, 0.1, 0.4, 1.2]], dtype=torch.float64)
LABELS = torch.tensor([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]])

EVERY = {
    "asl": AsymmetricLoss(),
    "asl detached": AsymmetricLoss(detach_factor=True),
    "asl focus 1": AsymmetricLoss(0.5, 1.0, 0.0),
    "asl focus 0.5": AsymmetricLoss(0.0, 0.5, 0.05),
    "bp-mll": BPMLLLoss(),
    "bp-mll tanh": BPMLLLoss(log=False, activation="tanh"),
    "bp-mll raw": BPMLLLoss(log=False),
    "lsep": LSEPLoss(),
    "zlpr": ZLPRLoss(),
    "two-way": TwoWayLoss(),
}


@pytest.fixture(params=list(EVERY))
def loss(request):
    return EVERY[request.param]


def batch(rows=6, labels=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(rows, labels, dtype=torch.float64, generator=generator)
    target = (torch.rand(rows, labels, generator=generator) < 0.4).long()
    target[0], target[1] = 0, 1
    return scores, target


def test_published_numbers():
    assert float(AsymmetricLoss(reduction="sum")(SCORES, LABELS)) == pytest.approx(1.039195, abs=1e-6)
    assert float(TwoWayLoss()(SCORES, LABELS)) == pytest.approx(2.352888, abs=1e-6)
    rows = ZLPRLoss(reduction="none")(SCORES, LABELS)
    assert rows.tolist() == pytest.approx([1.862754, 1.604527, 2.018050], abs=1e-6)
    pairs = BPMLLLoss(log=False, activation="tanh", reduction="none")(SCORES, LABELS)
    assert pairs.tolist() == pytest.approx([0.709447, 0.418343, 0.0], abs=1e-6)


def test_pairwise_losses_equal_their_double_sums():
    scores, target = batch()
    lsep, exact = LSEPLoss(reduction="none")(scores, target), BPMLLLoss(log=False, reduction="none")(scores, target)
    logarithm = BPMLLLoss(reduction="none")(scores, target)
    for i, (z, y) in enumerate(zip(scores.tolist(), target.tolist(), strict=True)):
        has, lacks = [z[j] for j in range(5) if y[j]], [z[j] for j in range(5) if not y[j]]
        total = sum(math.exp(low - high) for high in has for low in lacks)
        pairs = len(has) * len(lacks)
        assert float(lsep[i]) == pytest.approx(math.log1p(total), rel=1e-12)
        assert float(exact[i]) == pytest.approx(total / pairs if pairs else 0.0, rel=1e-12)
        assert float(logarithm[i]) == pytest.approx(math.log(total / pairs) if pairs else 0.0, rel=1e-12)


def test_the_logarithm_of_bp_mll_falls_without_end_and_lsep_levels_off():
    target = torch.tensor([[1, 0]])
    for gap in (10.0, 100.0):
        scores = torch.tensor([[gap, 0.0]], dtype=torch.float64, requires_grad=True)
        assert float(BPMLLLoss()(scores, target).detach()) == pytest.approx(-gap)
        assert torch.autograd.grad(BPMLLLoss()(scores, target), scores)[0].tolist() == [[-1.0, 1.0]]
        assert 0.0 <= float(LSEPLoss()(scores, target).detach()) < 1e-4


def test_zlpr_and_two_way_equal_their_definitions():
    scores, target = batch()
    found = ZLPRLoss(reduction="none")(scores, target)
    for i, (z, y) in enumerate(zip(scores.tolist(), target.tolist(), strict=True)):
        high = math.log1p(sum(math.exp(-z[j]) for j in range(5) if y[j]))
        low = math.log1p(sum(math.exp(z[j]) for j in range(5) if not y[j]))
        assert float(found[i]) == pytest.approx(high + low, rel=1e-12)

    def one_way(z, y):
        values = []
        for scores_, labels in zip(z.tolist(), y.tolist(), strict=True):
            has = [s for s, label in zip(scores_, labels, strict=True) if label]
            lacks = [s for s, label in zip(scores_, labels, strict=True) if not label]
            if has and lacks:
                low = math.log(sum(math.exp(s) for s in lacks)) + 4 * math.log(sum(math.exp(-s / 4) for s in has))
                values.append(math.log1p(math.exp(low)))
            elif has:
                values.append(0.0)
        return sum(values) / len(values)

    wanted = one_way(scores, target) + one_way(scores.T, target.T)
    assert float(TwoWayLoss()(scores, target)) == pytest.approx(wanted, rel=1e-12)


def test_asymmetric_loss_equals_its_definition_and_neutral_settings_are_cross_entropy():
    scores, target = batch()
    found = asymmetric_values(scores, target.double(), 1.0, 4.0, 0.05)
    for z, y, value in zip(scores.flatten(), target.flatten(), found.flatten(), strict=True):
        p = 1 / (1 + math.exp(-z))
        q = max(p - 0.05, 0.0)
        assert float(value) == pytest.approx(-(1 - p) * math.log(p) if y else -(q**4) * math.log(1 - q), rel=1e-10)
    plain = functional.binary_cross_entropy_with_logits(scores, target.double())
    torch.testing.assert_close(AsymmetricLoss(0.0, 0.0, 0.0)(scores, target), plain)
    single = target.argmax(1)
    torch.testing.assert_close(
        AsymmetricSoftmaxLoss(0.0, 0.0, label_smoothing=0.0)(scores, single), functional.cross_entropy(scores, single)
    )


@pytest.mark.parametrize("clip", [0.0, 0.05])
@pytest.mark.parametrize("focus", [0.0, 0.5, 1.0, 4.0])
def test_the_fused_sum_of_the_asymmetric_loss_is_the_sum_of_its_values(focus, clip):
    scores, target = batch(rows=20)
    scores.requires_grad_()
    loss = AsymmetricLoss(1.0, focus, clip, reduction="sum")
    fused, plain = loss(scores, target), AsymmetricLoss(1.0, focus, clip, reduction="none")(scores, target).sum()
    torch.testing.assert_close(fused, plain)
    torch.testing.assert_close(torch.autograd.grad(fused, scores)[0], torch.autograd.grad(plain, scores)[0])


def test_first_and_second_derivatives(loss):
    scores, target = batch()
    if not getattr(loss, "detach_factor", False):
        assert torch.autograd.gradcheck(lambda z: loss(z, target), scores.requires_grad_())
        assert torch.autograd.gradgradcheck(lambda z: loss(z, target), scores)


def test_parts_of_a_batch_add_up_or_are_refused(loss):
    scores, target = batch()
    target[2, 3] = -100
    if not loss.separable:
        with pytest.raises(SettingError, match="compares the rows of a batch"):
            loss(scores, target, normalizer=3.0)
        return
    whole = loss(scores, target)
    normalizer = loss.denominator(target[:2]) + loss.denominator(target[2:])
    parts = loss(scores[:2], target[:2], normalizer=normalizer) + loss(scores[2:], target[2:], normalizer=normalizer)
    torch.testing.assert_close(parts, whole)


def test_unknown_labels_take_no_part(loss):
    scores, target = batch()
    target[:, 4] = -100
    with_column, without = loss(scores, target), loss(scores[:, :4], target[:, :4])
    torch.testing.assert_close(with_column, without)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("case", ["nothing", "everything", "one row", "one label", "unknown", "large", "extreme"])
def test_value_and_gradient_are_finite(loss, dtype, case):
    scores, target = batch()
    if case in ("nothing", "everything"):
        target[:] = int(case == "everything")
    if case == "one row":
        scores, target = scores[2:3], target[2:3]
    if case == "one label":
        scores, target = scores[:, :1], target[:, :1]
    if case == "unknown":
        target[:] = -100
    scores = scores * {"large": 60.0, "extreme": 1e4 if dtype != torch.float16 else 1e3}.get(case, 1.0)
    scores = scores.to(dtype).requires_grad_()
    before = scores.detach().clone(), target.clone()
    value = loss(scores, target)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(scores.grad).all()
    assert torch.equal(scores, before[0])
    assert torch.equal(target, before[1])
    if case == "unknown":
        assert float(value.detach()) == 0.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("focus", [0.0, 0.5, 2.0])
def test_the_single_label_form_is_finite_and_differentiable(dtype, focus):
    loss = AsymmetricSoftmaxLoss(focus, 4.0)
    for scale in (1.0, 1e4):
        scores = (scale * SCORES).to(dtype).requires_grad_()
        value = loss(scores, torch.tensor([0, 2, -100]))
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(scores.grad).all()
    assert torch.autograd.gradcheck(lambda z: loss(z, torch.tensor([0, 2, 3])), SCORES.clone().requires_grad_())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AsymmetricLoss(-1.0), "`positive_focus` to be a finite number of at least 0"),
        (lambda: AsymmetricLoss(negative_focus=float("nan")), "`negative_focus`"),
        (lambda: AsymmetricLoss(clip=1.0), r"`clip` to lie in \[0, 1\)"),
        (lambda: AsymmetricSoftmaxLoss(label_smoothing=2.0), "`label_smoothing` to lie between 0 and 1"),
        (lambda: BPMLLLoss(activation="relu"), "`activation` to be one of none, tanh, sigmoid"),
        (lambda: TwoWayLoss(positive_temperature=0.0), "`positive_temperature` to be a finite number larger than 0"),
        (lambda: ZLPRLoss(reduction="average"), "`reduction` to be one of mean, row_mean, sum, none"),
        (lambda: ZLPRLoss()(SCORES, LABELS[:, :3]), r"expected logits and target \(M, C\)"),
        (lambda: LSEPLoss()(SCORES, LABELS * 2), "expected targets 0, 1 or -100"),
        (lambda: LSEPLoss()(SCORES, LABELS * 0.5), "expected targets 0, 1 or -100"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(make, message):
    with pytest.raises(SettingError, match=message):
        make()
