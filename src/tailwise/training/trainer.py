"""`transformers.Trainer` for imbalanced data: any tailwise loss, any tailwise sampler, exact over parts of a batch.

    gradient = sum_i grad v_i / sum_i d_i      over all rows of the optimiser step: micro-batches and ranks together

v_i is the value of a row and d_i its share of the loss's denominator (1, or its class weight). The Trainer divides by
the number of rows at best, and averages over ranks: weighted means come out wrong as soon as a batch is split. Here the
denominator of the whole optimiser step is summed first and each part divided by it; the mean over ranks that
data-parallel training takes is undone. Checkpoints, mixed precision, callbacks and trackers are the Trainer's own.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from accelerate.data_loader import prepare_data_loader
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import seed_worker

from tailwise.data.labels import LabelSpace
from tailwise.data.tag_schemes import OUTSIDE
from tailwise.errors import SettingError
from tailwise.evaluation.metrics import METRICS
from tailwise.losses import LOSSES, Loss
from tailwise.models.final_layer import capture_features, final_layer_name
from tailwise.sampling import SENTENCE_SAMPLERS, NaturalSampler, PlannedSampler, SentenceFactorSampler
from tailwise.stages.recipe import Component
from tailwise.training.components import build_loss, build_sampler
from tailwise.training.corrections import warn_of_double_correction
from tailwise.training.dealing import DealtBatches
from tailwise.training.feedback import (
    all_predictions,
    batches_by_length,
    give_scores,
    read_sampler_state,
    require_feedback,
    restart_sampler,
    write_sampler_state,
)
from tailwise.training.multilabel_components import (
    build_label_loss,
    build_label_sampler,
    drawn_rates,
    label_metric,
)
from tailwise.training.row_labels import (
    count_classes,
    count_rows,
    require_same_rows,
    row_groups,
    row_label_matrix,
    row_labels,
)
from tailwise.training.sentence_components import sampler_over_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray
    from scipy.sparse import csr_matrix
    from torch import Tensor, nn
    from transformers import EvalPrediction
    from transformers.trainer_utils import TrainOutput

__all__ = [
    "EVALUATION_METRICS", "LABEL_METRICS", "ImbalanceTrainer", "decision_scores", "last_complete_checkpoint",
    "score_labels", "score_predictions",
]  # fmt: skip

#: What an evaluation reports when the user gives no `compute_metrics`; the first one chooses the best checkpoint.
EVALUATION_METRICS = ("macro_f1", "balanced_accuracy", "worst_class_f1", "accuracy")

#: the same where a row may have several labels
LABEL_METRICS = ("macro_f1", "micro_f1", "worst_class_f1")

#: Cosines are at most 1; half precision rounds upwards a little.
_LARGEST_COSINE = 1.05

#: the file of a checkpoint that holds the state of the loss
_LOSS_STATE = "loss.safetensors"


class ImbalanceTrainer(Trainer):
    """A Trainer that minimises a tailwise loss over the plan of a tailwise sampler.

    Args:
        model: any classification model with ``logits`` ``(..., C)``; labels ``(...)`` are flattened to rows with it.
            For a loss over several labels per row, labels are 0 and 1, ``(..., C)``.
        args: training arguments, as for `transformers.Trainer`.
        loss: a loss, or the name of one: built with the class counts of the training labels, and with regard to what a
            sampler given by name draws, so that nothing is corrected twice. For a loss over several labels per row the
            labels of a row are 0 and 1, ``(C,)``, and a sampler given by name is one over label sets.
        sampler: a sampler, or the name of one (for rows of tags one over sentences, with the tags named in the model's
            ``id2label``, ``O`` among them); None shuffles. The order is a function of the seed and the epoch alone,
            so a run that resumes anywhere continues it.
        class_counts: training rows per class, ``(C,)``, for a loss given by name; None counts the labels.
        train_dataset: map-style data set with ``labels`` (or ``label``) among its columns, and ``group``, an integer
            per row, for a loss that needs groups.
        compute_metrics: None reports `EVALUATION_METRICS`; then ``metric_for_best_model`` is ``"macro_f1"`` unless
            another one is named (`load_best_model_at_end`, early stopping; write ``"eval_loss"`` for the loss).
        kwargs: all other arguments of `transformers.Trainer`.

    The state of a loss or a sampler that has one is kept in the checkpoints. A sampler that goes by the performance of
    the model is given it at the beginning of every epoch but the first, on rows that it holds out. A label from C on (a
    class that training does not have) counts as an error in an evaluation and takes no part in its loss. Evaluating
    leaves the random state alone, so how often it happens does not change the training.

    Raises:
        SettingError: labels that are not class indices of the model, a sampler over another number of rows, a loss that
            cannot be split over the parts of the batch, or an argument that would be ignored.
    """

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: nn.Module | None = None,
        args: TrainingArguments | None = None,
        *,
        loss: Loss | Component | str = "ce",
        sampler: PlannedSampler | Component | str | None = None,
        class_counts: ArrayLike | None = None,
        train_dataset: Any = None,
        compute_metrics: Callable[[EvalPrediction], dict[str, float]] | None = None,
        **kwargs: Any,
    ) -> None:
        args = args if args is not None else TrainingArguments(output_dir="tmp_trainer")
        _reject_ignored(args, kwargs)
        if compute_metrics is None:
            args, compute_metrics = _with_minority_metric(args), self._score
        super().__init__(
            cast("Any", model), args, train_dataset=train_dataset, compute_metrics=compute_metrics, **kwargs
        )
        self.model_accepts_loss_kwargs = True  # the Trainer then takes the loss as normalised over the whole step
        self.label_sampler, self.loss = self._build(loss, sampler, class_counts)
        self._sampler_start: Mapping[str, Any] | None = None
        self._check_separable()
        warn_of_double_correction(self.label_sampler, self.loss, [str(j) for j in range(self.num_classes)])
        self._final_layer: str | None = None

    @property
    def num_classes(self) -> int:
        """C, the number of scores of the model."""
        config = getattr(self.model, "config", None)
        return int(getattr(config, "num_labels", 0))

    @property
    def _data_seed(self) -> int:
        """The seed of the order of the rows."""
        return int(self.args.seed if self.args.data_seed is None else self.args.data_seed)

    def _build(
        self,
        loss: Loss | Component | str,
        sampler: PlannedSampler | Component | str | None,
        class_counts: ArrayLike | None,
    ) -> tuple[PlannedSampler | None, Loss]:
        """Turn names into objects; labels are read where something depends on them, or where that costs nothing."""
        dataset: Any = self.train_dataset
        labels: NDArray[Any] | None = None
        if _over_labels(loss):
            return self._build_over_labels(loss, sampler, class_counts)
        needed = isinstance(sampler, str | Component) or (not isinstance(loss, Loss) and class_counts is None)
        if dataset is not None and (needed or hasattr(dataset, "column_names")):
            labels = row_labels(dataset)
        counts = count_classes(labels, self.num_classes) if labels is not None else None
        built = self._build_sampler(sampler, dataset, labels)
        if not isinstance(loss, Loss):
            drawn_by = None if sampler is None or isinstance(sampler, PlannedSampler) else Component.from_data(sampler)
            by_sentence = drawn_by is not None and isinstance(built, SentenceFactorSampler)
            counts_of_loss = counts if class_counts is None else np.asarray(class_counts)
            cells = None if dataset is None else _cell_counts(dataset, labels, self.num_classes)
            shares = built.effective_prior() if built is not None and by_sentence else None
            loss = _named_loss(Component.from_data(loss), counts_of_loss, drawn_by, cells, shares)
        return built, loss.to(self.args.device)

    def _build_over_labels(
        self,
        loss: Loss | Component | str,
        sampler: PlannedSampler | Component | str | None,
        class_counts: ArrayLike | None,
    ) -> tuple[PlannedSampler | None, Loss]:
        """The same for rows with several labels, given as 0 and 1 per label."""
        dataset: Any = self.train_dataset
        component = Component.from_data(sampler) if isinstance(sampler, str | Component) else None
        needed = dataset is not None and (component is not None or not isinstance(loss, Loss))
        matrix = row_label_matrix(dataset) if needed else None
        if not isinstance(loss, Loss):
            loss = _named_label_loss(Component.from_data(loss), matrix, class_counts, component)
        loss = loss.to(self.args.device)
        if component is None or matrix is None:
            return self._build_sampler(sampler, dataset, None), loss
        seed = self._data_seed
        return build_label_sampler(component, matrix, seed=seed), loss

    def _build_sampler(
        self, sampler: PlannedSampler | Component | str | None, dataset: Any, labels: NDArray[Any] | None
    ) -> PlannedSampler | None:
        if isinstance(sampler, PlannedSampler):
            require_same_rows(sampler, dataset)
            return sampler
        if dataset is None:
            return None
        seed = self._data_seed
        if sampler is None:
            return NaturalSampler(np.zeros(count_rows(dataset), dtype=np.int64), seed=seed)
        component, classes = Component.from_data(sampler), self.num_classes or None
        if labels is not None and labels.dtype == object and component.name in SENTENCE_SAMPLERS:
            return self._build_sentence_sampler(component, labels, seed)
        if labels is None or labels.dtype == object:
            raise SettingError(
                f"The sampler {component.name!r} needs one label per row, but the rows have sequences of labels. Give "
                f"one over sentences ({', '.join(SENTENCE_SAMPLERS)}), a `PlannedSampler` of your own, or none."
            )
        draws = self._draws(component.params.get("num_samples") or labels.size)
        return require_feedback(build_sampler(component, labels, seed=seed, num_classes=classes, draws=draws))

    def _build_sentence_sampler(self, component: Component, labels: NDArray[Any], seed: int) -> PlannedSampler:
        """A sampler over rows of tags; what the tags are called, and which is ``O``, the configuration says."""
        known = getattr(getattr(self.model, "config", None), "id2label", None) or {}
        names = tuple(str(known.get(j, j)) for j in range(self.num_classes))
        space = LabelSpace(names, count_classes(labels, len(names)), OUTSIDE if OUTSIDE in names else None)
        return sampler_over_rows(component, list(labels), space, seed=seed)

    def _draws(self, epoch: int) -> int:
        """Rows that the run draws with epochs of so many rows."""
        args = self.args
        if args.max_steps > 0:
            parts = args.gradient_accumulation_steps * self.accelerator.num_processes
            return int(args.max_steps * args.per_device_train_batch_size * parts)
        return round(args.num_train_epochs * epoch)

    def _check_separable(self) -> None:
        parts = self.args.gradient_accumulation_steps * self.accelerator.num_processes
        name = type(self.loss).__name__
        if not self.loss.separable and parts > 1:
            raise SettingError(
                f"{name} compares the rows of a batch with each other, so a batch cannot be split over "
                f"{self.args.gradient_accumulation_steps} micro-batches x {self.accelerator.num_processes} ranks. "
                "Set gradient_accumulation_steps=1 and use one process, or choose another loss."
            )
        if self.loss.reduction == "none":
            raise SettingError(f"{name}: reduction='none' gives no scalar to minimise; choose 'mean'.")

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The training loader: the sampler's plan of the epoch, dealt exactly over the ranks."""
        if self.train_dataset is None or self.label_sampler is None:
            raise SettingError("Training needs a `train_dataset`.")
        dataset: Any = self.train_dataset
        collator = self.data_collator
        if hasattr(dataset, "column_names"):
            dataset = self._remove_unused_columns(dataset, description="Training")
        else:
            collator = self._get_collator_with_removed_columns(collator, description="Training")
        args, accelerator = self.args, self.accelerator
        self._batches = DealtBatches(
            self.label_sampler,
            self._train_batch_size,
            rank=accelerator.process_index,
            world_size=accelerator.num_processes,
            drop_last=args.dataloader_drop_last,
            before_plan=partial(give_scores, self.label_sampler, predict=partial(self._predict, dataset, collator)),
        )
        loader: DataLoader[Any] = DataLoader(
            dataset,
            batch_sampler=self._batches,
            collate_fn=collator,
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory,
            persistent_workers=args.dataloader_persistent_workers,
            prefetch_factor=args.dataloader_prefetch_factor,
            worker_init_fn=partial(seed_worker, num_workers=args.dataloader_num_workers, rank=args.process_index),
            generator=torch.Generator().manual_seed(args.seed),
        )
        prepared = prepare_data_loader(
            loader,
            device=accelerator.device,
            num_processes=1,
            process_index=0,
            put_on_device=True,
            non_blocking=accelerator.non_blocking,
        )
        return cast("DataLoader[Any]", prepared)

    def _predict(self, dataset: Any, collator: Any, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Predicted classes of rows of the training data, ``(M,)``, the same on every rank."""
        accelerator, model = self.accelerator, cast("nn.Module", self.model)
        rank, ranks, training = accelerator.process_index, accelerator.num_processes, model.training
        examples = [dataset[int(row)] for row in rows[rank::ranks]]
        own = np.zeros(len(examples), dtype=np.int64)
        model.eval()
        with torch.no_grad(), self.compute_loss_context_manager():
            for places, batch in batches_by_length(examples, self.args.per_device_eval_batch_size):
                logits = _logits(_outputs(model, self._prepare_inputs(collator(batch))))
                if logits.ndim != 2:
                    raise SettingError(
                        f"{type(self.label_sampler).__name__} needs one prediction per row, but the scores have shape "
                        f"{tuple(logits.shape)}."
                    )
                own[places] = decision_scores(self.loss, logits.float().cpu().numpy()).argmax(axis=1)
        model.train(training)
        together = all_predictions(own, rank, ranks, rows.size).to(accelerator.device)
        if ranks > 1:
            together = cast("Tensor", accelerator.reduce(together, reduction="sum"))
        return np.asarray(together.cpu().numpy())

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor | None]:
        """The micro-batches of one optimiser step on this rank, and the denominator of the step over all ranks."""
        batches = list(islice(epoch_iterator, num_batches))
        if batches and self._batches.last_is_filler and self.accelerator.gradient_state.end_of_dataloader:
            batches[-1]["labels"] = torch.full_like(batches[-1]["labels"], self.loss.ignore_index)
        return batches, self._step_denominator(batches, device)

    def _step_denominator(self, batches: Sequence[Any], device: torch.device) -> Tensor | None:
        if not self.loss.separable:
            return None
        if self.loss.reduction == "sum":
            return torch.ones((), device=device)
        parts = [self.loss.denominator(self._targets(_labels(batch).to(device))) for batch in batches]
        total = torch.stack(parts).sum(dim=0) if parts else torch.zeros((), device=device)
        if self.accelerator.num_processes > 1:
            total = cast("Tensor", self.accelerator.reduce(total, reduction="sum"))
        return total.where(total > 0, 1.0)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The loss of one micro-batch; `num_items_in_batch` is the denominator of the whole optimiser step."""
        labels, group = _labels(inputs), inputs.get("group")
        with self._features(model) as features:
            outputs = _outputs(model, inputs)
        logits = _logits(outputs)
        rows, target = logits.reshape(-1, logits.shape[-1]), self._targets(labels)
        seen: dict[str, Any] = {
            "features": features[-1].reshape(rows.shape[0], -1) if features else None,
            "group": group if group is None else group.reshape(-1),
        }
        self.loss.train(torch.is_grad_enabled())
        if torch.is_grad_enabled():
            self._check_cosine(rows)
            loss = self.loss(rows, target, normalizer=num_items_in_batch, **seen)
            if num_items_in_batch is not None:
                loss = loss * self.accelerator.num_processes  # data-parallel training takes the mean over ranks
        elif self.loss.multilabel:
            loss = self.loss(rows, target, **seen)
        else:
            loss = self.loss(rows, target.where(target < rows.shape[1], self.loss.ignore_index), **seen)
        if not return_outputs:
            return loss
        return loss, outputs if isinstance(outputs, Mapping) else (loss, *outputs)

    def _targets(self, labels: Tensor) -> Tensor:
        """One class per row, ``(M,)``, or the labels of a row as 0 and 1, ``(M, C)``."""
        return labels.reshape(-1, labels.shape[-1]) if self.loss.multilabel else labels.reshape(-1)

    @contextmanager
    def _features(self, model: nn.Module) -> Iterator[list[Tensor]]:
        """Collect what the final layer sees, with its graph, for a loss that needs it."""
        if not self.loss.requires_features:
            yield []
            return
        model = self.accelerator.unwrap_model(model, keep_torch_compile=False)
        self._final_layer = self._final_layer or final_layer_name(model, self.num_classes)
        with capture_features(model, self._final_layer, detach=False) as seen:
            yield seen

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        columns: Any = self._signature_columns
        if self.loss.requires_group and "group" not in columns:
            columns.append("group")

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.loss.stateful and self.args.should_save:
            state = {name: tensor.detach().cpu().contiguous() for name, tensor in self.loss.state_dict().items()}
            save_file(state, Path(output_dir) / _LOSS_STATE)
        if self.args.should_save:
            write_sampler_state(self.label_sampler, output_dir)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            read_sampler_state(self.label_sampler, checkpoint)
        if checkpoint is None or not self.loss.stateful:
            return
        path = Path(checkpoint) / _LOSS_STATE
        if not path.is_file():
            raise SettingError(
                f"{checkpoint} holds no {_LOSS_STATE}, the state of {type(self.loss).__name__}. It was written by a "
                "training with another loss: start without resuming, or with that loss."
            )
        self.loss.load_state_dict(load_file(path, device=str(self.args.device)))

    def _check_cosine(self, rows: Tensor) -> None:
        """A loss for cosine scores saturates on those of an ordinary linear layer."""
        if not self.loss.requires_cosine or self.loss.inference_scale == 1.0:
            return
        largest = float(rows.detach().abs().max()) if rows.numel() else 0.0
        if largest > _LARGEST_COSINE:
            raise SettingError(
                f"{type(self.loss).__name__} with scale {self.loss.inference_scale:g} needs cosine scores in [-1, 1], "
                f"but {type(self.model).__name__} gave a score of size {largest:.3g}. Replace its final layer by a "
                "`CosineHead` (see `tailwise.models.final_layer.replace_final_layer`), or set scale=1."
            )

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """Train; with ``resume_from_checkpoint=True`` go on from the last checkpoint that was written completely.

        Raises:
            SettingError: there is no complete checkpoint to resume from.
        """
        if resume_from_checkpoint is True:
            found = last_complete_checkpoint(str(self.args.output_dir))
            if found is None:
                raise SettingError(f"No complete checkpoint in {self.args.output_dir!r}; start without resuming.")
            resume_from_checkpoint = str(found)
        self._sampler_start = restart_sampler(self.label_sampler, self._sampler_start)
        return super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate as the parent does, leaving the random state of the training alone."""
        with torch.random.fork_rng(devices=[]):
            return super().evaluate(*args, **kwargs)

    def _score(self, prediction: EvalPrediction) -> dict[str, float]:
        scores = prediction.predictions
        logits = np.asarray(scores[0] if isinstance(scores, tuple) else scores)
        if self.loss.multilabel:
            return score_labels(logits, np.asarray(prediction.label_ids))
        return score_predictions(decision_scores(self.loss, logits), np.asarray(prediction.label_ids))


def _cell_counts(dataset: Any, labels: NDArray[Any] | None, num_classes: int) -> NDArray[np.int64] | None:
    """Rows per class and group, ``(C, G)``, of a data set with a column ``group``; None without one."""
    if labels is None or labels.dtype == object or "group" not in dataset[0]:
        return None
    groups = row_groups(dataset)
    classes = max(num_classes, int(labels.max()) + 1)
    cells = np.zeros((classes, int(groups.max()) + 1), dtype=np.int64)
    valid = labels >= 0
    np.add.at(cells, (labels[valid], groups[valid]), 1)
    return cells


def _named_loss(
    loss: Component,
    class_counts: ArrayLike | None,
    sampler: Component | None,
    cell_counts: NDArray[np.int64] | None,
    shares: NDArray[np.float64] | None,
) -> Loss:
    if class_counts is None:
        raise SettingError(f"The loss {loss.name!r} needs class counts: give `train_dataset` or `class_counts`.")
    counts = np.asarray(class_counts)
    names = [str(i) for i in range(len(counts))]
    return build_loss(
        loss, class_counts=counts, class_names=names, sampler=sampler, cell_counts=cell_counts, shares=shares
    )


def _over_labels(loss: Loss | Component | str) -> bool:
    """Whether a loss is over several labels per row."""
    if isinstance(loss, Loss):
        return loss.multilabel
    name = Component.from_data(loss).name
    return name in LOSSES and bool(LOSSES[name].multilabel)


def _named_label_loss(
    loss: Component, matrix: csr_matrix | None, class_counts: ArrayLike | None, sampler: Component | None
) -> Loss:
    if matrix is None:
        raise SettingError(f"The loss {loss.name!r} needs the labels of the training rows: give `train_dataset`.")
    counts = np.asarray(matrix.sum(axis=0)).ravel() if class_counts is None else np.asarray(class_counts)
    names = tuple(str(i) for i in range(len(counts)))
    space = LabelSpace(names, counts.astype(np.int64), num_rows=matrix.shape[0])
    return build_label_loss(loss, space, None if sampler is None else drawn_rates(sampler, matrix))


def decision_scores(loss: Loss, logits: NDArray[Any]) -> NDArray[Any]:
    """The scores ``(..., C)`` whose largest decides: a class that the loss gives no score of its own has 0."""
    if loss.scoreless_class is None:
        return logits
    scores = logits.copy()
    scores[..., loss.scoreless_class] = 0
    return scores


def score_predictions(
    logits: NDArray[Any], labels: NDArray[Any], names: Sequence[str] = EVALUATION_METRICS, *, ignore_index: int = -100
) -> dict[str, float]:
    """Metrics by name of logits ``(..., C)`` against class indices ``(...)``; ignored rows take no part."""
    gold, predicted = labels.reshape(-1), logits.argmax(axis=-1).reshape(-1)
    valid = gold != ignore_index
    num_classes = logits.shape[-1]
    return {name: float(METRICS[name](gold[valid], predicted[valid], num_classes)) for name in names}


def score_labels(logits: NDArray[Any], labels: NDArray[Any]) -> dict[str, float]:
    """Metrics by name of logits ``(N, L)`` against labels of 0 and 1, ``(N, L)``; what is above 0 is predicted."""
    target, predicted = labels.reshape(-1, labels.shape[-1]) > 0.5, logits.reshape(-1, logits.shape[-1]) > 0
    return {name: label_metric(name)(target, predicted) for name in LABEL_METRICS}


def last_complete_checkpoint(folder: str | Path) -> Path | None:
    """The checkpoint of the latest step in `folder` that was written to the end, or None.

    The Trainer writes ``trainer_state.json`` last, so a process that was killed while saving leaves none behind.
    """
    found = [path for path in Path(folder).glob("checkpoint-*") if path.name.partition("-")[2].isdigit()]
    for path in sorted(found, key=lambda p: int(p.name.partition("-")[2]), reverse=True):
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        return path
    return None


def _outputs(model: nn.Module, inputs: Mapping[str, Any]) -> Any:
    """What the model gives without computing a loss of its own."""
    return model(**{key: value for key, value in inputs.items() if key not in ("labels", "group")})


def _logits(outputs: Any) -> Tensor:
    return cast("Tensor", outputs["logits"] if isinstance(outputs, Mapping) else outputs[0])


def _labels(batch: Mapping[str, Any]) -> Tensor:
    if "labels" not in batch:
        raise SettingError(f"Expected `labels` in every batch, but found only: {', '.join(batch)}.")
    return cast("Tensor", batch["labels"])


def _with_minority_metric(args: TrainingArguments) -> TrainingArguments:
    """The arguments with macro-F1 where the Trainer falls back to the loss; the caller's stay as they are."""
    if args.metric_for_best_model not in (None, "loss"):
        return args
    args = copy.copy(args)
    args.metric_for_best_model, args.greater_is_better = EVALUATION_METRICS[0], True
    return args


def _reject_ignored(args: TrainingArguments, kwargs: Mapping[str, Any]) -> None:
    if kwargs.get("compute_loss_func") is not None:
        raise SettingError("Give the loss as `loss`, a tailwise Loss or its name, instead of `compute_loss_func`.")
    if args.label_smoothing_factor:
        raise SettingError("`label_smoothing_factor` has no effect here: the loss is `loss`. Leave it at 0.")
    if args.train_sampling_strategy != "random":
        raise SettingError(
            f"train_sampling_strategy={args.train_sampling_strategy!r} has no effect here: `sampler` decides the "
            "order. Leave it unset."
        )
    config: Any = args.accelerator_config
    if config.split_batches or config.dispatch_batches:
        raise SettingError(
            "`split_batches` and `dispatch_batches` have no effect here: the sampler's plan is dealt over the ranks, "
            "`per_device_train_batch_size` rows each. Leave them unset."
        )
