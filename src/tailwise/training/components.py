"""From the components a recipe names to objects: losses, samplers and post-hoc steps.

A parameter that only the data know (class counts and names, number of classes, seed) is filled in where the constructor
takes it and the recipe leaves it open.

Which counts a loss gets under re-sampling. Numbers that correct the class prior follow what the sampler draws: a
class-weight rule and the prior of balanced softmax are taken from the drawn counts, so that after class-aware sampling
the weights are equal and there is no prior left to take out. Numbers that measure how well a class is known follow the
training data: the margins of LDAM are taken from the natural counts. Nothing is corrected twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch

from tailwise.data.task import LabelStructure
from tailwise.errors import SettingError
from tailwise.evaluation.metrics import METRICS, metric_function
from tailwise.evaluation.unit_metrics import metric_names
from tailwise.losses import LOSSES, SINGLE_LABEL_COUNTERPARTS, class_weights
from tailwise.losses.confusion_aware import unset_costs
from tailwise.posthoc import POSTHOC, FitContext
from tailwise.posthoc.base import compose
from tailwise.sampling import SAMPLERS, SENTENCE_SAMPLERS
from tailwise.stages.recipe import Component

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from tailwise.losses import Loss
    from tailwise.posthoc import AffineStep
    from tailwise.posthoc.base import Metric
    from tailwise.registry import Registry
    from tailwise.sampling import LabelSampler
    from tailwise.stages.recipe import Recipe, Stage

__all__ = [
    "FOLDS", "build_loss", "build_sampler", "cross_fitted_logits", "effective_prior", "filled", "fit_posthoc",
    "require_complete", "row_metric", "sampled_prior", "stage_loss",
]  # fmt: skip

#: parts of the validation split on which post-hoc steps are judged, fitted on the other parts
FOLDS = 5


def build_sampler(
    component: Component,
    labels: ArrayLike,
    *,
    seed: int,
    num_classes: int | None = None,
    num_samples: int | None = None,
    draws: int | None = None,
) -> LabelSampler:
    """The sampler of a stage.

    Args:
        component: name and parameters.
        labels: class index of every training row, ``(N,)``.
        seed: of its random stream.
        num_classes: C.
        num_samples: length of an epoch.
        draws: rows that the stage draws in all, for a sampler that changes in the course of it.

    Raises:
        UnknownNameError: no such sampler.
        SettingError: a parameter it does not have, does not accept or needs and does not get.
    """
    data: dict[str, Any] = {"seed": seed, "num_classes": num_classes, "num_samples": num_samples}
    params, known = filled(SAMPLERS, component, data), SAMPLERS.parameters(component.name)
    if draws is not None and "num_epochs" in known:
        params = {"num_epochs": draws / (params.get("num_samples") or np.size(labels)), **params}
    require_complete("sampler", component, known, {"labels": labels, **params})
    return SAMPLERS[component.name](labels, **params)


def build_loss(
    component: Component,
    *,
    class_counts: ArrayLike,
    class_names: Sequence[str] | None = None,
    sampler: Component | None = None,
    catch_all: str | None = None,
    cell_counts: ArrayLike | None = None,
    shares: NDArray[np.float64] | None = None,
) -> Loss:
    """The loss of a stage.

    Args:
        component: name and parameters.
        class_counts: training instances per class, ``(C,)``.
        class_names: names of the classes, ``(C,)``.
        sampler: the sampler of the stage, which decides what there is left to correct; None for natural sampling.
        catch_all: name of the class that holds everything of no interest, for losses that treat it apart.
        cell_counts: training instances per class and group, ``(C, G)``, for losses that need groups.
        shares: what the sampler draws, ``(C,)``, for one over sentences, of which the counts do not tell it.

    Raises:
        UnknownNameError: no such loss, sampler, class-weight rule or class.
        SettingError: a parameter it does not have, does not accept or needs and does not get; a loss over several
            labels per row; confusion costs that nothing would set.
    """
    _require_single_label(component)
    natural = np.asarray(class_counts, dtype=np.float64)
    drawn = natural if sampler is None else sampled_prior(sampler, natural, shares) * natural.sum()
    data = {
        "class_counts": natural,
        "training_counts": natural,
        "class_names": class_names,
        "num_classes": natural.size,
        "catch_all": catch_all if class_names is not None else None,
    }
    if cell_counts is not None:
        cells = np.asarray(cell_counts)
        data |= {"cell_counts": cells, "num_groups": cells.shape[1], "group_counts": cells.sum(axis=0)}
    params = filled(LOSSES, component, data)
    known = LOSSES.parameters(component.name)
    if "losses" in known:
        context: dict[str, Any] = {
            "class_names": class_names, "sampler": sampler, "catch_all": catch_all, "cell_counts": cell_counts,
            "shares": shares,
        }  # fmt: skip
        parts = [Component.from_data(part, f"{component.name}, losses") for part in params.get("losses", ())]
        params["losses"] = [build_loss(part, class_counts=class_counts, **context) for part in parts]
    if "prior" in known or "rule" in known:
        # A loss that takes a prior out of the logits, or weights from a rule of its own, goes by what is drawn.
        params["class_counts"] = component.params.get("class_counts", drawn if params.get("prior") is None else None)
    if "class_weights" in known:
        params["class_weights"] = _weights_for_drawn(params, known, drawn)
    require_complete("loss", component, known, params)
    if (reason := unset_costs(component.name, params)) is not None:
        raise SettingError(reason)
    return LOSSES[component.name](**params)


def stage_loss(
    stage: Stage,
    class_counts: ArrayLike,
    class_names: Sequence[str] | None = None,
    catch_all: str | None = None,
    shares: NDArray[np.float64] | None = None,
) -> Loss:
    """The loss of a stage with its sampler; the arguments are those of `build_loss`."""
    return build_loss(
        stage.loss,
        class_counts=class_counts,
        class_names=class_names,
        sampler=stage.sampler,
        catch_all=catch_all,
        shares=shares,
    )


def effective_prior(
    stage: Stage,
    class_counts: ArrayLike,
    num_classes: int,
    class_names: Sequence[str] | None = None,
    catch_all: str | None = None,
    drawn: NDArray[np.float64] | None = None,
    shares: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """The class distribution that the logits of a stage express, ``(C,)``.

    That is what its sampler draws from training data with these class counts ``(C,)``, as its loss shifts it. Give
    what was `drawn` ``(C,)`` where the sampler went by the scores of the training, and the `shares` of `build_loss`.

    Raises:
        SettingError: `class_counts` is not one number per class.
    """
    counts = np.asarray(class_counts)
    if counts.shape != (num_classes,):
        raise SettingError(f"Expected one training count per class, ({num_classes},), but got shape {counts.shape}.")
    drawn = sampled_prior(stage.sampler, counts, shares) if drawn is None else drawn
    loss = stage_loss(stage, counts, class_names, catch_all, shares)
    return np.asarray(loss.effective_prior(torch.from_numpy(drawn)).numpy(), dtype=np.float64)


def fit_posthoc(
    recipe: Recipe,
    logits: NDArray[Any],
    target: NDArray[np.int64],
    *,
    prior: NDArray[np.float64],
    metric: Metric,
    weight: NDArray[Any] | None = None,
    bias: NDArray[Any] | None = None,
) -> tuple[AffineStep, ...]:
    """Fit the post-hoc steps of a recipe on validation, each on the scores that the ones before it leave.

    Args:
        recipe: names the steps.
        logits: raw validation scores, ``(N, C)``.
        target: validation labels, ``(N,)``; rows of classes that training does not have (index C and above) are left
            out.
        prior: what the raw scores express, ``(C,)``; see `effective_prior`.
        metric: what tuned steps maximise.
        weight: rows of an affine head, ``(C, D)``, or None where the head has no such form.
        bias: its bias, ``(C,)``.

    Raises:
        UnknownNameError: no such step.
        SettingError: a parameter it does not have; a step that needs an affine head on another one; no row left.
    """
    num_classes = logits.shape[1]
    known = np.asarray(target) < num_classes
    logits, target = np.asarray(logits)[known], np.asarray(target)[known]
    if recipe.posthoc and not target.size:
        raise SettingError(
            f"The post-hoc steps of {recipe.name!r} are fitted on validation, but none of its rows has a class that "
            f"training has. Give a validation split with the classes of training."
        )
    steps: list[AffineStep] = []
    for component in recipe.posthoc:
        method = POSTHOC[component.name](**filled(POSTHOC, component, {}))
        step = method.fit(logits, target, FitContext(prior, metric, weight, bias))
        prior, logits = method.effective_prior(prior, step), step(logits)
        if weight is not None:
            weight, bias = step.fold(weight, np.zeros(num_classes) if bias is None else bias)
        steps.append(step)
    return tuple(steps)


def cross_fitted_logits(
    recipe: Recipe,
    logits: NDArray[Any],
    target: NDArray[np.int64],
    *,
    prior: NDArray[np.float64],
    metric: Metric,
    weight: NDArray[Any] | None = None,
    bias: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Validation scores after the post-hoc steps, those of each row fitted without the row, ``(N, C)``.

    Thresholds that were fitted on the rows they are judged on look better than they are, so a choice among methods by
    such scores favours the method that fits most. Each of `FOLDS` parts, stratified by class, is scored with steps
    fitted on the others; a part whose others have no class of training left takes the raw scores.

    The arguments are those of `fit_posthoc`; the scores are not changed.
    """
    target, num_classes = np.asarray(target), logits.shape[1]
    if not recipe.posthoc or not (target < num_classes).any():
        return logits
    order = np.random.Generator(np.random.PCG64(FOLDS)).permutation(target.size)
    order = order[np.argsort(target[order], kind="stable")]
    part = np.empty(target.size, dtype=np.int64)
    part[order] = np.arange(target.size) % FOLDS
    adjusted = logits.copy()
    for fold in range(min(FOLDS, target.size)):
        others, own = part != fold, part == fold
        if not (target[others] < num_classes).any():
            continue
        steps = fit_posthoc(
            recipe, logits[others], target[others], prior=prior, metric=metric, weight=weight, bias=bias
        )
        adjusted[own] = compose(steps, num_classes)(logits[own])
    return adjusted


