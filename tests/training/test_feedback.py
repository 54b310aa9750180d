"""Samplers that go by the performance of the model, or by progress, inside the trainer and both engines."""

import json

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, TrainerCallback, TrainingArguments

from tailwise.errors import SettingError
from tailwise.sampling import MixedSampler, PerformanceSampler, ProgressiveSampler
from tailwise.stages.recipe import Component
from tailwise.training.dealing import DealtBatches
from tailwise.training.feedback import batches_by_length, give_scores
from tailwise.training.trainer import ImbalanceTrainer

LABELS = np.repeat([0, 1, 2], [40, 20, 10])
PERFORMANCE = Component("performance", {"feedback_share": 0.2})


class Rows(torch.utils.data.Dataset):
    """Rows of different lengths that remember in which order they were asked for."""

    def __init__(self):
        generator = np.random.default_rng(0)
        sizes, shown = generator.integers(3, 9, LABELS.size), np.where(generator.random(LABELS.size) < 0.6, LABELS, 0)
        self.rows = [
            {"input_ids": torch.cat([torch.tensor([label + 1]), torch.from_numpy(generator.integers(4, 40, n))])}
            for label, n in zip(shown, sizes, strict=True)
        ]
        self.asked = []

    def __len__(self):
        return LABELS.size

    def __getitem__(self, index):
        self.asked.append(index)
        return {**self.rows[index], "labels": int(LABELS[index])}


def collate(rows):
    width = max(len(row["input_ids"]) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.int64)
    for place, row in enumerate(rows):
        ids[place, : len(row["input_ids"])] = row["input_ids"]
    return {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": torch.tensor([r["labels"] for r in rows])}


def make_trainer(folder, sampler=PERFORMANCE, *, callbacks=(), **settings):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=16, num_labels=3,
    )  # fmt: skip
    arguments = {
        "per_device_train_batch_size": 8, "num_train_epochs": 3, "learning_rate": 1e-2, "save_strategy": "no",
        "report_to": "none", "disable_tqdm": True, "use_cpu": True, "dataloader_pin_memory": False, **settings,
    }  # fmt: skip
    args = TrainingArguments(output_dir=str(folder), **arguments)
    return ImbalanceTrainer(
        BertForSequenceClassification(config), args, sampler=sampler, train_dataset=Rows(), data_collator=collate,
        callbacks=list(callbacks),
    )  # fmt: skip


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


class Copies(TrainerCallback):
    """The weights at the end of every epoch."""

    def __init__(self):
        self.states = []

    def on_epoch_end(self, args, state, control, model=None, **kwargs):
        self.states.append({name: tensor.clone() for name, tensor in model.state_dict().items()})


