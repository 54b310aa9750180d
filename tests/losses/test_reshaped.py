"""Poly-1, vector-scaling and influence-balanced losses: naive re-derivation, gradients, neutral settings, limits."""

import contextlib
import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from tailwise.errors import SettingError, UnknownNameError
from tailwise.losses import cross_entropy
from tailwise.losses.balanced_softmax import BalancedSoftmaxLoss
from tailwise.losses.cross_entropy import WeightedCrossEntropyLoss
from tailwise.losses.focal import FocalLoss
from tailwise.losses.influence_balanced import (
    InfluenceBalancedLoss,
    RescaledInfluenceBalancedLoss,
    influence_factors,
)
from tailwise.losses.poly import PolyLoss, poly_values
from tailwise.losses.vector_scaling import VectorScalingLoss, inverse_scales, vector_scaling_values

torch.set_num_threads(1)
COUNTS = [1000, 100, 20, 5]
WEIGHTS = [0.5, 1.0, 2.0, 4.0]
LOGITS = torch.tensor([[2.0, 0.5, -1.0, 0.0], [0.2, 1.5, 0.3, -0.7], [-0.5, 0.1, 0.4, 1.2]], dtype=torch.float64)
TARGET = torch.tensor([0, 2, 3])
LOSSES = {
    "poly": (PolyLoss, {}),
    "poly -1 weighted": (PolyLoss, {"epsilon": -1.0, "class_weights": WEIGHTS}),
    "poly focal": (PolyLoss, {"epsilon": 2.0, "focus": 2.0}),
    "poly focal 0.5 weighted": (PolyLoss, {"focus": 0.5, "class_weights": WEIGHTS}),
    "vs": (VectorScalingLoss, {"class_counts": COUNTS}),
    "vs weighted": (
        VectorScalingLoss,
        {"class_counts": COUNTS, "strength": 0.5, "scaling_power": 0.1, "class_weights": WEIGHTS},
    ),
    "vs prior": (VectorScalingLoss, {"prior": [0.25] * 4, "training_counts": COUNTS}),
    "ib": (InfluenceBalancedLoss, {"alpha": 10.0, "class_weights": None}),
    "ib focal 0.5 weighted": (InfluenceBalancedLoss, {"alpha": 10.0, "focus": 0.5, "class_weights": WEIGHTS}),
    "ib through": (
        InfluenceBalancedLoss,
        {"alpha": 10.0, "focus": 1.0, "eps": 0.1, "detach_influence": False, "class_weights": WEIGHTS},
    ),
}
RESCALED = {
    "rescaled": {"class_weights": None},
    "rescaled focal weighted": {"focus": 1.0, "eps": 0.1, "class_weights": WEIGHTS},
}


def build(name, **options):
    kind, setting = LOSSES[name]
    return kind(**setting, **options)


