"""How well the model in training recognises each class on rows it does not train on, for a sampler that goes by it.

The rows are divided among the ranks and every rank gets the predictions of all of them as integers, so that all ranks
compute the same scores to the bit and lay out the same plan.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tailwise.errors import SettingError
from tailwise.sampling import PerformanceSampler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from tailwise.sampling import PlannedSampler

    #: predict(rows (M,)) -> class indices (M,)
    Predict = Callable[[NDArray[np.int64]], NDArray[np.int64]]

__all__ = [
    "all_predictions", "batches_by_length", "give_scores", "read_sampler_state", "require_feedback", "restart_sampler",
    "write_sampler_state",
]  # fmt: skip

_STATE = "sampler.json"


def give_scores(sampler: PlannedSampler, epoch: int, predict: Predict) -> None:
    """Score the feedback rows of a sampler before it lays out an epoch, where it needs that.

    Args:
        sampler: any sampler; one without feedback rows is left alone.
        epoch: the epoch that is about to begin.
        predict: gives the predicted classes of rows; another class than those of the sampler counts as an error.
    """
    if isinstance(sampler, PerformanceSampler) and (rows := sampler.rows_to_score(epoch)).size:
        sampler.observe(predict(rows), from_epoch=epoch)


def require_feedback(sampler: PlannedSampler) -> PlannedSampler:
    """The sampler, if somebody scores what it goes by.

    Raises:
        SettingError: a sampler that goes by scores but holds no row out for them.
    """
    for part in (sampler, *getattr(sampler, "samplers", ())):
        if isinstance(part, PerformanceSampler) and not part.feedback_rows.size:
            raise SettingError(
                f"{type(part).__name__} goes by scores on rows that it holds out, but of {part.labels.size} rows it "
                "holds out none: no class has enough of them for `feedback_share`, or it is 0. Raise it, or take a "
                "sampler that goes by class sizes."
            )
    return sampler


def batches_by_length(examples: Sequence[Any], batch_size: int) -> Iterator[tuple[list[int], list[Any]]]:
    """Positions and examples in batches of similar length, so that there is little padding."""
    size = [_length(example) for example in examples]
    order = sorted(range(len(examples)), key=size.__getitem__)
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        yield places, [examples[i] for i in places]


def all_predictions(own: NDArray[np.int64], rank: int, world_size: int, number: int) -> Tensor:
    """The predictions of one rank, of rows ``rank, rank + world_size, ...``, at their places among zeros, ``(M,)``."""
    together = torch.zeros(number, dtype=torch.int64)
    together[rank::world_size] = torch.from_numpy(own)
    return together


def restart_sampler(sampler: PlannedSampler | None, start: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Take a sampler back to where the first training found it: the scores of that one are of no use to the next.

    Args:
        sampler: any sampler; one without a state is left alone.
        start: what an earlier call returned, None at the first training.

    Returns:
        The state to come back to, None for a sampler without one.
    """
    if sampler is None or not hasattr(sampler, "load_state_dict"):
        return None
    stateful: Any = sampler
    if start is not None:
        stateful.load_state_dict(start)
    state: Mapping[str, Any] = stateful.state_dict()
    return state


def write_sampler_state(sampler: PlannedSampler | None, folder: str | Path) -> None:
    """Put the state of a sampler that has one into a checkpoint."""
    if sampler is not None and hasattr(sampler, "state_dict"):
        (Path(folder) / _STATE).write_text(json.dumps(sampler.state_dict()), encoding="utf-8")


def read_sampler_state(sampler: PlannedSampler | None, folder: str | Path) -> None:
    """Give a sampler the state it had at a checkpoint.

    Raises:
        SettingError: the checkpoint holds none, but the sampler has one.
    """
    if sampler is None or not hasattr(sampler, "load_state_dict"):
        return
    path = Path(folder) / _STATE
    if not path.is_file():
        raise SettingError(
            f"{folder} holds no {_STATE}, the state of {type(sampler).__name__}. It was written by a training with "
            "another sampler: start without resuming, or with that sampler."
        )
    sampler.load_state_dict(json.loads(path.read_text(encoding="utf-8")))


def _length(example: Any) -> int:
    ids = example.get("input_ids") if isinstance(example, dict) else None
    return len(ids) if ids is not None else 0
