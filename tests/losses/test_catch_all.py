"""Losses that treat the catch-all class apart: weights by hand, naive re-derivation, what is refused."""

import math
import warnings

import numpy as np
import pytest
import torch
from torch.nn import functional

from tailwise.errors import SettingError, UnknownNameError
from tailwise.losses.catch_all import CatchAllWeightedCrossEntropyLoss, MajorityOrMinorityLoss, catch_all_weights
from tailwise.losses.class_weights import RULES, class_weights

torch.set_num_threads(1)
COUNTS = [10_000, 60, 30, 10]  # the first is the catch-all class


def batch(rows=12, classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, classes, dtype=torch.float64, generator=generator)
    target = torch.arange(rows) % classes
    target[:2] = -100
    return logits, target


def losses(**kwargs):
    return {
        "catch-all-wce": CatchAllWeightedCrossEntropyLoss(COUNTS, 0, **kwargs),
        "catch-all-wce 0.3": CatchAllWeightedCrossEntropyLoss(
            COUNTS, 0, rule="inverse_sqrt", catch_all_weight=0.3, **kwargs
        ),
        "mom": MajorityOrMinorityLoss(0, **kwargs),
        "mom 0.4": MajorityOrMinorityLoss(0, strength=0.4, **kwargs),
    }


NAMES = list(losses())


def test_inverse_weights_by_hand():
    found = catch_all_weights(COUNTS, 0)
    assert found.tolist() == pytest.approx([1.0, 100 / (3 * 60), 100 / (3 * 30), 100 / (3 * 10)], rel=1e-12)


@pytest.mark.parametrize("rule", [*RULES, None])
@pytest.mark.parametrize("place", [0, 1, 3])
def test_the_rule_sees_the_other_classes_only(rule, place):
    others = [60, 30, 10]
    wanted = class_weights(rule, others, beta=0.99, power=0.3)
    for frequent in (1, 10_000, 0):
        counts = np.insert(others, place, frequent)
        found = catch_all_weights(counts, place, rule, 0.7, beta=0.99, power=0.3)
        np.testing.assert_allclose(np.delete(found, place), wanted, rtol=1e-12)
        assert found[place] == 0.7


def test_normalisation_clip_and_empty_classes():
    assert catch_all_weights(COUNTS, 0, normalise="max_1")[1:].max() == pytest.approx(1.0)
    assert catch_all_weights(COUNTS, 0, "inverse", 9.0, clip=(1.0, 2.0)).tolist() == pytest.approx(
        [9.0, 1.0, 10 / 9, 2.0]
    )
    with pytest.warns(UserWarning, match="1 of 3 classes have no training instance \\('c'\\)"):
        found = catch_all_weights([100, 4, 0, 2], "O", class_names=["O", "a", "c", "d"])
    assert np.isfinite(found).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert catch_all_weights([0, 4, 2], 0)[0] == 1.0
    assert catch_all_weights([7], 0, catch_all_weight=0.5).tolist() == [0.5]


@pytest.mark.parametrize("name", NAMES)
def test_values_equal_a_naive_loop_over_rows(name):
    logits, target = batch()
    found = losses(reduction="none")[name](logits, target).tolist()
    weights = {
        "catch-all-wce": [1.0, 100 / 180, 100 / 90, 100 / 30],
        "mom": [2.0, 1.0, 1.0, 1.0],
        "mom 0.4": [1.4, 1.0, 1.0, 1.0],
    }
    roots = [math.sqrt(100 / (3 * n)) for n in (60, 30, 10)]
    mean = sum(n * w for n, w in zip((60, 30, 10), roots, strict=True)) / 100
    weights["catch-all-wce 0.3"] = [0.3, *(w / mean for w in roots)]
    for z, y, value in zip(logits.tolist(), target.tolist(), found, strict=True):
        wanted = 0.0 if y == -100 else weights[name][y] * (math.log(sum(map(math.exp, z))) - z[y])
        assert value == pytest.approx(wanted, rel=1e-10)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reduction", ["mean", "weighted_mean", "sum", "none"])
def test_gradcheck_and_parts(name, reduction):
    logits, target = batch()
    loss = losses(reduction=reduction)[name]
    assert torch.autograd.gradcheck(lambda z: loss(z, target), logits.requires_grad_())
    if reduction in {"mean", "weighted_mean"}:
        normalizer = loss.denominator(target)
        parts = sum(loss(z, y, normalizer=normalizer) for z, y in zip(logits.split(5), target.split(5), strict=True))
        torch.testing.assert_close(parts, loss(logits, target), rtol=1e-12, atol=0)


