"""Every distinct training is done once, and memory is bounded."""

from types import SimpleNamespace

import torch

from tailwise.training.training_memory import TrainingMemory


def trained(size=4):
    return SimpleNamespace(head=torch.nn.Linear(size, 1, bias=False))


def test_equal_keys_are_trained_once_and_come_back_in_order():
    memory, calls = TrainingMemory(), []

    def train(positions):
        calls.append(list(positions))
        return [trained() for _ in positions]

    first = memory.get_or_train(["a", "b", "a"], train)
    assert calls == [[0, 1]]
    assert first[0] is first[2] is not first[1]
    second = memory.get_or_train(["c", "b"], train)
    assert calls == [[0, 1], [0]]
    assert second[1] is first[1]


def test_the_least_recently_used_head_goes_when_the_bound_is_passed():
    memory, calls = TrainingMemory(max_bytes=2 * 4 * 4), []

    def train(positions):
        calls.append(len(positions))
        return [trained() for _ in positions]

    memory.get_or_train(["a", "b"], train)
    memory.get_or_train(["a"], train)
    memory.get_or_train(["c"], train)  # "b" goes
    memory.get_or_train(["a"], train)
    assert calls == [2, 1]
    memory.get_or_train(["b"], train)
    assert calls == [2, 1, 1]
