"""Batch-balanced focal loss: naive re-derivation, its state, limits, what is refused."""

import copy
import math

import pytest
import torch

from tailwise.errors import SettingError
from tailwise.losses.batch_balanced_focal import BatchBalancedFocalLoss, loss_balancing_weights
from tailwise.losses.focal_multilabel import MultiLabelFocalLoss

torch.set_num_threads(1)
LOGITS = torch.tensor([[2.0, 0.5, -1.0, 0.0], [0.2, 1.5, 0.3, -0.7], [-0.5, 0.1, 0.4, 1.2]], dtype=torch.float64)
TARGET = torch.tensor([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]])


def batch(rows=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(rows, 4, dtype=torch.float64, generator=generator)
    return logits, (torch.rand(rows, 4, generator=generator) < 0.3).double()


def naive(logits, target, smoothed, smoothing, focus=2.0):
    """One step in plain Python: the loss without the factor C, and the smoothed losses after it."""
    rows, labels = logits.shape

    def entry(i, j):
        z, y = logits[i, j].item(), target[i, j].item()
        p = 1 / (1 + math.exp(-z))
        return -((1 - p) ** focus) * math.log(p) if y else -(p**focus) * math.log(1 - p)

    means = [sum(entry(i, j) for i in range(rows)) / rows for j in range(labels)]
    smoothed = [smoothing * m + (1 - smoothing) * s for m, s in zip(means, smoothed, strict=True)]
    total = sum(1 / (s + 1e-5) for s in smoothed)
    weights = [1 / (s + 1e-5) / total for s in smoothed]
    return sum(w * m for w, m in zip(weights, means, strict=True)) / labels, smoothed


@pytest.mark.parametrize("smoothing", [0.05, 0.5, 1.0])
def test_three_steps_equal_plain_python(smoothing):
    loss = BatchBalancedFocalLoss(4, smoothing=smoothing, rescale=False, cap=None)
    rescaled = BatchBalancedFocalLoss(4, smoothing=smoothing, cap=None)
    smoothed = [0.25] * 4
    for seed in range(3):
        logits, target = batch(seed=seed)
        wanted, smoothed = naive(logits, target, smoothed, smoothing)
        assert loss(logits, target).item() == pytest.approx(wanted, rel=1e-12)
        assert rescaled(logits, target).item() == pytest.approx(4 * wanted, rel=1e-12)
    if smoothing < 1:
        assert loss.label_losses.tolist() == pytest.approx(smoothed, rel=1e-12)


def test_the_example_of_the_specification():
    means = MultiLabelFocalLoss(reduction="none")(LOGITS, TARGET).mean(dim=0)
    weights = loss_balancing_weights(means)
    assert weights.tolist() == pytest.approx([0.433630, 0.228623, 0.213225, 0.124522], abs=5e-7)
    pure = BatchBalancedFocalLoss(4, smoothing=1.0, rescale=False)
    assert pure(LOGITS, TARGET).item() == pytest.approx(0.044907, abs=5e-7)
    first = BatchBalancedFocalLoss(4, rescale=False)
    assert first(LOGITS, TARGET).item() == pytest.approx(0.054028, abs=5e-7)


def test_every_label_costs_the_same_in_a_batch_without_smoothing():
    logits, target = batch()
    logits.requires_grad_()
    values = MultiLabelFocalLoss(reduction="none")(logits, target).mean(dim=0)
    share = values * loss_balancing_weights(values)
    torch.testing.assert_close(share, share.mean().expand(4), rtol=1e-3, atol=0)


def test_labels_of_equal_cost_give_the_focal_loss():
    logits, target = LOGITS[:, :1].expand(3, 4), TARGET[:, :1].expand(3, 4)
    wanted = MultiLabelFocalLoss()(logits, target)
    for smoothing in (0.05, 1.0):
        torch.testing.assert_close(BatchBalancedFocalLoss(4, smoothing=smoothing)(logits, target), wanted)


def test_the_gradient_flows_through_the_values_only():
    logits, target = batch()
    loss = BatchBalancedFocalLoss(4, smoothing=1.0, rescale=False)
    weights = loss_balancing_weights(MultiLabelFocalLoss(reduction="none")(logits, target).mean(dim=0), cap=10.0)
    fixed = (MultiLabelFocalLoss(reduction="none")(logits.requires_grad_(), target) * weights).mean()
    wanted = torch.autograd.grad(fixed, logits)[0]
    torch.testing.assert_close(torch.autograd.grad(loss(logits, target), logits)[0], wanted)


def test_gradcheck_with_weights_that_stand_still():
    logits, target = batch(rows=3)
    target[0, 0] = -100
    loss = BatchBalancedFocalLoss(4)
    loss.label_losses.copy_(torch.tensor([0.1, 0.2, 0.3, 0.01]))
    loss.eval()
    assert torch.autograd.gradcheck(lambda z: loss(z, target), logits.requires_grad_())


@pytest.mark.parametrize("alpha", [None, 0.25])
@pytest.mark.parametrize("smoothing", [0.05, 1.0])
def test_the_written_gradient_is_that_of_the_plain_formula(smoothing, alpha):
    logits, target = batch()
    turned = logits.t().contiguous().t().requires_grad_()
    one, other = (BatchBalancedFocalLoss(4, smoothing=smoothing, alpha=alpha) for _ in range(2))
    fused = one(turned, target)
    plain = other(logits.requires_grad_(), target, sample_weight=torch.ones(6))
    torch.testing.assert_close(fused, plain, rtol=1e-13, atol=0)
    wanted = torch.autograd.grad(plain, logits)[0]
    for keep in (True, False):
        found = torch.autograd.grad(fused, turned, retain_graph=keep)[0]
        torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-15)
    if smoothing < 1:  # moved once, by neither pass backwards
        torch.testing.assert_close(one.label_losses, other.label_losses, rtol=1e-13, atol=0)
        one.eval()
        assert torch.autograd.gradcheck(lambda z: one(z, target), logits)
        assert torch.autograd.gradgradcheck(lambda z: one(z, target), logits)


