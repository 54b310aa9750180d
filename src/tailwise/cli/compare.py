"""`tailwise compare`: methods on equal terms, with intervals."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from tailwise.cli.console import Output
from tailwise.cli.options import (
    CatchAll,
    Data,
    EncoderName,
    EngineName,
    Epochs,
    Features,
    Json,
    LabelColumn,
    LabelPaths,
    LabelSeparator,
    MaxLength,
    Methods,
    Metric,
    PairColumn,
    Pooling,
    Quiet,
    Revision,
    Seeds,
    SplitColumn,
    SplitSeed,
    TaskName,
    TextColumn,
    Trials,
    Unseen,
    encoder_from,
    load_corpus,
)

if TYPE_CHECKING:
    import pandas as pd

    from tailwise.benchmark.comparison import Comparison

__all__ = ["compare", "comparison_table", "method_list"]

_WIDE = 110


def compare(
    data: Data,
    text: TextColumn = None,
    text_pair: PairColumn = None,
    label: LabelColumn = None,
    task: TaskName = None,
    label_separator: LabelSeparator = None,
    label_paths: LabelPaths = None,
    split: SplitColumn = None,
    revision: Revision = None,
    catch_all: CatchAll = None,
    unseen: Unseen = "error",
    split_seed: SplitSeed = 13,
    encoder: EncoderName = None,
    pooling: Pooling = None,
    max_length: MaxLength = 256,
    engine: EngineName = "probe",
    methods: Methods = None,
    seeds: Seeds = 3,
    trials: Trials = 8,
    metric: Metric = "macro_f1",
    epochs: Epochs = None,
    features: Features = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the results; default runs/NAME.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Same splits, same tuning budget, several seeds; 95% intervals, Holm-corrected tests against ce, tie groups."""
    from tailwise.benchmark.compare import compare as run_comparison
    from tailwise.benchmark.compare import make_engine
    from tailwise.report.spreadsheet import write_csv

    output = Output(quiet=quiet, as_json=as_json)
    corpus = load_corpus(
        output, data, text=text, text_pair=text_pair, label=label, split=split, revision=revision,
        catch_all=catch_all, unseen=unseen, split_seed=split_seed, task=task,
        label_separator=label_separator, label_paths=label_paths,
    )  # fmt: skip
    folder = out or Path("runs") / corpus.name
    runner = make_engine(engine, metric, None, folder / "checkpoints", epochs, features)
    chosen = encoder_from(encoder, pooling, max_length, engine)
    with output.progress() as progress:
        comparison = run_comparison(
            corpus, method_list(methods), encoder=chosen, engine=runner,
            seeds=tuple(range(seeds)), trials=trials, metric=metric, out=folder, progress=progress,
        )  # fmt: skip
    output.say(comparison_table(comparison, output.out.width))
    for name, reason in comparison.skipped.items():
        output.note(f"left out: {name}: {reason}")
    output.note(f"per-class figures: {write_csv(comparison.per_class(), folder / 'per_class.csv')}")
    output.json(comparison.to_dict())


def method_list(methods: str | None) -> list[str] | None:
    """Method names of the option ``--methods``."""
    return None if methods is None else [name.strip() for name in methods.split(",") if name.strip()]


def comparison_table(comparison: Comparison, width: int) -> Table:
    """The comparison as a table for the terminal: means over seeds, 95% intervals, tests, tie groups.

    A terminal narrower than 110 columns gets the metric of the comparison, tail F1 and ECE only.
    """
    from tailwise.benchmark.reporting import METRIC_NAMES

    table = comparison.table()
    best = comparison.best()
    names = dict.fromkeys(comparison.metrics if width >= _WIDE else (comparison.metric, "tail_f1", "ece"))
    metrics = [name for name in names if name in table and table[name].notna().any()]
    shown = Table(
        title=f"On test, mean of {len(comparison.seeds)} seeds, 95% intervals; * chosen on validation",
        title_justify="left", box=None, header_style="bold", padding=(0, 1, 0, 0),
    )  # fmt: skip
    shown.add_column("  method", no_wrap=True)
    for metric in metrics:
        shown.add_column(METRIC_NAMES.get(metric, metric), justify="right", no_wrap=metric == comparison.metric)
    for heading in (f"p vs {comparison.baseline}", "ties", "sec"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for method, row in table.iterrows():
        cells = [_with_interval(row, metric, whole=metric == comparison.metric) for metric in metrics]
        p_value = "" if math.isnan(row["p_value"]) else _short(row["p_value"])
        mark, style = ("* ", "bold") if method == best else ("  ", None)
        last = (p_value, row["tie_group"], f"{row['seconds']:.1f}")
        shown.add_row(escape(f"{mark}{method}"), *cells, *last, style=style)
    return shown


def _with_interval(row: pd.Series, metric: str, *, whole: bool) -> str:
    low, high = row[f"{metric}_low"], row[f"{metric}_high"]
    span = f" [{_short(low)} {_short(high)}]" if whole else f" ±{_short((high - low) / 2)}"
    return _short(row[metric]) + span


def _short(value: float) -> str:
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.3f}"
