"""What all methods of a comparison share is computed before the first training, and timed apart.

Features of all splits come from the encoder, the cache or, for lexical ones, from counting words. They belong to the
corpus: were they computed when first asked for, the first method would pay for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

from tailwise.data.corpus import SPLITS
from tailwise.models.feature_sources import sources_of
from tailwise.models.lexical.rows import split_lexical_rows
from tailwise.models.row_features import split_row_features
from tailwise.models.token_states import split_token_states
from tailwise.models.word_features import split_word_features
from tailwise.stages.label_structures import for_label_structure
from tailwise.stages.probe_paths import probe_path, takes_lexical, takes_token_states
from tailwise.stages.recipe import Component
from tailwise.training.probe import DEFAULT_FEATURES, ProbeEngine
from tailwise.training.probe_parts import fitted_lexical

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tailwise.data.corpus import Corpus
    from tailwise.models.encoder import Encoder
    from tailwise.stages.recipe import Recipe
    from tailwise.training.engine import Engine, Progress

__all__ = ["Preparation", "prepare_features"]


@dataclass(frozen=True)
class Preparation:
    """What it took to have the features of all splits at hand.

    Attributes:
        seconds: wall time.
        encoded: texts (sentences, where words are encoded) that went through the encoder; 0 where all were cached.
    """

    seconds: float = 0.0
    encoded: int = 0

    def __add__(self, other: Preparation) -> Preparation:
        return Preparation(self.seconds + other.seconds, self.encoded + other.encoded)

    def __str__(self) -> str:
        done = f"{self.encoded:,} texts encoded" if self.encoded else "no text had to be encoded"
        return f"{self.seconds:.1f} s before the first training, charged to no method; {done}"


def prepare_features(
    engine: Engine,
    recipes: Sequence[Recipe],
    corpus: Corpus,
    encoder: Encoder,
    *,
    tuned: bool = True,
    progress: Progress | None = None,
) -> Preparation:
    """Find or compute every feature that `recipes` may be trained on; nothing for an engine that works on texts.

    Args:
        engine: what will train.
        recipes: the methods that take part, before tuning.
        corpus: the data.
        encoder: turns texts into features.
        tuned: whether the features of a recipe that leaves them open are tuned, so that all choices are needed.
        progress: told how far the encoding is.
    """
    if not isinstance(engine, ProbeEngine):
        return Preparation()
    started, encoded = perf_counter(), 0

    def count(what: str, done: int, total: int) -> None:
        nonlocal encoded
        encoded += total if done == total and what == "encode" else 0
        if progress is not None:
            progress(what, done, total)

    forms = [for_label_structure(recipe, corpus.task.label_structure) for recipe in recipes]
    forms = [recipe for recipe in forms if probe_path(recipe, corpus.task.label_structure) != "words"]
    wanted = {feature for recipe in forms for feature in _features(engine, recipe, corpus, tuned=tuned)}
    on_states = any(takes_token_states(recipe) for recipe in forms)
    on_rows = not all(takes_token_states(recipe) for recipe in forms)
    for split in SPLITS:
        if "encoder" in {source for feature in wanted for source in sources_of(feature.name)}:
            if corpus.task.label_structure == "arcs":
                split_word_features(encoder, corpus, split, cache=engine.cache, progress=count)
            elif on_rows:
                split_row_features(encoder, corpus, split, cache=engine.cache, progress=count)
            if on_states:
                split_token_states(encoder, corpus, split, cache=engine.cache, progress=count)
        for feature in wanted:
            if "tfidf" in sources_of(feature.name):
                split_lexical_rows(fitted_lexical(corpus, feature), corpus, split)
    return Preparation(perf_counter() - started, encoded)


def _features(engine: ProbeEngine, recipe: Recipe, corpus: Corpus, *, tuned: bool) -> Iterator[Component]:
    """What a recipe may be trained on."""
    if recipe.features is not None:
        yield recipe.features
    elif not takes_lexical(recipe, corpus.task.label_structure):
        yield Component("encoder")
    else:
        first = engine.features or DEFAULT_FEATURES
        for name in engine.search_space(recipe, corpus).get("features", (first,)) if tuned else (first,):
            yield Component(str(name))