def test_a_batch_without_finite_losses_leaves_the_state_as_it_is():
    loss = BatchBalancedFocalLoss(2)
    loss(torch.tensor([[math.nan, 1.0], [0.0, 1.0]], requires_grad=True), torch.zeros(2, 2))
    assert loss.label_losses[0].item() == 0.5
    assert math.isfinite(loss.label_losses[1].item())
    assert loss.label_losses[1].item() != 0.5


def test_the_state_moves_in_training_with_gradients_only():
    logits, target = batch()
    loss = BatchBalancedFocalLoss(4)
    start = loss.label_losses.clone()
    loss.eval()
    loss(logits, target)
    loss.train()
    with torch.no_grad():
        loss(logits, target)
    assert torch.equal(loss.label_losses, start)
    loss(logits, target)
    assert not torch.equal(loss.label_losses, start)
    assert loss.stateful
    restored = BatchBalancedFocalLoss(4)
    restored.load_state_dict(copy.deepcopy(loss.state_dict()))
    assert torch.equal(restored(logits, target), loss(logits, target))
    pure = BatchBalancedFocalLoss(4, smoothing=1.0)
    assert not pure.stateful
    assert pure.label_losses is None
    assert not pure.state_dict()


def test_the_cap_holds_back_a_label_that_costs_nothing():
    losses = torch.tensor([0.0] + [1.0] * 99, dtype=torch.float64)
    assert loss_balancing_weights(losses)[0] > 0.99
    assert loss_balancing_weights(losses, cap=10.0)[0].item() == pytest.approx(0.1)


@pytest.mark.parametrize("smoothing", [0.05, 1.0])
def test_a_label_unknown_in_the_whole_batch_is_left_out(smoothing):
    logits, target = batch()
    target[:, 3] = -100
    loss = BatchBalancedFocalLoss(4, smoothing=smoothing)
    value = loss(logits.requires_grad_(), target)
    gradient = torch.autograd.grad(value, logits)[0]
    assert not gradient[:, 3].any()
    if smoothing == 1.0:
        wanted = BatchBalancedFocalLoss(3, smoothing=1.0)(logits[:, :3], target[:, :3])
        torch.testing.assert_close(value, wanted)
    else:
        assert loss.label_losses[3].item() == 0.25
        assert (loss.label_losses[:3] != 0.25).all()


