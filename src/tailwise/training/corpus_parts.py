"""Loss, prior and post-hoc steps of a recipe on a corpus, whether its rows have one class or several labels.

Both engines build them here, so that a recipe means the same in either; how they are built for each kind of rows is the
business of `tailwise.training.components` and `tailwise.training.multilabel_components`.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

from tailwise.errors import SettingError
from tailwise.training.components import build_loss, cross_fitted_logits, effective_prior, fit_posthoc, row_metric
from tailwise.training.corrections import refuse_double_correction, refuse_double_label_correction
from tailwise.training.multilabel_components import (
    build_label_loss,
    cross_fitted_label_logits,
    drawn_rates,
    fit_label_posthoc,
    label_metric,
    label_prior,
    trained_labels,
)
from tailwise.training.sentence_components import sentence_shares

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from tailwise.data.corpus import Corpus
    from tailwise.data.labels import LabelSpace
    from tailwise.losses import Loss
    from tailwise.posthoc.base import AffineStep
    from tailwise.stages.recipe import Component, Recipe, Stage

__all__ = [
    "FittedSteps", "corpus_loss", "corpus_prior", "drawn_shares", "fit_corpus_steps", "refuse_corpus_double_correction",
    "stage_loss",
]  # fmt: skip


class FittedSteps(NamedTuple):
    """Post-hoc steps, and the validation scores ``(M, C)`` under steps that were fitted on other rows."""

    steps: tuple[AffineStep, ...]
    held_out: NDArray[Any]


def corpus_loss(
    loss: Component,
    sampler: Component,
    space: LabelSpace,
    targets: csr_matrix | None = None,
    shares: NDArray[np.float64] | None = None,
) -> Loss:
    """The loss of a stage over the classes or labels of a corpus.

    Args:
        loss: name and parameters.
        sampler: of the same stage, which decides what there is left to correct.
        space: classes or labels.
        targets: labels of the training rows, ``(N, L)``, where a row may have several.
        shares: what the sampler draws of every tag, ``(C,)``, if it is over sentences; None otherwise.

    Raises:
        UnknownNameError: no such loss.
        SettingError: a parameter it does not have, does not accept or needs and does not get; a loss that gives no
            number, or that needs groups, which a corpus does not have.
    """
    if targets is not None:
        built = build_label_loss(loss, space, drawn_rates(sampler, targets))
    else:
        built = build_loss(
            loss,
            class_counts=space.counts,
            class_names=space.names,
            sampler=sampler,
            catch_all=space.catch_all,
            shares=shares,
        )
    if built.reduction == "none":
        raise SettingError(f"The loss {loss.name!r} has `reduction` = 'none'; training needs a number.")
    if built.requires_group:
        raise SettingError(
            f"The loss {loss.name!r} needs a group per row, which a corpus does not have. Use it with "
            "`ImbalanceTrainer` and a column `group`."
        )
    return built


def refuse_corpus_double_correction(recipe: Recipe, corpus: Corpus) -> None:
    """Refuse a recipe of which a stage corrects for the class sizes twice; see `tailwise.training.corrections`.

    Raises:
        SettingError: the stage, its sampler and its loss.
    """
    space = corpus.label_space
    if corpus.task.label_structure == "multi":
        refuse_double_label_correction(recipe, trained_labels(corpus.label_matrix("train"), space), space)
    else:
        shares_of = functools.partial(drawn_shares, corpus=corpus)
        refuse_double_correction(recipe, space.counts, space.names, space.catch_all, shares_of)


def corpus_prior(stage: Stage, corpus: Corpus, drawn: NDArray[Any] | None = None) -> NDArray[Any]:
    """What the scores of a stage express: the distribution of the classes, or the rate of every label, ``(C,)``.

    Args:
        stage: sampler and loss.
        corpus: the data.
        drawn: what was drawn in the end ``(C,)``, for samplers that go by scores; None where that is not known.
    """
    space = corpus.label_space
    if corpus.task.label_structure == "multi":
        return label_prior(stage, trained_labels(corpus.label_matrix("train"), space), space)
    shares = drawn_shares(stage, corpus)
    return effective_prior(stage, space.counts, space.num_classes, space.names, space.catch_all, drawn, shares)


def drawn_shares(stage: Stage, corpus: Corpus) -> NDArray[np.float64] | None:
    """What the sampler of a stage draws of every tag, ``(C,)``, if it is over sentences; None otherwise."""
    if corpus.task.label_structure != "tags":
        return None
    return sentence_shares(stage.sampler, corpus.labels("train"), corpus.offsets("train"), corpus.label_space)


def stage_loss(stage: Stage, corpus: Corpus) -> Loss:
    """The loss of a stage, with its parameters and on these data."""
    several = corpus.task.label_structure == "multi"
    space = corpus.label_space
    targets = trained_labels(corpus.label_matrix("train"), space) if several else None
    shares = None if several else drawn_shares(stage, corpus)
    return corpus_loss(stage.loss, stage.sampler, space, targets, shares)


def fit_corpus_steps(
    recipe: Recipe,
    scores: NDArray[Any],
    corpus: Corpus,
    *,
    prior: NDArray[Any],
    metric: str,
    weight: NDArray[Any] | None,
    bias: NDArray[Any] | None,
    unfitted: NDArray[Any] | None = None,
) -> FittedSteps:
    """Fit the post-hoc steps of a recipe on the validation split; without steps the scores stay as they are.

    Args:
        recipe: names the steps.
        scores: raw validation scores, ``(M, C)``.
        corpus: gives the validation targets.
        prior: what the scores express; see `corpus_prior`.
        metric: what tuned steps maximise.
        weight: rows of an affine head, ``(C, D)``, or None.
        bias: its bias, ``(C,)``, or None.
        unfitted: raw validation scores for which nothing was fitted on the row itself, where `scores` are not that.

    Raises:
        UnknownNameError: no such step or metric.
        SettingError: a parameter a step does not have, a step that does not fit the head, or no row to fit it on.
    """
    facts: dict[str, Any] = {"prior": prior, "weight": weight, "bias": bias}
    judged = scores if unfitted is None else unfitted
    if corpus.task.label_structure == "multi":
        labels = trained_labels(corpus.label_matrix("validation"), corpus.label_space)
        facts["metric"] = label_metric(metric)
        steps = fit_label_posthoc(recipe, scores, labels, **facts)
        return FittedSteps(steps, cross_fitted_label_logits(recipe, judged, labels, **facts))
    target = corpus.labels("validation")
    facts["metric"] = row_metric(metric, corpus.label_space.num_classes)
    steps = fit_posthoc(recipe, scores, target, **facts)
    return FittedSteps(steps, cross_fitted_logits(recipe, judged, target, **facts))
