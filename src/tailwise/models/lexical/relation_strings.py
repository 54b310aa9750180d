"""Strings that describe a sentence with two marked entities: words by place, entities, distance and order.

With the entities in the order of the sentence, ``[a, b)`` and ``[c, d)``, and all words in lower case,

    m=, mm=     words from b to c, and two of them in a row        h=, t=       words of the entities
    ms=         their first five characters                        hs=, ts=     suffixes of the last words of the
    nb=, na=    the first two and the last two of them                          entities, of 3 and 4 characters
    w=          every word of the sentence

once as they are and, except for ``w``, once with the order: ``+`` where the head entity stands first, ``-`` where the
tail entity does. With the order alone,

    seq=        the first six words from b to c as one             hh=, tt=     the last words of the entities
    l=, r=      three words before a, three from d                 dist=        c - b, at most 20
    le=, re=    the word before a, the word at d                   o            nothing but the order

Features of the kind of Zhou et al., Exploring Various Knowledge in Relation Extraction, ACL 2005.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tailwise.data.corpus import RelationInput

__all__ = ["relation_features"]

OUTSIDE: Final = 3
NEAR: Final = 2
STEM: Final = 5
LONGEST: Final = 6
FARTHEST: Final = 20
SUFFIX_LENGTHS: Final = (3, 4)


def relation_features(example: RelationInput) -> list[str]:
    """The strings of a sentence with two marked entities, none of them twice.

    Raises:
        DataError: an entity outside the sentence, or without a token.
    """
    example.check()
    words = [token.lower() for token in example.tokens]
    (a, b), (c, d) = sorted((example.head, example.tail))
    between = words[b:c]
    strings = [
        *(f"m={word}" for word in between),
        *(f"mm={first}_{second}" for first, second in pairwise(between)),
        *(f"ms={word[:STEM]}" for word in between),
        *(f"nb={word}" for word in between[:NEAR]),
        *(f"na={word}" for word in between[-NEAR:]),
        *(f"h={word}" for word in words[a:b]),
        *(f"t={word}" for word in words[c:d]),
        *(f"hs={words[b - 1][-length:]}" for length in SUFFIX_LENGTHS),
        *(f"ts={words[d - 1][-length:]}" for length in SUFFIX_LENGTHS),
    ]
    with_order = [
        "o",
        f"seq={'_'.join(between[:LONGEST])}",
        f"dist={max(0, min(FARTHEST, c - b))}",
        *(f"l={word}" for word in words[max(0, a - OUTSIDE) : a]),
        *(f"r={word}" for word in words[d : d + OUTSIDE]),
        f"le={words[a - 1] if a else ''}",
        f"re={words[d] if d < len(words) else ''}",
        f"hh={words[b - 1]}",
        f"tt={words[d - 1]}",
    ]
    order = "+" if example.head <= example.tail else "-"
    ordered = (order + string for string in (*strings, *with_order))
    return list(dict.fromkeys((*ordered, *strings, *(f"w={word}" for word in words))))