def test_neutral_settings_are_cross_entropy():
    logits, target = batch()
    plain = functional.cross_entropy(logits, target)
    neutral = [
        CatchAllWeightedCrossEntropyLoss(COUNTS, 0, rule=None),
        CatchAllWeightedCrossEntropyLoss([7, 5, 5, 5], 0),
        MajorityOrMinorityLoss(0, strength=0.0),
    ]
    for loss in neutral:
        torch.testing.assert_close(loss(logits, target), plain, rtol=1e-14, atol=0)


def test_majority_or_minority_is_a_class_weight_on_the_catch_all_without_one_in_the_denominator():
    logits, target = batch()
    weighted = functional.cross_entropy(
        logits, target, weight=torch.tensor([3.0, 1.0, 1.0, 1.0], dtype=torch.float64), reduction="sum"
    )
    found = MajorityOrMinorityLoss("O", strength=2.0, class_names=["O", "a", "b", "c"])(logits, target)
    torch.testing.assert_close(found, weighted / 10, rtol=1e-13, atol=0)


def test_effective_priors():
    prior = torch.tensor(COUNTS, dtype=torch.float64) / sum(COUNTS)
    found = MajorityOrMinorityLoss(0, strength=0.5).effective_prior(prior)
    assert found.tolist() == pytest.approx([15_000 / 15_100, 60 / 15_100, 30 / 15_100, 10 / 15_100], rel=1e-12)
    found = CatchAllWeightedCrossEntropyLoss(COUNTS, 0).effective_prior(prior)
    # The classes of interest are balanced among themselves, with the mass they had together.
    assert found.tolist() == pytest.approx([100 / 101, *[1 / 303] * 3], rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_extreme_scores_give_finite_values_and_gradients(name, dtype):
    for scale in (0.0, 1.0, 1e4):
        for label in (0, 3):
            logits = (scale * torch.tensor([[1.0, -1.0, 0.0, 1.0], [-1.0, 1.0, 1.0, 1.0]])).to(dtype).requires_grad_()
            value = losses()[name](logits, torch.full((2,), label))
            assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
            assert torch.isfinite(value)
            assert torch.isfinite(torch.autograd.grad(value, logits)[0]).all()


@pytest.mark.parametrize("name", NAMES)
def test_without_a_valid_row_the_loss_is_zero_and_keeps_the_graph(name):
    logits = torch.randn(3, 4, requires_grad=True)
    value = losses()[name](logits, torch.full((3,), -100))
    assert value.item() == 0.0
    assert not torch.autograd.grad(value, logits)[0].any()


def test_what_is_refused():
    with pytest.raises(SettingError, match=r"Expected `catch_all` to be the index or the name .* but got None"):
        CatchAllWeightedCrossEntropyLoss(COUNTS, None)
    with pytest.raises(SettingError, match=r"Expected `catch_all` to be the index or the name .* but got None"):
        MajorityOrMinorityLoss(None)
    with pytest.raises(SettingError, match="class index from 0 to 3, but got 4"):
        catch_all_weights(COUNTS, 4)
    with pytest.raises(SettingError, match="`catch_all_weight` to be a finite number of at least 0, but got -1"):
        catch_all_weights(COUNTS, 0, catch_all_weight=-1)
    with pytest.raises(SettingError, match="with an instance of a class besides the catch-all, but all are 0"):
        catch_all_weights([5, 0, 0], 0)
    with pytest.raises(SettingError, match=r"Expected `strength` to be a finite number of at least 0, but got -0\.5"):
        MajorityOrMinorityLoss(0, strength=-0.5)
    with pytest.raises(UnknownNameError, match="There is no class 'X'"):
        MajorityOrMinorityLoss("X", class_names=["O", "B"])
    with pytest.raises(UnknownNameError, match=r"Unknown class-weight rule 'inverze'\. Did you mean 'inverse'"):
        catch_all_weights(COUNTS, 0, "inverze")
    with pytest.raises(SettingError, match="MajorityOrMinorityLoss: the catch-all class is 4, but the logits have 4"):
        MajorityOrMinorityLoss(4)(*batch())
