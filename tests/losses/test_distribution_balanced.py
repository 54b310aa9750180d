"""Distribution-balanced loss and its parts: naive re-derivation, neutral settings, limits, what is refused."""

import math
import warnings

import pytest
import torch
from torch.nn import functional

from tailwise.errors import SettingError, UnknownNameError
from tailwise.losses.distribution_balanced import (
    DB_VARIANTS,
    REWEIGHTINGS,
    DistributionBalancedLoss,
    rebalanced_weights,
)
from tailwise.losses.focal_multilabel import MultiLabelFocalLoss

torch.set_num_threads(1)
COUNTS, ROWS = [700, 150, 40, 8], 1000
LOGITS = torch.tensor([[2.0, 0.5, -1.0, 0.0], [0.2, 1.5, 0.3, -0.7], [-0.5, 0.1, 0.4, 1.2]], dtype=torch.float64)
TARGET = torch.tensor([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]])
PLAIN = {"reweighting": None, "logit_bias": 0.0, "negative_scale": 1.0}

SETTINGS = {
    **DB_VARIANTS,
    "legacy": {**DB_VARIANTS["ntr-fl"], "legacy_ntr": True},
    "wu": {"bias_over_scale": True, "alpha": None, "loss_weight": 2.0, "negative_scale": 5.0, "map_gamma": 0.3},
    "row max": {"divide_by_row_max": True, "focus": 0.5},
    "bce": {**PLAIN, "focus": 0.0, "alpha": None},
    **{name: {"reweighting": name, "focus": 1.0, "alpha": 0.25, "beta": 0.99} for name in REWEIGHTINGS},
}


def batch(rows=6, soft=False, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(rows, 4, dtype=torch.float64, generator=generator)
    target = (torch.rand(rows, 4, generator=generator) < 0.4).double()
    target[0] = 0.0
    return logits, target * torch.rand(rows, 4, dtype=torch.float64, generator=generator) if soft else target


def row_weights(setting, y):
    kind, beta = setting.get("reweighting", "rebalance"), setting.get("beta", 0.9)
    labels, effective = sum(y), [(1 - beta) / (1 - beta**n) for n in COUNTS]
    if kind is None:
        weights = [1.0] * 4
    elif kind == "rebalance":
        drawn = sum(t / n for t, n in zip(y, COUNTS, strict=True))
        shares = [1 / n / drawn if drawn else math.inf for n in COUNTS]
        weights = [0.1 + 1 / (1 + math.exp(-10 * (r - setting.get("map_gamma", 0.9)))) for r in shares]
    elif kind == "effective_number":
        weights = effective
    elif kind == "mean_effective_number":
        mean = sum(t * w for t, w in zip(y, effective, strict=True)) / labels if labels else 1 - beta
        weights = [mean] * 4
    elif kind == "effective_number_of_mean_count":
        mean = sum(t * n for t, n in zip(y, COUNTS, strict=True)) / labels if labels else math.inf
        weights = [(1 - beta) / (1 - beta**mean)] * 4
    else:
        weights = [(ROWS / n) ** (1.0 if kind == "inverse" else 0.5) for n in COUNTS]
    return [w / max(weights) for w in weights] if setting.get("divide_by_row_max") else weights


def naive_row(setting, z, y):
    focus, alpha = setting.get("focus", 2.0), setting.get("alpha", 0.5)
    k, kappa = setting.get("negative_scale", 2.0), setting.get("logit_bias", 0.05)
    present, absent = (1, 1) if alpha is None else (alpha, 1 - alpha)
    values = []
    for j, weight in enumerate(row_weights(setting, y)):
        v = kappa * math.log(ROWS / COUNTS[j] - 1) / (k if setting.get("bias_over_scale") else 1)
        q = 1 / (1 + math.exp(-(z[j] - v)))
        sharp = 1 / (1 + math.exp(-k * (z[j] - v)))
        pull = -present * (1 - q) ** focus * math.log(q)
        push = absent * sharp**focus * math.log1p(math.exp(k * (z[j] - v))) / (1 if setting.get("legacy_ntr") else k)
        values.append(setting.get("loss_weight", 1.0) * weight * (y[j] * pull + (1 - y[j]) * push))
    return values


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("soft", [False, True])
def test_values_sum_and_gradient_equal_a_naive_loop_and_the_plain_formula(name, soft):
    logits, target = batch(soft=soft)
    setting = SETTINGS[name]
    wanted = [naive_row(setting, z, y) for z, y in zip(logits.tolist(), target.tolist(), strict=True)]
    values = DistributionBalancedLoss(COUNTS, ROWS, reduction="none", **setting)(logits.requires_grad_(), target)
    torch.testing.assert_close(values, torch.tensor(wanted, dtype=torch.float64), rtol=1e-9, atol=0)
    total = DistributionBalancedLoss(COUNTS, ROWS, reduction="sum", **setting)(logits, target)
    torch.testing.assert_close(total, values.sum(), rtol=1e-13, atol=0)
    one, other = (torch.autograd.grad(value, logits)[0] for value in (total, values.sum()))
    torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("name", SETTINGS)
def test_gradcheck(name):
    logits, target = batch(rows=3, soft=True)
    target[1] = 1.0
    loss = DistributionBalancedLoss(COUNTS, ROWS, **SETTINGS[name])
    for function in (lambda z: loss(z, target), lambda z: loss.label_values(z, target, valid=None)):
        assert torch.autograd.gradcheck(function, logits.requires_grad_())
        assert torch.autograd.gradgradcheck(function, logits)


def test_everything_left_out_is_focal_loss_and_binary_cross_entropy():
    logits, target = batch()
    logits.requires_grad_()
    focal = DistributionBalancedLoss(COUNTS, ROWS, **PLAIN)(logits, target)
    torch.testing.assert_close(focal, MultiLabelFocalLoss(alpha=0.5)(logits, target), rtol=1e-14, atol=0)
    found = DistributionBalancedLoss(COUNTS, **SETTINGS["bce"])(logits, target)
    wanted = functional.binary_cross_entropy_with_logits(logits, target)
    torch.testing.assert_close(found, wanted, rtol=1e-14, atol=0)
    gradients = [torch.autograd.grad(value, logits)[0] for value in (found, wanted)]
    torch.testing.assert_close(*gradients, rtol=1e-13, atol=1e-17)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("bce", 0.663273),
        ("cb-fl", 0.143373),
        ("r-fl", 0.090830),
        ("legacy", 0.151219),
        ("ntr-fl", 0.081179),
        ("db-0fl", 0.156075),
        ("cb-ntr", 0.114126),
        ("db", 0.066315),
    ],
)
def test_the_example_of_the_specification(name, wanted):
    loss = DistributionBalancedLoss(COUNTS, ROWS, **SETTINGS[name])
    assert loss(LOGITS, TARGET).item() == pytest.approx(wanted, abs=6e-7)
    if name == "db":
        assert loss.bias.tolist() == pytest.approx([-0.042365, 0.086730, 0.158903, 0.241014], abs=5e-7)


