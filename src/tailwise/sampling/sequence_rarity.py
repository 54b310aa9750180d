"""Re-sampling of sentences for token labelling, by what is in them.

    sC     f_s = 1 + sum_t c_ts                         c_ts  tokens of entity type t in sentence s
    sCR    f_s = sqrt(1 + sum_t w_t c_ts)               w_t   -log2(tokens of type t / all tokens), rareness
    sCRD   f_s = (1 + sum_t w_t c_ts) / sqrt(l_s)       l_s   tokens of the sentence
    nsCRD  f_s = (1 + sum_t w_t sqrt(c_ts)) / sqrt(l_s)

A sentence is drawn ceil(f_s) times per epoch, once if it has no entity. Wang and Wang, Sentence-Level Resampling for
Named Entity Recognition, NAACL 2022: the forms of their released code; the paper puts sC under a square root as well
(`paper_form`). Differs from both in the options: ``rounding="stochastic"`` draws f_s times on average (at least once),
which lets the epoch grow less, and `begins` counts mentions in place of tokens.

`CatchAllSentenceSampler` goes the other way and discards sentences without an entity, anew in each epoch:

    keep = min(1, sqrt(t / f)),   f the share of the sentences without an entity

after Mikolov et al., NeurIPS 2013 (see `frequent`). Survey section 3.1. Nothing is cut out of a sentence.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Literal, NamedTuple, cast, get_args

import numpy as np

from tailwise.errors import SettingError
from tailwise.sampling.base import PlannedSampler
from tailwise.sampling.checks import as_array, check_num_classes, truth_value, whole_number
from tailwise.sampling.frequent import KeepForm, keep_probability

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "CatchAllSentenceSampler",
    "RarityForm",
    "SentenceFactorSampler",
    "SentenceRaritySampler",
    "SequenceCounts",
    "count_types",
    "rareness",
    "rarity_factors",
    "stochastic_rounding",
]

RarityForm = Literal["sC", "sCR", "sCRD", "nsCRD"]
Rounding = Literal["ceil", "stochastic"]


class SequenceCounts(NamedTuple):
    """How often each entity type comes in each sentence; only the pairs that occur.

    Attributes:
        sentence: index of the sentence of each pair, ``(P,)``.
        type: entity type of each pair, ``(P,)``.
        amount: tokens (or mentions) of each pair, ``(P,)``.
        type_tokens: tokens (or mentions) per type in all sentences, ``(T,)``.
        lengths: tokens per sentence, ``(S,)``.
    """

    sentence: NDArray[np.int64]
    type: NDArray[np.int64]
    amount: NDArray[np.int64]
    type_tokens: NDArray[np.int64]
    lengths: NDArray[np.int64]


def count_types(
    sequences: Sequence[ArrayLike] | ArrayLike,
    *,
    offsets: ArrayLike | None = None,
    catch_all: int = 0,
    tag_types: ArrayLike | None = None,
    begins: ArrayLike | None = None,
) -> SequenceCounts:
    """Count the entity types of every sentence.

    Args:
        sequences: tag ids per sentence: S integer arrays, or one flat array ``(L,)`` with `offsets`. Negative tags
            (-100) are no tokens.
        offsets: where each sentence begins in the flat array, and L, ``(S + 1,)``.
        catch_all: the tag id of "no entity" (O).
        tag_types: entity type of every tag id, so that B-PER and I-PER count together, ``(tags,)``; the entry of the
            catch-all tag is not read. None takes every tag as a type of its own.
        begins: whether a tag begins a mention (B-), ``(tags,)``. With it mentions are counted: tokens that begin one
            or follow a token of another type. None counts tokens.

    Raises:
        SettingError: no sentence, tags that are no integers, offsets that do not fit the tags, or a tag for which
            `tag_types` or `begins` has no entry.
    """
    tags, ends = _ragged(sequences, offsets)
    valid = tags >= 0
    sentence = np.repeat(np.arange(ends.size - 1), np.diff(ends))[valid]
    tags = tags[valid]
    num_tags = int(max(tags.max(initial=0), catch_all)) + 1
    types = np.arange(num_tags) if tag_types is None else _per_tag(tag_types, num_tags, "tag_types").astype(np.int64)
    lengths = np.bincount(sentence, minlength=ends.size - 1)
    entity = tags != catch_all
    counted = entity
    if begins is not None:
        same = np.zeros(tags.size, dtype=bool)
        same[1:] = (sentence[1:] == sentence[:-1]) & entity[:-1] & (types[tags[1:]] == types[tags[:-1]])
        counted = entity & (_per_tag(begins, num_tags, "begins").astype(bool)[tags] | ~same)
    of_entities = types[np.arange(types.size) != catch_all]
    if of_entities.min(initial=0) < 0:
        raise SettingError(f"Expected `tag_types` to be entity types from 0, but got {of_entities.min()}.")
    num_types = int(of_entities.max(initial=0)) + 1
    pairs, count = np.unique(sentence[counted] * num_types + types[tags[counted]], return_counts=True)
    per_type = np.bincount(types[tags[counted]], minlength=num_types)
    return SequenceCounts(pairs // num_types, pairs % num_types, count, per_type, lengths)


def rareness(counts: SequenceCounts) -> NDArray[np.float64]:
    """w_t = -log2(tokens of type t / all tokens), ``(T,)``; 0 for a type that does not occur."""
    share = counts.type_tokens / max(int(counts.lengths.sum()), 1)
    bits: NDArray[np.float64] = -np.log2(np.where(counts.type_tokens > 0, share, 1.0))
    return bits


def rarity_factors(
    counts: SequenceCounts, form: RarityForm = "sCR", *, paper_form: bool = False
) -> NDArray[np.float64]:
    """How often each sentence should be drawn, before rounding.

    Args:
        counts: from `count_types`.
        form: see the formulas of this module.
        paper_form: take the square root in ``"sC"`` too.

    Returns:
        f_s, ``(S,)``, 1 for a sentence without an entity.
    """
    weight = np.ones(counts.amount.size) if form == "sC" else rareness(counts)[counts.type]
    amount = np.sqrt(counts.amount) if form == "nsCRD" else counts.amount.astype(np.float64)
    added = np.bincount(counts.sentence, weights=weight * amount, minlength=counts.lengths.size)
    total = np.asarray(1.0 + added, dtype=np.float64)
    if form == "sCR" or (form == "sC" and paper_form):
        return np.asarray(np.sqrt(total))
    if form == "sC":
        return total
    with_entity = np.bincount(counts.sentence, minlength=counts.lengths.size) > 0
    return np.where(with_entity, total / np.sqrt(np.maximum(counts.lengths, 1)), 1.0)


def stochastic_rounding(generator: np.random.Generator, values: NDArray[np.float64], total: int) -> NDArray[np.int64]:
    """Whole numbers, each the floor or the ceiling of its value, with a fixed sum.

    Each fraction g becomes 1 with probability g R / sum(g), where R = total - sum(floors) <= sum(g) is how many do:
    systematic sampling over a random start.

    Args:
        generator: the random stream.
        values: at least 0, ``(S,)``.
        total: the sum of the result, from sum(floors) to sum(values).

    Returns:
        ``(S,)``.
    """
    floors = np.floor(values).astype(np.int64)
    fraction = values - floors
    raised = total - int(floors.sum())
    if raised <= 0:
        return floors
    edges = np.floor(np.cumsum(fraction) * (raised / fraction.sum()) + generator.random()).astype(np.int64)
    edges[np.flatnonzero(fraction)[-1] :] = raised
    rounded: NDArray[np.int64] = floors + np.diff(np.minimum(edges, raised), prepend=0)
    return rounded


class SentenceFactorSampler(PlannedSampler):
    """Base of the samplers that draw sentence s f_s times per epoch, f_s a whole number or an expectation.

    Args:
        sequences: tag ids per sentence, as in `count_types`.
        offsets: see `count_types`.
        catch_all: the tag id of "no entity" (O).
        num_classes: number of tags, where some do not occur; None takes the largest tag + 1.
        seed: any non-negative integer.
        num_samples: length of an epoch; None takes the sum of f_s, rounded down. A smaller one takes a random part of
            that list, a larger one goes on with further lists, each rounded and shuffled anew.

    Attributes:
        tags: of all sentences, one after the other, ``(L,)``.
        offsets: where each sentence begins, and L, ``(S + 1,)``.
    """

    def __init__(
        self,
        sequences: Sequence[ArrayLike] | ArrayLike,
        *,
        offsets: ArrayLike | None = None,
        catch_all: int = 0,
        num_classes: int | None = None,
        seed: int = 0,
        num_samples: int | None = None,
    ) -> None:
        super().__init__(seed=seed, num_samples=num_samples)
        name = type(self).__name__
        self.tags, self.offsets = _ragged(sequences, offsets)
        self.catch_all = whole_number(catch_all, "catch_all", name)
        largest = int(self.tags.max(initial=0))
        self.num_classes = (
            max(largest, self.catch_all) + 1 if num_classes is None else whole_number(num_classes, "num_classes", name)
        )
        if largest >= self.num_classes:
            raise SettingError(f"{name}: tag {largest} is outside `num_classes` = {num_classes}.")
        check_num_classes(max(self.num_classes, self.catch_all + 1), self.tags.size, name)

    @abstractmethod
    def factors(self) -> NDArray[np.float64]:
        """f_s, ``(S,)``."""

    def expected_counts(self) -> NDArray[np.float64]:
        """Expected draws of every sentence in one list, ``(S,)``."""
        factors = self.factors()
        whole = np.floor(factors)
        fraction = factors - whole
        raised = self.default_num_samples() - whole.sum()
        return whole + (fraction * (raised / fraction.sum()) if raised > 0 else 0.0)

    def row_rates(self) -> NDArray[np.float64]:
        """Expected draws of every sentence relative to natural sampling, ``(S,)`` of mean 1."""
        counts = self.expected_counts()
        rates: NDArray[np.float64] = counts / counts.mean()
        return rates

    def effective_prior(self) -> NDArray[np.float64]:
        """The distribution of the tags over the tokens that are drawn, ``(tags,)``."""
        per_token = np.repeat(self.expected_counts(), np.diff(self.offsets))
        valid = self.tags >= 0
        drawn = np.bincount(self.tags[valid], weights=per_token[valid], minlength=self.num_classes)
        prior: NDArray[np.float64] = drawn / drawn.sum()
        return prior

    def default_num_samples(self) -> int:
        """The sum of f_s, rounded down, at least 1."""
        return max(int(self.factors().sum() + 1e-9), 1)

    def plan(self, epoch: int) -> NDArray[np.int64]:
        """Sentence indices of one epoch, in order, ``(len(self),)``."""
        generator, size, factors = self.random_stream(epoch), self.default_num_samples(), self.factors()
        lists = []
        for _ in range(-(-len(self) // size)):
            repeats = stochastic_rounding(generator, factors, size)
            lists.append(generator.permutation(np.repeat(np.arange(factors.size), repeats)))
        return np.concatenate(lists)[: len(self)]


class SentenceRaritySampler(SentenceFactorSampler):
    """Sentences with many and rare entities come more often.

    Args:
        sequences: tag ids per sentence, as in `count_types`.
        offsets: see `count_types`.
        catch_all: the tag id of "no entity" (O).
        num_classes: number of tags, where some do not occur; None takes the largest tag + 1.
        form: "sC", "sCR", "sCRD" or "nsCRD".
        paper_form: the square root of the paper in "sC" too.
        rounding: "ceil" as the authors do, or "stochastic": f_s on average, at least 1.
        tag_types: see `count_types`.
        begins: see `count_types`.
        seed: any non-negative integer.
        num_samples: see `SentenceFactorSampler`.

    Raises:
        SettingError: an unknown `form` or `rounding`; see `count_types`.
    """

    def __init__(
        self,
        sequences: Sequence[ArrayLike] | ArrayLike,
        *,
        offsets: ArrayLike | None = None,
        catch_all: int = 0,
        num_classes: int | None = None,
        form: RarityForm = "sCR",
        paper_form: bool = False,
        rounding: Rounding = "ceil",
        tag_types: ArrayLike | None = None,
        begins: ArrayLike | None = None,
        seed: int = 0,
        num_samples: int | None = None,
    ) -> None:
        super().__init__(
            sequences, offsets=offsets, catch_all=catch_all, num_classes=num_classes, seed=seed, num_samples=num_samples
        )
        if form not in get_args(RarityForm):
            known = ", ".join(map(repr, get_args(RarityForm)))
            raise SettingError(f"SentenceRaritySampler: expected `form` to be one of {known}, but got {form!r}.")
        if rounding not in get_args(Rounding):
            raise SettingError(
                f"SentenceRaritySampler: expected `rounding` to be 'ceil' or 'stochastic', but got {rounding!r}."
            )
        paper_form = truth_value(paper_form, "paper_form", "SentenceRaritySampler")
        self.form: RarityForm = form
        self.rounding: Rounding = rounding
        counts = count_types(self.tags, offsets=self.offsets, catch_all=catch_all, tag_types=tag_types, begins=begins)
        exact = rarity_factors(counts, form, paper_form=paper_form)
        self._factors = np.ceil(exact - 1e-12) if rounding == "ceil" else np.maximum(exact, 1.0)

    def factors(self) -> NDArray[np.float64]:
        """f_s, ``(S,)``."""
        return self._factors


class CatchAllSentenceSampler(SentenceFactorSampler):
    """Sentences without an entity are discarded at random, anew in each epoch; the others are kept.

    Args:
        sequences: tag ids per sentence, as in `count_types`.
        offsets: see `count_types`.
        catch_all: the tag id of "no entity" (O).
        num_classes: number of tags, where some do not occur; None takes the largest tag + 1.
        threshold: t > 0; sentences without an entity that make up at most this share are all kept.
        form: the formula of the paper or that of the word2vec tool, see `frequent`.
        seed: any non-negative integer.
        num_samples: see `SentenceFactorSampler`.

    Raises:
        SettingError: `threshold` not positive, or an unknown `form`.
    """

    def __init__(
        self,
        sequences: Sequence[ArrayLike] | ArrayLike,
        *,
        offsets: ArrayLike | None = None,
        catch_all: int = 0,
        num_classes: int | None = None,
        threshold: float = 0.5,
        form: KeepForm = "paper",
        seed: int = 0,
        num_samples: int | None = None,
    ) -> None:
        super().__init__(
            sequences, offsets=offsets, catch_all=catch_all, num_classes=num_classes, seed=seed, num_samples=num_samples
        )
        if not threshold > 0.0:
            raise SettingError(f"CatchAllSentenceSampler: expected `threshold` to be positive, but got {threshold!r}.")
        if form not in get_args(KeepForm):
            raise SettingError(
                f"CatchAllSentenceSampler: expected `form` to be 'paper' or 'word2vec', but got {form!r}."
            )
        entities = np.bincount(
            np.repeat(np.arange(self.offsets.size - 1), np.diff(self.offsets)),
            weights=(self.tags >= 0) & (self.tags != catch_all),
            minlength=self.offsets.size - 1,
        )
        share = np.array([np.mean(entities == 0)])
        self.threshold = threshold
        self.keep = float(keep_probability(share, threshold, form=form)[0])
        self._factors = np.where(entities == 0, self.keep, 1.0)

    def factors(self) -> NDArray[np.float64]:
        """1, or the probability that a sentence without an entity is kept, ``(S,)``."""
        return self._factors


def _ragged(
    sequences: Sequence[ArrayLike] | ArrayLike, offsets: ArrayLike | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Tags ``(L,)`` and offsets ``(S + 1,)``."""
    if offsets is None:
        arrays = [as_array(sequence, "Tags") for sequence in cast("Sequence[ArrayLike]", sequences)]
        if not arrays or any(array.ndim != 1 for array in arrays):
            raise SettingError("Expected the tags of one or more sentences, one array of tag ids each.")
        ends = np.cumsum([0, *(array.size for array in arrays)])
        tags = np.concatenate([array for array in arrays if array.size] or [np.empty(0, dtype=np.int64)])
    else:
        tags, ends = as_array(sequences, "Tags"), as_array(offsets, "Offsets")
        whole = ends.ndim == 1 and ends.size > 1 and np.issubdtype(ends.dtype, np.integer)
        rising = whole and ends[0] == 0 and (ends[1:] >= ends[:-1]).all()
        if tags.ndim != 1 or not rising or ends[-1] != tags.size:
            raise SettingError(
                f"Expected `offsets` to rise from 0 to the number of tags, {tags.size}, one more than there are "
                "sentences."
            )
    if not np.issubdtype(tags.dtype, np.integer):
        raise SettingError(f"Expected integer tag ids, but got {tags.dtype}. Encode the tags first.")
    if tags.size:
        check_num_classes(int(tags.max()) + 1, tags.size, "Tags")
    return tags.astype(np.int64, copy=False), ends.astype(np.int64, copy=False)


def _per_tag(values: ArrayLike, num_tags: int, name: str) -> NDArray[np.generic]:
    array = np.asarray(values)
    if array.ndim != 1 or array.size < num_tags:
        raise SettingError(
            f"Expected `{name}` to have an entry for every tag id, ({num_tags},), but got shape {array.shape}."
        )
    return array
