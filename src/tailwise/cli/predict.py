"""`tailwise predict`: apply a saved model to a file of texts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tailwise.cli.console import Output
from tailwise.cli.options import Json, PairColumn, Quiet, TextColumn
from tailwise.errors import DataError
from tailwise.registry import did_you_mean

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["predict"]

_TEXT_NAMES = ("text", "sentence", "content", "utterance")


def predict(
    model: Annotated[Path, typer.Argument(help="Folder of a model that tailwise saved.")],
    data: Annotated[Path, typer.Argument(help="CSV, TSV, JSONL or Parquet file, or .txt with one text per line.")],
    text: TextColumn = None,
    text_pair: PairColumn = None,
    out: Annotated[Path | None, typer.Option("--out", help="CSV file to write; default: standard output.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write the class and its probability for every text, in the order of the file."""
    import pandas as pd

    from tailwise.models.saving import load_model
    from tailwise.report.spreadsheet import write_csv

    output = Output(quiet=quiet, as_json=as_json)
    loaded = load_model(model)
    table = _read(data)
    texts = _column(table, text, data, _TEXT_NAMES)
    if loaded.task.input_form == "pair" and text_pair is None:
        raise DataError(f"{model} was trained on pairs of texts. Name the second column with --text-pair.")
    pairs = None if text_pair is None else _column(table, text_pair, data, ())
    probabilities = loaded.predict_proba(texts, pairs)
    best = probabilities.argmax(axis=1)
    result = pd.DataFrame(
        {"text": texts, "label": loaded.label_space.decode(best), "probability": probabilities.max(axis=1).round(6)}
    )
    if out is not None:
        write_csv(result, out)
        output.note(f"{len(result):,} predictions: {out}")
    elif not as_json:
        for row in result.itertuples(index=False):
            output.say(f"{row.probability:.4f}\t{row.label}\t{' '.join(str(row.text).split())}")
    output.json(result.to_dict(orient="records"))


def _read(path: Path) -> pd.DataFrame:
    import pandas as pd

    if not path.is_file():
        raise DataError(f"There is no file {str(path)!r}.")
    suffixes = path.name.lower().removesuffix(".gz").rpartition(".")[2]
    try:
        if suffixes == "txt":
            lines = path.read_text(encoding="utf-8").splitlines()
            return pd.DataFrame({"text": [line for line in lines if line.strip()]})
        if suffixes == "parquet":
            return pd.read_parquet(path)
        if suffixes == "jsonl":
            return pd.read_json(path, lines=True, dtype=False)
        if suffixes in {"csv", "tsv"}:
            return pd.read_csv(path, sep="\t" if suffixes == "tsv" else ",", dtype=str, keep_default_na=False)
    except (ValueError, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}. Expected a sound UTF-8 {suffixes.upper()} file.") from error
    raise DataError(f"{path}: expected .csv, .tsv, .jsonl, .parquet or .txt.")


def _column(table: pd.DataFrame, name: str | None, path: Path, usual: tuple[str, ...]) -> list[str]:
    columns = [str(c) for c in table.columns]
    chosen = name or next((c for c in usual if c in columns), columns[0] if len(columns) == 1 else None)
    if chosen is None:
        raise DataError(f"{path} has the columns {', '.join(columns)}: name the one with the text by --text.")
    if chosen not in columns:
        raise DataError(f"{path} has no column {chosen!r}. {did_you_mean(chosen, columns)}")
    values = table[chosen]
    wrong = [i for i, value in enumerate(values) if not isinstance(value, str) or not value.strip()]
    if wrong:
        raise DataError(f"{path}, row {wrong[0] + 1}: the column {chosen!r} is empty or no text ({len(wrong)} rows).")
    return list(values)
