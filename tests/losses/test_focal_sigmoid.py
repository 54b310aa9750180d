"""One-hot sigmoid focal loss: naive re-derivation, neutral settings, limits, what is refused."""

import math

import pytest
import torch
from torch.nn import functional

from tailwise.errors import SettingError
from tailwise.losses.focal_sigmoid import SigmoidFocalLoss, sigmoid_focal_values

torch.set_num_threads(1)
FOCUSES = [0.0, 0.25, 0.5, 1.0, 2.0, 5.0]
WEIGHTS = [0.5, 1.0, 2.0, 4.0]


def batch(rows=10, classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(rows, classes, dtype=torch.float64, generator=generator)
    return logits, torch.arange(rows) % classes


def naive(z, y, focus, weight):
    value = 0.0
    for j, score in enumerate(z):
        p = 1 / (1 + math.exp(-score))
        q = p if j == y else 1 - p
        value -= weight * (1 - q) ** focus * math.log(q)
    return value


@pytest.mark.parametrize("focus", FOCUSES)
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_values_equal_a_naive_loop_over_rows(focus, weights):
    logits, target = batch()
    found = SigmoidFocalLoss(focus, class_weights=weights, reduction="none")(logits, target)
    wanted = [
        naive(z, y, focus, weights[y] if weights else 1.0)
        for z, y in zip(logits.tolist(), target.tolist(), strict=True)
    ]
    assert found.tolist() == pytest.approx(wanted, rel=1e-11)


@pytest.mark.parametrize("focus", FOCUSES)
def test_gradcheck(focus):
    logits, target = batch(rows=5)
    target[1] = -100
    loss = SigmoidFocalLoss(focus, class_weights=WEIGHTS)
    assert torch.autograd.gradcheck(lambda z: loss(z, target), logits.requires_grad_())
    assert torch.autograd.gradgradcheck(lambda z: loss(z, target), logits)


def test_without_focus_it_is_binary_cross_entropy_with_one_hot_targets():
    logits, target = batch()
    one_hot = functional.one_hot(target, 4).double()
    wanted = functional.binary_cross_entropy_with_logits(logits, one_hot, reduction="none").sum(dim=1)
    torch.testing.assert_close(sigmoid_focal_values(logits, target, 0.0), wanted, rtol=1e-14, atol=1e-300)


def test_the_weight_of_the_gold_class_multiplies_all_terms_and_shifts_the_prior():
    logits, target = batch()
    loss = SigmoidFocalLoss(class_weights=WEIGHTS, reduction="sum")
    rows = SigmoidFocalLoss(reduction="none")(logits, target)
    wanted = (rows * torch.tensor(WEIGHTS, dtype=torch.float64)[target]).sum()
    torch.testing.assert_close(loss(logits, target), wanted)
    prior = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    torch.testing.assert_close(
        loss.effective_prior(prior), torch.tensor([0.2, 0.3, 0.4, 0.4], dtype=torch.float64) / 1.3
    )
    balanced = SigmoidFocalLoss(class_weights="balanced", class_counts=[40, 30, 20, 10])
    torch.testing.assert_close(balanced.effective_prior(prior), torch.full((4,), 0.25, dtype=torch.float64))


def test_the_best_scores_are_the_log_odds_of_the_effective_prior():
    loss = SigmoidFocalLoss(0.0, class_weights=[1.0, 3.0, 2.0])
    target = torch.tensor([0] * 6 + [1] * 3 + [2])
    best = torch.logit(loss.effective_prior(torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)))
    best.requires_grad_()
    gradient = torch.autograd.grad(loss(best.expand(10, 3), target), best)[0]
    assert gradient.abs().max() < 1e-14


@pytest.mark.parametrize("focus", FOCUSES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_extreme_scores_give_finite_values_and_gradients_and_stay_as_they_are(focus, dtype):
    pattern = torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]])
    loss = SigmoidFocalLoss(focus, class_weights=[0.0, 1.0, 300.0])
    for scale in (0.0, 1.0, 20.0, 100.0, 1e4):
        for label in range(3):
            logits = (scale * pattern).to(dtype).requires_grad_()
            before = logits.detach().clone()
            value = loss(logits, torch.full((3,), label))
            (gradient,) = torch.autograd.grad(value, logits)
            assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
            assert torch.isfinite(value)
            assert torch.isfinite(gradient).all()
            assert torch.equal(logits.detach(), before)


@pytest.mark.parametrize("focus", FOCUSES)
def test_rows_that_are_right_beyond_doubt_cost_nothing_and_wrong_ones_their_score(focus):
    logits = torch.tensor([[1e4, -1e4]], dtype=torch.float64, requires_grad=True)
    right = SigmoidFocalLoss(focus)(logits, torch.tensor([0]))
    assert right.item() == 0.0
    assert torch.autograd.grad(right, logits)[0].tolist() == [[0.0, 0.0]]
    wrong = SigmoidFocalLoss(focus)(logits, torch.tensor([1]))
    assert wrong.item() == 2e4
    assert torch.autograd.grad(wrong, logits)[0].tolist() == [[1.0, -1.0]]


def test_ignored_rows_change_nothing_and_parts_add_up():
    logits, target = batch()
    loss = SigmoidFocalLoss(class_weights=WEIGHTS)
    longer = torch.cat([logits, torch.full((2, 4), 1e4, dtype=torch.float64)])
    marked = torch.cat([target, torch.tensor([-100, -100])])
    whole = loss(logits, target)
    torch.testing.assert_close(loss(longer, marked), whole, rtol=1e-13, atol=0)
    normalizer = loss.denominator(marked)
    parts = sum(loss(z, y, normalizer=normalizer) for z, y in zip(longer.split(5), marked.split(5), strict=True))
    torch.testing.assert_close(parts, whole, rtol=1e-13, atol=0)
    empty = loss(logits.requires_grad_(), torch.full((10,), -100))
    assert empty.item() == 0.0
    assert not torch.autograd.grad(empty, logits)[0].any()


def test_one_class_is_one_sigmoid():
    value = SigmoidFocalLoss(0.0)(torch.tensor([[0.3]], dtype=torch.float64), torch.tensor([0]))
    assert value.item() == pytest.approx(math.log(1 + math.exp(-0.3)), rel=1e-14)


def test_compiles_without_a_graph_break():
    logits, target = batch()
    loss = SigmoidFocalLoss(class_weights=WEIGHTS)
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(logits, target), loss(logits, target))
    torch._dynamo.reset()


def test_what_is_refused():
    for focus in (-0.1, math.inf, math.nan):
        with pytest.raises(SettingError, match="Expected `focus` to be a finite number of at least 0"):
            SigmoidFocalLoss(focus)
    with pytest.raises(SettingError, match="The class-weight rule 'balanced' needs `class_counts`"):
        SigmoidFocalLoss(class_weights="balanced")
    with pytest.raises(SettingError, match="made for 4 classes, but the logits have 3"):
        SigmoidFocalLoss(class_weights=WEIGHTS)(torch.zeros(2, 3), torch.tensor([0, 1]))