def test_the_legacy_option_changes_nothing_where_there_are_weights():
    logits, target = batch()
    for name in ("db", "cb-ntr", "db-0fl"):
        plain, legacy = (
            DistributionBalancedLoss(COUNTS, ROWS, legacy_ntr=value, **DB_VARIANTS[name])(logits, target)
            for value in (False, True)
        )
        assert torch.equal(plain, legacy)


def test_negatives_below_the_bias_are_pushed_less_the_larger_the_scale():
    logits = torch.full((1, 2), -2.0, dtype=torch.float64, requires_grad=True)
    slopes = []
    for scale in (1.0, 2.0, 5.0):
        settings = {**PLAIN, "focus": 0.0, "alpha": None, "negative_scale": scale, "reduction": "sum"}
        loss = DistributionBalancedLoss([5, 5], 10, **settings)
        slopes.append(torch.autograd.grad(loss(logits, torch.zeros(1, 2)), logits)[0][0, 0].item())
    assert slopes == pytest.approx([1 / (1 + math.exp(2 * k)) for k in (1, 2, 5)])


def test_a_row_with_many_labels_weighs_its_frequent_ones_less():
    inverse = 1.0 / torch.tensor([100.0, 10.0], dtype=torch.float64)
    alone, together, none = rebalanced_weights(torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]).double(), inverse)
    assert alone[0] > 0.8
    assert together[0] < 0.11
    assert together[1] > alone[0] - 0.3
    assert none.tolist() == [1.1, 1.1]


@pytest.mark.parametrize("name", ["mean_effective_number", "effective_number_of_mean_count"])
def test_a_row_without_a_label_counts_like_one_of_endlessly_frequent_labels(name):
    loss = DistributionBalancedLoss(COUNTS, ROWS, reweighting=name, beta=0.99)
    weights = loss.weights(torch.tensor([[0.0] * 4, [1.0, 0.0, 0.0, 0.0]], dtype=torch.float64))
    assert weights[0].item() == pytest.approx(0.01)
    assert weights[1].item() == pytest.approx(0.01 / (1 - 0.99**700))


def test_beta_of_zero_gives_ones():
    for name in ("effective_number", "mean_effective_number", "effective_number_of_mean_count"):
        loss = DistributionBalancedLoss(COUNTS, ROWS, reweighting=name, beta=0.0)
        assert loss.weights(torch.ones(1, 4)).unique().tolist() == [1.0]


