"""How the labels of rows with several labels are spread and come together: all rows, and label by label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tailwise.imbalance.multilabel_measures import (
    MultiLabelMeasures,
    as_label_matrix,
    irlbl,
    label_counts,
    label_scumble,
    measure_labels,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LabelProfile", "profile_labels"]


@dataclass(frozen=True, eq=False)
class LabelProfile:
    """The multi-label measures of train; see `tailwise.imbalance.multilabel_measures`.

    Attributes:
        measures: of all rows and labels.
        irlbl: IRLbl per label, ``(C,)``.
        scumble: SCUMBLELbl, how uneven the labels are that come with each label, ``(C,)``.
    """

    measures: MultiLabelMeasures
    irlbl: NDArray[Any]
    scumble: NDArray[Any]

    def to_dict(self) -> dict[str, Any]:
        """The measures of all rows as plain data for JSON."""
        return self.measures.to_dict()


def profile_labels(labels: Any) -> LabelProfile:
    """Measure a label matrix ``(N, C)`` in which every label has a row."""
    matrix = as_label_matrix(labels, name="profile_labels")
    return LabelProfile(measure_labels(matrix), irlbl(label_counts(matrix)), label_scumble(matrix))
