"""Group DRO and the tilted loss: definitions re-derived, state, neutral settings, limits, what is refused."""

import copy
import math

import pytest
import torch
from torch.nn import functional

from tailwise.errors import SettingError
from tailwise.losses import ClassDROLoss, GroupDROLoss
from tailwise.losses.group_dro import greedy_weights
from tailwise.losses.tilted import TiltedLoss, tilted_mean

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
    by_class, by_group, by_number = ClassDROLoss([50, 20, 5, 1]), GroupDROLoss(4), ClassDROLoss(num_classes=4)
    for _ in range(3):
        wanted = by_group(scores, target, group=target)
        torch.testing.assert_close(by_class(scores, target), wanted)
        torch.testing.assert_close(by_number(scores, target), wanted)


def test_the_class_form_expresses_its_weights_as_the_prior():
    scores, target, _ = batch()
    loss = ClassDROLoss([50, 20, 5, 1], step_size=1.0)
    prior = torch.tensor([0.7, 0.2, 0.1, 0.0], dtype=torch.float64)
    torch.testing.assert_close(loss.effective_prior(prior), torch.tensor([1, 1, 1, 0], dtype=torch.float64) / 3)
    loss(scores, target)
    assert not torch.allclose(loss.weights, torch.full((4,), 0.25, dtype=torch.float64))
    torch.testing.assert_close(loss.effective_prior(torch.full_like(prior, 0.25)), loss.weights)
    torch.testing.assert_close(GroupDROLoss(3).effective_prior(prior), prior)


