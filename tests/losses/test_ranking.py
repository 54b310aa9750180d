"""Ranking loss: naive re-derivation, both treatments of the catch-all class, limits, what is refused."""

import itertools
import math

import pytest
import torch

from tailwise.errors import SettingError, UnknownNameError
from tailwise.losses.ranking import RankingLoss, ranking_values

torch.set_num_threads(1)
LOGITS = torch.tensor([[2.0, 0.5, -1.0, 0.0], [0.2, 1.5, 0.3, -0.7], [-0.5, 0.1, 0.4, 1.2]], dtype=torch.float64)
SETTINGS = [
    {"catch_all": catch_all, "top_k": top_k, "catch_all_competes": competes}
    for catch_all, top_k, competes in itertools.product((None, 0, 2), (1, 2, 9), (False, True))
]


def batch(rows=15, classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(rows, classes, dtype=torch.float64, generator=generator)
    return logits, torch.arange(rows) % classes


def naive(z, y, catch_all, top_k, catch_all_competes):
    """One row with the default margins and scale, in plain Python."""
    competitors = [s for j, s in enumerate(z) if j != y and (j != catch_all or catch_all_competes)]
    strongest = sorted(competitors, reverse=True)[:top_k]
    value = 0.0 if y == catch_all else math.log(1 + math.exp(2.0 * (2.5 - z[y])))
    if strongest:
        value += sum(math.log(1 + math.exp(2.0 * (0.5 + s))) for s in strongest) / len(strongest)
    return value


@pytest.mark.parametrize("setting", SETTINGS)
def test_values_equal_a_naive_loop_over_rows(setting):
    logits, target = batch()
    found = RankingLoss(**setting, reduction="none")(logits, target)
    wanted = [naive(z, y, **setting) for z, y in zip(logits.tolist(), target.tolist(), strict=True)]
    assert found.tolist() == pytest.approx(wanted, rel=1e-12)


def test_golden_vector_of_the_specification():
    found = RankingLoss(3, reduction="none")(LOGITS, torch.tensor([0, 2, 3]))
    assert found.tolist() == pytest.approx([3.440190, 8.430353, 1.952978], abs=5e-7)


@pytest.mark.parametrize("setting", SETTINGS)
def test_gradcheck(setting):
    logits, target = batch(rows=6)
    target[0] = -100
    loss = RankingLoss(**setting)
    assert torch.autograd.gradcheck(lambda z: loss(z, target), logits.requires_grad_())
    assert torch.autograd.gradgradcheck(lambda z: loss(z, target), logits)


def test_only_the_gold_class_and_the_strongest_competitor_get_a_gradient():
    logits = torch.tensor([[0.1, 0.9, 0.4, 5.0]], requires_grad=True)
    for target, touched in ((0, [True, True, False, False]), (3, [False, True, False, False])):
        (gradient,) = torch.autograd.grad(RankingLoss(3)(logits, torch.tensor([target])), logits)
        assert (gradient[0] != 0).tolist() == touched
    (gradient,) = torch.autograd.grad(RankingLoss(3, catch_all_competes=True)(logits, torch.tensor([0])), logits)
    assert (gradient[0] != 0).tolist() == [True, False, False, True]


def test_the_score_of_the_catch_all_class_has_no_influence():
    logits, target = batch()
    other = logits.clone()
    other[:, 2] = 1e4
    loss = RankingLoss(2, top_k=3)
    assert loss(logits, target).item() == loss(other, target).item()
    assert loss.scoreless_class == 2
    assert RankingLoss(2, catch_all_competes=True).scoreless_class == 2
    assert RankingLoss().scoreless_class is None


def test_without_a_competitor_its_term_is_dropped():
    logits = torch.tensor([[1.0, 7.0]], dtype=torch.float64, requires_grad=True)
    only_gold = math.log(1 + math.exp(2 * (2.5 - 1.0)))
    for top_k in (1, 3):
        value = RankingLoss(1, top_k=top_k)(logits, torch.tensor([0]))
        assert value.item() == pytest.approx(only_gold, rel=1e-14)
        (gradient,) = torch.autograd.grad(value, logits)
        assert gradient[0, 0].item() == pytest.approx(-2 / (1 + math.exp(-2 * 1.5)), rel=1e-12)
        assert gradient[0, 1].item() == 0.0
    single = torch.tensor([[1.0]], dtype=torch.float64, requires_grad=True)
    assert RankingLoss()(single, torch.tensor([0])).item() == pytest.approx(only_gold, rel=1e-14)
    nothing = RankingLoss(0)(single, torch.tensor([0]))
    assert nothing.item() == 0.0
    assert torch.autograd.grad(nothing, single)[0].item() == 0.0


def test_one_class_and_the_catch_all_with_margin_zero_is_logistic_regression():
    # The best score is the log-odds over the scale, hence `inference_scale`.
    loss = RankingLoss(1, positive_margin=0.0, negative_margin=0.0, scale=3.0)
    score = torch.tensor(math.log(0.8 / 0.2) / 3.0, dtype=torch.float64, requires_grad=True)
    logits = torch.stack([score, torch.zeros(())]).expand(10, 2)
    value = loss(logits, torch.tensor([0] * 8 + [1] * 2))
    assert torch.autograd.grad(value, score)[0].item() == pytest.approx(0.0, abs=1e-14)
    assert loss.inference_scale == 3.0


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_extreme_scores_give_finite_values_and_gradients_and_stay_as_they_are(setting, dtype):
    pattern = torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 1.0], [-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])
    for scale, label in itertools.product((0.0, 1.0, 100.0, 1e4), range(3)):
        logits = (scale * pattern).to(dtype).requires_grad_()
        before = logits.detach().clone()
        value = RankingLoss(**setting)(logits, torch.full((4,), label))
        (gradient,) = torch.autograd.grad(value, logits)
        assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert torch.isfinite(value)
        assert torch.isfinite(gradient).all()
        assert torch.equal(logits.detach(), before)


