"""Heads trained side by side: each as if it were alone, and as torch itself would train it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from tailwise.data.labels import LabelSpace
from tailwise.errors import SettingError
from tailwise.losses.base import Loss
from tailwise.models.heads.linear import LinearHead
from tailwise.stages.recipe import Component
from tailwise.training import probe_passes
from tailwise.training.feedback import give_scores
from tailwise.training.probe_passes import TrainingRows, decay, train_heads
from tailwise.training.probe_plan import ProbePlan, StagePlan
from tailwise.training.probe_stacks import PaddedFeatures

LOSSES = (
    Component("ce"),
    Component("ce", {"label_smoothing": 0.1}),
    Component("wce", {"class_weights": "inverse"}),
    Component("focal", {"focus": 2.0}),
    Component("focal", {"focus": 0.5}),
    Component("balanced-softmax"),
    Component("ldam", {"scale": 2.0}),
)
NATURAL, CLASS_AWARE = Component("natural"), Component("cas")


def make_rows(num_rows=300, num_features=24, num_classes=5, seed=0):
    generator = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(num_classes), generator.integers(0, num_classes, num_rows - num_classes) ** 2])
    labels %= num_classes
    centres = generator.normal(size=(num_classes, num_features))
    features = (centres[labels] + generator.normal(size=(num_rows, num_features))).astype(np.float32)
    names = tuple(f"class {i}" for i in range(num_classes))
    return TrainingRows(
        torch.from_numpy(features), labels, LabelSpace(names, np.bincount(labels, minlength=num_classes))
    )


def make_plan(loss=LOSSES[0], *, sampler=NATURAL, steps=12, rate=1e-2, decay=0.01, seed=0, batch=32, head="linear"):
    return ProbePlan(Component(head), (StagePlan(sampler, loss, steps, 1.0),), batch, rate, decay, seed)


def trained_bits(plans, rows):
    return [[p.detach().clone() for p in result.head.parameters()] for result in train_heads(plans, rows)]


def assert_same_bits(left, right):
    for one, other in zip(left, right, strict=True):
        for a, b in zip(one, other, strict=True):
            assert torch.equal(a, b)


def plain_loop(plan, rows, loss):
    """One head as one writes it in torch; its weights are those of the scaled features."""
    head = LinearHead(rows.features.shape[1], rows.label_space.num_classes)
    head.reset(probe_passes.head_generator(plan.seed))
    features, labels = rows.features * PaddedFeatures(rows.features).scale, torch.from_numpy(rows.labels)
    decays = [
        {"params": [head.weight], "weight_decay": plan.weight_decay},
        {"params": [head.bias], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(decays)
    batches = probe_passes.shared_batches([plan], 0, rows)
    for step in range(plan.stages[0].steps):
        index = batches.next()[0, : plan.batch_size]
        for group in optimiser.param_groups:
            group["lr"] = plan.learning_rate * probe_passes.decay(step, plan.stages[0].steps)
        optimiser.zero_grad()
        loss(head, features[index], labels[index]).backward()
        optimiser.step()
    return head


@pytest.mark.parametrize(
    ("num_features", "num_classes", "batch"), [(24, 5, 32), (37, 7, 50), (384, 50, 64), (64, 151, 64), (100, 2, 17)]
)
def test_a_head_does_not_depend_on_the_others_in_the_call_to_the_bit(num_features, num_classes, batch):
    rows = make_rows(400, num_features, num_classes)
    plans = [
        make_plan(loss, sampler=sampler, seed=seed, rate=1e-2 * (1 + i), batch=batch, steps=5)
        for i, loss in enumerate(LOSSES)
        for seed, sampler in ((0, NATURAL), (1, NATURAL), (0, CLASS_AWARE))
    ]
    together = trained_bits(plans, rows)
    assert_same_bits(together, [trained_bits([plan], rows)[0] for plan in plans])
    some = np.random.default_rng(1).permutation(len(plans))[:9]
    assert_same_bits([together[i] for i in some], trained_bits([plans[i] for i in some], rows))


def test_heads_that_share_the_batch_order_get_the_bits_of_heads_with_batches_of_their_own():
    rows = make_rows(num_features=384, num_classes=50, num_rows=1000)
    shared = [make_plan(rate=1e-3 * (i + 1), seed=3, batch=64) for i in range(6)]
    mixed = [plan for i, plan in enumerate(shared) for plan in (plan, make_plan(seed=10 + i, batch=64))]
    assert_same_bits(trained_bits(shared, rows), trained_bits(mixed, rows)[::2])


class Powers(Loss):
    """A loss of functions that PyTorch rounds otherwise where an element lies behind the last full vector."""

    def values(self, logits, target, *, features, group):
        return (torch.sigmoid(logits).pow(0.37) + functional.softplus(logits)).mean(dim=1)


@pytest.mark.parametrize("threads", [2, 3])
def test_independence_holds_for_any_number_of_threads_and_any_function(monkeypatch, threads):
    monkeypatch.setattr(probe_passes, "corpus_loss", lambda *_, **__: Powers())
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        rows = make_rows(num_features=64, num_classes=151, num_rows=500)
        plans = [make_plan(seed=s, rate=r, batch=50, steps=3) for s in (0, 1) for r in (1e-3, 1e-2, 2e-2, 3e-2, 4e-2)]
        assert_same_bits(trained_bits(plans, rows), [trained_bits([plan], rows)[0] for plan in plans])
    finally:
        torch.set_num_threads(before)


def test_cosine_heads_do_not_depend_on_each_other_either():
    rows = make_rows(num_features=37)
    plans = [make_plan(Component("ldam"), head="cosine", seed=s, rate=r) for s in (0, 1) for r in (1e-2, 1e-3)]
    assert_same_bits(trained_bits(plans, rows), [trained_bits([plan], rows)[0] for plan in plans])


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: repr(loss.to_data()))
def test_a_trained_head_is_what_torch_adamw_and_autograd_give(loss):
    rows = make_rows()
    plan = make_plan(loss, sampler=CLASS_AWARE, batch=50)
    (result,) = train_heads([plan], rows)
    head = plain_loop(plan, rows, lambda head, x, y: result.loss(head(x), y))
    scale = PaddedFeatures(rows.features).scale
    torch.testing.assert_close(result.head.weight, head.weight * scale, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(result.head.bias, head.bias, rtol=1e-4, atol=1e-6)


SCORED = Component("performance", {"num_samples": 80, "feedback_share": 0.2})


@pytest.mark.parametrize("head", ["linear", "cosine"])
def test_each_head_is_drawn_for_by_its_own_scores_whatever_the_others_are(head):
    rows = make_rows(num_features=37)
    loss = Component("ldam" if head == "cosine" else "ce")
    plans = [make_plan(loss, sampler=s, rate=r, head=head) for s in (SCORED, NATURAL) for r in (3e-2, 1e-3, 3e-2)]
    results = train_heads(plans, rows)
    alone = [train_heads([plan], rows)[0] for plan in plans]
    assert_same_bits([list(r.head.parameters()) for r in results], [list(r.head.parameters()) for r in alone])
    drawn = [result.drawn for result in results]
    np.testing.assert_array_equal(drawn, [result.drawn for result in alone])
    np.testing.assert_array_equal(drawn[0], drawn[2])
    assert not np.allclose(drawn[0], drawn[1])
    np.testing.assert_allclose(drawn[3:], np.tile(np.bincount(rows.labels) / 300, (3, 1)))


def test_a_head_in_training_is_scored_as_it_is_then(monkeypatch):
    rows = make_rows()
    asked = []

    def watch(sampler, epoch, predict):
        if (rows := sampler.rows_to_score(epoch)).size:
            asked.append((epoch, predict(rows), rows))
        give_scores(sampler, epoch, predict)

    monkeypatch.setattr(probe_passes, "give_scores", watch)
    plan = make_plan(sampler=SCORED, steps=10, rate=3e-2)
    train_heads([plan], rows)
    assert [epoch for epoch, *_ in asked] == [1, 2, 3]
    # An epoch ends within a step: the plan of epoch e is needed for step floor(80 e / 32) + 1.
    for epoch, predicted, held in asked:
        steps = 80 * epoch // 32
        monkeypatch.setattr(probe_passes, "decay", lambda step, _: decay(step, 10))
        short = replace(plan, stages=(replace(plan.stages[0], steps=steps),))
        (result,) = train_heads([short], rows)
        wanted = result.head(rows.features[held]).argmax(dim=1)
        assert predicted.tolist() == wanted.tolist()


def test_a_class_without_a_score_of_its_own_is_predicted_where_all_others_are_below_0(monkeypatch):
    rows, every = make_rows(num_features=4, num_classes=3), np.arange(300)
    seen = []
    monkeypatch.setattr(probe_passes, "give_scores", lambda sampler, epoch, predict: seen.append(predict(every)))
    loss = Component("ranking", {"catch_all": "class 0"})
    (result,) = train_heads([make_plan(loss, sampler=SCORED, steps=3, rate=0.0, decay=0.0)], rows)
    scores = result.head(rows.features).detach()
    scores[:, 0] = 0.0
    assert result.loss.scoreless_class == 0
    assert seen[-1].tolist() == scores.argmax(dim=1).tolist()
    assert 0 < (seen[-1] == 0).sum() < 300


def test_the_final_loss_is_the_mean_over_the_last_epoch():
    rows = make_rows(num_rows=320)
    plan = make_plan(steps=20, rate=0.0, decay=0.0)
    (result,) = train_heads([plan], rows)
    whole = result.loss(result.head(rows.features), torch.from_numpy(rows.labels))
    assert result.losses[-1][1] == pytest.approx(float(whole.detach()), rel=1e-5)


def test_features_are_scaled_by_a_power_of_two_that_does_not_show_in_the_result():
    rows = make_rows()
    small = replace(rows, features=rows.features / 1024)
    assert PaddedFeatures(small.features).scale == 1024 * PaddedFeatures(rows.features).scale
    plan = make_plan()
    (at_size,), (at_small,) = train_heads([plan], rows), train_heads([plan], small)
    assert torch.equal(at_size.head(rows.features), at_small.head(small.features))


def test_the_second_stage_goes_on_with_the_head_of_the_first():
    rows = make_rows()
    first = make_plan(steps=8)
    frozen = replace(first, stages=(*first.stages, replace(first.stages[0], learning_rate_scale=0.0, steps=4)))
    assert_same_bits(trained_bits([first], rows), trained_bits([frozen], rows))


class Neighbours(Loss):
    """A loss that mixes the rows of a batch and needs the features."""

    separable = False
    requires_features = True

    def values(self, logits, target, *, features, group):
        assert features.shape == (50, 24)
        similar = torch.softmax(features @ features.T, dim=1)
        return functional.cross_entropy(similar @ logits, target, reduction="none")


class FarRows(Loss):
    """A loss of single rows that needs the features."""

    requires_features = True

    def values(self, logits, target, *, features, group):
        return features.square().mean(dim=1) * functional.cross_entropy(logits, target, reduction="none")


@pytest.mark.parametrize("loss", [Neighbours(), FarRows(reduction="sum")])
def test_a_loss_gets_the_features_of_its_rows_and_stays_independent(monkeypatch, loss):
    monkeypatch.setattr(probe_passes, "corpus_loss", lambda *_, **__: loss)
    rows = make_rows()
    plans = [make_plan(batch=50, seed=s, rate=r, steps=6) for s in (0, 1) for r in (1e-2, 1e-3)]
    together = train_heads(plans, rows)
    assert_same_bits(trained_bits(plans, rows), [trained_bits([plan], rows)[0] for plan in plans])
    scale = PaddedFeatures(rows.features).scale
    for plan, result in zip(plans, together, strict=True):
        head = plain_loop(plan, rows, lambda head, x, y: loss(head(x), y, features=x))
        torch.testing.assert_close(result.head.weight, head.weight * scale, rtol=1e-4, atol=1e-6)


def test_a_loss_that_returns_no_number_is_refused():
    with pytest.raises(SettingError, match="training needs a number"):
        train_heads([make_plan(Component("ce", {"reduction": "none"}))], make_rows())


def test_the_learning_rate_warms_up_and_falls_to_zero():
    factors = [probe_passes.decay(step, 100) for step in range(100)]
    assert factors[0] == pytest.approx(1 / 6)
    assert max(factors) == factors[5] == 1.0
    assert factors[5:] == sorted(factors[5:], reverse=True)
    assert factors[-1] < 1e-3
