"""The engine ``finetune`` on a tiny encoder.

Run as a script, this file trains in forked processes that are killed and started again.
"""

import gc
import json
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset
from sklearn.linear_model import LogisticRegression
from transformers import BertConfig, BertModel, BertTokenizer, TrainerCallback, pipeline

from tailwise.data.corpus import Corpus
from tailwise.data.labels import LabelSpace
from tailwise.data.task import Task
from tailwise.errors import ModelError, SettingError
from tailwise.models.encoder import Encoder
from tailwise.models.final_layer import AffineLayer
from tailwise.posthoc.base import AffineStep
from tailwise.stages.recipe import Component, Optimisation, Recipe, Stage
from tailwise.stages.schedules import class_means, classifier_retraining, deferred_reweighting
from tailwise.training import finetune_run
from tailwise.training.components import build_sampler
from tailwise.training.engine import Job
from tailwise.training.finetune import FinetuneEngine
from tailwise.training.finetune_run import stage_steps

pytestmark = pytest.mark.usefixtures("quick_garbage_collection")

NAMES = ("bird", "cat", "dog")
COUNTS = (60, 24, 9)
WORDS = [f"{name}{i}" for name in NAMES for i in range(3)] + [f"w{i}" for i in range(12)]
LINEAR, COSINE = Component("linear"), Component("cosine")
CE = Recipe("ce")
DRW = Recipe("ldam-drw", deferred_reweighting(Stage(loss=Component("ldam")), COSINE, beta=0.9), head=COSINE)
CRT = Recipe("crt", classifier_retraining(Stage(), LINEAR))
NCM = Recipe("ncm", class_means(Stage(), LINEAR))
GROWING, SCORED = Component("progressive", {"stepwise": True}), Component("performance", {"num_samples": 24})
FEEDBACK = Recipe(
    "feedback",
    (Stage(sampler=GROWING, share=0.4), Stage(sampler=SCORED, share=0.6)),
    posthoc=(Component("logit-adjustment", {"strength": 1.0}),),
)
ADJUSTED = Recipe("ce+la", posthoc=(Component("logit-adjustment"), Component("temperature")))


def write_encoder(folder, dropout=0.1):
    torch.manual_seed(11)
    tokenizer = BertTokenizer(
        vocab={w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
    )
    tokenizer.save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        initializer_range=0.1,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    BertModel(config).save_pretrained(folder)
    return Encoder.from_pretrained(str(folder), max_length=16)


def make_split(rng, counts, prefix, extra=()):
    labels = [*np.repeat(np.arange(len(counts)), counts).tolist(), *extra]
    texts = []
    for label in labels:
        words = [f"w{i}" for i in rng.integers(12, size=rng.integers(1, 3))]
        if label < len(NAMES):
            words.insert(int(rng.integers(len(words) + 1)), f"{NAMES[label]}{rng.integers(3)}")
        texts.append(" ".join(words))
    ids = [f"{prefix}{i}" for i in range(len(labels))]
    return Dataset.from_dict({"id": ids, "text": texts, "label": labels})


def make_corpus(unseen=()):
    rng = np.random.default_rng(5)
    later = [len(NAMES) + i for i in range(len(unseen))]
    splits = {
        "train": make_split(rng, COUNTS, "train"),
        "validation": make_split(rng, (12, 6, 4), "validation", extra=later),
        "test": make_split(rng, (12, 6, 4), "test"),
    }
    space = LabelSpace(NAMES, np.array(COUNTS), unseen=tuple(unseen))
    return Corpus("animals", splits, Task(), space, fingerprint="f" * 64)


def make_engine(**settings):
    defaults = {"learning_rate": 5e-3, "epochs": 2, "batch_size": 8, "max_length": 16, "precision": "float32"}
    return FinetuneEngine(**{**defaults, **settings})


@pytest.fixture(scope="module")
def corpus():
    return make_corpus()


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("encoder"))


def weights_of(model):
    return {name: tensor.clone() for name, tensor in model.model.state_dict().items()}


