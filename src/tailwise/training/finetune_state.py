"""What a fine-tuning run leaves in its folder after each trained stage: the weights and how far it is."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_model, save_model

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

__all__ = ["RunState"]


@dataclass
class RunState:
    """How far a run is.

    Attributes:
        stages_done: number of leading stages whose training is done.
        log: losses and validation scores so far.
        drawn: the class distribution that the sampler of the last finished stage drew at its end, ``(C,)``.
    """

    stages_done: int = 0
    log: list[dict[str, Any]] = field(default_factory=list)
    drawn: list[float] | None = None

    @classmethod
    def read(cls, folder: Path) -> RunState:
        """The state of the run in `folder`; a fresh one where there is none."""
        path = folder / "state.json"
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else cls()

    def finish_stage(self, folder: Path, model: nn.Module, stages_done: int) -> None:
        """Write the weights, then the state that names them, so that a kill in between repeats the stage."""
        self.stages_done = stages_done
        save_model(model, str(self._weights(folder)))
        draft = folder / "state.json.part"
        draft.write_text(json.dumps(asdict(self)), encoding="utf-8")
        draft.replace(folder / "state.json")

    def load_weights(self, folder: Path, model: nn.Module) -> None:
        """Put the weights of the last finished stage into `model`."""
        load_model(model, str(self._weights(folder)))

    def _weights(self, folder: Path) -> Path:
        return folder / f"stage-{self.stages_done}.safetensors"