def batch(rows=12, classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(rows, classes, dtype=torch.float64, generator=generator)
    features = torch.randn(rows, 5, dtype=torch.float64, generator=generator)
    return logits, torch.arange(rows) % classes, features


def naive(z, y, h, kind, setting):
    """One row, in plain Python."""

    def probability(scores):
        return math.exp(scores[y]) / sum(math.exp(s) for s in scores)

    weight, focus = (setting.get("class_weights") or [1, 1, 1, 1])[y], setting.get("focus", 0.0)
    if kind is VectorScalingLoss:
        drawn, known = setting.get("class_counts") or setting["prior"], COUNTS
        scores = [
            s / (max(known) / n) ** setting.get("scaling_power", 0.3)
            + setting.get("strength", 1.0) * math.log(d / sum(drawn))
            for s, n, d in zip(z, known, drawn, strict=True)
        ]
        return -weight * math.log(probability(scores))
    p = probability(z)
    value = -((1 - p) ** focus) * math.log(p)
    if kind is PolyLoss:
        return weight * (value + setting.get("epsilon", 1.0) * (1 - p) ** (focus + 1))
    exponentials = [math.exp(s) for s in z]
    distance = sum(abs(e / sum(exponentials) - (j == y)) for j, e in enumerate(exponentials))
    return weight * value * setting["alpha"] / (distance * sum(abs(x) for x in h) + setting.get("eps", 1e-3))


def naive_values(logits, target, features, kind, setting):
    rows = zip(logits.tolist(), target.tolist(), features.tolist(), strict=True)
    return [naive(z, y, h, kind, setting) for z, y, h in rows]


@pytest.mark.parametrize("name", LOSSES)
def test_values_equal_a_naive_loop_over_rows(name):
    logits, target, features = batch()
    wanted = naive_values(logits, target, features, *LOSSES[name])
    found = build(name, reduction="none")(logits, target, features=features)
    assert found.tolist() == pytest.approx(wanted, rel=1e-11)
    assert build(name, reduction="mean")(logits, target, features=features).item() == pytest.approx(np.mean(wanted))
    assert build(name, reduction="sum")(logits, target, features=features).item() == pytest.approx(sum(wanted))
    weights = LOSSES[name][1].get("class_weights") or [1, 1, 1, 1]
    by_weight = sum(wanted) / sum(weights[y] for y in target)
    weighted = build(name, reduction="weighted_mean")(logits, target, features=features)
    assert weighted.item() == pytest.approx(by_weight)
    doubled = build(name, reduction="mean")(logits, target, features=features, sample_weight=torch.arange(12) % 3)
    assert doubled.item() == pytest.approx(np.average(wanted, weights=np.arange(12) % 3))


def test_golden_vectors_of_the_specification():
    features = torch.tensor([[3.0, 0.0], [-2.0, 3.0], [1.0, -3.0]])
    found = [
        PolyLoss()(LOGITS, TARGET),
        VectorScalingLoss(COUNTS)(LOGITS, TARGET),
        InfluenceBalancedLoss(10.0, class_weights=None)(LOGITS, TARGET, features=features),
    ]
    assert [value.item() for value in found] == pytest.approx([1.447144, 2.990228, 1.927332], abs=5e-7)


def test_neutral_settings_are_cross_entropy_and_the_losses_that_are_extended():
    logits, target, features = batch()
    nothing = torch.zeros_like(features)
    for weights in (None, WEIGHTS):
        plain = functional.cross_entropy(logits, target, reduction="none") * torch.tensor(weights or [1.0])[
            target if weights else torch.zeros_like(target)
        ].to(logits)
        options = {"class_weights": weights, "reduction": "none"}
        for loss in (
            PolyLoss(0.0, **options),
            VectorScalingLoss(COUNTS, strength=0.0, scaling_power=0.0, **options),
            InfluenceBalancedLoss(1e-3, **options),
        ):
            torch.testing.assert_close(loss(logits, target, features=nothing), plain, rtol=1e-14, atol=0)
        rescaled = RescaledInfluenceBalancedLoss(class_weights=weights)(logits, target, features=nothing)
        torch.testing.assert_close(rescaled, plain.mean(), rtol=1e-13, atol=0)
        focal = FocalLoss(2.0, **options)(logits, target)
        torch.testing.assert_close(PolyLoss(0.0, focus=2.0, **options)(logits, target), focal, rtol=1e-13, atol=0)
    balanced = BalancedSoftmaxLoss(COUNTS, strength=0.7)(logits, target)
    assert torch.equal(VectorScalingLoss(COUNTS, strength=0.7, scaling_power=0.0)(logits, target), balanced)
    weighted = VectorScalingLoss(COUNTS, strength=0.0, scaling_power=0.0, class_weights=WEIGHTS)(logits, target)
    assert torch.equal(weighted, WeightedCrossEntropyLoss(WEIGHTS)(logits, target))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("reduction", ["mean", "weighted_mean", "sum", "none"])
def test_first_and_second_derivatives(name, reduction, monkeypatch):
    if reduction == "weighted_mean":
        monkeypatch.setattr(cross_entropy, "wants_compiled_gradient", lambda logits: False)
    logits, target, features = batch(rows=5)
    target[0] = -100
    logits.requires_grad_()
    features.requires_grad_()
    loss = build(name, reduction=reduction)
    if not name.startswith("ib"):
        assert torch.autograd.gradcheck(lambda z: loss(z, target), logits)
        assert torch.autograd.gradgradcheck(lambda z: loss(z, target), logits)
        return
    if name == "ib through":
        assert torch.autograd.gradcheck(lambda z, h: loss(z, target, features=h), (logits, features))
        assert torch.autograd.gradgradcheck(lambda z, h: loss(z, target, features=h), (logits, features))
        return
    # The influence of a row is a constant in the gradient: a sample weight.
    gold = target.where(target >= 0, 0)
    misses = 1 - torch.softmax(logits.detach(), dim=1).gather(1, gold[:, None]).squeeze(1)
    factors = influence_factors(misses, features.detach(), loss.alpha, loss.eps)
    rows = FocalLoss(loss.focus, class_weights=loss.class_weights, reduction="none")(logits, target) * factors
    value = loss(logits, target, features=features)
    scale = (value.detach().sum() / rows.detach().sum()).item()
    (wanted,) = torch.autograd.grad(rows.sum() * scale, logits, retain_graph=True)
    (found,) = torch.autograd.grad(value.sum(), logits, create_graph=True)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(torch.autograd.grad(value.sum(), logits, retain_graph=True)[0], found)
    (again,) = torch.autograd.grad(rows.sum() * scale, logits, create_graph=True)
    for one in (found, again):
        assert one.requires_grad
    twice = [torch.autograd.grad((one**2).sum(), logits, retain_graph=True)[0] for one in (found, again)]
    torch.testing.assert_close(*twice, rtol=1e-9, atol=1e-14)


def test_by_default_no_gradient_passes_through_the_influence_to_the_features():
    logits, target, features = batch()
    features.requires_grad_()
    value = InfluenceBalancedLoss(class_weights=None)(logits.requires_grad_(), target, features=features)
    assert torch.autograd.grad(value, features, allow_unused=True, retain_graph=True)[0] is None
    through = InfluenceBalancedLoss(class_weights=None, detach_influence=False)(logits, target, features=features)
    assert torch.autograd.grad(through, features)[0].abs().sum() > 0


@pytest.mark.parametrize("name", LOSSES)
def test_ignored_rows_change_nothing_and_parts_add_up(name):
    logits, target, features = batch()
    loss = build(name)
    longer = torch.cat([logits, torch.full((2, 4), 1e4, dtype=torch.float64)])
    marked = torch.cat([target, torch.tensor([-100, -100])])
    seen = torch.cat([features, torch.full((2, 5), 1e30, dtype=torch.float64)])
    whole = loss(logits, target, features=features)
    torch.testing.assert_close(loss(longer, marked, features=seen), whole, rtol=1e-13, atol=0)
    normalizer = loss.denominator(marked)
    parts = zip(longer.split(5), marked.split(5), seen.split(5), strict=True)
    total = sum(loss(z, y, features=h, normalizer=normalizer) for z, y, h in parts)
    torch.testing.assert_close(total, whole, rtol=1e-13, atol=0)


@pytest.mark.parametrize("name", LOSSES)
def test_without_a_valid_row_the_loss_is_zero_and_keeps_the_graph(name):
    logits, _, features = batch(rows=3)
    logits.requires_grad_()
    value = build(name)(logits, torch.full((3,), -100), features=features)
    assert value.item() == 0.0
    assert not torch.autograd.grad(value, logits)[0].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("classes", [1, 2, 3])
def test_extreme_inputs_give_finite_values_and_gradients_and_stay_as_they_are(dtype, classes):
    patterns = torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 1.0], [-1.0, 1.0, -1.0], [0.0, 0.0, 0.0]])[:, :classes]
    largest = torch.finfo(dtype).max
    hidden = torch.tensor([0.0, 1.0, 1e4, largest])[:, None].expand(4, 3).to(dtype)
    counts = [50, 0, 3][:classes]
    with pytest.warns(UserWarning, match="no training instance") if classes > 1 else contextlib.nullcontext():
        scaling = VectorScalingLoss(counts)
    losses = [scaling, VectorScalingLoss(prior=[1 / classes] * classes, scaling_power=0.4)]
    # Gradients reach alpha / eps, and through the influence alpha / eps^2, which float16 cannot hold.
    half = dtype == torch.float16
    for focus in (0.0, 0.25, 0.5, 1.0, 2.0, 5.0):
        losses += [PolyLoss(epsilon, focus=focus) for epsilon in (-1.0, 1.0)]
        losses += [
            InfluenceBalancedLoss(10.0 if half else 1000.0, focus=focus, class_weights=None),
            RescaledInfluenceBalancedLoss(focus=focus, class_weights=None),
        ]
        if not half:
            losses.append(InfluenceBalancedLoss(focus=focus, class_weights=None, detach_influence=False))
    for scale in (0.0, 20.0, 100.0, 1e4):
        for label in range(classes):
            for loss in losses:
                logits, features = (scale * patterns).to(dtype).requires_grad_(), hidden.clone().requires_grad_()
                before = logits.detach().clone()
                target = torch.full((4,), label)
                for sample_weight in (None, torch.ones(4)):
                    value = loss(logits, target, features=features, sample_weight=sample_weight)
                    gradients = torch.autograd.grad(value, (logits, features), allow_unused=True)
                    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
                    assert torch.isfinite(value)
                    assert all(torch.isfinite(gradient).all() for gradient in gradients if gradient is not None)
                assert torch.equal(logits.detach(), before)


