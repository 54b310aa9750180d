"""Confusion-aware losses: naive re-derivation, costs from decisions, balancing by F1, limits, what is refused."""

import copy
import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from tailwise.errors import SettingError, UnknownNameError
from tailwise.losses.confusion_aware import (
    BalancedConfusionAwareLoss,
    ConfusionAwareLoss,
    confusion_aware_values,
    confusion_entropy_values,
)

torch.set_num_threads(1)
LOGITS = torch.tensor([[2.0, 0.5, -1.0, 0.0], [0.2, 1.5, 0.3, -0.7], [-0.5, 0.1, 0.4, 1.2]], dtype=torch.float64)
TARGET = torch.tensor([0, 2, 3])
COSTS = [[0, 0.2, 0.1, 0.1], [0.3, 0, 0.2, 0.1], [0.2, 0.3, 0, 0.1], [0.1, 0.1, 0.3, 0]]
WEIGHTS = [0.5, 1.0, 2.0, 4.0]
SETTINGS = {
    "instance": {},
    "instance weighted": {"reg_weight": 0.3, "class_weights": WEIGHTS},
    "population": {"mode": "population", "cost_matrix": COSTS},
    "population weighted": {
        "mode": "population",
        "cost_matrix": COSTS,
        "reg_weight": 2.0,
        "class_weights": WEIGHTS,
    },
    "legacy": {"legacy_entropy": True},
    "legacy weighted": {"legacy_entropy": True, "reg_weight": 0.5, "class_weights": WEIGHTS},
}


def batch(rows=12, classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(rows, classes, dtype=torch.float64, generator=generator)
    return logits, torch.arange(rows) % classes


def softmax(z):
    exponentials = [math.exp(s - max(z)) for s in z]
    return [e / sum(exponentials) for e in exponentials]


def naive(z, y, *, mode="instance", cost_matrix=None, reg_weight=1.0, class_weights=(1, 1, 1, 1), legacy_entropy=False):
    """One row, in plain Python."""
    p = softmax(z)
    value = -class_weights[y] * math.log(p[y])
    for j in range(len(z)):
        if j == y:
            continue
        if legacy_entropy:
            value += reg_weight * p[j] * math.log(p[j])
        else:
            cost = p[j] if mode == "instance" else cost_matrix[y][j]
            value -= reg_weight * cost * math.log(1 - p[j])
    return value


@pytest.mark.parametrize("name", SETTINGS)
def test_values_equal_a_naive_loop_over_rows(name):
    logits, target = batch()
    found = ConfusionAwareLoss(**SETTINGS[name], reduction="none")(logits, target)
    wanted = [naive(z, y, **SETTINGS[name]) for z, y in zip(logits.tolist(), target.tolist(), strict=True)]
    assert found.tolist() == pytest.approx(wanted, rel=1e-11)


@pytest.mark.parametrize(("name", "value"), [("population", 1.068647), ("instance", 1.148361), ("legacy", 0.153928)])
def test_golden_vectors_of_the_specification(name, value):
    assert ConfusionAwareLoss(**SETTINGS[name])(LOGITS, TARGET).item() == pytest.approx(value, abs=5e-7)


@pytest.mark.parametrize("name", SETTINGS)
def test_gradcheck(name):
    logits, target = batch(rows=5)
    target[0] = -100
    logits.requires_grad_()
    loss = ConfusionAwareLoss(**SETTINGS[name])
    if not name.startswith("instance"):
        assert torch.autograd.gradcheck(lambda z: loss(z, target), logits)
        assert torch.autograd.gradgradcheck(lambda z: loss(z, target), logits)
        return
    # The costs of a row are constants in the gradient.
    target = target.where(target >= 0, 0)
    costs, weights = functional.softmax(logits, dim=1).detach(), loss.class_weights

    def fixed(z):
        return confusion_aware_values(z, target, costs, loss.reg_weight, weights)

    assert torch.autograd.gradcheck(fixed, logits)
    assert torch.autograd.gradgradcheck(fixed, logits)
    found = torch.autograd.grad(loss(logits, target), logits)[0]
    torch.testing.assert_close(found, torch.autograd.grad(fixed(logits).mean(), logits)[0], rtol=1e-12, atol=1e-15)


def test_neutral_settings_are_cross_entropy():
    logits, target = batch()
    plain = functional.cross_entropy(logits, target)
    for loss in (
        ConfusionAwareLoss(reg_weight=0.0),
        ConfusionAwareLoss(reg_weight=0.0, legacy_entropy=True),
        ConfusionAwareLoss("population", num_classes=4),
        ConfusionAwareLoss("population", cost_matrix=np.eye(4)),
    ):
        torch.testing.assert_close(loss(logits, target), plain, rtol=1e-14, atol=0)


def test_the_regulariser_is_a_penalty_and_the_legacy_form_a_reward():
    logits, target = batch()
    plain = functional.cross_entropy(logits, target, reduction="none")
    assert (ConfusionAwareLoss(reduction="none")(logits, target) > plain).all()
    assert (ConfusionAwareLoss(legacy_entropy=True, reduction="none")(logits, target) < plain).all()


def test_costs_push_down_the_class_they_name():
    logits = torch.tensor([[1.0, 0.5, -2.0]], dtype=torch.float64, requires_grad=True)

    def slope(reg_weight):
        loss = ConfusionAwareLoss("population", cost_matrix=[[9, 0, 1], [0, 9, 0], [0, 0, 9]], reg_weight=reg_weight)
        return torch.autograd.grad(loss(logits, torch.tensor([0])), logits)[0][0]

    gold, other, confusable = (slope(1.0) - slope(0.0)).tolist()
    assert confusable > 0
    assert gold < 0
    assert other < 0


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_extreme_scores_give_finite_values_and_gradients_and_stay_as_they_are(classes, dtype):
    patterns = torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 1.0], [-1.0, 1.0, -1.0], [0.0, 0.0, 0.0]])[:, :classes]
    ones = np.ones((classes, classes))
    losses = [
        ConfusionAwareLoss(),
        ConfusionAwareLoss(legacy_entropy=True),
        ConfusionAwareLoss("population", cost_matrix=ones),
        BalancedConfusionAwareLoss(0),
        BalancedConfusionAwareLoss(0, mode="population", cost_matrix=ones, legacy_gradient=True),
    ]
    for scale in (0.0, 1.0, 20.0, 100.0, 1e4):
        for label in range(classes):
            for loss in losses:
                logits = (scale * patterns).to(dtype).requires_grad_()
                before = logits.detach().clone()
                value = loss(logits, torch.full((4,), label))
                (gradient,) = torch.autograd.grad(value, logits)
                assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
                assert torch.isfinite(value)
                assert torch.isfinite(gradient).all()
                assert torch.equal(logits.detach(), before)


