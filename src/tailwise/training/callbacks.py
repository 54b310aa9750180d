"""Callbacks of the fine-tuning engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from tailwise.training.engine import Progress

__all__ = ["ProgressReporter"]


class ProgressReporter(TrainerCallback):
    """Tell `progress` after every optimiser step how far the whole recipe is.

    Args:
        progress: what to call.
        what: name of the work.
        before: steps of earlier stages.
        total: steps of all stages.
    """

    def __init__(self, progress: Progress, what: str, before: int, total: int) -> None:
        self.progress = progress
        self.what = what
        self.before = before
        self.total = total

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Report the step."""
        del args, control, kwargs
        self.progress(self.what, self.before + state.global_step, self.total)
