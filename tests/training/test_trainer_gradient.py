"""One batch of 16 = 4 accumulated x 4 = 2 processes x 8: gradients and logged losses of `ImbalanceTrainer`.

Run as a script, this file forks the two ranks of a distributed run.
"""

import gc
import multiprocessing
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, TrainerCallback, TrainingArguments

from tailwise.errors import SettingError
from tailwise.losses import LOSSES
from tailwise.models.final_layer import replace_final_layer
from tailwise.models.heads.cosine import CosineHead
from tailwise.sampling import NaturalSampler
from tailwise.training.trainer import ImbalanceTrainer

pytestmark = pytest.mark.usefixtures("quick_garbage_collection")

COUNTS = np.array([40, 9, 3, 1])
CASES = {
    "ce": ("ce", {}),
    "ce-sum": ("ce", {"reduction": "sum"}),
    "wce": ("wce", {"class_weights": "inverse"}),
    "wce-sqrt-mean": ("wce", {"class_weights": "inverse_sqrt", "reduction": "mean"}),
    "wce-effective": ("wce", {"class_weights": "effective_number", "beta": 0.99}),
    "focal": ("focal", {}),
    "focal-weighted": ("focal", {"class_weights": "inverse", "reduction": "weighted_mean"}),
    "ldam": ("ldam", {}),
    "ldam-weighted": ("ldam", {"class_weights": "effective_number", "beta": 0.99}),
    "balanced-softmax": ("balanced-softmax", {}),
    "db": ("db", {"num_rows": 53}),
    "zlpr": ("zlpr", {}),
}
#: what each of two ranks does: loss, rows, rows per micro-batch, micro-batches per step
RANKS = [(case, 22, 8, 1) for case in CASES] + [
    (case, number, size, parts)
    for case in ("wce", "ldam-weighted")
    for number, size, parts in [(22, 4, 2), (17, 8, 1), (17, 4, 2)]  # 17: the last row is there for one rank only
]


class Gradients(TrainerCallback):
    def __init__(self):
        self.steps = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.steps.append(flat_gradient(model))


def flat_gradient(model):
    return torch.cat([p.grad.reshape(-1) for p in model.parameters() if p.grad is not None]).double().numpy()


def make_loss(case):
    name, params = CASES[case]
    if name in ("wce", "ldam", "balanced-softmax", "db") or "class_weights" in params:
        params = {**params, "class_counts": COUNTS}
    return LOSSES[name](**params)


def make_model(case):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
        num_labels=4,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = BertForSequenceClassification(config)
    if case.startswith("ldam"):
        head = CosineHead(16, 4)
        head.reset(torch.Generator().manual_seed(1))
        replace_final_layer(model, "classifier", head)
    return model


def make_rows(number):
    rng = np.random.default_rng(3)
    labels = rng.choice(4, size=number, p=COUNTS / COUNTS.sum())
    labels[-3:] = (1, 2, 3)
    return [{"input_ids": torch.from_numpy(rng.integers(1, 40, 8)), "labels": int(y)} for y in labels]