def test_a_class_of_probability_one_that_is_wrong_still_gets_the_exact_gradient():
    # log(1 - p_1) = z_0 - logsumexp(z) for two classes, although p_1 is 1 in this arithmetic.
    logits = torch.tensor([[0.0, 800.0]], dtype=torch.float64, requires_grad=True)
    loss = ConfusionAwareLoss("population", cost_matrix=[[0, 1], [1, 0]])
    value = loss(logits, torch.tensor([0]))
    assert value.item() == 1600.0
    assert torch.autograd.grad(value, logits)[0].tolist() == [[-2.0, 2.0]]


def test_one_class_costs_nothing():
    logits = torch.tensor([[3.0]], requires_grad=True)
    for loss in (
        ConfusionAwareLoss(),
        ConfusionAwareLoss(legacy_entropy=True),
        ConfusionAwareLoss("population", num_classes=1),
        BalancedConfusionAwareLoss(0),
    ):
        value = loss(logits, torch.tensor([0]))
        assert value.item() == 0.0
        assert torch.autograd.grad(value, logits)[0].item() == 0.0


def test_costs_are_shares_of_the_errors_of_a_class():
    loss = ConfusionAwareLoss("population", num_classes=3)
    gold, predicted = [0, 0, 0, 0, 1, 1, 2, -100], [0, 1, 1, 2, 1, 1, 0, 5]
    loss.update_costs(gold, predicted)
    wanted = torch.tensor([[0, 2 / 3, 1 / 3], [0, 0, 0], [1, 0, 0]], dtype=torch.float64)
    torch.testing.assert_close(loss.cost_matrix, wanted)
    assert loss.stateful
    assert BalancedConfusionAwareLoss(0, mode="population", num_classes=3).stateful
    assert not ConfusionAwareLoss().stateful
    assert not BalancedConfusionAwareLoss(0).stateful
    fresh = ConfusionAwareLoss("population", num_classes=3)
    fresh.load_state_dict(copy.deepcopy(loss.state_dict()))
    assert torch.equal(fresh.cost_matrix, loss.cost_matrix)
    # The costs are set anew, not added up.
    fresh.update_costs(torch.tensor([0, 1]), torch.tensor([0, 0]))
    assert fresh.cost_matrix.tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 0]]
    fresh.update_costs([], [])
    assert not fresh.cost_matrix.any()


