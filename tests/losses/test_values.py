"""What the losses compute: naive re-derivations, neutral settings, limits, invariances."""

import copy
import io
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from tailwise.errors import SettingError
from tailwise.losses import (
    LOSSES,
    BalancedSoftmaxLoss,
    CrossEntropyLoss,
    FocalLoss,
    LDAMLoss,
    WeightedCrossEntropyLoss,
)

COUNTS = [1000, 100, 20, 5]
LOGITS = torch.tensor([[2.0, 0.5, -1.0, 0.0], [0.2, 1.5, 0.3, -0.7], [-0.5, 0.1, 0.4, 1.2]], dtype=torch.float64)
TARGET = torch.tensor([0, 2, 3])


def every_loss(counts=COUNTS, **kwargs):
    """Each loss, plain and with every option that changes its values."""
    return {
        "ce": CrossEntropyLoss(**kwargs),
        "ce smoothed": CrossEntropyLoss(label_smoothing=0.1, **kwargs),
        "wce": WeightedCrossEntropyLoss(class_counts=counts, **kwargs),
        "wce smoothed": WeightedCrossEntropyLoss(class_counts=counts, label_smoothing=0.1, **kwargs),
        "focal": FocalLoss(**kwargs),
        "focal 0.5 weighted": FocalLoss(0.5, class_weights="effective_number", class_counts=counts, **kwargs),
        "focal legacy": FocalLoss(
            1.5, class_weights="balanced", class_counts=counts, legacy_weight_inside=True, **kwargs
        ),
        "ldam": LDAMLoss(counts, **kwargs),
        "ldam weighted": LDAMLoss(counts, class_weights="effective_number", beta=0.9999, **kwargs),
        "balanced-softmax": BalancedSoftmaxLoss(counts, **kwargs),
        "balanced-softmax 0.5": BalancedSoftmaxLoss(counts, strength=0.5, **kwargs),
    }


NAMES = list(every_loss())


def batch(rows=12, classes=4, dtype=torch.float64, seed=0, ignored=3):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, classes, dtype=dtype, generator=generator)
    target = torch.randint(classes, (rows,), generator=generator)
    target[:ignored] = -100
    return logits, target


def naive_value(name, z, y, counts):
    """One row, in plain Python."""
    n, total = [float(c) for c in counts], float(sum(counts))
    classes = len(z)

    def log_p(scores, j):
        top = max(scores)
        return scores[j] - top - math.log(sum(math.exp(s - top) for s in scores))

    balanced = [total / (classes * c) for c in n]
    weight, scores, focus = [1.0] * classes, list(z), 0.0
    if name.startswith("wce") or name == "focal legacy":
        weight = balanced
    if name in {"focal 0.5 weighted", "ldam weighted"}:
        beta = 0.999 if name.startswith("focal") else 0.9999
        weight = [(1 - beta) / (1 - beta**c) for c in n]
        mean = sum(w * c for w, c in zip(weight, n, strict=True)) / total
        weight = [w / mean for w in weight]
    if name.startswith("ldam"):
        scores = [30.0 * (s - (0.5 * (min(n) / n[j]) ** 0.25 if j == y else 0.0)) for j, s in enumerate(z)]
    if name.startswith("balanced-softmax"):
        strength = 0.5 if name.endswith("0.5") else 1.0
        scores = [s + strength * math.log(n[j] / total) for j, s in enumerate(z)]
    if name.startswith("focal"):
        focus = {"focal": 2.0, "focal 0.5 weighted": 0.5, "focal legacy": 1.5}[name]
    if name.endswith("smoothed"):
        return sum(-(0.9 * (j == y) + 0.1 / classes) * weight[j] * log_p(scores, j) for j in range(classes))
    nll = -log_p(scores, y)
    p = math.exp(-weight[y] * nll) if name == "focal legacy" else math.exp(-nll)
    return weight[y] * (1 - p) ** focus * nll