def assert_same_weights(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.mark.parametrize("recipe", [CE, DRW, CRT, NCM], ids=lambda r: r.name)
def test_a_recipe_learns_a_separable_task(recipe, corpus, encoder):
    model = make_engine(epochs=16).fit(recipe, corpus, encoder, seed=1)
    predicted = model.split_logits(corpus, "test").argmax(axis=1)
    assert (predicted == corpus.labels("test")).mean() > 0.9


def test_every_recipe_takes_the_steps_of_plain_training(corpus, encoder):
    plain = -(-2 * sum(COUNTS) // 8)
    cas = Recipe("cas", (Stage(sampler=Component("cas")),))
    for recipe in (CE, DRW, CRT, NCM, cas):
        assert sum(make_engine().fit(recipe, corpus, encoder, seed=0).info["steps"]) == plain


def test_shares_are_rounded_to_the_total_and_a_trained_stage_takes_a_step():
    thirds = Recipe("thirds", tuple(Stage(share=share) for share in (0.333, 0.333, 0.334)))
    assert stage_steps(thirds, 100) == [33, 34, 33]
    assert stage_steps(Recipe("two", (Stage(share=0.99), Stage(share=0.01))), 10) == [10, 1]
    assert stage_steps(NCM, 7) == [7, 0]


def test_the_same_job_gives_the_same_bits_whatever_was_fitted_before(corpus, encoder):
    engine = make_engine(epochs=1)
    alone = engine.fit(CE, corpus, encoder, seed=3)
    torch.rand(7)
    later = engine.fit_many([Job(DRW, 0), Job(CE, 3), Job(CE, 4)], corpus, encoder)
    assert_same_weights(weights_of(alone), weights_of(later[1]))
    assert alone.info["log"] == later[1].info["log"]
    assert not torch.equal(later[1].layer.weight, later[2].layer.weight)


def test_global_random_states_are_left_alone(corpus, encoder):
    def seed_and_draw(*, between):
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002  (the global state is what this is about)
        torch.manual_seed(1)
        between()
        return random.random(), np.random.random(), torch.rand(1).item()  # noqa: NPY002

    drawn = seed_and_draw(between=lambda: make_engine(epochs=0.2).fit(CE, corpus, encoder, seed=0))
    assert drawn == seed_and_draw(between=lambda: None)


class Snapshots(TrainerCallback):
    """The weights at the end of every stage, and what was in training mode in its last forward pass."""

    def __init__(self):
        self.states, self.training = [], []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.training.append(any(module.training for module in model.modules()))

    def on_train_end(self, args, state, control, model=None, **kwargs):
        self.states.append({name: tensor.clone() for name, tensor in model.state_dict().items()})


def test_retraining_the_head_freezes_the_encoder_with_its_dropout_off(corpus, encoder):
    watch = Snapshots()
    model = make_engine(callbacks=[watch]).fit(CRT, corpus, encoder, seed=0)
    first, second = watch.states
    changed = {name for name in first if not torch.equal(first[name], second[name])}
    assert changed == {"classifier.weight", "classifier.bias"}
    steps = model.info["steps"]
    assert watch.training == [True] * steps[0] + [False] * steps[1]


def test_the_learning_rate_of_a_later_stage_is_scaled_and_its_head_is_kept(corpus, encoder):
    frozen = deferred_reweighting(Stage(), LINEAR, start=0.5, beta=0.9, learning_rate_scale=1e-12)
    watch = Snapshots()
    make_engine(callbacks=[watch], weight_decay=0.0).fit(Recipe("drw", frozen), corpus, encoder, seed=0)
    first, second = watch.states
    for name in first:
        torch.testing.assert_close(first[name], second[name], atol=1e-8, rtol=0)


@pytest.mark.parametrize("still", ["head", "encoder"])
@pytest.mark.parametrize("recipe", [CE, CRT], ids=["ce", "crt"])
def test_the_head_has_a_learning_rate_of_its_own(corpus, encoder, still, recipe):
    rates = {"learning_rate": 5e-3, "head_learning_rate": 5e-3}
    rates["head_learning_rate" if still == "head" else "learning_rate"] = 1e-12
    watch = Snapshots()
    engine = make_engine(callbacks=[watch], weight_decay=0.0, **rates)
    before = []
    watch.on_train_begin = lambda *_, model, **__: before.append({k: v.clone() for k, v in model.state_dict().items()})
    engine.fit(recipe, corpus, encoder, seed=0)
    for first, last in zip(before, watch.states, strict=True):  # every stage
        moved = {name: (last[name] - tensor).abs().max() > 1e-5 for name, tensor in first.items()}
        assert moved["classifier.weight"] == moved["classifier.bias"] == (still == "encoder")
        encoder_moved = any(moved[name] for name in moved if not name.startswith("classifier"))
        assert encoder_moved == (still == "head" and first is before[0])


def pooled(encoder, texts):
    inputs = encoder.tokenizer(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        return BertModel.from_pretrained(encoder.path).eval()(**inputs).pooler_output.double().numpy()


@pytest.mark.parametrize("sampler", ["natural", "cas"])
def test_without_a_step_the_model_is_the_probe(corpus, encoder, sampler):
    still = Recipe("still", (Stage(sampler=Component(sampler), learning_rate_scale=0.0),))
    model = make_engine(epochs=0.2).fit(still, corpus, encoder, seed=0)
    features, gold = pooled(encoder, corpus.texts("train")), corpus.labels("train")
    start = model.info["head_start"]
    assert (start["kind"], start["rows"]) == ("probe", sum(COUNTS))
    probe = LogisticRegression(C=start["c"] / features.var(axis=0).sum(), tol=1e-9, max_iter=10_000)
    weight = np.ones(len(gold)) if sampler == "natural" else (sum(COUNTS) / 3 / np.array(COUNTS))[gold]
    probe.fit(features, gold, sample_weight=weight)
    expected = probe.predict_proba(pooled(encoder, corpus.texts("test")))
    np.testing.assert_allclose(model.predict_proba(corpus.texts("test")), expected, atol=2e-3)


def test_a_cosine_head_starts_at_the_directions_of_the_class_means(corpus, encoder):
    still = Recipe("still", (Stage(loss=Component("ldam"), learning_rate_scale=0.0),), head=COSINE)
    model = make_engine(epochs=0.2).fit(still, corpus, encoder, seed=0)
    features, gold = pooled(encoder, corpus.texts("train")), corpus.labels("train")
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    means = np.stack([unit[gold == j].mean(axis=0) for j in range(3)]) - unit.mean(axis=0)
    means *= 30 / np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(model.layer.weight.cpu(), means, atol=1e-3)
    assert model.info["head_start"] == {"kind": "class directions", "rows": sum(COUNTS)}


def begun(engine, recipe, corpus, encoder, seed):
    """The final layer at the beginning of every stage, and the model."""
    watch, seen = TrainerCallback(), []
    watch.on_train_begin = lambda *_, model, **__: seen.append(
        {name: tensor.clone() for name, tensor in model.classifier.state_dict().items()}
    )
    return seen, replace(engine, callbacks=[watch]).fit(recipe, corpus, encoder, seed)


def test_a_fresh_head_is_drawn_as_before_there_was_a_choice(corpus, encoder):
    fresh = make_engine(epochs=0.3, head_init="fresh")
    seen, model = begun(fresh, CE, corpus, encoder, 3)
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence([3, 0, 1]).generate_state(1)[0]))
    assert torch.equal(seen[0]["weight"], torch.empty(3, 32).normal_(0.0, 0.1, generator=generator))
    assert not seen[0]["bias"].any()
    assert model.info["head_start"] == {"kind": "fresh"}
    asked = CE.with_optimisation(head_init="fresh")
    assert_same_weights(seen[0], begun(make_engine(epochs=0.3), asked, corpus, encoder, 3)[0][0])


def test_the_head_that_is_trained_again_starts_fresh(corpus, encoder):
    seen, _ = begun(make_engine(epochs=0.3), CRT, corpus, encoder, 3)
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence([3, 1, 1]).generate_state(1)[0]))
    assert torch.equal(seen[1]["weight"], torch.empty(3, 32).normal_(0.0, 0.1, generator=generator))


