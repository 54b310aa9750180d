"""Cross-entropies of changed logits in a compiled loop, as many or short rows have them, are what they are without."""

import pytest
import torch

from tailwise.losses import BalancedSoftmaxLoss, LDAMLoss, cross_entropy

COUNTS = [1000, 100, 20, 5]


def losses():
    return {
        "balanced-softmax": BalancedSoftmaxLoss(COUNTS),
        "ldam": LDAMLoss(COUNTS, scale=3.0),
        "ldam weighted": LDAMLoss(COUNTS, scale=3.0, class_weights="balanced"),
    }


@pytest.fixture(params=list(losses()))
def loss(request):
    return losses()[request.param]


def batch(scale=1.0, ignored=2):
    generator = torch.Generator().manual_seed(0)
    logits = scale * torch.randn(9, 4, dtype=torch.float64, generator=generator)
    target = torch.randint(4, (9,), generator=generator)
    target[:ignored] = -100
    return logits.requires_grad_(), target


def value_and_gradient(loss, logits, target):
    value = loss(logits, target)
    return value.detach(), torch.autograd.grad(value, logits)[0]


@pytest.mark.parametrize("scale", [1.0, 60.0, 1e4])
@pytest.mark.parametrize("ignored", [0, 2, 9])
def test_value_and_gradient_are_those_of_the_plain_way(loss, scale, ignored, monkeypatch):
    logits, target = batch(scale, ignored)
    wanted = value_and_gradient(loss, logits, target)
    before = logits.detach().clone()
    with monkeypatch.context() as plain:
        plain.setattr(cross_entropy, "wants_compiled_gradient", lambda logits: False)
        found = value_and_gradient(loss, logits, target)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert torch.equal(logits, before)


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_twenty_thousand_classes_have_the_value_and_gradient_of_the_plain_way(scale, monkeypatch):
    counts = 10_000 // torch.arange(1, 20_001) + 1
    generator = torch.Generator().manual_seed(0)
    logits = (scale * torch.randn(4, 20_000, generator=generator)).requires_grad_()
    target = torch.tensor([0, 19_999, 500, -100])
    taken = []
    compiled = cross_entropy.CrossEntropyLoss._compiled_batch_mean
    monkeypatch.setattr(
        cross_entropy.CrossEntropyLoss, "_compiled_batch_mean", lambda *given: taken.append(1) or compiled(*given)
    )
    weighted = LDAMLoss(counts, scale=3.0, class_weights="balanced")
    for loss in (BalancedSoftmaxLoss(counts), LDAMLoss(counts, scale=3.0), weighted):
        found = value_and_gradient(loss, logits, target)
        with monkeypatch.context() as plain:
            plain.setattr(cross_entropy, "wants_compiled_gradient", lambda logits: False)
            wanted = value_and_gradient(loss, logits, target)
        for one, other in zip(found, wanted, strict=True):
            assert one.isfinite().all()
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-9)
    assert len(taken) == 3


def test_first_and_second_derivatives_are_right(loss):
    logits, target = batch()
    assert torch.autograd.gradcheck(lambda z: loss(z, target), logits)
    assert torch.autograd.gradgradcheck(lambda z: loss(z, target), logits)


def test_the_graph_can_be_used_twice(loss):
    logits, target = batch()
    value = loss(logits, target)
    (first,) = torch.autograd.grad(value, logits, retain_graph=True)
    (second,) = torch.autograd.grad(value, logits)
    assert torch.equal(first, second)


def test_a_changed_class_tensor_is_noticed():
    logits, target = batch()
    loss, other = BalancedSoftmaxLoss(COUNTS), BalancedSoftmaxLoss([1, 1, 1, 50])
    loss(logits, target)
    loss.load_state_dict(other.state_dict())
    assert torch.equal(loss(logits, target), other(logits, target))
