"""Re-sampling, re-weighting and prior correction together: accounted for, or refused."""

import json
import logging
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertConfig, BertForSequenceClassification, TrainingArguments

from tailwise.catalog import METHODS, resolve
from tailwise.errors import SettingError
from tailwise.losses import BalancedSoftmaxLoss, CrossEntropyLoss, WeightedCrossEntropyLoss, class_weights
from tailwise.sampling import SAMPLERS, ClassAwareSampler, NaturalSampler
from tailwise.stages.recipe import Component, Recipe, Stage
from tailwise.training.components import build_loss, effective_prior, fit_posthoc, sampled_prior
from tailwise.training.corrections import PriorShift, prior_shift, refuse_double_correction, stage_shift
from tailwise.training.trainer import ImbalanceTrainer

COUNTS = np.array([600, 300, 80, 20])
NATURAL = COUNTS / COUNTS.sum()
NAMES = ["a", "b", "c", "d"]
INVERSE = (COUNTS.sum() / COUNTS).tolist()
UNIFORM = np.full(4, 0.25)
CAS = Component("cas")


def accuracy(target, predicted):
    return float((target == predicted).mean())


def check(recipe, names=NAMES):
    refuse_double_correction(recipe, COUNTS, names, "a")


@pytest.mark.parametrize("sampler", list(SAMPLERS))
@pytest.mark.parametrize("loss", ["balanced-softmax", "wce"])
def test_a_correcting_loss_by_name_takes_out_what_any_sampler_leaves(sampler, loss):
    component = Component(sampler)
    built = build_loss(Component(loss), class_counts=COUNTS, class_names=NAMES, sampler=component)
    drawn = sampled_prior(component, COUNTS)
    np.testing.assert_allclose(built.effective_prior(torch.from_numpy(drawn)), UNIFORM, atol=1e-6)
    check(Recipe("both", (Stage(sampler=component, loss=Component(loss)),)))


@pytest.mark.parametrize("sampler", list(SAMPLERS))
@pytest.mark.parametrize("loss", ["ce", "balanced-softmax", "wce"])
def test_logit_adjustment_takes_out_what_sampler_and_loss_leave_and_no_more(sampler, loss):
    stage = Stage(sampler=Component(sampler), loss=Component(loss))
    prior = effective_prior(stage, COUNTS, 4, NAMES)
    recipe = Recipe("la", (stage,), posthoc=(Component("logit-adjustment", {"strength": 1.0}),))
    logits, target = np.random.default_rng(0).normal(size=(40, 4)), np.arange(40) % 4
    (step,) = fit_posthoc(recipe, logits, target, prior=prior, metric=accuracy)
    np.testing.assert_allclose(step.bias, -np.log(prior), atol=1e-9)
    wanted = sampled_prior(stage.sampler, COUNTS) if loss == "ce" else UNIFORM
    np.testing.assert_allclose(prior, wanted, atol=1e-6)


