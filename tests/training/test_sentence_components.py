"""Samplers over sentences as recipes name them, and what both engines draw with them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict

from tailwise.data.corpus import SPLITS, Corpus
from tailwise.data.labels import LabelSpace
from tailwise.data.task import TASKS
from tailwise.errors import SettingError
from tailwise.sampling import SentenceRaritySampler, TokenFactorSampler
from tailwise.stages.recipe import Component, Recipe, Stage
from tailwise.training.components import sampled_prior
from tailwise.training.corpus_parts import corpus_loss, corpus_prior, refuse_corpus_double_correction
from tailwise.training.probe_passes import TrainingRows, build_stage_loss, shared_batches
from tailwise.training.probe_plan import ProbePlan, StagePlan
from tailwise.training.sentence_components import build_sentence_sampler, sentence_shares

NAMES = ("B-PER", "B-WORK", "I-PER", "O")
SENTENCES = [[3, 3, 0, 2], [3, 1, 3], [3, 3], [0, 2, 2, 3, 3], [3]]
TAGS = np.concatenate(SENTENCES)
OFFSETS = np.cumsum([0, *map(len, SENTENCES)])
SPACE = LabelSpace(NAMES, np.bincount(TAGS), "O")


def build(component, tags=TAGS, space=SPACE):
    return build_sentence_sampler(component, tags, OFFSETS, space, seed=3)


def test_beginning_and_inside_are_one_type_and_o_is_none():
    found = build(Component("sentence-rarity", {"form": "sC"}))
    assert found.factors().tolist() == [3.0, 2.0, 1.0, 4.0, 1.0]  # 1 + tokens of entities
    wanted = SentenceRaritySampler(SENTENCES, catch_all=3, tag_types=[0, 1, 0, 0], form="sCR", seed=3)
    assert build(Component("sentence-rarity")).plan(2).tolist() == wanted.plan(2).tolist()
    assert found.seed == 3


def test_subwords_without_a_tag_are_no_tokens():
    padded = np.concatenate([[-100, *row, -100] for row in SENTENCES])
    offsets = OFFSETS + 2 * np.arange(OFFSETS.size)
    for name in ("sentence-rarity", "sentence-rfs", "catch-all-sentences"):
        found = build_sentence_sampler(Component(name), padded, offsets, SPACE, seed=3)
        np.testing.assert_array_equal(found.plan(1), build(Component(name)).plan(1))
        np.testing.assert_allclose(found.effective_prior(), build(Component(name)).effective_prior())


def test_without_a_catch_all_every_tag_is_a_type():
    space = LabelSpace(("ADJ", "ADV", "NOUN", "VERB"), np.bincount(TAGS))
    assert build(Component("sentence-rarity", {"form": "sC"}), space=space).factors().tolist() == [5, 4, 3, 6, 2]


def test_a_wrong_parameter_is_refused():
    with pytest.raises(SettingError, match="colour"):
        build(Component("sentence-rarity", {"colour": 1}))


def test_counts_alone_do_not_tell_what_is_drawn():
    np.testing.assert_allclose(sampled_prior(Component("sentence-rarity"), SPACE.counts), SPACE.prior)


def test_a_probe_draws_the_tokens_of_the_sentences():
    component = Component("sentence-rarity")
    rows = TrainingRows(torch.zeros(TAGS.size, 2), TAGS, SPACE, OFFSETS)
    plan = ProbePlan(Component("linear"), (StagePlan(component, Component("ce"), 4, 1.0),), 8, 0.1, 0.0, 0)
    (stream,) = shared_batches([plan], 0, rows).streams
    assert isinstance(stream.sampler, TokenFactorSampler)
    sentence_of = np.repeat(np.arange(len(SENTENCES)), np.diff(OFFSETS))
    drawn = np.bincount(sentence_of[stream.sampler.plan(0)], minlength=len(SENTENCES)) / np.diff(OFFSETS)
    np.testing.assert_array_equal(drawn, build(component).factors())


STAGE = Stage(Component("sentence-rarity"), Component("wce", {"class_weights": "inverse"}))


@pytest.fixture
def corpus():
    rows = {"tokens": [[f"w{tag}" for tag in row] for row in SENTENCES], "tags": SENTENCES}
    splits = DatasetDict({split: Dataset.from_dict(rows) for split in SPLITS})
    return Corpus("toy", splits, TASKS["tagging"], SPACE, fingerprint="0" * 64)


def test_weights_follow_the_tags_of_the_drawn_sentences(corpus):
    shares = sentence_shares(STAGE.sampler, TAGS, OFFSETS, SPACE)
    assert not np.allclose(shares, SPACE.prior)
    loss = corpus_loss(STAGE.loss, STAGE.sampler, SPACE, shares=shares)
    weighted = loss.class_weights.numpy() * shares
    np.testing.assert_allclose(weighted, weighted[0])
    np.testing.assert_allclose(corpus_prior(STAGE, corpus), 0.25)
    refuse_corpus_double_correction(Recipe("both", (STAGE,)), corpus)
    assert sentence_shares(Component("natural"), TAGS, OFFSETS, SPACE) is None
    rows = TrainingRows(torch.zeros(TAGS.size, 2), TAGS, SPACE, OFFSETS)
    plan = StagePlan(STAGE.sampler, STAGE.loss, 4, 1.0)
    assert torch.equal(build_stage_loss(plan, rows).class_weights, loss.class_weights)


def test_weights_of_the_training_counts_over_drawn_sentences_correct_twice(corpus):
    weights = (1.0 / SPACE.prior).tolist()
    stage = replace(STAGE, loss=Component("wce", {"class_weights": weights}))
    with pytest.raises(SettingError, match="corrects for the class sizes twice, by the sampler 'sentence-rarity'"):
        refuse_corpus_double_correction(Recipe("twice", (stage,)), corpus)