def test_ignored_rows_change_nothing_and_parts_add_up():
    logits, target = batch()
    loss = RankingLoss(0)
    longer = torch.cat([logits, torch.full((2, 4), 1e4, dtype=torch.float64)])
    marked = torch.cat([target, torch.tensor([-100, -100])])
    whole = loss(logits, target)
    torch.testing.assert_close(loss(longer, marked), whole, rtol=1e-13, atol=0)
    normalizer = loss.denominator(marked)
    parts = sum(loss(z, y, normalizer=normalizer) for z, y in zip(longer.split(4), marked.split(4), strict=True))
    torch.testing.assert_close(parts, whole, rtol=1e-13, atol=0)
    empty = loss(logits.requires_grad_(), torch.full((15,), -100))
    assert empty.item() == 0.0
    assert not torch.autograd.grad(empty, logits)[0].any()


def test_relabelling_the_classes_changes_nothing():
    logits, target = batch()
    order = torch.tensor([2, 0, 3, 1])
    moved = RankingLoss(1, top_k=2)(logits[:, order], torch.argsort(order)[target])
    torch.testing.assert_close(moved, RankingLoss(0, top_k=2)(logits, target))


def test_the_function_and_the_class_agree_and_a_name_is_an_index():
    logits, target = batch()
    named = RankingLoss("Other", class_names=["a", "Other", "b", "c"], reduction="none")
    assert named.scoreless_class == 1
    assert torch.equal(named(logits, target), ranking_values(logits, target, 1))
    assert torch.equal(named.effective_prior(torch.tensor([0.1, 0.7, 0.1, 0.1])), torch.tensor([0.1, 0.7, 0.1, 0.1]))


def test_compiles_without_a_graph_break():
    logits, target = batch()
    loss = RankingLoss(0, top_k=2)
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(logits, target), loss(logits, target))
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"catch_all": "Other"}, "The catch-all class 'Other' is a name, which needs `class_names`."),
        ({"catch_all": -1}, "Expected `catch_all` to be a class name or a class index from 0 on, but got -1."),
        ({"catch_all": True}, "from 0 on, but got True."),
        ({"catch_all": 1.5}, "from 0 on, but got 1.5."),
        ({"catch_all": 2, "class_names": ["a", "b"]}, "from 0 to 1, but got 2."),
        ({"scale": 0.0}, "Expected `scale` to be a finite number larger than 0, but got 0.0."),
        ({"top_k": 0}, "Expected `top_k` to be at least 1, but got 0."),
        ({"positive_margin": math.nan}, "Expected `positive_margin` to be a finite number, but got nan."),
        ({"negative_margin": math.inf}, "Expected `negative_margin` to be a finite number, but got inf."),
    ],
)
def test_what_is_refused(settings, message):
    with pytest.raises(SettingError) as error:
        RankingLoss(**settings)
    assert message in str(error.value)


def test_an_unknown_name_and_a_class_beyond_the_scores_are_refused():
    with pytest.raises(UnknownNameError, match=r"There is no class 'Othr'\. Did you mean 'Other'"):
        RankingLoss("Othr", class_names=["a", "Other"])
    with pytest.raises(SettingError, match="RankingLoss: the catch-all class is 7, but the logits have 4 classes"):
        RankingLoss(7)(*batch())
    with pytest.raises(SettingError, match="a target is outside the classes of the logits"):
        RankingLoss(0)(LOGITS, torch.tensor([0, 1, 4]))
