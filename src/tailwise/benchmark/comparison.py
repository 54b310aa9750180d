"""What a comparison found. Everything here is derived from the stored scores of its cells, when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tailwise.benchmark.cell import plain
from tailwise.evaluation.bootstrap import bootstrap
from tailwise.evaluation.relations import has_directions
from tailwise.evaluation.significance import against_baseline, tie_groups
from tailwise.evaluation.unit_metrics import TAIL_METRIC
from tailwise.imbalance.groups import frequency_groups
from tailwise.training.preparation import Preparation

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from tailwise.benchmark.cell import Cell
    from tailwise.benchmark.tuning import Tuning
    from tailwise.data.labels import LabelSpace
    from tailwise.data.task import LabelStructure
    from tailwise.evaluation.base import ScoredSplit
    from tailwise.evaluation.bootstrap import BootstrapResult
    from tailwise.stages.recipe import Recipe

__all__ = ["BASELINE", "COLUMNS", "Comparison", "StoredScores"]

#: what every other method is tested against, where it takes part
BASELINE = "ce"

#: the metrics of the table, on test, by label structure
COLUMNS: dict[LabelStructure, tuple[str, ...]] = {
    "single": ("macro_f1", "balanced_accuracy", "worst_class_f1", TAIL_METRIC, "accuracy", "ece"),
    "multi": ("macro_f1", "micro_f1", TAIL_METRIC, "samples_f1", "worst_class_f1", "ece"),
    "tags": ("macro_f1", "micro_f1", TAIL_METRIC, "worst_class_f1", "token_accuracy"),
    "arcs": ("las", "uas", "macro_f1", TAIL_METRIC, "worst_class_f1"),
}


class StoredScores(Mapping[tuple[str, int], "ScoredSplit"]):
    """Stored scores by (method, seed), read from disk at each access so that none of them stays in memory."""

    def __init__(self, cells: Mapping[str, Mapping[int, Cell]], read: Callable[[Cell], ScoredSplit]) -> None:
        self._cells = {(method, seed): cell for method, runs in cells.items() for seed, cell in runs.items()}
        self._read = read

    def __getitem__(self, key: tuple[str, int]) -> ScoredSplit:
        return self._read(self._cells[key])

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return iter(self._cells)

    def __len__(self) -> int:
        return len(self._cells)


@dataclass(frozen=True, eq=False)
class Comparison:
    """The cells of a comparison and what follows from them.

    Attributes:
        corpus: name of the corpus.
        label_space: the classes that figures are reported on, and their training counts.
        metric: what tuning maximised and `best` selects by.
        cells: the finished cell by method and seed.
        tunings: how each method was tuned.
        tiers: cost tier per method, T0 to T4.
        recipes: tuned recipe per method.
        skipped: methods that did not take part, and why.
        folder: root of the result store.
        structure: label structure of the corpus.
        preparation: what it took to have the features at hand, before the first training.
    """

    corpus: str
    label_space: LabelSpace
    metric: str
    cells: Mapping[str, Mapping[int, Cell]]
    tunings: Mapping[str, Tuning]
    tiers: Mapping[str, str]
    recipes: Mapping[str, Recipe]
    skipped: Mapping[str, str] = field(default_factory=dict)
    folder: Path = Path()
    structure: LabelStructure = "single"
    preparation: Preparation = field(default_factory=Preparation)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of the table: that of the comparison, then those that suit the label structure."""
        official = ("relation_macro_f1",) if has_directions(self.label_space) else ()
        return tuple(dict.fromkeys((self.metric, *official, *COLUMNS[self.structure])))

    @property
    def methods(self) -> tuple[str, ...]:
        """Who took part, in the order given."""
        return tuple(self.cells)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the final runs."""
        return tuple(self.cells[self.methods[0]])

    @property
    def baseline(self) -> str:
        """What the others are tested against: ``ce``, or the first method where ``ce`` does not take part."""
        return BASELINE if BASELINE in self.cells else self.methods[0]

    @property
    def evaluations(self) -> StoredScores:
        """Scores of the test split by (method, seed)."""
        return StoredScores(self.cells, lambda cell: cell.test())

    @property
    def validations(self) -> StoredScores:
        """Scores of the validation split by (method, seed)."""
        return StoredScores(self.cells, lambda cell: cell.validation())

    @cached_property
    def groups(self) -> NDArray[np.str_]:
        """``"head"``, ``"medium"`` or ``"tail"`` per class, ``(C,)``."""
        return frequency_groups(self.label_space.counts)

    @cached_property
    def validation_means(self) -> Mapping[str, float]:
        """Mean over seeds of the metric on validation, per method.

        Hyperparameters were chosen on the same split (post-hoc steps were fitted on other rows of it): good for
        choosing, too kind for reporting.
        """
        stored = self.validations
        return {m: float(np.mean([stored[m, seed].score(self.metric) for seed in self.seeds])) for m in self.methods}

    @cached_property
    def twins(self) -> Mapping[str, str]:
        """Methods that came to the same scores as an earlier one, to the bit and for every seed: one computation.

        The earlier one stands for both in tests, so that nothing is counted twice; the baseline stands for its twins.
        """
        order = sorted(self.methods, key=lambda method: method != self.baseline)
        first: dict[tuple[str, ...], str] = {}
        found: dict[str, str] = {}
        for method in order:
            scores = tuple(self.cells[method][seed].scores_hash for seed in self.seeds)
            known = first.setdefault(scores, method)
            if known != method:
                found[method] = known
        return found

    @cached_property
    def bootstrap(self) -> BootstrapResult:
        """Every metric of the table on resamples of the test split, without `twins`."""
        tail = self.groups == "tail"
        metrics = [m for m in self.metrics if m != TAIL_METRIC or tail.any()]
        stored = self.evaluations
        distinct = [method for method in self.methods if method not in self.twins]
        runs = {method: [stored[method, seed] for seed in self.seeds] for method in distinct}
        return bootstrap(runs, metrics, tail=tail if tail.any() else None)

    def best(self) -> str:
        """The method to take: the best mean on validation, never on test; of equals the cheaper, then by name."""
        means = self.validation_means
        return min(self.methods, key=lambda method: (-round(means[method], 12), self.tiers[method], method))

    def table(self) -> pd.DataFrame:
        """One row per method, by descending test metric.

        Returns:
            Indexed by ``method``; per metric the mean over seeds and its 95% interval (``macro_f1``, ``macro_f1_low``,
            ``macro_f1_high``, ...; NaN for ``tail_f1`` where no class is a tail class); ``gain`` over the baseline in
            the metric of the comparison with ``gain_low`` and ``gain_high``, ``p_value`` (paired, corrected by Holm
            over the methods; NaN for the baseline), ``tie_group`` (methods that share a letter cannot be told apart),
            ``validation`` (mean of the metric), ``seconds`` (mean per model) and ``tier``. Methods that are one
            computation (`twins`) stand one below the other with the same figures, and count once in the tests.
        """
        return self._table.copy()

    @cached_property
    def _table(self) -> pd.DataFrame:
        result = self.bootstrap
        ties = tie_groups(result, self.metric)
        tests = {test.method: test for test in against_baseline(result, self.baseline, self.metric).tests}
        rows = []
        twins = self.twins
        listed = [[own, *(twin for twin, first in twins.items() if first == own)] for own in ties.methods]
        for method in chain.from_iterable(listed):
            row: dict[str, Any] = {"method": method}
            tested = twins.get(method, method)
            for metric in self.metrics:
                known = metric in result.metrics
                point, low, high = result.interval(tested, metric) if known else (float("nan"),) * 3
                row |= {metric: point, f"{metric}_low": low, f"{metric}_high": high}
            test = tests.get(tested)
            row["gain"], row["gain_low"], row["gain_high"], row["p_value"] = (
                (test.difference, test.low, test.high, test.p_adjusted) if test else (0.0, 0.0, 0.0, float("nan"))
            )
            row["tie_group"] = ties.letters[tested]
            row["validation"] = self.validation_means[method]
            row["seconds"] = float(np.mean([cell.seconds for cell in self.cells[method].values()]))
            row["tier"] = self.tiers[method]
            rows.append(row)
        return pd.DataFrame(rows).set_index("method")

    def per_class(self) -> pd.DataFrame:
        """One row per method, seed and class of training, on test.

        Returns:
            Columns ``method``, ``seed`` and those of `ScoredSplit.per_class`: ``class``, ``train_count``, ``group``,
            ``support``, ``predicted``, ``precision``, ``recall``, ``f1``, ``average_precision``, ``absent``.
        """
        parts = []
        for (method, seed), evaluation in self.evaluations.items():
            part = evaluation.per_class(self.groups.tolist())
            part.insert(0, "method", method)
            part.insert(1, "seed", seed)
            parts.append(part)
        return pd.concat(parts, ignore_index=True)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        table = self._table
        return {
            "corpus": self.corpus,
            "metric": self.metric,
            "seeds": list(self.seeds),
            "baseline": self.baseline,
            "best": self.best(),
            "methods": {
                str(method): {
                    "recipe": plain(self.recipes[str(method)].to_dict()),
                    "tuning": self.tunings[str(method)].to_dict(),
                    "cells": {str(seed): str(cell.folder) for seed, cell in self.cells[str(method)].items()},
                    **plain({name: None if pd.isna(value) else value for name, value in row.items()}),
                }
                for method, row in table.iterrows()
            },
            "skipped": dict(self.skipped),
            "twins": dict(self.twins),
            "preparation": plain(asdict(self.preparation)),
            "folder": str(self.folder),
        }
