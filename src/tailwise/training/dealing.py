"""Deal the plan of an epoch to the ranks: every row of the plan exactly once, whatever the number of ranks.

Micro-batch i of rank r is rows [i B W + r B, i B W + (r + 1) B) of the plan, for W ranks of B rows; what is left at the
end is split evenly. So an optimiser step sees the same rows on one process, on several ones and with accumulation.

Accelerate's own sharding repeats rows from the start of the epoch until all batches are full, and does not hand the
epoch to the sampler when a run of several ranks resumes inside an epoch.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from torch.utils.data import Sampler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tailwise.sampling import PlannedSampler

__all__ = ["DealtBatches"]


class DealtBatches(Sampler[list[int]]):
    """Batches of one rank.

    Args:
        sampler: lays out the plan; its `epoch` decides which one.
        batch_size: rows of a full batch of one rank, B.
        rank: this rank.
        world_size: number of ranks, W.
        drop_last: leave out the rows after the last full round of batches.
        before_plan: called with the epoch before its plan is laid out.
    """

    def __init__(
        self,
        sampler: PlannedSampler,
        batch_size: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
        before_plan: Callable[[int], None] | None = None,
    ) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        self.drop_last = drop_last
        self.before_plan = before_plan

    @property
    def round_size(self) -> int:
        """Rows that all ranks take at once."""
        return self.batch_size * self.world_size

    @property
    def last_is_filler(self) -> bool:
        """Whether this rank has no row left in the last round; it then gets a row that must not count."""
        return not self.drop_last and 0 < len(self.sampler) % self.round_size <= self.rank

    def __len__(self) -> int:
        rounds = len(self.sampler) / self.round_size
        return math.floor(rounds) if self.drop_last else math.ceil(rounds)

    def __iter__(self) -> Iterator[list[int]]:
        if self.before_plan is not None:
            self.before_plan(self.sampler.epoch)
        plan = self.sampler.plan(self.sampler.epoch)
        for number in range(len(self)):
            rows = plan[number * self.round_size : (number + 1) * self.round_size]
            share = np.array_split(rows, self.world_size)[self.rank]
            yield (share if share.size else rows[:1]).tolist()

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration deals."""
        self.sampler.set_epoch(epoch)
