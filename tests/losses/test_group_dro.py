"""Group DRO: the update re-derived, state, neutral settings, limits, what is refused."""

import copy
import math

import pytest
import torch
from torch.nn import functional

from tailwise.errors import SettingError
from tailwise.losses import ClassDROLoss, GroupDROLoss
from tailwise.losses.group_dro import greedy_weights

SCORES = torch.tensor([[2.0, 0.5, -1.0, 0.0], [0.2, 1.5, 0.3, -0.7], [-0.5, 0.1, 0.4, 1.2]], dtype=torch.float64)
TARGET = torch.tensor([0, 2, 3])


def batch(rows=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(rows, 4, dtype=torch.float64, generator=generator)
    return (
        scores,
        torch.randint(4, (rows,), generator=generator),
        torch.randint(3, (rows,), generator=generator),
    )


def test_published_number():
    value = GroupDROLoss(3)(SCORES, TARGET, group=torch.arange(3))
    assert float(value) == pytest.approx(0.916547, abs=1e-6)


def test_three_steps_equal_the_definition():
    loss, q = GroupDROLoss(3, step_size=0.5, adjustment=2.0, group_counts=[100, 20, 5]), [1 / 3] * 3
    for step in range(3):
        scores, target, group = batch(seed=step)
        group[group == 2] = step % 2  # now and then a group is not there
        values = functional.cross_entropy(scores, target, reduction="none").tolist()
        means = []
        for g, n in enumerate([100, 20, 5]):
            own = [v for v, h in zip(values, group.tolist(), strict=True) if h == g]
            means.append((sum(own) / len(own) if own else 0.0) + 2.0 / math.sqrt(n))
        q = [w * math.exp(0.5 * m) for w, m in zip(q, means, strict=True)]
        q = [w / sum(q) for w in q]
        wanted = sum(w * m for w, m in zip(q, means, strict=True))
        assert float(loss(scores, target, group=group)) == pytest.approx(wanted, rel=1e-10)
        assert loss.weights.tolist() == pytest.approx(q, rel=1e-10)


def test_step_size_0_is_the_mean_over_groups_and_one_group_is_cross_entropy():
    scores, target, group = batch()
    values = functional.cross_entropy(scores, target, reduction="none")
    means = torch.stack([values[group == g].mean() for g in range(3)])
    torch.testing.assert_close(GroupDROLoss(3, step_size=0.0)(scores, target, group=group), means.mean())
    torch.testing.assert_close(
        GroupDROLoss(1)(scores, target, group=torch.zeros_like(group)), functional.cross_entropy(scores, target)
    )


def test_the_class_form_takes_the_classes_as_groups():
    scores, target, _ = batch()
    by_class, by_group = ClassDROLoss([50, 20, 5, 1]), GroupDROLoss(4)
    for _ in range(3):
        torch.testing.assert_close(by_class(scores, target), by_group(scores, target, group=target))


def test_state_moves_in_training_with_gradients_alone_and_round_trips():
    scores, target, group = batch()
    for loss in (GroupDROLoss(3), GroupDROLoss(3, greedy=True, group_counts=[9, 2, 1])):
        before = copy.deepcopy(loss.state_dict())
        with torch.no_grad():
            loss(scores, target, group=group)
        loss.eval()(scores, target, group=group)
        assert all(torch.equal(before[k], v) for k, v in loss.state_dict().items())
        loss.train()(scores, target, group=group)
        assert any(not torch.equal(before[k], v) for k, v in loss.state_dict().items())
        other = copy.deepcopy(loss)
        other.load_state_dict(before)
        other.load_state_dict(loss.state_dict())
        torch.testing.assert_close(other(scores, target, group=group), loss(scores, target, group=group))


def test_greedy_weights_spend_the_share_on_the_worst_groups():
    shares = torch.tensor([0.5, 0.3, 0.2])
    reference = torch.tensor([1.0, 3.0, 2.0])
    torch.testing.assert_close(greedy_weights(reference, shares, 0.5), torch.tensor([0.0, 0.6, 0.4]))
    torch.testing.assert_close(greedy_weights(reference, shares, 0.4), torch.tensor([0.0, 0.75, 0.25]))
    torch.testing.assert_close(greedy_weights(reference, shares, 1.0), shares)


def test_derivatives():
    scores, target, group = batch()
    loss = GroupDROLoss(3, normalize_loss=True).eval()
    assert torch.autograd.gradcheck(lambda z: loss(z, target, group=group), scores.requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("case", ["one row", "one group", "ignored", "all"])
def test_value_gradient_and_state_are_finite(dtype, scale, case):
    scores, target, group = batch()
    rows = slice(0, 1) if case == "one row" else slice(None)
    target = torch.full_like(target, -100) if case == "ignored" else target
    group = torch.zeros_like(group) if case == "one group" else group
    scores = (scale * scores[rows]).to(dtype).clamp(-6e4, 6e4).requires_grad_()
    loss = GroupDROLoss(3, step_size=1.0)
    for _ in range(3):
        value = loss(scores, target[rows], group=group[rows])
        value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(scores.grad).all()
    assert torch.isfinite(loss.log_weights).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GroupDROLoss(0), "`num_groups` to be at least 1"),
        (lambda: GroupDROLoss(3, step_size=-1.0), "`step_size` to be a finite number of at least 0"),
        (lambda: GroupDROLoss(3, adjustment=1.0), "need `group_counts`"),
        (lambda: GroupDROLoss(3, greedy=True), "need `group_counts`"),
        (lambda: GroupDROLoss(3, group_counts=[1, 2]), "Got 2 group counts for 3 groups"),
        (lambda: GroupDROLoss(3, alpha=0.0), r"`alpha` to lie in \(0, 1\]"),
        (lambda: GroupDROLoss(3)(SCORES, TARGET), "expected `group`, one integer group id per row"),
        (lambda: GroupDROLoss(2)(SCORES, TARGET, group=torch.arange(3)), "outside"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(make, message):
    with pytest.raises(SettingError, match=message):
        make()
