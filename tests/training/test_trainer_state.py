"""Losses with a state, with groups and with features inside `ImbalanceTrainer`."""

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, TrainerCallback, TrainingArguments

from tailwise.catalog import METHODS
from tailwise.errors import SettingError
from tailwise.losses import ConfusionAwareLoss, CrossEntropyLoss, SupervisedContrastiveLoss, WeightedSumLoss
from tailwise.stages.recipe import Component
from tailwise.training.trainer import ImbalanceTrainer

LABELS = np.repeat([0, 1, 2], [12, 6, 4])


def make_trainer(folder, loss, *, steps=4, group=False, **settings):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=16, num_labels=3,
    )  # fmt: skip
    rng = np.random.default_rng(3)
    rows = [
        {"input_ids": torch.from_numpy(rng.integers(1, 40, 8)), "labels": int(y), **({"group": i % 2} if group else {})}
        for i, y in enumerate(LABELS)
    ]
    args = TrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=8, max_steps=steps, learning_rate=1e-2,
        save_strategy="steps", save_steps=2, report_to="none", disable_tqdm=True, use_cpu=True,
        dataloader_pin_memory=False, **settings,
    )  # fmt: skip
    model = BertForSequenceClassification(config)
    return ImbalanceTrainer(model, args, loss=loss, train_dataset=rows, eval_dataset=rows[:6])


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


def test_the_state_of_a_loss_is_in_the_checkpoint_and_a_resumed_run_ends_the_same(tmp_path):
    whole = make_trainer(tmp_path / "whole", "class-dro")
    whole.train()
    assert (tmp_path / "whole" / "checkpoint-2" / "loss.safetensors").is_file()
    resumed = make_trainer(tmp_path / "whole", "class-dro")
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert torch.equal(resumed.loss.log_weights, whole.loss.log_weights)
    assert torch.equal(weights(resumed), weights(whole))
    fresh = make_trainer(tmp_path / "whole", "class-dro").loss.log_weights
    assert not torch.equal(fresh, whole.loss.log_weights)


def test_evaluation_leaves_the_state_alone(tmp_path):
    trainer = make_trainer(tmp_path, "class-dro")
    before = trainer.loss.log_weights.clone()
    trainer.evaluate()
    assert torch.equal(trainer.loss.log_weights, before)


def test_a_checkpoint_of_another_loss_is_refused(tmp_path):
    make_trainer(tmp_path, "ce", steps=2).train()
    with pytest.raises(SettingError, match=r"holds no loss\.safetensors, the state of ClassDROLoss"):
        make_trainer(tmp_path, "class-dro").train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


class CostsAfterTheFirstStep(TrainerCallback):
    """Sets the costs of a loss once, as a loop of one's own does after an evaluation."""

    def __init__(self, loss):
        self.loss = loss

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 1:
            self.loss.update_costs([0, 0, 1, 2, 2], [1, 2, 0, 0, 1])


def test_confusion_costs_set_in_a_callback_are_in_the_checkpoint(tmp_path):
    def trainer():
        made = make_trainer(tmp_path, ConfusionAwareLoss("population", num_classes=3))
        made.add_callback(CostsAfterTheFirstStep(made.loss))
        return made

    whole, resumed = trainer(), trainer()
    whole.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert whole.loss.cost_matrix.tolist() == [[0, 0.5, 0.5], [1, 0, 0], [0.5, 0.5, 0]]
    assert torch.equal(resumed.loss.cost_matrix, whole.loss.cost_matrix)
    assert torch.equal(weights(resumed), weights(whole))


def test_confusion_costs_that_nothing_sets_are_refused(tmp_path):
    with pytest.raises(SettingError, match="needs a `cost_matrix`, for nothing in a recipe sets its costs"):
        make_trainer(tmp_path, Component("confusion-aware", {"mode": "population"}))


def test_a_loss_that_mixes_rows_refuses_accumulation(tmp_path):
    with pytest.raises(SettingError, match="ClassDROLoss compares the rows of a batch"):
        make_trainer(tmp_path, "class-dro", gradient_accumulation_steps=2)


def test_groups_come_from_a_column_of_the_data(tmp_path):
    trainer = make_trainer(tmp_path, "group-dro", group=True)
    assert trainer.loss.num_groups == 2
    before = trainer.loss.log_weights.clone()
    trainer.train()
    assert not torch.equal(trainer.loss.log_weights, before)
    with pytest.raises(SettingError, match="needs `num_groups`"):
        make_trainer(tmp_path, "group-dro")


def test_the_fairness_regulariser_of_the_catalog_takes_groups_from_the_column(tmp_path):
    (stage,) = METHODS["fair-ce"].recipe().stages
    trainer = make_trainer(tmp_path, stage.loss, steps=2, group=True)
    assert trainer.loss.parts[1].num_groups == 2
    before = weights(trainer)
    trainer.train()
    assert not torch.equal(weights(trainer), before)


def test_a_contrastive_loss_moves_the_encoder_through_the_features(tmp_path):
    loss = WeightedSumLoss([CrossEntropyLoss(), SupervisedContrastiveLoss()], [0.0, 1.0])
    trainer = make_trainer(tmp_path, loss, steps=2)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    moved = {name for name, p in trainer.model.named_parameters() if not torch.equal(p, before[name])}
    assert any("encoder" in name for name in moved)
