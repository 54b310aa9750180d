"""Balanced streams: shares, drift, late classes, memory, workers and ranks, resuming."""

import json
import math
import re
import reprlib
import tracemalloc
from collections import Counter
from functools import partial

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from accelerate.data_loader import IterableDatasetShard, prepare_data_loader
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.utils.data import DataLoader, IterableDataset

from tailwise.errors import SettingError
from tailwise.sampling.stream import BalancedStream, keep_rates

PRIOR = np.array([0.6, 0.25, 0.1, 0.04, 0.01])


def second(example):
    return example[1]


def stream(length=20_000, prior=PRIOR, seed=0):
    """Pairs of a number and a class."""
    labels = np.random.default_rng(seed).choice(len(prior), length, p=prior)
    return list(enumerate(labels.tolist()))


def shares(examples, classes=5):
    counts = np.bincount([label for _, label in examples], minlength=classes)
    return counts / counts.sum()


class Generated(IterableDataset):
    """A stream that is generated as it is read, every time anew."""

    def __init__(self, length, prior=PRIOR):
        self.length, self.prior = length, prior
        self.epochs = []

    def set_epoch(self, epoch):
        self.epochs.append(epoch)

    def __iter__(self):
        generator = np.random.default_rng(3)
        cumulated = np.cumsum(self.prior)
        for number in range(self.length):
            yield number, int(np.searchsorted(cumulated, generator.random() * cumulated[-1]))


@given(
    weight=st.lists(
        st.tuples(st.floats(0.001, 1.0), st.just(0.0) | st.floats(1e-6, 1.0)), min_size=1, max_size=12
    ).filter(lambda w: max(t for _, t in w) > 1e-3),
    min_keep=st.floats(0.0, 1.0),
)
def test_keep_rates_give_the_target_or_the_share_to_keep(weight, min_keep):
    prior = np.array([p for p, _ in weight]) / sum(p for p, _ in weight)
    target = np.array([t for _, t in weight])
    exact = keep_rates(prior, target)
    assert exact.max() == 1.0
    kept = prior * exact
    np.testing.assert_allclose(kept / kept.sum(), target / target.sum(), atol=1e-9)
    rates = keep_rates(prior, target, min_keep=min_keep)
    assert ((rates >= exact - 1e-12) & (rates <= 1.0)).all()
    reachable = prior[target > 0].sum()
    floor = min(min_keep, reachable)
    assert prior @ rates >= floor - 1e-9
    if prior @ exact < min_keep < reachable:
        assert prior @ rates == pytest.approx(min_keep)
    part = (rates < 1.0) & (target > 0)
    ratio = (prior * rates)[part] / target[part]
    if ratio.size:
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        ("uniform", [0.2] * 5),
        (0.0, [0.2] * 5),
        (0.5, np.sqrt(PRIOR) / np.sqrt(PRIOR).sum()),
        (1.0, PRIOR),
        ([5, 1, 1, 2, 1], [0.5, 0.1, 0.1, 0.2, 0.1]),
        ({0: 1.0, 2: 3.0}, [0.25, 0.0, 0.75, 0.0, 0.0]),
    ],
)
def test_a_long_stream_comes_out_with_the_target_distribution(target, wanted):
    drawn = BalancedStream(Generated(100_000), second, target=target, classes=range(5), min_keep=0.0)
    counts = np.bincount([label for _, label in drawn], minlength=5)
    wanted = np.asarray(wanted)
    np.testing.assert_allclose(drawn.effective_prior(), counts / counts.sum())
    some = wanted > 0
    assert counts[~some].sum() == 0
    assert stats.chisquare(counts[some], wanted[some] * counts.sum()).pvalue > 1e-4
    np.testing.assert_allclose(drawn.natural_prior(), PRIOR, atol=0.007)