class Interruption(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 2:
            raise KeyboardInterrupt


def test_a_run_that_goes_on_does_not_look_for_the_start_again(corpus, encoder, tmp_path, monkeypatch):
    whole = make_engine(epochs=0.5).fit(CE, corpus, encoder, seed=0)
    engine = make_engine(epochs=0.5, checkpoints=tmp_path, callbacks=[Interruption()])
    with pytest.raises(KeyboardInterrupt):
        engine.fit(CE, corpus, encoder, seed=0)
    monkeypatch.delattr(finetune_run, "linear_start")
    later = make_engine(epochs=0.5, checkpoints=tmp_path).fit(CE, corpus, encoder, seed=0)
    assert later.info["head_start"] == whole.info["head_start"]
    assert_same_weights(weights_of(whole), weights_of(later))


def test_class_means_of_the_training_features_replace_the_head(corpus, encoder):
    model = make_engine(epochs=1).fit(NCM, corpus, encoder, seed=0)
    assert isinstance(model.layer, AffineLayer)
    assert not model.foldable
    inputs = encoder.tokenizer(corpus.texts("train"), padding=True, return_tensors="pt").to(model.model.device)
    with torch.inference_mode():
        features = model.model.bert(**inputs).pooler_output.double().cpu()
    features = torch.nn.functional.normalize(features - features.mean(dim=0), dim=-1)
    labels = torch.tensor(corpus.labels("train"))
    means = torch.stack([features[labels == j].mean(dim=0) for j in range(3)])
    nearest = torch.cdist(features, means).argmin(dim=1)
    scores = model.raw_split_scores(corpus, "train")
    assert (torch.from_numpy(scores.argmax(axis=1)) == nearest).float().mean() > 0.99
    np.testing.assert_allclose(model.layer.weight.double().cpu(), 20 * means, atol=1e-4)


def test_a_cosine_head_predicts_on_the_scale_of_its_loss(corpus, encoder):
    recipe = Recipe("ldam", (Stage(loss=Component("ldam", {"scale": 12.0})),), head=COSINE)
    model = make_engine(epochs=0.5).fit(recipe, corpus, encoder, seed=0)
    np.testing.assert_allclose(model.layer.weight.norm(dim=1).cpu(), 12.0, rtol=1e-5)
    assert np.abs(model.raw_split_scores(corpus, "test")).max() <= 12.0


def test_scores_do_not_depend_on_order_or_neighbours(corpus, encoder):
    model = make_engine(epochs=0.5).fit(CE, corpus, encoder, seed=0)
    texts = corpus.texts("test")
    together = model.raw_scores(texts)
    alone = np.concatenate([model.raw_scores([text]) for text in texts])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)
    assert model.raw_scores([]).shape == (0, 3)