def rows_for(case, rows):
    """The rows as the loss takes them: where it is over several labels, most have two of the four."""
    if not LOSSES[CASES[case][0]].multilabel:
        return rows
    sets = [torch.zeros(4).index_fill_(0, torch.tensor([row["labels"], row["labels"] // 2]), 1.0) for row in rows]
    return [{**row, "labels": labels} for row, labels in zip(rows, sets, strict=True)]


def arguments(folder, batch_size, accumulation, **settings):
    return TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
        max_grad_norm=0.0,
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
        **settings,
    )


def trained(case, rows, batch_size, accumulation, folder):
    """Gradient vector and logged loss of every optimiser step of one epoch."""
    args = arguments(folder, batch_size, accumulation, num_train_epochs=1, learning_rate=0.0, save_strategy="no")
    gradients = Gradients()
    sampler = NaturalSampler(np.zeros(len(rows), dtype=np.int64), seed=5)
    trainer = ImbalanceTrainer(
        make_model(case),
        args,
        loss=make_loss(case),
        sampler=sampler,
        train_dataset=rows_for(case, rows),
        callbacks=[gradients],
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return gradients.steps, losses


def expected(case, rows):
    """The same by plain autograd over whole batches of 16."""
    model, loss, rows = make_model(case), make_loss(case), rows_for(case, rows)
    order = NaturalSampler(np.zeros(len(rows), dtype=np.int64), seed=5).plan(0)
    gradients, losses = [], []
    for start in range(0, len(order), 16):
        batch = [rows[i] for i in order[start : start + 16]]
        model.zero_grad()
        logits = model(input_ids=torch.stack([row["input_ids"] for row in batch])).logits
        value = loss(logits, torch.stack([torch.as_tensor(row["labels"]) for row in batch]))
        value.backward()
        gradients.append(flat_gradient(model))
        losses.append(value.item())
    return gradients, losses


def check(case, found, rows):
    gradients, losses = expected(case, rows)
    assert len(found[0]) == len(gradients)
    for ours, theirs in zip(found[0], gradients, strict=True):
        assert np.linalg.norm(ours - theirs) <= 1e-6 * np.linalg.norm(theirs)
    np.testing.assert_allclose(found[1], losses, rtol=1e-4)  # the log rounds


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("batch_size", "accumulation"), [(16, 1), (4, 4)])
def test_accumulated_micro_batches_have_the_gradient_of_the_whole_batch(case, batch_size, accumulation, tmp_path):
    rows = make_rows(22)  # the second step is an incomplete window of 6 rows
    check(case, trained(case, rows, batch_size, accumulation, tmp_path), rows)


@pytest.mark.parametrize("name", ["db", "ml-focal", "pos-bce"])
def test_a_loss_over_labels_by_name_gets_the_counts_of_the_rows(name, tmp_path):
    rows = rows_for("db", make_rows(22))
    trainer = ImbalanceTrainer(
        make_model("ce"), arguments(tmp_path, 8, 1, max_steps=1), loss=name, sampler="ml-cas", train_dataset=rows
    )
    assert type(trainer.label_sampler).__name__ == "ClassAwareMultiLabelSampler"
    assert type(trainer.loss) is LOSSES[name]
    if name == "db":
        np.testing.assert_array_equal(1 / trainer.loss.inverse_counts, torch.stack([r["labels"] for r in rows]).sum(0))
        np.testing.assert_allclose(trainer.loss.counts, 22 * trainer.label_sampler.effective_prior())
    trainer.train()
    assert set(trainer.evaluate(rows)) >= {"eval_macro_f1", "eval_micro_f1"}


def test_rows_over_labels_that_are_no_zeros_and_ones_are_refused(tmp_path):
    rows = [{"input_ids": torch.arange(1, 9), "labels": torch.tensor([0.0, 2.0, 0.0, 1.0])}]
    with pytest.raises(SettingError, match=r"Row 0: expected 0 or 1 for each of the same labels in `labels`"):
        ImbalanceTrainer(make_model("ce"), arguments(tmp_path, 8, 1), loss="db", train_dataset=rows)


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([sys.executable, __file__, str(folder)], env=environment, check=True, timeout=300)
    with np.load(folder / "found.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize(("case", "number", "batch_size", "accumulation"), RANKS)
def test_two_processes_have_the_gradient_of_the_whole_batch(two_ranks, case, number, batch_size, accumulation):
    key = f"{case}/{number}/{batch_size}"
    check(case, (two_ranks[f"{key}/gradients"], two_ranks[f"{key}/losses"]), make_rows(number))


def test_two_processes_resumed_inside_the_second_epoch_continue_its_sequence(two_ranks):
    assert np.array_equal(two_ranks["weights/whole"], two_ranks["weights/resumed"])


def resumed_on_ranks(folder):
    """Weights after two epochs of three steps: in one go, and from the checkpoint of the fourth step."""
    found = {}
    for name, checkpoint in (("whole", None), ("resumed", str(folder / "whole" / "checkpoint-4"))):
        settings = {"num_train_epochs": 2, "learning_rate": 1e-2, "save_strategy": "steps", "save_steps": 4}
        args = arguments(folder / name, 4, 1, **settings)
        sampler = NaturalSampler(np.zeros(22, dtype=np.int64), seed=5)
        trainer = ImbalanceTrainer(make_model("ce"), args, sampler=sampler, train_dataset=make_rows(22))
        trainer.train(resume_from_checkpoint=checkpoint)
        trainer.accelerator.wait_for_everyone()
        found[f"weights/{name}"] = torch.cat([p.detach().reshape(-1) for p in trainer.model.parameters()]).numpy()
    return found


def run_rank(rank, port, folder):
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    torch.set_num_threads(1)
    found = {}
    for case, number, batch_size, accumulation in RANKS:
        gradients, losses = trained(case, make_rows(number), batch_size, accumulation, folder / "trainer")
        found[f"{case}/{number}/{batch_size}/gradients"] = np.stack(gradients)
        found[f"{case}/{number}/{batch_size}/losses"] = np.array(losses)
    found |= resumed_on_ranks(folder)
    if rank == 0:
        np.savez(folder / "found.npz", **found)


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
