"""Class-balanced sampling over a stream of unknown length and unknown class distribution.

    p_j   running share of class j: all examples so far alike, or with a half-life, for a distribution that drifts
    t_j   wanted share: uniform over the classes seen so far, p_j^q, or given

    reject    keep an example of class j with probability a_j = min(1, s t_j / p_j); s makes the largest one 1, or more
              if fewer than `min_keep` of the examples would be kept
    buffer    choose a class by t_j, then an example of it from a small buffer; read on while the buffer is empty

Survey section 3.1, for data that do not fit the samplers over a label array (an `IterableDataset`, a streaming data set
of the package `datasets`, a queue). No paper; rejection is von Neumann's, with the densities estimated on the way.

"reject" never repeats an example, keeps the order of the stream and holds nothing in memory but C numbers; of the
stream it keeps C min_j p_j for uniform t. "buffer" gives about one example per example read, in batches balanced almost
exactly, at the price of up to `max_repeat` uses of an example and of `2 buffer_size` examples per class in memory. In
both, a class that appears late takes part at once.

Everything is a pure function of (stream, seed, epoch, rank, worker). Each example goes to one rank and one worker:
number i of the stream to share i mod (ranks x workers). Differs between numbers of workers, since each worker balances
its own part.
"""

from __future__ import annotations

import math
import reprlib
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from tailwise.errors import SettingError
from tailwise.sampling.class_mixture import apportion

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator

    from numpy.typing import ArrayLike, NDArray

__all__ = ["BalancedStream", "StreamMode", "keep_rates"]

StreamMode = Literal["reject", "buffer"]

_NUMBERS = ("share", "shares", "consumed", "since", "unit")
_LISTS = ("classes", "seen", "yielded", "rates", "pending")
_REFRESH = 32
_RESCALE = 1e150
_ARRAYS = (Tensor, np.ndarray, np.generic)


def keep_rates(prior: ArrayLike, target: ArrayLike, *, min_keep: float = 0.0) -> NDArray[np.float64]:
    """How likely an example of each class is kept, so that what is kept has the target distribution.

    Args:
        prior: p_j > 0, sum 1, ``(C,)``.
        target: t_j >= 0, not all 0, ``(C,)``.
        min_keep: the share of all examples to keep at least, in [0, 1]. To reach it the rarest classes, of which no
            more than all can be kept, stay below their target share; the others keep the ratios of theirs.

    Returns:
        ``(C,)``, the largest one 1.
    """
    p = np.asarray(prior, dtype=np.float64)
    ratio = np.asarray(target, dtype=np.float64) / p
    ratio /= ratio.max()
    if p @ ratio >= min_keep:
        return ratio
    order = np.argsort(-ratio, kind="stable")
    whole = np.cumsum(p[order])  # the classes up to here kept whole
    partial = np.append(np.cumsum((p * ratio)[order][::-1])[::-1][1:], 0.0)  # the others at their ratio
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        scale = (min_keep - whole) / partial
        fits = (scale * np.append(ratio[order][1:], 0.0) <= 1.0) & (partial > 0)
    best = float(scale[np.argmax(fits)]) if fits.any() else np.inf
    return np.where(ratio > 0, np.minimum(1.0, np.where(ratio > 0, ratio, 1.0) * best), 0.0)