def test_posthoc_steps_fold_into_the_final_layer_of_a_plain_model(corpus, encoder, tmp_path):
    model = make_engine(epochs=1).fit(ADJUSTED, corpus, encoder, seed=0)
    assert [step.name for step in model.steps] == ["logit-adjustment", "temperature"]
    model.steps += (AffineStep("shift", np.ones(3), np.array([0.5, 0.0, -1.0])),)
    assert model.foldable
    model.folded().save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    texts = corpus.texts("test")
    answers = pipeline("text-classification", model=str(tmp_path), top_k=None)(texts)
    found = [[{a["label"]: a["score"] for a in answer}[name] for name in NAMES] for answer in answers]
    np.testing.assert_allclose(found, model.predict_proba(texts), atol=1e-5)


def test_a_head_that_transforms_its_features_does_not_fold(corpus, encoder):
    model = make_engine(epochs=0.2).fit(DRW, corpus, encoder, seed=0)
    with pytest.raises(ModelError, match="AffineLayer, not a linear layer with a bias"):
        model.folded()


def test_classes_that_only_validation_has_count_as_errors(encoder):
    corpus = make_corpus(unseen=("emu", "fox"))
    model = make_engine(epochs=16, metric="accuracy").fit(ADJUSTED, corpus, encoder, seed=1)
    scores = [entry for entry in model.info["log"] if "eval_accuracy" in entry]
    assert scores[-1]["eval_accuracy"] == pytest.approx(22 / 24, abs=0.05)
    assert np.isfinite(scores[-1]["eval_loss"])


def test_the_best_model_of_validation_is_kept_and_patience_stops_the_run(corpus, encoder):
    engine = make_engine(epochs=30, learning_rate=2e-2, select="best", patience=2)
    model = engine.fit(CE, corpus, encoder, seed=1)
    log = [entry["eval_macro_f1"] for entry in model.info["log"] if "eval_macro_f1" in entry]
    assert len(log) < 30
    assert max(log[-2:]) <= max(log[:-2])
    predicted = model.raw_split_scores(corpus, "validation").argmax(axis=1)
    gold = corpus.labels("validation")
    f1 = [2 * ((gold == j) & (predicted == j)).sum() / ((gold == j).sum() + (predicted == j).sum()) for j in range(3)]
    assert np.mean(f1) == pytest.approx(max(log))


