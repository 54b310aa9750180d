"""Repeat factors over the entity types of sentences, and what sampling of sentences means for single tokens.

    f_t = sentences with type t / S     r_t = max(1, (threshold / f_t)^q)     r_s = max_{t in s} r_t,  1 without any

Gupta, Dollar, Girshick, LVIS, CVPR 2019, with the entity types of a sentence as its labels (survey section 3.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tailwise.errors import SettingError
from tailwise.sampling.repeat_factor import label_repeat_factors, threshold_for
from tailwise.sampling.sequence_rarity import SentenceFactorSampler, count_types

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["SentenceRepeatFactorSampler", "TokenFactorSampler"]


class SentenceRepeatFactorSampler(SentenceFactorSampler):
    """Sentences with a rare entity type come more than once per epoch.

    Args:
        sequences: tag ids per sentence, as in `count_types`.
        offsets: see `count_types`.
        catch_all: the tag id of "no entity" (O).
        num_classes: number of tags, where some do not occur; None takes the largest tag + 1.
        threshold: in (0, 1], the share of sentences below which a type is repeated; None takes `threshold_for`, so that
            about three types in ten are.
        power: q > 0; 1/2 as in the paper, 1 lifts every type up to the threshold.
        tag_types: see `count_types`.
        seed: any non-negative integer.
        num_samples: see `SentenceFactorSampler`.

    Raises:
        SettingError: `threshold` or `power` out of range; see `count_types`.
    """

    def __init__(
        self,
        sequences: Sequence[ArrayLike] | ArrayLike,
        *,
        offsets: ArrayLike | None = None,
        catch_all: int = 0,
        num_classes: int | None = None,
        threshold: float | None = None,
        power: float = 0.5,
        tag_types: ArrayLike | None = None,
        seed: int = 0,
        num_samples: int | None = None,
    ) -> None:
        super().__init__(
            sequences, offsets=offsets, catch_all=catch_all, num_classes=num_classes, seed=seed, num_samples=num_samples
        )
        if threshold is not None and not 0.0 < threshold <= 1.0:
            raise SettingError(f"{type(self).__name__}: expected `threshold` in (0, 1], but got {threshold!r}.")
        if not power > 0.0:
            raise SettingError(f"{type(self).__name__}: expected `power` to be positive, but got {power!r}.")
        counts = count_types(self.tags, offsets=self.offsets, catch_all=catch_all, tag_types=tag_types)
        shares = np.bincount(counts.type, minlength=counts.type_tokens.size) / counts.lengths.size
        if threshold is None:
            threshold = threshold_for(shares) if (shares > 0).any() else 1.0
        self.threshold = threshold
        self._factors = np.ones(counts.lengths.size)
        np.maximum.at(self._factors, counts.sentence, label_repeat_factors(shares, threshold, power=power)[counts.type])

    def factors(self) -> NDArray[np.float64]:
        """r_s, ``(S,)``."""
        return self._factors


class TokenFactorSampler(SentenceFactorSampler):
    """Tokens as often as their sentences are drawn, in an order of their own: for models whose rows are tokens.

    With whole numbers an epoch holds the tokens of the sentences that would be drawn; otherwise it does in expectation.

    Args:
        sentences: says how often each sentence comes; its seed is taken over.
        num_samples: see `SentenceFactorSampler`.
    """

    def __init__(self, sentences: SentenceFactorSampler, *, num_samples: int | None = None) -> None:
        super().__init__(
            sentences.tags,
            offsets=np.arange(sentences.tags.size + 1),
            catch_all=sentences.catch_all,
            num_classes=sentences.num_classes,
            seed=sentences.seed,
            num_samples=num_samples,
        )
        self._factors = np.repeat(sentences.factors(), np.diff(sentences.offsets))

    def factors(self) -> NDArray[np.float64]:
        """F of the sentence of every token, ``(L,)``."""
        return self._factors
