"""Multi-label focal loss: naive re-derivation, neutral settings, limits, what is refused."""

import math

import pytest
import torch
from torch.nn import functional

from tailwise.errors import SettingError
from tailwise.losses.focal_multilabel import (
    MultiLabelFocalLoss,
    focal_softplus,
    focal_softplus_and_slope,
)

torch.set_num_threads(1)
FOCUSES = [0.0, 0.25, 0.5, 1.0, 2.0, 5.0]
LOGITS = torch.tensor([[2.0, 0.5, -1.0, 0.0], [0.2, 1.5, 0.3, -0.7], [-0.5, 0.1, 0.4, 1.2]], dtype=torch.float64)
TARGET = torch.tensor([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]])


def batch(rows=8, labels=4, soft=False, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(rows, labels, dtype=torch.float64, generator=generator)
    target = (torch.rand(rows, labels, generator=generator) < 0.3).double()
    return logits, target * torch.rand(rows, labels, dtype=torch.float64, generator=generator) if soft else target


def naive(z, y, focus, alpha, star=False):
    a, b = (1, 1) if alpha is None else (alpha, 1 - alpha)
    if star:
        return (a * y * math.log1p(math.exp(-focus * z)) + b * (1 - y) * math.log1p(math.exp(focus * z))) / focus
    p = 1 / (1 + math.exp(-z))
    return -a * y * (1 - p) ** focus * math.log(p) - b * (1 - y) * p**focus * math.log(1 - p)


@pytest.mark.parametrize(("focus", "star"), [(f, False) for f in FOCUSES] + [(f, True) for f in FOCUSES[1:]])
@pytest.mark.parametrize("alpha", [None, 0.25])
@pytest.mark.parametrize("soft", [False, True])
def test_values_sum_and_gradient_equal_a_naive_loop_and_the_plain_formula(focus, alpha, soft, star):
    logits, target = batch(soft=soft)
    settings = {"alpha": alpha, "star": star}
    wanted = [
        [naive(z, y, focus, alpha, star) for z, y in zip(*row, strict=True)]
        for row in zip(logits.tolist(), target.tolist(), strict=True)
    ]
    values = MultiLabelFocalLoss(focus, reduction="none", **settings)(logits.requires_grad_(), target)
    torch.testing.assert_close(values, torch.tensor(wanted, dtype=torch.float64), rtol=1e-11, atol=0)
    total = MultiLabelFocalLoss(focus, reduction="sum", **settings)(logits, target)
    torch.testing.assert_close(total, values.sum(), rtol=1e-13, atol=0)
    one, other = (torch.autograd.grad(value, logits)[0] for value in (total, values.sum()))
    torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize(("focus", "star"), [*[(f, False) for f in FOCUSES], (3.0, True)])
def test_gradcheck(focus, star):
    logits, target = batch(rows=3, soft=True)
    target[0] = 1.0
    loss = MultiLabelFocalLoss(focus, alpha=0.3, star=star)
    for function in (lambda z: loss(z, target), lambda z: loss.label_values(z, target, valid=None)):
        assert torch.autograd.gradcheck(function, logits.requires_grad_())
        assert torch.autograd.gradgradcheck(function, logits)


@pytest.mark.parametrize("focus", FOCUSES)
def test_value_and_slope_belong_together(focus):
    scores = torch.linspace(-40, 40, 161, dtype=torch.float64, requires_grad=True)
    value = focal_softplus(scores, focus)
    (slope,) = torch.autograd.grad(value.sum(), scores)
    found = focal_softplus_and_slope(scores.detach(), focus)
    torch.testing.assert_close(found[0], value.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(found[1], slope, rtol=1e-12, atol=0)


def test_without_focus_it_is_binary_cross_entropy_and_half_of_it_with_alpha_of_a_half():
    logits, target = batch()
    wanted = functional.binary_cross_entropy_with_logits(logits.requires_grad_(), target)
    found = MultiLabelFocalLoss(0.0)(logits, target)
    torch.testing.assert_close(found, wanted, rtol=1e-14, atol=0)
    gradients = [torch.autograd.grad(v, logits)[0] for v in (found, wanted)]
    torch.testing.assert_close(*gradients, rtol=1e-13, atol=1e-17)
    torch.testing.assert_close(MultiLabelFocalLoss(0.0, alpha=0.5)(logits, target), wanted / 2, rtol=1e-14, atol=0)
    torch.testing.assert_close(MultiLabelFocalLoss(1.0, star=True)(logits, target), wanted, rtol=1e-14, atol=0)


def test_the_example_of_the_specification():
    assert MultiLabelFocalLoss(2.0, alpha=0.5)(LOGITS, TARGET).item() == pytest.approx(0.108905, abs=5e-7)


def test_easy_entries_count_less_and_hard_ones_do_not():
    values = MultiLabelFocalLoss(2.0, reduction="none")(
        torch.tensor([[-4.0, 4.0]], dtype=torch.float64), torch.tensor([[0, 0]])
    )
    plain = MultiLabelFocalLoss(0.0, reduction="none")(
        torch.tensor([[-4.0, 4.0]], dtype=torch.float64), torch.tensor([[0, 0]])
    )
    ratio = (values / plain)[0]
    assert ratio[0] < 4e-4
    assert ratio[1] > 0.96


@pytest.mark.parametrize("focus", FOCUSES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_extreme_scores_give_finite_values_and_gradients_and_stay_as_they_are(focus, dtype):
    pattern = torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 1.0]])
    for scale in (0.0, 1.0, 20.0, 79.9, 80.1, 100.0, 1e4):
        for target in (torch.zeros(2, 3), torch.ones(2, 3), torch.eye(3)[:2]):
            logits = (scale * pattern).to(dtype).requires_grad_()
            before = logits.detach().clone()
            for loss in (MultiLabelFocalLoss(focus, alpha=0.25), MultiLabelFocalLoss(focus, reduction="none")):
                value = loss(logits, target)
                (gradient,) = torch.autograd.grad(value.sum(), logits)
                assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
                assert torch.isfinite(value).all()
                assert torch.isfinite(gradient).all()
            assert torch.equal(logits.detach(), before)


