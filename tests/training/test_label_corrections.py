"""Re-sampling, re-weighting and prior correction together, where rows may have several labels."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import Dataset
from scipy.sparse import csr_matrix
from transformers import BertConfig, BertForSequenceClassification, TrainingArguments

from tailwise.catalog import METHODS, resolve
from tailwise.data.corpus import SPLITS, Corpus
from tailwise.data.labels import LabelSpace
from tailwise.data.loading import load
from tailwise.data.task import TASKS
from tailwise.errors import SettingError
from tailwise.losses import (
    DistributionBalancedLoss,
    MultiLabelLDAMLoss,
    PositiveWeightedBinaryCrossEntropyLoss,
    WeightedBinaryCrossEntropyLoss,
    WeightedCrossEntropyLoss,
    class_weights,
)
from tailwise.sampling import (
    MULTILABEL_SAMPLERS,
    ClassAwareMultiLabelSampler,
    ClassAwareSampler,
    LabelBalancedSampler,
    RepeatFactorSampler,
    SentenceRaritySampler,
)
from tailwise.stages.label_structures import for_multilabel
from tailwise.stages.recipe import Component, Recipe, Stage
from tailwise.training.corpus_parts import corpus_prior
from tailwise.training.corrections import label_stage_shift, refuse_double_label_correction
from tailwise.training.finetune import FinetuneEngine
from tailwise.training.finetune_run import FinetuneRun
from tailwise.training.label_attention_probe import _stage_loss
from tailwise.training.multilabel_components import (
    build_label_loss,
    build_label_sampler,
    drawn_rates,
    fit_label_posthoc,
    label_prior,
    trained_labels,
)
from tailwise.training.probe import ProbeEngine
from tailwise.training.probe_passes import TrainingRows, train_heads
from tailwise.training.probe_plan import ProbePlan, StagePlan
from tailwise.training.trainer import ImbalanceTrainer

NAMES = ("a", "b", "c", "d")
CLASSES = np.repeat(np.arange(4), [600, 300, 80, 20])
SETS = np.eye(4)[CLASSES]
SETS[::3, 0] = 1.0  # the frequent label comes with every other one
SETS[::50] = 0.0
TARGETS = csr_matrix(SETS)
COUNTS = SETS.sum(axis=0)
ROWS = len(SETS)
SPACE = LabelSpace(NAMES, COUNTS.astype(int), num_rows=ROWS)
ODDS = ((ROWS - COUNTS) / COUNTS).tolist()
BALANCING = ("ml-cas", "label-balanced", "ml-ros")
every_sampler = pytest.mark.parametrize("sampler", [Component(name) for name in MULTILABEL_SAMPLERS], ids=str)
full_odds = Component("pos-bce", {"power": 1.0, "cap": None})


def drawn_by(sampler):
    return build_label_sampler(sampler, TARGETS, seed=0).effective_prior()


def built(name, sampler=None, **params):
    return build_label_loss(Component(name, params), SPACE, None if sampler is None else drawn_rates(sampler, TARGETS))


def check(recipe):
    refuse_double_label_correction(recipe, TARGETS, SPACE)


@every_sampler
def test_positive_weights_by_name_take_out_what_any_sampler_leaves(sampler):
    stage = Stage(sampler=sampler, loss=full_odds)
    np.testing.assert_allclose(label_prior(stage, TARGETS, SPACE), 0.5, rtol=1e-12)
    check(Recipe("both", (stage,)))
    parts = {"losses": [full_odds.to_data(), "ml-dice"]}
    stage = Stage(sampler=sampler, loss=Component("weighted-sum", parts))
    np.testing.assert_allclose(label_prior(stage, TARGETS, SPACE), 0.5, rtol=1e-12)


@every_sampler
def test_weights_and_biases_follow_the_drawn_rates_and_what_measures_evidence_the_training_counts(sampler):
    rates = drawn_by(sampler)
    rule = class_weights("balanced", rates * ROWS, normalise="max_1")
    np.testing.assert_allclose(built("wbce", sampler).class_weights, rule, rtol=1e-12)
    balanced = built("db", sampler, reweighting="rebalance")
    np.testing.assert_allclose(balanced.bias, 0.05 * np.log((1 - rates) / rates), rtol=1e-9)
    np.testing.assert_allclose(balanced.inverse_counts, 1 / COUNTS)
    np.testing.assert_allclose(built("db", sampler, reweighting="inverse").label_weights, 1 / rates, rtol=1e-12)
    assert torch.equal(built("ml-ldam", sampler).margins, MultiLabelLDAMLoss(COUNTS).margins)


@pytest.mark.parametrize("name", ["pos-bce", "wbce", "db", "ml-ldam"])
def test_without_a_sampler_a_loss_has_the_bits_of_the_training_counts(name):
    kinds = {
        "pos-bce": PositiveWeightedBinaryCrossEntropyLoss,
        "wbce": WeightedBinaryCrossEntropyLoss,
        "db": DistributionBalancedLoss,
        "ml-ldam": MultiLabelLDAMLoss,
    }
    facts = {"num_rows": ROWS} if name in ("pos-bce", "db") else {}
    wanted = kinds[name](class_counts=COUNTS, **facts).state_dict()
    found = built(name, Component("natural")).state_dict()
    assert wanted.keys() == found.keys()
    assert all(torch.equal(wanted[key], found[key]) for key in wanted)


@every_sampler
def test_a_sampler_alone_expresses_what_it_draws_to_the_bit(sampler):
    stage = Stage(sampler=sampler, loss=Component("bce"))
    np.testing.assert_array_equal(label_prior(stage, TARGETS, SPACE), drawn_by(sampler))


@every_sampler
@pytest.mark.parametrize("loss", ["bce", "pos-bce", "db"])
def test_logit_adjustment_takes_out_what_sampler_and_loss_leave_and_no_more(sampler, loss):
    stage = Stage(sampler=sampler, loss=Component(loss))
    prior = label_prior(stage, TARGETS, SPACE)
    rates = drawn_by(sampler)
    expressed = built(loss, sampler).effective_prior(torch.from_numpy(rates)).numpy()
    np.testing.assert_array_equal(prior, expressed)
    if loss == "pos-bce":
        np.testing.assert_allclose(prior / (1 - prior), np.sqrt(rates / (1 - rates)), rtol=1e-12)
    recipe = Recipe("la", (stage,), posthoc=(Component("label-logit-adjustment", {"strength": 1.0}),))
    logits = np.random.default_rng(0).normal(size=(40, 4))
    (step,) = fit_label_posthoc(recipe, logits, TARGETS[:40], prior=prior, metric=lambda *_: 0.0)
    np.testing.assert_allclose(step.bias, -np.log(prior / (1 - prior)), atol=1e-9)


def test_a_label_of_all_rows_is_drawn_at_no_more_than_all_of_them():
    sets = np.ones((997, 2))
    sets[3:, 1] = 0.0
    space = LabelSpace(("all", "few"), np.array([997, 3]), num_rows=997)
    for sampler in map(Component, MULTILABEL_SAMPLERS):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            prior = label_prior(Stage(sampler=sampler, loss=Component("pos-bce")), csr_matrix(sets), space)
        assert (prior <= 1).all()


REFUSED = [
    Component("pos-bce", {"positive_weights": ODDS}),
    Component("pos-bce", {"positive_weights": {"c": 4.0, "d": 9.0}}),
    Component("pos-bce", {"class_counts": COUNTS.tolist(), "power": 1.0}),
    Component("db", {"class_counts": COUNTS.tolist(), "logit_bias": 1.0, "negative_scale": 1.0}),
    Component("weighted-sum", {"losses": [{"name": "pos-bce", "positive_weights": ODDS}, "ml-dice"]}),
]


@pytest.mark.parametrize("loss", REFUSED, ids=lambda loss: repr(loss.to_data()))
@pytest.mark.parametrize("sampler", ["ml-cas", "label-balanced"])
def test_a_loss_by_the_training_counts_over_a_balancing_sampler_is_refused(sampler, loss):
    stage = Stage(sampler=Component(sampler), loss=loss, share=0.5)
    recipe = Recipe("both", (Stage(share=0.5, loss=Component("bce")), stage))
    shift = label_stage_shift(stage, TARGETS, SPACE)
    small, large = shift.overshoot
    assert COUNTS[small] < COUNTS[large]
    assert shift.expressed[small] > 1.1 * shift.expressed[large]
    message = f"Stage 2 of 'both' corrects for the class sizes twice, by the sampler '{sampler}' and by the loss"
    with pytest.raises(SettingError, match=message) as refused:
        check(recipe)
    rare = f"{NAMES[small]!r} has {COUNTS[small] / ROWS:.1%} of the training rows and {shift.expressed[small]:.1%} of"
    assert rare in str(refused.value)
    check(replace(recipe, allow_stacking=True))
    check(Recipe("idle", (Stage(loss=Component("bce")), replace(stage, share=0.0))))
    check(Recipe("loss alone", (Stage(loss=loss),)))


@pytest.mark.parametrize("sampler", BALANCING)
@pytest.mark.parametrize("loss", ["ml-ldam", Component("weighted-sum", {"losses": ["ml-ldam", "ml-dice"]})])
def test_margins_over_a_balancing_sampler_are_no_second_correction(sampler, loss):
    check(Recipe("both", (Stage(sampler=Component(sampler), loss=Component.from_data(loss)),)))


def test_no_sampler_and_loss_of_the_catalog_stack():
    usable = [m for m in METHODS.values() if "multilabel" in m.tasks]
    samplers = [m.name for m in usable if m.fragment.sampler is not None]
    losses = [m.name for m in usable if m.fragment.loss is not None and m.family == "loss"]
    assert len(samplers) > 5
    assert len(losses) > 10
    for name in [*(m.name for m in usable), *(f"{sampler}+{loss}" for sampler in samplers for loss in losses)]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check(for_multilabel(resolve(name)))


def test_class_aware_batches_and_positive_weights_do_not_put_rare_emotions_above_frequent_ones(data_dir):
    corpus = load(data_dir / "goemotions")
    (stage,) = for_multilabel(resolve("cas+wce")).stages
    prior, size = corpus_prior(stage, corpus), corpus.label_space.counts
    rare, frequent = np.argsort(size)[:5], np.argsort(size)[-5:]
    assert prior[rare].max() < prior[frequent].min()
    sampled = corpus_prior(replace(stage, loss=Component("bce")), corpus)
    np.testing.assert_allclose(prior / (1 - prior), np.sqrt(sampled / (1 - sampled)), rtol=1e-9)


CORPUS = Corpus(
    "letters",
    {
        split: Dataset.from_dict({
            "id": [f"{split}{i}" for i in range(ROWS)],
            "text": ["x"] * ROWS,
            "labels": [np.flatnonzero(row).tolist() for row in SETS],
        })
        for split in SPLITS
    },
    TASKS["multilabel"],
    SPACE,
    "letters",
)  # fmt: skip


@pytest.mark.parametrize("engine", [ProbeEngine(), FinetuneEngine()], ids=lambda engine: engine.name)
def test_both_engines_refuse_before_any_training(engine):
    recipe = Recipe("both", (Stage(sampler=Component("ml-cas"), loss=REFUSED[0]),))
    with pytest.raises(SettingError, match="corrects for the class sizes twice, by the sampler 'ml-cas' and by"):
        engine.fit(recipe, CORPUS, FakeEncoder(), 1)


class FakeEncoder:
    """No encoder: none is needed where nothing is trained."""

    name, revision, fingerprint, max_length = "none", None, "none", 8


def test_every_engine_trains_on_weights_of_the_drawn_rates(tmp_path):
    rates = drawn_by(Component("ml-cas"))
    wanted = torch.from_numpy(np.sqrt((1 - rates) / rates))
    stage = Stage(sampler=Component("ml-cas"), loss=Component("pos-bce"))
    recipe = Recipe("both", (stage,))
    run = FinetuneRun(FinetuneEngine(), recipe, CORPUS, FakeEncoder(), 1, tmp_path, None)
    torch.testing.assert_close(run._loss(stage).positive_weights, wanted)
    plan = ProbePlan(Component("linear"), (StagePlan(stage.sampler, stage.loss, 1, 1.0),), 8, 0.1, 0.0, 1)
    targets = trained_labels(CORPUS.label_matrix("train"), SPACE)
    torch.testing.assert_close(_stage_loss(plan.stages[0], SPACE, targets).positive_weights, wanted)
    (trained,) = train_heads([plan], TrainingRows(torch.zeros(ROWS, 3), targets, SPACE))
    torch.testing.assert_close(trained.loss.positive_weights, wanted)


def make_trainer(folder, loss, sampler, labels=SETS):
    config = BertConfig(
        vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4, num_labels=4
    )
    rows = Dataset.from_dict({"input_ids": [[1, 2]] * len(labels), "labels": labels.astype(int).tolist()})
    args = TrainingArguments(output_dir=str(folder), use_cpu=True, report_to="none")
    return ImbalanceTrainer(BertForSequenceClassification(config), args, loss=loss, sampler=sampler, train_dataset=rows)


@pytest.mark.parametrize("sampler", BALANCING)
def test_the_trainer_gives_a_loss_by_name_the_rates_that_a_sampler_by_name_draws(sampler, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        trainer = make_trainer(tmp_path, "pos-bce", sampler)
    rates = drawn_by(Component(sampler))
    np.testing.assert_allclose(trainer.loss.positive_weights, np.sqrt((1 - rates) / rates), rtol=1e-9)


NATURAL = PositiveWeightedBinaryCrossEntropyLoss(class_counts=COUNTS, num_rows=ROWS)


@pytest.mark.parametrize(
    ("loss", "sampler"),
    [
        (NATURAL, "ml-cas"),
        (NATURAL, "label-balanced"),
        (NATURAL, ClassAwareMultiLabelSampler(SETS)),
        ("pos-bce", LabelBalancedSampler(SETS)),
    ],
)
def test_the_trainer_warns_of_a_loss_by_the_training_counts_over_a_balancing_sampler(loss, sampler, tmp_path):
    rate = f"{COUNTS[3] / ROWS:.1%}"
    message = f"Sampler and PositiveWeighted.* both correct for the class sizes: '3' has {rate} of the training rows"
    with pytest.warns(UserWarning, match=message):
        make_trainer(tmp_path, loss, sampler)


WEIGHTED = WeightedCrossEntropyLoss(class_weights=class_weights("inverse", np.bincount(CLASSES)))


@pytest.mark.parametrize(
    "sampler",
    [
        RepeatFactorSampler(CLASSES, threshold=0.8, power=1.0),
        ClassAwareMultiLabelSampler(np.eye(4)[CLASSES]),
        SentenceRaritySampler([[y] for y in CLASSES], num_classes=4),
    ],
    ids=lambda sampler: type(sampler).__name__,
)
def test_the_trainer_warns_whatever_kind_of_sampler_balances_one_class_per_row(sampler, tmp_path):
    message = f"{type(sampler).__name__} and WeightedCrossEntropyLoss both correct for the class sizes"
    with pytest.warns(UserWarning, match=message):
        make_trainer(tmp_path, WEIGHTED, sampler, CLASSES)


@pytest.mark.parametrize(
    ("loss", "sampler", "labels"),
    [
        (NATURAL, None, SETS),
        ("bce", "ml-cas", SETS),
        ("ml-ldam", ClassAwareMultiLabelSampler(SETS), SETS),
        (NATURAL, ClassAwareSampler(CLASSES), SETS),  # what it does to the labels is not known
        (WEIGHTED, ClassAwareMultiLabelSampler(SETS), CLASSES),  # over labels that are not the classes
    ],
)
def test_the_trainer_is_silent_where_one_thing_corrects_or_nothing_is_known(loss, sampler, labels, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        make_trainer(tmp_path, loss, sampler, labels)
