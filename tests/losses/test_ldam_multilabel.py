"""Multi-label LDAM: naive re-derivation, neutral settings, limits, what is refused."""

import math

import pytest
import torch
from torch.nn import functional

from tailwise.errors import SettingError
from tailwise.losses.ldam_multilabel import MultiLabelLDAMLoss

torch.set_num_threads(1)
COUNTS = [700, 150, 40, 8]
LOGITS = torch.tensor([[2.0, 0.5, -1.0, 0.0], [0.2, 1.5, 0.3, -0.7], [-0.5, 0.1, 0.4, 1.2]], dtype=torch.float64)
TARGET = torch.tensor([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]])


def batch(rows=8, soft=False):
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(rows, 4, dtype=torch.float64, generator=generator)
    target = (torch.rand(rows, 4, generator=generator) < 0.3).double()
    return logits, target * torch.rand(rows, 4, dtype=torch.float64, generator=generator) if soft else target


def naive(z, y, label, constant, scale, normalise):
    margin = constant * COUNTS[label] ** -0.25 / (min(COUNTS) ** -0.25 if normalise == "max" else 1.0)
    present = math.log(1 + math.exp(-scale * (z - margin)))
    return y * present + (1 - y) * math.log(1 + math.exp(scale * z))


@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("normalise", ["none", "max"])
@pytest.mark.parametrize("soft", [False, True])
def test_values_sum_and_gradient_equal_a_naive_loop_and_the_plain_formula(scale, normalise, soft):
    logits, target = batch(soft=soft)
    settings = {"margin_const": 2.0, "scale": scale, "normalise": normalise}
    wanted = [
        [naive(z, y, j, 2.0, scale, normalise) for j, (z, y) in enumerate(zip(*row, strict=True))]
        for row in zip(logits.tolist(), target.tolist(), strict=True)
    ]
    values = MultiLabelLDAMLoss(COUNTS, reduction="none", **settings)(logits.requires_grad_(), target)
    torch.testing.assert_close(values, torch.tensor(wanted, dtype=torch.float64), rtol=1e-10, atol=0)
    total = MultiLabelLDAMLoss(COUNTS, reduction="sum", **settings)(logits, target)
    torch.testing.assert_close(total, values.sum(), rtol=1e-13, atol=0)
    one, other = (torch.autograd.grad(value, logits)[0] for value in (total, values.sum()))
    torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-15)


def test_gradcheck():
    logits, target = batch(rows=3, soft=True)
    loss = MultiLabelLDAMLoss(COUNTS, scale=2.0)
    for function in (lambda z: loss(z, target), lambda z: loss.label_values(z, target, valid=None)):
        assert torch.autograd.gradcheck(function, logits.requires_grad_())
        assert torch.autograd.gradgradcheck(function, logits)


def test_the_example_of_the_specification():
    assert MultiLabelLDAMLoss(COUNTS)(LOGITS, TARGET).item() == pytest.approx(0.793046, abs=5e-7)


def test_margins_grow_with_rarity_and_the_largest_is_the_constant_where_asked():
    plain = MultiLabelLDAMLoss([10000, 16, 1]).margins
    assert plain.tolist() == pytest.approx([0.3, 1.5, 3.0])
    normalised = MultiLabelLDAMLoss([10000, 16], normalise="max", margin_const=1.0).margins
    assert normalised.tolist() == pytest.approx([0.2, 1.0])


def test_without_a_margin_it_is_binary_cross_entropy():
    logits, target = batch()
    wanted = functional.binary_cross_entropy_with_logits(logits, target)
    torch.testing.assert_close(MultiLabelLDAMLoss(COUNTS, margin_const=0)(logits, target), wanted, rtol=1e-14, atol=0)


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_the_effective_prior_is_what_the_best_scores_express(scale):
    loss = MultiLabelLDAMLoss(COUNTS, scale=scale)
    rates = torch.tensor([0.7, 0.5, 0.2, 0.1], dtype=torch.float64)
    target = torch.zeros(10, 4)
    for label, rate in enumerate(rates):
        target[: round(10 * rate.item()), label] = 1
    found = loss.effective_prior(rates)
    assert (found > rates).all()
    best = (torch.logit(found) / loss.inference_scale).requires_grad_()
    assert torch.autograd.grad(loss(best.expand(10, 4), target), best)[0].abs().max() < 1e-14
    ends = loss.effective_prior(torch.tensor([0.0, 1.0, 1e-12, 1 - 1e-12], dtype=torch.float64))
    assert torch.isfinite(ends).all()
    assert ends[:2].tolist() == [0.0, 1.0]


def test_a_label_without_an_instance_gets_the_margin_of_one_with_one():
    with pytest.warns(UserWarning, match="1 of 2 classes have no training instance"):
        loss = MultiLabelLDAMLoss([0, 16])
    assert loss.margins.tolist() == pytest.approx([3.0, 1.5])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_extreme_scores_give_finite_values_and_gradients_and_stay_as_they_are(dtype):
    pattern = torch.tensor([[1.0, -1.0, 0.0, 1.0], [-1.0, 1.0, 1.0, -1.0]])
    for scale in (0.0, 1.0, 79.0, 1e4):
        for target in (torch.zeros(2, 4), torch.ones(2, 4), torch.eye(4)[:2]):
            logits = (scale * pattern).to(dtype).requires_grad_()
            before = logits.detach().clone()
            value = MultiLabelLDAMLoss(COUNTS)(logits, target)
            (gradient,) = torch.autograd.grad(value, logits)
            assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
            assert torch.isfinite(value)
            assert torch.isfinite(gradient).all()
            assert torch.equal(logits.detach(), before)


def test_unknown_entries_change_nothing():
    logits, target = batch()
    loss = MultiLabelLDAMLoss(COUNTS)
    longer = torch.cat([logits, torch.full((2, 4), 1e4, dtype=torch.float64)])
    marked = torch.cat([target, torch.full((2, 4), -100.0)])
    torch.testing.assert_close(loss(longer, marked), loss(logits, target), rtol=1e-13, atol=0)


def test_what_is_refused():
    with pytest.raises(SettingError, match="`margin_const` to be a finite number of at least 0, but got -1"):
        MultiLabelLDAMLoss(COUNTS, margin_const=-1)
    with pytest.raises(SettingError, match="`scale` to be a finite number larger than 0, but got 0"):
        MultiLabelLDAMLoss(COUNTS, scale=0)
    with pytest.raises(SettingError, match="`normalise` to be 'none' or 'max', but got 'min'"):
        MultiLabelLDAMLoss(COUNTS, normalise="min")
    with pytest.raises(SettingError, match="made for 4 labels, but the logits have 3"):
        MultiLabelLDAMLoss(COUNTS)(torch.zeros(2, 3), torch.zeros(2, 3))