def test_logit_adjustment_starts_from_what_was_drawn_by_scores():
    stage = Stage(sampler=Component("performance"), loss=Component("balanced-softmax"))
    drawn = np.array([0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(effective_prior(stage, COUNTS, 4, NAMES, drawn=drawn), drawn)
    natural = replace(stage, sampler=Component("performance", {"base": "natural"}))
    left = drawn / sampled_prior(natural.sampler, COUNTS)
    np.testing.assert_allclose(effective_prior(natural, COUNTS, 4, NAMES, drawn=drawn), left / left.sum(), rtol=1e-6)


REFUSED = [
    Component("wce", {"class_weights": INVERSE}),
    Component("focal", {"class_weights": INVERSE}),
    Component("balanced-softmax", {"class_counts": COUNTS.tolist()}),
    Component("balanced-softmax", {"prior": NATURAL.tolist()}),
    Component("wce", {"class_weights": {"d": 3.0}}),
    Component("weighted-sum", {"losses": [{"name": "wce", "class_weights": INVERSE}, "dice"]}),
    Component("catch-all-wce", {"class_counts": COUNTS.tolist()}),
]


@pytest.mark.parametrize("loss", REFUSED, ids=lambda loss: repr(loss.to_data()))
@pytest.mark.parametrize("sampler", ["cas", "ros", "rus", "power", "progressive", "performance"])
def test_a_loss_by_the_training_counts_over_a_balancing_sampler_is_refused(sampler, loss):
    recipe = Recipe("both", (Stage(), Stage(sampler=Component(sampler), loss=loss, share=0.0)))
    check(recipe)  # a stage without steps corrects nothing
    recipe = Recipe("both", (Stage(share=0.5), Stage(sampler=Component(sampler), loss=loss, share=0.5)))
    message = f"Stage 2 of 'both' corrects for the class sizes twice, by the sampler '{sampler}' and by the loss"
    with pytest.raises(SettingError, match=message):
        check(recipe)
    check(replace(recipe, allow_stacking=True))
    check(Recipe("loss alone", (Stage(loss=loss),)))


def test_the_refusal_names_the_shift_of_both_parts():
    stage = Stage(sampler=CAS, loss=Component("wce", {"class_weights": INVERSE}))
    shift = stage_shift(stage, COUNTS, NAMES)
    assert shift.overshoot == (3, 0)
    message = (
        f"'d' has 2.0% of the training rows and {shift.expressed[3]:.1%} of what the model learns "
        f"(log shift +2.53 by the sampler, {shift.by_loss[3]:+.2f} by the loss)"
    )
    with pytest.raises(SettingError) as refused:
        check(Recipe("both", (stage,)))
    assert message in str(refused.value)
    assert "allow_stacking: true" in str(refused.value)


def test_weights_by_rule_strong_samplers_and_deferred_weights_are_not_stacked():
    fine = [
        Stage(sampler=CAS, loss=Component("wce", {"class_weights": "inverse"})),
        Stage(sampler=CAS, loss=Component("ldam", {"class_weights": "effective_number"})),
        Stage(sampler=Component("power"), loss=Component("wce", {"class_weights": "inverse_sqrt"})),
        Stage(sampler=CAS, loss=Component("wce", {"class_weights": [3.0, 2.0, 1.0, 1.0]})),  # against each other
        Stage(loss=Component("wce", {"class_weights": (np.array(INVERSE) ** 2).tolist()})),  # one alone may overshoot
    ]
    for stage in fine:
        check(Recipe("fine", (stage,)))
    check(resolve("cas+drw"))
    check(resolve("cas+ldam-drw"))


def test_no_method_of_the_catalog_corrects_twice():
    for method in METHODS.values():
        if "text" in method.tasks:
            check(method.recipe())


def test_no_pair_of_sampler_and_loss_in_the_catalog_stacks():
    samplers = [m.name for m in METHODS.values() if m.fragment.sampler is not None and "text" in m.tasks]
    losses = [
        m.name for m in METHODS.values() if m.fragment.loss is not None and m.family == "loss" and "text" in m.tasks
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for sampler in samplers:
            for loss in losses:
                check(resolve(f"{sampler}+{loss}"))


@given(
    counts=st.lists(st.integers(0, 1000), min_size=1, max_size=8).filter(any),
    drawn=st.lists(st.floats(0.01, 1.0), min_size=8, max_size=8),
    weight=st.lists(st.floats(0.01, 10.0), min_size=8, max_size=8),
)
@settings(max_examples=200, deadline=None)
def test_an_overshoot_is_a_smaller_class_that_both_parts_favour_beyond_the_larger_one(counts, drawn, weight):
    natural = np.array(counts) / sum(counts)
    drawn = np.array(drawn[: natural.size]) * (natural > 0)
    drawn /= drawn.sum()
    expressed = drawn * weight[: natural.size]
    shift = PriorShift(natural, drawn, expressed / expressed.sum())
    sampler, loss, ratio = shift.by_sampler, shift.by_loss, np.log(1.1)
    pairs = {
        (i, j): np.log(shift.expressed[i] / shift.expressed[j])
        for i in np.flatnonzero(natural)
        for j in np.flatnonzero(natural)
        if natural[i] < natural[j] and sampler[i] - sampler[j] > ratio and loss[i] - loss[j] > ratio
    }
    pairs = {pair: size for pair, size in pairs.items() if size > ratio}
    if pairs:
        assert pairs[shift.overshoot] == pytest.approx(max(pairs.values()))
    else:
        assert shift.overshoot is None


def test_a_hundred_thousand_classes_are_compared_in_part():
    counts = np.arange(1, 100_001)
    loss = WeightedCrossEntropyLoss(class_weights=torch.from_numpy(1.0 / counts))
    small, large = prior_shift(counts, np.full(100_000, 1e-5), loss).overshoot
    assert (small, large) == (0, 99_999)
    assert prior_shift(counts, np.full(100_000, 1e-5), CrossEntropyLoss()).overshoot is None


def test_the_shift_of_every_class_is_logged(caplog):
    stage = Stage(sampler=CAS)
    with caplog.at_level(logging.INFO, logger="tailwise"):
        check(Recipe("balanced", (stage,)))
    total = np.log(0.25 / NATURAL)
    wanted = ", ".join(f"{name} {value:+.2f}" for name, value in zip(NAMES, total, strict=True))
    assert caplog.messages == [f"Stage 1 of 'balanced': log shift of the prior by class: {wanted}"]


def test_stacking_is_part_of_a_recipe_as_data():
    recipe = Recipe("both", allow_stacking=True)
    assert recipe.to_dict()["allow_stacking"] is True
    assert Recipe.from_yaml(recipe.to_yaml()) == Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert "allow_stacking" not in Recipe("plain").to_dict()
    with pytest.raises(SettingError, match="`allow_stacking` to be true or false, but got 'yes'"):
        Recipe.from_dict({"name": "both", "allow_stacking": "yes"})


LABELS = np.repeat(np.arange(4), [60, 30, 8, 2])


def make_trainer(folder, loss, sampler):
    config = BertConfig(
        vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4, num_labels=4
    )
    rows = Dataset.from_dict({"input_ids": [[1, 2]] * LABELS.size, "labels": LABELS})
    args = TrainingArguments(output_dir=str(folder), use_cpu=True, report_to="none")
    return ImbalanceTrainer(BertForSequenceClassification(config), args, loss=loss, sampler=sampler, train_dataset=rows)


WEIGHTED = WeightedCrossEntropyLoss(class_weights=class_weights("inverse", np.bincount(LABELS)))


@pytest.mark.parametrize("loss", [WEIGHTED, BalancedSoftmaxLoss(class_counts=np.bincount(LABELS))])
@pytest.mark.parametrize("sampler", ["cas", ClassAwareSampler(LABELS), Component("power", {"power": 0.25})])
def test_the_trainer_warns_of_a_loss_by_the_training_counts_over_a_balancing_sampler(loss, sampler, tmp_path):
    message = rf"Sampler and {type(loss).__name__} both correct for the class sizes: '3' has 2\.0% of the training rows"
    with pytest.warns(UserWarning, match=message):
        make_trainer(tmp_path, loss, sampler)


@pytest.mark.parametrize(
    ("loss", "sampler"),
    [
        (WEIGHTED, None),
        (WEIGHTED, NaturalSampler(LABELS)),
        ("wce", "cas"),
        ("balanced-softmax", "ros"),
        ("ce", "cas"),
        (CrossEntropyLoss(), ClassAwareSampler(np.minimum(LABELS, 2))),
    ],
)
def test_the_trainer_is_silent_where_one_thing_corrects(loss, sampler, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        make_trainer(tmp_path, loss, sampler)
