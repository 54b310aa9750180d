"""`tailwise diagnose`: what is imbalanced, and how."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from tailwise.cli.console import Output
from tailwise.cli.options import (
    CatchAll,
    Data,
    EncoderName,
    Json,
    LabelColumn,
    LabelPaths,
    LabelSeparator,
    MaxLength,
    PairColumn,
    Pooling,
    Quiet,
    Revision,
    SplitColumn,
    SplitSeed,
    TaskName,
    TextColumn,
    Unseen,
    encoder_from,
    load_corpus,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tailwise.data.corpus import SplitName
    from tailwise.imbalance.diagnosis import Diagnosis

__all__ = ["diagnose", "diagnosis_table"]


def diagnose(
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
    overlap: Annotated[
        bool, typer.Option(help="Measure class overlap on encoder features, where rows have one class.")
    ] = True,
    encoder: EncoderName = None,
    pooling: Pooling = None,
    max_length: MaxLength = 256,
    figure: Annotated[Path | None, typer.Option("--figure", help="Write the figure here (.png or .svg).")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Counts, imbalance, shape, groups, duplicates, conflicts, leakage, shift, and class overlap."""
    from tailwise.imbalance.diagnosis import diagnose as run_diagnosis
    from tailwise.imbalance.diagnosis import has_overlap
    from tailwise.models.feature_cache import FeatureCache, split_features
    from tailwise.report.diagnosis_figure import diagnosis_figure

    output = Output(quiet=quiet, as_json=as_json)
    corpus = load_corpus(
        output, data, text=text, text_pair=text_pair, label=label, split=split, revision=revision,
        catch_all=catch_all, unseen=unseen, split_seed=split_seed, task=task,
        label_separator=label_separator, label_paths=label_paths,
    )  # fmt: skip
    features: dict[SplitName, NDArray[Any]] | None = None
    if overlap and has_overlap(corpus.task):
        chosen = encoder_from(encoder, pooling, max_length)
        with output.progress() as progress:
            features = {"train": split_features(chosen, corpus, "train", cache=FeatureCache(), progress=progress)}
    diagnosis = run_diagnosis(corpus, features=features)
    output.say(diagnosis_table(diagnosis))
    if figure is not None:
        diagnosis_figure(diagnosis, figure)
        output.note(f"figure: {figure}")
    output.json(diagnosis.to_dict())


def diagnosis_table(diagnosis: Diagnosis) -> Table:
    """The findings as a table for the terminal."""
    from tailwise.report.findings import findings

    table = Table(title=f"Diagnosis of {diagnosis.name}", title_justify="left", box=None, header_style="bold")
    table.add_column("finding", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("what it means", overflow="fold")
    for row in findings(diagnosis):
        table.add_row(escape(row.name), escape(row.value), escape(row.meaning))
    return table