def row_metric(name: str, num_classes: int) -> Metric:
    """What tuned post-hoc steps maximise over rows; macro-F1 where the metric is not one of rows (spans, arcs).

    Raises:
        UnknownNameError: no label structure has such a metric.
    """
    elsewhere = any(name in metric_names(structure) for structure in get_args(LabelStructure))
    return metric_function(name if name in METRICS or not elsewhere else "macro_f1", num_classes)


def sampled_prior(
    component: Component, class_counts: NDArray[Any], shares: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """What a sampler draws from data with these class counts, ``(C,)``; before any scores if it goes by scores.

    A sampler over sentences goes by what is in them, which counts do not tell: for it these are the given `shares`
    ``(C,)``, or those of the counts.
    """
    if shares is not None:
        return shares
    if component.name in SENTENCE_SAMPLERS:
        return np.asarray(class_counts / class_counts.sum(), dtype=np.float64)
    labels = np.repeat(np.arange(class_counts.size), class_counts.astype(np.int64))
    draws = 2 * labels.size  # over a whole run progress is half way on average, however long the run is
    return build_sampler(component, labels, seed=0, num_classes=class_counts.size, draws=draws).effective_prior()


def _require_single_label(component: Component) -> None:
    """Refuse a loss over several labels per row, naming the nearest one that fits."""
    if not LOSSES[component.name].multilabel:
        return
    nearest = SINGLE_LABEL_COUNTERPARTS.get(component.name, "ce")
    raise SettingError(
        f"The loss {component.name!r} is for several labels per row, but the data have one label per row. The nearest "
        f"one for these data is {nearest!r}."
    )


def require_complete(kind: str, component: Component, known: Mapping[str, Any], params: Mapping[str, Any]) -> None:
    """Refuse a component that lacks a parameter: neither set in the recipe nor given by the data.

    Raises:
        SettingError: names the parameters.
    """
    needed = [name for name, parameter in known.items() if parameter.default is parameter.empty]
    missing = [name for name in needed if params.get(name) is None]
    if missing:
        raise SettingError(
            f"The {kind} {component.name!r} needs {', '.join(f'`{name}`' for name in missing)}, which these data do "
            f"not give. Set it in the recipe, or take another {kind}."
        )


def filled(registry: Registry[Any], component: Component, data: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a component, with those of `data` that its constructor takes and the recipe leaves open."""
    params = registry.check_parameters(component.name, component.params)
    known = registry.parameters(component.name)
    return {**{key: value for key, value in data.items() if key in known}, **params}


def _weights_for_drawn(params: Mapping[str, Any], known: Mapping[str, Any], drawn: NDArray[np.float64]) -> Any:
    """Class weights of a rule, worked out from what is drawn; anything else as it is."""
    rule = params.get("class_weights", known["class_weights"].default)
    if not isinstance(rule, str):
        return rule
    options = {key: params.get(key, known[key].default) for key in ("beta", "power") if key in known}
    return class_weights(rule, drawn, class_names=params.get("class_names"), **options)
