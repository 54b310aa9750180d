"""The figure of a diagnosis: how many examples each class has, and how the classes mix.

Left: training examples per class, most frequent first, on a log scale, in the colours of head, medium and tail; the
fitted profile; the marks at 25 and 100 examples, below which a class is hardly or poorly learnt (survey section 1). The
catch-all class is hatched; a grey bar on top shows what has no class: tokens outside all spans, rows without a label.
Examples are what the task counts: rows, rows with the label, spans or tokens.
Right: k-NN purity against training examples where features were given, else the class shares of each split.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import ScaledTranslation

from tailwise.imbalance.diagnosis import HARDLY_LEARNT_BELOW, POORLY_LEARNT_BELOW
from tailwise.imbalance.groups import GROUPS
from tailwise.report.canvas import BLUE, GREY, GROUP_COLOURS, ORANGE, VERMILION, canvas, save_figure, shorten
from tailwise.report.task_words import words_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.container import BarContainer
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from tailwise.data.corpus import SplitName
    from tailwise.imbalance.diagnosis import Diagnosis
    from tailwise.imbalance.overlap import Overlap

__all__ = ["diagnosis_figure", "draw_diagnosis"]

MOST_NAMES = 40
_NAMED_POINTS = 10
_LOWEST = 0.7
_HATCH = "////"
_SPLIT_MARKS: dict[SplitName, tuple[str, str]] = {
    "train": ("o", BLUE),
    "validation": ("^", ORANGE),
    "test": ("D", VERMILION),
}


def diagnosis_figure(diagnosis: Diagnosis, path: Path | str) -> Path:
    """Draw a diagnosis and write it as PNG or SVG, by suffix.

    Raises:
        SettingError: another suffix.
    """
    return save_figure(draw_diagnosis(diagnosis), path)


def draw_diagnosis(diagnosis: Diagnosis) -> Figure:
    """The two panels as a matplotlib figure."""
    order = np.argsort(-diagnosis.train_counts, kind="stable")
    named = len(order) <= MOST_NAMES
    height = float(np.clip(1.6 + 0.19 * len(order), 3.4, 9.2)) if named else 5.6
    with canvas(11.0, height) as figure:
        left, right = figure.subplots(1, 2, width_ratios=[1.15, 1.0])
        _draw_counts(left, diagnosis, order, named=named)
        if diagnosis.overlap is not None:
            _draw_overlap(right, diagnosis, diagnosis.overlap)
        else:
            _draw_shares(right, diagnosis, order, named=named)
        figure.suptitle(_headline(diagnosis), x=0.01, ha="left", fontsize=11)
    return figure


def _headline(diagnosis: Diagnosis) -> str:
    measures, words, rows = diagnosis.measures, words_for(diagnosis), diagnosis.num_rows["train"]
    if diagnosis.unit == "row":
        size = f"{measures.total:,} training examples"
    elif diagnosis.unit == "label":
        size = f"{rows:,} training examples, {measures.total / rows:.2f} labels each"
    else:
        size = f"{measures.total:,} {words.instances} in {rows:,} training sentences"
    ratio = f"{measures.rho:,.0f}" if measures.rho >= 1000 else f"{measures.rho:.4g}"
    return (
        f"{shorten(diagnosis.name, 40)}: {size}, {measures.num_classes} {words.kinds}, ratio {ratio}, "
        f"{diagnosis.shape.name}"
    )


def _draw_counts(axes: Axes, diagnosis: Diagnosis, order: NDArray[np.int64], *, named: bool) -> None:
    """Horizontal bars, the largest class on top; past `MOST_NAMES` classes the bars go by rank without names."""
    counts, words = diagnosis.train_counts[order], words_for(diagnosis)
    rank = np.arange(len(order))
    colours = [GROUP_COLOURS[group] for group in diagnosis.groups.names[order]]
    height = 0.82 if named else 1.0
    bars = axes.barh(rank, counts - _LOWEST, left=_LOWEST, height=height, color=colours)
    axes.set_xscale("log")
    axes.set_xlim(_LOWEST, 1.6 * max(int(counts.max()), _without_class(diagnosis)))
    _rank_axis(axes, diagnosis)
    fitted = diagnosis.shape.best.fitted
    axes.vlines(fitted, rank[: len(fitted)] - 0.5, rank[: len(fitted)] + 0.5, color="black", linewidth=1.6)
    for mark, style in ((HARDLY_LEARNT_BELOW, ":"), (POORLY_LEARNT_BELOW, "--")):
        axes.axvline(mark, color="black", linewidth=1.0, linestyle=style)
    axes.grid(visible=False, axis="y")
    _log_axis(axes, f"training {words.instances} (log)", lambda x, _: f"{x:,.0f}" if x >= 1 else "")
    if named:
        axes.set_yticks(rank, [shorten(diagnosis.class_names[i], 32) for i in order])
        axes.tick_params(axis="y", length=0)
    else:
        axes.set_ylabel(f"{words.kinds} by rank, most frequent first")
    _mark_catch_all(axes, diagnosis, order, bars)
    _counts_legend(axes, diagnosis)


def _without_class(diagnosis: Diagnosis) -> int:
    """Training tokens outside all spans, or rows without a label; 0 where everything has a class."""
    if diagnosis.sentences is not None:
        return diagnosis.sentences.outside or 0
    return diagnosis.labels.measures.unlabelled_rows if diagnosis.labels is not None else 0


def _rank_axis(axes: Axes, diagnosis: Diagnosis) -> None:
    """One unit per class, most frequent on top, with room above for what has no class."""
    axes.set_ylim(diagnosis.num_classes - 0.4, -0.6 - _room(diagnosis))


def _room(diagnosis: Diagnosis) -> float:
    """Height of the bar above the classes, as high as a line of text."""
    return max(1.0, 0.04 * diagnosis.num_classes) if _without_class(diagnosis) else 0.0


def _mark_catch_all(axes: Axes, diagnosis: Diagnosis, order: NDArray[np.int64], bars: BarContainer) -> None:
    """Hatch the bar of the catch-all class, and draw one for what has no class."""
    found, number = diagnosis.catch_all, _without_class(diagnosis)
    if found is not None and found.index is not None:
        bar = bars.patches[int(np.flatnonzero(order == found.index)[0])]
        bar.set(hatch=_HATCH, edgecolor="white", linewidth=0.0)
    if not number:
        return
    room = _room(diagnosis)
    middle = -0.5 - room / 2.0
    axes.barh(
        middle, number - _LOWEST, left=_LOWEST, height=0.82 * room, color=GREY, hatch=_HATCH, edgecolor="white",
        linewidth=0.0,
    )  # fmt: skip
    if found is not None and found.index is None:
        text = f"{shorten(found.name)}: {number:,} tokens outside all spans, {found.share:.0%}"
    else:
        text = f"no label: {number:,} examples, {number / diagnosis.num_rows['train']:.0%}"
    axes.annotate(
        text, (_LOWEST, middle), xytext=(4, 0), textcoords="offset points", va="center", fontsize=7.5,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
    )  # fmt: skip


def _counts_legend(axes: Axes, diagnosis: Diagnosis) -> None:
    present = [group for group in GROUPS if (diagnosis.groups.names == group).any()]
    numbers = {group: int((diagnosis.groups.names == group).sum()) for group in present}
    best = diagnosis.shape.best
    entries: list[Patch | Line2D] = [
        Patch(color=GROUP_COLOURS[group], label=f"{group} ({numbers[group]})") for group in present
    ]
    if diagnosis.catch_all is not None:
        label = f"catch-all: {shorten(diagnosis.catch_all.name, 20)}"
        entries.append(Patch(facecolor=GREY, edgecolor="white", hatch=_HATCH, linewidth=0.0, label=label))
    entries += [
        Line2D([], [], color="black", linewidth=1.4, label=f"{best.profile} fit, R² {best.r2:.2f}"),
        Line2D(
            [], [], color="black", linewidth=1.0, linestyle=":", label=f"{HARDLY_LEARNT_BELOW}: hardly learnt below"
        ),
        Line2D(
            [], [], color="black", linewidth=1.0, linestyle="--", label=f"{POORLY_LEARNT_BELOW}: poorly learnt below"
        ),
    ]
    _legend_below(axes, entries)


def _draw_overlap(axes: Axes, diagnosis: Diagnosis, overlap: Overlap) -> None:
    """Purity of each class against its size; the line is the purity it can reach at most."""
    counts, words = diagnosis.train_counts, words_for(diagnosis)
    by_count = [i for i in np.argsort(counts, kind="stable") if overlap.sampled[i] > 0]
    colours = [GROUP_COLOURS[group] for group in diagnosis.groups.names[by_count]]
    x = counts[by_count]
    axes.set_xscale("log")
    axes.plot(x, overlap.ceiling[by_count], color=GREY, linewidth=1.2, label="highest possible")
    axes.plot(x, x / counts.sum(), color=GREY, linewidth=1.2, linestyle=":", label="by chance")
    axes.scatter(x, overlap.purity[by_count], s=34, color=colours, edgecolor="white", linewidth=0.5, zorder=5)
    axes.plot([], [], "o", color=GREY, label=f"a {words.kind}")
    axes.set_xlim(0.7 * x.min(), 1.4 * x.max())
    axes.set_ylim(-0.03, 1.05)
    _log_axis(axes, "training examples (log)", lambda x, _: f"{x:,.0f}" if x >= 1 else "")
    basis = (
        "all examples" if overlap.rows == overlap.total_rows else f"{overlap.rows:,} of {overlap.total_rows:,} examples"
    )
    axes.set_ylabel(f"purity: share of the {overlap.neighbours} nearest in the {words.kind}")
    axes.set_title(f"{words.kind.capitalize()} overlap on encoder features, {basis}")
    _name_most_mixed(axes, diagnosis, overlap)
    _legend_below(axes)


def _name_most_mixed(axes: Axes, diagnosis: Diagnosis, overlap: Overlap) -> None:
    """Names at the classes with the lowest relative purity, except where two names would collide."""
    relative = overlap.relative_purity
    counts = np.log10(np.maximum(diagnosis.train_counts, 1))
    width = max(float(np.ptp(counts)), 1e-9)
    placed: list[tuple[float, float]] = []
    for index in np.argsort(relative, kind="stable")[:_NAMED_POINTS]:
        x, y = float((counts[index] - counts.min()) / width), float(overlap.purity[index])
        if np.isnan(relative[index]) or any(abs(x - a) < 0.45 and abs(y - b) < 0.04 for a, b in placed):
            continue
        placed.append((x, y))
        axes.annotate(
            shorten(diagnosis.class_names[index], 22),
            (float(diagnosis.train_counts[index]), y),
            xytext=(6 if x < 0.6 else -6, 0),
            textcoords="offset points",
            ha="left" if x < 0.6 else "right",
            va="center",
            fontsize=7,
            zorder=4,
            path_effects=[withStroke(linewidth=2.0, foreground="white")],
        )


def _draw_shares(axes: Axes, diagnosis: Diagnosis, order: NDArray[np.int64], *, named: bool) -> None:
    """Class shares of each split, classes in the order of the left panel; classes without an example are left out."""
    words = words_for(diagnosis)
    rank = np.arange(len(order))
    for split, counts in diagnosis.counts.items():
        total = int(counts.sum())
        if total == 0:
            continue
        shares = counts[order] / total
        present = shares > 0
        marker, colour = _SPLIT_MARKS[split]
        face = colour if split == "train" else "none"
        axes.scatter(
            shares[present], rank[present], marker=marker, s=30 if named else 12, facecolor=face, edgecolor=colour,
            linewidth=1.2 if named else 0.8, label=f"{split} ({total:,})",
        )  # fmt: skip
    axes.set_xscale("log")
    _rank_axis(axes, diagnosis)
    axes.set_yticks(rank if named else [], [])
    axes.tick_params(axis="y", length=0)
    within = {"row": "", "label": "labels given in "}.get(diagnosis.unit, f"{words.instances} of ")
    label = f"share of {f'the {within}' if within else ''}the split (log)"
    _log_axis(axes, label, lambda share, _: f"{100 * share:g} %")
    axes.set_title(f"{words.kind.capitalize()} shares of each split")
    _legend_below(axes)


def _log_axis(axes: Axes, label: str, words: Callable[[float, object], str]) -> None:
    """Plain numbers on a logarithmic x axis, at 1, 2 and 5 where it spans less than two decades."""
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if high / low >= 100 else (1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(words))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(label)


def _legend_below(axes: Axes, entries: Sequence[Artist] | None = None) -> None:
    """The legend at a fixed distance below the axis label."""
    below = axes.transAxes + ScaledTranslation(0.0, -0.45, axes.figure.dpi_scale_trans)
    handles = axes.get_legend_handles_labels()[0] if entries is None else entries
    axes.legend(
        handles=list(handles), loc="upper center", bbox_to_anchor=(0.5, 0.0), bbox_transform=below, ncols=3, fontsize=8
    )
