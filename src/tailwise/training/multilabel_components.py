"""From the components of a recipe to objects, for rows with several labels: samplers, losses and post-hoc steps.

The counterpart of `tailwise.training.components`. Targets are a sparse matrix of ones, ``(N, L)``; only the validation
targets, on which post-hoc steps are fitted, are made dense as a whole.

Under re-sampling, weights and biases against the rate of a label are taken from the rates that the sampler draws. What
measures how well a label is known (the margins of LDAM), and what undoes that a row brings all its labels along (r_ij
of the distribution-balanced loss), are taken from the training counts. Nothing is corrected twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tailwise.errors import SettingError
from tailwise.evaluation.metrics import COUNT_METRICS, Counts
from tailwise.losses import LOSSES
from tailwise.posthoc import POSTHOC, FitContext
from tailwise.posthoc.base import compose
from tailwise.sampling import MULTILABEL_SAMPLERS, SAMPLERS
from tailwise.stages.recipe import Component
from tailwise.training.components import FOLDS, filled, require_complete

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from tailwise.data.labels import LabelSpace
    from tailwise.losses import Loss
    from tailwise.posthoc import AffineStep
    from tailwise.sampling.base import PlannedSampler
    from tailwise.stages.recipe import Recipe, Stage

    LabelMetric = Callable[[NDArray[np.bool_], NDArray[np.bool_]], float]

__all__ = [
    "build_label_loss", "build_label_sampler", "cross_fitted_label_logits", "drawn_rates", "fit_label_posthoc",
    "label_metric", "label_prior", "prior_logits", "trained_labels",
]  # fmt: skip


def trained_labels(targets: csr_matrix, space: LabelSpace) -> csr_matrix:
    """The columns of the labels that can be learnt, ``(N, L)``."""
    return targets[:, : space.num_classes]


def build_label_sampler(
    component: Component, targets: csr_matrix, *, seed: int, num_samples: int | None = None
) -> PlannedSampler:
    """The sampler of a stage over the label sets of the training rows, ``(N, L)``.

    Raises:
        UnknownNameError: no such sampler.
        SettingError: a parameter it does not have or does not accept.
    """
    data = {"seed": seed, "num_classes": targets.shape[1], "num_samples": num_samples}
    if component.name == "natural":
        rows = np.zeros(targets.shape[0], dtype=np.int64)
        return SAMPLERS["natural"](rows, **filled(SAMPLERS, component, {**data, "num_classes": 1}))
    return MULTILABEL_SAMPLERS[component.name](targets, **filled(MULTILABEL_SAMPLERS, component, data))


def drawn_rates(sampler: Component, targets: csr_matrix) -> NDArray[np.float64] | None:
    """The rate of every label in the rows that a sampler draws, ``(L,)``; None for natural sampling.

    Args:
        sampler: name and parameters.
        targets: labels of the training rows, ``(N, L)``.
    """
    if sampler.name == "natural":
        return None
    rates = build_label_sampler(sampler, targets, seed=0).effective_prior()
    return np.minimum(rates, 1.0)  # the label of all rows may come out above 1 by a rounding error


def build_label_loss(component: Component, space: LabelSpace, drawn: NDArray[np.float64] | None = None) -> Loss:
    """The loss of a stage over the labels of `space`.

    Args:
        component: name and parameters.
        space: the labels and their training counts.
        drawn: the rates that the sampler of the stage draws, ``(L,)``, which decide what there is left to correct; None
            for natural sampling. See `drawn_rates`.

    Raises:
        UnknownNameError: no such loss, or an unknown label in its parameters.
        SettingError: a parameter it does not have, does not accept or needs and does not get.
    """
    natural = np.asarray(space.counts, dtype=np.float64)
    counts = natural
    if drawn is not None and not LOSSES[component.name].counts_measure_evidence:
        counts = drawn * max(space.num_rows or 1, 1)
    data = {
        "class_counts": counts,
        "training_counts": natural,
        "num_rows": space.num_rows,
        "class_names": space.names,
        "num_classes": space.num_classes,
    }
    params = filled(LOSSES, component, data)
    known = LOSSES.parameters(component.name)
    if "losses" in known:
        parts = [Component.from_data(part, f"{component.name}, losses") for part in params.get("losses", ())]
        params["losses"] = [build_label_loss(part, space, drawn) for part in parts]
    require_complete("loss", component, known, params)
    return LOSSES[component.name](**params)


def label_prior(stage: Stage, targets: csr_matrix, space: LabelSpace) -> NDArray[np.float64]:
    """The rate of every label that the scores of a stage express, ``(L,)``: what is drawn, as the loss shifts it."""
    drawn = drawn_rates(stage.sampler, targets)
    rates = np.array(space.prior if drawn is None else drawn)
    shifted = build_label_loss(stage.loss, space, drawn).effective_prior(torch.from_numpy(rates))
    return np.asarray(shifted.numpy(), dtype=np.float64)


def prior_logits(space: LabelSpace) -> torch.Tensor:
    """Log odds of every label, as far as the training rows can tell, ``(L,)``: where the biases of a head may start."""
    least = 0.5 / max(space.num_rows or 1, 1)
    return torch.logit(torch.from_numpy(np.clip(space.prior, least, 1.0 - least)))


def label_metric(name: str) -> LabelMetric:
    """A decision metric over labels: ``(target (N, L), predicted (N, L)) -> float``, both of truth values.

    Raises:
        SettingError: the metric is not a function of counts per label.
    """
    known = ("macro_f1", "micro_f1", "weighted_f1", "macro_precision", "macro_recall", "worst_class_f1")
    chosen = COUNT_METRICS[name] if name in known else COUNT_METRICS["macro_f1"]

    def of_labels(target: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> float:
        sums = [np.asarray(m.sum(axis=0), dtype=np.float64) for m in (target & predicted, target, predicted)]
        return float(chosen(Counts(sums[0], sums[1], sums[2], np.ones(target.shape[1], dtype=bool))))

    return of_labels


def fit_label_posthoc(
    recipe: Recipe,
    logits: NDArray[Any],
    targets: csr_matrix,
    *,
    prior: NDArray[np.float64],
    metric: LabelMetric,
    weight: NDArray[Any] | None = None,
    bias: NDArray[Any] | None = None,
) -> tuple[AffineStep, ...]:
    """Fit the post-hoc steps of a recipe on validation, each on the scores that the ones before it leave.

    Args:
        recipe: names the steps.
        logits: raw validation scores, ``(N, L)``.
        targets: validation labels, ``(N, L)``.
        prior: the rates that the raw scores express, ``(L,)``; see `label_prior`.
        metric: what tuned steps maximise; see `label_metric`.
        weight: rows of an affine head, ``(L, D)``, or None.
        bias: its bias, ``(L,)``.

    Raises:
        SettingError: a parameter that a step does not have; no validation row; a step that needs another head.
    """
    if recipe.posthoc and not targets.shape[0]:
        raise SettingError(f"The post-hoc steps of {recipe.name!r} are fitted on validation, but it has no row.")
    steps: list[AffineStep] = []
    logits, dense = np.asarray(logits), np.asarray(targets.todense(), dtype=np.int64)
    for component in recipe.posthoc:
        method = POSTHOC[component.name](**filled(POSTHOC, component, {}))
        step = method.fit(logits, dense, FitContext(prior, metric, weight, bias))
        prior, logits = method.effective_prior(prior, step), step(logits)
        if weight is not None:
            weight, bias = step.fold(weight, np.zeros(len(weight)) if bias is None else bias)
        steps.append(step)
    return tuple(steps)


def cross_fitted_label_logits(recipe: Recipe, logits: NDArray[Any], targets: csr_matrix, **facts: Any) -> NDArray[Any]:
    """Validation scores after the post-hoc steps, those of each row fitted without the row, ``(N, L)``.

    See `tailwise.training.components.cross_fitted_logits`; the parts are drawn at random. The further arguments are
    those of `fit_label_posthoc`; the scores are not changed.
    """
    rows = targets.shape[0]
    if not recipe.posthoc or rows < 2:
        return logits
    part = np.random.Generator(np.random.PCG64(FOLDS)).permutation(rows) % min(FOLDS, rows)
    adjusted = logits.copy()
    for fold in range(min(FOLDS, rows)):
        others, own = part != fold, part == fold
        steps = fit_label_posthoc(recipe, logits[others], targets[others], **facts)
        adjusted[own] = compose(steps, logits.shape[1])(logits[own])
    return adjusted
