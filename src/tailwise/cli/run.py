"""`tailwise run`: the whole way, from a skewed data set to a trusted model and a report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from tailwise.cli.compare import comparison_table, method_list
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
    from tailwise.benchmark.pipeline import Outcome
    from tailwise.imbalance.diagnosis import Diagnosis

__all__ = ["run"]


def run(
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
    self_contained: Annotated[
        bool,
        typer.Option(
            "--self-contained", help="Give the model folder a file of its own with the encoder's weights, not a link."
        ),
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Diagnose, recommend, compare, train and calibrate the best, save it, report. The same command continues a run."""
    from tailwise.benchmark.pipeline import run_pipeline

    output = Output(quiet=quiet, as_json=as_json)
    corpus = load_corpus(
        output, data, text=text, text_pair=text_pair, label=label, split=split, revision=revision,
        catch_all=catch_all, unseen=unseen, split_seed=split_seed, task=task,
        label_separator=label_separator, label_paths=label_paths,
    )  # fmt: skip
    folder = out or Path("runs") / corpus.name
    chosen = encoder_from(encoder, pooling, max_length, engine)
    sizes = ", ".join(f"{corpus.num_rows(name):,} {name}" for name in corpus.splits)
    output.note(f"{corpus.name}: {sizes}; {len(corpus.label_space)} classes; results go to {folder}")
    with output.progress() as progress:
        outcome = run_pipeline(
            corpus, encoder=chosen, engine=engine, methods=method_list(methods), seeds=tuple(range(seeds)),
            trials=trials, metric=metric, epochs=epochs, features=features,
            out=folder, self_contained=self_contained, command=["tailwise", *sys.argv[1:]], notify=output.note,
            progress=progress,
        )  # fmt: skip
    output.say(_diagnosis_line(outcome.diagnosis))
    output.say(comparison_table(outcome.comparison, output.out.width))
    for line in outcome.summary:
        output.say(line)
    output.say(_file_table(outcome))
    output.json(_as_data(outcome))


def _diagnosis_line(diagnosis: Diagnosis) -> str:
    few = f"; {len(diagnosis.hardly_learnt)} classes under 25 examples" if diagnosis.hardly_learnt else ""
    return (
        f"{diagnosis.name}: {diagnosis.num_classes} classes, imbalance ratio {diagnosis.measures.rho:,.1f}, "
        f"{diagnosis.shape.name}{few}"
    )


def _file_table(outcome: Outcome) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, path in outcome.files.items():
        table.add_row(escape(name), escape(str(path)))
    return table


def _as_data(outcome: Outcome) -> dict[str, Any]:
    return {
        "corpus": outcome.diagnosis.name,
        "diagnosis": outcome.diagnosis.to_dict(),
        "recommendations": [item.to_dict() for item in outcome.advice],
        "comparison": outcome.comparison.to_dict(),
        "best": outcome.best,
        "summary": list(outcome.summary),
        "timing": dict(outcome.timing),
        "files": {name: str(path) for name, path in outcome.files.items()},
    }
