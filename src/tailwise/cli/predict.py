"""`tailwise predict`: apply a saved model to a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tailwise.cli.console import Output
from tailwise.cli.options import Json, PairColumn, Quiet, TextColumn
from tailwise.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tailwise.models.fitted import FittedModel

__all__ = ["predict"]


def predict(
    model: Annotated[Path, typer.Argument(help="Folder of a model that tailwise saved.")],
    data: Annotated[
        Path,
        typer.Argument(
            help="CSV, TSV, JSONL or Parquet, or .txt with one text per line; JSONL or Parquet with tokens, head and "
            "tail for relations; JSONL, Parquet, CoNLL or CoNLL-U for sentences as tokens."
        ),
    ],
    text: TextColumn = None,
    text_pair: PairColumn = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="CSV or JSONL file to write (tags and trees: JSONL only); default: standard output."
        ),
    ] = None,
    fast: Annotated[
        bool,
        typer.Option(
            "--fast",
            help="Multiply in bfloat16 where the processor does so natively: about twice as fast; probabilities differ "
            "in the third digit.",
        ),
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write classes, labels, tags or trees and their probabilities for every row, in the order of the file."""
    from tailwise.cli.prediction_inputs import read_inputs
    from tailwise.cli.prediction_rows import as_line, as_table, predicted_rows
    from tailwise.models.saving import load_model
    from tailwise.report.spreadsheet import write_csv

    output = Output(quiet=quiet, as_json=as_json)
    loaded = load_model(model)
    if fast:
        _quicken(loaded, output)
    lines = out is not None and out.suffix.lower() in {".jsonl", ".ndjson"}
    if out is not None and not lines and loaded.task.by_token:
        raise DataError(
            f"{model} labels every token, which does not fit into the cells of {out.name!r}. Expected --out to end in "
            ".jsonl."
        )
    rows = predicted_rows(loaded, read_inputs(data, loaded.task.input_form, text=text, text_pair=text_pair))
    if out is not None:
        if lines:
            _write_lines(rows, out)
        else:
            write_csv(as_table(rows), out)
        output.note(f"{len(rows):,} predictions: {out}")
    elif not as_json:
        for row in rows:
            output.say(as_line(row))
    output.json(rows)


def _quicken(model: FittedModel, output: Output) -> None:
    """Let the frozen encoder of a model compute faster, or say that it cannot."""
    encoder = getattr(model, "encoder", None)
    quick = encoder.quick() if encoder is not None else None
    if quick is None or quick is encoder:
        output.note("--fast changes nothing here: no frozen encoder, or no native bfloat16")
        return
    model.encoder = quick  # type: ignore[attr-defined]
    output.note("multiplying in bfloat16")


def _write_lines(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
