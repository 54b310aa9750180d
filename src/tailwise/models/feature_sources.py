"""What the head of a probe may see, by name.

    encoder          states of the frozen encoder; see `tailwise.models.row_features`
    tfidf            lexical features: TF-IDF of words and characters, for relations and tokens of words, shapes and
                     affixes in their places; see `tailwise.models.lexical`
    encoder+tfidf    a head on each of them; their scores are added with two weights fitted on validation

A recipe names one under ``features``; the parameters of ``tfidf`` are those of `LexicalFeatures.fit`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tailwise.errors import SettingError, UnknownNameError
from tailwise.registry import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["FEATURES", "Source", "check_features", "sources_of"]

Source = Literal["encoder", "tfidf"]

FEATURES: Mapping[str, tuple[Source, ...]] = {
    "encoder": ("encoder",),
    "tfidf": ("tfidf",),
    "encoder+tfidf": ("encoder", "tfidf"),
}


def sources_of(name: str) -> tuple[Source, ...]:
    """The sources that `name` joins.

    Raises:
        UnknownNameError: no such features.
    """
    if name not in FEATURES:
        raise UnknownNameError(f"Unknown features {name!r}. {did_you_mean(name, FEATURES)}")
    return FEATURES[name]


def check_features(name: str, params: Mapping[str, Any]) -> None:
    """Refuse an unknown name, and parameters where nothing takes them.

    Raises:
        UnknownNameError: no such features.
        SettingError: a parameter for the states of the encoder alone.
    """
    if "tfidf" not in sources_of(name) and params:
        raise SettingError(
            f"The features {name!r} have no parameter {min(params)!r}. Pooling and length are settings of the encoder."
        )
