"""Heads: what they compute, their plain form, and folding."""

import numpy as np
import pytest
import torch
from torch import nn

from tailwise.errors import SettingError, UnknownNameError
from tailwise.models.heads.affine import affine_scores, folded, scaled
from tailwise.models.heads.base import AffineForm
from tailwise.models.heads.building import build_head
from tailwise.models.heads.class_means import NEVER, ClassMeansHead
from tailwise.models.heads.cosine import CosineHead
from tailwise.models.heads.linear import LinearHead
from tailwise.posthoc.base import AffineStep, compose

DIM, CLASSES = 6, 4


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def features():
    return torch.randn(30, DIM, generator=generator(7)) + 0.5


@pytest.fixture
def target():
    return torch.arange(30) % CLASSES


def make_head(kind, features, target):
    params = {"transform": kind} if kind in {"raw", "l2", "centre-l2"} else {}
    head = build_head("class-means" if params else kind, params, DIM, CLASSES)
    if head.closed_form:
        head.fit(features, target)
    else:
        head.reset(generator())
    return head


def test_the_linear_head_starts_like_torch_linear():
    head = LinearHead(400, 50)
    head.reset(generator(3))
    torch.manual_seed(3)
    plain = nn.Linear(400, 50)
    assert torch.equal(head.weight, plain.weight)
    assert torch.equal(head.bias, plain.bias)


@pytest.mark.parametrize("head", [LinearHead(DIM, CLASSES), CosineHead(DIM, CLASSES)])
def test_fresh_weights_depend_on_the_generator_alone(head):
    head.reset(generator(1))
    first = head.weight.detach().clone()
    torch.manual_seed(123)
    head.reset(generator(1))
    assert torch.equal(first, head.weight)
    head.reset(generator(2))
    assert not torch.equal(first, head.weight)


def test_the_cosine_head_gives_cosines_whatever_the_lengths(features):
    head = CosineHead(DIM, CLASSES)
    head.reset(generator())
    cosines = head(features)
    expected = torch.cosine_similarity(features[:, None], head.weight[None], dim=2)
    torch.testing.assert_close(cosines, expected)
    assert cosines.abs().max() <= 1 + 1e-6
    with torch.no_grad():
        head.weight.mul_(torch.tensor([0.1, 1.0, 10.0, 100.0])[:, None])
    torch.testing.assert_close(head(17 * features), cosines)
    assert torch.equal(head(torch.zeros(1, DIM)), torch.zeros(1, CLASSES))


def test_the_plain_form_of_the_cosine_head_is_the_scaled_cosine(features):
    head = CosineHead(DIM, CLASSES, scale=12.0)
    head.reset(generator())
    torch.testing.assert_close(affine_scores(head.affine(), features), 12 * head(features).detach())


@pytest.mark.parametrize("kind", ["linear", "raw", "l2", "centre-l2"])
def test_the_plain_form_scores_as_the_head_does(kind, features, target):
    head = make_head(kind, features, target)
    torch.testing.assert_close(affine_scores(head.affine(), features), head(features).detach())


@pytest.mark.parametrize("transform", ["raw", "l2", "centre-l2"])
def test_class_means_rank_classes_by_distance(transform, features, target):
    head = make_head(transform, features, target)
    points = features - features.mean(0) if transform == "centre-l2" else features
    points = points if transform == "raw" else points / points.norm(dim=1, keepdim=True)
    means = torch.stack([points[target == j].mean(0) for j in range(CLASSES)])
    distance = torch.cdist(points, means).square()
    difference = head(features) + 10.0 * distance
    torch.testing.assert_close(difference, difference[:, :1].expand_as(difference), rtol=1e-4, atol=1e-4)


def test_a_class_without_a_training_row_is_never_predicted(features, target):
    for transform in ("raw", "l2", "centre-l2"):
        head = ClassMeansHead(DIM, CLASSES + 2, transform=transform)
        head.fit(features, target)
        scores = head(features - 100)
        assert torch.isfinite(scores).all()
        assert torch.equal(scores[:, CLASSES:], torch.full((30, 2), NEVER))
        assert int(scores.argmax(dim=1).max()) < CLASSES


def test_class_means_do_not_depend_on_the_order_of_the_rows(features, target):
    order = torch.randperm(30, generator=generator())
    head, shuffled = (ClassMeansHead(DIM, CLASSES) for _ in range(2))
    head.fit(features, target)
    shuffled.fit(features[order], target[order])
    torch.testing.assert_close(head.means, shuffled.means, rtol=1e-6, atol=1e-7)


def test_class_means_refuse_what_they_cannot_fit(features, target):
    head = ClassMeansHead(DIM, CLASSES)
    with pytest.raises(SettingError, match=r"Expected features \(N, 6\)"):
        head.fit(features[:, :3], target)
    with pytest.raises(SettingError, match="Expected class indices from 0 to 3"):
        head.fit(features, target + 1)
    with pytest.raises(SettingError, match="at least one row"):
        head.fit(features[:0], target[:0])


@pytest.mark.parametrize("kind", ["linear", "cosine", "raw", "centre-l2"])
def test_folded_steps_give_the_adjusted_scores(kind, features, target):
    form = make_head(kind, features, target).affine()
    rng = np.random.default_rng(0)
    steps = [AffineStep(str(i), rng.uniform(0.5, 2, CLASSES), rng.normal(size=CLASSES)) for i in range(3)]
    expected = affine_scores(form, features).numpy()
    for step in steps:
        expected = step(expected)
    result = affine_scores(folded(form, compose(steps, CLASSES)), features)
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-4, atol=1e-4)
    assert form.weight.dtype == result.dtype == torch.float32


def test_scaling_multiplies_the_scores(features):
    form = AffineForm(torch.ones(CLASSES, DIM), torch.arange(4.0), centre=torch.ones(DIM), normalise=True)
    torch.testing.assert_close(affine_scores(scaled(form, 3.0), features), 3 * affine_scores(form, features))
    assert scaled(form, 1.0) is form


def test_heads_are_built_by_name_and_check_their_parameters():
    assert build_head("cosine", {"scale": 5.0}, DIM, CLASSES).scale == 5.0
    with pytest.raises(UnknownNameError, match="'cosine'"):
        build_head("cosin", {}, DIM, CLASSES)
    with pytest.raises(SettingError, match=r"no parameter 'transfrom'. Did you mean 'transform'"):
        build_head("class-means", {"transfrom": "raw"}, DIM, CLASSES)
    with pytest.raises(SettingError, match="`transform` to be one of 'raw', 'l2', 'centre-l2', but got 'l1'"):
        build_head("class-means", {"transform": "l1"}, DIM, CLASSES)
    with pytest.raises(SettingError, match="one of raw, l2, centre-l2, got 'l1'"):
        ClassMeansHead(DIM, CLASSES, transform="l1")
    for name in ("cosine", "class-means"):
        with pytest.raises(SettingError, match="`scale` to be a finite number larger than 0"):
            build_head(name, {"scale": 0.0}, DIM, CLASSES)