def test_rejection_keeps_the_order_and_repeats_nothing():
    numbers = [number for number, _ in BalancedStream(stream(), second)]
    assert numbers == sorted(set(numbers))
    everything = stream()
    assert list(BalancedStream(everything, second, target=1.0)) == everything
    assert list(BalancedStream(everything, second, min_keep=1.0)) == everything


@pytest.mark.parametrize("max_repeat", [1, 4])
def test_buffers_balance_every_stretch_and_keep_to_the_repeats_allowed(max_repeat):
    examples = stream(40_000)
    drawn = list(
        BalancedStream(examples, second, mode="buffer", max_repeat=max_repeat, patience=2000, classes=range(5))
    )
    uses = Counter(number for number, _ in drawn)
    assert max(uses.values()) == max_repeat
    labels = dict(examples)
    assert all(labels[number] == label for number, label in drawn)
    np.testing.assert_allclose(shares(drawn), 0.2, atol=0.003)
    stretch = np.array([label for _, label in drawn])[1000:2000].reshape(-1, 50)
    for part in stretch:
        assert np.abs(np.bincount(part, minlength=5) - 10).max() <= 1


def test_a_class_that_runs_out_is_passed_over_after_a_while_and_the_prior_says_so():
    drawn = BalancedStream(stream(40_000), second, mode="buffer", max_repeat=1, patience=16, classes=range(5))
    got = shares(list(drawn))
    np.testing.assert_allclose(drawn.effective_prior(), got)
    assert got[4] < 0.15
    np.testing.assert_allclose(got[:3], got[0], atol=0.01)


