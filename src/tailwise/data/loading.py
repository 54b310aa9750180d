"""`load`: from any source to a corpus."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailwise.data.assembly import RawCorpus, assemble
from tailwise.data.columns import Request
from tailwise.data.files import DATA_FILE, data_stem, file_facts, preview_file, read_file, require_file
from tailwise.data.folders import read_folder
from tailwise.data.hub import from_datasets, is_hub_id, is_saved_folder, read_hub, read_saved_folder
from tailwise.data.named import named_datasets, read_named
from tailwise.data.partition import ALL
from tailwise.data.recognition import choose_columns
from tailwise.data.tables import preview_frame, read_frame
from tailwise.data.task import Task
from tailwise.errors import DataError, SettingError, UnknownNameError
from tailwise.registry import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

    from tailwise.data.corpus import Corpus
    from tailwise.data.unseen import Unseen

__all__ = ["load"]

_log = logging.getLogger("tailwise")


def load(
    source: Any,
    *,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    split: str | None = None,
    revision: str | None = None,
    seed: int = 13,
    catch_all: str | None = None,
    unseen: Unseen = "error",
    notify: Callable[[str], None] | None = None,
    task: str | None = None,
    label_separator: str | None = None,
    label_paths: str | None = None,
) -> Corpus:
    """Read a data set into a corpus with train, validation and test.

    The task is recognised from the columns: texts or pairs of texts with a label or a list of labels, sentences with
    two marked entities and a relation, sentences with a tag per token, or dependency trees.

    Splits that are given are kept as they are. A missing validation (or test) split is a stratified tenth of train;
    data without splits are split 80/10/10. See `tailwise.data.splits` for what a split guarantees.

    Args:
        source: a CSV, TSV, JSON Lines, CoNLL, CoNLL-U (each also ``.gz``) or Parquet file; a folder with a file per
            split, or written by `datasets`' ``save_to_disk``; a hub id ``owner/name`` or ``owner/name:config``; the
            name of a data set (see `named_datasets`); a pandas DataFrame; a `datasets.Dataset` or `DatasetDict`. A
            `Path` is never a name or an id.
        text: column of the text, or of the tokens. None: guessed where only one reading is possible, and told to
            `notify`.
        text_pair: column of the second text, for pairs.
        label: column of the label, the labels, the tags or the dependency relations.
        split: column that holds train, validation (valid, val, dev) or test.
        revision: commit, tag or branch of a hub data set; resolved to a commit, which is recorded.
        seed: of the splits that are made here.
        catch_all: class that holds everything of no interest; default: what the folder's SOURCE.json says.
        unseen: classes that train does not have: ``"error"`` (classes that SOURCE.json declares are kept), ``"keep"``
            (their rows count as errors) or ``"drop"`` (their rows are left out; in multi-label data the labels).
        notify: gets one line on each guess and decision; default: the logger ``tailwise``, level info.
        task: text, pair, multilabel, multilabel-pair, relation, tagging or parsing; None: as the columns tell.
        label_separator: in multi-label tables where a cell holds several names, what stands between them; default
            ``"|"``, only with ``task="multilabel"``.
        label_paths: in data with several labels per row, what stands between the parts of label names that are paths,
            for example ``"/"``: a row then has every label above its own too, and predictions are coherent. See
            `tailwise.data.label_paths`.

    Raises:
        DataError: the data cannot be used; the message names file, line and remedy. Nothing is written.
        MissingDependencyError: a named data set needs a package.
        UnknownNameError: no such file, folder or named data set.
        SettingError: a parameter does not fit the source.
    """
    say = notify or _log.info
    if task is not None:
        Task.from_name(task)
    if label_separator is not None and not label_separator.strip():
        raise SettingError(f"Expected `label_separator` to be a mark such as '|' or ';', but got {label_separator!r}.")
    try:
        raw = _read(source, Request(text, text_pair, label, split, task, label_separator), revision, say)
    except OSError as error:
        raise DataError(
            f"{str(source)[:200]}: cannot be read: {error.strerror or error}. Check path and permissions."
        ) from error
    return assemble(raw, seed=seed, catch_all=catch_all, unseen=unseen, say=say, label_paths=label_paths)


def _read(source: Any, request: Request, revision: str | None, say: Callable[[str], None]) -> RawCorpus:
    if isinstance(source, str):
        found = _read_name(source, request, revision, say)
        if found is not None:
            return found
    if revision is not None:
        raise SettingError(
            f"revision={revision!r} applies to hub ids only; other sources are recorded by their sha256."
        )
    if isinstance(source, (str, os.PathLike)):
        return _read_path(Path(source), request, say)
    return _read_object(source, request, say)


def _read_name(source: str, request: Request, revision: str | None, say: Callable[[str], None]) -> RawCorpus | None:
    """A named data set or hub data set; None where the string is a path.

    A bare name means the named data set even where a folder of that name lies in the working directory, so that results
    written there never become the source; ``./name`` means the folder.
    """
    if revision is None and (named := read_named(source, request, say)) is not None:
        return named
    if Path(source).exists() and revision is None:
        return None
    if DATA_FILE.fullmatch(source) is None and is_hub_id(source, pinned=revision is not None):
        return read_hub(source, revision, request, say)
    if source == Path(source).name and "." not in source:
        raise UnknownNameError(
            f"{source!r} is neither a file nor a folder here nor a named data set. "
            f"{did_you_mean(source, named_datasets())} Further data sets are found by name below the folder that the "
            "environment variable TAILWISE_DATA names."
        )
    return None


def _read_path(path: Path, request: Request, say: Callable[[str], None]) -> RawCorpus:
    if path.is_dir():
        return read_saved_folder(path, request, say) if is_saved_folder(path) else read_folder(path, request, say)
    require_file(path)
    columns = choose_columns(preview_file(path, say), request, say)
    facts = {"kind": "file", "name": path.name, "files": {ALL: [file_facts(path)]}}
    return RawCorpus(data_stem(path), {ALL: read_file(path, columns, say)}, columns, facts)


def _read_object(source: Any, request: Request, say: Callable[[str], None]) -> RawCorpus:
    """A pandas DataFrame or a `datasets` object, told by its class without importing either package."""
    packages = {base.__module__.partition(".")[0] for base in type(source).__mro__}
    if "datasets" in packages:
        return from_datasets(source, request, say, name="dataset", place="dataset", facts={"kind": "dataset"})
    if "pandas" in packages and hasattr(source, "columns"):
        columns = choose_columns(preview_frame(source, "DataFrame"), request, say)
        rows = read_frame(source, columns, "DataFrame")
        return RawCorpus("dataframe", {ALL: rows}, columns, {"kind": "dataframe"})
    raise DataError(
        f"Expected a path, a name, a hub id, a pandas DataFrame, a datasets.Dataset or a DatasetDict; found "
        f"{type(source).__name__}."
    )
