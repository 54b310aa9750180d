"""What a recipe trains on is train: held-out rows are not asked for, change nothing, and are scored once, in order."""

from dataclasses import replace

import numpy as np
import pytest
from datasets import concatenate_datasets

from tailwise.catalog import METHODS
from tailwise.data.corpus import SPLITS
from tailwise.data.task import TASKS
from tailwise.models.feature_cache import FeatureCache
from tailwise.sampling import MULTILABEL_SAMPLERS, SAMPLERS, SENTENCE_SAMPLERS
from tailwise.stages.recipe import Component, Recipe, Stage
from tailwise.training.dealing import DealtBatches
from tailwise.training.finetune import FinetuneEngine
from tailwise.training.parsing_finetune import TrainedWords
from tailwise.training.parsing_probe import FrozenWords
from tailwise.training.probe import ProbeEngine
from tailwise.training.probe_batches import BatchStream

pytestmark = pytest.mark.usefixtures("quick_garbage_collection")

#: every registered sampler is fine-tuned with on one task, and class-aware sampling on all tasks that take it
FINETUNED = {"text": SAMPLERS, "multilabel": MULTILABEL_SAMPLERS, "tagging": SENTENCE_SAMPLERS} | dict.fromkeys(
    ("pair", "multilabel-pair", "relation", "parsing"), ("cas",)
)
PARAMS = {"progressive": {"stepwise": True}}


def cases():
    """The catalog with the probe, or what only fine-tuning runs; then the samplers with fine-tuning."""
    for task, kind in TASKS.items():
        for name, method in METHODS.items():
            for engine in method.engines_for(kind)[:1]:
                yield pytest.param(task, engine, method.recipe(), id=f"{task}-{engine}-{name}")
        for name in FINETUNED[task]:
            recipe = Recipe(name, (Stage(Component(name, PARAMS.get(name, {}))),))
            yield pytest.param(task, "finetune", recipe, id=f"{task}-finetune-sampler:{name}")


@pytest.fixture(scope="module")
def corpora(corpora):
    """The corpora with a catch-all class, so that no method is refused for want of one."""
    spaces = {task: replace(c.label_space, catch_all=c.label_space.names[0]) for task, c in corpora.items()}
    return {task: replace(corpus, label_space=spaces[task]) for task, corpus in corpora.items()}


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    cache = FeatureCache(tmp_path_factory.mktemp("features"))
    return {
        # weights of joined features are fitted on validation, as post-hoc steps are
        "probe": ProbeEngine(cache=cache, features="encoder", epochs=1.2, batch_size=32, C=1.0),
        "finetune": FinetuneEngine(epochs=1.2, batch_size=32, max_length=32, precision="float32", head_init="fresh"),
    }


@pytest.fixture
def asked(monkeypatch):
    """Numbers of the rows that training asks for: for heads, all at once or by batches, an encoder, or a parser."""
    batches = []

    def noted(rows):
        batches.append(np.array(rows))
        return rows

    def with_notes(states):
        return lambda self, layout, sentences: states(self, layout, noted(sentences))

    def with_all_rows(engine, rows, *rest):
        noted(np.arange(rows.num_rows))
        return train(engine, rows, *rest)

    draw, deal, train = BatchStream.next, DealtBatches.__iter__, ProbeEngine._train_on
    monkeypatch.setattr(ProbeEngine, "_train_on", with_all_rows)
    monkeypatch.setattr(BatchStream, "next", lambda self: noted(draw(self)))
    monkeypatch.setattr(DealtBatches, "__iter__", lambda self: map(noted, deal(self)))
    for words in (FrozenWords, TrainedWords):
        monkeypatch.setattr(words, "states", with_notes(words.states))
    return lambda: set(np.concatenate([[], *batches]).astype(int).tolist())


def training_rows(corpus, engine):
    """The numbers of all rows that training may ask for: of tokens on a probe of tags, else of instances."""
    by_token = engine == "probe" and corpus.task.label_structure == "tags"
    return set(range(corpus.num_targets("train") if by_token else corpus.num_rows("train")))


def with_other_held_out_rows(corpus):
    """The same train; validation and test change places and lose their last rows."""
    splits = dict(corpus.splits)
    splits["validation"], splits["test"] = splits["test"].select(range(35)), splits["validation"].select(range(30))
    return replace(corpus, splits=splits, fingerprint="other")


def with_validation_in_train(corpus):
    """What an engine would see that did not keep them apart."""
    together = concatenate_datasets([corpus.splits["train"], corpus.splits["validation"]])
    return replace(corpus, splits={**corpus.splits, "train": together}, fingerprint="together")


def backwards(model, corpus, split):
    """The scores of a split whose rows are given from the last to the first, in the order of the split again."""
    inputs, pairs, ends = corpus.inputs(split), corpus.text_pairs(split), corpus.offsets(split)
    turned = np.concatenate([np.arange(*ends[i : i + 2]) for i in reversed(range(len(inputs)))])
    return model.raw_scores(inputs[::-1], None if pairs is None else pairs[::-1])[np.argsort(turned)]


@pytest.mark.parametrize(("task", "engine", "recipe"), list(cases()))
def test_held_out_rows_are_neither_trained_on_nor_resampled(corpora, encoder, engines, asked, task, engine, recipe):
    corpus = corpora[task]
    before = {split: corpus.splits[split].to_dict() for split in SPLITS}
    model = engines[engine].fit(recipe, corpus, encoder, seed=0)
    other = engines[engine].fit(recipe, with_other_held_out_rows(corpus), encoder, seed=0)
    if engine == "probe" and task == "tagging" and recipe.name != "crf":
        model.chain = other.chain = None  # decided on validation, as post-hoc steps are
    assert not asked() - training_rows(corpus, engine)
    assert asked() or recipe.name == "crf"  # which reads the words of train by itself
    assert {split: corpus.splits[split].to_dict() for split in SPLITS} == before
    for split in ("validation", "test"):
        scores = model.raw_split_scores(corpus, split)
        assert len(scores) == corpus.num_targets(split)
        np.testing.assert_allclose(scores, backwards(model, corpus, split), atol=1e-4)
        np.testing.assert_array_equal(scores, other.raw_split_scores(corpus, split))


@pytest.mark.parametrize("engine", ["probe", "finetune"])
@pytest.mark.parametrize("task", list(TASKS))
def test_a_held_out_row_in_training_would_be_seen(corpora, encoder, engines, asked, task, engine):
    corpus, recipe = corpora[task], Recipe("plain")
    model = engines[engine].fit(recipe, corpus, encoder, seed=0)
    assert asked() == training_rows(corpus, engine)
    leaky = engines[engine].fit(recipe, with_validation_in_train(corpus), encoder, seed=0)
    assert asked() > training_rows(corpus, engine)
    assert not np.array_equal(leaky.raw_split_scores(corpus, "test"), model.raw_split_scores(corpus, "test"))