@pytest.mark.parametrize("name", SETTINGS)
def test_unknown_entries_change_nothing_and_parts_add_up(name):
    logits, target = batch()
    loss = DistributionBalancedLoss(COUNTS, ROWS, **SETTINGS[name])
    longer = torch.cat([logits, torch.full((2, 4), 1e4, dtype=torch.float64)])
    marked = torch.cat([target, torch.full((2, 4), -100.0)])
    whole = loss(logits, target)
    torch.testing.assert_close(loss(longer, marked), whole, rtol=1e-13, atol=0)
    normalizer = loss.denominator(marked)
    parts = sum(loss(z, y, normalizer=normalizer) for z, y in zip(longer.split(3), marked.split(3), strict=True))
    torch.testing.assert_close(parts, whole, rtol=1e-13, atol=0)
    nothing = loss(logits.requires_grad_(), torch.full((6, 4), -100))
    assert nothing.item() == 0.0
    assert not torch.autograd.grad(nothing, logits)[0].any()


def test_an_unknown_label_does_not_scale_the_others_by_its_weight():
    loss = DistributionBalancedLoss(COUNTS, ROWS, divide_by_row_max=True)
    target = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    weights = loss.weights(target, torch.tensor([[True, True, True, False]]))
    assert weights[0, :3].max().item() == 1.0
    assert loss.weights(target)[0, 3].item() == 1.0