class _Run:
    """Where one iteration stands.

    `seen` and `yielded` count per class; `rates` were computed from `seen` as it was `since` examples ago; `pending`
    are the classes chosen but not drawn yet; the buffers hold examples not used yet, and [example, uses].
    """

    def __init__(self, generator: np.random.Generator, share: int, shares: int, classes: Sequence[Any] = ()) -> None:
        self.generator = generator
        self.share, self.shares = share, shares
        self.consumed, self.since, self.unit = 0, 0, 1.0
        self.classes: list[Any] = []
        self.index: dict[Any, int] = {}
        self.seen: list[float] = []
        self.yielded: list[int] = []
        self.rates: list[float] = []
        self.pending: list[int] = []
        self.fresh: list[list[Any]] = []
        self.used: list[list[list[Any]]] = []
        self.finished = False
        for label in classes:
            self.add(label)

    def add(self, label: Any) -> int:
        """Make room for a new class."""
        self.index[label] = len(self.classes)
        self.classes.append(label)
        self.seen.append(0.0)
        self.yielded.append(0)
        self.fresh.append([])
        self.used.append([])
        return self.index[label]

    def state(self) -> dict[str, Any]:
        """A copy as plain data, the examples as they are."""
        plain = {name: getattr(self, name) for name in _NUMBERS}
        lists = {name: list(getattr(self, name)) for name in _LISTS}
        buffers = {
            "fresh": [list(buffer) for buffer in self.fresh],
            "used": [[list(entry) for entry in buffer] for buffer in self.used],
        }
        return {"generator": self.generator.bit_generator.state, **plain, **lists, **buffers}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> _Run:
        """The run of `state`."""
        generator = np.random.Generator(np.random.PCG64())
        generator.bit_generator.state = state["generator"]
        run = cls(generator, state["share"], state["shares"], state["classes"])
        for name in _NUMBERS:
            setattr(run, name, state[name])
        for name in _LISTS:
            setattr(run, name, list(state[name]))
        run.fresh = [list(buffer) for buffer in state["fresh"]]
        run.used = [[list(entry) for entry in buffer] for buffer in state["used"]]
        return run


