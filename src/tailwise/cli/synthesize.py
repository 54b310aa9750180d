"""`tailwise synthesize`: make a data set imbalanced on purpose."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.table import Table

from tailwise.cli.console import Output
from tailwise.cli.options import (
    CatchAll,
    Data,
    Json,
    LabelColumn,
    LabelPaths,
    LabelSeparator,
    PairColumn,
    Quiet,
    Revision,
    SplitColumn,
    SplitSeed,
    TaskName,
    TextColumn,
    Unseen,
    load_corpus,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["synthesize"]

MANIFEST = "manifest.json"


def synthesize(
    data: Data,
    out: Annotated[Path, typer.Option("--out", help="New folder for the splits and the manifest.")],
    shape: Annotated[str, typer.Option("--shape", help="step, linear, exponential (long-tailed), power.")] = "step",
    rho: Annotated[float, typer.Option("--rho", help="Largest class over smallest.")] = 10.0,
    mu: Annotated[float | None, typer.Option("--mu", help="Share of minority classes, for step; default 0.4.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the class order and of the rows that stay.")] = 0,
    class_order: Annotated[
        str,
        typer.Option(
            "--class-order", help="random, frequency, alphabetical, or all class names, head first, with commas."
        ),
    ] = "random",
    n_max: Annotated[int | None, typer.Option("--n-max", min=1, help="Rows of the largest class.")] = None,
    min_count: Annotated[int, typer.Option("--min-count", min=1, help="Rows that every class keeps.")] = 1,
    keep_total: Annotated[int | None, typer.Option("--keep-total", min=1, help="Rows of train in all.")] = None,
    clip: Annotated[bool, typer.Option("--clip", help="Small classes keep what they have; no error.")] = False,
    validation: Annotated[
        Literal["natural", "same"], typer.Option("--validation", help="As it is, or thinned as train is.")
    ] = "natural",
    test: Annotated[
        Literal["natural", "balanced"], typer.Option("--test", help="As it is, or all classes thinned to the smallest.")
    ] = "natural",
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
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Thin the training split until its class counts follow a profile; write a folder that every command reads."""
    from tailwise.data.writing import write_corpus
    from tailwise.imbalance.synthesis import synthesize as run_synthesis

    output = Output(quiet=quiet, as_json=as_json)
    corpus = load_corpus(
        output, data, text=text, text_pair=text_pair, label=label, split=split, revision=revision,
        catch_all=catch_all, unseen=unseen, split_seed=split_seed, task=task,
        label_separator=label_separator, label_paths=label_paths,
    )  # fmt: skip
    made = run_synthesis(
        corpus, shape, rho=rho, mu=mu, seed=seed, class_order=_order(class_order), n_max=n_max, min_count=min_count,
        keep_total=keep_total, allow_clip=clip, validation=validation, test=test,
    )  # fmt: skip
    manifest = made.source["synthesis"]
    write_corpus(made, out, documents={MANIFEST: manifest}, origin=f"{made.name}; see {MANIFEST}")
    output.say(_headline(made.name, manifest))
    output.say(counts_table(manifest))
    output.note(f"{', '.join(f'{made.num_rows(name):,} {name}' for name in made.splits)}: {out}")
    output.json(manifest)


def _order(written: str) -> Any:
    names = [name.strip() for name in written.split(",")]
    return written if len(names) == 1 else names


def _headline(name: str, manifest: Mapping[str, Any]) -> str:
    train, asked = manifest["splits"]["train"], manifest["parameters"]["rho"]
    line = f"{name}: {train['rows']:,} of {train['rows_before']:,} rows of train, rho {train['rho']:.4g}"
    if abs(train["rho"] - asked) > 0.01 * asked:
        line += f" (asked for {asked:g})"
    if train["gap"]:
        line += f"; {train['gap']:,} labels more than wanted, held back by scarce labels of the same rows"
    return line


def counts_table(manifest: Mapping[str, Any]) -> Table:
    """Train counts per class, the head first, for the terminal."""
    columns = ("available", "wanted", "reached")
    table = Table(box=None, header_style="bold")
    table.add_column("class", overflow="fold")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for label in manifest["classes_by_rank"]:
        counts = manifest["splits"]["train"]["classes"][label]
        table.add_row(escape(label), *(f"{counts[column]:,}" for column in columns))
    return table