@pytest.mark.parametrize("name", NAMES)
def test_values_equal_a_naive_loop_over_rows(name):
    logits, target = batch(rows=20)
    found = every_loss(reduction="none")[name](logits, target)
    for row in range(20):
        wanted = 0.0 if target[row] == -100 else naive_value(name, logits[row].tolist(), int(target[row]), COUNTS)
        assert float(found[row]) == pytest.approx(wanted, rel=1e-9, abs=1e-14), row


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reduction", ["mean", "weighted_mean", "sum"])
def test_reductions_follow_from_the_rows(name, reduction):
    logits, target = batch()
    loss = every_loss(reduction=reduction)[name]
    rows = every_loss(reduction="none")[name](logits, target)
    valid = target != -100
    divisor = {"mean": valid.sum(), "sum": 1.0}.get(reduction)
    if divisor is None:
        weights = loss.class_weights if loss.class_weights is not None else torch.ones(4, dtype=torch.float64)
        divisor = weights[target[valid]].sum()
        assert float(loss.denominator(target)) == pytest.approx(float(divisor), rel=1e-12)
    assert float(loss(logits, target)) == pytest.approx(float(rows.sum() / divisor), rel=1e-12)


def test_golden_vectors_of_the_specification():
    def value(loss, logits=LOGITS):
        return float(loss(logits, TARGET))

    assert value(CrossEntropyLoss()) == pytest.approx(0.913090, abs=5e-7)
    assert value(WeightedCrossEntropyLoss(class_counts=COUNTS)) == pytest.approx(0.882483, abs=5e-7)
    assert value(WeightedCrossEntropyLoss(class_counts=COUNTS, reduction="mean")) == pytest.approx(20.765930, abs=5e-6)
    class_balanced = WeightedCrossEntropyLoss("effective_number", class_counts=COUNTS, beta=0.999)
    assert value(class_balanced) == pytest.approx(0.882495, abs=5e-7)
    assert value(FocalLoss(2.0)) == pytest.approx(0.450855, abs=5e-7)
    assert value(LDAMLoss(COUNTS), LOGITS / 4) == pytest.approx(9.569585, abs=5e-6)
    assert value(BalancedSoftmaxLoss(COUNTS)) == pytest.approx(2.664750, abs=5e-6)
    margins = LDAMLoss(COUNTS).margins.tolist()
    assert margins == pytest.approx([0.132957, 0.236435, 0.353553, 0.5], abs=5e-7)