class BalancedStream(IterableDataset[Any]):
    """An iterable data set that draws from another one so that its classes are balanced.

    Args:
        source: the examples: any iterable that can be iterated once per epoch.
        label_of: the class of an example: any hashable value; a tensor or an array of one element stands for its value.
        mode: "reject" or "buffer"; see the module.
        target: "uniform" over the classes seen so far; a power q, for shares p_j^q; or the wanted shares: a mapping
            from classes (others are left out), or a sequence in the order of `classes`.
        classes: all classes, in the order of `effective_prior`; another one is an error. None takes them as they come.
        half_life: examples after which an observation counts half in p_j; None lets all count alike.
        min_keep: ("reject") the share of the examples to keep at least, in [0, 1]. Without it, a class seen once in
            100,000 examples would nearly stop the stream.
        buffer_size: ("buffer") examples per class not used yet to hold, and likewise of those used already. A full
            buffer drops one at random for a new one.
        max_repeat: ("buffer") how often an example is yielded at most.
        patience: ("buffer") examples to read at most for a class whose buffer is empty, before it is passed over.
        seed: any non-negative integer.
        rank: this rank. Leave 0 of 1 if accelerate or the Trainer deals out the examples of an iterable data set.
        world_size: number of ranks.
        splits_workers: whether `source` itself deals its examples to the workers of a data loader. None knows that
            `datasets.IterableDataset` does, and takes other sources to give every worker all of them.

    Raises:
        SettingError: a parameter outside its range, or `classes` that name one twice; in the iteration, a label that is
            no value to count by (not hashable, of several elements, NaN), or not one of `classes`.
    """

    def __init__(
        self,
        source: Iterable[Any],
        label_of: Callable[[Any], Hashable],
        *,
        mode: StreamMode = "reject",
        target: Literal["uniform"] | float | Mapping[Any, float] | Sequence[float] = "uniform",
        classes: Sequence[Hashable] | None = None,
        half_life: float | None = None,
        min_keep: float = 0.01,
        buffer_size: int = 16,
        max_repeat: int = 4,
        patience: int = 64,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        splits_workers: bool | None = None,
    ) -> None:
        super().__init__()
        if mode not in get_args(StreamMode):
            raise SettingError(f"BalancedStream: expected `mode` to be 'reject' or 'buffer', but got {mode!r}.")
        if not 0.0 <= min_keep <= 1.0:
            raise SettingError(f"BalancedStream: expected `min_keep` to lie in [0, 1], but got {min_keep!r}.")
        if half_life is not None and not half_life > 0.0:
            raise SettingError(f"BalancedStream: expected `half_life` to be positive, but got {half_life!r}.")
        whole = {"buffer_size": buffer_size, "max_repeat": max_repeat, "patience": patience, "world_size": world_size}
        for name, value in whole.items():
            if value < 1:
                raise SettingError(f"BalancedStream: expected `{name}` to be at least 1, but got {value!r}.")
        if not 0 <= rank < world_size:
            raise SettingError(f"BalancedStream: expected `rank` to lie in [0, {world_size}), but got {rank!r}.")
        if seed < 0:
            raise SettingError(f"BalancedStream: expected `seed` to be a non-negative integer, but got {seed}.")
        self.source = source
        self.label_of = label_of
        self.mode: StreamMode = mode
        self.given_classes = None if classes is None else _read_classes(classes)
        self.power, self.wanted = _read_target(target, self.given_classes)
        self.half_life = half_life
        self.min_keep = min_keep
        self.buffer_size = buffer_size
        self.max_repeat = max_repeat
        self.patience = patience
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.splits_workers = splits_workers
        self.epoch = 0
        self._run: _Run | None = None
        self._resumed: _Run | None = None
        self._source_resumed = False

    def __iter__(self) -> Iterator[Any]:
        resumed, self._resumed = self._resumed, None
        fresh = self._begin()
        if resumed is not None and (resumed.share, resumed.shares) != (fresh.share, fresh.shares):
            raise SettingError(
                f"BalancedStream: the state is of share {resumed.share + 1} of {resumed.shares} of the stream, but "
                f"this is share {fresh.share + 1} of {fresh.shares}. Resume with the same ranks and workers."
            )
        run = self._run = fresh if resumed is None else resumed
        skipped = 0 if self._source_resumed else run.consumed
        self._source_resumed = False
        draw = self._rejected if self.mode == "reject" else self._buffered
        return draw(run, self._examples(run, skipped))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration, here and in the source."""
        if epoch != self.epoch:
            self._resumed = None
        self.epoch = epoch
        if hasattr(self.source, "set_epoch"):
            self.source.set_epoch(epoch)

    @property
    def classes(self) -> list[Any]:
        """The classes in the order of the priors: as given, or as they first came."""
        if self.given_classes is not None:
            return self.given_classes
        return [] if self._run is None else list(self._run.classes)

    def effective_prior(self) -> NDArray[np.float64]:
        """The class distribution of the examples drawn in this iteration so far, ``(C,)``, as `classes` orders them.

        Raises:
            SettingError: nothing was drawn in this process, for example since the workers of a data loader do it.
        """
        return self._shares([] if self._run is None else self._run.yielded)

    def natural_prior(self) -> NDArray[np.float64]:
        """The running estimate p of the class distribution of the stream, ``(C,)``, as `classes` orders them.

        Raises:
            SettingError: nothing was read in this process, for example since the workers of a data loader do it.
        """
        return self._shares([] if self._run is None else self._run.seen)

    def state_dict(self) -> dict[str, Any]:
        """Where the current iteration stands: plain data, but for the examples in the buffers.

        Taken after an example was drawn, it goes on with the next one. The state is that of this process: with workers
        take it in them, as `torchdata.stateful_dataloader.StatefulDataLoader` does, or draw in the main process.
        """
        run = self._run if self._resumed is None else self._resumed
        return {"epoch": self.epoch, "run": None if run is None or run.finished else run.state()}

    def load_state_dict(self, state: Mapping[str, Any], *, source_resumed: bool = False) -> None:
        """Let the next iteration go on from `state_dict`.

        Args:
            state: the state.
            source_resumed: the source already stands where it stood; otherwise it is read from the start, and what was
                consumed is skipped.
        """
        self.epoch = int(state["epoch"])
        self._resumed = None if state["run"] is None else _Run.from_state(state["run"])
        self._source_resumed = source_resumed

    def _begin(self) -> _Run:
        worker = get_worker_info()
        number, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        share, shares = self.rank * workers + number, self.world_size * workers
        seeds = np.random.SeedSequence([self.seed, self.epoch, share])
        return _Run(np.random.Generator(np.random.PCG64(seeds)), share, shares, self.given_classes or [])

    def _examples(self, run: _Run, skipped: int) -> Iterator[Any]:
        """The examples of this share of the stream; `consumed` counts those of all shares."""
        worker = get_worker_info()
        dealt = _splits_workers(self.source) if self.splits_workers is None else self.splits_workers
        share, shares = run.share, run.shares
        if worker is not None and dealt:
            share, shares = self.rank, self.world_size
        for example in islice(self.source, skipped, None):
            mine = run.consumed % shares == share
            run.consumed += 1
            if mine:
                yield example

    def _observe(self, run: _Run, example: Any) -> int:
        """The class index of an example, counted."""
        label = _as_class(self.label_of(example), "of example {}", run.consumed - 1)
        index = run.index.get(label, -1)
        if index < 0:
            if self.given_classes is not None:
                raise SettingError(
                    f"BalancedStream: example {run.consumed - 1} is of class {label!r}, which is not one of `classes`."
                )
            index = run.add(label)
        run.since = _REFRESH * len(run.classes) if run.seen[index] == 0.0 else run.since + 1
        run.seen[index] += run.unit
        if self.half_life is not None:
            run.unit *= 2.0 ** (1.0 / self.half_life)
            if run.unit > _RESCALE:
                run.seen = [weight / run.unit for weight in run.seen]
                run.unit = 1.0
        return index

    def _target(self, run: _Run) -> NDArray[np.float64]:
        """The wanted shares, 0 for a class not seen yet, not normalised, ``(C,)``."""
        seen = np.asarray(run.seen)
        if not seen.any():
            return np.zeros(seen.size)
        if self.wanted is not None:
            return np.where(seen > 0, [self.wanted.get(label, 0.0) for label in run.classes], 0.0)
        return np.where(seen > 0, np.where(seen > 0, seen / seen.max(), 1.0) ** self.power, 0.0)

    def _rejected(self, run: _Run, examples: Iterator[Any]) -> Iterator[Any]:
        for example in examples:
            index = self._observe(run, example)
            # Often while there are few examples, then once per C of them: O(1) per example.
            if run.since >= min(max(_REFRESH, len(run.classes)), run.consumed // _REFRESH):
                run.rates, run.since = self._rates(run), 0
            rate = run.rates[index]
            if rate >= 1.0 or run.generator.random() < rate:
                run.yielded[index] += 1
                yield example
        run.finished = True

    def _rates(self, run: _Run) -> list[float]:
        """The rate at which each class is kept, ``(C,)``."""
        seen, target = np.asarray(run.seen), self._target(run)
        if not target.any():
            return [0.0] * seen.size
        known = seen > 0
        rates = np.zeros(seen.size)
        rates[known] = keep_rates(seen[known] / seen.sum(), target[known], min_keep=self.min_keep)
        return [float(rate) for rate in rates]

    def _buffered(self, run: _Run, examples: Iterator[Any]) -> Iterator[Any]:
        exhausted = False
        while True:
            exhausted = self._read(run, examples) or exhausted
            if not run.pending:
                target = self._target(run)
                if not target.any():
                    if exhausted:
                        break
                    continue
                run.pending = _shuffled_block(run.generator, target)
            wanted = run.pending.pop()
            for _ in range(self.patience - 1):
                if run.fresh[wanted] or run.used[wanted] or exhausted:
                    break
                exhausted = self._read(run, examples)
            if run.fresh[wanted] or run.used[wanted]:
                run.yielded[wanted] += 1
                yield self._drawn(run, wanted)
            elif exhausted:
                break
        run.finished = True

    def _read(self, run: _Run, examples: Iterator[Any]) -> bool:
        """Put the next example into its buffer; True at the end of the stream."""
        for example in examples:
            index = self._observe(run, example)
            if self.wanted is None or self.wanted.get(run.classes[index], 0.0) > 0.0:
                self._hold(run, run.fresh[index], example)
            return False
        return True

    def _hold(self, run: _Run, buffer: list[Any], entry: Any) -> None:
        """Add an entry; a full buffer drops one at random for it."""
        if len(buffer) < self.buffer_size:
            buffer.append(entry)
        else:
            buffer[int(run.generator.integers(self.buffer_size))] = entry

    def _drawn(self, run: _Run, index: int) -> Any:
        """An example of a class at random: one not used yet if there is one."""
        fresh, used = run.fresh[index], run.used[index]
        if fresh:
            example, uses = _taken(run.generator, fresh), 1
        else:
            example, uses = _taken(run.generator, used)
            uses += 1
        if uses < self.max_repeat:
            self._hold(run, used, [example, uses])
        return example

    def _shares(self, counts: Sequence[float]) -> NDArray[np.float64]:
        total = sum(counts)
        if not total:
            raise SettingError(
                "BalancedStream: no example was drawn in this process, so that there is no class distribution yet. "
                "With the workers of a data loader count the labels of the batches instead."
            )
        return np.asarray(counts, dtype=np.float64) / total


def _shuffled_block(generator: np.random.Generator, target: NDArray[np.float64]) -> list[int]:
    """As many classes as there are, apportioned by the target, in random order."""
    counts = apportion(generator, target / target.sum(), int(np.count_nonzero(target)))
    return [int(i) for i in generator.permutation(np.repeat(np.arange(target.size), counts))]


def _taken(generator: np.random.Generator, buffer: list[Any]) -> Any:
    """Take a random entry out of a buffer."""
    place = int(generator.integers(len(buffer)))
    buffer[place], buffer[-1] = buffer[-1], buffer[place]
    return buffer.pop()


def _splits_workers(source: Any) -> bool:
    datasets = sys.modules.get("datasets")
    return datasets is not None and isinstance(source, datasets.IterableDataset)


def _as_class(label: Any, where: str, place: int) -> Any:
    """A label as a value that is equal for all examples of its class.

    Raises:
        SettingError: it cannot be, with `place` put into `where`.
    """
    try:
        return _plain(label)
    except TypeError:
        raise SettingError(
            f"BalancedStream: expected the class {where.format(place)} to be one hashable value that equals itself, "
            f"such as a number or a text, but got {reprlib.repr(label)}."
        ) from None


def _plain(label: Any) -> Any:
    """A label with tensors and NumPy values of one element as Python values; a TypeError if no value to count by."""
    if isinstance(label, tuple):
        return tuple(map(_plain, label))
    if isinstance(label, _ARRAYS):
        if math.prod(label.shape) != 1:
            raise TypeError
        label = label.item()
    hash(label)
    if label != label:  # noqa: PLR0124 - NaN
        raise TypeError
    return label


def _read_classes(classes: Iterable[Any]) -> list[Any]:
    """Classes as values to count by, each once."""
    known = [_as_class(label, "at place {} of `classes`", place) for place, label in enumerate(classes)]
    for label, times in Counter(known).items():
        if times > 1:
            raise SettingError(
                f"BalancedStream: expected `classes` to name each class once, but {label!r} is there {times} times."
            )
    return known


def _read_target(
    target: str | float | Mapping[Any, float] | Sequence[float], classes: list[Any] | None
) -> tuple[float, dict[Any, float] | None]:
    """The power q, or the wanted shares by class."""
    if target == "uniform":
        return 0.0, None
    if isinstance(target, int | float) and not isinstance(target, bool) and 0.0 <= target <= 1.0:
        return float(target), None
    shares: dict[Any, float] | None = None
    if isinstance(target, Mapping):
        keys = [_as_class(label, "at place {} of `target`", place) for place, label in enumerate(target)]
        shares = {label: float(share) for label, share in zip(keys, target.values(), strict=True)}
    elif isinstance(target, Sequence) and not isinstance(target, str) and len(target) == len(classes or []):
        shares = {label: float(share) for label, share in zip(classes or [], target, strict=True)}
    if not shares or not any(shares.values()) or not all(0.0 <= share < np.inf for share in shares.values()):
        raise SettingError(
            "BalancedStream: expected `target` to be 'uniform', a power in [0, 1], or shares of at least 0 by class (a "
            f"sequence needs `classes` of the same length), but got {target!r}."
        )
    return 0.0, shares