@pytest.mark.parametrize("epsilon", [-1.0, 1.0, 3.0])
@pytest.mark.parametrize("focus", [0.0, 0.5, 2.0])
def test_the_written_out_gradient_of_poly_is_that_of_the_formula(epsilon, focus):
    # Rows from far below to next to probability one.
    gap = torch.tensor([-700.0, -30.0, -3.0, 0.0, 3.0, 12.0, 30.0, 700.0], dtype=torch.float64)
    logits = torch.stack([gap, torch.zeros_like(gap)], dim=1).requires_grad_()
    target = torch.zeros(8, dtype=torch.int64)
    plain = poly_values(logits, target, epsilon, focus).sum()
    fused = PolyLoss(epsilon, focus=focus)(logits, target) * 8
    torch.testing.assert_close(fused, plain, rtol=1e-12, atol=0)
    (wanted,) = torch.autograd.grad(plain, logits)
    (found,) = torch.autograd.grad(fused, logits)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-30)


def test_epsilon_is_the_change_of_the_linear_term():
    # Next to p = 1 cross-entropy is 1 - p and the loss (1 + epsilon) (1 - p); -1 takes the term out.
    logits = torch.tensor([[12.0, 0.0]], dtype=torch.float64)
    miss = 1 / (1 + math.exp(12))
    target = torch.tensor([0])
    assert PolyLoss(2.0)(logits, target).item() == pytest.approx(3 * miss, rel=1e-5)
    assert PolyLoss(-1.0)(logits, target).item() == pytest.approx(miss**2 / 2, rel=1e-5)


