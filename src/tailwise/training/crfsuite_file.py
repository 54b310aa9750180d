"""The weights in a file that CRFsuite wrote a moment ago, in full precision.

CRFsuite's own listing of a model rounds weights to six digits, so the file itself is read: a header, 20 bytes per
feature, and two tables of names (constant quark databases). Okazaki, CRFsuite, 2007, ``crf1d_model.c``, ``cqdb.c``.
Files of other origin are not for this reader: a saved tailwise model holds no such file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tailwise.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["CRFsuiteWeights", "read_crfsuite"]

_HEADER = np.dtype([("magic", "S4"), ("size", "<u4"), ("type", "S4"), ("version", "<u4"), ("numbers", "<u4", 8)])
_FEATURE = np.dtype([("kind", "<u4"), ("source", "<u4"), ("target", "<u4"), ("weight", "<f8")])
_STATE, _TRANSITION = 0, 1


class CRFsuiteWeights(NamedTuple):
    """Weights that are not 0, by names.

    Attributes:
        labels: names of the tags.
        attributes: names of the attributes.
        state: attribute, tag and weight of the scores of attributes; fields ``source``, ``target``, ``weight``.
        transition: from tag, to tag and weight; the same fields.
    """

    labels: list[str]
    attributes: list[str]
    state: NDArray[np.void]
    transition: NDArray[np.void]


def read_crfsuite(path: Path) -> CRFsuiteWeights:
    """Labels, attributes and weights of a first-order model.

    Raises:
        ModelError: not the layout that CRFsuite 0.12 writes.
    """
    data = path.read_bytes()
    header = np.frombuffer(data, _HEADER, count=1)[0] if len(data) >= _HEADER.itemsize else None
    if header is None or header["magic"] != b"lCRF" or header["type"] != b"FOMC":
        raise ModelError(f"{path}: not a first-order model of CRFsuite. Install python-crfsuite 0.9.11 or later.")
    _, num_labels, num_attributes, features_at, labels_at, attributes_at = header["numbers"][:6].tolist()
    count = int(np.frombuffer(data, "<u4", count=1, offset=features_at + 8)[0])
    features = np.frombuffer(data, _FEATURE, count=count, offset=features_at + 12)
    return CRFsuiteWeights(
        labels=_names(data, labels_at, num_labels),
        attributes=_names(data, attributes_at, num_attributes),
        state=features[features["kind"] == _STATE],
        transition=features[features["kind"] == _TRANSITION],
    )


def _names(data: bytes, start: int, count: int) -> list[str]:
    """The strings of a table by their numbers: a list of places, and there number, size and text with a final NUL."""
    size, at = np.frombuffer(data, "<u4", count=2, offset=start + 16).tolist()
    names = []
    for place in np.frombuffer(data, "<u4", count=min(size, count), offset=start + at).tolist():
        length = int.from_bytes(data[start + place + 4 : start + place + 8], "little")
        names.append(data[start + place + 8 : start + place + 7 + length].decode("utf-8"))
    return names
