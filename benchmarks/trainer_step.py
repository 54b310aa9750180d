"""Step time of `ImbalanceTrainer` against plain `transformers.Trainer`, in one process.

Both fine-tune all-MiniLM-L6-v2 on batches of 16 texts of 32 tokens: a short step, so that what is ours weighs more.
Blocks of a few steps take turns, so that whatever else the machine does meets both alike; a step is timed from its
beginning to the beginning of the next one, so that fetching the batch, the loss, the optimiser and the callbacks are
all in. The figure is the median over the pairs of blocks of the ratio of their median step times. On a machine with
other work on it, ``--clock cpu --threads 1`` counts the processor time of the process instead of the time that passes.

    python benchmarks/trainer_step.py [--blocks 12] [--steps 6] [--threads 2] [--loss wce] [--sampler cas] [--bf16]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import (
    AutoModelForSequenceClassification,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.utils import logging

from tailwise.models.encoder import Encoder
from tailwise.training.trainer import ImbalanceTrainer

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

CLASSES, BATCH, TOKENS = 6, 16, 32


class StepTimes(TrainerCallback):
    """Seconds from the beginning of each step to that of the next one."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.beginnings: list[float] = []

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        del args, kwargs
        self.beginnings.append(self.clock())

    def median(self) -> float:
        return float(np.median(np.diff(self.beginnings)[1:]))  # the first step warms up


def make_rows(number: int) -> list[dict[str, Any]]:
    """Rows of random tokens with a skewed label."""
    generator = np.random.default_rng(0)
    labels = np.minimum(generator.geometric(0.4, number) - 1, CLASSES - 1)
    tokens = generator.integers(1000, 20000, (number, TOKENS))
    mask = [1] * TOKENS
    return [
        {"input_ids": ids.tolist(), "attention_mask": mask, "labels": int(label)}
        for ids, label in zip(tokens, labels, strict=True)
    ]


def block(kind: type[Trainer], model: nn.Module, rows: list[dict[str, Any]], options: argparse.Namespace) -> float:
    """Median step time of one block."""
    times = StepTimes(time.process_time if options.clock == "cpu" else time.perf_counter)
    extra = {"loss": options.loss, "sampler": options.sampler} if issubclass(kind, ImbalanceTrainer) else {}
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=BATCH,
            max_steps=options.steps + 2,
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            bf16=options.bf16,
            dataloader_pin_memory=False,
        )
        trainer = kind(model, arguments, train_dataset=rows, callbacks=[times], **extra)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    return times.median()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=12)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--loss", default="wce")
    parser.add_argument("--sampler", default="cas")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--bf16", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model = AutoModelForSequenceClassification.from_pretrained(Encoder.from_pretrained().path, num_labels=CLASSES)
    rows = make_rows(BATCH * (options.steps + 2))
    seconds: dict[type[Trainer], list[float]] = {Trainer: [], ImbalanceTrainer: []}
    for number in range(options.blocks + 1):
        for kind in list(seconds)[:: 1 if number % 2 else -1]:
            seconds[kind].append(block(kind, model, rows, options))
    plain, ours = (np.array(seconds[kind][1:]) for kind in (Trainer, ImbalanceTrainer))
    ratios = ours / plain
    result = {
        "plain_seconds": round(float(np.median(plain)), 4),
        "ours_seconds": round(float(np.median(ours)), 4),
        "ratio": round(float(np.median(ratios)), 4),
        "ratio_quartiles": np.quantile(ratios, [0.25, 0.75]).round(4).tolist(),
        "blocks": options.blocks,
        "steps": options.steps,
        "threads": options.threads,
        "clock": options.clock,
        "loss": options.loss,
        "sampler": options.sampler,
        "bf16": options.bf16,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
