"""Heads that were trained before, by what was computed: the same training is done once."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from tailwise.training.probe_passes import TrainedHead

__all__ = ["TrainingMemory"]


class TrainingMemory:
    """The last trained heads, bounded in size.

    Args:
        max_bytes: of all weights together.
    """

    def __init__(self, max_bytes: int = 2**29) -> None:
        self._max_bytes = max_bytes
        self._heads: OrderedDict[Hashable, TrainedHead] = OrderedDict()

    def get_or_train(
        self, keys: Sequence[Hashable], train: Callable[[list[int]], Sequence[TrainedHead]]
    ) -> list[TrainedHead]:
        """The head of every key; `train` is given the position of each key that is new, once per key."""
        known = {key: self._heads[key] for key in keys if key in self._heads}
        new: dict[Hashable, int] = {}
        for position, key in enumerate(keys):
            if key not in known:
                new.setdefault(key, position)
        if new:
            known.update(zip(new, train(list(new.values())), strict=True))
        for key in dict.fromkeys(keys):
            self._heads[key] = known[key]
            self._heads.move_to_end(key)
        self._forget()
        return [known[key] for key in keys]

    def _forget(self) -> None:
        total = sum(map(_size, self._heads.values()))
        while total > self._max_bytes and self._heads:
            _, oldest = self._heads.popitem(last=False)
            total -= _size(oldest)


def _size(trained: TrainedHead) -> int:
    return sum(tensor.nbytes for tensor in trained.head.state_dict().values())
