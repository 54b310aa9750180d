"""Contrastive losses: naive re-derivations, published numbers, derivatives, limits, what is refused."""

import math

import pytest
import torch
from torch.nn import functional

from tailwise.errors import SettingError
from tailwise.losses import LabelAwareContrastiveLoss, SupervisedContrastiveLoss, WeightedSumLoss
from tailwise.losses.cross_entropy import CrossEntropyLoss

FEATURES = torch.tensor([[1, 0], [0.8, 0.6], [0, 1], [-0.6, 0.8]], dtype=torch.float64)
TARGET = torch.tensor([0, 0, 1, 1])
SCORES = torch.tensor([[1, 0], [0.5, 0.2], [-0.3, 0.9], [0, 0.4]], dtype=torch.float64)

EVERY = {
    "supcon": SupervisedContrastiveLoss(0.5),
    "supcon averaged": SupervisedContrastiveLoss(0.5, class_averaged=True),
    "lcl": LabelAwareContrastiveLoss(0.5),
}


@pytest.fixture(params=list(EVERY))
def loss(request):
    return EVERY[request.param]


def batch(rows=9, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(rows, 4, dtype=torch.float64, generator=generator)
    scores = torch.randn(rows, classes, dtype=torch.float64, generator=generator)
    return scores, torch.randint(classes, (rows,), generator=generator), features


def naive(features, target, temperature, weights=None, averaged=False):
    unit = functional.normalize(features, dim=1).tolist()
    rows, total, anchors = len(unit), 0.0, 0
    similar = [[sum(a * b for a, b in zip(f, g, strict=True)) / temperature for g in unit] for f in unit]
    for i in range(rows):
        positives = [k for k in range(rows) if k != i and target[k] == target[i]]
        if not positives:
            continue
        anchors += 1
        others = [k for k in range(rows) if k != i]
        share = dict.fromkeys(others, 1.0)
        if averaged:
            share = {k: 1.0 / sum(target[m] == target[k] for m in others) for k in others}
        if weights is not None:
            share = {k: weights[i][target[k]] for k in others}
        log_sum = math.log(sum(share[k] * math.exp(similar[i][k]) for k in others))
        own = 1.0 if weights is None else weights[i][target[i]]
        total -= own * sum(similar[i][p] - log_sum for p in positives) / len(positives)
    return total / max(anchors, 1)


def test_published_numbers():
    assert float(SupervisedContrastiveLoss(0.5)(SCORES, TARGET, features=FEATURES)) == pytest.approx(0.430190, abs=1e-6)
    assert float(LabelAwareContrastiveLoss(0.5)(SCORES, TARGET, features=FEATURES)) == pytest.approx(
        -0.106698, abs=1e-6
    )


@pytest.mark.parametrize("seed", range(4))
def test_the_losses_equal_their_definitions(seed):
    scores, target, features = batch(seed=seed)
    target[0] = 2 if seed % 2 else target[0]
    found = SupervisedContrastiveLoss(0.3)(scores, target, features=features)
    assert float(found) == pytest.approx(naive(features, target.tolist(), 0.3), rel=1e-10)
    found = SupervisedContrastiveLoss(0.3, class_averaged=True)(scores, target, features=features)
    assert float(found) == pytest.approx(naive(features, target.tolist(), 0.3, averaged=True), rel=1e-10)
    found = LabelAwareContrastiveLoss(0.3)(scores, target, features=features)
    assert float(found) == pytest.approx(
        naive(features, target.tolist(), 0.3, weights=scores.softmax(1).tolist()), rel=1e-10
    )


def test_a_row_without_a_positive_is_a_negative_of_the_others_and_no_anchor(loss):
    scores, _, features = batch(rows=5)
    target = torch.tensor([0, 0, 1, 1, 2])
    weight = torch.tensor([1.0, 1.0, 1.0, 1.0, 50.0], dtype=torch.float64)
    value = loss(scores, target, features=features)
    torch.testing.assert_close(loss(scores, target, features=features, sample_weight=weight), value)
    assert not torch.isclose(loss(scores[:4], target[:4], features=features[:4]), value)


@pytest.mark.parametrize("averaged", [False, True])
def test_labels_may_be_any_ids(averaged):
    scores, _, features = batch(rows=4)
    loss = SupervisedContrastiveLoss(class_averaged=averaged)
    ids = torch.tensor([2**40, -7, 2**40, -7])
    torch.testing.assert_close(
        loss(scores, ids, features=features), loss(scores, torch.tensor([0, 1, 0, 1]), features=features)
    )


def test_equal_weights_make_the_label_aware_loss_an_affine_map_of_the_plain_one():
    scores, _, features = batch()
    target = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2])
    plain = SupervisedContrastiveLoss(0.3)(scores, target, features=features)
    aware = LabelAwareContrastiveLoss(0.3)(torch.zeros_like(scores), target, features=features)
    torch.testing.assert_close(aware, (plain + math.log(1 / 3)) / 3)


