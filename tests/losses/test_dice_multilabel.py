"""Dice over several labels per row, against loops, known values and the single-label parts."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tailwise.errors import SettingError
from tailwise.losses import MultiLabelBatchDiceLoss, MultiLabelDiceLoss
from tailwise.losses.dice import pooled_dice

FORMS = [(squared, smooth) for squared in (True, False) for smooth in (1.0, 0.1)]
forms = pytest.mark.parametrize(("squared", "smooth"), FORMS)


def drawn(rows=7, labels=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(rows, labels, generator=generator, dtype=torch.float64)
    return logits, (torch.rand(rows, labels, generator=generator) < 0.4).long()


def entry(p, y, squared, smooth):
    k = 2 if squared else 1
    return 1 - (2 * p * y + smooth) / (p**k + y**k + smooth)


def batch(p, y, squared, smooth):
    k = 2 if squared else 1
    overlap = sum(a * b for a, b in zip(p, y, strict=True))
    return 1 - (2 * overlap + smooth) / (sum(a**k for a in p) + sum(b**k for b in y) + smooth)


@forms
@pytest.mark.parametrize("seed", range(3))
def test_both_equal_their_formulas(squared, smooth, seed):
    logits, target = drawn(seed=seed)
    p = [[1 / (1 + math.exp(-z)) for z in row] for row in logits.tolist()]
    y = target.tolist()
    wanted = [[entry(a, b, squared, smooth) for a, b in zip(q, r, strict=True)] for q, r in zip(p, y, strict=True)]
    values = MultiLabelDiceLoss(squared=squared, smooth=smooth, reduction="none")(logits, target)
    np.testing.assert_allclose(values, wanted, rtol=1e-10, atol=1e-14)
    labels = [
        batch(*column, squared, smooth) for column in zip(zip(*p, strict=True), zip(*y, strict=True), strict=True)
    ]
    found = MultiLabelBatchDiceLoss(squared=squared, smooth=smooth)(logits, target)
    assert float(found) == pytest.approx(np.mean(labels), rel=1e-10)
    pooled = pooled_dice(torch.sigmoid(logits), target, squared=squared, smooth=smooth)
    np.testing.assert_allclose(pooled, labels, rtol=1e-10)


@forms
def test_gradients(squared, smooth):
    logits, target = drawn(4, 3)
    for loss in (
        MultiLabelDiceLoss(squared=squared, smooth=smooth),
        MultiLabelBatchDiceLoss(squared=squared, smooth=smooth),
    ):
        assert torch.autograd.gradcheck(lambda z, loss=loss: loss(z, target), (logits.clone().requires_grad_(),))


@pytest.mark.parametrize("loss", [MultiLabelDiceLoss(), MultiLabelBatchDiceLoss()])
def test_right_costs_nothing_and_wrong_costs_most(loss):
    _, target = drawn(20)
    sure = (2.0 * target - 1.0) * 50
    assert float(loss(sure, target)) < 1e-20
    assert float(loss(-sure, target)) > float(loss(torch.zeros_like(sure), target)) > 0.1


@given(st.permutations(range(7)), st.permutations(range(4)))
def test_the_order_of_rows_and_labels_is_nothing_to_it(rows, labels):
    logits, target = drawn()
    for loss in (MultiLabelDiceLoss(), MultiLabelBatchDiceLoss(absent="ignore")):
        turned = loss(logits[rows][:, labels], target[rows][:, labels])
        torch.testing.assert_close(turned, loss(logits, target), rtol=1e-12, atol=1e-15)


def test_labels_that_no_row_has_are_left_out_or_pushed_down():
    logits, target = drawn()
    target[:, 1] = 0
    kept = MultiLabelBatchDiceLoss(absent="ignore")(logits, target)
    others = [0, 2, 3]
    torch.testing.assert_close(kept, MultiLabelBatchDiceLoss()(logits[:, others], target[:, others]))
    leaf = logits.clone().requires_grad_()
    MultiLabelBatchDiceLoss()(leaf, target).backward()
    assert (leaf.grad[:, 1] > 0).all()


def test_unknown_entries_enter_no_sum_and_weights_multiply_rows():
    logits, target = drawn()
    hidden = target.clone()
    hidden[2, 1] = hidden[5] = -100
    for loss in (MultiLabelDiceLoss(reduction="sum"), MultiLabelBatchDiceLoss()):
        leaf = logits.clone().requires_grad_()
        loss(leaf, hidden).backward()
        assert leaf.grad[2, 1] == 0
        assert not leaf.grad[5].any()
    weight = torch.tensor([2.0, 1, 1, 1, 1, 1, 0])
    twice = torch.cat([logits[:6], logits[:1]]), torch.cat([target[:6], target[:1]])
    found = MultiLabelBatchDiceLoss()(logits, target, sample_weight=weight)
    torch.testing.assert_close(found, MultiLabelBatchDiceLoss()(*twice))


def test_bad_settings_are_refused():
    with pytest.raises(SettingError, match="`smooth` to be a finite number above 0"):
        MultiLabelDiceLoss(smooth=0.0)
    with pytest.raises(SettingError, match="`absent` to be one of ignore, penalise"):
        MultiLabelBatchDiceLoss(absent="drop")
    with pytest.raises(SettingError, match="`reduction` to be one of"):
        MultiLabelDiceLoss(reduction="median")
