"""Every registered sampler in `transformers.Trainer`, in `ImbalanceTrainer`, on two processes, and resumed at any step.

Run as a script, this file trains on two ranks.
"""

import gc
import itertools
import json
import multiprocessing
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from scipy.sparse import csr_matrix
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, TensorDataset
from transformers import Trainer, TrainingArguments

from tailwise.sampling import MULTILABEL_SAMPLERS, SAMPLERS
from tailwise.stages.recipe import Component
from tailwise.training.components import build_sampler
from tailwise.training.multilabel_components import build_label_sampler
from tailwise.training.trainer import ImbalanceTrainer

pytestmark = pytest.mark.usefixtures("quick_garbage_collection")

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(4), [30, 14, 6, 1]))
BATCH, LENGTH, EPOCHS = 4, 13, 3  # an epoch has 4 steps, the last one of one row
RESUMED_ON_RANKS = (4, 6)
PARAMS = {"progressive": {"stepwise": True}, "performance": {"feedback_share": 0.2}}
COMPONENTS = {name: Component(name, {**PARAMS.get(name, {}), "num_samples": LENGTH}) for name in SAMPLERS}
LABEL_SETS = csr_matrix(np.eye(4)[LABELS] + np.eye(4)[LABELS // 2] > 0, dtype=np.float32)
SETS = {name: Component(name, {"num_samples": LENGTH}) for name in MULTILABEL_SAMPLERS}
every = pytest.mark.parametrize("name", [*COMPONENTS, *SETS])


class Table(nn.Module):
    """A model with scores of its own for every row."""

    def __init__(self):
        super().__init__()
        self.scores = nn.Parameter(torch.randn(LABELS.size, 4, generator=torch.Generator().manual_seed(1)))

    def forward(self, row, labels=None):
        logits = self.scores[row]
        return {"logits": logits} if labels is None else {"loss": nn.functional.cross_entropy(logits, labels)}


class Recorded(ImbalanceTrainer):
    """Remembers the rows of every batch that counts in training."""

    seen: list

    def compute_loss(self, model, inputs, *args, **kwargs):
        if torch.is_grad_enabled():
            self.seen.append(inputs["row"][inputs["labels"] >= 0].tolist())
        return super().compute_loss(model, inputs, *args, **kwargs)


def rows():
    return [{"row": i, "labels": int(label)} for i, label in enumerate(LABELS)]


def arguments(folder, **settings):
    given = {
        "per_device_train_batch_size": BATCH, "num_train_epochs": EPOCHS, "learning_rate": 0.5, "report_to": "none",
        "save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True, "use_cpu": True,
        "dataloader_pin_memory": False, "remove_unused_columns": False, **settings,
    }  # fmt: skip
    return TrainingArguments(output_dir=str(folder), **given)


def trained(name, folder, *, resume_from=None, **settings):
    sampler = COMPONENTS.get(name) or own_sampler(name)
    trainer = Recorded(Table(), arguments(folder, **settings), sampler=sampler, train_dataset=rows())
    trainer.seen = []
    trainer.train(resume_from_checkpoint=resume_from)
    return trainer


def own_sampler(name):
    """A sampler over the labels, or over sets of them."""
    if name in SETS:
        return build_label_sampler(SETS[name], LABEL_SETS, seed=42)
    return build_sampler(COMPONENTS[name], LABELS, seed=42, draws=EPOCHS * LENGTH)


def plans(name, state=None):
    """The plans of all epochs, by a sampler of its own, with the scores of the run where it goes by them."""
    sampler = own_sampler(name)
    if state is not None:
        sampler.load_state_dict(state)
    return [sampler.plan(epoch).tolist() for epoch in range(EPOCHS)]


def state_of(trainer):
    sampler = trainer.label_sampler
    return sampler.state_dict() if hasattr(sampler, "state_dict") else None


def batches_of(plan, size=BATCH):
    return [plan[i : i + size] for i in range(0, len(plan), size)]


@pytest.mark.parametrize(
    ("name", "workers"), [*((name, 0) for name in (*COMPONENTS, *SETS)), ("cas", 2), ("performance", 2)]
)
def test_the_trainer_of_transformers_draws_the_plans(name, workers, tmp_path):
    sampler = own_sampler(name)
    seen = []

    class Own(Trainer):
        def _get_train_sampler(self, *_):
            return sampler

        def compute_loss(self, model, inputs, *args, **kwargs):
            seen.append(inputs["row"].tolist())
            return super().compute_loss(model, inputs, *args, **kwargs)

    Own(Table(), arguments(tmp_path, dataloader_num_workers=workers), train_dataset=rows()).train()
    assert seen == [batch for plan in plans(name) for batch in batches_of(plan)]


@every
@pytest.mark.parametrize("accumulation", [1, 2])
def test_our_trainer_draws_the_plans(name, accumulation, tmp_path):
    trainer = trained(
        name, tmp_path, gradient_accumulation_steps=accumulation, per_device_train_batch_size=BATCH // accumulation
    )
    drawn = plans(name, state_of(trainer))
    assert trainer.seen == [batch for plan in drawn for batch in batches_of(plan, BATCH // accumulation)]
    if name == "performance":
        assert state_of(trainer)["from_epoch"] == [1, 2]
        assert drawn != plans(name), "scores that change nothing test nothing"


@every
def test_our_trainer_resumes_at_every_step(name, tmp_path):
    whole = trained(name, tmp_path, save_strategy="steps", save_steps=1)
    assert whole.state.global_step == 12
    for step in range(1, 12):
        resumed = trained(name, tmp_path, resume_from=str(tmp_path / f"checkpoint-{step}"))
        assert resumed.seen == whole.seen[step:], step
        assert torch.equal(resumed.model.scores, whole.model.scores), step
        assert state_of(resumed) == state_of(whole)


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([sys.executable, __file__, str(folder)], env=environment, check=True, timeout=300)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def in_turn(shards):
    """The rows of all ranks in the order of the plan."""
    return [row for step in itertools.zip_longest(*shards) for batch in step if batch is not None for row in batch]


@every
def test_two_processes_of_accelerate_together_draw_the_plan(two_ranks, name):
    found = [rank[name]["accelerate"] for rank in two_ranks]
    assert [in_turn(epoch) for epoch in zip(*found, strict=True)] == plans(name)


@every
def test_two_processes_of_our_trainer_together_draw_the_plans(two_ranks, name):
    found = [rank[name] for rank in two_ranks]
    assert found[0]["state"] == found[1]["state"], "all ranks have the same scores"
    drawn = plans(name, found[0]["state"])
    assert in_turn([rank["seen"] for rank in found]) == list(itertools.chain(*drawn))
    np.testing.assert_allclose(found[0]["scores"], found[1]["scores"])


@every
def test_two_processes_resume_at_the_end_of_an_epoch_and_inside_one(two_ranks, name):
    for rank in two_ranks:
        for step, resumed in zip(RESUMED_ON_RANKS, rank[name]["resumed"], strict=True):
            assert resumed["seen"] == rank[name]["seen"][step:], step
            assert resumed["scores"] == rank[name]["scores"], step


def on_accelerate(name):
    sampler = own_sampler(name)
    loader = DataLoader(TensorDataset(torch.arange(LABELS.size)), batch_sampler=BatchSampler(sampler, BATCH, False))
    prepared = Accelerator(dataloader_config=DataLoaderConfiguration(even_batches=False)).prepare(loader)
    return [[batch.tolist() for (batch,) in prepared] for _ in range(EPOCHS)]


def facts(trainer):
    return {"seen": trainer.seen, "state": state_of(trainer), "scores": trainer.model.scores.tolist()}


def run_rank(rank, port, folder):
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "true"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    found = {}
    for name in (*COMPONENTS, *SETS):
        settings = {"per_device_train_batch_size": BATCH // 2}
        whole = trained(name, folder / name, save_strategy="steps", save_steps=1, **settings)
        whole.accelerator.wait_for_everyone()
        checkpoints = [str(folder / name / f"checkpoint-{step}") for step in RESUMED_ON_RANKS]
        resumed = [facts(trained(name, folder / name, resume_from=path, **settings)) for path in checkpoints]
        found[name] = {**facts(whole), "resumed": resumed, "accelerate": on_accelerate(name)}
    (folder / f"{rank}.json").write_text(json.dumps(found))


def run_ranks(folder):
    gc.freeze()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=run_rank, args=(rank, port, folder)) for rank in range(2)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    assert [rank.exitcode for rank in ranks] == [0, 0]


if __name__ == "__main__":
    run_ranks(Path(sys.argv[1]))
