"""A weighted sum of losses: value, gradient, parts of a batch, and what it refuses."""

import pytest
import torch

from tailwise.errors import SettingError
from tailwise.losses import CrossEntropyLoss, FocalLoss, WeightedCrossEntropyLoss
from tailwise.losses.batchwise import BatchLoss
from tailwise.losses.weighted_sum import WeightedSumLoss

COUNTS = [100, 20, 5]


class MeanScore(BatchLoss):
    """The mean score, as a loss that cannot be split."""

    def batch_value(self, logits, target, *, features, group, sample_weight):
        return logits.mean()


def batch(rows=12):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(rows, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    target = torch.randint(3, (rows,), generator=generator)
    target[3] = -100
    return logits, target


def wce(**kwargs):
    return WeightedCrossEntropyLoss(class_counts=COUNTS, **kwargs)


def test_value_and_gradient_are_those_of_the_parts_added():
    logits, target = batch()
    total = WeightedSumLoss([wce(), FocalLoss(), MeanScore()], [0.5, 2.0, 0.1])(logits, target)
    logits.grad = None
    total.backward()
    by_sum, logits.grad = logits.grad, None
    parts = 0.5 * wce()(logits, target) + 2.0 * FocalLoss()(logits, target) + 0.1 * MeanScore()(logits, target)
    parts.backward()
    torch.testing.assert_close(total, parts)
    torch.testing.assert_close(by_sum, logits.grad)


def test_parts_of_a_batch_add_up_to_the_whole_each_loss_with_its_own_denominator():
    logits, target = batch()
    loss = WeightedSumLoss([wce(), FocalLoss(), CrossEntropyLoss(reduction="sum")], [0.5, 2.0, 0.3])
    denominator = loss.denominator(target)
    assert denominator.shape == (3,)
    pieces = [slice(0, 4), slice(4, 5), slice(5, 12)]
    torch.testing.assert_close(sum(loss.denominator(target[p]) for p in pieces)[:2], denominator[:2])
    total = sum(loss(logits[p], target[p], normalizer=denominator) for p in pieces)
    torch.testing.assert_close(total, loss(logits, target))


def test_the_first_loss_speaks_for_the_scores():
    prior = torch.tensor([0.8, 0.15, 0.05], dtype=torch.float64)
    loss = WeightedSumLoss([wce(), FocalLoss()])
    torch.testing.assert_close(loss.effective_prior(prior), wce().effective_prior(prior))
    assert loss.separable
    assert not WeightedSumLoss([wce(), MeanScore()]).separable


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WeightedSumLoss([wce()]), "two or more losses"),
        (lambda: WeightedSumLoss(wce()), "two or more losses"),
        (lambda: WeightedSumLoss([wce(), FocalLoss()], "ab"), "one finite number of at least 0 .*, but got 'ab'"),
        (lambda: WeightedSumLoss([wce(), FocalLoss()], 3), "one finite number of at least 0 .*, but got 3"),
        (lambda: WeightedSumLoss([wce(), FocalLoss()], [None, 1]), "one finite number of at least 0"),
        (lambda: WeightedSumLoss([wce(), FocalLoss()], [1.0]), "one finite number of at least 0 for each of the 2"),
        (lambda: WeightedSumLoss([wce(), FocalLoss()], [1.0, -1.0]), "at least 0"),
        (lambda: WeightedSumLoss([wce(), FocalLoss()], [0.0, 0.0]), "not all 0"),
        (lambda: WeightedSumLoss([wce(), FocalLoss(reduction="none")]), "gives no number to add"),
        (lambda: WeightedSumLoss([wce(), FocalLoss(ignore_index=-1)]), "see the same rows"),
        (lambda: WeightedSumLoss([wce(), MeanScore()]).denominator(torch.tensor([0])), "MeanScore compares the rows"),
        (lambda: WeightedSumLoss([wce(), FocalLoss()])(*batch(), normalizer=3.0), r"one number per loss, \(2,\)"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(make, message):
    with pytest.raises(SettingError, match=message):
        make()
