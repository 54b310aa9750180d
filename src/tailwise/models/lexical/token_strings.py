"""Strings that describe every token of a sentence: words, shapes and affixes in a window.

Of the token itself and of two tokens on either side, the lowercased word and its shape; of the token itself and of
its neighbours, also prefixes and suffixes of two to four characters. A string is ``"<offset><kind>=<value>"``, with the
kinds

    w   the word in lower case           p2, p3, p4   its first characters
    s   its shape, see `word_shape`      q2, q3, q4   its last characters

and ``"<offset>=out"`` stands for a place beyond the ends of the sentence. The features of Ratnaparkhi, A Maximum
Entropy Model for Part-of-Speech Tagging, EMNLP 1996, with the shapes of Collins, Ranking Algorithms for Named-Entity
Extraction, ACL 2002.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["token_features", "word_shape"]

WINDOW: Final = 2
AFFIX_WINDOW: Final = 1
AFFIX_LENGTHS: Final = (2, 3, 4)


def token_features(tokens: Sequence[str]) -> list[list[str]]:
    """The strings of every token of a sentence.

    Args:
        tokens: the N tokens of one sentence, as they are written.

    Returns:
        N lists of strings; no string stands twice in a list.
    """
    around = range(-WINDOW, WINDOW + 1)
    described = [{offset: _described(token, offset) for offset in around} for token in tokens]
    size = len(tokens)
    return [
        [
            string
            for offset in around
            for string in (described[i + offset][offset] if 0 <= i + offset < size else (f"{offset}=out",))
        ]
        for i in range(size)
    ]


def word_shape(word: str) -> str:
    """Upper case as ``X``, lower case as ``x``, digits as ``d``, all else as written, and runs of one sign as one.

    ``"McDonald's"`` becomes ``"XxXx'x"`` and ``"1,024"`` becomes ``"d,d"``. Scripts without case, such as Hangul, Han
    and Arabic, have letters as ``o``.
    """
    return "".join(sign for sign, _ in groupby(_sign(character) for character in word))


def _sign(character: str) -> str:
    if character.isdecimal():
        return "d"
    if character.isupper() or character.istitle():
        return "X"
    if character.islower():
        return "x"
    return "o" if character.isalpha() else character


@lru_cache(maxsize=2**16)
def _described(word: str, offset: int) -> tuple[str, ...]:
    lower = word.lower()
    strings = [f"{offset}w={lower}", f"{offset}s={word_shape(word)}"]
    if abs(offset) <= AFFIX_WINDOW:
        strings += [f"{offset}p{length}={lower[:length]}" for length in AFFIX_LENGTHS]
        strings += [f"{offset}q{length}={lower[-length:]}" for length in AFFIX_LENGTHS]
    return tuple(strings)