@pytest.mark.parametrize("name", SETTINGS)
def test_ignored_rows_change_nothing_and_parts_add_up(name):
    logits, target = batch()
    loss = ConfusionAwareLoss(**SETTINGS[name])
    longer = torch.cat([logits, torch.full((2, 4), 1e4, dtype=torch.float64)])
    marked = torch.cat([target, torch.tensor([-100, -100])])
    whole = loss(logits, target)
    torch.testing.assert_close(loss(longer, marked), whole, rtol=1e-13, atol=0)
    normalizer = loss.denominator(marked)
    parts = sum(loss(z, y, normalizer=normalizer) for z, y in zip(longer.split(5), marked.split(5), strict=True))
    torch.testing.assert_close(parts, whole, rtol=1e-13, atol=0)


def test_relabelling_the_classes_changes_nothing_where_the_costs_move_with_them():
    logits, target = batch()
    order, place = [2, 0, 3, 1], torch.tensor([1, 3, 0, 2])
    setting = SETTINGS["population weighted"]
    moved = {
        **setting,
        "cost_matrix": np.array(COSTS)[order][:, order],
        "class_weights": [WEIGHTS[j] for j in order],
    }
    pairs = [
        (ConfusionAwareLoss(**setting), ConfusionAwareLoss(**moved)),
        (BalancedConfusionAwareLoss(1, **setting), BalancedConfusionAwareLoss(3, **moved)),
    ]
    for one, other in pairs:
        torch.testing.assert_close(other(logits[:, order], place[target]), one(logits, target), rtol=1e-12, atol=0)


def naive_balanced(logits, target, catch_all, sample_weight, **setting):
    rows = list(zip(logits.tolist(), target.tolist(), sample_weight, strict=True))
    found = sum(s * softmax(z)[y] for z, y, s in rows if y != catch_all)
    rejected = sum(s * softmax(z)[y] for z, y, s in rows if y == catch_all)
    weight = found / (sum(sample_weight) - rejected)
    total = sum(s * naive(z, y, **setting) * (weight if y == catch_all else 1.0) for z, y, s in rows)
    return total / sum(sample_weight)


@pytest.mark.parametrize("name", SETTINGS)
def test_balanced_values_equal_a_naive_loop_over_rows(name):
    logits, target = batch(rows=9)
    for sample_weight in ([1.0] * 9, [1.0, 2.0, 3.0] * 3):
        found = BalancedConfusionAwareLoss(1, **SETTINGS[name])(
            logits, target, sample_weight=torch.tensor(sample_weight)
        )
        assert found.item() == pytest.approx(
            naive_balanced(logits, target, 1, sample_weight, **SETTINGS[name]), rel=1e-11
        )


def test_a_row_of_sample_weight_two_counts_as_two_rows():
    logits, target = batch(rows=6)
    loss = BalancedConfusionAwareLoss(0)
    weight = torch.tensor([2.0, 1, 1, 1, 2, 1])
    twice = torch.cat([torch.arange(6), torch.tensor([0, 4])])
    torch.testing.assert_close(loss(logits, target, sample_weight=weight), loss(logits[twice], target[twice]))


def test_gradcheck_of_the_balanced_loss():
    logits, target = batch(rows=5)
    logits.requires_grad_()
    setting = SETTINGS["population weighted"]
    through = BalancedConfusionAwareLoss(0, legacy_gradient=True, **setting)
    assert torch.autograd.gradcheck(lambda z: through(z, target), logits)
    # By default the weight is a constant.
    stopped = BalancedConfusionAwareLoss(0, **setting)
    probability = functional.softmax(logits, dim=1)[torch.arange(5), target].detach()
    rejected = target == 0
    weight = (probability[~rejected].sum() / (5 - probability[rejected].sum())).where(rejected, 1.0)
    rows = ConfusionAwareLoss(**setting, reduction="none")
    wanted = torch.autograd.grad((weight * rows(logits, target)).mean(), logits)[0]
    found = torch.autograd.grad(stopped(logits, target), logits)[0]
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-15)
    assert not torch.allclose(found, torch.autograd.grad(through(logits, target), logits)[0], rtol=1e-3)


def test_a_batch_of_the_catch_all_class_alone_weighs_nothing_and_one_without_it_is_not_balanced():
    logits, _ = batch(rows=4)
    logits.requires_grad_()
    loss = BalancedConfusionAwareLoss("NIL", class_names=["a", "NIL", "b", "c"])
    alone = loss(logits, torch.ones(4, dtype=torch.long))
    assert alone.item() == 0.0
    assert torch.isfinite(torch.autograd.grad(alone, logits)[0]).all()
    target = torch.tensor([0, 2, 3, 0])
    torch.testing.assert_close(loss(logits, target), ConfusionAwareLoss()(logits, target))


