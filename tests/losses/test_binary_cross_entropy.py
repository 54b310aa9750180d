"""Binary cross-entropy, class-weighted and positive-weighted: naive re-derivation, odds, limits, what is refused."""

import math
import warnings

import numpy as np
import pytest
import torch
from torch.nn import functional

from tailwise.errors import SettingError, UnknownNameError
from tailwise.losses import binary_cross_entropy as module
from tailwise.losses.binary_cross_entropy import (
    BinaryCrossEntropyLoss,
    PositiveWeightedBinaryCrossEntropyLoss,
    WeightedBinaryCrossEntropyLoss,
    binary_cross_entropy_sum,
    binary_cross_entropy_values,
    label_odds,
    without_positive_weights,
)

torch.set_num_threads(1)
COUNTS, ROWS = [700, 150, 40, 8], 1000
# The example of the specification of these losses, with its numbers.
LOGITS = torch.tensor([[2.0, 0.5, -1.0, 0.0], [0.2, 1.5, 0.3, -0.7], [-0.5, 0.1, 0.4, 1.2]], dtype=torch.float64)
TARGET = torch.tensor([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]])


def every_loss(**kwargs):
    return {
        "bce": BinaryCrossEntropyLoss(**kwargs),
        "wbce": WeightedBinaryCrossEntropyLoss(class_counts=COUNTS, **kwargs),
        "pos-bce": PositiveWeightedBinaryCrossEntropyLoss(class_counts=COUNTS, num_rows=ROWS, **kwargs),
        "pos-bce uniform": PositiveWeightedBinaryCrossEntropyLoss(5.0, **kwargs),
    }


NAMES = list(every_loss())


def batch(rows=9, seed=0, soft=False):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(rows, 4, dtype=torch.float64, generator=generator)
    target = (torch.rand(rows, 4, generator=generator) < 0.3).double()
    return logits, target * torch.rand(rows, 4, dtype=torch.float64, generator=generator) if soft else target


def naive(name, z, y, label):
    p = 1 / (1 + math.exp(-z))
    both = min(COUNTS) / COUNTS[label] if name == "wbce" else 1.0
    positive = {"pos-bce": ((ROWS - COUNTS[label]) / COUNTS[label]) ** 0.5, "pos-bce uniform": 5.0}.get(name, 1.0)
    return -both * (positive * y * math.log(p) + (1 - y) * math.log(1 - p))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("soft", [False, True])