def test_vector_scaling_shrinks_the_scores_of_rare_classes():
    assert inverse_scales(np.array([1000.0, 10.0]), 0.5).tolist() == pytest.approx([1.0, 0.1])
    loss = VectorScalingLoss(COUNTS)
    assert loss.factors.tolist() == pytest.approx([(n / 1000) ** 0.3 for n in COUNTS])
    logits, target, _ = batch()
    values = vector_scaling_values(logits, target, loss.factors, torch.tensor(COUNTS).double().log())
    torch.testing.assert_close(values.mean(), loss(logits, target), rtol=1e-12, atol=0)


def test_after_class_aware_sampling_the_factors_stay_and_the_shift_goes():
    logits, target, _ = batch()
    loss = VectorScalingLoss([7, 7, 7, 7], training_counts=COUNTS)
    assert torch.equal(loss.factors, VectorScalingLoss(COUNTS).factors)
    stretched = functional.cross_entropy(logits * loss.factors, target)
    torch.testing.assert_close(loss(logits, target), stretched, rtol=1e-13, atol=0)
    # Without the natural counts it is cross-entropy.
    plain = VectorScalingLoss([7, 7, 7, 7])(logits, target)
    torch.testing.assert_close(plain, functional.cross_entropy(logits, target), rtol=1e-13, atol=0)


