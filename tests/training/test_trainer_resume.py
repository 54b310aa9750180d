"""Killed with SIGKILL and resumed, `ImbalanceTrainer` ends with the weights of the uninterrupted run, bit for bit.

Run as a script, this file trains: every run is a process forked from one that has imported everything.
"""

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, TrainerCallback, TrainingArguments

from tailwise.errors import SettingError
from tailwise.training.trainer import ImbalanceTrainer, last_complete_checkpoint

EPOCH_STEPS = {"natural": 7, "ros": 12, "rus": 4, "cas": 7, "progressive": 7, "performance": 6}
SAMPLERS = tuple(EPOCH_STEPS)
LABELS = np.repeat([0, 1, 2], [15, 7, 5])  # an epoch ends in an incomplete window of micro-batches


class Killer(TrainerCallback):
    """SIGKILL in the middle of a step."""

    def __init__(self, step):
        self.step = step

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def make_trainer(sampler, folder, callbacks=()):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
        num_labels=3,
    )
    rng = np.random.default_rng(3)
    rows = [{"input_ids": torch.from_numpy(rng.integers(1, 40, 8)), "labels": int(y)} for y in LABELS]
    args = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        max_steps=2 * EPOCH_STEPS[sampler] + 3,
        learning_rate=1e-2,
        eval_strategy="epoch",  # draws no random number of the training, at whatever step it happens
        save_strategy="steps",
        save_steps=1,
        save_total_limit=2,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
    )
    return ImbalanceTrainer(
        BertForSequenceClassification(config),
        args,
        loss="wce",
        sampler=sampler,
        train_dataset=rows,
        eval_dataset=rows[:6],
        callbacks=list(callbacks),
    )


def train(sampler, folder, kill_at=None, kill_while_saving=None):
    torch.set_num_threads(1)
    trainer = make_trainer(sampler, folder, [Killer(kill_at)] if kill_at is not None else [])
    if kill_while_saving is not None:
        save = trainer._save_rng_state
        trainer._save_rng_state = lambda to: (
            os.kill(os.getpid(), signal.SIGKILL) if trainer.state.global_step == kill_while_saving else save(to)
        )
    trainer.train(resume_from_checkpoint=last_complete_checkpoint(folder) is not None)
    torch.save(trainer.model.state_dict(), folder / "weights.pt")


def run_all(root):
    gc.freeze()
    context = multiprocessing.get_context("fork")
    rng = np.random.default_rng()
    for sampler in SAMPLERS:
        epoch = EPOCH_STEPS[sampler]
        inside, later = int(rng.integers(1, epoch)), int(rng.integers(epoch + 1, 2 * epoch))
        kills = [{"kill_at": inside}, {"kill_at": epoch}, {"kill_while_saving": later}, {"kill_at": 2 * epoch}, {}]
        print(sampler, kills, flush=True)
        for name, runs in (("whole", [{}]), ("killed", kills)):
            folder = root / f"{sampler}-{name}"
            folder.mkdir()
            for kill in runs:
                process = context.Process(target=train, args=(sampler, folder), kwargs=kill)
                process.start()
                process.join()
                assert process.exitcode == (-signal.SIGKILL if kill else 0), (sampler, kill, process.exitcode)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume")
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


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_resumed_after_kills_in_an_epoch_at_its_end_and_while_saving_the_weights_are_the_same(finished, sampler):
    whole, killed = (torch.load(finished / f"{sampler}-{name}" / "weights.pt") for name in ("whole", "killed"))
    assert whole.keys() == killed.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, killed[name]), name


def test_an_epoch_has_the_length_of_the_plan(tmp_path):
    for sampler, steps in EPOCH_STEPS.items():
        trainer = make_trainer(sampler, tmp_path)
        assert trainer.set_initial_training_values(trainer.args, trainer.get_train_dataloader())[1] == steps


def test_the_last_complete_checkpoint_is_the_latest_one_with_a_readable_state(tmp_path):
    for step, state in ((2, "{}"), (10, "{}"), (12, '{"global_st'), (14, None)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if state is not None:
            (folder / "trainer_state.json").write_text(state)
    (tmp_path / "checkpoint-best").mkdir()
    assert last_complete_checkpoint(tmp_path) == tmp_path / "checkpoint-10"


def test_resuming_without_a_complete_checkpoint_is_an_error(tmp_path):
    with pytest.raises(SettingError, match=r"No complete checkpoint in .*start without resuming"):
        make_trainer("natural", tmp_path).train(resume_from_checkpoint=True)


if __name__ == "__main__":
    run_all(Path(sys.argv[1]))
