"""The figures of a report. Each function takes plain tables and returns a matplotlib figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from tailwise.report.canvas import BLUE, GREY, GROUP_COLOURS, ORANGE, SKY, VERMILION, canvas, shorten, zero_line
from tailwise.report.task_words import TaskWords

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

__all__ = ["change_figure", "confusion_figure", "cost_figure", "f1_by_count_figure", "reliability_figure"]

MOST_ROWS = 40
WORDS = TaskWords("instances", "class", "classes", "text", "texts", "label")


def f1_by_count_figure(
    per_class: pd.DataFrame, *, method: str, baseline: str | None = None, words: TaskWords = WORDS
) -> Figure:
    """Label distribution above F1 by training count, class by class: the survey's figure 1.

    Args:
        per_class: one row per method and class with the columns ``method``, ``class``, ``group``, ``train_count``,
            ``support`` and ``f1`` (mean over seeds); classes absent from test have support 0 and are left out below.
        method: the method whose F1 is drawn as dots, larger for more test instances.
        baseline: a second method, drawn as ticks.
        words: what classes and instances are called.
    """
    rows = per_class[per_class["method"] == method].sort_values(["train_count", "class"], ascending=[False, True])
    colours = [GROUP_COLOURS[g] for g in rows["group"]]
    with canvas(7.2, 5.6) as figure:
        upper, lower = figure.subplots(2, 1, height_ratios=[1.0, 1.35])
        upper.bar(np.arange(len(rows)), rows["train_count"], color=colours, width=0.85)
        upper.set_yscale("log")
        upper.set_ylim(bottom=0.7)  # a little below the one instance that a bar of height nought would stand for
        upper.set(title=f"Training {words.instances} per {words.kind}", ylabel=f"{words.instances} (log)")
        _name_classes(upper, list(rows["class"]), words)
        above = {"loc": "lower right", "bbox_to_anchor": (1.0, 0.98), "ncols": 3, "columnspacing": 0.8}
        _group_legend(upper, list(rows["group"]), words, **above)
        present = rows[rows["support"] > 0]
        if baseline is not None:
            other = per_class[per_class["method"] == baseline].set_index("class").loc[present["class"]]
            lower.scatter(other["train_count"], other["f1"], marker="_", s=60, color=GREY, label=baseline, zorder=2)
        sizes = 14.0 + 90.0 * np.sqrt(present["support"] / max(present["support"].max(), 1))
        lower.scatter(
            present["train_count"], present["f1"], s=sizes, alpha=0.75, linewidth=0.4, edgecolor="white", zorder=3,
            c=[GROUP_COLOURS[g] for g in present["group"]], label=f"{method} (dot size: test {words.instances})",
        )  # fmt: skip
        lower.set_xscale("log")
        lower.set(title="F1 on test by training count", ylabel="F1", ylim=(-0.04, 1.04))
        lower.set_xlabel(f"training {words.instances} (log)")
        for axis in (upper.yaxis, lower.xaxis):
            _plain_numbers(axis, rows["train_count"])
        lower.legend(loc="lower right")
    return figure


def change_figure(changes: pd.DataFrame, *, method: str, baseline: str, words: TaskWords = WORDS) -> Figure:
    """Per-class change of F1 against the baseline with 95% intervals.

    Args:
        changes: columns ``class``, ``group``, ``train_count``, ``change``, ``low``, ``high``. Of more than 40 classes
            the 40 with the largest absolute change are drawn.
        method: name of the method.
        baseline: name of what it is compared with.
        words: what classes are called.
    """
    total = len(changes)
    rows = changes.reindex(changes["change"].abs().sort_values(ascending=False, kind="stable").index).head(MOST_ROWS)
    rows = rows.sort_values(["train_count", "class"], ascending=[True, False])
    with canvas(7.2, 1.4 + 0.21 * len(rows)) as figure:
        axes = figure.subplots()
        position = np.arange(len(rows))
        colours = [GROUP_COLOURS[g] for g in rows["group"]]
        axes.hlines(position, rows["low"], rows["high"], color=colours, linewidth=1.6, alpha=0.6)
        axes.scatter(rows["change"], position, color=colours, s=22, zorder=3)
        axes.set_yticks(
            position, [f"{shorten(c)} ({n:,})" for c, n in zip(rows["class"], rows["train_count"], strict=True)]
        )
        axes.set_ylim(-0.7, len(rows) - 0.3)
        zero_line(axes)
        shown = f", the {len(rows)} largest of {total} {words.kinds}" if total > len(rows) else ""
        axes.set(title=f"Change of F1, {method} against {baseline}{shown}", xlabel="change of F1 (95% interval)")
        _group_legend(axes, list(rows["group"]), words)
    return figure


def reliability_figure(
    before: pd.DataFrame,
    after: pd.DataFrame,
    *,
    ece: Mapping[str, float],
    names: tuple[str, str, str] = ("confidence", "accuracy", "instances"),
) -> Figure:
    """Accuracy against confidence before and after calibration.

    Args:
        before: bins with the columns ``confidence``, ``accuracy``, ``count``.
        after: the same after temperature scaling.
        ece: expected calibration error by ``"before"`` and ``"after"``.
        names: of the two axes, and of what is counted.
    """
    with canvas(7.2, 3.5) as figure:
        panels = figure.subplots(1, 2, sharey=True)
        parts = (("before", before, SKY), ("after", after, BLUE))
        for axes, (name, table, colour) in zip(panels, parts, strict=True):
            rows = table[table["count"] > 0]
            axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle="--")
            axes.plot(rows["confidence"], rows["accuracy"], color=colour, linewidth=1.2)
            sizes = 10.0 + 110.0 * np.sqrt(rows["count"] / max(rows["count"].max(), 1))
            axes.scatter(rows["confidence"], rows["accuracy"], s=sizes, color=colour, alpha=0.8)
            axes.set(title=f"{name} calibration, ECE {ece[name]:.3f}", xlabel=names[0], xlim=(0, 1.03), ylim=(0, 1.03))
        panels[0].set_ylabel(f"{names[1]} (dot size: {names[2]})")
    return figure


def confusion_figure(pairs: pd.DataFrame, *, words: TaskWords = WORDS) -> Figure:
    """The most frequent errors.

    Args:
        pairs: columns ``gold``, ``predicted``, ``count``, ``rate`` (share of the gold class), most frequent first.
        words: what classes and instances are called.
    """
    rows = pairs.head(20).iloc[::-1]
    with canvas(7.2, 1.2 + 0.24 * max(len(rows), 1)) as figure:
        axes = figure.subplots()
        axes.barh(np.arange(len(rows)), rows["count"], color=ORANGE)
        names = [f"{shorten(g, 24)} → {shorten(p, 24)}" for g, p in zip(rows["gold"], rows["predicted"], strict=True)]
        axes.set_yticks(np.arange(len(rows)), names)
        for place, (count, rate) in enumerate(zip(rows["count"], rows["rate"], strict=True)):
            axes.text(count, place, f" {rate:.0%} of the {words.kind}", va="center", fontsize=8, color="#374151")
        axes.margins(x=0.35)
        axes.set(title="Most frequent errors on test: gold → predicted", xlabel=f"test {words.instances} (all seeds)")
    return figure


def cost_figure(table: pd.DataFrame, *, metric: str, baseline: str) -> Figure:
    """Gain over the baseline against the time of training.

    Args:
        table: indexed by method with the columns ``seconds``, ``gain``, ``low``, ``high`` (95% interval of the gain).
        metric: name of the metric, for the axis.
        baseline: method the gain is measured against.
    """
    rows = table.sort_values(["gain"], kind="stable")
    with canvas(7.2, 1.3 + 0.27 * len(rows)) as figure:
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=[2.0, 1.0])
        place = np.arange(len(rows))
        better, worse = rows["low"] > 0, rows["high"] < 0
        colours = np.where(better, BLUE, np.where(worse, VERMILION, GREY))
        left.hlines(place, rows["low"], rows["high"], color=colours, linewidth=2.0, alpha=0.6)
        left.scatter(rows["gain"], place, color=colours, s=28, zorder=3)
        zero_line(left)
        left.set_yticks(place, list(rows.index))
        left.set(title=f"Gain over {baseline}", xlabel=f"{metric} minus {baseline} (95% interval)")
        right.barh(place, rows["seconds"], color=SKY, height=0.6)
        right.set(title="Training time", xlabel="seconds per model")
    return figure


def _plain_numbers(axis: Axis, counts: pd.Series[int]) -> None:
    """Whole numbers at the ticks of a logarithmic axis, 1, 2 and 5 times the powers of ten where it is short."""
    short = counts.max() < 100 * max(counts.min(), 1)
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if short else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}" if x >= 1 else ""))
    axis.set_minor_formatter(NullFormatter())


def _name_classes(axes: Axes, names: list[str], words: TaskWords) -> None:
    if len(names) <= MOST_ROWS:
        axes.set_xticks(range(len(names)), [shorten(n, 22) for n in names], rotation=60, ha="right", fontsize=7)
    else:
        axes.set_xticks([])
        axes.set_xlabel(f"{len(names)} {words.kinds}")
    axes.grid(visible=False, axis="x")


def _group_legend(axes: Axes, groups: list[str], words: TaskWords, **place: Any) -> None:
    for name, colour in GROUP_COLOURS.items():
        if name in groups:
            axes.scatter([], [], color=colour, s=30, label=f"{name} {words.kinds}")
    axes.legend(**(place or {"loc": "best"}))
