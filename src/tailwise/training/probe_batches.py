"""Batches of row indices for many heads; heads that share sampler and seed share them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from tailwise.sampling.base import PlannedSampler

__all__ = ["BatchStream", "SharedBatches"]


class BatchStream:
    """Full batches from one plan after the other: a batch may span the end of an epoch.

    Args:
        sampler: lays out the epochs.
        batch_size: rows per batch.

    Attributes:
        sampler: the sampler, at the epoch of the last row laid out.
        before_plan: called with the epoch before its plan is laid out.
    """

    def __init__(self, sampler: PlannedSampler, batch_size: int) -> None:
        self.sampler = sampler
        self.before_plan: Callable[[int], None] | None = None
        self._batch_size = batch_size
        self._epoch = 0
        self._rest: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def next(self) -> NDArray[np.int64]:
        """The next batch of row indices, ``(B,)``."""
        parts, missing = [self._rest], self._batch_size - len(self._rest)
        while missing > 0:
            if self.before_plan is not None:
                self.before_plan(self._epoch)
            self.sampler.set_epoch(self._epoch)
            parts.append(self.sampler.plan(self._epoch))
            missing -= len(parts[-1])
            self._epoch += 1
        rows = np.concatenate(parts) if len(parts) > 1 else self._rest
        self._rest = rows[self._batch_size :]
        return rows[: self._batch_size]


class SharedBatches:
    """One stream per distinct order.

    Args:
        streams: the distinct streams.
        order_of_head: which stream each head follows, ``(H,)``.
        padding_row: index that fills each batch up to a multiple of 32 rows.
        batch_size: rows per batch.
    """

    def __init__(
        self, streams: Sequence[BatchStream], order_of_head: Sequence[int], *, padding_row: int, batch_size: int
    ) -> None:
        self.streams = list(streams)
        self.order_of_head = list(order_of_head)
        self._rows = torch.full((len(streams), -(-batch_size // 32) * 32), padding_row)
        self._batch_size = batch_size
        self._heads_of_orders = torch.tensor(self.order_of_head)

    def next(self) -> Tensor:
        """Row indices of the next batch of every order, padded, ``(O, B)``."""
        for rows, stream in zip(self._rows, self.streams, strict=True):
            rows[: self._batch_size] = torch.from_numpy(stream.next())
        return self._rows

    def for_heads(self, values: Tensor) -> Tensor:
        """From one entry per order, ``(O, ...)``, to one per head, ``(H, ...)``; without a copy where possible."""
        if len(self.streams) == 1:
            return values.expand(len(self.order_of_head), *values.shape[1:])
        if self.order_of_head == list(range(len(self.streams))):
            return values
        return values.index_select(0, self._heads_of_orders)
