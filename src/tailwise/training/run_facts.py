"""Facts of a run for the model card, as plain data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tailwise.data.corpus import Corpus
    from tailwise.models.encoder import Encoder

__all__ = ["run_facts"]


def run_facts(
    corpus: Corpus, encoder: Encoder | None, settings: Mapping[str, Any], log: Mapping[str, Any]
) -> dict[str, Any]:
    """Encoder, if one takes part, settings, training log and data of a run; pooling is one where texts are pooled."""
    facts = {} if encoder is None else {"encoder": _encoder_facts(corpus, encoder)}
    return {
        **facts,
        "settings": dict(settings),
        "training": dict(log),
        "data": {"name": corpus.name, "fingerprint": corpus.fingerprint},
    }


def _encoder_facts(corpus: Corpus, encoder: Encoder) -> dict[str, Any]:
    pooling = {} if corpus.task.by_token else {"pooling": encoder.pooling}
    return {
        "name": encoder.name,
        "revision": encoder.revision,
        "fingerprint": encoder.fingerprint,
        **pooling,
        "max_length": encoder.max_length,
        "dtype": str(encoder.dtype).removeprefix("torch."),
    }