@pytest.mark.parametrize("mode", ["reject", "buffer"])
def test_a_prior_that_drifts_is_followed(mode):
    examples = [*stream(30_000), *stream(30_000, PRIOR[::-1], seed=1)]
    drawn = list(BalancedStream(examples, second, mode=mode, half_life=1000, min_keep=0.0, patience=500, max_repeat=8))
    late = drawn[-len(drawn) // 4 :]
    np.testing.assert_allclose(shares(late), 0.2, atol=0.05)
    slow = list(BalancedStream(examples, second, min_keep=0.0))
    late = slow[-len(slow) // 4 :]
    assert np.abs(shares(late) - 0.2).max() > 0.1  # without a half-life the old prior still counts


def test_the_half_life_weighs_the_past():
    examples = [(0, 0)] * 400 + [(0, 1)] * 100
    drawn = BalancedStream(examples, second, half_life=100, min_keep=1.0)
    list(drawn)
    old = (2.0 ** (-np.arange(100, 500) / 100)).sum()
    new = (2.0 ** (-np.arange(100) / 100)).sum()
    np.testing.assert_allclose(drawn.natural_prior(), [old / (old + new), new / (old + new)])
    long = BalancedStream([(0, i % 2) for i in range(60_000)], second, half_life=50)
    assert len(list(long)) > 50_000  # the weights are scaled back before they overflow
    assert np.isfinite(long.natural_prior()).all()


@pytest.mark.parametrize("mode", ["reject", "buffer"])
def test_a_class_that_appears_late_takes_part_at_once(mode):
    early = stream(5000, np.array([0.7, 0.3]))
    examples = [*early, *[(5000 + i, 2 if i % 4 == 0 else 0 if i % 4 < 3 else 1) for i in range(8000)]]
    drawn = BalancedStream(examples, second, mode=mode, half_life=300, min_keep=0.05, max_repeat=2)
    got = list(drawn)
    first = next(i for i, (_, label) in enumerate(got) if label == 2)
    assert got[first][0] == 5000 if mode == "reject" else got[first][0] < 5100
    late = got[-1500:]
    np.testing.assert_allclose(shares(late, 3), 1 / 3, atol=0.05)
    assert drawn.classes[2] == 2


def test_a_class_seen_once_does_not_stop_the_stream():
    examples = [(i, i % 2) for i in range(20_000)]
    examples[10_000] = (10_000, 2)
    later = [number for number, _ in BalancedStream(examples, second, min_keep=0.1) if number > 10_000]
    assert len(later) == pytest.approx(1000, abs=150)
    stalled = [number for number, _ in BalancedStream(examples, second, min_keep=0.0) if number > 10_000]
    assert len(stalled) < 50


@pytest.mark.parametrize("mode", ["reject", "buffer"])
def test_memory_does_not_grow_with_the_stream(mode):
    def peak(length):
        source = ((i, i % 7, bytes(2000)) for i in range(length))
        drawn = BalancedStream(source, second, mode=mode, buffer_size=8)
        tracemalloc.start()
        try:
            for _ in drawn:
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    short, long = peak(1000), peak(8000)
    assert long < short + 50_000
    assert long < 7 * 2 * 8 * 2100 + 100_000


@pytest.mark.parametrize("mode", ["reject", "buffer"])
def test_a_pure_function_of_stream_seed_and_epoch(mode):
    source = Generated(3000)
    build = partial(BalancedStream, source, second, mode=mode, target=0.5)
    drawn = build(seed=4)
    first = list(drawn)
    assert list(drawn) == first == list(build(seed=4))
    assert list(build(seed=5)) != first
    drawn.set_epoch(1)
    assert source.epochs == [1]
    assert list(drawn) != first
    drawn.set_epoch(0)
    assert list(drawn) == first


@pytest.mark.parametrize("mode", ["reject", "buffer"])
@pytest.mark.parametrize("source_resumed", [False, True])
def test_a_run_resumes_at_every_step_from_plain_json(mode, source_resumed):
    examples = [list(example) for example in stream(400)]
    build = partial(BalancedStream, label_of=second, mode=mode, half_life=90, seed=2, min_keep=0.2)
    whole = list(build(examples))
    running = build(examples)
    steps = iter(running)
    for done in range(1, len(whole)):
        next(steps)
        state = json.loads(json.dumps(running.state_dict()))
        rest = examples[state["run"]["consumed"] :] if source_resumed else examples
        again = build(rest)
        again.load_state_dict(state, source_resumed=source_resumed)
        assert json.loads(json.dumps(again.state_dict())) == state
        again.set_epoch(0)
        assert list(again) == whole[done:], done
        assert sum(again.effective_prior()) == pytest.approx(1.0)
    assert list(steps) == whole[-1:]
    assert running.state_dict() == {"epoch": 0, "run": None}


def test_a_state_is_dropped_by_another_epoch_and_refused_by_another_share():
    drawn = BalancedStream(stream(500), second, world_size=2, rank=1)
    next(iter(drawn))
    state = drawn.state_dict()
    again = BalancedStream(stream(500), second, world_size=2, rank=1)
    again.load_state_dict(state)
    again.set_epoch(1)
    fresh = BalancedStream(stream(500), second, world_size=2, rank=1)
    fresh.set_epoch(1)
    assert list(again) == list(fresh)
    other = BalancedStream(stream(500), second, world_size=4, rank=1)
    other.load_state_dict(state)
    with pytest.raises(SettingError, match="share 2 of 2 of the stream, but this is share 2 of 4"):
        iter(other)


@pytest.mark.parametrize(("world", "workers"), [(1, 0), (1, 2), (2, 0), (3, 2), (8, 0)])
def test_each_example_goes_to_one_rank_and_one_worker(world, workers):
    drawn = []
    for rank in range(world):
        source = BalancedStream(Generated(600), second, target=1.0, rank=rank, world_size=world)
        loader = DataLoader(source, batch_size=None, num_workers=workers)
        drawn.extend((int(number), int(label)) for number, label in loader)
    assert sorted(drawn) == list(Generated(600))


def test_every_worker_balances_its_own_part():
    loader = DataLoader(BalancedStream(Generated(30_000), second), batch_size=None, num_workers=2)
    drawn = [(int(number), int(label)) for number, label in loader]
    assert len({number for number, _ in drawn}) == len(drawn)
    np.testing.assert_allclose(shares(drawn), 0.2, atol=0.03)


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_accelerate_deals_one_stream_to_the_ranks(world):
    whole = [number for number, _ in BalancedStream(Generated(2000), second)]
    shards, loaded = [], []
    for rank in range(world):
        drawn = BalancedStream(Generated(2000), second)
        shards.append([n for n, _ in IterableDatasetShard(drawn, 4, num_processes=world, process_index=rank)])
        loader = DataLoader(BalancedStream(Generated(2000), second), batch_size=4)
        prepared = prepare_data_loader(
            loader, num_processes=world, process_index=rank, put_on_device=False, dispatch_batches=False
        )
        loaded.append([numbers.tolist() for numbers, _ in prepared])
    steps = [batch for step in zip(*loaded, strict=True) for batch in step]
    together = [number for batch in steps for number in batch]
    assert together[: len(whole)] == whole
    assert together[len(whole) :] == whole[: len(together) - len(whole)]  # accelerate fills up the last round
    assert sorted(set().union(*shards)) == whole


def test_a_streaming_data_set_with_and_without_workers():
    def rows(parts):
        for part in parts:
            for i in range(50):
                yield {"number": 50 * part + i, "label": 0 if i % 5 else 1}

    source = datasets.IterableDataset.from_generator(rows, gen_kwargs={"parts": list(range(6))})
    for workers in (0, 1, 2):
        drawn = BalancedStream(source, lambda row: row["label"], target=1.0)
        loader = DataLoader(drawn, batch_size=None, num_workers=workers)
        assert sorted(int(row["number"]) for row in loader) == list(range(300))
    balanced = BalancedStream(source, lambda row: row["label"])
    assert Counter(row["label"] for row in balanced)[1] == 60
    assert balanced.effective_prior()[balanced.classes.index(1)] == pytest.approx(0.5, abs=0.1)


def test_a_source_that_deals_to_the_workers_itself():
    class Dealing(IterableDataset):
        def __iter__(self):
            worker = torch.utils.data.get_worker_info()
            first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
            return ((i, i % 3) for i in range(first, 300, step))

    drawn = []
    for rank in range(2):
        source = BalancedStream(Dealing(), second, target=1.0, rank=rank, world_size=2, splits_workers=True)
        drawn += [int(number) for number, _ in DataLoader(source, batch_size=None, num_workers=2)]
    assert sorted(drawn) == list(range(300))


@given(
    labels=st.lists(st.sampled_from(["a", "b", "c", ("d", 1)]), max_size=80),
    mode=st.sampled_from(["reject", "buffer"]),
    power=st.floats(0, 1),
    max_repeat=st.integers(1, 3),
    size=st.integers(1, 3),
)
@settings(deadline=None)
def test_any_stream_ends_and_yields_examples_of_it(labels, mode, power, max_repeat, size):
    examples = list(enumerate(labels))
    source = BalancedStream(examples, second, mode=mode, target=power, max_repeat=max_repeat, buffer_size=size)
    drawn = list(source)
    assert set(drawn) <= set(examples)
    assert max(Counter(drawn).values(), default=0) <= (1 if mode == "reject" else max_repeat)
    assert bool(drawn) == bool(labels)
    if drawn:
        counts = Counter(label for _, label in drawn)
        np.testing.assert_allclose(source.effective_prior(), [counts[c] / len(drawn) for c in source.classes])


def test_a_prior_needs_draws_in_this_process():
    drawn = BalancedStream(stream(300), second)
    list(DataLoader(drawn, batch_size=None, num_workers=1))
    with pytest.raises(SettingError, match=r"no example was drawn in this process.*count the labels of the batches"):
        drawn.effective_prior()
    assert drawn.classes == []


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"mode": "rejection"}, "'reject' or 'buffer', but got 'rejection'"),
        ({"target": "balanced"}, "expected `target` to be 'uniform', a power"),
        ({"target": 1.5}, "but got 1.5"),
        ({"target": [1.0, 2.0]}, "a sequence needs `classes` of the same length"),
        ({"target": {0: -1.0}}, "shares of at least 0 by class"),
        ({"target": {0: 0.0}}, "shares of at least 0 by class"),
        ({"min_keep": 2.0}, r"`min_keep` to lie in \[0, 1\]"),
        ({"half_life": 0.0}, "`half_life` to be positive"),
        ({"buffer_size": 0}, "`buffer_size` to be at least 1"),
        ({"max_repeat": 0}, "`max_repeat` to be at least 1"),
        ({"patience": 0}, "`patience` to be at least 1"),
        ({"world_size": 0}, "`world_size` to be at least 1"),
        ({"world_size": 2, "rank": 2}, r"`rank` to lie in \[0, 2\), but got 2"),
        ({"seed": -1}, "`seed` to be a non-negative integer"),
        ({"classes": [0, 0, 1]}, "`classes` to name each class once, but 0 is there 2 times"),
        ({"classes": [1, torch.tensor(1)]}, "but 1 is there 2 times"),
        ({"classes": [0, math.nan]}, "the class at place 1 of `classes` to be one hashable value.* but got nan"),
        ({"target": {0: 1.0, torch.zeros(2): 1.0}}, "the class at place 1 of `target` to be one hashable value"),
    ],
)
def test_bad_settings_are_refused(settings_, message):
    with pytest.raises(SettingError, match=message):
        BalancedStream([], second, **settings_)