def test_values_and_sum_equal_a_naive_loop(name, soft):
    logits, target = batch(soft=soft)
    wanted = [
        [naive(name, z, y, j) for j, (z, y) in enumerate(zip(*row, strict=True))]
        for row in zip(logits.tolist(), target.tolist(), strict=True)
    ]
    found = every_loss(reduction="none")[name](logits, target)
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64), rtol=1e-11, atol=0)
    total = every_loss(reduction="sum")[name](logits, target)
    assert total.item() == pytest.approx(sum(map(sum, wanted)), rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("soft", [False, True])
def test_the_written_gradient_is_that_of_the_plain_formula(name, soft):
    logits, target = batch(soft=soft)
    loss = every_loss()[name]
    for function in (
        lambda z: loss.label_sum(z, target),
        lambda z: loss.label_values(z, target, valid=None).sum(),
    ):
        assert torch.autograd.gradcheck(function, logits.requires_grad_())
        assert torch.autograd.gradgradcheck(function, logits)


def test_margins_of_the_positives_are_taken_into_account():
    logits, target = batch(soft=True)
    margins = torch.tensor([0.0, 0.3, 1.0, 3.0], dtype=torch.float64)
    logits.requires_grad_()
    plain = binary_cross_entropy_values(logits, target, margins=margins).sum()
    fused = binary_cross_entropy_sum(logits, target, margins=margins)
    torch.testing.assert_close(fused, plain, rtol=1e-13, atol=0)
    one, other = (torch.autograd.grad(value, logits)[0] for value in (fused, plain))
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", NAMES)
def test_the_graph_can_be_used_twice_and_gradients_add_up(name):
    logits, target = batch()
    logits.requires_grad_()
    value = every_loss()[name](logits, target)
    value.backward(retain_graph=True)
    once = logits.grad.clone()
    value.backward()
    torch.testing.assert_close(logits.grad, 2 * once, rtol=1e-14, atol=0)


def test_a_transposed_view_and_a_target_that_wants_a_gradient():
    logits, target = batch()
    turned = logits.t().contiguous().t().requires_grad_()
    one = torch.autograd.grad(binary_cross_entropy_sum(turned, target), turned)[0]
    other = torch.autograd.grad(binary_cross_entropy_sum(logits.requires_grad_(), target), logits)[0]
    assert torch.equal(one, other)
    target.requires_grad_()
    (slope,) = torch.autograd.grad(BinaryCrossEntropyLoss().label_sum(logits, target), target)
    torch.testing.assert_close(slope, -logits.detach(), rtol=1e-12, atol=1e-12)


def test_without_weights_all_are_the_loss_of_torch():
    logits, target = batch()
    ones = [1.0] * 4
    wanted = functional.binary_cross_entropy_with_logits(logits.requires_grad_(), target)
    slope = torch.autograd.grad(wanted, logits)[0]
    for loss in (
        BinaryCrossEntropyLoss(),
        WeightedBinaryCrossEntropyLoss(None),
        WeightedBinaryCrossEntropyLoss(ones),
        PositiveWeightedBinaryCrossEntropyLoss(1.0),
        PositiveWeightedBinaryCrossEntropyLoss(class_counts=COUNTS, num_rows=ROWS, power=0.0),
    ):
        value = loss(logits, target)
        torch.testing.assert_close(value, wanted, rtol=1e-14, atol=0)
        torch.testing.assert_close(torch.autograd.grad(value, logits)[0], slope, rtol=1e-13, atol=1e-17)


def test_the_example_of_the_specification():
    assert BinaryCrossEntropyLoss()(LOGITS, TARGET).item() == pytest.approx(0.663273, abs=5e-7)
    assert BinaryCrossEntropyLoss(reduction="row_mean")(LOGITS, TARGET).item() == pytest.approx(2.653093, abs=1e-6)
    loss = PositiveWeightedBinaryCrossEntropyLoss(class_counts=COUNTS, num_rows=ROWS)
    assert loss.positive_weights.tolist() == pytest.approx([0.654654, 2.380476, 4.898979, 11.135529], abs=5e-7)
    assert loss(LOGITS, TARGET).item() == pytest.approx(1.268242, abs=5e-7)


def gradient_at_rates(loss, counts, rows):
    """Gradient by label at scores that express the rates in the data: pull of the positives, push of the negatives."""
    target = torch.zeros(rows, len(counts))
    for label, count in enumerate(counts):
        target[:count, label] = 1
    rates = torch.tensor(counts, dtype=torch.float64) / rows
    logits = torch.logit(rates).expand(rows, -1).clone().requires_grad_()
    gradient = torch.autograd.grad(loss(logits, target), logits)[0]
    return -gradient.clamp_max(0).sum(dim=0), gradient.clamp_min(0).sum(dim=0)


def test_class_weights_raise_the_negatives_of_rare_labels_as_much_as_their_positives():
    counts, rows = [500, 10], 1000
    plain_pull, plain_push = gradient_at_rates(BinaryCrossEntropyLoss(), counts, rows)
    weighted = WeightedBinaryCrossEntropyLoss("balanced", class_counts=counts, normalise="none")
    pull, push = gradient_at_rates(weighted, counts, rows)
    factor = (510 / 2) / 10
    assert (pull[1] / plain_pull[1]).item() == pytest.approx(factor)
    assert (push[1] / plain_push[1]).item() == pytest.approx(factor)
    # So the best score of the rare label stays where it was, and it is the negatives that fill its loss.
    torch.testing.assert_close(pull, push, rtol=1e-10, atol=0)
    values = weighted.label_values(
        torch.logit(torch.tensor([0.5, 0.01])).expand(1000, 2), torch.zeros(1000, 2), valid=None
    )
    assert values[10:, 1].sum() > 0.9 * factor * 990 * 0.01
    positive = PositiveWeightedBinaryCrossEntropyLoss(class_counts=counts, num_rows=rows, power=1.0)
    pull, push = gradient_at_rates(positive, counts, rows)
    assert (pull[1] / plain_pull[1]).item() == pytest.approx(99.0)
    assert (push[1] / plain_push[1]).item() == pytest.approx(1.0)


def test_the_largest_class_weight_is_1_by_default():
    loss = WeightedBinaryCrossEntropyLoss(class_counts=COUNTS)
    assert loss.class_weights.tolist() == pytest.approx([8 / 700, 8 / 150, 8 / 40, 1.0])
    named = WeightedBinaryCrossEntropyLoss({"b": 3.0}, class_names=["a", "b"])
    assert named.class_weights.tolist() == [1.0, 3.0]


@pytest.mark.parametrize("name", NAMES)
def test_the_effective_prior_is_what_the_best_scores_express(name):
    loss = every_loss()[name]
    counts = [7, 4, 2, 1]
    target = torch.zeros(10, 4)
    for label, count in enumerate(counts):
        target[:count, label] = 1
    rates = torch.tensor(counts, dtype=torch.float64) / 10
    best = torch.logit(loss.effective_prior(rates)).requires_grad_()
    gradient = torch.autograd.grad(loss(best.expand(10, 4), target), best)[0]
    assert gradient.abs().max() < 1e-14
    if name.startswith("pos"):
        torch.testing.assert_close(torch.sigmoid(loss.calibrated(best.detach())), rates)


def test_undoing_the_weights_keeps_the_type_of_the_scores():
    found = without_positive_weights(torch.zeros(2, 2), torch.tensor([1.0, math.e], dtype=torch.float64))
    torch.testing.assert_close(found, torch.tensor([[0.0, -1.0], [0.0, -1.0]]))


def test_weights_of_positives_by_rule_name_and_number():
    full = PositiveWeightedBinaryCrossEntropyLoss(class_counts=COUNTS, num_rows=ROWS, power=1.0, cap=None)
    assert full.positive_weights.tolist() == pytest.approx([300 / 700, 850 / 150, 24.0, 124.0])
    capped = PositiveWeightedBinaryCrossEntropyLoss(class_counts=COUNTS, num_rows=ROWS, power=1.0)
    assert capped.positive_weights.tolist() == pytest.approx([300 / 700, 850 / 150, 24.0, 100.0])
    named = PositiveWeightedBinaryCrossEntropyLoss({"b": 3.0}, class_names=["a", "b"])
    assert named.positive_weights.tolist() == [1.0, 3.0]
    assert PositiveWeightedBinaryCrossEntropyLoss(5).num_classes is None


def test_labels_of_no_row_and_of_every_row_have_finite_odds():
    with pytest.warns(UserWarning, match=r"1 of 3 classes have no training instance \('none'\)"):
        odds = label_odds([0, 10, 4], 10, ["none", "all", "some"])
    assert odds.tolist() == pytest.approx([9.0, 1 / 9, 1.5])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_extreme_scores_give_finite_values_and_gradients_and_stay_as_they_are(name, dtype):
    pattern = torch.tensor([[1.0, -1.0, 0.0, 1.0], [-1.0, 1.0, 1.0, -1.0]])
    loss = every_loss()[name]
    for scale in (0.0, 1.0, 20.0, 79.9, 80.1, 100.0, 1e4):
        for target in (torch.zeros(2, 4), torch.ones(2, 4), torch.eye(4)[:2]):
            logits = (scale * pattern).to(dtype).requires_grad_()
            before = logits.detach().clone()
            value = loss(logits, target)
            (gradient,) = torch.autograd.grad(value, logits)
            assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
            assert torch.isfinite(value)
            assert torch.isfinite(gradient).all()
            assert torch.equal(logits.detach(), before)
            plain = loss.label_values(logits.detach().double(), target.double(), valid=None).mean()
            torch.testing.assert_close(value.double(), plain, rtol=1e-6, atol=1e-30)


def test_certain_positives_keep_their_digits_in_single_precision():
    logits = torch.tensor([[12.0, -12.0]], requires_grad=True)
    value = BinaryCrossEntropyLoss(reduction="sum")(logits, torch.tensor([[1, 0]]))
    assert value.item() == pytest.approx(2 * math.log1p(math.exp(-12)), rel=1e-6)
    (gradient,) = torch.autograd.grad(value, logits)
    rate = 1 / (1 + math.exp(12))
    assert gradient.tolist() == [pytest.approx([-rate, rate], rel=1e-6)]


@pytest.mark.parametrize("name", NAMES)
def test_unknown_entries_change_nothing_and_parts_add_up(name):
    logits, target = batch()
    loss = every_loss()[name]
    longer = torch.cat([logits, torch.full((2, 4), 1e4, dtype=torch.float64)])
    marked = torch.cat([target, torch.full((2, 4), -100.0)])
    whole = loss(logits, target)
    torch.testing.assert_close(loss(longer, marked), whole, rtol=1e-13, atol=0)
    normalizer = loss.denominator(marked)
    parts = sum(loss(z, y, normalizer=normalizer) for z, y in zip(longer.split(5), marked.split(5), strict=True))
    torch.testing.assert_close(parts, whole, rtol=1e-13, atol=0)
    twice = loss(logits, target, sample_weight=torch.full((9,), 2.0))
    torch.testing.assert_close(twice, whole, rtol=1e-13, atol=0)
    nothing = loss(logits.requires_grad_(), torch.full((9, 4), -100))
    assert nothing.item() == 0.0
    assert not torch.autograd.grad(nothing, logits)[0].any()


def test_no_row_gives_zero():
    empty = torch.zeros(0, 4, requires_grad=True)
    value = BinaryCrossEntropyLoss()(empty, torch.zeros(0, 4))
    assert value.item() == 0.0
    assert torch.autograd.grad(value, empty)[0].shape == (0, 4)


@pytest.mark.parametrize("name", NAMES)
def test_without_gradients_the_value_is_the_same(name):
    logits, target = batch()
    loss = every_loss()[name]
    with torch.no_grad():
        silent = loss(logits, target)
    assert torch.equal(silent, loss(logits.requires_grad_(), target).detach())


def test_compiles_without_a_graph_break():
    logits, target = batch()
    loss = every_loss()["pos-bce"]
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(logits, target), loss(logits, target))
    torch._dynamo.reset()


