"""Where methods apply, for entries whose row of the survey's Table 3 is the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tailwise.catalog.method import Setting, State

__all__ = ["ANYWHERE", "LABEL_PER_ROW", "MULTILABEL", "SAMPLING", "SENTENCES"]

LABEL_PER_ROW: Mapping[Setting, State] = {
    "binary": "applicable",
    "multiclass": "applicable",
    "multilabel": "no",
    "sequence": "applicable",
    "relation": "applicable",
}
SAMPLING: Mapping[Setting, State] = {**LABEL_PER_ROW, "multilabel": "open", "sequence": "open"}
ANYWHERE: Mapping[Setting, State] = {**LABEL_PER_ROW, "multilabel": "applicable"}
MULTILABEL: Mapping[Setting, State] = {
    "binary": "no",
    "multiclass": "no",
    "multilabel": "applicable",
    "sequence": "no",
    "relation": "no",
}
SENTENCES: Mapping[Setting, State] = {**MULTILABEL, "multilabel": "no", "sequence": "applicable"}
