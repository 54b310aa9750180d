"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tailwise.errors import SettingError

if TYPE_CHECKING:
    from tailwise.cli.console import Output
    from tailwise.data.corpus import Corpus
    from tailwise.models.encoder import Encoder

__all__ = [
    "CatchAll",
    "Data",
    "EncoderName",
    "EngineName",
    "Epochs",
    "Features",
    "Json",
    "LabelColumn",
    "LabelPaths",
    "LabelSeparator",
    "MaxLength",
    "Methods",
    "Metric",
    "PairColumn",
    "Pooling",
    "Quiet",
    "Revision",
    "Seeds",
    "SplitColumn",
    "SplitSeed",
    "TaskName",
    "TextColumn",
    "Trials",
    "Unseen",
    "encoder_from",
    "load_corpus",
]

Data = Annotated[
    str, typer.Argument(help="File (CSV, TSV, JSONL, CoNLL, CoNLL-U, Parquet), folder, named data set, or hub id.")
]
TextColumn = Annotated[str | None, typer.Option("--text", help="Column with the text or tokens.")]
PairColumn = Annotated[str | None, typer.Option("--text-pair", help="Column with the second text of a pair.")]
LabelColumn = Annotated[str | None, typer.Option("--label", help="Column with the class, labels or tags.")]
SplitColumn = Annotated[str | None, typer.Option("--split", help="Column that says train, validation or test.")]
TaskName = Annotated[
    str | None,
    typer.Option(
        "--task",
        help="text, pair, multilabel, multilabel-pair, relation, tagging or parsing; default: as the data tell.",
    ),
]
LabelSeparator = Annotated[
    str | None,
    typer.Option("--label-separator", help="Mark between the labels in a cell, with --task multilabel; default |."),
]
LabelPaths = Annotated[
    str | None,
    typer.Option("--label-paths", help="Mark between the parts of labels that are paths, such as / in sport/football."),
]
Revision = Annotated[str | None, typer.Option("--revision", help="Commit of a hub data set.")]
CatchAll = Annotated[str | None, typer.Option("--catch-all", help="Class that holds everything of no interest.")]
Unseen = Annotated[
    Literal["error", "keep", "drop"],
    typer.Option("--unseen", help="What to do with classes without training instances."),
]
SplitSeed = Annotated[int, typer.Option("--split-seed", min=0, help="Seed of the splits, where none are given.")]
EncoderName = Annotated[str | None, typer.Option("--encoder", help="Hub id or folder; default all-MiniLM-L6-v2.")]
Pooling = Annotated[
    Literal["mean", "cls"] | None,
    typer.Option("--pooling", help="How token states become one vector for a probe; default: mean."),
]
MaxLength = Annotated[int, typer.Option("--max-length", min=8, help="Tokens per text; the rest is cut.")]
EngineName = Annotated[str, typer.Option("--engine", help="probe (head on frozen features) or finetune.")]
Methods = Annotated[
    str | None,
    typer.Option(
        "--methods", help="Comma-separated methods, compositions (cas+focal) or recipe files; default: advice."
    ),
]
Metric = Annotated[str, typer.Option("--metric", help="What tuning and selection maximise on validation.")]
Seeds = Annotated[int, typer.Option("--seeds", min=1, help="Runs per method with different seeds.")]
Trials = Annotated[
    int, typer.Option("--trials", min=0, help="Tuning trials, the same number for every method; 0: published defaults.")
]
Epochs = Annotated[float | None, typer.Option("--epochs", help="Passes over the training rows; default: the engine's.")]
Features = Annotated[
    str | None,
    typer.Option("--features", help="encoder, tfidf or encoder+tfidf for every method of a probe; default: tuned."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print the result only.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def load_corpus(
    output: Output,
    data: str,
    *,
    text: str | None,
    text_pair: str | None,
    label: str | None,
    split: str | None,
    revision: str | None,
    catch_all: str | None,
    unseen: Literal["error", "keep", "drop"],
    split_seed: int,
    task: str | None = None,
    label_separator: str | None = None,
    label_paths: str | None = None,
) -> Corpus:
    """Load the data a command was given, telling what was guessed."""
    from tailwise.data import load

    source = Path(data) if Path(data).exists() else data
    return load(
        source, text=text, text_pair=text_pair, label=label, split=split, revision=revision, seed=split_seed,
        catch_all=catch_all, unseen=unseen, notify=output.note, task=task, label_separator=label_separator,
        label_paths=label_paths,
    )  # fmt: skip


def encoder_from(
    name: str | None, pooling: Literal["mean", "cls"] | None, max_length: int, engine: str = "probe"
) -> Encoder:
    """The encoder a command was given.

    Raises:
        SettingError: a pooling for an engine that would not take it.
    """
    from tailwise.models.encoder import Encoder

    if engine == "finetune" and pooling is not None:
        raise SettingError(
            f"The engine 'finetune' leaves it to the class of the model how token states become one vector (BERT: the "
            f"state of the first token through a layer of its own), so --pooling {pooling} would be ignored. Leave it "
            "out, or choose the engine 'probe'."
        )
    return Encoder.from_pretrained(name, pooling=pooling or "mean", max_length=max_length)