def test_the_softplus_turns_linear_where_no_digit_is_lost():
    edge = torch.tensor([module._LINEAR_FROM - 1e-3, module._LINEAR_FROM + 1e-3], dtype=torch.float64)
    assert torch.equal(module.softplus(edge), edge)
    assert torch.isfinite(module.softplus(edge.float())).all()


def test_autocast_leaves_the_precision_as_it_is():
    logits, target = batch()
    loss, logits, target = every_loss()["wbce"], logits.float(), target.float()
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(logits, target), loss(logits, target.index_fill(0, torch.tensor([1]), -100))
    assert found[0].dtype == torch.float32
    assert torch.equal(found[0], loss(logits, target))
    assert torch.equal(found[1], loss(logits, target.index_fill(0, torch.tensor([1]), -100)))


def test_one_weight_for_all_positives_may_be_any_number():
    logits, target = batch()
    wanted = PositiveWeightedBinaryCrossEntropyLoss(3.0)(logits, target)
    for number in (3, np.float32(3), np.array(3.0), torch.tensor(3.0)):
        assert torch.equal(PositiveWeightedBinaryCrossEntropyLoss(number)(logits, target), wanted)


def test_what_is_refused():
    cases = [
        ({"positive_weights": "odds"}, UnknownNameError, "Unknown positive-weight rule 'odds'"),
        ({}, SettingError, "'odds_power' needs `class_counts`"),
        ({"class_counts": [1, 2]}, SettingError, "Expected `num_rows`, .* to be at least 2, but got None"),
        ({"class_counts": [1, 2], "num_rows": 1}, SettingError, "to be at least 2, but got 1"),
        ({"class_counts": [1, 20], "num_rows": 10}, SettingError, "label 1 has 20. `num_rows` is the number of train"),
        (
            {"class_counts": [1, 20], "num_rows": 10, "class_names": ["a", "b"]},
            SettingError,
            "at most `num_rows` = 10 instances per label, but label 'b' has 20",
        ),
        ({"class_counts": [1, 2], "num_rows": 10, "power": math.nan}, SettingError, "`power` to be finite"),
        ({"class_counts": [1, 2], "num_rows": 10, "cap": 0}, SettingError, "`cap` to be larger than 0 or None, but"),
        ({"positive_weights": 0.0}, SettingError, "`positive_weights` to be finite and larger than 0, but got 0.0"),
        ({"positive_weights": [1.0, 0.0]}, SettingError, "finite and larger than 0"),
        (
            {"positive_weights": [1.0, -1.0]},
            SettingError,
            "Expected `positive_weights` to be .*, but got -1.0 for class 1",
        ),
        ({"positive_weights": None}, SettingError, "Expected `positive_weights` to be .* larger than 0, but got None"),
        ({"positive_weights": {1.0}}, SettingError, r"Expected `positive_weights` to be .*, but got \{1.0\}"),
        ({"positive_weights": {"a": "x"}, "class_names": ["a"]}, SettingError, "`positive_weights` .* for class 'a'"),
        ({"positive_weights": {"a": 2.0}}, SettingError, "`positive_weights` by name need `class_names`"),
        ({"positive_weights": [1.0, 2.0], "class_counts": [1]}, SettingError, "Got 2 positive weights for 1 classes"),
        ({"positive_weights": {"c": 1.0}, "class_names": ["a"]}, UnknownNameError, "no class 'c' to weigh"),
    ]
    for arguments, error, message in cases:
        with warnings.catch_warnings(), pytest.raises(error, match=message):
            PositiveWeightedBinaryCrossEntropyLoss(**arguments)
    with pytest.raises(SettingError, match="'balanced' needs `class_counts`"):
        WeightedBinaryCrossEntropyLoss()
    with pytest.raises(UnknownNameError, match="Unknown normalisation 0"):
        WeightedBinaryCrossEntropyLoss(class_counts=[1, 2], normalise=0)
    with pytest.raises(SettingError, match="made for 4 labels, but the logits have 3"):
        every_loss()["pos-bce"](torch.zeros(2, 3), torch.zeros(2, 3))