@pytest.mark.parametrize("smoothing", [0.05, 1.0])
def test_rows_of_weight_0_and_of_unknown_labels_change_nothing(smoothing):
    logits, target = batch()
    whole = BatchBalancedFocalLoss(4, smoothing=smoothing)(logits, target)
    longer = torch.cat([logits, torch.full((2, 4), 50.0, dtype=torch.float64)])
    marked = torch.cat([target, torch.full((2, 4), -100.0)])
    torch.testing.assert_close(BatchBalancedFocalLoss(4, smoothing=smoothing)(longer, marked), whole)
    weight = torch.tensor([3.0] * 6 + [0.0] * 2)
    weighted = BatchBalancedFocalLoss(4, smoothing=smoothing)(longer, marked.clamp_min(0), sample_weight=weight)
    torch.testing.assert_close(weighted, whole)
    nothing = BatchBalancedFocalLoss(4, smoothing=smoothing)(logits.requires_grad_(), torch.full((6, 4), -100))
    assert nothing.item() == 0.0
    assert not torch.autograd.grad(nothing, logits)[0].any()


@pytest.mark.parametrize("smoothing", [0.05, 1.0])
@pytest.mark.parametrize("focus", [0.0, 0.25, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_extreme_scores_give_finite_values_and_gradients_and_stay_as_they_are(smoothing, focus, dtype):
    pattern = torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 1.0]])
    loss = BatchBalancedFocalLoss(3, focus, smoothing=smoothing)
    for scale in (0.0, 20.0, 100.0, 1e4):
        for target in (torch.zeros(2, 3), torch.ones(2, 3), torch.eye(3)[:2]):
            logits = (scale * pattern).to(dtype).requires_grad_()
            before = logits.detach().clone()
            value = loss(logits, target)
            (gradient,) = torch.autograd.grad(value, logits)
            assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
            assert torch.isfinite(value)
            assert torch.isfinite(gradient).all()
            assert torch.equal(logits.detach(), before)
    single = BatchBalancedFocalLoss(1, smoothing=smoothing)(torch.tensor([[0.3]]), torch.tensor([[1]]))
    assert single.item() == pytest.approx(MultiLabelFocalLoss()(torch.tensor([[0.3]]), torch.tensor([[1]])).item())


def test_the_effective_prior_is_shifted_by_alpha_only():
    rates = torch.tensor([0.5, 0.1], dtype=torch.float64)
    assert torch.equal(BatchBalancedFocalLoss(2).effective_prior(rates), rates)
    shifted = BatchBalancedFocalLoss(2, alpha=0.75).effective_prior(rates)
    assert shifted.tolist() == pytest.approx([0.75, 0.25])


def test_autocast_leaves_the_precision_as_it_is():
    logits, target = batch()
    loss, logits, target = BatchBalancedFocalLoss(4).eval(), logits.float(), target.float()
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(logits, target), loss(logits, target.index_fill(0, torch.tensor([1]), -100))
    assert found[0].dtype == torch.float32
    assert torch.equal(found[0], loss(logits, target))
    assert torch.equal(found[1], loss(logits, target.index_fill(0, torch.tensor([1]), -100)))


def test_what_is_refused():
    for number in (0, -1, 2.5, math.nan, "3", True):
        with pytest.raises(SettingError, match=f"`num_classes` to be a whole number of at least 1, but got {number!r}"):
            BatchBalancedFocalLoss(number)
    for smoothing in (0.0, 1.5, math.nan):
        with pytest.raises(SettingError, match="`smoothing` to lie above 0 and be at most 1"):
            BatchBalancedFocalLoss(3, smoothing=smoothing)
    with pytest.raises(SettingError, match=r"`cap` to be at least 1, the mean weight, or None, but got 0.5"):
        BatchBalancedFocalLoss(3, cap=0.5)
    with pytest.raises(SettingError, match="`focus` to be a finite number"):
        BatchBalancedFocalLoss(3, -1.0)
    loss = BatchBalancedFocalLoss(3)
    assert not loss.separable
    with pytest.raises(SettingError, match="compares the rows of a batch with each other"):
        loss(torch.zeros(2, 3), torch.zeros(2, 3), normalizer=6.0)
    with pytest.raises(SettingError, match="made for 3 labels, but the logits have 4"):
        loss(torch.zeros(2, 4), torch.zeros(2, 4))
