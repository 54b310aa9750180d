"""Group-aware margins and the fairness regulariser: naive re-derivation, neutral settings, limits, what is refused."""

import math

import numpy as np
import pytest
import torch

from tailwise.errors import SettingError
from tailwise.losses.fairness import FairnessRegulariser
from tailwise.losses.group_ldam import GroupLDAMLoss
from tailwise.losses.ldam import LDAMLoss

torch.set_num_threads(1)
CELLS = [[600, 300, 40], [50, 80, 20], [4, 10, 6]]
KINDS = ["class", "group", "cell", "sum", "product"]


def batch(rows=14, seed=0, scale=0.2):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(rows, 3, dtype=torch.float64, generator=generator)
    target = torch.arange(rows) % 3
    group = torch.randint(3, (rows,), generator=generator)
    return logits, target, group


def naive_margin(kind, y, g, shares=(0.5, 0.5, 0.5), largest=0.5):
    by_class = [sum(row) for row in CELLS]
    by_group = [sum(row[k] for row in CELLS) for k in range(3)]
    flat = [n for row in CELLS for n in row]
    margins = [
        largest * (min(counts) / n) ** 0.25
        for counts, n in ((by_class, by_class[y]), (by_group, by_group[g]), (flat, CELLS[y][g]))
    ]
    return {
        "class": margins[0],
        "group": margins[1],
        "cell": margins[2],
        "sum": sum(share * margin for share, margin in zip(shares, margins, strict=True)),
        "product": margins[0] * margins[1],
    }[kind]


def naive_row(z, y, margin, scale, weight=1.0):
    scores = [scale * (s - (margin if j == y else 0.0)) for j, s in enumerate(z)]
    top = max(scores)
    return weight * (top + math.log(sum(math.exp(s - top) for s in scores)) - scores[y])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weighted", [False, True])