def test_a_class_without_an_instance_is_smoothed_with_a_warning():
    with pytest.warns(UserWarning, match=r"1 of 3 classes have no training instance \('c'\)"):
        loss = VectorScalingLoss([9, 4, 0], class_names=["a", "b", "c"])
    assert loss.factors.tolist() == pytest.approx([1.0, 0.5**0.3, 0.1**0.3])
    assert loss.shift.exp().tolist() == pytest.approx([10 / 16, 5 / 16, 1 / 16])
    with pytest.warns(UserWarning, match="one is added to every class before the factors are taken"):
        VectorScalingLoss(prior=[0.5, 0.25, 0.25], training_counts=[9, 4, 0])


def test_rows_of_little_influence_and_rare_classes_count_more():
    logits = torch.tensor([[3.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    misses = 1 - torch.softmax(logits, dim=1)[:, 0]
    fitted, unsure = influence_factors(misses, torch.ones(2, 3)).tolist()
    assert fitted > unsure
    assert unsure == pytest.approx(1000 / (2 * 0.5 * 3 + 1e-3))
    # The factor of a row that is fitted exactly is alpha / eps.
    assert influence_factors(torch.zeros(1), torch.ones(1, 3), 2.0, 0.5).item() == 4.0
    weights = InfluenceBalancedLoss(class_counts=[90, 10]).class_weights
    assert (weights[1] / weights[0]).item() == pytest.approx(9.0)


@pytest.mark.parametrize("name", RESCALED)
def test_the_rescaled_loss_divides_by_the_mean_factor(name):
    logits, target, features = batch(rows=8)
    setting = RESCALED[name]
    loss = RescaledInfluenceBalancedLoss(**setting)
    rows = InfluenceBalancedLoss(1.0, **setting, reduction="none")(logits, target, features=features)
    misses = 1 - torch.softmax(logits, dim=1).gather(1, target[:, None]).squeeze(1)
    factors = influence_factors(misses, features, 1.0, loss.eps)
    wanted = rows.mean() / factors.mean()
    torch.testing.assert_close(loss(logits, target, features=features), wanted, rtol=1e-12, atol=0)
    # A row of weight 2 counts as two rows; ignored rows do not count.
    weight = torch.tensor([2.0, 1, 1, 1, 2, 1, 1, 0])
    again = torch.tensor([0, 0, 1, 2, 3, 4, 4, 5, 6])
    twice = loss(logits[again], target[again], features=features[again])
    torch.testing.assert_close(loss(logits, target, features=features, sample_weight=weight), twice)
    marked = torch.cat([target, torch.tensor([-100])])
    longer, seen = torch.cat([logits, logits[:1]]), torch.cat([features, features[:1]])
    torch.testing.assert_close(loss(longer, marked, features=seen), wanted, rtol=1e-12, atol=0)
    # It does not depend on the scale of the features, except for eps.
    small_eps = {**setting, "eps": 1e-12}
    values = [RescaledInfluenceBalancedLoss(**small_eps)(logits, target, features=c * features) for c in (1.0, 100.0)]
    torch.testing.assert_close(values[0], values[1], rtol=1e-9, atol=0)
    # The factors, and with them their mean, are constants in the gradient.
    logits.requires_grad_()
    fixed = FocalLoss(loss.focus, class_weights=loss.class_weights, reduction="none")(logits, target)
    (found,) = torch.autograd.grad(loss(logits, target, features=features), logits)
    (gradient,) = torch.autograd.grad((fixed * factors).sum() / factors.sum(), logits)
    torch.testing.assert_close(found, gradient, rtol=1e-10, atol=1e-14)


def test_the_rescaled_loss_is_not_separable_and_refuses_a_part_of_a_batch():
    logits, target, features = batch()
    loss = RescaledInfluenceBalancedLoss(class_weights=None)
    assert not loss.separable
    assert InfluenceBalancedLoss(class_weights=None).separable
    with pytest.raises(SettingError, match="compares the rows of a batch"):
        loss(logits, target, features=features, normalizer=3.0)
    empty = loss(logits.requires_grad_(), torch.full((12,), -100), features=features)
    assert empty.item() == 0.0
    assert not torch.autograd.grad(empty, logits)[0].any()


@pytest.mark.parametrize("name", LOSSES)
def test_relabelling_the_classes_changes_nothing(name):
    logits, target, features = batch()
    order = torch.tensor([2, 0, 3, 1])
    kind, setting = LOSSES[name]
    per_class = ("class_weights", "class_counts", "prior", "training_counts")
    moved = {k: [v[i] for i in order] if k in per_class and v is not None else v for k, v in setting.items()}
    found = kind(**moved)(logits[:, order], torch.argsort(order)[target], features=features)
    torch.testing.assert_close(found, kind(**setting)(logits, target, features=features), rtol=1e-12, atol=0)


def test_effective_prior():
    prior = torch.tensor(COUNTS, dtype=torch.float64) / sum(COUNTS)
    weights = torch.tensor(WEIGHTS, dtype=torch.float64)
    for loss in (
        PolyLoss(class_weights=WEIGHTS),
        InfluenceBalancedLoss(class_weights=WEIGHTS),
        RescaledInfluenceBalancedLoss(class_weights=WEIGHTS),
    ):
        torch.testing.assert_close(loss.effective_prior(prior), weights * prior / (weights * prior).sum())
    assert torch.equal(PolyLoss().effective_prior(prior), prior)
    assert VectorScalingLoss(COUNTS).effective_prior(prior).tolist() == pytest.approx([0.25] * 4)
    weighted = VectorScalingLoss(COUNTS, class_weights=WEIGHTS).effective_prior(prior)
    torch.testing.assert_close(weighted, weights / weights.sum())


def test_effective_prior_is_what_the_best_scaled_logits_express():
    # One input for all rows, so that the best logits are those of the class shares; Newton steps find them.
    prior, weights = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64), [1.0, 3.0, 2.0]
    loss = VectorScalingLoss(prior=prior, strength=0.6, class_weights=weights, reduction="none")
    bias = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [bias], max_iter=200, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure():
        optimiser.zero_grad()
        value = (loss(bias.expand(3, 3), torch.arange(3)) * prior).sum()
        value.backward()
        return value

    optimiser.step(closure)
    expressed = torch.softmax(bias.detach() * loss.factors, dim=0)
    torch.testing.assert_close(expressed, loss.effective_prior(prior), rtol=1e-5, atol=1e-7)


def test_class_tensors_are_buffers_and_what_the_losses_need_is_declared():
    assert set(VectorScalingLoss(COUNTS, class_weights=WEIGHTS).state_dict()) == {"shift", "factors", "class_weights"}
    for kind in (InfluenceBalancedLoss, RescaledInfluenceBalancedLoss):
        assert kind.requires_features
        assert not kind.shapes_representation
    assert not PolyLoss.requires_features
    assert not VectorScalingLoss.requires_features
    other = VectorScalingLoss([5, 20, 100, 1000])
    loss = VectorScalingLoss(COUNTS)
    loss(LOGITS, TARGET)
    loss.load_state_dict(other.state_dict())
    assert torch.equal(loss(LOGITS, TARGET), other(LOGITS, TARGET))


@pytest.mark.parametrize("name", LOSSES)
def test_losses_compile_without_a_graph_break(name):
    logits, target, features = batch()
    target[0] = -100
    loss = build(name)
    compiled = torch.compile(loss, backend="eager", fullgraph=True)
    wanted = loss(logits, target, features=features)
    torch.testing.assert_close(compiled(logits, target, features=features), wanted, rtol=1e-12, atol=0)
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("construct", "message"),
    [
        (lambda: PolyLoss(-1.5), "Expected `epsilon` to be a finite number of at least -1"),
        (lambda: PolyLoss(math.nan), "`epsilon`.*got nan"),
        (lambda: PolyLoss(focus=-1.0), "Expected `focus` to be a finite number of at least 0, but got -1.0"),
        (lambda: PolyLoss(class_weights="balanced"), "needs `class_counts`"),
        (VectorScalingLoss, "exactly one of `class_counts` and `prior`"),
        (lambda: VectorScalingLoss(COUNTS, prior=[0.25] * 4), "exactly one of `class_counts` and `prior`"),
        (lambda: VectorScalingLoss(prior=[1.0, 0.0]), "`prior` without zeros"),
        (lambda: VectorScalingLoss(COUNTS, scaling_power=-0.1), "`scaling_power` to be a finite number of at least 0"),
        (lambda: VectorScalingLoss(COUNTS, strength=math.inf), "`strength` to be a finite number of at least 0"),
        (
            lambda: VectorScalingLoss(COUNTS, training_counts=[1, 2, 3, -4]),
            "`training_counts` to be finite and not neg",
        ),
        (lambda: VectorScalingLoss(COUNTS, training_counts=[1, 2]), "Got 2 `training_counts` for 4 classes"),
        (lambda: VectorScalingLoss(COUNTS, class_weights=[1, 2]), "Got 2 class weights for 4 classes"),
        (lambda: InfluenceBalancedLoss(0.0), "`alpha` to be a finite number larger than 0, but got 0.0"),
        (lambda: InfluenceBalancedLoss(eps=0.0), "`eps` to be a finite number larger than 0, but got 0.0"),
        (lambda: InfluenceBalancedLoss(focus=-1.0), "`focus` to be a finite number of at least 0, but got -1.0"),
        (InfluenceBalancedLoss, "'balanced' needs `class_counts`"),
        (lambda: RescaledInfluenceBalancedLoss(eps=math.inf), "`eps` to be a finite number larger than 0"),
        (lambda: RescaledInfluenceBalancedLoss(reduction="sum"), "no reduction 'sum'"),
    ],
)
def test_bad_parameters_are_refused(construct, message):
    with pytest.raises(SettingError, match=message):
        construct()


def test_bad_batches_are_refused():
    for loss in (InfluenceBalancedLoss(class_weights=None), RescaledInfluenceBalancedLoss(class_weights=None)):
        with pytest.raises(SettingError, match=r"expected `features` \(3, D\), what the head saw, but got none"):
            loss(LOGITS, TARGET)
        with pytest.raises(SettingError, match=r"expected `features` \(3, D\), what the head saw, but got \(3,\)"):
            loss(LOGITS, TARGET, features=torch.ones(3))
    for name in LOSSES:
        with pytest.raises(SettingError, match="a target is outside the classes"):
            build(name)(LOGITS, torch.tensor([0, 4, 1]), features=torch.ones(3, 2))
    for name in ("poly -1 weighted", "vs", "ib focal 0.5 weighted"):
        with pytest.raises(SettingError, match="made for 4 classes, but the logits have 2"):
            build(name)(LOGITS[:, :2], TARGET, features=torch.ones(3, 2))
    with pytest.raises(UnknownNameError, match="Unknown class-weight rule 'balancd'"):
        PolyLoss(class_weights="balancd", class_counts=COUNTS)
