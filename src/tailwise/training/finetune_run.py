"""One run of the fine-tuning engine: a recipe's stages one after the other on the same model.

After each trained stage the weights and a small state file go into the run's folder, so that a run that was killed goes
on in the right stage; within a stage the Trainer's own checkpoints do.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from accelerate import PartialState
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    EarlyStoppingCallback,
    PrinterCallback,
    TrainingArguments,
    set_seed,
)

from tailwise.errors import ModelError, SettingError
from tailwise.evaluation.metrics import METRICS
from tailwise.models.final_layer import final_layer_name, num_features, replace_final_layer
from tailwise.models.finetuned import FinetunedModel
from tailwise.models.heads import Head
from tailwise.models.heads.building import build_head
from tailwise.models.heads.cosine import CosineHead
from tailwise.models.quiet import quiet_transformers
from tailwise.sampling import SENTENCE_SAMPLERS, NaturalSampler
from tailwise.training.callbacks import ProgressReporter
from tailwise.training.components import build_sampler
from tailwise.training.corpus_parts import (
    FittedSteps,
    corpus_loss,
    corpus_prior,
    drawn_shares,
    fit_corpus_steps,
    refuse_corpus_double_correction,
)
from tailwise.training.feedback import require_feedback
from tailwise.training.finetune_rows import TokenizedRows, collator_for, tokenized_rows
from tailwise.training.finetune_start import class_draws, final_inputs, head_rows, kept_start, row_draws
from tailwise.training.finetune_state import RunState
from tailwise.training.head_start import HeadRows, HeadStart, class_directions, linear_start
from tailwise.training.isolation import kept_random_state
from tailwise.training.multilabel_components import build_label_sampler, prior_logits, trained_labels
from tailwise.training.sentence_components import sampler_over_rows
from tailwise.training.trainer import (
    EVALUATION_METRICS,
    LABEL_METRICS,
    ImbalanceTrainer,
    decision_scores,
    last_complete_checkpoint,
    score_labels,
    score_predictions,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix
    from transformers import EvalPrediction, PreTrainedModel, TrainerCallback

    from tailwise.data.corpus import Corpus, SplitName
    from tailwise.data.task import LabelStructure
    from tailwise.losses import Loss
    from tailwise.models.encoder import Encoder
    from tailwise.sampling import PlannedSampler
    from tailwise.stages.recipe import Component, Recipe, Stage
    from tailwise.training.engine import Progress
    from tailwise.training.finetune import FinetuneEngine

__all__ = ["FinetuneRun", "HeadTrainer", "TokenizedRows", "stage_steps"]

#: what transformers calls the ways in which a sequence can be labelled
PROBLEM_TYPES = {"single": "single_label_classification", "multi": "multi_label_classification"}


class FinetuneTrainer(ImbalanceTrainer):
    """Trains the final layer at a rate of its own.

    Args:
        head: the final layer.
        head_learning_rate: peak of its schedule.
        **arguments: of `ImbalanceTrainer`.
    """

    def __init__(self, *, head: nn.Module, head_learning_rate: float, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.head = {id(parameter) for parameter in head.parameters()}
        self.head_learning_rate = head_learning_rate

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The optimizer of `transformers.Trainer`, with the parameters of the head in groups of their own."""
        if self.optimizer is not None:
            return self.optimizer
        optimizer = super().create_optimizer(model)
        for group in list(optimizer.param_groups):
            head = [p for p in group["params"] if id(p) in self.head]
            if head and self.head_learning_rate != group["lr"]:
                group["params"] = [p for p in group["params"] if id(p) not in self.head]
                optimizer.add_param_group({**group, "params": head, "lr": self.head_learning_rate})
        return optimizer