@pytest.mark.parametrize("focus", FOCUSES)
def test_entries_beyond_doubt_cost_nothing_and_wrong_ones_their_score(focus):
    logits = torch.tensor([[1e4, -1e4]], requires_grad=True)
    right = MultiLabelFocalLoss(focus, reduction="sum")(logits, torch.tensor([[1, 0]]))
    assert right.item() == 0.0
    assert torch.autograd.grad(right, logits)[0].tolist() == [[0.0, 0.0]]
    wrong = MultiLabelFocalLoss(focus, reduction="sum")(logits, torch.tensor([[0, 1]]))
    assert wrong.item() == 2e4
    assert torch.autograd.grad(wrong, logits)[0].tolist() == [[1.0, -1.0]]


def test_unknown_entries_change_nothing_and_parts_add_up():
    logits, target = batch()
    loss = MultiLabelFocalLoss(alpha=0.25)
    longer = torch.cat([logits, torch.full((2, 4), 1e4, dtype=torch.float64)])
    marked = torch.cat([target, torch.full((2, 4), -100.0)])
    whole = loss(logits, target)
    torch.testing.assert_close(loss(longer, marked), whole, rtol=1e-13, atol=0)
    normalizer = loss.denominator(marked)
    parts = sum(loss(z, y, normalizer=normalizer) for z, y in zip(longer.split(3), marked.split(3), strict=True))
    torch.testing.assert_close(parts, whole, rtol=1e-13, atol=0)


def test_alpha_multiplies_the_odds_that_are_fitted():
    rates = torch.tensor([0.7, 0.4, 0.1], dtype=torch.float64)
    target = torch.zeros(10, 3)
    target[:7, 0], target[:4, 1], target[:1, 2] = 1, 1, 1
    for loss in (MultiLabelFocalLoss(0.0, alpha=0.75), MultiLabelFocalLoss(2.0, alpha=0.75, star=True)):
        best = (torch.logit(loss.effective_prior(rates)) / loss.inference_scale).requires_grad_()
        assert torch.autograd.grad(loss(best.expand(10, 3), target), best)[0].abs().max() < 1e-14
    assert torch.equal(MultiLabelFocalLoss().effective_prior(rates), rates)


def test_compiles_without_a_graph_break():
    logits, target = batch()
    loss = MultiLabelFocalLoss(alpha=0.25)
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(logits, target), loss(logits, target))
    torch._dynamo.reset()


def test_autocast_leaves_the_precision_as_it_is():
    logits, target = batch()
    loss, logits, target = MultiLabelFocalLoss(), logits.float(), target.float()
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(logits, target), loss(logits, target.index_fill(0, torch.tensor([1]), -100))
    assert found[0].dtype == torch.float32
    assert torch.equal(found[0], loss(logits, target))
    assert torch.equal(found[1], loss(logits, target.index_fill(0, torch.tensor([1]), -100)))


def test_what_is_refused():
    for focus in (-0.1, math.inf, math.nan):
        with pytest.raises(SettingError, match="Expected `focus` to be a finite number of at least 0"):
            MultiLabelFocalLoss(focus)
    for alpha in (0.0, 1.0, -1, math.nan):
        with pytest.raises(SettingError, match="`alpha`, the weight of the positives, to lie between 0 and 1, or None"):
            MultiLabelFocalLoss(alpha=alpha)
    with pytest.raises(SettingError, match="`focus` to be larger than 0 in the star form"):
        MultiLabelFocalLoss(0.0, star=True)
