"""Parsers on frozen features: a small grammar is learnt, every kind of recipe runs, and nothing depends on luck."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import Dataset

from tailwise.data.corpus import Corpus
from tailwise.data.labels import LabelSpace
from tailwise.data.task import Task
from tailwise.errors import DataError, SettingError
from tailwise.models.feature_cache import FeatureCache
from tailwise.models.parsing.decoding import is_tree
from tailwise.models.parsing.network import ParserSizes
from tailwise.stages.recipe import Component, Optimisation, Recipe, Stage
from tailwise.training import parsing_probe
from tailwise.training.components import effective_prior
from tailwise.training.engine import Job
from tailwise.training.parsing_loop import ParserOptimisation
from tailwise.training.parsing_plan import Treebank, parser_stages, relation_loss
from tailwise.training.parsing_probe import fit_parsers

NAMES = ("root", "det", "nsubj", "obj", "advmod", "punct")
DIM = 12
SMALL = {"epochs": 20, "token_budget": 64, "sizes": ParserSizes(layers=1, hidden=12, arc=12, relation=8, dropout=0.0)}
FAST = ParserOptimisation(learning_rate=1e-2)


def sentence(generator):
    """[the] noun verb [the] noun [adverb] .   with the rare adverb in one sentence of eight."""
    words, heads, relations = [], [], []

    def phrase():
        if generator.random() < 0.6:
            words.append("the")
        words.append(f"n{generator.integers(4)}")

    phrase()
    verb = len(words) + 1
    words.append(f"v{generator.integers(4)}")
    phrase()
    if generator.random() < 1 / 8:
        words.append("fast")
    words.append(".")
    for place, word in enumerate(words, start=1):
        kind = {"t": "det", "v": "root", "n": "nsubj" if place < verb else "obj", "f": "advmod", ".": "punct"}[word[0]]
        heads.append({"det": place + 1, "root": 0}.get(kind, verb))
        relations.append(NAMES.index(kind))
    return words, heads, relations


def make_corpus(sizes=(60, 24, 24)):
    generator, splits, counts = np.random.default_rng(5), {}, np.zeros(len(NAMES), dtype=np.int64)
    for split, size in zip(("train", "validation", "test"), sizes, strict=True):
        rows = [sentence(generator) for _ in range(size)]
        columns = {"tokens": [r[0] for r in rows], "heads": [r[1] for r in rows], "relations": [r[2] for r in rows]}
        splits[split] = Dataset.from_dict({"id": [f"{split}-{i}" for i in range(size)], **columns})
        if split == "train":
            counts += np.bincount(np.concatenate(columns["relations"]), minlength=len(NAMES))
    return Corpus("grammar", splits, Task("tokens", "arcs"), LabelSpace(NAMES, counts), "0" * 64)


class WordEncoder:
    """A vector per word, whatever the sentence."""

    name = fingerprint = "words"
    revision, max_length, dim, dtype = None, 128, DIM, torch.float32

    def features(self, sentences):
        rows = [np.random.default_rng(sum(map(ord, w)) * 31 + len(w)).normal(size=DIM) for s in sentences for w in s]
        return np.array(rows, dtype=np.float16).reshape(-1, DIM)


@pytest.fixture
def corpus():
    return make_corpus()


@pytest.fixture(autouse=True)
def word_vectors(monkeypatch):
    def split_features(encoder, corpus, split, **kwargs):
        return encoder.features(corpus.tokens(split)), corpus.offsets(split)

    monkeypatch.setattr(parsing_probe, "split_word_features", split_features)
    monkeypatch.setattr("tailwise.models.parsing.model.split_word_features", split_features)
    monkeypatch.setattr("tailwise.models.parsing.model.encode_words", lambda encoder, s: encoder.features(s))


def fit(corpus, recipe, seed=0, tmp_path=None, **settings):
    cache = FeatureCache(tmp_path, max_bytes=0)
    return fit_parsers(
        [Job(recipe, seed)], corpus, WordEncoder(), cache=cache, **{"optimisation": FAST, **SMALL, **settings}
    )[0]


def las(corpus, scores, split="test"):
    right = (scores.heads == corpus.heads(split)) & (scores.logits.argmax(axis=1) == corpus.labels(split))
    return right.mean()


def test_a_small_grammar_is_learnt(corpus):
    steps = []
    model = fit(corpus, Recipe("ce"), epochs=40, progress=lambda *step: steps.append(step))
    scores = model.split_scores(corpus, "test")
    assert las(corpus, model.split_scores(corpus, "train"), "train") == 1.0
    assert las(corpus, scores) > 0.97
    assert scores.logits.dtype == np.float32
    assert scores.logits.shape == (corpus.num_targets("test"), len(NAMES))
    assert model.info["training"]["validation_las"] == las(corpus, model.validation_scores(corpus), "validation")
    assert model.info["training"]["final_train_loss"] < 0.2
    assert steps[-1] == ("train", model.info["training"]["steps"], model.info["training"]["steps"])
    parsed = model.parse([["the", "n1", "v2", "n3", "."], [], ["n0", "v0", "the", "n2", "fast", "."]])
    assert parsed[0].heads == (2, 3, 0, 3, 3)
    assert parsed[0].relations == ("det", "nsubj", "root", "obj", "punct")
    assert parsed[1] == ((), (), ())
    assert parsed[2].relations == ("nsubj", "root", "det", "obj", "advmod", "punct")
    assert model.predict([["n0", "v0", "n2", "."]])[0].tokens == ("n0", "v0", "n2", ".")


def test_the_loss_falls(corpus):
    few, many = (fit(corpus, Recipe("ce"), epochs=n).info["training"]["final_train_loss"] for n in (1, 6))
    assert many < 0.3 * few


@pytest.mark.parametrize("algorithm", ["mst", "eisner"])
def test_every_sentence_gets_a_tree_even_from_a_parser_that_knows_nothing(corpus, algorithm):
    model = fit(corpus, Recipe("ce"), epochs=0.05, algorithm=algorithm)
    assert all(is_tree(parsed.heads) for parsed in model.parse(corpus.tokens("test")))


def test_the_result_is_a_function_of_the_seed(corpus):
    jobs = [Job(Recipe("ce"), 1), Job(Recipe("ce"), 2), Job(Recipe("ce"), 1)]
    settings = {**SMALL, "epochs": 1, "sizes": replace(SMALL["sizes"], dropout=0.3)}
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    models = fit_parsers(jobs, corpus, WordEncoder(), optimisation=FAST, **settings)
    assert torch.equal(before, torch.random.get_rng_state())
    first, second, again = (model.split_scores(corpus, "test").logits for model in models)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("loss", ["wce", "focal", "balanced-softmax", "dice", "poly-1", "influence-balanced"])
def test_single_label_losses_train_the_relations(corpus, loss):
    model = fit(corpus, Recipe(loss, (Stage(loss=Component(loss)),)))
    assert las(corpus, model.split_scores(corpus, "test")) > 0.9


def test_margins_on_cosine_scores_train_the_relations(corpus):
    recipe = Recipe("ldam", (Stage(loss=Component("ldam")),), head=Component("cosine"))
    model = fit(corpus, recipe)
    assert model.network.scorer.form == "cosine"
    assert model.network.scorer.scale == 30.0
    scores = model.split_scores(corpus, "test")
    assert np.abs(scores.logits).max() <= 30.0 + 1e-3
    assert las(corpus, scores) > 0.9


def test_a_stage_for_the_head_moves_the_relation_weights_alone(corpus):
    first = Stage(share=0.5)
    second = Stage(trainable="head", share=0.5, head=Component("linear"), loss=Component("balanced-softmax"))
    one = fit(corpus, Recipe("one", (Stage(),)), epochs=10)
    two = fit(corpus, Recipe("two", (first, second)), epochs=20)
    before, after = one.network.state_dict(), two.network.state_dict()
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert changed == ["scorer.relation_weight"]
    assert all(parameter.requires_grad for parameter in two.network.parameters())
    assert las(corpus, two.split_scores(corpus, "test")) > 0.9


def test_posthoc_steps_change_relations_and_not_heads(corpus):
    plain = fit(corpus, Recipe("ce"), epochs=2)
    recipe = Recipe("la", posthoc=(Component("logit-adjustment", {"strength": 1.0}),))
    adjusted = fit(corpus, recipe, epochs=2)
    before, after = plain.split_scores(corpus, "test"), adjusted.split_scores(corpus, "test")
    np.testing.assert_array_equal(before.heads, after.heads)
    shift = (after.logits - before.logits)[0]
    np.testing.assert_allclose(after.logits - before.logits, np.tile(shift, (len(before.logits), 1)), atol=1e-4)
    assert shift.argmax() == corpus.label_space.counts.argmin()
    np.testing.assert_allclose(after.logits, adjusted.adjustment(adjusted.raw_split_scores(corpus, "test")))
    held_out = adjusted.validation_scores(corpus)
    assert held_out.logits.shape == (corpus.num_targets("validation"), len(NAMES))
    assert plain.validation_scores(corpus).heads.shape == held_out.heads.shape


def test_natural_batches_hold_every_sentence_once_per_epoch(corpus):
    treebank = Treebank.of(corpus, "train")
    (stage,) = parser_stages(Recipe("ce"), treebank, num_relations=6, epochs=2, token_budget=50, seed=0)
    drawn = np.bincount(np.concatenate(stage.batches), minlength=60)
    np.testing.assert_array_equal(drawn, np.full(60, 2))
    np.testing.assert_array_equal(stage.drawn, 2 * corpus.label_space.counts)
    assert all(len(batch) * treebank.lengths[batch].max() <= 50 for batch in stage.batches)


def test_class_aware_sampling_draws_the_sentences_of_rare_relations(corpus):
    treebank, space = Treebank.of(corpus, "train"), corpus.label_space
    loss = Component("balanced-softmax")
    recipe = Recipe("cas", (Stage(sampler=Component("cas"), loss=loss),))
    (stage,) = parser_stages(recipe, treebank, num_relations=6, epochs=50, token_budget=200, seed=0)
    rare = NAMES.index("advmod")
    assert stage.drawn[rare] / stage.drawn.sum() > 1.5 * space.prior[rare]
    recounted = np.bincount(
        np.concatenate(
            [treebank.relations[treebank.offsets[i] : treebank.offsets[i + 1]] for b in stage.batches for i in b]
        ),
        minlength=6,
    )
    np.testing.assert_array_equal(stage.drawn, recounted)
    # what is taken out of the scores is what was drawn, so nothing is left to correct
    built = relation_loss(stage, space)
    uniform = built.effective_prior(torch.from_numpy(stage.drawn / stage.drawn.sum()))
    np.testing.assert_allclose(uniform.numpy(), np.full(6, 1 / 6), atol=1e-6)


def test_class_weights_follow_what_is_drawn(corpus):
    treebank, space = Treebank.of(corpus, "train"), corpus.label_space
    for sampler in ("natural", "cas"):
        recipe = Recipe("w", (Stage(sampler=Component(sampler), loss=Component("wce")),))
        (stage,) = parser_stages(recipe, treebank, num_relations=6, epochs=3, token_budget=200, seed=0)
        weights = relation_loss(stage, space).class_weights.numpy()
        share = weights * stage.drawn
        np.testing.assert_allclose(share / share.sum(), np.full(6, 1 / 6), atol=1e-6)


def test_stages_share_the_sentences(corpus):
    recipe = Recipe("two", (Stage(share=0.75), Stage(share=0.25)))
    stages = parser_stages(recipe, Treebank.of(corpus, "train"), num_relations=6, epochs=2, token_budget=64, seed=0)
    assert [sum(map(len, stage.batches)) for stage in stages] == [90, 30]


def test_a_recipe_goes_before_the_settings(corpus):
    recipe = Recipe("ce", optimisation=Optimisation(learning_rate=1e-4, epochs=1, batch_size=40))
    info = fit(corpus, recipe).info["settings"]
    assert (info["epochs"], info["token_budget"], info["optimisation"]["learning_rate"]) == (1, 40, 1e-4)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (Recipe("ncm", head=Component("class-means")), "'linear' or 'cosine'.*'class-means'"),
        (Recipe("ncm", (Stage(), Stage(share=0.0, head=Component("class-means")))), "Stage 2 .* takes no step"),
        (Recipe("x", (Stage(loss=Component("ce", {"reduction": "none"})),)), "training needs a number"),
        (Recipe("x", (Stage(sampler=Component("performance")),)), "goes by the scores of the training"),
        (Recipe("x", optimisation=Optimisation(epochs=0)), "`epochs` above 0"),
    ],
)
def test_recipes_that_a_parser_cannot_carry_out(corpus, recipe, message):
    with pytest.raises(SettingError, match=message):
        fit(corpus, recipe)


def test_data_that_a_parser_cannot_use(corpus):
    with pytest.raises(SettingError, match="needs a treebank, but 'grammar' is for 'tagging'"):
        fit(replace(corpus, task=Task("tokens", "tags")), Recipe("ce"))
    empty = Dataset.from_dict({"id": ["0"], "tokens": [["a"]], "heads": [[0]], "relations": [[0]]}).select([])
    with pytest.raises(DataError, match="no training row"):
        fit(replace(corpus, splits={**corpus.splits, "train": empty}), Recipe("ce"))


def test_the_prior_that_posthoc_steps_start_from_is_the_natural_one(corpus):
    space = corpus.label_space
    prior = effective_prior(Stage(), space.counts, space.num_classes, space.names)
    np.testing.assert_allclose(prior, space.prior)
