"""From the component of a recipe to a sampler over sentences, where every token has a tag."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tailwise.evaluation.spans import tag_parts
from tailwise.sampling import SENTENCE_SAMPLERS, SentenceFactorSampler
from tailwise.training.components import filled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from tailwise.data.labels import LabelSpace
    from tailwise.stages.recipe import Component

__all__ = ["build_sentence_sampler", "sampler_over_rows", "sentence_shares"]


def sampler_over_rows(
    component: Component, rows: Sequence[ArrayLike], space: LabelSpace, *, seed: int
) -> SentenceFactorSampler:
    """`build_sentence_sampler` for one sequence of tag indices per row."""
    tags = [np.asarray(row, dtype=np.int64) for row in rows]
    offsets = np.cumsum([0, *(row.size for row in tags)])
    return build_sentence_sampler(component, np.concatenate(tags), offsets, space, seed=seed)


def build_sentence_sampler(
    component: Component, tags: NDArray[np.int64], offsets: NDArray[np.int64], space: LabelSpace, *, seed: int
) -> SentenceFactorSampler:
    """The sampler of a stage over the sentences of the training split.

    The beginning and the inside of an entity count as one type. Without a catch-all tag every tag is a type.

    Args:
        component: name and parameters.
        tags: index of the tag of every token, negative where a sub-word has none, ``(L,)``.
        offsets: where each sentence begins, and L, ``(S + 1,)``.
        space: the tags.
        seed: of its random stream.

    Raises:
        UnknownNameError: no such sampler.
        SettingError: a parameter it does not have or does not accept.
    """
    outside = space.num_classes if space.catch_all is None else space.names.index(space.catch_all)
    types = [tag_parts(name)[1] for name in space.names]
    index = {name: i for i, name in enumerate(sorted(set(types)))}
    data: dict[str, Any] = {
        "offsets": offsets,
        "catch_all": outside,
        "num_classes": space.num_classes,
        "tag_types": [*(index[name] for name in types), 0],  # the last one is for a catch-all that does not occur
        "seed": seed,
    }
    return SENTENCE_SAMPLERS[component.name](tags, **filled(SENTENCE_SAMPLERS, component, data))


def sentence_shares(
    component: Component, tags: NDArray[np.int64], offsets: NDArray[np.int64] | None, space: LabelSpace
) -> NDArray[np.float64] | None:
    """The distribution of the tags in what a sampler over sentences draws, ``(C,)``; None for another sampler.

    The arguments are those of `build_sentence_sampler`; `offsets` is None where rows are no sentences.
    """
    if component.name not in SENTENCE_SAMPLERS or offsets is None:
        return None
    return build_sentence_sampler(component, tags, offsets, space, seed=0).effective_prior()