def test_values_equal_a_naive_loop_over_rows(kind, weighted):
    logits, target, group = batch()
    shares = {"class_share": 0.2, "group_share": 0.7, "cell_share": 0.4}
    loss = GroupLDAMLoss(
        CELLS,
        margins=kind,
        max_margin=0.6,
        scale=8.0,
        instance_weights=weighted,
        class_weights=[0.5, 1.0, 3.0] if weighted else None,
        reduction="none",
        **shares,
    )
    found = loss(logits, target, group=group).tolist()
    total = sum(map(sum, CELLS))
    for z, y, g, value in zip(logits.tolist(), target.tolist(), group.tolist(), found, strict=True):
        weight = [0.5, 1.0, 3.0][y] * total / (9 * CELLS[y][g]) if weighted else 1.0
        margin = naive_margin(kind, y, g, (0.2, 0.7, 0.4), 0.6)
        assert value == pytest.approx(naive_row(z, y, margin, 8.0, weight), rel=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_gradcheck(kind):
    logits, target, group = batch(rows=5)
    target[0] = -100
    for weighted in (False, True):
        loss = GroupLDAMLoss(CELLS, margins=kind, instance_weights=weighted, class_weights=[1.0, 2.0, 3.0])
        assert torch.autograd.gradcheck(lambda z, loss=loss: loss(z, target, group=group), logits.requires_grad_())


def test_margins_of_the_class_alone_are_ldam():
    logits, target, group = batch()
    for weights in (None, [1.0, 2.0, 4.0]):
        plain = LDAMLoss([sum(row) for row in CELLS], class_weights=weights)(logits, target)
        for setting in ({"margins": "class"}, {"class_share": 1.0, "group_share": 0.0, "cell_share": 0.0}):
            found = GroupLDAMLoss(CELLS, class_weights=weights, **setting)(logits, target, group=group)
            torch.testing.assert_close(found, plain, rtol=1e-13, atol=0)


def test_one_group_is_ldam_for_cells_too():
    logits, target, group = batch()
    counts = [sum(row) for row in CELLS]
    found = GroupLDAMLoss(np.array(counts)[:, None], margins="cell")(logits, target, group=torch.zeros_like(group))
    torch.testing.assert_close(found, LDAMLoss(counts)(logits, target), rtol=1e-13, atol=0)


def test_no_margin_and_scale_one_is_cross_entropy():
    logits, target, group = batch()
    found = GroupLDAMLoss(CELLS, max_margin=0.0, scale=1.0)(logits, target, group=group)
    torch.testing.assert_close(found, torch.nn.functional.cross_entropy(logits, target), rtol=1e-14, atol=0)


def test_instance_weights_are_one_on_average_and_shift_the_prior_to_uniform():
    loss = GroupLDAMLoss(CELLS, instance_weights=True)
    counts = torch.tensor(CELLS, dtype=torch.float64)
    assert (loss.instance_weights * counts).sum() / counts.sum() == pytest.approx(1.0, rel=1e-12)
    prior = counts.sum(dim=1) / counts.sum()
    torch.testing.assert_close(loss.effective_prior(prior), torch.full((3,), 1 / 3, dtype=torch.float64))
    weighted = GroupLDAMLoss(CELLS, instance_weights=True, class_weights=[1.0, 1.0, 2.0])
    torch.testing.assert_close(weighted.effective_prior(prior), torch.tensor([0.25, 0.25, 0.5], dtype=torch.float64))
    assert torch.equal(GroupLDAMLoss(CELLS).effective_prior(prior), prior)


def test_the_effective_prior_is_what_the_best_logits_express():
    # Every training row once, no features: the best constant scores give the effective prior by softmax.
    cells = torch.tensor([[6, 2], [1, 1]])
    target = torch.arange(2).repeat_interleave(cells.sum(dim=1))
    group = torch.tensor([0] * 6 + [1] * 2 + [0, 1])
    loss = GroupLDAMLoss(cells, max_margin=0.0, scale=1.0, instance_weights=True, reduction="mean")
    expected = loss.effective_prior(torch.tensor([0.8, 0.2], dtype=torch.float64))
    logits = expected.log().expand(10, 2).clone().requires_grad_()
    gradient = torch.autograd.grad(loss(logits, target, group=group), logits)[0]
    assert gradient.sum(dim=0).abs().max() < 1e-15


def test_an_empty_cell_counts_as_one_and_is_named():
    cells = [[10, 0], [5, 5]]
    with pytest.warns(UserWarning, match="no training instance \\('a in group 1'\\); each counts as if it had one"):
        loss = GroupLDAMLoss(cells, margins="cell", instance_weights=True, class_names=["a", "b"])
    assert loss.margins.tolist()[0] == pytest.approx([0.5 * 0.1**0.25, 0.5])
    logits = torch.zeros(2, 2, requires_grad=True)
    value = loss(logits, torch.tensor([0, 1]), group=torch.tensor([1, 1]))
    assert torch.isfinite(value)
    with pytest.warns(UserWarning, match="no training instance"):
        prior = GroupLDAMLoss([[8, 2], [0, 0]], instance_weights=True).effective_prior(torch.tensor([0.5, 0.5]))
    assert torch.isfinite(prior).all()


def test_the_group_of_an_ignored_row_may_be_anything():
    logits, target, group = batch()
    for loss in (GroupLDAMLoss(CELLS), FairnessRegulariser(3)):
        wanted = loss(logits, target, group=group)
        longer = torch.cat([logits, torch.full((2, 3), 1e4, dtype=torch.float64)]).requires_grad_()
        marked, groups = torch.cat([target, torch.full((2,), -100)]), torch.cat([group, torch.tensor([-100, 77])])
        found = loss(longer, marked, group=groups)
        torch.testing.assert_close(found, wanted, rtol=1e-13, atol=0)
        assert not torch.autograd.grad(found, longer)[0][-2:].any()
        nothing = loss(longer, torch.full((16,), -100), group=groups)
        assert nothing.item() == 0.0
        assert not torch.autograd.grad(nothing, longer)[0].any()


def test_parts_add_up():
    logits, target, group = batch()
    loss = GroupLDAMLoss(CELLS, class_weights=[1.0, 2.0, 3.0], instance_weights=True)
    normalizer = loss.denominator(target)
    pieces = zip(logits.split(4), target.split(4), group.split(4), strict=True)
    parts = sum(loss(z, y, group=g, normalizer=normalizer) for z, y, g in pieces)
    torch.testing.assert_close(parts, loss(logits, target, group=group), rtol=1e-12, atol=0)


def naive_penalty(logits, target, group, groups, counted, *, legacy=False):
    rows = list(zip(torch.softmax(logits, 1).tolist(), target.tolist(), group.tolist(), counted, strict=True))

    def mean(chosen):
        total = sum(s for _, s in chosen)
        return sum(p * s for p, s in chosen) / total if total else None

    penalty = 0.0
    for t in sorted(set(target.tolist())):
        overall = mean([(p[t], s) for p, y, _, s in rows if y == t])
        means = [mean([(p[t], s) for p, y, g, s in rows if y == t and g == k]) for k in range(groups)]
        gaps = [overall - (m or 0.0) for m in means if legacy or m is not None]
        penalty += sum(gap**2 for gap in gaps) / len(gaps)
    return penalty


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("groups", [3, 5])
def test_the_penalty_equals_a_naive_loop(legacy, groups):
    logits, target, group = batch(scale=2.0)
    target[target == 1] = 0
    for counted in ([1.0] * 14, [1.0, 3.0] * 7):
        found = FairnessRegulariser(groups, legacy_empty_groups=legacy)(
            logits, target, group=group, sample_weight=torch.tensor(counted)
        )
        assert found.item() == pytest.approx(
            naive_penalty(logits, target, group, groups, counted, legacy=legacy), rel=1e-11
        )


def test_the_penalty_is_zero_for_equal_opportunity_and_for_one_group():
    logits, target, _ = batch(rows=6, scale=2.0)
    twice, labels = torch.cat([logits, logits]), torch.cat([target, target])
    group = torch.arange(2).repeat_interleave(6)
    assert FairnessRegulariser(2)(twice, labels, group=group).item() == pytest.approx(0.0, abs=1e-30)
    assert FairnessRegulariser(1)(logits, target, group=torch.zeros(6, dtype=torch.long)).item() == pytest.approx(
        0.0, abs=1e-30
    )


def test_the_penalty_of_two_rows_by_hand_and_its_scale():
    p, q = 0.9, 0.4
    logits = torch.tensor([[math.log(p / (1 - p)), 0.0], [math.log(q / (1 - q)), 0.0]], dtype=torch.float64)
    target, group = torch.zeros(2, dtype=torch.long), torch.tensor([0, 1])
    assert FairnessRegulariser(2)(logits, target, group=group).item() == pytest.approx(0.25**2, rel=1e-12)
    found = FairnessRegulariser(2, scale=4.0)(logits / 4, target, group=group)
    assert found.item() == pytest.approx(0.25**2, rel=1e-12)


@pytest.mark.parametrize("legacy", [False, True])
def test_gradcheck_of_the_penalty(legacy):
    logits, target, group = batch(rows=6, scale=1.0)
    loss = FairnessRegulariser(4, legacy_empty_groups=legacy)
    assert torch.autograd.gradcheck(lambda z: loss(z, target, group=group), logits.requires_grad_())
    assert torch.autograd.gradgradcheck(lambda z: loss(z, target, group=group), logits)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_extreme_scores_give_finite_values_and_gradients_and_stay_as_they_are(dtype):
    pattern = torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]])
    losses = [
        GroupLDAMLoss(CELLS, instance_weights=True),
        GroupLDAMLoss(CELLS, margins="product"),
        FairnessRegulariser(3),
        FairnessRegulariser(3, legacy_empty_groups=True),
    ]
    for scale in (0.0, 1.0, 100.0, 1e4):
        for label in range(3):
            for loss in losses:
                logits = (scale * pattern).to(dtype).requires_grad_()
                before = logits.detach().clone()
                value = loss(logits, torch.full((3,), label), group=torch.tensor([0, 0, 2]))
                (gradient,) = torch.autograd.grad(value, logits)
                assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
                assert torch.isfinite(value)
                assert torch.isfinite(gradient).all()
                assert torch.equal(logits.detach(), before)


