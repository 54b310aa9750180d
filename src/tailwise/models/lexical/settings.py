"""Which terms are taken, and how blocks of them weigh."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from tailwise.errors import SettingError
from tailwise.models.lexical.counting import Analysis

if TYPE_CHECKING:
    from tailwise.data.task import InputForm

__all__ = ["LONGEST_NGRAM", "LexicalSettings", "View"]

#: words or characters in a row, at the most
LONGEST_NGRAM = 10
#: most columns; vocabularies are saved as JSON
MOST_FEATURES = 1_000_000
#: inputs that hold a term, at the least
MIN_DF = 2
#: below so many texts, words that one of them holds are kept
FEW_TEXTS = 2000


class View(NamedTuple):
    """One kind of terms: how they are found, in how many inputs at least, and what they weigh."""

    analysis: Analysis
    min_df: int
    use_idf: bool
    weight: float


@dataclass(frozen=True)
class LexicalSettings:
    """The settings of `LexicalFeatures.fit`, described there.

    Raises:
        SettingError: out of range; names the setting.
    """

    word_ngrams: tuple[int, int] | None
    character_ngrams: tuple[int, int] | None
    word_weight: float
    lowercase: bool
    min_df: int | None
    max_features: int

    def __post_init__(self) -> None:
        _check_ngrams("word_ngrams", self.word_ngrams)
        _check_ngrams("character_ngrams", self.character_ngrams)
        if self.word_ngrams is None and self.character_ngrams is None:
            raise SettingError("`word_ngrams` and `character_ngrams` are both None, which leaves no terms. Give one.")
        if not (_is_number(self.word_weight) and 1e-3 <= self.word_weight <= 1e3):
            raise SettingError(
                f"Expected `word_weight` to be a number from 0.001 to 1000, but got {self.word_weight!r}. To leave "
                "words or characters out, set `word_ngrams` or `character_ngrams` to None."
            )
        if self.min_df is not None:
            _check_count("min_df", self.min_df)
        _check_count("max_features", self.max_features, MOST_FEATURES)

    def views(self, form: InputForm, num_items: int) -> list[View]:
        """The kinds of terms of a form of input, the weights such that a row of all of them has length 1."""
        min_df = self.min_df or MIN_DF
        if form in {"relation", "tokens"}:
            return [View(Analysis("strings"), min_df, use_idf=form == "relation", weight=1.0)]
        found = []
        if self.word_ngrams is not None:
            analysis = Analysis("words", (self.word_ngrams[0], self.word_ngrams[1]), self.lowercase)
            words_min_df = 1 if self.min_df is None and num_items < FEW_TEXTS else min_df
            found.append(View(analysis, words_min_df, use_idf=True, weight=self.word_weight))
        if self.character_ngrams is not None:
            analysis = Analysis("characters", (self.character_ngrams[0], self.character_ngrams[1]), self.lowercase)
            found.append(View(analysis, min_df, use_idf=True, weight=1.0))
        length = math.sqrt(sum(view.weight**2 for view in found))
        return [view._replace(weight=view.weight / length) for view in found]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_count(name: str, value: Any, most: int | None = None) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1 or (most is not None and value > most):
        limit = "of at least 1" if most is None else f"from 1 to {most:,}"
        raise SettingError(f"Expected `{name}` to be a whole number {limit}, but got {value!r}.")


def _check_ngrams(name: str, ngrams: Any) -> None:
    if ngrams is None:
        return
    fits = isinstance(ngrams, tuple | list) and len(ngrams) == 2 and all(type(n) is int for n in ngrams)
    if not fits or not 1 <= ngrams[0] <= ngrams[1] <= LONGEST_NGRAM:
        raise SettingError(
            f"Expected `{name}` to be None or two whole numbers, the least and the greatest length, from 1 to "
            f"{LONGEST_NGRAM}, but got {ngrams!r}."
        )
