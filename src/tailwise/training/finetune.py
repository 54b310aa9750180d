"""Engine ``finetune``: runs a recipe on a whole encoder, stage after stage, with `ImbalanceTrainer`.

The steps of a recipe are those of plain training, ceil(epochs N / batch size), shared by its stages; a sampler with a
longer or shorter epoch runs through its plans until the steps are used. Each stage has its own linear warm-up and
linear decay to zero, of the recipe's learning rate times the stage's scale, and its own AdamW state.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from accelerate import PartialState

from tailwise.data.task import LabelStructure
from tailwise.errors import SettingError
from tailwise.evaluation.unit_metrics import metric_names
from tailwise.models.encoder import default_device, fast_dtype
from tailwise.models.heads import HEADS
from tailwise.registry import did_you_mean
from tailwise.stages.label_structures import for_label_structure, heads_of
from tailwise.stages.recipe import HeadInit
from tailwise.training.finetune_run import FinetuneRun
from tailwise.training.parsing_finetune import finetune_parser
from tailwise.training.parsing_loop import ParserOptimisation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from transformers import TrainerCallback

    from tailwise.data.corpus import Corpus
    from tailwise.models.encoder import Encoder
    from tailwise.models.fitted import FittedModel
    from tailwise.stages.recipe import Optimisation, Recipe
    from tailwise.training.engine import Job, Progress

__all__ = ["FinetuneEngine", "Precision", "Select"]

Precision = Literal["auto", "float32", "bfloat16"]
Select = Literal["last", "best"]

#: metrics that can be asked for, whatever the data
ALL_METRICS = tuple(sorted({name for structure in get_args(LabelStructure) for name in metric_names(structure)}))

#: what changes where and how a run works, but not its result
_NO_RESULT = {"result": False}


@dataclass(kw_only=True)
class FinetuneEngine:
    """Fine-tune the encoder with its final layer.

    Attributes:
        learning_rate: peak of the schedule.
        head_learning_rate: peak of the schedule of the final layer; None takes `learning_rate`. One that starts
            ``"fresh"`` needs larger steps than the encoder over many classes or labels. Parsers have rates of their
            own.
        head_init: where the final layer of the first stage starts: ``"probe"``, the penalised solution of its loss on
            what it sees before training (directions of the class means for a cosine head; see
            `tailwise.training.head_start`), or ``"fresh"``, at random. Layers of later stages start fresh.
        weight_decay: of AdamW.
        epochs: passes over the training data that set the number of steps.
        batch_size: rows per optimiser step, over all micro-batches and ranks.
        micro_batch_size: rows per forward pass of one rank; None takes the whole batch at once.
        max_length: tokens per text, where the encoder does not allow fewer; longer ones are cut.
        warmup: share of each stage's steps in which the learning rate rises from zero.
        max_grad_norm: gradients are clipped to this length.
        precision: of the forward and backward pass; ``"auto"`` takes bfloat16 on processors that gain from it. Weights,
            optimiser, loss and prediction are float32 in any case.
        metric: what tuned post-hoc steps and `select` maximise on validation.
        select: keep the model of the ``"last"`` step, or the ``"best"`` one of the last trained stage.
        patience: stop the last trained stage after this many evaluations without a better one (``select="best"``).
        checkpoints: folder for checkpoints, so that a run that was killed goes on where it was; None keeps none.
            Parsers keep none in any case and begin anew.
        save_steps: optimiser steps between two checkpoints.
        callbacks: for the trainer of every stage.
        report_to: trackers, as in `transformers.TrainingArguments`.

    Raises:
        SettingError: a value out of range.
    """

    learning_rate: float = 1e-4
    head_learning_rate: float | None = None
    weight_decay: float = 0.01
    epochs: float = 3.0
    batch_size: int = 32
    micro_batch_size: int | None = None
    max_length: int = 128
    warmup: float = 0.1
    max_grad_norm: float = 1.0
    precision: Precision = "auto"
    metric: str = "macro_f1"
    select: Select = "last"
    patience: int | None = None
    head_init: HeadInit = "probe"
    checkpoints: Path | str | None = field(default=None, metadata=_NO_RESULT)
    save_steps: int = field(default=200, metadata=_NO_RESULT)
    callbacks: Sequence[TrainerCallback] = field(default=(), metadata=_NO_RESULT)
    report_to: str | list[str] = field(default="none", metadata=_NO_RESULT)
    name: str = field(default="finetune", init=False, metadata=_NO_RESULT)
    batched: bool = field(default=False, init=False, metadata=_NO_RESULT)

    def __post_init__(self) -> None:
        positive = ("learning_rate", "head_learning_rate", "epochs", "batch_size", "micro_batch_size", "max_length")
        for key in (*positive, "max_grad_norm", "patience", "save_steps"):
            value = getattr(self, key)
            if value is not None and not value > 0:
                raise SettingError(f"Expected `{key}` to be above 0, but got {value!r}.")
        if not 0.0 <= self.warmup < 1.0:
            raise SettingError(f"Expected `warmup` to be a share of the steps in [0, 1), but got {self.warmup!r}.")
        for key, kind in (("precision", Precision), ("select", Select), ("head_init", HeadInit)):
            if getattr(self, key) not in get_args(kind):
                known = ", ".join(get_args(kind))
                raise SettingError(f"Expected `{key}` to be one of {known}, but got {getattr(self, key)!r}.")
        if self.metric not in ALL_METRICS:
            raise SettingError(f"Unknown metric {self.metric!r}. {did_you_mean(self.metric, ALL_METRICS)}")
        if self.patience is not None and self.select != "best":
            raise SettingError("`patience` stops after the best model; set select='best' so that it is kept.")

    @property
    def bf16(self) -> bool:
        """Whether the forward and backward pass run in bfloat16 here."""
        if self.precision == "auto":
            return fast_dtype(default_device()) == torch.bfloat16
        return self.precision == "bfloat16"

    @property
    def settings(self) -> Mapping[str, Any]:
        """Every setting that changes a result, with the precision that this machine takes."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.metadata.get("result", True)}
        return {**values, "precision": "bfloat16" if self.bf16 else "float32"}

    def search_space(self, recipe: Recipe, corpus: Corpus) -> Mapping[str, Sequence[Any]]:
        """Learning rates to try, the default first; that of the head where there is one apart from a parser."""
        del recipe
        head = self.learning_rate if self.head_learning_rate is None else self.head_learning_rate
        rates = {"optimisation.learning_rate": (self.learning_rate, self.learning_rate / 2, self.learning_rate * 2)}
        if corpus.task.label_structure == "arcs":
            return rates
        return {**rates, "optimisation.head_learning_rate": (head, head * 10, head * 50)}

    def with_optimisation(self, optimisation: Optimisation) -> FinetuneEngine:
        """The engine with the optimiser settings that a recipe asks for."""
        known = {f.name for f in fields(self)}
        return replace(
            self, **{key: value for key, value in vars(optimisation).items() if value is not None and key in known}
        )

    def fit(
        self, recipe: Recipe, corpus: Corpus, encoder: Encoder, seed: int, progress: Progress | None = None
    ) -> FittedModel:
        """Train one model and fit its post-hoc steps on validation.

        Raises:
            SettingError: a recipe this engine cannot run.
            ModelError: an encoder that is not a plain safetensors model, or has no final layer to classify with.
        """
        recipe = for_label_structure(recipe, corpus.task.label_structure)
        _refuse_token_states(recipe)
        if corpus.task.label_structure == "arcs":
            return finetune_parser(
                recipe,
                corpus,
                encoder,
                seed,
                epochs=self.epochs,
                optimisation=self._parser_optimisation(),
                metric=self.metric,
                bf16=self.bf16,
                progress=progress,
            )
        engine = self.with_optimisation(recipe.optimisation)
        with engine.run_folder(recipe, corpus, encoder, seed) as folder:
            run = FinetuneRun(engine, recipe, corpus, encoder, seed, folder, progress)
            return run.fit()

    def _parser_optimisation(self) -> ParserOptimisation:
        """Settings for a parser, whose encoder sees few words per step and was best at three times the usual rate."""
        return ParserOptimisation(
            encoder_learning_rate=3.0 * self.learning_rate,
            weight_decay=self.weight_decay,
            warmup=self.warmup,
            max_grad_norm=self.max_grad_norm,
        )

    def fit_many(
        self, jobs: Sequence[Job], corpus: Corpus, encoder: Encoder, progress: Progress | None = None
    ) -> list[FittedModel]:
        """Train several models, one after the other."""
        return [self.fit(job.recipe, corpus, encoder, job.seed, progress) for job in jobs]

    @contextmanager
    def run_folder(self, recipe: Recipe, corpus: Corpus, encoder: Encoder, seed: int) -> Iterator[Path]:
        """The folder of one run, named by everything that its result depends on; gone once the run is done."""
        if self.checkpoints is None:
            with tempfile.TemporaryDirectory(prefix="tailwise-finetune-") as folder:
                yield Path(folder)
            return
        key = [recipe.to_dict(), dict(self.settings), corpus.fingerprint, encoder.fingerprint, encoder.max_length, seed]
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        folder_kept = Path(self.checkpoints) / f"finetune-{digest[:24]}"
        folder_kept.mkdir(parents=True, exist_ok=True)
        yield folder_kept
        PartialState().wait_for_everyone()
        if PartialState().is_main_process:
            rmtree(folder_kept, ignore_errors=True)


def _refuse_token_states(recipe: Recipe) -> None:
    """Fine-tuned models classify with the last layer of their architecture, which sees one vector per text."""
    if recipe.features is not None:
        raise SettingError(
            f"{recipe.name!r} is trained on the features {recipe.features.name!r} of a frozen encoder or of words. "
            "Choose the engine 'probe', or leave `features` out of the recipe."
        )
    for head in heads_of(recipe):
        if head.name in HEADS and HEADS[head.name].takes_token_states:
            raise SettingError(
                f"The head {head.name!r} needs the states of all tokens, which the engine 'finetune' does not hand to "
                "a head. Choose the engine 'probe'."
            )
        if head.name in HEADS and HEADS[head.name].reads_words:
            raise SettingError(
                f"The head {head.name!r} reads words, without an encoder that could be fine-tuned. Choose the engine "
                "'probe'."
            )