def test_each_epoch_is_drawn_by_the_scores_of_the_model_at_the_end_of_the_one_before(tmp_path):
    copies = Copies()
    trainer = make_trainer(tmp_path, callbacks=[copies])
    trainer.train()
    sampler = trainer.label_sampler
    assert sampler.state_dict()["from_epoch"] == [1, 2]
    wanted = PerformanceSampler(LABELS, feedback_share=0.2, seed=42, num_classes=3)
    for epoch, state in enumerate(copies.states[:2], start=1):
        batch = collate([Rows()[int(row)] for row in wanted.rows_to_score(epoch)])
        trainer.model.load_state_dict(state)
        with torch.inference_mode():
            logits = trainer.model.eval()(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        wanted.observe(logits.argmax(1).numpy(), from_epoch=epoch)
    for epoch in range(3):
        np.testing.assert_allclose(sampler.shares(epoch), wanted.shares(epoch))
    assert not np.allclose(sampler.shares(1), 1 / 3)


def test_the_rows_trained_on_are_those_of_the_plans_and_none_of_the_slice(tmp_path):
    trainer = make_trainer(tmp_path)
    trainer.train_dataset.asked.clear()
    trainer.train()
    sampler, asked = trainer.label_sampler, trainer.train_dataset.asked
    plans = [sampler.plan(epoch).tolist() for epoch in range(3)]
    fresh = PerformanceSampler(LABELS, feedback_share=0.2, seed=42, num_classes=3)
    held = fresh.rows_to_score(1)
    fresh.observe(np.zeros(held.size, dtype=int), from_epoch=1)
    half = fresh.rows_to_score(2)
    assert abs(half.size - held.size / 2) < 1
    assert asked == [*plans[0], *held, *plans[1], *half, *plans[2]]


def test_a_second_training_is_drawn_by_scores_of_its_own(tmp_path):
    trainer = make_trainer(tmp_path, num_train_epochs=2)
    sampler, asked = trainer.label_sampler, trainer.train_dataset.asked
    held = sampler.feedback_rows.tolist()
    for _ in range(2):
        asked.clear()
        trainer.train()
        assert asked == [*sampler.plan(0).tolist(), *held, *sampler.plan(1).tolist()]


def test_scores_given_before_the_first_training_count_in_every_one(tmp_path):
    own = PerformanceSampler(LABELS, feedback_share=0.2, seed=2)
    own.update([0.9, 0.5, 0.1], from_epoch=0)
    wanted = own.shares(0)
    trainer = make_trainer(tmp_path, own, num_train_epochs=2)
    for _ in range(2):
        trainer.train()
        np.testing.assert_array_equal(own.shares(0), wanted)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_from_the_checkpoint_of_any_step_a_run_ends_the_same(tmp_path, accumulation):
    settings = {
        "save_strategy": "steps", "save_steps": 1, "gradient_accumulation_steps": accumulation,
        "per_device_train_batch_size": 8 // accumulation, "num_train_epochs": 2,
    }  # fmt: skip
    whole = make_trainer(tmp_path, **settings)
    whole.train()
    steps = whole.state.global_step
    assert steps == 14
    state = whole.label_sampler.state_dict()
    for step in range(1, steps):
        checkpoint = tmp_path / f"checkpoint-{step}"
        saved = json.loads((checkpoint / "sampler.json").read_text())
        assert saved["from_epoch"] == ([] if step <= 7 else [1])
        resumed = make_trainer(tmp_path, **{**settings, "save_strategy": "no"})
        resumed.train(resume_from_checkpoint=str(checkpoint))
        assert torch.equal(weights(resumed), weights(whole)), step
        assert resumed.label_sampler.state_dict() == state


def test_a_checkpoint_of_a_sampler_without_state_is_refused(tmp_path):
    make_trainer(tmp_path, "cas", save_strategy="steps", save_steps=2, max_steps=2).train()
    with pytest.raises(SettingError, match=r"holds no sampler\.json, the state of PerformanceSampler"):
        make_trainer(tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


def test_scoring_does_not_change_the_training_but_for_the_plan(tmp_path):
    base = PerformanceSampler(LABELS, feedback_share=0.2, temperature=1e12, seed=1)  # scores without effect
    unscored = PerformanceSampler(LABELS, feedback_share=0.2, temperature=1e12, seed=1)
    unscored.rows_to_score = lambda epoch: np.empty(0, dtype=np.int64)
    trained = []
    for sampler in (base, unscored):
        trainer = make_trainer(tmp_path, sampler, num_train_epochs=2)
        trainer.train()
        trained.append(weights(trainer))
    assert base.state_dict()["from_epoch"] == [1]
    assert torch.equal(*trained)


@pytest.mark.parametrize(
    ("settings", "params", "epochs"),
    [
        ({"num_train_epochs": 3}, {}, 3),
        ({"num_train_epochs": 4}, {"num_samples": 35}, 4),
        ({"max_steps": 27}, {}, 3),
        ({"max_steps": 5, "gradient_accumulation_steps": 2}, {"num_samples": 40}, 2),
    ],
)
def test_progress_is_told_the_epochs_of_the_run(settings, params, epochs, tmp_path):
    sampler = make_trainer(tmp_path, Component("progressive", params), **settings).label_sampler
    assert isinstance(sampler, ProgressiveSampler)
    assert sampler.num_epochs == epochs
    assert len(sampler) == params.get("num_samples", 70)


def test_a_stepwise_run_of_one_epoch_goes_from_natural_to_balanced(tmp_path):
    trainer = make_trainer(tmp_path, Component("progressive", {"stepwise": True}), num_train_epochs=1)
    weight = trainer.label_sampler.balanced_shares(0)
    assert (weight[0], weight[-1]) == (0.0, 1.0)
    with pytest.raises(SettingError, match="can only go from natural to balanced with `stepwise=True`"):
        make_trainer(tmp_path, "progressive", num_train_epochs=1)


def test_a_sampler_that_nobody_scores_is_refused_by_name(tmp_path):
    message = "PerformanceSampler goes by scores on rows that it holds out, but of 70 rows it holds out none"
    with pytest.raises(SettingError, match=message):
        make_trainer(tmp_path, Component("performance", {"feedback_share": 0.0}))
    nested = {"samplers": ["natural", {"name": "performance", "feedback_share": 0.0}]}
    with pytest.raises(SettingError, match=message):
        make_trainer(tmp_path, Component("mixed", nested))


def test_scores_of_ones_own_in_a_mixture_are_kept_in_checkpoints(tmp_path):
    def mixed():
        own = PerformanceSampler(LABELS, feedback_share=0.0, seed=2)
        return MixedSampler(LABELS, samplers=["natural", own]), own

    sampler, own = mixed()
    own.update([0.9, 0.5, 0.1], from_epoch=1)
    make_trainer(tmp_path, sampler, save_strategy="steps", save_steps=3, max_steps=3).train()
    again, _ = mixed()
    make_trainer(tmp_path, again, max_steps=4).train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    np.testing.assert_array_equal(again.plan(1), sampler.plan(1))


def test_a_prediction_of_a_class_that_the_sampler_does_not_know_is_an_error():
    sampler = PerformanceSampler([0] * 10 + [1] * 10, feedback_share=0.5, floor=0.0)
    give_scores(sampler, 0, lambda rows: pytest.fail("nothing is drawn by scores in the first epoch"))
    give_scores(sampler, 1, lambda rows: np.where(rows < 10, 7, 1))
    assert sampler.scores(1).tolist() == [0.0, 1.0]
    give_scores(sampler, 1, lambda rows: pytest.fail("scored already"))


def test_batches_of_similar_length_cover_every_example_once():
    examples = [{"input_ids": [0] * n} for n in (5, 1, 4, 2, 3)]
    batches = list(batches_by_length(examples, 2))
    assert [places for places, _ in batches] == [[1, 3], [4, 2], [0]]
    assert all(examples[i] is row for places, rows in batches for i, row in zip(places, rows, strict=True))
    assert [places for places, _ in batches_by_length([1, 2, 3], 2)] == [[0, 1], [2]]


def test_the_plan_is_asked_for_after_the_hook():
    told = []
    sampler = PerformanceSampler(LABELS)
    batches = DealtBatches(sampler, 4, before_plan=lambda epoch: told.append((epoch, len(told))))
    batches.set_epoch(2)
    assert len(list(batches)) == len(batches)
    assert told == [(2, 0)]
