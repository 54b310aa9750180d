"""From a comparison to what people read: the page, the figures, the spreadsheets."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tailwise.evaluation.calibration import calibrated, calibrated_labels
from tailwise.evaluation.class_changes import class_changes
from tailwise.evaluation.evaluation import Evaluation
from tailwise.evaluation.multilabel import MultilabelEvaluation
from tailwise.report import figures
from tailwise.report.canvas import save_figures
from tailwise.report.diagnosis_figure import draw_diagnosis
from tailwise.report.findings import findings, warnings_of
from tailwise.report.html import Column, Picture, ReportContent, Table, render_report
from tailwise.report.spreadsheet import write_csv, write_workbook
from tailwise.report.task_words import words_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.figure import Figure

    from tailwise.advisor.recommend import Recommendation
    from tailwise.benchmark.comparison import Comparison
    from tailwise.data.corpus import Corpus
    from tailwise.evaluation.base import ScoredSplit
    from tailwise.imbalance.diagnosis import Diagnosis
    from tailwise.report.task_words import TaskWords

    _Scored = Evaluation | MultilabelEvaluation

__all__ = ["METRIC_NAMES", "mean_per_class", "summarise", "write_report", "write_tables"]

METRIC_NAMES = {
    "macro_f1": "macro-F1",
    "balanced_accuracy": "balanced accuracy",
    "worst_class_f1": "worst-class F1",
    "tail_f1": "tail F1",
    "accuracy": "accuracy",
    "ece": "ECE",
    "micro_f1": "micro-F1",
    "samples_f1": "F1 per text",
    "token_accuracy": "token accuracy",
    "relation_macro_f1": "official macro-F1",
    "las": "LAS",
    "uas": "UAS",
}
_PACKAGES = ("tailwise", "torch", "transformers", "numpy", "scikit-learn", "optuna")


def summarise(comparison: Comparison) -> list[str]:
    """The result in two or three sentences."""
    table, best, base = comparison.table(), comparison.best(), comparison.baseline
    metric = comparison.metric
    name = METRIC_NAMES.get(metric, metric)
    row = table.loc[best]
    span = f"{row[f'{metric}_low']:.3f} to {row[f'{metric}_high']:.3f}"
    lines = [f"Best on validation: {best}. On test its {name} is {row[metric]:.3f} ({span})."]
    if best != base:
        other = table.loc[base]
        verdict = "significant" if row["p_value"] < 0.05 else "not significant"
        lines.append(
            f"Against {base} ({other[metric]:.3f}) that is {row['gain']:+.3f} ({row['gain_low']:+.3f} to "
            f"{row['gain_high']:+.3f}), p = {row['p_value']:.3f} after Holm's correction: {verdict} at 5%."
        )
    shared = set(row["tie_group"])
    ties = [str(m) for m in table.index if m != best and shared & set(table.loc[m, "tie_group"])]
    if ties:
        lines.append(f"Not separable from {best} on these test data: {', '.join(ties)}.")
    if comparison.twins:
        same = ", ".join(f"{twin} = {method}" for twin, method in comparison.twins.items())
        lines.append(f"One computation here, counted once in the tests: {same}.")
    return lines


def mean_per_class(comparison: Comparison) -> pd.DataFrame:
    """Per-class figures as means over seeds, one row per method and class."""
    keys = ["method", "class", "group", "train_count", "support", "absent"]
    figures_ = ["precision", "recall", "f1", "average_precision"]
    return comparison.per_class().groupby(keys, sort=False, as_index=False, dropna=False)[figures_].mean()


def write_tables(comparison: Comparison, folder: Path) -> dict[str, Path]:
    """The exact numbers: per class for every method and seed, and the comparison, as CSV and in one workbook."""
    per_class, table = comparison.per_class(), comparison.table().reset_index()
    return {
        "per-class figures (CSV)": write_csv(per_class, folder / "per_class.csv"),
        "comparison (CSV)": write_csv(table, folder / "comparison.csv"),
        "spreadsheet": write_workbook({"comparison": table, "per class": per_class}, folder / "results.xlsx"),
    }


def write_report(
    folder: Path,
    *,
    corpus: Corpus,
    diagnosis: Diagnosis,
    advice: Sequence[Recommendation],
    comparison: Comparison,
    facts: Mapping[str, str],
    repeat: Sequence[str],
) -> dict[str, Path]:
    """Write ``report.html`` and every figure as PNG and SVG; returns the files by name."""
    words = words_for(diagnosis)
    evidence = _Evidence(comparison, words)
    calibration = evidence.calibration_table()
    drawn = {"diagnosis": draw_diagnosis(diagnosis), **evidence.figures()}
    pictures = save_figures(drawn, folder / "figures")
    content = ReportContent(
        title=f"{corpus.name}: rare classes, compared and measured",
        summary=summarise(comparison),
        facts=facts,
        warnings=warnings_of(diagnosis),
        tables={
            "diagnosis": _diagnosis_table(diagnosis),
            "recommendations": _advice_table(advice),
            "comparison": _comparison_table(comparison),
            "per_class": evidence.class_table(),
            "groups": evidence.group_table(),
            **({} if calibration is None else {"calibration": calibration}),
        },
        pictures={name: Picture(svg, _DESCRIPTIONS[name]) for name, svg in pictures.items()},
        recipe=comparison.recipes[comparison.best()].to_yaml(),
        repeat=repeat,
        notes=_notes(comparison, words),
        versions={"Python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
    )
    page = folder / "report.html"
    page.write_text(render_report(content), encoding="utf-8")
    return {"report": page, "figures": folder / "figures"}


_DESCRIPTIONS = {
    "diagnosis": "Training instances per class with the fitted shape of the distribution",
    "f1_by_count": "Bars of training instances per class above dots of test F1 by training count",
    "change": "Change of F1 per class against the baseline, with intervals",
    "reliability": "Accuracy against confidence before and after calibration",
    "confusion": "Bars of the most frequent confusions of classes",
    "cost": "Gain over the baseline per method with intervals, beside the training time",
}


#: axes of the reliability diagram of single classes, and what is counted
_OF_CLASSES = ("confidence", "accuracy", "instances")


class _Evidence:
    """Everything about the best method that figures and tables share, read and computed once."""

    def __init__(self, comparison: Comparison, words: TaskWords) -> None:
        self.comparison, self.words = comparison, words
        self.best, self.base = comparison.best(), comparison.baseline
        self.per_class = mean_per_class(comparison)
        self.group_of = dict(zip(comparison.label_space.names, comparison.groups.tolist(), strict=True))
        stored = comparison.evaluations
        self.runs = [stored[self.best, seed] for seed in comparison.seeds]
        self.calibrated = self._calibrated()
        self.changes = self._changes([stored[self.base, seed] for seed in comparison.seeds])

    def _calibrated(self) -> list[tuple[_Scored, _Scored]]:
        """Every run before and after a temperature fitted on validation; none where scores are no probabilities."""
        pairs: list[tuple[_Scored, _Scored]] = []
        for test, seed in zip(self.runs, self.comparison.seeds, strict=True):
            validation = self.comparison.validations[self.best, seed] if test.has_probabilities else None
            if isinstance(test, Evaluation) and isinstance(validation, Evaluation):
                pairs.append((test, calibrated(test, validation)))
            elif isinstance(test, MultilabelEvaluation) and isinstance(validation, MultilabelEvaluation):
                pairs.append((test, calibrated_labels(test, validation)))
        return pairs

    def _changes(self, baseline: Sequence[ScoredSplit]) -> pd.DataFrame:
        changes = class_changes(self.runs, baseline)
        changes.insert(1, "group", [self.group_of[name] for name in changes["class"]])
        return changes

    def figures(self) -> dict[str, Figure]:
        metric = METRIC_NAMES.get(self.comparison.metric, self.comparison.metric)
        other = None if self.best == self.base else self.base
        words = self.words
        drawn = {
            "f1_by_count": figures.f1_by_count_figure(self.per_class, method=self.best, baseline=other, words=words)
        }
        if other is not None:
            drawn["change"] = figures.change_figure(self.changes, method=self.best, baseline=other, words=words)
        table = self.comparison.table().drop(index=self.base)
        if len(table):
            gains = table.rename(columns={"gain_low": "low", "gain_high": "high"})[["seconds", "gain", "low", "high"]]
            drawn["cost"] = figures.cost_figure(gains, metric=metric, baseline=self.base)
        errors = self._confusion_pairs()
        if len(errors):
            drawn["confusion"] = figures.confusion_figure(errors, words=words)
        if self.calibrated:
            before, after = self.calibrated[0]
            several = isinstance(before, MultilabelEvaluation)
            drawn["reliability"] = figures.reliability_figure(
                before.reliability(), after.reliability(),
                ece={"before": before.score("ece"), "after": after.score("ece")},
                names=("probability", "share of right labels", "labels") if several else _OF_CLASSES,
            )  # fmt: skip
        return drawn

    def _confusion_pairs(self) -> pd.DataFrame:
        parts = [run.confusion_pairs(k=1_000_000) for run in self.runs if isinstance(run, Evaluation)]
        if not parts:
            return pd.DataFrame()
        joined = parts[0] if len(parts) == 1 else _concat(parts)
        summed = joined.groupby(["gold", "predicted"], as_index=False)[["count", "rate"]].sum()
        summed["rate"] /= len(self.runs)
        return summed.sort_values(["count", "gold", "predicted"], ascending=[False, True, True]).head(20)

    def class_table(self) -> Table:
        rows = self.per_class[self.per_class["method"] == self.best].copy()
        base = self.per_class[self.per_class["method"] == self.base].set_index("class")["f1"]
        changes = self.changes.set_index("class")
        rows["baseline"] = rows["class"].map(base)
        rows["change"] = rows["class"].map(changes["change"])
        rows.loc[rows["absent"], ["precision", "recall", "f1", "baseline"]] = np.nan
        rows = rows.sort_values(["train_count", "class"], ascending=[True, True])
        columns = [
            Column("class", self.words.kind), Column("group", "group"), Column("train_count", "train", "count"),
            Column("support", "test", "count"), Column("precision", "precision", "score"),
            Column("recall", "recall", "score"), Column("f1", "F1", "score"),
            Column("average_precision", "AUPRC", "score"), Column("baseline", f"F1 of {self.base}", "score"),
            Column("change", "change", "signed"), Column("span", "95% interval of the change", "interval"),
        ]  # fmt: skip
        if self.best == self.base:
            columns = columns[:-3]  # there is nothing to compare it with
        caption = (
            f"{self.best} on test, means over seeds, rarest {self.words.kind} first; a dash "
            f"marks a {self.words.kind} absent from test"
        )
        spans = {c: (r["low"], r["high"]) for c, r in changes.iterrows()}
        records = [{**row, "span": spans.get(row["class"])} for row in _records(rows)]
        return Table(columns, records, caption)

    def group_table(self) -> Table:
        names = self.comparison.groups.tolist()
        stored = self.comparison.evaluations
        rows: list[dict[str, Any]] = []
        for method in dict.fromkeys((self.best, self.base)):
            parts = [stored[method, seed].groups(names) for seed in self.comparison.seeds]
            mean = (
                _concat(parts)
                .groupby(["group", "classes", "train_count", "support"], sort=False, as_index=False)
                .mean()
            )
            rows += [{"method": method, **row} for row in _records(mean)]
        columns = [
            Column("method", "method"), Column("group", "group"), Column("classes", self.words.kinds, "count"),
            Column("train_count", "train", "count"), Column("support", "test", "count"),
            Column("macro_f1", "macro-F1", "score"), Column("macro_recall", "macro recall", "score"),
            Column("mean_average_precision", "mean AUPRC", "score"),
        ]  # fmt: skip
        return Table(columns, rows, f"Head, medium and tail {self.words.kinds}, means over seeds")

    def calibration_table(self) -> Table | None:
        """Figures before and after a temperature; None where scores are no probabilities of the reported classes."""
        if not self.calibrated:
            return None
        names = {
            "ece": "ECE",
            "classwise_ece": f"{self.words.kind}-wise ECE",
            "brier": "Brier",
            "nll": "NLL",
            "balanced_nll": "balanced NLL",
        }
        before, after = (_means([pair[i].summary() for pair in self.calibrated]) for i in (0, 1))
        rows = [
            {"figure": label, "before": before[key], "after": after[key]}
            for key, label in names.items()
            if key in before
        ]
        columns = [
            Column("figure", "figure"), Column("before", "before", "score"),
            Column("after", "after temperature", "score"),
        ]  # fmt: skip
        caption = f"{self.best} on test, means over seeds; the temperature was fitted on validation; smaller is better"
        return Table(columns, rows, caption)


def _diagnosis_table(diagnosis: Diagnosis) -> Table:
    columns = [Column("name", "finding"), Column("value", "value"), Column("meaning", "what it means")]
    return Table(columns, [vars(row) for row in findings(diagnosis)])


def _advice_table(advice: Sequence[Recommendation]) -> Table:
    rows = [
        {
            "method": item.method if item.available else f"{item.method} ({item.absence})",
            "tier": item.tier,
            "rules": item.rule,
            "state": item.state + (f" ({', '.join(item.references)})" if item.references else ""),
            "why": " ".join([*item.reasons, *item.notes, *([item.flag] if item.flag else [])]),
        }
        for item in advice
    ]
    columns = [
        Column("method", "method"), Column("tier", "cost"), Column("rules", "rules"), Column("state", "published"),
        Column("why", "why"),
    ]  # fmt: skip
    caption = "Rules reconstructed from the survey's text (its figure 3 exists as an image only)"
    return Table(columns, rows, caption)


def _comparison_table(comparison: Comparison) -> Table:
    table = comparison.table()
    metrics = [m for m in comparison.metrics if m in table and table[m].notna().any()]
    rows = []
    for method, row in table.iterrows():
        shown: dict[str, Any] = {"method": method, **{str(key): value for key, value in row.items()}}
        for metric in metrics:
            shown[f"{metric}_span"] = (row[f"{metric}_low"], row[f"{metric}_high"])
        rows.append(shown)
    columns = [Column("method", "method")]
    for metric in metrics:
        name = METRIC_NAMES.get(metric, metric)
        columns += [Column(metric, name, "score"), Column(f"{metric}_span", "95% interval", "interval")]
    columns += [
        Column("p_value", f"p against {comparison.baseline} (Holm)", "p"), Column("tie_group", "tie group"),
        Column("validation", "validation", "score"), Column("seconds", "seconds", "seconds"), Column("tier", "cost"),
    ]  # fmt: skip
    best = frozenset({list(table.index).index(comparison.best())})
    return Table(columns, rows, "On test, means over seeds; bold: chosen on validation", best)


def _notes(comparison: Comparison, words: TaskWords) -> list[str]:
    budget = max((t.budget for t in comparison.tunings.values()), default=0)
    metric = METRIC_NAMES.get(comparison.metric, comparison.metric)
    seeds = ", ".join(map(str, comparison.seeds))
    first = (
        f"Every method, the baselines included, was tuned with {budget} trials on validation ({metric}), then trained "
        f"with the seeds {seeds}. Test data were scored once per trained model, at the end."
    )
    return [
        first,
        *_rules(words),
        *(f"Left out: {name}: {reason}." for name, reason in comparison.skipped.items()),
    ]


def _rules(words: TaskWords) -> list[str]:
    """How figures are to be read."""
    average = (
        f"Macro-F1 averages over all {words.kinds} of training, as scikit-learn does when all labels are given; a "
        f"{words.kind} absent from test contributes 0 and is marked as absent."
    )
    intervals = (
        f"Intervals are 95% bootstrap intervals over test {words.rows}, the same resamples for all methods, widened by "
        "the spread over seeds. P-values are paired and corrected by Holm; methods that share a letter of the tie "
        "group cannot be told apart on these data."
    )
    return [
        average,
        intervals,
        "The best method was chosen on validation, never on test; the order of the table is that of test.",
    ]


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict(orient="records")]


def _concat(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(parts, ignore_index=True)


def _means(summaries: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {key: float(np.mean([s[key] for s in summaries])) for key in summaries[0]}
