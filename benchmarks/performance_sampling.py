"""What performance-based sampling adds to a fine-tuning step: the scoring of the feedback slice and the plan.

all-MiniLM-L6-v2 is fine-tuned on random texts of mixed length with `ImbalanceTrainer` and the sampler ``performance``.
The processor time of everything the sampler needs (scores of the held-out tenth of the rows at the beginning of every
epoch but the first, shares, plan) is counted apart from that of the training. Both counts are of one run, so that other
work on the machine meets both alike.

    python benchmarks/performance_sampling.py [--rows 320] [--epochs 3] [--batch 16] [--threads 1] [--bf16]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, PrinterCallback, TrainingArguments
from transformers.utils import logging

from tailwise.models.encoder import Encoder
from tailwise.training.dealing import DealtBatches
from tailwise.training.trainer import ImbalanceTrainer

if TYPE_CHECKING:
    from collections.abc import Iterator

CLASSES = 6


class Clock:
    """Processor seconds spent in laying out the batches of an epoch, scores included."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, batches: Iterator[list[int]]) -> Iterator[list[int]]:
        while True:
            start = time.process_time()
            batch = next(batches, None)
            self.seconds += time.process_time() - start
            if batch is None:
                return
            yield batch


def make_rows(number: int) -> list[dict[str, Any]]:
    """Rows of random tokens, 8 to 64 of them, with a skewed label."""
    generator = np.random.default_rng(0)
    labels = np.minimum(generator.geometric(0.4, number) - 1, CLASSES - 1)
    sizes = generator.integers(8, 65, number)
    return [
        {"input_ids": generator.integers(1000, 20000, size).tolist(), "labels": int(label)}
        for size, label in zip(sizes, labels, strict=True)
    ]


def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    width = max(len(row["input_ids"]) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.int64)
    for place, row in enumerate(rows):
        ids[place, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
    labels = torch.tensor([row["labels"] for row in rows])
    return {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": labels}


def run(path: str, rows: list[dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """Seconds per step of a training, and those of its sampler among them."""
    clock, lay_out = Clock(), DealtBatches.__iter__
    DealtBatches.__iter__ = lambda self: clock.timed(lay_out(self))
    try:
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                output_dir=folder,
                per_device_train_batch_size=options.batch,
                num_train_epochs=options.epochs,
                logging_strategy="no",
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                use_cpu=True,
                bf16=options.bf16,
                dataloader_pin_memory=False,
            )
            model = AutoModelForSequenceClassification.from_pretrained(path, num_labels=CLASSES)
            trainer = ImbalanceTrainer(
                model, arguments, sampler="performance", train_dataset=rows, data_collator=collate
            )
            trainer.remove_callback(PrinterCallback)
            start = time.process_time()
            trainer.train()
            total = time.process_time() - start
    finally:
        DealtBatches.__iter__ = lay_out
    steps = trainer.state.global_step
    return {
        "steps": steps,
        "step_seconds": round((total - clock.seconds) / steps, 4),
        "sampler_seconds": round(clock.seconds / steps, 6),
        "sampler_share": round(clock.seconds / (total - clock.seconds), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=320)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bf16", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    path, rows = str(Encoder.from_pretrained().path), make_rows(options.rows)
    print(json.dumps({**run(path, rows, options), **vars(options)}))


if __name__ == "__main__":
    main()