def test_compiles_without_a_graph_break():
    logits, target, group = batch()
    loss = GroupLDAMLoss(CELLS, instance_weights=True)
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(logits, target, group=group), loss(logits, target, group=group))
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("counts", "settings", "message"),
    [
        (CELLS, {"margins": "both"}, "Expected `margins` to be one of class, group, cell, sum, product"),
        (CELLS, {"cell_share": -1.0}, "Expected `cell_share` to be a finite number of at least 0, but got -1.0."),
        (CELLS, {"max_margin": math.inf}, "Expected `max_margin` to be a finite number of at least 0, but got inf."),
        (CELLS, {"scale": 0.0}, "Expected `scale` to be a finite number larger than 0, but got 0.0."),
        (CELLS, {"class_names": ["a"]}, "Got 3 rows of `cell_counts` for 1 class names."),
        ([1, 2, 3], {}, "one number per class and group, (C, G), but got shape (3,)."),
        ([[1, -2]], {}, "Expected `cell_counts` to be finite and not negative, with at least one instance."),
        ([[0, 0]], {}, "Expected `cell_counts` to be finite and not negative, with at least one instance."),
    ],
)
def test_what_is_refused(counts, settings, message):
    with pytest.raises(SettingError) as error:
        GroupLDAMLoss(counts, **settings)
    assert message in str(error.value)


def test_groups_that_are_refused():
    logits, target, group = batch()
    for loss, name in ((GroupLDAMLoss(CELLS), "GroupLDAMLoss"), (FairnessRegulariser(3), "FairnessRegulariser")):
        with pytest.raises(SettingError, match=f"{name}: expected `group`, one integer group id per row, .* none"):
            loss(logits, target)
        for wrong in (-1, 3):
            with pytest.raises(SettingError, match=f"{name}: expected group ids from 0 to 2.* but got .*{wrong}"):
                loss(logits, target, group=group.where(torch.arange(14) != 5, wrong))
    with pytest.raises(SettingError, match="FairnessRegulariser compares the rows of a batch with each other"):
        FairnessRegulariser(3)(logits, target, group=group, normalizer=14.0)
    with pytest.raises(SettingError, match="Expected `num_groups` to be a whole number of at least 1, but got 0"):
        FairnessRegulariser(0)
    with pytest.raises(SettingError, match="Expected `scale` to be a finite number larger than 0, but got -1"):
        FairnessRegulariser(2, scale=-1)