class HeadTrainer(FinetuneTrainer):
    """Trains the final layer alone: the frozen encoder stays in evaluation mode, so that its dropout is off."""

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The loss, on features that do not change from step to step."""
        model.eval()
        return super().compute_loss(model, inputs, *args, **kwargs)


def stage_steps(recipe: Recipe, total: int) -> list[int]:
    """Optimiser steps of every stage: shares of `total`, rounded to sum to it; a trained stage has at least one."""
    ends = np.rint(np.cumsum([stage.share for stage in recipe.stages]) * total).astype(int)
    steps = np.diff(ends, prepend=0)
    return [max(int(n), 1) if stage.share > 0 else 0 for n, stage in zip(steps, recipe.stages, strict=True)]


@dataclass(eq=False)
class FinetuneRun:
    """One recipe on one corpus with one seed.

    Attributes:
        engine: settings, those of the recipe included.
        recipe: what to do.
        corpus: the data.
        encoder: where the pretrained weights and the tokenizer are.
        seed: of everything random.
        folder: for checkpoints.
        progress: told after every step.
    """

    engine: FinetuneEngine
    recipe: Recipe
    corpus: Corpus
    encoder: Encoder
    seed: int
    folder: Path
    progress: Progress | None
    _head_facts: dict[str, Any] = field(default_factory=lambda: {"kind": "fresh"}, init=False)

    def fit(self) -> FinetunedModel:
        """Train all stages, then fit the post-hoc steps."""
        start = time.perf_counter()
        refuse_corpus_double_correction(self.recipe, self.corpus)
        with kept_random_state(), quiet_transformers():
            model = self._pretrained()
            log = self._run_stages(model)
            fitted = FinetunedModel(
                model=model,
                tokenizer=self.encoder.tokenizer,
                max_length=self.max_length,
                label_space=self.corpus.label_space,
                task=self.corpus.task,
                recipe=self.recipe.to_dict(),
                seed=self.seed,
                engine=self.engine.name,
            )
            if self.recipe.posthoc:
                fitted.steps, fitted.held_out = self._posthoc(fitted)
        fitted.info = self._info(log, time.perf_counter() - start)
        return fitted

    @property
    def max_length(self) -> int:
        """Tokens per text: what the engine allows, and no more than the encoder does."""
        return min(self.engine.max_length, self.encoder.max_length)

    @cached_property
    def num_classes(self) -> int:
        """C, the classes of training."""
        return self.corpus.label_space.num_classes

    @cached_property
    def steps(self) -> list[int]:
        """Optimiser steps per stage."""
        total = math.ceil(self.engine.epochs * self.corpus.num_rows("train") / self.engine.batch_size)
        return stage_steps(self.recipe, total)

    @cached_property
    def train_rows(self) -> TokenizedRows:
        """The training split."""
        return self._rows("train")

    @cached_property
    def validation_rows(self) -> TokenizedRows:
        """The validation split."""
        return self._rows("validation")

    def _rows(self, split: SplitName) -> TokenizedRows:
        return tokenized_rows(self.corpus, split, self.encoder.tokenizer, self.max_length)

    @property
    def structure(self) -> LabelStructure:
        """How the rows are labelled."""
        return self.corpus.task.label_structure

    @cached_property
    def _label_sets(self) -> csr_matrix | None:
        """Labels of the training rows, ``(N, L)``; None where a row has one class."""
        if self.structure != "multi":
            return None
        return trained_labels(self.corpus.label_matrix("train"), self.corpus.label_space)

    def _derived_seed(self, *key: int) -> int:
        return int(np.random.SeedSequence([self.seed, *key]).generate_state(1)[0])

    def _pretrained(self) -> PreTrainedModel:
        names = self.corpus.label_space.names
        set_seed(self._derived_seed(0, 0))  # parts that the pretrained weights lack start at random
        by_token = self.structure == "tags"
        kind = AutoModelForTokenClassification if by_token else AutoModelForSequenceClassification
        problem = {} if by_token else {"problem_type": PROBLEM_TYPES[self.structure]}
        try:
            model = kind.from_pretrained(
                str(self.encoder.path),
                num_labels=self.num_classes,
                id2label=dict(enumerate(names)),
                label2id={name: i for i, name in enumerate(names)},
                **problem,
                ignore_mismatched_sizes=True,
                use_safetensors=True,
                trust_remote_code=False,
                dtype=torch.float32,
            )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise ModelError(
                f"{self.encoder.path} cannot be loaded for {'token' if by_token else 'sequence'} classification: "
                f"{error} Expected a folder with config.json and model.safetensors of a known architecture."
            ) from error
        model.config.pad_token_id = self.encoder.tokenizer.pad_token_id
        return cast("PreTrainedModel", model)

    def _run_stages(self, model: PreTrainedModel) -> list[dict[str, Any]]:
        state = RunState.read(self.folder)
        layer = final_layer_name(model, self.num_classes)
        for index, stage in enumerate(self.recipe.stages):
            head = stage.head or (self.recipe.head if index == 0 else None)
            if head is not None:
                self._attach(model, layer, head, index)
            if not self.steps[index] or index + 1 < state.stages_done:
                continue
            if index + 1 == state.stages_done:
                state.load_weights(self.folder, model)
                continue
            log, sampler = self._train(model, layer, index, stage)
            state.log += log
            known = self.structure == "single" or stage.sampler.name in SENTENCE_SAMPLERS
            state.drawn = sampler.effective_prior().tolist() if known else None
            if self.engine.checkpoints is not None and PartialState().is_main_process:
                state.finish_stage(self.folder, model, index + 1)
        self._scale_for_prediction(model.get_submodule(layer))
        self._drawn = None if state.drawn is None else np.array(state.drawn)
        return state.log

    @torch.no_grad()
    def _scale_for_prediction(self, layer: nn.Module) -> None:
        """Let the final layer give the scores whose softmax the last loss was fitted on."""
        if self._closed_form_end:
            return
        loss = self._loss(self.recipe.stages[self._last_trained])
        if isinstance(layer, CosineHead):
            layer.scale = loss.inference_scale if loss.requires_cosine else layer.scale
        elif loss.inference_scale != 1.0:
            for parameter in layer.parameters():
                parameter.mul_(loss.inference_scale)
        if loss.scoreless_class is not None:
            if isinstance(layer, CosineHead):
                raise SettingError(
                    f"{type(loss).__name__} leaves a class without a score of its own, which needs a linear head."
                )
            for parameter in layer.parameters():
                parameter[loss.scoreless_class] = 0.0

    @cached_property
    def _closed_form_end(self) -> bool:
        """Whether the head that predicts was fitted in closed form, after all training."""
        return any(stage.head for stage in self.recipe.stages[self._last_trained + 1 :])

    def _loss(self, stage: Stage) -> Loss:
        shares = drawn_shares(stage, self.corpus)
        return corpus_loss(stage.loss, stage.sampler, self.corpus.label_space, self._label_sets, shares)

    def _attach(self, model: PreTrainedModel, layer: str, component: Component, index: int) -> None:
        """A new head as final layer; a plain linear one stays `torch.nn.Linear`."""
        generator = torch.Generator().manual_seed(self._derived_seed(index, 1))
        width = num_features(model.get_submodule(layer))
        head = self._fresh_head(model, component, width, generator)
        if isinstance(head, Head) and head.closed_form:
            if self.structure != "single":
                raise SettingError(
                    f"The head {component.name!r} is fitted on one feature vector per row with one class, which these "
                    "data do not have. Take the head 'linear'."
                )
            features = final_inputs(model, layer, self.train_rows, self.encoder.tokenizer, width=width)
            head.fit(features, torch.as_tensor(self.train_rows.labels))
        elif index == 0 and self.steps[0] and self.engine.head_init == "probe":
            self._start(model, layer, head)
        replace_final_layer(model, layer, head)

    def _fresh_head(
        self, model: PreTrainedModel, component: Component, width: int, generator: torch.Generator
    ) -> nn.Linear | Head:
        if component.name != "linear" or component.params:
            head = build_head(component.name, component.params, width, self.num_classes)
            if not head.closed_form:
                head.reset(generator)
            return head
        linear = nn.Linear(width, self.num_classes)
        nn.init.normal_(linear.weight, std=getattr(model.config, "initializer_range", 0.02), generator=generator)
        nn.init.zeros_(linear.bias)
        if self.structure == "multi":  # otherwise the first steps go into learning that most labels are absent
            linear.bias.data.copy_(prior_logits(self.corpus.label_space))
        return linear

    @torch.no_grad()
    def _start(self, model: PreTrainedModel, layer: str, head: nn.Linear | Head) -> None:
        """Put a head of the first stage where the probe would put it."""
        stage = self.recipe.stages[0]
        arguments = self._arguments(0, stage)
        nn.Module.to(model, arguments.device)
        start = kept_start(
            self.folder / "head.safetensors",
            partial(self._head_start, model, layer, stage, cosine=isinstance(head, CosineHead)),
            write=self.engine.checkpoints is not None and arguments.process_index == 0,
        )
        self._head_facts = start.facts
        for name, values in (("weight", start.weight), ("bias", start.bias)):
            if values is not None:
                head.get_parameter(name).copy_(values)

    def _head_start(self, model: PreTrainedModel, layer: str, stage: Stage, *, cosine: bool) -> HeadStart:
        told = self._encoding_told(self.train_rows, *(() if cosine else (self.validation_rows,)))
        by_class = by_row = None
        if self.structure == "single":
            by_class = class_draws(stage.sampler, self.corpus.label_space.counts)
        else:
            by_row = row_draws(self._sampler(0, stage.sampler), len(self.train_rows))
        train = self._head_rows(model, layer, self.train_rows, told, by_class, by_row)
        if cosine:
            return class_directions(train, self.num_classes)
        validation = self._head_rows(model, layer, self.validation_rows, told, by_class)
        with torch.enable_grad():
            return linear_start(self._loss(stage), train, validation, self.num_classes)

    def _head_rows(
        self,
        model: PreTrainedModel,
        layer: str,
        rows: TokenizedRows,
        told: Callable[[int], None],
        class_weight: NDArray[np.float64] | None = None,
        row_weight: NDArray[np.float64] | None = None,
    ) -> HeadRows:
        features = final_inputs(
            model,
            layer,
            rows,
            self.encoder.tokenizer,
            width=num_features(model.get_submodule(layer)),
            by_token=self.structure == "tags",
            bf16=self.engine.bf16,
            told=told,
        )
        return head_rows(features, rows, self.num_classes, class_weight=class_weight, row_weight=row_weight)

    def _encoding_told(self, *parts: TokenizedRows) -> Callable[[int], None]:
        done, total = 0, sum(len(part) for part in parts)

        def told(rows: int) -> None:
            nonlocal done
            done += rows
            if self.progress is not None:
                self.progress(f"encoding for the head of {self.recipe.name}", done, total)

        return told

    def _train(
        self, model: PreTrainedModel, layer: str, index: int, stage: Stage
    ) -> tuple[list[dict[str, Any]], PlannedSampler]:
        """Run the steps of one stage; returns its log, and its sampler as it was in the end."""
        model.requires_grad_(stage.trainable == "all")
        model.get_submodule(layer).requires_grad_(requires_grad=True)
        loss = self._loss_in_training = self._loss(stage)
        trainer_class = HeadTrainer if stage.trainable == "head" else FinetuneTrainer
        sampler = self._sampler(index, stage.sampler)
        head_rate = self.engine.head_learning_rate or self.engine.learning_rate
        trainer = trainer_class(
            head=model.get_submodule(layer),
            head_learning_rate=head_rate * stage.learning_rate_scale,
            model=model,
            args=self._arguments(index, stage),
            loss=loss,
            sampler=require_feedback(sampler),
            train_dataset=self.train_rows,
            eval_dataset=self.validation_rows,
            data_collator=collator_for(self.corpus, self.encoder.tokenizer),
            compute_metrics=self._score,
            callbacks=self._callbacks(index),
        )
        trainer.remove_callback(PrinterCallback)
        checkpoint = last_complete_checkpoint(str(trainer.args.output_dir))
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
        model.__dict__.pop("forward", None)  # what is left of the wrapper for mixed precision
        model.requires_grad_(requires_grad=True)
        keep = ("step", "loss", "eval_loss", *(f"eval_{name}" for name in self._metrics))
        entries = [{key: entry[key] for key in keep if key in entry} for entry in trainer.state.log_history]
        return [{"stage": index + 1, **entry} for entry in entries if len(entry) > 1], sampler

    def _score(self, prediction: EvalPrediction) -> dict[str, float]:
        if self.structure == "multi":
            return score_labels(np.asarray(prediction.predictions), np.asarray(prediction.label_ids))
        scores = decision_scores(self._loss_in_training, np.asarray(prediction.predictions))
        return score_predictions(scores, np.asarray(prediction.label_ids), self._metrics)

    @cached_property
    def _metrics(self) -> tuple[str, ...]:
        """What an evaluation reports."""
        if self.structure == "multi":
            return LABEL_METRICS
        metric = self.engine.metric if self.engine.metric in METRICS else EVALUATION_METRICS[0]
        return tuple(dict.fromkeys((metric, *EVALUATION_METRICS)))

    def _arguments(self, index: int, stage: Stage) -> TrainingArguments:
        engine, steps = self.engine, self.steps[index]
        select = index == self._last_trained and engine.select == "best"
        epoch_steps = math.ceil(self.corpus.num_rows("train") / engine.batch_size)
        keep = "steps" if engine.checkpoints is not None else "no"
        arguments = TrainingArguments(
            output_dir=str(self.folder / f"stage-{index + 1}"),
            max_steps=steps,
            learning_rate=engine.learning_rate * stage.learning_rate_scale,
            weight_decay=engine.weight_decay,
            warmup_steps=math.ceil(engine.warmup * steps),
            max_grad_norm=engine.max_grad_norm,
            per_device_train_batch_size=engine.batch_size,
            per_device_eval_batch_size=64,
            bf16=engine.bf16,
            seed=self._derived_seed(index, 3) % 2**32,
            eval_strategy="steps",
            eval_steps=min(epoch_steps, steps),
            logging_steps=max(1, epoch_steps // 10),
            save_strategy="best" if select else keep,
            save_steps=engine.save_steps,
            save_total_limit=1,
            load_best_model_at_end=select,
            metric_for_best_model=engine.metric if engine.metric in self._metrics else EVALUATION_METRICS[0],
            greater_is_better=True,
            use_cpu=self.encoder.device.type == "cpu",
            dataloader_pin_memory=self.encoder.device.type == "cuda",
            report_to=engine.report_to,
            disable_tqdm=True,
        )
        return self._split_batch(arguments)

    def _split_batch(self, arguments: TrainingArguments) -> TrainingArguments:
        """The arguments with the batch split over ranks and micro-batches."""
        engine, ranks = self.engine, arguments.world_size
        micro = engine.micro_batch_size or engine.batch_size // ranks
        parts = engine.batch_size // max(micro * ranks, 1)
        if micro * ranks * parts != engine.batch_size:
            raise SettingError(
                f"A batch of {engine.batch_size} cannot be split into micro-batches of {micro} on {ranks} processes. "
                "Choose `batch_size` as a multiple of `micro_batch_size` x processes."
            )
        if ranks > 1 and engine.checkpoints is None:
            raise SettingError(f"A run of {ranks} processes needs a folder they share: give `checkpoints`.")
        arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps = micro, parts
        return arguments

    @cached_property
    def _last_trained(self) -> int:
        return max(i for i, n in enumerate(self.steps) if n)

    def _callbacks(self, index: int) -> list[TrainerCallback]:
        engine = self.engine
        callbacks = list(engine.callbacks)
        if engine.patience is not None and index == self._last_trained:
            callbacks.append(EarlyStoppingCallback(engine.patience))
        if self.progress is not None:
            what = f"fine-tuning {self.recipe.name}"
            callbacks.append(ProgressReporter(self.progress, what, sum(self.steps[:index]), sum(self.steps)))
        return callbacks

    def _posthoc(self, fitted: FinetunedModel) -> FittedSteps:
        """The fitted steps, and the validation scores that they give rows they were not fitted on."""
        form, last = fitted.form, self.recipe.stages[-1]
        prior = np.full(self.num_classes, 1.0 / self.num_classes)  # what a head in closed form expresses
        if not self._closed_form_end:
            prior = corpus_prior(last, self.corpus, self._drawn)
        return fit_corpus_steps(
            self.recipe,
            fitted.raw_split_scores(self.corpus, "validation"),
            self.corpus,
            prior=prior,
            metric=self.engine.metric,
            weight=form.weight.cpu().numpy(),
            bias=form.bias.cpu().numpy(),
        )

    def _sampler(self, index: int, component: Component) -> PlannedSampler:
        """The sampler of a stage.

        Raises:
            SettingError: a sampler over classes where the rows are sentences of many tokens.
        """
        seed = self._derived_seed(index, 2)
        if self._label_sets is not None:
            return build_label_sampler(component, self._label_sets, seed=seed)
        if self.structure == "tags":
            if component.name in SENTENCE_SAMPLERS:
                return sampler_over_rows(component, self.train_rows.labels, self.corpus.label_space, seed=seed)
            if component.name != "natural":
                raise SettingError(
                    f"The sampler {component.name!r} draws rows by their class, but fine-tuning draws whole sentences, "
                    "whose tokens have many. Take 'natural', the engine 'probe' (whose rows are tokens), or "
                    "'sentence-rarity', which draws sentences."
                )
            return NaturalSampler(np.zeros(len(self.train_rows), dtype=np.int64), seed=seed)
        return build_sampler(
            component,
            self.corpus.labels("train"),
            seed=seed,
            num_classes=self.num_classes,
            draws=self.steps[index] * self.engine.batch_size,
        )

    def _info(self, log: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
        encoder = self.encoder
        return {
            "encoder": {
                "name": encoder.name,
                "revision": encoder.revision,
                "fingerprint": encoder.fingerprint,
                "max_length": self.max_length,
            },
            "settings": dict(self.engine.settings),
            "data": {"name": self.corpus.name, "fingerprint": self.corpus.fingerprint},
            "steps": self.steps,
            "head_start": self._head_facts,
            "notes": [self._head_facts["note"]] if "note" in self._head_facts else [],
            "log": log,
            "seconds": round(seconds, 1),
        }