def test_what_was_drawn_by_scores_is_the_prior_that_post_hoc_steps_start_from(corpus, encoder, monkeypatch):
    built = []

    def build(*args, **settings):
        built.append(build_sampler(*args, **settings))
        return built[-1]

    monkeypatch.setattr(finetune_run, "build_sampler", build)
    model = make_engine().fit(FEEDBACK, corpus, encoder, seed=0)
    growing, scored = built
    assert growing.num_epochs == pytest.approx(10 * 8 / 93)
    assert scored.epoch == 4, "14 steps of 8 rows in epochs of 24"
    assert scored.state_dict()["from_epoch"] == [1, 2, 3, 4]
    assert scored.shares(4) != pytest.approx(scored.shares(0))
    (step,) = model.steps
    np.testing.assert_allclose(step.bias, -np.log(scored.shares(4)))


def test_too_few_rows_to_hold_any_out_are_an_error(corpus, encoder):
    scored = Component("performance", {"feedback_share": 0.005})
    with pytest.raises(SettingError, match=r"of 93 rows it holds out none.* Raise it, or take a sampler"):
        make_engine().fit(Recipe("scored", (Stage(sampler=scored),)), corpus, encoder, seed=0)


def test_progress_counts_the_steps_of_all_stages(corpus, encoder):
    told = []
    make_engine(epochs=1).fit(CRT, corpus, encoder, 0, progress=lambda *news: told.append(news))
    steps = [("fine-tuning crt", i + 1, 12) for i in range(12)]
    assert told == [*(("encoding for the head of crt", rows, 115) for rows in (64, 93, 115)), *steps]


def test_micro_batches_give_the_same_model_to_rounding(corpus, tmp_path):
    encoder = write_encoder(tmp_path, dropout=0.0)
    models = [make_engine(epochs=0.5, micro_batch_size=size).fit(DRW, corpus, encoder, seed=0) for size in (None, 2)]
    np.testing.assert_allclose(*[model.raw_split_scores(corpus, "test") for model in models], atol=1e-2)


def test_a_recipe_brings_its_own_optimiser_settings(corpus, encoder):
    recipe = CE.with_optimisation(epochs=1, batch_size=31, learning_rate=1e-3)
    model = make_engine().fit(recipe, corpus, encoder, seed=0)
    assert model.info["steps"] == [3]
    assert model.info["settings"]["learning_rate"] == 1e-3


def test_broken_weights_are_a_model_error(corpus, tmp_path):
    encoder = write_encoder(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{broken header  ")
    with pytest.raises(ModelError, match="cannot be loaded for sequence classification"):
        make_engine().fit(CE, corpus, encoder, seed=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 0.0}, "Expected `learning_rate` to be above 0, but got 0.0"),
        ({"warmup": 1.0}, r"Expected `warmup` to be a share of the steps in \[0, 1\), but got 1.0"),
        ({"precision": "half"}, "Expected `precision` to be one of auto, float32, bfloat16, but got 'half'"),
        ({"head_init": "random"}, "Expected `head_init` to be one of probe, fresh, but got 'random'"),
        ({"metric": "macro_f"}, "Unknown metric 'macro_f'. Did you mean 'macro_f1'"),
        ({"patience": 2}, "set select='best'"),
    ],
)
def test_a_setting_out_of_range_is_named(settings, message):
    with pytest.raises(SettingError, match=message):
        FinetuneEngine(**settings)


def test_a_batch_that_cannot_be_split_is_an_error(corpus, encoder):
    with pytest.raises(SettingError, match="A batch of 8 cannot be split into micro-batches of 3 on 1 processes"):
        make_engine(micro_batch_size=3).fit(CE, corpus, encoder, seed=0)


