"""Stage schedules: how one stage becomes several.

    single    train once.
    drw       deferred re-weighting, Cao et al., NeurIPS 2019: the loss is unweighted for the first share of the steps;
              then the same loss with effective-number class weights, at a lower learning rate.
    drs       deferred re-sampling, Cao et al., NeurIPS 2019: the sampler of the recipe for the first share of the
              steps, then a class-balanced one, at a lower learning rate.
    crt       classifier re-training, Kang et al., ICLR 2020: natural training of all parameters; then the encoder is
              frozen and a fresh head is trained on class-balanced batches.
    ncm       nearest class mean, Kang et al., ICLR 2020: after natural training the head is replaced by class means.

Survey section 3.4. Differs from the papers in the lengths, which are shares of the steps instead of epochs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tailwise.errors import SettingError
from tailwise.registry import Registry
from tailwise.stages.recipe import Component, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["SCHEDULES", "class_means", "classifier_retraining", "deferred_resampling", "deferred_reweighting", "single"]

SCHEDULES: Registry[Callable[..., tuple[Stage, ...]]] = Registry(
    "schedule",
    None,
    {
        "single": "tailwise.stages.schedules:single",
        "drw": "tailwise.stages.schedules:deferred_reweighting",
        "drs": "tailwise.stages.schedules:deferred_resampling",
        "crt": "tailwise.stages.schedules:classifier_retraining",
        "ncm": "tailwise.stages.schedules:class_means",
    },
    given=("stage", "head"),
)


def single(stage: Stage, head: Component) -> tuple[Stage, ...]:
    """The stage as it is."""
    del head
    return (stage,)


def deferred_reweighting(
    stage: Stage,
    head: Component,
    *,
    start: float = 0.6,
    class_weights: str = "effective_number",
    beta: float = 0.9999,
    learning_rate_scale: float = 0.1,
) -> tuple[Stage, ...]:
    """Unweighted up to `start` (a share of the steps), then re-weighted with effective-number weights of base `beta`.

    The paper starts at 0.8 of 200 epochs with the learning rate cut to 1/100; a short fine-tuning needs more time with
    the weights, hence 0.6 and 1/10 (options reproduce the paper).

    Raises:
        SettingError: `start` outside (0, 1).
    """
    del head
    if not 0.0 < start < 1.0:
        raise SettingError(f"Expected `start` to lie between 0 and 1, but got {start!r}.")
    parameters = {"beta": beta} if class_weights == "effective_number" else {}
    loss = "wce" if stage.loss.name == "ce" else stage.loss.name
    weighted = Component(loss, {**stage.loss.params, "class_weights": class_weights, **parameters})
    later = replace(
        stage, loss=weighted, share=round(1.0 - start, 6), learning_rate_scale=learning_rate_scale, head=None
    )
    return (replace(stage, share=start), later)


def deferred_resampling(
    stage: Stage,
    head: Component,
    *,
    start: float = 0.6,
    sampler: str | Mapping[str, Any] = "cas",
    learning_rate_scale: float = 0.1,
) -> tuple[Stage, ...]:
    """The stage's own sampler up to `start` (a share of the steps), then `sampler`, class-aware unless told otherwise.

    Lengths and learning rates differ from the paper as those of `deferred_reweighting` do.

    Raises:
        SettingError: `start` outside (0, 1).
    """
    del head
    if not 0.0 < start < 1.0:
        raise SettingError(f"Expected `start` to lie between 0 and 1, but got {start!r}.")
    later = replace(
        stage,
        sampler=Component.from_data(sampler, "sampler"),
        share=round(1.0 - start, 6),
        learning_rate_scale=learning_rate_scale,
        head=None,
    )
    return (replace(stage, share=start), later)


def classifier_retraining(stage: Stage, head: Component, *, share: float = 0.3) -> tuple[Stage, ...]:
    """Natural training, then a fresh head on class-balanced batches for the last `share` of the steps.

    Raises:
        SettingError: `share` outside (0, 1).
    """
    if not 0.0 < share < 1.0:
        raise SettingError(f"Expected `share` to lie between 0 and 1, but got {share!r}.")
    retrain = Stage(sampler=Component("cas"), loss=stage.loss, trainable="head", share=share, head=head)
    return (replace(stage, share=round(1.0 - share, 6)), retrain)


def class_means(
    stage: Stage, head: Component, *, transform: str = "centre-l2", scale: float = 10.0
) -> tuple[Stage, ...]:
    """Natural training, then class means in place of the head (no step of their own)."""
    del head
    means = Component("class-means", {"transform": transform, "scale": scale})
    return (stage, Stage(trainable="head", share=0.0, head=means))