@pytest.mark.parametrize("name", REWEIGHTINGS)
def test_a_row_of_unknown_labels_is_finite_when_rows_are_divided_by_their_largest_weight(name):
    loss = DistributionBalancedLoss([700, 150, 40, 1], ROWS, reweighting=name, divide_by_row_max=True)
    logits, target = batch()
    logits, target = logits.float().requires_grad_(), target.float()
    target[1] = -100
    value = loss(logits, target)
    (gradient,) = torch.autograd.grad(value, logits)
    assert torch.isfinite(gradient).all()
    rest = [0, 2, 3, 4, 5]
    torch.testing.assert_close(value, loss(logits[rest], target[rest]))
    assert not gradient[1].any()


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_extreme_scores_give_finite_values_and_gradients_and_stay_as_they_are(name, dtype):
    pattern = torch.tensor([[1.0, -1.0, 0.0, 1.0], [-1.0, 1.0, 1.0, -1.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loss = DistributionBalancedLoss([10, 0, 4, 3], 10, **SETTINGS[name])
    for scale in (0.0, 1.0, 79.9, 1e4):
        for target in (torch.zeros(2, 4), torch.ones(2, 4), torch.eye(4)[:2]):
            logits = (scale * pattern).to(dtype).requires_grad_()
            before = logits.detach().clone()
            value = loss(logits, target)
            (gradient,) = torch.autograd.grad(value, logits)
            assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
            assert torch.isfinite(value)
            assert torch.isfinite(gradient).all()
            assert torch.equal(logits.detach(), before)


@pytest.mark.parametrize("focus", [0.0, 0.25, 0.5, 1.0, 2.0, 5.0])
def test_every_focus_is_finite_at_certainty(focus):
    logits = torch.tensor([[1e4, -1e4, 1e4, -1e4]], requires_grad=True)
    for target in (torch.tensor([[1, 0, 0, 1]]), torch.tensor([[1, 0, 1, 0]])):
        for weight in (None, torch.ones(1)):
            value = DistributionBalancedLoss(COUNTS, ROWS, focus=focus)(logits, target, sample_weight=weight)
            assert torch.isfinite(value)
            assert torch.isfinite(torch.autograd.grad(value, logits)[0]).all()


def test_the_order_of_labels_is_without_meaning():
    logits, target = batch()
    order = [2, 0, 3, 1]
    turned = DistributionBalancedLoss([COUNTS[i] for i in order], ROWS)(logits[:, order], target[:, order])
    torch.testing.assert_close(turned, DistributionBalancedLoss(COUNTS, ROWS)(logits, target), rtol=1e-13, atol=0)


def test_a_single_label():
    value = DistributionBalancedLoss([3], 10)(torch.tensor([[0.3]]), torch.tensor([[1]]))
    assert torch.isfinite(value)


@pytest.mark.parametrize("name", ["bce", "bias", "bias and scale", "alpha", "legacy"])
def test_the_effective_prior_is_what_the_best_scores_express(name):
    settings = {
        "bce": {},
        "bias": {"logit_bias": 0.3},
        "bias and scale": {"logit_bias": 0.3, "negative_scale": 3.0},
        "alpha": {"alpha": 0.8, "negative_scale": 2.0},
        "legacy": {"negative_scale": 2.0, "legacy_ntr": True},
    }[name]
    loss = DistributionBalancedLoss([7, 4, 2, 1], 10, **{**SETTINGS["bce"], **settings})
    target = torch.zeros(10, 4)
    for label, count in enumerate([7, 4, 2, 1]):
        target[:count, label] = 1
    rates = torch.tensor([0.7, 0.4, 0.2, 0.1], dtype=torch.float64)
    best = torch.logit(loss.effective_prior(rates)).requires_grad_()
    assert torch.autograd.grad(loss(best.expand(10, 4), target), best)[0].abs().max() < 1e-13
    if name == "bce":
        torch.testing.assert_close(loss.effective_prior(rates), rates, rtol=1e-12, atol=0)


def test_after_resampling_bias_and_label_weights_follow_the_drawn_rows_and_r_the_training_rows():
    drawn = [300, 280, 250, 260]
    loss = DistributionBalancedLoss(drawn, ROWS, training_counts=COUNTS)
    plain, known = DistributionBalancedLoss(drawn, ROWS), DistributionBalancedLoss(COUNTS, ROWS)
    assert torch.equal(loss.bias, plain.bias)
    assert torch.equal(loss.weights(TARGET.double()), known.weights(TARGET.double()))
    assert not torch.equal(loss.weights(TARGET.double()), plain.weights(TARGET.double()))
    settings = {"reweighting": "mean_effective_number", "beta": 0.999}
    one = DistributionBalancedLoss(drawn, ROWS, training_counts=COUNTS, **settings)
    other = DistributionBalancedLoss(drawn, ROWS, **settings)
    assert torch.equal(one.weights(TARGET.double()), other.weights(TARGET.double()))
    empty = DistributionBalancedLoss(drawn, ROWS, training_counts=[700, 150, 40, 0])
    assert empty.inverse_counts[3] == 1.0


def test_state_goes_with_the_loss():
    one, other = DistributionBalancedLoss(COUNTS, ROWS), DistributionBalancedLoss([1, 2, 3, 4], 10)
    other.load_state_dict(one.state_dict())
    logits, target = batch()
    assert torch.equal(one(logits, target), other(logits, target))


def test_compiles_without_a_graph_break():
    logits, target = batch()
    loss = DistributionBalancedLoss(COUNTS, ROWS)
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(logits, target), loss(logits, target))
    torch._dynamo.reset()


def test_autocast_leaves_the_precision_as_it_is():
    logits, target = batch()
    loss, logits, target = DistributionBalancedLoss(COUNTS, ROWS), logits.float(), target.float()
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(logits, target), loss(logits, target.index_fill(0, torch.tensor([1]), -100))
    assert found[0].dtype == torch.float32
    assert torch.equal(found[0], loss(logits, target))
    assert torch.equal(found[1], loss(logits, target.index_fill(0, torch.tensor([1]), -100)))


def test_what_is_refused():
    cases = [
        (
            {"reweighting": "rebalanced"},
            UnknownNameError,
            "Unknown re-weighting 'rebalanced'. Did you mean 'rebal",
        ),
        ({"reweighting": 0}, UnknownNameError, "Unknown re-weighting 0"),
        ({"num_rows": None}, SettingError, "Expected `num_rows`, the number of training instances"),
        ({"num_rows": None, **PLAIN, "reweighting": "inverse"}, SettingError, "Expected `num_rows`"),
        ({"num_rows": 600}, SettingError, "`num_rows` is the number of training instances, not of label assignments"),
        ({"negative_scale": 0.0}, SettingError, "`negative_scale` to be a finite number larger than 0, but got 0.0"),
        ({"loss_weight": 0.0}, SettingError, "`loss_weight` to be a finite number larger than 0, but got 0.0"),
        ({"map_alpha": -1.0}, SettingError, "`map_alpha` to be a finite number of at least 0, but got -1.0"),
        ({"map_beta": math.nan}, SettingError, "`map_beta` to be a finite number of at least 0, but got nan"),
        ({"beta": 1.0}, SettingError, r"`beta` to lie in \[0, 1\), but got 1.0"),
        ({"logit_bias": math.inf}, SettingError, "`logit_bias` to be finite, but got inf"),
        ({"map_gamma": math.nan}, SettingError, "`map_gamma` to be finite, but got nan"),
        ({"training_counts": [1, 2, 3, -4]}, SettingError, "`training_counts` to be finite and not negative"),
        ({"training_counts": [1, 2]}, SettingError, "Got 2 `training_counts` for 4 labels. Give one per label."),
    ]
    for arguments, error, message in cases:
        with pytest.raises(error, match=message):
            DistributionBalancedLoss(COUNTS, **{"num_rows": ROWS, **arguments})
    with pytest.raises(SettingError, match="made for 4 labels, but the logits have 3"):
        DistributionBalancedLoss(COUNTS, ROWS)(torch.zeros(2, 3), torch.zeros(2, 3))