def test_settings_name_the_precision_and_leave_out_what_changes_no_result():
    settings = FinetuneEngine(checkpoints="somewhere").settings
    assert settings["precision"] in ("float32", "bfloat16")
    assert settings["head_init"] == "probe"
    assert not {"checkpoints", "save_steps", "callbacks", "report_to", "name"} & set(settings)
    assert json.loads(json.dumps(dict(settings))) == dict(settings)
    single = SimpleNamespace(task=Task())
    space = FinetuneEngine().search_space(Recipe("ce"), single)
    rate = FinetuneEngine().learning_rate
    assert space["optimisation.learning_rate"][0] == space["optimisation.head_learning_rate"][0] == rate
    tried = FinetuneEngine(head_learning_rate=2e-3).search_space(Recipe("ce"), single)
    assert tried["optimisation.head_learning_rate"] == (2e-3, 2e-2, 0.1)
    parsed = FinetuneEngine().search_space(Recipe("ce"), SimpleNamespace(task=Task("tokens", "arcs")))
    assert list(parsed) == ["optimisation.learning_rate"]
    chosen = FinetuneEngine().with_optimisation(Optimisation(head_learning_rate=0.5))
    assert (chosen.learning_rate, chosen.head_learning_rate) == (FinetuneEngine().learning_rate, 0.5)


class Killer(TrainerCallback):
    """SIGKILL at the `count`-th optimiser step of the process, over all stages."""

    def __init__(self, count):
        self.left = count

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def train_in_pieces(root, recipe, result, count=None):
    torch.set_num_threads(1)
    callbacks = [Killer(count)] if count else []
    engine = make_engine(checkpoints=root / "checkpoints", save_steps=3, callbacks=callbacks, head_learning_rate=1e-2)
    model = engine.fit(recipe, make_corpus(), Encoder.from_pretrained(str(root / "encoder"), max_length=16), seed=2)
    torch.save(weights_of(model), root / result)
    steps = [step.to_dict() for step in model.steps]
    (root / f"{result}.json").write_text(json.dumps({"log": model.info["log"], "steps": steps}))


def train_on_rank(root, rank, port):
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "true"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    encoder = Encoder.from_pretrained(str(root / "still"), max_length=16)
    engine = make_engine(epochs=0.5, checkpoints=root / "checkpoints", select="best")
    for recipe in (DRW, CE):
        model = engine.fit(recipe, make_corpus(), encoder, seed=2)
        np.save(root / f"{recipe.name}-scores-of-rank-{rank}.npy", model.raw_split_scores(make_corpus(), "test"))


def run_on_ranks(root):
    write_encoder(root / "still", dropout=0.0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=train_on_rank, args=(root, rank, port)) for rank in range(2)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    assert [rank.exitcode for rank in ranks] == [0, 0]


def run_in_pieces(root):
    gc.freeze()
    write_encoder(root / "encoder")
    context = multiprocessing.get_context("fork")
    for recipe in (DRW, CRT, FEEDBACK):
        # 24 steps: killed in the first stage, there again, and twice in the second one
        for result, counts in (("whole", [None]), ("pieces", [5, 4, 15, 3, None])):
            for count in counts:
                process = context.Process(target=train_in_pieces, args=(root, recipe, f"{recipe.name}-{result}", count))
                process.start()
                process.join()
                assert process.exitcode == (-signal.SIGKILL if count else 0), (recipe.name, count, process.exitcode)


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pieces")
    done = subprocess.run(
        [sys.executable, __file__, str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.parametrize("name", ["ldam-drw", "crt", "feedback"])
def test_killed_in_any_stage_a_run_goes_on_there_to_the_same_bits(pieces, name):
    assert_same_weights(torch.load(pieces / f"{name}-whole"), torch.load(pieces / f"{name}-pieces"))
    logs = [json.loads((pieces / f"{name}-{kind}.json").read_text()) for kind in ("whole", "pieces")]
    scores = [[entry["eval_macro_f1"] for entry in log["log"] if "eval_macro_f1" in entry] for log in logs]
    assert scores[0] == scores[1]
    assert logs[0]["steps"] == logs[1]["steps"]


@pytest.mark.parametrize("recipe", [DRW, CE], ids=lambda r: r.name)
def test_two_processes_train_the_model_of_one(pieces, corpus, recipe):
    encoder = Encoder.from_pretrained(str(pieces / "still"), max_length=16)
    alone = make_engine(epochs=0.5, select="best").fit(recipe, corpus, encoder, seed=2).raw_split_scores(corpus, "test")
    for rank in range(2):
        np.testing.assert_allclose(np.load(pieces / f"{recipe.name}-scores-of-rank-{rank}.npy"), alone, atol=1e-2)


def test_checkpoints_are_gone_once_the_run_is_done(pieces):
    assert list((pieces / "checkpoints").iterdir()) == []


if __name__ == "__main__":
    run_in_pieces(Path(sys.argv[1]))
    run_on_ranks(Path(sys.argv[1]))