def test_derivatives_and_detached_weights(loss):
    scores, target, features = batch()
    features.requires_grad_()
    scores.requires_grad_()
    assert torch.autograd.gradcheck(lambda z, f: loss(z, target, features=f), (scores, features))
    assert torch.autograd.gradgradcheck(lambda z, f: loss(z, target, features=f), (scores, features))
    detached = LabelAwareContrastiveLoss(detach_weights=True)(scores, target, features=features)
    assert not torch.autograd.grad(detached, scores)[0].any()


def test_row_order_class_names_and_ignored_rows_do_not_matter(loss):
    scores, target, features = batch()
    value = loss(scores, target, features=features)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(loss(scores[order], target[order], features=features[order]), value)
    torch.testing.assert_close(loss(scores[:, [2, 0, 1]], (target + 1) % 3, features=features), value)
    more = torch.cat([features, torch.full((2, 4), 1e3)]), torch.cat([target, torch.tensor([-100, -100])])
    torch.testing.assert_close(loss(torch.cat([scores, scores[:2]]), more[1], features=more[0]), value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("case", ["one row", "no positive", "one class", "ignored", "zero", "large"])
def test_value_and_gradient_are_finite(loss, dtype, case):
    scores, target, features = batch()
    if case == "one row":
        scores, target, features = scores[:1], target[:1], features[:1]
    if case == "no positive":
        scores, target, features = scores[:3], torch.arange(3), features[:3]
    target = {"one class": torch.zeros_like(target), "ignored": torch.full_like(target, -100)}.get(case, target)
    features = features * {"zero": 0.0, "large": 1e4}.get(case, 1.0)
    scores = scores * (1e4 if case == "large" else 1.0)
    features, scores = features.to(dtype).requires_grad_(), scores.to(dtype).requires_grad_()
    value = loss(scores, target, features=features)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(features.grad).all()
    assert torch.isfinite(scores.grad).all()
    if case in ("one row", "no positive", "ignored"):
        assert float(value.detach()) == 0.0


def test_the_inputs_are_left_as_they_were(loss):
    scores, target, features = batch()
    before = [t.clone() for t in (scores, target, features)]
    loss(scores, target, features=features)
    assert all(torch.equal(old, new) for old, new in zip(before, (scores, target, features), strict=True))


def test_in_a_sum_with_cross_entropy():
    scores, target, features = batch()
    total = WeightedSumLoss([CrossEntropyLoss(), SupervisedContrastiveLoss()], [0.5, 0.5])
    assert total.requires_features
    assert total.shapes_representation
    wanted = 0.5 * functional.cross_entropy(scores, target) + 0.5 * SupervisedContrastiveLoss()(
        scores, target, features=features
    )
    torch.testing.assert_close(total(scores, target, features=features), wanted)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SupervisedContrastiveLoss(0.0), "`temperature` to be a finite number larger than 0"),
        (lambda: SupervisedContrastiveLoss(base_temperature=-1.0), "`base_temperature`"),
        (lambda: SupervisedContrastiveLoss()(SCORES, TARGET), r"expected `features` \(4, D\).*but got none"),
        (lambda: LabelAwareContrastiveLoss()(SCORES, TARGET, features=FEATURES[:2]), r"but got \(2, 2\)"),
        (lambda: SupervisedContrastiveLoss()(SCORES, TARGET, features=FEATURES, normalizer=3.0), "the whole batch"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(make, message):
    with pytest.raises(SettingError, match=message):
        make()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_row_without_a_direction_has_a_finite_gradient(dtype):
    features = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    features[2] = 0.0
    features.requires_grad_()
    target = torch.tensor([0, 0, 0, 1, 1, 1])
    for loss in (SupervisedContrastiveLoss(), LabelAwareContrastiveLoss()):
        value = loss(torch.zeros(6, 2, dtype=dtype), target, features=features)
        (slope,) = torch.autograd.grad(value, features)
        assert torch.isfinite(value)
        assert torch.isfinite(slope).all()
