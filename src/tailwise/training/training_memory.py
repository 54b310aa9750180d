"""Heads that were trained before, by what was computed: the same training is done once."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

__all__ = ["TrainingMemory"]

T = TypeVar("T")


def head_bytes(trained: Any) -> int:
    """Bytes of the weights of ``trained.head``."""
    return sum(tensor.nbytes for tensor in trained.head.state_dict().values())


class TrainingMemory(Generic[T]):
    """The last trained heads, bounded in size.

    Args:
        max_bytes: of all weights together.
        size: bytes of what was trained.
    """

    def __init__(self, max_bytes: int = 2**31, size: Callable[[T], int] = head_bytes) -> None:
        self._max_bytes = max_bytes
        self._size = size
        self._heads: OrderedDict[Hashable, T] = OrderedDict()

    def get_or_train(self, keys: Sequence[Hashable], train: Callable[[list[int]], Sequence[T]]) -> list[T]:
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
        total = sum(map(self._size, self._heads.values()))
        while total > self._max_bytes and self._heads:
            _, oldest = self._heads.popitem(last=False)
            total -= self._size(oldest)
