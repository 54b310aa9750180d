"""Facts of a run for the model card, as plain data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tailwise.data.corpus import Corpus
    from tailwise.models.encoder import Encoder

__all__ = ["run_facts"]


def run_facts(corpus: Corpus, encoder: Encoder, settings: Mapping[str, Any], log: Mapping[str, Any]) -> dict[str, Any]:
    """Encoder, settings, training log and data of a run; pooling is a fact only where texts are pooled."""
    pooling = {} if corpus.task.by_token else {"pooling": encoder.pooling}
    return {
        "encoder": {
            "name": encoder.name,
            "revision": encoder.revision,
            "fingerprint": encoder.fingerprint,
            **pooling,
            "max_length": encoder.max_length,
            "dtype": str(encoder.dtype).removeprefix("torch."),
        },
        "settings": dict(settings),
        "training": dict(log),
        "data": {"name": corpus.name, "fingerprint": corpus.fingerprint},
    }