def test_a_class_that_was_not_named_is_refused():
    with pytest.raises(SettingError, match="example 1 is of class 'b', which is not one of `classes`"):
        list(BalancedStream([(0, "a"), (1, "b")], second, classes=["a"]))


@pytest.mark.parametrize("mode", ["reject", "buffer"])
def test_labels_in_tensors_and_arrays_count_as_their_values(mode):
    def drawn(convert, classes, target="uniform"):
        balanced = BalancedStream(stream(3000), lambda e: convert(e[1]), mode=mode, classes=classes, target=target)
        return list(balanced), balanced.classes

    plain = drawn(int, None)
    for convert in (torch.tensor, np.int64, np.array, lambda n: torch.tensor([n]), lambda n: np.array([[n]])):
        assert drawn(convert, None) == plain
    json.dumps(drawn(np.int64, None)[1])
    assert drawn(torch.tensor, torch.arange(5)) == drawn(int, range(5))
    shares_ = {torch.tensor(0): 1.0, torch.tensor(4): 1.0}
    assert drawn(int, None, shares_) == drawn(int, None, {0: 1.0, 4: 1.0})
    assert drawn(lambda n: (torch.tensor(n), "x"), None)[0] == plain[0]


def test_a_streaming_data_set_of_tensors_is_balanced():
    def rows():
        for i in range(600):
            yield {"number": i, "label": 0 if i % 5 else 1}

    source = datasets.IterableDataset.from_generator(rows)
    wanted = [row["number"] for row in BalancedStream(source, lambda row: row["label"])]
    balanced = BalancedStream(source.with_format("torch"), lambda row: row["label"])
    assert [int(row["number"]) for row in balanced] == wanted
    assert sorted(balanced.classes) == [0, 1]


@pytest.mark.parametrize(
    "label",
    [
        torch.tensor([1, 0]),
        torch.zeros(0),
        np.array(["a", "b"]),
        ["a"],
        {"a": 1},
        (1, [2]),
        math.nan,
        (0, math.nan),
        torch.tensor(math.nan),
        np.float32("nan"),
        pd.NA,
    ],
    ids=repr,
)
def test_a_label_that_is_no_value_to_count_by_is_refused_with_its_place(label):
    message = (
        r"the class of example 2 to be one hashable value that equals itself, such as a number or a text, but got "
    )
    balanced = BalancedStream([0, 1, label, 0], lambda example: example)
    with pytest.raises(SettingError, match=message + re.escape(reprlib.repr(label))):
        list(balanced)
