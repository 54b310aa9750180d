"""What the final layer of a model sees of a split, and the start that is found on it, kept in the folder of the run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from scipy.sparse import issparse

from tailwise.models.final_layer import without_final_layer
from tailwise.models.finetuned import length_sorted_batches
from tailwise.sampling import NaturalSampler, SentenceFactorSampler
from tailwise.training.components import sampled_prior
from tailwise.training.head_start import HeadRows, HeadStart

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from tailwise.sampling import PlannedSampler
    from tailwise.stages.recipe import Component
    from tailwise.training.finetune_rows import TokenizedRows

__all__ = ["class_draws", "final_inputs", "head_rows", "kept_start", "row_draws"]

#: epochs of a sampler over label sets over which draws are averaged
_EPOCHS = 8


def final_inputs(
    model: PreTrainedModel,
    layer: str,
    rows: TokenizedRows,
    tokenizer: PreTrainedTokenizerBase,
    *,
    width: int,
    by_token: bool = False,
    bf16: bool = False,
    told: Callable[[int], None] | None = None,
) -> Tensor:
    """Inputs of the final layer in evaluation mode, one row per text, or per token that has a label.

    Args:
        model: the model; it is left in evaluation mode.
        layer: name of its final layer.
        rows: model inputs.
        tokenizer: pads them.
        width: D, what the final layer takes.
        by_token: the final layer sees every token; those with a label from 0 on are taken.
        bf16: compute in bfloat16.
        told: called with the number of rows after every batch.

    Returns:
        ``(N, D)``, float32, in the order of the rows.
    """
    model.eval()
    wanted = [np.flatnonzero(np.asarray(row) >= 0) for row in rows.labels] if by_token else []
    ends = np.cumsum([places.size for places in wanted]) if by_token else np.arange(1, len(rows) + 1)
    features = torch.empty(int(ends[-1]) if len(rows) else 0, width)
    batches = length_sorted_batches(tokenizer, rows.encoded, 64, model.device) if len(rows) else ()
    with (
        torch.inference_mode(),
        torch.autocast(model.device.type, torch.bfloat16, enabled=bf16),
        without_final_layer(model, layer),
    ):
        for numbers, batch in batches:
            seen = model(**batch).logits.float().cpu()
            if not by_token:
                features[torch.from_numpy(numbers)] = seen
            for place, row in enumerate(numbers if by_token else ()):
                features[ends[row] - wanted[row].size : ends[row]] = seen[place, torch.from_numpy(wanted[row])]
            if told is not None:
                told(len(numbers))
    return features


def head_rows(
    features: Tensor,
    rows: TokenizedRows,
    num_classes: int,
    *,
    class_weight: NDArray[np.float64] | None = None,
    row_weight: NDArray[np.float64] | None = None,
) -> HeadRows:
    """Features with their targets; rows of classes that training does not have are left out.

    Args:
        features: from `final_inputs`, ``(N, D)``.
        rows: of the same split.
        num_classes: C.
        class_weight: how often rows of each class are drawn, ``(C,)``; None for all alike.
        row_weight: how often each of `rows` is drawn; None for all alike.
    """
    if issparse(rows.labels):
        sets = cast("csr_matrix", rows.labels)
        return HeadRows(features, sets, None if row_weight is None else torch.from_numpy(row_weight))
    labels = [np.atleast_1d(np.asarray(row, dtype=np.int64)) for row in rows.labels]
    target = np.concatenate([np.zeros(0, dtype=np.int64), *labels])
    row = np.repeat(np.arange(len(labels)), [part.size for part in labels])[target >= 0]
    target = target[target >= 0]
    known = target < num_classes
    target, row = target[known], row[known]
    weight = row_weight[row] if row_weight is not None else None
    weight = class_weight[target] if class_weight is not None else weight
    return HeadRows(features[torch.from_numpy(known)], target, None if weight is None else torch.from_numpy(weight))


def class_draws(sampler: Component, counts: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """How often a sampler draws a row of each class, on average 1 per row, ``(C,)``; None for all alike.

    Args:
        sampler: one over classes; before any scores if it goes by scores.
        counts: training rows per class, ``(C,)``.
    """
    if sampler.name == "natural":
        return None
    shares = sampled_prior(sampler, counts)
    ratio: NDArray[np.float64] = np.divide(shares * counts.sum(), counts, out=np.zeros(counts.size), where=counts > 0)
    return ratio


def row_draws(sampler: PlannedSampler, rows: int) -> NDArray[np.float64] | None:
    """How often a sampler draws each row in its first epochs, on average 1 per row, ``(N,)``; None for all alike.

    Args:
        sampler: one over sentences or label sets.
        rows: N.
    """
    if isinstance(sampler, NaturalSampler):
        return None
    if isinstance(sampler, SentenceFactorSampler):
        factors: NDArray[np.float64] = sampler.factors() / sampler.factors().mean()
        return factors
    drawn = sum(np.bincount(sampler.plan(epoch), minlength=rows) for epoch in range(_EPOCHS))
    counts: NDArray[np.float64] = np.asarray(drawn, dtype=np.float64)
    counts /= counts.mean()
    return counts


def kept_start(path: Path, compute: Callable[[], HeadStart], *, write: bool) -> HeadStart:
    """The start that an earlier process of the run left at `path`; otherwise a new one, left there if `write`."""
    if path.exists():
        with safe_open(path, "pt") as kept:
            bias = kept.get_tensor("bias") if "bias" in kept.keys() else None  # noqa: SIM118  (not a mapping)
            return HeadStart(kept.get_tensor("weight"), bias, json.loads(kept.metadata()["facts"]))
    start = compute()
    if write:
        tensors = {"weight": start.weight} if start.bias is None else {"weight": start.weight, "bias": start.bias}
        draft = path.with_suffix(".part")
        save_file({name: t.contiguous() for name, t in tensors.items()}, draft, {"facts": json.dumps(start.facts)})
        draft.replace(path)
    return start