@pytest.mark.parametrize(
    "loss",
    [
        WeightedCrossEntropyLoss(None),
        WeightedCrossEntropyLoss(np.ones(4)),
        FocalLoss(0.0),
        LDAMLoss(COUNTS, max_margin=0.0, scale=1.0),
        BalancedSoftmaxLoss(COUNTS, strength=0.0),
        BalancedSoftmaxLoss([7, 7, 7, 7]),
    ],
    ids=["wce none", "wce ones", "focal 0", "ldam 0", "bsl 0", "bsl uniform"],
)
def test_neutral_settings_are_cross_entropy(loss):
    logits, target = batch()
    logits.requires_grad_()
    found = torch.autograd.grad(loss(logits, target), logits)[0]
    plain = functional.cross_entropy(logits, target)
    torch.testing.assert_close(loss(logits, target), plain, rtol=1e-14, atol=0)
    torch.testing.assert_close(found, torch.autograd.grad(plain, logits)[0], rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reduction", ["mean", "weighted_mean", "sum", "none"])
def test_gradcheck(name, reduction):
    logits, target = batch(rows=5, ignored=1)
    if name.startswith("ldam"):
        logits = torch.tanh(logits) / 10
    loss = every_loss(reduction=reduction)[name]
    assert torch.autograd.gradcheck(lambda z: loss(z, target), logits.requires_grad_())


def test_second_derivatives_are_right_too():
    logits, target = batch(rows=3, ignored=0)
    for name, loss in every_loss().items():
        scale = 0.05 if name.startswith("ldam") else 1.0
        assert torch.autograd.gradgradcheck(lambda z, loss=loss: loss(z, target), (logits * scale).requires_grad_()), (
            name
        )


@pytest.mark.parametrize("name", NAMES)
def test_sum_of_the_parts_equals_the_whole(name):
    logits, target = batch(rows=16, dtype=torch.float32, ignored=5)
    logits.requires_grad_()
    for reduction in ("mean", "weighted_mean", "sum"):
        loss = every_loss(reduction=reduction)[name]
        whole = loss(logits, target)
        wanted = torch.autograd.grad(whole, logits)[0]
        normalizer = None if reduction == "sum" else sum(loss.denominator(part) for part in target.split(3))
        parts = sum(loss(z, y, normalizer=normalizer) for z, y in zip(logits.split(3), target.split(3), strict=True))
        torch.testing.assert_close(parts, whole, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(torch.autograd.grad(parts, logits)[0], wanted, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_sum_of_the_parts_equals_the_whole_with_sample_weights(name):
    logits, target = batch(rows=12, dtype=torch.float32)
    weight = torch.rand(12, generator=torch.Generator().manual_seed(1))
    loss = every_loss()[name]
    whole = loss(logits, target, sample_weight=weight)
    normalizer = float(loss.denominator(target, weight))
    parts = sum(
        loss(z, y, sample_weight=w, normalizer=normalizer)
        for z, y, w in zip(logits.split(5), target.split(5), weight.split(5), strict=True)
    )
    torch.testing.assert_close(parts, whole, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_ignored_rows_change_nothing(name):
    logits, target = batch(ignored=0)
    loss = every_loss()[name]
    extra = torch.cat([logits, torch.full((3, 4), 1e4, dtype=torch.float64)]).requires_grad_()
    longer = loss(extra, torch.cat([target, torch.full((3,), -100)]))
    torch.testing.assert_close(longer, loss(logits, target), rtol=1e-13, atol=0)
    assert not torch.autograd.grad(longer, extra)[0][-3:].any()


def test_another_ignore_index_may_be_a_class_or_beyond():
    logits, target = batch(ignored=0)
    for index in (0, 255):
        for name, loss in every_loss(ignore_index=index).items():
            marked = target if index == 0 else target.where(target != 0, 255)
            hidden = target.where(target != 0, -100)
            torch.testing.assert_close(loss(logits, marked), every_loss()[name](logits, hidden), rtol=1e-13, atol=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("weighted", [False, True])
def test_without_a_valid_row_the_loss_is_zero_and_keeps_the_graph(name, weighted):
    logits = torch.randn(3, 4, requires_grad=True)
    target = torch.full((3,), -100)
    for reduction in ("mean", "weighted_mean", "sum", "none"):
        loss = every_loss(reduction=reduction)[name]
        value = loss(logits, target, sample_weight=torch.rand(3) if weighted else None).sum()
        assert value.item() == 0.0
        assert not torch.autograd.grad(value, logits)[0].any()
    normalised = every_loss()[name](logits, target, normalizer=torch.zeros(()))
    assert normalised.item() == 0.0


def test_a_batch_of_weight_zero_is_zero_not_nan():
    loss = WeightedCrossEntropyLoss([0.0, 1.0, 2.0, 300.0])
    logits = torch.randn(3, 4, requires_grad=True)
    value = loss(logits, torch.zeros(3, dtype=torch.long))
    assert value.item() == 0.0
    assert not torch.autograd.grad(value, logits)[0].any()


@pytest.mark.parametrize("name", NAMES)
def test_relabelling_the_classes_changes_nothing(name):
    logits, target = batch(ignored=0)
    order = torch.tensor([2, 0, 3, 1])
    relabelled = torch.argsort(order)[target]
    permuted = every_loss([COUNTS[i] for i in order])[name]
    torch.testing.assert_close(permuted(logits[:, order], relabelled), every_loss()[name](logits, target))


@given(st.integers(0, 2**32 - 1), st.floats(-50, 50))
@settings(max_examples=30, deadline=None)
def test_row_order_and_a_shift_of_all_scores_change_nothing(seed, shift):
    logits, target = batch(seed=seed % 1000)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(seed))
    for loss in every_loss().values():
        torch.testing.assert_close(
            loss(logits[order] + shift, target[order]), loss(logits, target), rtol=1e-9, atol=1e-12
        )


@pytest.mark.filterwarnings("ignore:1 of 3 classes have no training instance")
def test_extreme_inputs_give_finite_values_and_gradients_and_leave_the_input_alone():
    tried = 0
    focuses = [
        FocalLoss(f, class_weights=w, class_counts=[3, 0, 1])
        for f in (0, 0.25, 0.5, 1, 2, 5)
        for w in (None, "balanced")
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        losses = [*every_loss([3, 0, 1]).values(), *focuses]
    patterns = [
        [[1.0, 0.0, -1.0]],
        [[-1.0, 0.0, 1.0], [1.0, 1.0, 1.0]],
        [[0.0, 0.0, 0.0], [1.0, -1.0, -1.0], [-1.0, -1.0, 1.0]],
    ]
    for scale in (0.0, 1.0, 20.0, 100.0, 1e4):
        for pattern in patterns:
            for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
                for label in (0, 1, 2):
                    for loss in losses:
                        logits = (torch.tensor(pattern) * scale).to(dtype).requires_grad_()
                        before = logits.detach().clone()
                        value = loss(logits, torch.full((len(pattern),), label))
                        (gradient,) = torch.autograd.grad(value, logits)
                        assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
                        assert torch.isfinite(value)
                        assert torch.isfinite(gradient.float()).all()
                        assert torch.equal(logits.detach(), before)
                        tried += 1
    assert tried == 5 * 3 * 4 * 3 * (len(NAMES) + 12)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("focus", [0.0, 0.25, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_focal_loss_is_flat_where_the_probability_is_exactly_one(focus, dtype):
    logits = torch.tensor([[1e4, -1e4, 0.0]], dtype=dtype, requires_grad=True)
    value = FocalLoss(focus)(logits, torch.tensor([0]))
    assert value.item() == 0.0
    assert torch.autograd.grad(value, logits)[0].tolist() == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize("focus", [0.25, 0.5, 1.0, 2.0, 5.0])
def test_focal_loss_next_to_probability_one_follows_its_series(focus):
    # With q = 1 - p small, l = q^(f + 1) (1 + O(q)).
    for exponent in (-4, -6, -7):
        gap = -exponent * math.log(10.0)
        logits = torch.tensor([[gap, 0.0]], dtype=torch.float64, requires_grad=True)
        q = 1 / (1 + math.exp(gap))
        value = FocalLoss(focus)(logits, torch.tensor([0]))
        assert value.item() == pytest.approx(q ** (focus + 1), rel=1e-3)
        slope = torch.autograd.grad(value, logits)[0][0, 0]
        assert float(slope) == pytest.approx(-(focus + 1) * q ** (focus + 1), rel=2e-3)


@pytest.mark.parametrize("classes", [1, 2, 20_000])
def test_any_number_of_classes(classes):
    counts = np.arange(1, classes + 1)
    logits = torch.randn(2, classes, requires_grad=True)
    for loss in every_loss(counts).values():
        value = loss(logits, torch.tensor([0, classes - 1]))
        assert torch.isfinite(value)
        assert torch.isfinite(torch.autograd.grad(value, logits)[0]).all()


def test_half_precision_is_computed_in_single_precision():
    logits, target = batch(dtype=torch.float32)
    for dtype in (torch.float16, torch.bfloat16):
        low = logits.to(dtype)
        for loss in every_loss().values():
            torch.testing.assert_close(loss(low, target), loss(low.float(), target), rtol=0, atol=0)


def test_class_tensors_are_buffers_and_survive_a_state_dict():
    for name, loss in every_loss().items():
        assert not list(loss.parameters()), name
        stored = io.BytesIO()
        torch.save(loss.state_dict(), stored)
        stored.seek(0)
        fresh = every_loss([9, 8, 7, 6])[name]
        fresh.load_state_dict(torch.load(stored, weights_only=True))
        logits, target = batch()
        assert torch.equal(fresh(logits, target), loss(logits, target)), name
        assert torch.equal(copy.deepcopy(loss)(logits, target), loss(logits, target)), name


def test_a_device_without_float64_keeps_the_class_tensors_in_float32():
    loss = WeightedCrossEntropyLoss(class_counts=COUNTS)

    def convert(tensor):
        if tensor.dtype == torch.float64:
            raise TypeError("no float64 here")
        return tensor.clone()

    loss._apply(convert)
    assert loss.class_weights.dtype == torch.float32


@pytest.mark.parametrize("name", NAMES)
def test_losses_compile_without_a_graph_break(name):
    logits, target = batch(dtype=torch.float32)
    loss = every_loss()[name]
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(logits, target), loss(logits, target))
    torch._dynamo.reset()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_losses_run_on_a_gpu():
    logits, target = batch(dtype=torch.float32)
    for name, loss in every_loss().items():
        on_gpu = copy.deepcopy(loss).cuda()(logits.cuda(), target.cuda())
        torch.testing.assert_close(on_gpu.cpu(), loss(logits, target), msg=name)


def prior_of(counts):
    counts = torch.tensor(counts, dtype=torch.float64)
    return counts / counts.sum()


def test_effective_prior_of_losses_that_leave_the_prior_alone():
    prior = prior_of(COUNTS)
    for loss in (CrossEntropyLoss(), FocalLoss(), LDAMLoss(COUNTS), WeightedCrossEntropyLoss(None)):
        assert torch.equal(loss.effective_prior(prior), prior)


def test_effective_prior_is_uniform_where_the_loss_takes_the_prior_out():
    uniform = torch.full((4,), 0.25, dtype=torch.float64)
    for loss in (
        WeightedCrossEntropyLoss(class_counts=COUNTS),
        BalancedSoftmaxLoss(COUNTS),
        FocalLoss(class_weights="balanced", class_counts=COUNTS),
        LDAMLoss(COUNTS, class_weights="balanced"),
    ):
        torch.testing.assert_close(loss.effective_prior(prior_of(COUNTS)), uniform)


def test_effective_prior_of_a_half_strong_balanced_softmax_is_the_root():
    prior = prior_of(COUNTS)
    root = prior.sqrt() / prior.sqrt().sum()
    torch.testing.assert_close(BalancedSoftmaxLoss(COUNTS, strength=0.5).effective_prior(prior), root)


def test_the_legacy_prior_of_a_class_without_an_instance_is_not_smoothed():
    for classes in ({"class_counts": [3, 1, 0]}, {"prior": [0.75, 0.25, 0.0]}):
        for strength in (0.5, 1.0, 2.0):
            shift = BalancedSoftmaxLoss(**classes, strength=strength, legacy_prior=True).shift
            assert shift.tolist() == pytest.approx(
                [math.log(p**strength + 1e-12) for p in (0.75, 0.25, 0.0)], rel=1e-14
            )


def test_effective_prior_is_what_the_best_logits_express():
    # With no features the best logits are constants; their softmax is the distribution the loss makes them express.
    prior = prior_of([60, 30, 10])
    rows = torch.arange(3).repeat_interleave(torch.tensor([60, 30, 10]))
    for loss in (
        CrossEntropyLoss(),
        WeightedCrossEntropyLoss([1.0, 2.0, 7.0]),
        BalancedSoftmaxLoss([60, 30, 10], strength=0.7),
    ):
        constants = torch.zeros(3, dtype=torch.float64, requires_grad=True)
        optimiser = torch.optim.LBFGS([constants], max_iter=200, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

        def closure(loss=loss, constants=constants, optimiser=optimiser):
            optimiser.zero_grad()
            value = loss(constants.expand(100, 3), rows)
            value.backward()
            return value

        optimiser.step(closure)
        torch.testing.assert_close(constants.detach().softmax(0), loss.effective_prior(prior), rtol=1e-4, atol=1e-6)


def test_only_ldam_wants_cosine_scores_and_a_scale():
    assert {name for name in LOSSES if LOSSES[name].requires_cosine} == {"ldam", "group-ldam"}
    assert LDAMLoss(COUNTS, scale=12).inference_scale == 12.0
    assert CrossEntropyLoss().inference_scale == 1.0


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FocalLoss(-1.0), "Expected `focus` to be a finite number of at least 0, but got -1.0"),
        (lambda: FocalLoss(float("nan")), "`focus`"),
        (lambda: LDAMLoss(COUNTS, scale=0.0), "`scale` to be a finite number larger than 0"),
        (lambda: LDAMLoss(COUNTS, max_margin=-0.1), "`max_margin`"),
        (BalancedSoftmaxLoss, "exactly one of `class_counts` and `prior`"),
        (lambda: BalancedSoftmaxLoss(COUNTS, prior=[0.5, 0.5]), "exactly one of"),
        (lambda: BalancedSoftmaxLoss(prior=[1.0, 0.0]), "`prior` without zeros"),
        (lambda: BalancedSoftmaxLoss(prior=[0.5, float("nan")]), "`prior` to be finite and not negative, but got nan"),
        (lambda: BalancedSoftmaxLoss(prior=[0.0, 0.0], legacy_prior=True), "`prior` with at least one number above 0"),
        (lambda: BalancedSoftmaxLoss(COUNTS, strength=-1.0), "`strength`"),
        (lambda: CrossEntropyLoss(label_smoothing=1.5), "`label_smoothing` to lie between 0 and 1, but got 1.5"),
        (lambda: CrossEntropyLoss(reduction="average"), "`reduction` to be one of mean, weighted_mean, sum, none"),
        (WeightedCrossEntropyLoss, "'balanced' needs `class_counts`"),
    ],
)
def test_bad_parameters_are_refused(build, message):
    with pytest.raises(SettingError, match=message.replace("(", r"\(")):
        build()


@pytest.mark.parametrize(
    ("logits", "target", "message"),
    [
        (torch.zeros(2, 3, 4), torch.zeros(2, dtype=torch.long), r"logits \(M, C\) and target \(M,\)"),
        (torch.zeros(2, 4), torch.zeros(3, dtype=torch.long), r"got \(2, 4\) and \(3,\)"),
        (torch.zeros(2, 4), torch.zeros(2), "integer class indices as target, but got torch.float32"),
        (torch.zeros(2, 4, dtype=torch.long), torch.zeros(2, dtype=torch.long), "floating-point logits"),
        (torch.zeros(2, 4), torch.tensor([0, 4]), "outside the classes"),
        (torch.zeros(2, 4), torch.tensor([0, -1]), "outside the classes"),
    ],
)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reduction", ["weighted_mean", "mean", "none"])
def test_bad_batches_are_refused(name, reduction, logits, target, message):
    with pytest.raises(SettingError, match=message):
        every_loss(reduction=reduction)[name](logits, target)


def test_a_loss_refuses_logits_of_another_number_of_classes():
    for name, loss in every_loss().items():
        if not name.startswith("ce") and name != "focal":
            with pytest.raises(SettingError, match="made for 4 classes, but the logits have 5"):
                loss(torch.zeros(2, 5), torch.tensor([0, 1]))


def test_a_normalizer_without_a_sum_and_sample_weights_of_another_shape_are_refused():
    logits, target = batch()
    with pytest.raises(SettingError, match="`normalizer` has no meaning with reduction 'none'"):
        CrossEntropyLoss(reduction="none")(logits, target, normalizer=3.0)
    with pytest.raises(SettingError, match="one `sample_weight` per row"):
        CrossEntropyLoss()(logits, target, sample_weight=torch.ones(3))


def test_integer_types_of_targets_do_not_matter():
    logits, target = batch(ignored=0)
    for dtype in (torch.int32, torch.int16, torch.uint8):
        for loss in every_loss().values():
            assert torch.equal(loss(logits, target.to(dtype)), loss(logits, target))