def test_the_balanced_loss_mixes_rows_and_says_so():
    loss = BalancedConfusionAwareLoss(0, mode="population", num_classes=4, class_weights=WEIGHTS)
    assert not loss.separable
    assert ConfusionAwareLoss().separable
    logits, target = batch()
    with pytest.raises(SettingError, match="BalancedConfusionAwareLoss compares the rows of a batch with each other"):
        loss(logits, target, normalizer=12.0)
    before = loss(logits, target)
    loss.update_costs([0, 1], [1, 0])
    assert loss(logits, target) > before
    prior = torch.tensor([0.7, 0.1, 0.1, 0.1], dtype=torch.float64)
    wanted = prior * torch.tensor(WEIGHTS, dtype=torch.float64)
    torch.testing.assert_close(loss.effective_prior(prior), wanted / wanted.sum())


@pytest.mark.parametrize("name", ["instance weighted", "population weighted", "legacy weighted"])
def test_compiles_without_a_graph_break(name):
    logits, target = batch()
    loss = ConfusionAwareLoss(**SETTINGS[name])
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(logits, target), loss(logits, target))
    torch._dynamo.reset()


def test_the_legacy_function_is_the_legacy_option():
    logits, target = batch()
    found = ConfusionAwareLoss(legacy_entropy=True, reg_weight=0.7, reduction="none")(logits, target)
    assert torch.equal(found, confusion_entropy_values(logits, target, 0.7))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "corpus"}, "Expected `mode` to be one of instance, population, but got 'corpus'."),
        ({"reg_weight": -1.0}, "Expected `reg_weight` to be a finite number of at least 0, but got -1.0."),
        ({"mode": "population"}, "Mode 'population' needs the number of classes"),
        ({"mode": "population", "num_classes": 3, "legacy_entropy": True}, "Use mode 'instance'."),
        ({"cost_matrix": COSTS}, "A `cost_matrix` is used with mode 'population' only."),
        ({"mode": "population", "cost_matrix": [[0, 1]]}, "one number per pair of classes, (C, C), but got (1, 2)."),
        ({"mode": "population", "cost_matrix": [[0, -1], [0, 0]]}, "to be finite and not negative"),
        ({"mode": "population", "cost_matrix": "x"}, "one number per pair of classes, (C, C), but got 'x'."),
        ({"mode": "population", "cost_matrix": [[0, 1], [1]]}, "one number per pair of classes, (C, C), but got [[0"),
        *(
            ({"mode": "population", "num_classes": number}, f"to be a whole number of at least 1, but got {number!r}.")
            for number in (-5, 0, 2.5, math.nan)
        ),
        (
            {"mode": "population", "cost_matrix": COSTS, "class_names": ["a", "b"]},
            "The arguments disagree on the number of classes: 4 by `cost_matrix`, 2 by `class_names`.",
        ),
    ],
)
def test_what_is_refused(settings, message):
    with pytest.raises(SettingError) as error:
        ConfusionAwareLoss(**settings)
    assert message in str(error.value)


def test_decisions_that_are_refused():
    loss = ConfusionAwareLoss("population", num_classes=3)
    with pytest.raises(SettingError, match="to be class indices \\(N,\\), but got int64 \\(2,\\) and int64 \\(1,\\)"):
        loss.update_costs([0, 1], [0])
    with pytest.raises(SettingError, match="to be class indices \\(N,\\), but got int64 \\(1,\\) and float64"):
        loss.update_costs([0], [0.5])
    with pytest.raises(
        SettingError, match=r"Expected `predicted` to be class indices \(N,\), but got \[\[0\], \[0, 1\]\]"
    ):
        loss.update_costs([0, 1], [[0], [0, 1]])
    with pytest.raises(SettingError, match="Expected class indices from 0 to 2 in `predicted`, but got 3"):
        loss.update_costs([0], [3])
    with pytest.raises(SettingError, match="no costs to set in mode 'instance'"):
        ConfusionAwareLoss().update_costs([0], [1])
    with pytest.raises(UnknownNameError, match="There is no class 'O'"):
        BalancedConfusionAwareLoss("O", class_names=["NIL", "a"])
    with pytest.raises(SettingError, match="the catch-all class is 9, but the logits have 4 classes"):
        BalancedConfusionAwareLoss(9)(*batch())
    with pytest.raises(SettingError, match="made for 3 classes, but the logits have 4"):
        loss(*batch())
