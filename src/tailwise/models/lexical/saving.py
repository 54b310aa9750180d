"""Lexical features on disk: terms and settings as JSON, their weights as safetensors.

``lexical.json`` holds the form of the inputs and, per block, what counts as a term and the terms in the order of the
columns; ``lexical.safetensors`` holds the idf of block i as ``"i"``. Both are read as files that nobody vouches for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch

from tailwise.data.task import InputForm
from tailwise.errors import ModelError
from tailwise.models.lexical.counting import Analysis, TermKind
from tailwise.models.lexical.settings import LONGEST_NGRAM, MOST_FEATURES
from tailwise.models.lexical.tfidf import LONGEST_TERM, TfidfBlock
from tailwise.models.saving_folder import write_json, write_tensors
from tailwise.models.saving_untrusted import MAX_JSON_BYTES, inside, load_tensors, read_json, safetensors_dtypes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["IDF", "VOCABULARY", "read_blocks", "write_blocks"]

VOCABULARY = "lexical.json"
IDF = "lexical.safetensors"

FORMAT = "tailwise-lexical"
FORMAT_VERSION = 1
#: which kinds of terms each form of input has
_KINDS: dict[InputForm, frozenset[TermKind]] = {
    "text": frozenset({"words", "characters"}),
    "pair": frozenset({"words", "characters"}),
    "relation": frozenset({"strings"}),
    "tokens": frozenset({"strings"}),
}


def write_blocks(folder: Path, form: InputForm, blocks: Sequence[TfidfBlock]) -> None:
    """Write both files; makes the folder.

    Raises:
        ModelError: the vocabulary takes more than 64 MiB.
    """
    data = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "form": form,
        "blocks": [block.description() for block in blocks],
    }
    write_json(folder / VOCABULARY, data)
    size = (folder / VOCABULARY).stat().st_size
    if size > MAX_JSON_BYTES:
        raise ModelError(
            f"{folder / VOCABULARY}: {size} bytes of terms, more than the {MAX_JSON_BYTES} that can be read again. Fit "
            "with a smaller `max_features`."
        )
    write_tensors(folder / IDF, {str(i): torch.from_numpy(block.idf) for i, block in enumerate(blocks)})


def read_blocks(folder: Path) -> tuple[InputForm, tuple[TfidfBlock, ...]]:
    """Read both files.

    Raises:
        ModelError: missing, too large, of another format or newer, of wrong types, with terms that stand twice or are
            too long, or with weights that are not finite or do not fit the terms; names file and key.
    """
    path = inside(folder, VOCABULARY)
    data = read_json(path)
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ModelError(f"{path}: expected the key `format` to be {FORMAT!r}. This is no lexical vocabulary.")
    version = data.get("format_version")
    if type(version) is not int or version < 1:
        raise _error(path, "format_version", f"expected {FORMAT_VERSION}, but found {version!r:.40}")
    if version > FORMAT_VERSION:
        raise _error(path, "format_version", f"{version} is newer than this tailwise reads; upgrade tailwise")
    form: Any = data.get("form")
    if form not in get_args(InputForm):
        raise _error(path, "form", f"expected one of {', '.join(get_args(InputForm))}, but found {form!r:.40}")
    listed = data.get("blocks")
    if not isinstance(listed, list) or not 1 <= len(listed) <= len(_KINDS[form]):
        raise _error(path, "blocks", f"expected a list of 1 to {len(_KINDS[form])} blocks")
    blocks = [_block(path, f"blocks[{i}]", entry, form) for i, entry in enumerate(listed)]
    if len({block["analysis"].kind for block in blocks}) < len(blocks):
        raise _error(path, "blocks", "expected blocks of different kinds")
    sizes = [len(block["terms"]) for block in blocks]
    return form, tuple(
        TfidfBlock(idf=idf, **block) for block, idf in zip(blocks, _read_idf(folder, sizes), strict=True)
    )


def _block(path: Path, key: str, entry: Any, form: InputForm) -> dict[str, Any]:
    """The attributes of a block but its idf."""
    if not isinstance(entry, dict):
        raise _error(path, key, f"expected a mapping, but found a {type(entry).__name__}")
    kind: Any = entry.get("kind")
    lowercase: Any = entry.get("lowercase")
    weight: Any = entry.get("weight")
    if not isinstance(kind, str) or kind not in _KINDS[form]:
        raise _error(path, f"{key}.kind", f"expected {' or '.join(sorted(_KINDS[form]))}, but found {kind!r:.40}")
    if type(lowercase) is not bool:
        raise _error(path, f"{key}.lowercase", f"expected true or false, but found {lowercase!r:.40}")
    if type(weight) not in (int, float) or not 0 < weight <= 1:
        raise _error(path, f"{key}.weight", f"expected a number above 0, at most 1, but found {weight!r:.40}")
    analysis = Analysis(kind, _ngrams(path, f"{key}.ngrams", entry), lowercase)
    return {"analysis": analysis, "terms": _terms(path, f"{key}.terms", entry), "weight": float(weight)}


def _ngrams(path: Path, key: str, entry: Mapping[str, Any]) -> tuple[int, int]:
    found = entry.get("ngrams")
    if not isinstance(found, list) or len(found) != 2 or not all(type(n) is int for n in found):
        raise _error(path, key, f"expected two whole numbers, but found {found!r:.40}")
    least, greatest = found
    if not 1 <= least <= greatest <= LONGEST_NGRAM:
        raise _error(path, key, f"expected 1 to {LONGEST_NGRAM}, the least first, but found {found!r:.40}")
    return least, greatest


def _terms(path: Path, key: str, entry: Mapping[str, Any]) -> tuple[str, ...]:
    terms = entry.get("terms")
    if not isinstance(terms, list) or len(terms) > MOST_FEATURES:
        raise _error(path, key, f"expected a list of at most {MOST_FEATURES} terms")
    for i, term in enumerate(terms):
        if not isinstance(term, str) or not 0 < len(term) <= LONGEST_TERM:
            raise _error(path, f"{key}[{i}]", f"expected 1 to {LONGEST_TERM} characters, but found {term!r:.40}")
    if len(set(terms)) < len(terms):
        raise _error(path, key, "expected different terms, but at least one stands there twice")
    return tuple(terms)


def _read_idf(folder: Path, sizes: Sequence[int]) -> list[np.ndarray[Any, np.dtype[np.float32]]]:
    path = inside(folder, IDF)
    tensors = load_tensors(path, {str(i): (size,) for i, size in enumerate(sizes)})
    if safetensors_dtypes(path) - {"F32"}:
        raise ModelError(f"{path}: expected weights in float32. Copy the file again.")
    found = [tensors[str(i)].numpy() for i in range(len(sizes))]
    for i, idf in enumerate(found):
        if not (np.isfinite(idf).all() and (idf > 0).all()):
            raise ModelError(f"{path}: expected finite weights above 0 in the tensor '{i}'. Copy the file again.")
    return found


def _error(path: Path, key: str, problem: str) -> ModelError:
    return ModelError(f"{path}, key `{key}`: {problem}.")
