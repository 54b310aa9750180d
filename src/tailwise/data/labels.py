"""The label space: which classes there are, and how many training instances each has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tailwise.errors import DataError
from tailwise.registry import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["LabelSpace"]


@dataclass(frozen=True, eq=False)
class LabelSpace:
    """Class names in sorted order, their training counts, and the catch-all class where there is one.

    Attributes:
        names: one name per class with at least one training instance, sorted; the position is the class index.
        counts: training instances per class, n_j >= 1, ``(C,)``.
        catch_all: name of the class that holds everything of no interest, or None.
        unseen: classes that only validation or test have, sorted. Their indices follow, from C on: no model can predict
            them, their instances count as errors, and they are never averaged over.
        num_rows: training instances where one may have several labels or none; None where each has exactly one.
        path_mark: what stands between the parts of names that are paths, so that a label stands below another; None
            where names are just names. See `tailwise.data.label_paths`.
    """

    names: tuple[str, ...]
    counts: NDArray[np.int64]
    catch_all: str | None = None
    unseen: tuple[str, ...] = ()
    num_rows: int | None = None
    path_mark: str | None = None

    def __post_init__(self) -> None:
        counts = np.asarray(self.counts, dtype=np.int64)
        if counts.shape != (len(self.names),):
            raise DataError(f"Expected one training count per class, {len(self.names)}, but got shape {counts.shape}.")
        if self.catch_all is not None and self.catch_all not in self.names:
            raise DataError(f"There is no class {self.catch_all!r}. {did_you_mean(self.catch_all, self.names)}")
        counts.setflags(write=False)
        object.__setattr__(self, "counts", counts)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def num_classes(self) -> int:
        """C, the classes that can be learnt."""
        return len(self.names)

    @property
    def all_names(self) -> tuple[str, ...]:
        """Names by index: the C classes of training, then the unseen ones."""
        return self.names + self.unseen

    @property
    def prior(self) -> NDArray[np.float64]:
        """The natural prior n_j / sum n, ``(C,)``; n_j / N where an instance may have several labels."""
        total = int(self.counts.sum()) if self.num_rows is None else self.num_rows
        return self.counts / max(total, 1)

    def encode(self, labels: Sequence[str]) -> NDArray[np.int64]:
        """Class indices of label names, ``(N,)``.

        Raises:
            DataError: a label that is not in the space, with its position.
        """
        index = {name: i for i, name in enumerate(self.all_names)}
        try:
            return np.fromiter((index[label] for label in labels), dtype=np.int64, count=len(labels))
        except KeyError:
            row, label = next((i, label) for i, label in enumerate(labels) if label not in index)
            raise DataError(f"Row {row} has the label {label!r}, unknown here. {did_you_mean(label, index)}") from None

    def decode(self, indices: Sequence[int] | NDArray[np.int64]) -> list[str]:
        """Label names of class indices."""
        names = self.all_names
        return [names[i] for i in indices]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "names": list(self.names),
            "counts": self.counts.tolist(),
            "catch_all": self.catch_all,
            "unseen": list(self.unseen),
            **({} if self.num_rows is None else {"num_rows": self.num_rows}),
            **({} if self.path_mark is None else {"path_mark": self.path_mark}),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LabelSpace:
        """The inverse of `to_dict`."""
        counts = np.asarray(data["counts"], dtype=np.int64)
        unseen = tuple(data.get("unseen", ()))
        return cls(
            tuple(data["names"]), counts, data.get("catch_all"), unseen, data.get("num_rows"), data.get("path_mark")
        )
