"""The manifest of a synthetic corpus: what was asked, what each class had, was to have and has, and which rows stayed.

Plain data for JSON. The hash of the kept rows is sha256 over their ids as a JSON list, in the order of the corpus.
"""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from tailwise.data.corpus import Corpus, SplitName
    from tailwise.sampling.label_matrix import LabelMatrix

__all__ = ["manifest_of", "split_manifest"]


def manifest_of(corpus: Corpus, parameters: Mapping[str, Any], order: Sequence[str] | None) -> dict[str, Any]:
    """What the synthesis started from and what was asked.

    Args:
        corpus: the corpus as it was.
        parameters: of the profile, plain data.
        order: class names by rank, the head first; None where the counts were stated.
    """
    return {
        "tailwise": _version(),
        "corpus": {"name": corpus.name, "fingerprint": corpus.fingerprint, "task": corpus.task.name},
        "parameters": dict(parameters),
        "classes_by_rank": None if order is None else list(order),
    }


def split_manifest(
    corpus: Corpus, split: SplitName, matrix: LabelMatrix, kept: NDArray[np.int64], wanted: NDArray[np.int64]
) -> dict[str, Any]:
    """What became of one split.

    Args:
        corpus: the corpus as it was.
        split: which split.
        matrix: labels of its rows, ``(N, C)``.
        kept: rows that stayed.
        wanted: wanted counts, ``(C,)``.

    Returns:
        Rows before and after, the hash of the kept ids, per class what was available, wanted and reached with its
        imbalance ratio (largest over its count), the ratio wanted and reached, and the gap: by how many labels all
        counts together are off.
    """
    number = wanted.size
    available = np.bincount(matrix.indices, minlength=number)
    reached = np.bincount(matrix[kept].indices, minlength=number)
    ids = corpus.ids(split)
    kept_ids = json.dumps([ids[i] for i in kept.tolist()], ensure_ascii=False)
    largest = int(reached.max(initial=0))
    return {
        "rows_before": int(matrix.shape[0]),
        "rows": int(kept.size),
        "kept_ids_sha256": hashlib.sha256(kept_ids.encode()).hexdigest(),
        "rho_available": _ratio(available),
        "rho_wanted": _ratio(wanted),
        "rho": _ratio(reached),
        "gap": int(np.abs(reached - wanted).sum()),
        "classes": {
            name: {
                "available": int(available[i]),
                "wanted": int(wanted[i]),
                "reached": int(reached[i]),
                "ratio": round(largest / int(reached[i]), 6) if reached[i] else None,
            }
            for i, name in enumerate(corpus.label_space.all_names)
            if available[i]
        },
    }


def _ratio(counts: NDArray[np.int64]) -> float | None:
    present = counts[counts > 0]
    return round(float(present.max() / present.min()), 6) if present.size else None


def _version() -> str | None:
    try:
        return version("tailwise")
    except PackageNotFoundError:  # a source tree that was never installed
        return None
