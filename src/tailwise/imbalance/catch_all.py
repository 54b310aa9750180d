"""The catch-all class: the one that holds everything of no interest (``O``, ``other``, ``no_relation``).

A class is a candidate for one of three reasons, in this order:

    configured   the label space names it: the user or the SOURCE.json of the data set said so
    named        its name, case-folded, is one of `NAMES`; ``negative`` beside ``positive`` is a polarity and does not
                 count
    structural   at least four classes, one holds half of the training instances or more, at least three times the next
                 one, and the others are near-equal (normalised entropy >= 0.95). A long tail, where the second class
                 also towers over the third, is not taken for a catch-all. A hint to be checked, never more

Survey sections 2.1 and 3.3; the structural rule is ours.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tailwise.imbalance.measures import imbalance_ratio, minority_share, normalised_entropy
from tailwise.imbalance.shape import classify_shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tailwise.imbalance.shape import ShapeName

__all__ = ["NAMES", "CatchAll", "CatchAllBasis", "find_catch_all", "outside_tag"]

CatchAllBasis = Literal["configured", "named", "structural"]
NAMES = frozenset({"o", "other", "none", "no_relation", "na", "negative", "nil", "null"})
_MIN_CLASSES = 4
_MIN_SHARE = 0.5
_MIN_LEAD = 3.0
_MIN_EVENNESS = 0.95


@dataclass(frozen=True)
class CatchAll:
    """A catch-all candidate, and the imbalance of the classes without it.

    Attributes:
        name: name of the class.
        index: its class index; None for ``O`` beside spans, which is a tag and no type.
        basis: configured, named or structural.
        reason: one sentence.
        share: its share of the training instances; of the tokens for ``O`` beside spans.
        rho: imbalance ratio of all classes; of the tags by tokens for ``O`` beside spans.
        rho_without: imbalance ratio of the others; None where there is only one.
        mu_without: share of minority classes among the others; None where there is only one.
        shape_without: shape of the others; None where there is only one.
    """

    name: str
    index: int | None
    basis: CatchAllBasis
    reason: str
    share: float
    rho: float
    rho_without: float | None
    mu_without: float | None
    shape_without: ShapeName | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def find_catch_all(
    names: Sequence[str],
    counts: NDArray[np.int64],
    configured: str | None = None,
    configured_by: str = "the label space",
) -> CatchAll | None:
    """The catch-all candidate among classes with training counts ``(C,)``, or None.

    Args:
        names: class names, ``(C,)``.
        counts: training instances per class, ``(C,)``.
        configured: the class that the label space names, if any.
        configured_by: who says so; for the reason.
    """
    if configured is not None:
        return _describe(names, counts, list(names).index(configured), "configured", f"Named by {configured_by}.")
    named = [i for i, name in enumerate(names) if _folded(name) in _catch_all_names(names)]
    if named:
        index = max(named, key=lambda i: int(counts[i]))
        others = [names[i] for i in named if i != index]
        more = f" Also named like one: {', '.join(map(repr, others))}." if others else ""
        return _describe(names, counts, index, "named", f"The name {names[index]!r} is a usual name of one.{more}")
    index = int(np.argmax(counts))
    reason = _structural_reason(counts, index)
    return _describe(names, counts, index, "structural", reason) if reason else None


def outside_tag(
    name: str, tags: tuple[Sequence[str], NDArray[np.int64]], span_counts: NDArray[np.int64]
) -> CatchAll | None:
    """The tag of the tokens outside all spans as the catch-all, or None where no token of train has it.

    Args:
        name: of the tag.
        tags: names and training tokens of the tags, ``(T,)``.
        span_counts: training spans per type, ``(C,)``.
    """
    names, tokens = tags
    if name not in names:
        return None
    outside = int(tokens[list(names).index(name)])
    several = len(span_counts) > 1
    return CatchAll(
        name=name,
        index=None,
        basis="configured",
        reason="It tags the tokens outside all spans and is no type of its own.",
        share=outside / int(tokens.sum()),
        rho=imbalance_ratio(tokens),
        rho_without=imbalance_ratio(span_counts) if several else None,
        mu_without=minority_share(span_counts) if several else None,
        shape_without=classify_shape(span_counts).name if several else None,
    )


def _folded(name: str) -> str:
    return "_".join(name.casefold().replace("-", " ").replace("_", " ").split())


def _catch_all_names(names: Sequence[str]) -> frozenset[str]:
    return NAMES - {"negative"} if "positive" in {_folded(name) for name in names} else NAMES


def _structural_reason(counts: NDArray[np.int64], index: int) -> str | None:
    present = counts[counts > 0]
    if present.size < _MIN_CLASSES:
        return None
    rest = np.delete(counts, index)
    rest = rest[rest > 0]
    share, lead, evenness = counts[index] / counts.sum(), counts[index] / rest.max(), normalised_entropy(rest)
    if share < _MIN_SHARE or lead < _MIN_LEAD or evenness < _MIN_EVENNESS:
        return None
    return (
        f"It holds {share:.0%} of the training examples, {lead:.1f} times the next class, while the other {rest.size} "
        f"classes are near-equal (normalised entropy {evenness:.2f}). Catch-all classes look so; check the meaning."
    )


def _describe(
    names: Sequence[str], counts: NDArray[np.int64], index: int, basis: CatchAllBasis, reason: str
) -> CatchAll:
    rest = np.delete(counts, index)
    rest = rest[rest > 0]
    several = rest.size > 1
    return CatchAll(
        name=names[index],
        index=index,
        basis=basis,
        reason=reason,
        share=float(counts[index] / counts.sum()),
        rho=imbalance_ratio(counts),
        rho_without=imbalance_ratio(rest) if several else None,
        mu_without=minority_share(rest) if several else None,
        shape_without=classify_shape(rest).name if several else None,
    )
