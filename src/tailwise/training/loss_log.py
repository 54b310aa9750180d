"""What a training log says about the loss: where it began and where it ended, stage by stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Ends", "ends_of", "loss_facts", "loss_window"]

Ends = tuple[float, float]


def loss_window(steps: int, epoch: int) -> int:
    """Steps over which the loss is averaged at either end: an epoch, but at most half of all `steps`."""
    return max(1, min(epoch, steps // 2))


def ends_of(losses: Sequence[float], epoch: int) -> Ends:
    """Mean loss of the first and of the last steps of a stage.

    Args:
        losses: one per step, at least one.
        epoch: steps per epoch.
    """
    window = loss_window(len(losses), epoch)
    return sum(losses[:window]) / window, sum(losses[-window:]) / window


def loss_facts(stages: Sequence[Ends]) -> dict[str, Any]:
    """Both ends of every stage that was trained, and where the loss ended (None: nothing was)."""
    return {"stage_losses": [list(ends) for ends in stages], "final_train_loss": stages[-1][1] if stages else None}