def test_the_gradient_is_that_of_the_means_with_the_weights_held_fixed():
    scores, target, group = batch()
    scores.requires_grad_()
    loss = GroupDROLoss(3, step_size=1.0)
    found = torch.autograd.grad(loss(scores, target, group=group), scores)[0]
    values = functional.cross_entropy(scores, target, reduction="none")
    fixed = sum(q * values[group == g].mean() for g, q in enumerate(loss.weights.tolist()))
    torch.testing.assert_close(found, torch.autograd.grad(fixed, scores)[0])


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
    assert torch.autograd.gradgradcheck(lambda z: loss(z, target, group=group), scores)


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
        (lambda: GroupDROLoss(0), "`num_groups` to be a whole number of at least 1, but got 0"),
        (lambda: GroupDROLoss(math.nan), "`num_groups` to be a whole number of at least 1, but got nan"),
        (lambda: GroupDROLoss(2.5), "`num_groups` to be a whole number of at least 1, but got 2.5"),
        (lambda: GroupDROLoss(2, group_counts=[1, -2]), "`group_counts` to be finite and not negative, but got -2.0"),
        (lambda: ClassDROLoss(num_classes=2.5), "`num_classes` to be a whole number of at least 1, but got 2.5"),
        (lambda: GroupDROLoss(3, step_size=-1.0), "`step_size` to be a finite number of at least 0"),
        (lambda: GroupDROLoss(3, adjustment=1.0), "need `group_counts`"),
        (lambda: GroupDROLoss(3, greedy=True), "need `group_counts`"),
        (lambda: GroupDROLoss(3, group_counts=[1, 2]), "Got 2 group counts for 3 groups"),
        (lambda: GroupDROLoss(3, alpha=0.0), r"`alpha` to lie in \(0, 1\]"),
        (lambda: GroupDROLoss(3)(SCORES, TARGET), "expected `group`, one integer group id per row"),
        (lambda: GroupDROLoss(2)(SCORES, TARGET, group=torch.arange(3)), "expected group ids from 0 to 1, but got 2"),
        (lambda: GroupDROLoss(2)(SCORES, TARGET, group=torch.arange(3) - 1), "from 0 to 1, but got -1"),
        (ClassDROLoss, "needs `class_counts`, the training instances per class, or `num_classes`"),
        (lambda: ClassDROLoss([3, 1], num_classes=3), "Got 2 class counts for `num_classes` 3"),
        (lambda: ClassDROLoss(num_classes=4, adjustment=1.0), "`adjustment` needs `class_counts`"),
        (lambda: ClassDROLoss([3, 1])(SCORES, TARGET), "made for 2 classes, but the logits have 4"),
        (lambda: TiltedLoss(math.inf), "`tilt` to be a finite number, but got inf"),
        (lambda: TiltedLoss()(SCORES, TARGET, normalizer=3.0), "the whole batch"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(make, message):
    with pytest.raises(SettingError, match=message):
        make()


def test_published_number_of_the_tilted_loss():
    assert float(TiltedLoss(1.0)(SCORES, TARGET)) == pytest.approx(1.094824, abs=1e-6)


@pytest.mark.parametrize("tilt", [-2.0, 0.5, 1.0, 5.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_tilted_loss_equals_its_definition(tilt, weighted):
    scores, target, _ = batch()
    weight = torch.arange(12, dtype=torch.float64) if weighted else torch.ones(12, dtype=torch.float64)
    values = functional.cross_entropy(scores, target, reduction="none").tolist()
    rows = list(zip(values, weight.tolist(), target.tolist(), strict=True))
    mean = sum(w * math.exp(tilt * v) for v, w, _ in rows) / sum(w for _, w, _ in rows)
    found = TiltedLoss(tilt)(scores, target, sample_weight=weight if weighted else None)
    assert float(found) == pytest.approx(math.log(mean) / tilt, rel=1e-12)
    means = [
        sum(w * v for v, w, y in rows if y == c) / sum(w for _, w, y in rows if y == c)
        for c in sorted({y for _, w, y in rows if w})
    ]
    found = TiltedLoss(tilt, by_class=True)(scores, target, sample_weight=weight if weighted else None)
    assert float(found) == pytest.approx(
        math.log(sum(math.exp(tilt * m) for m in means) / len(means)) / tilt, rel=1e-12
    )


def test_the_tilt_goes_from_the_smallest_loss_over_the_mean_to_the_largest():
    values = torch.tensor([0.25, 3.0, 1.0])
    scores, target, _ = batch()
    torch.testing.assert_close(TiltedLoss(0.0)(scores, target), functional.cross_entropy(scores, target))
    for tilt in (1e-3, 1e-6, 1e-12, 1e-30, -1e-12):  # in float32, where exp(t v) is 1
        assert float(tilted_mean(values, tilt)) == pytest.approx(float(values.mean()), abs=2 * abs(tilt) + 1e-6)
    assert float(tilted_mean(values, 1e6)) == pytest.approx(3.0, abs=1e-5)
    assert float(tilted_mean(values, -1e6)) == pytest.approx(0.25, abs=1e-5)


@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize("tilt", [-3.0, 0.0, 1e-4, 0.01, 3.0])
def test_derivatives_of_the_tilted_loss(tilt, by_class):
    scores, target, _ = batch()
    loss, scores = TiltedLoss(tilt, by_class=by_class), scores.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: loss(z, target), scores)
    assert torch.autograd.gradgradcheck(lambda z: loss(z, target), scores)


def test_the_tilted_loss_weighs_the_rows_by_the_exponential_of_their_loss():
    values = torch.tensor([0.1, 2.0, 0.7], dtype=torch.float64, requires_grad=True)
    for tilt in (0.1, 4.0):
        found = torch.autograd.grad(tilted_mean(values, tilt), values)[0]
        torch.testing.assert_close(found, (tilt * values.detach()).softmax(0))


@pytest.mark.parametrize("by_class", [False, True])
def test_ignored_rows_row_order_class_names_and_absent_classes_do_not_matter_to_the_tilted_loss(by_class):
    scores, target, _ = batch()
    loss = TiltedLoss(2.0, by_class=by_class)
    value = loss(scores, target)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(loss(scores[order], target[order]), value)
    torch.testing.assert_close(loss(scores[:, [3, 0, 1, 2]], (target + 1) % 4), value)
    torch.testing.assert_close(loss(torch.cat([scores, scores]), torch.cat([target, torch.full((12,), -100)])), value)
    only = torch.zeros_like(target)
    wanted = functional.cross_entropy(scores, only) if by_class else loss(scores, only)
    torch.testing.assert_close(loss(scores, only), wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("tilt", [-5.0, 0.0, 1e-8, 5.0])
@pytest.mark.parametrize("case", ["one row", "one class", "ignored", "no weight", "C = 1", "all"])
def test_the_tilted_loss_and_its_gradient_are_finite(dtype, tilt, case):
    scores, target, _ = batch()
    scores = scores[:, :1] if case == "C = 1" else scores
    target = {"ignored": torch.full_like(target, -100), "one class": torch.ones_like(target),
              "C = 1": torch.zeros_like(target)}.get(case, target)  # fmt: skip
    rows = slice(0, 1) if case == "one row" else slice(None)
    weight = torch.zeros(12) if case == "no weight" else None
    for scale in (1.0, 1e4):
        leaf = (scale * scores[rows]).to(dtype).clamp(-6e4, 6e4).requires_grad_()
        for by_class in (False, True):
            value = TiltedLoss(tilt, by_class=by_class)(leaf, target[rows], sample_weight=weight)
            gradient = torch.autograd.grad(value, leaf)[0]
            assert torch.isfinite(value)
            assert torch.isfinite(gradient).all()
            if case in ("ignored", "no weight", "C = 1"):
                assert float(value.detach()) == pytest.approx(0.0, abs=1e-6)
                assert not gradient.any()


def test_the_tilted_loss_expresses_the_prior_of_its_rows_or_the_same_for_all_classes():
    prior = torch.tensor([0.7, 0.3, 0.0])
    torch.testing.assert_close(TiltedLoss().effective_prior(prior), prior)
    torch.testing.assert_close(TiltedLoss(by_class=True).effective_prior(prior), torch.tensor([0.5, 0.5, 0.0]))
