"""The result store: finished work on disk, written once, atomically, by one process at a time.

    ROOT/cells/CORPUS/METHOD/seed-S-KEY/     one finished cell (see `tailwise.benchmark.cell`)
    ROOT/tuning/CORPUS/METHOD/trial-KEY.json one tuning trial
    ROOT/tuning/CORPUS/METHOD/study-KEY.json the outcome of tuning
    ROOT/.locks/KEY.lock                     held by the process that works on that unit

A folder or file appears under its final name only when it is complete and on disk: it is written beside its place,
synchronised and renamed. What a killed process leaves begins with ``.partial-`` and is removed by whoever takes up that
unit next; the operating system frees the locks of a dead process.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from tailwise.benchmark.cell import json_bytes, read_cell, write_cell
from tailwise.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tailwise.benchmark.cell import Cell, CellKey, CellResult

__all__ = ["ResultStore", "folder_name"]

_SHORT = 12
_LONGEST_NAME = 80


def folder_name(name: str) -> str:
    """`name` as one harmless path component: letters, digits and ``. _ + -``, never hidden, at most 80 characters."""
    clean = re.sub(r"[^A-Za-z0-9._+-]+", "_", name)[:_LONGEST_NAME].strip(".")
    return clean or "_"


class ResultStore:
    """Finished cells and tuning results below one folder.

    Args:
        root: the folder; made when it is not there.

    Raises:
        StoreError: the folder cannot be made or written.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).expanduser().absolute()
        try:
            (self.root / ".locks").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"The result folder {self.root} cannot be made: {error}. Name another one.") from error

    def cell_folder(self, key: CellKey) -> Path:
        """Where the cell of `key` lies, or will lie."""
        parts = ("cells", folder_name(key.corpus), folder_name(key.method), f"seed-{key.seed}-{key.digest[:_SHORT]}")
        return self._inside(*parts)

    def has(self, key: CellKey) -> bool:
        """Whether the cell is finished."""
        return self.cell_folder(key).is_dir()

    def read(self, key: CellKey) -> Cell:
        """The finished cell of `key`.

        Raises:
            StoreError: there is none, or its files are damaged; the message names the folder and the remedy.
        """
        folder = self.cell_folder(key)
        if not folder.is_dir():
            raise StoreError(f"There is no result in {folder}. Run the comparison first.")
        cell = read_cell(folder)
        if cell.key.digest != key.digest:
            raise StoreError(
                f"The result in {folder} is damaged: it belongs to another run (method {cell.key.method!r}, seed "
                f"{cell.key.seed}). Delete that folder and run the comparison again."
            )
        return cell

    def write(self, key: CellKey, result: CellResult) -> Cell:
        """Store a finished cell; one that is there already stays as it is.

        The caller holds the claim on ``key.digest``.

        Raises:
            StoreError: the disk refuses.
        """
        folder = self.cell_folder(key)
        self._clean(folder)
        if not folder.is_dir():
            with self._guarded(folder), self._partial(folder) as partial:
                partial.mkdir()
                write_cell(partial, key, result)
                for path in sorted(partial.iterdir()):
                    _synchronise(path)
                _synchronise(partial)
                partial.rename(folder)
                _synchronise(folder.parent)
        return self.read(key)

    def record_path(self, corpus: str, method: str, kind: str, digest: str) -> Path:
        """Where a tuning result of a kind (``"trial"``, ``"study"``) lies, or will lie."""
        return self._inside("tuning", folder_name(corpus), folder_name(method), f"{kind}-{digest[:_SHORT]}.json")

    def read_record(self, path: Path, digest: str) -> dict[str, Any]:
        """A stored tuning result.

        Raises:
            StoreError: the file is missing, damaged or belongs to other work.
        """
        try:
            data = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise _damaged(path, str(error)) from error
        if not isinstance(data, dict) or data.get("digest") != digest:
            raise _damaged(path, "it does not belong to this work")
        return data

    def write_record(self, path: Path, digest: str, data: Mapping[str, Any]) -> None:
        """Store a tuning result; one that is there already stays as it is. The caller holds the claim on `digest`.

        Raises:
            StoreError: the disk refuses.
        """
        self._clean(path)
        if path.is_file():
            return
        with self._guarded(path), self._partial(path) as partial:
            partial.write_bytes(json_bytes({**data, "digest": digest}))
            _synchronise(partial)
            partial.rename(path)
            _synchronise(path.parent)

    @contextmanager
    def claim(self, digests: Sequence[str], at_most: int | None = None) -> Iterator[list[str]]:
        """Hold as many units of work as are free, at least one; waits only while every one of them is taken.

        Nothing is held while waiting, so processes that claim in different orders cannot block each other.
        """
        with ExitStack() as held:
            claimed: list[str] = []
            for digest in digests:
                if len(claimed) != at_most and self._acquire(held, digest, timeout=0.0):
                    claimed.append(digest)
            if not claimed and digests:
                self._acquire(held, digests[0], timeout=-1.0)
                claimed.append(digests[0])
            yield claimed

    def complete(
        self,
        digests: Sequence[str],
        *,
        done: Callable[[str], bool],
        work: Callable[[list[str]], None],
        at_most: int | None = None,
    ) -> None:
        """Run `work` on the units that are not `done`, `at_most` so many at once.

        A unit that another process is working on is awaited, not computed twice.
        """
        pending = [digest for digest in digests if not done(digest)]
        while pending:
            with self.claim(pending, at_most) as claimed:
                todo = [digest for digest in claimed if not done(digest)]
                if todo:
                    work(todo)
            pending = [digest for digest in pending if not done(digest)]

    def _acquire(self, held: ExitStack, digest: str, timeout: float) -> bool:
        lock = FileLock(self.root / ".locks" / f"{digest[:32]}.lock")
        try:
            lock.acquire(timeout=timeout, poll_interval=0.1)
        except Timeout:
            return False
        held.callback(lock.release)
        return True

    def _inside(self, *parts: str) -> Path:
        path = self.root.joinpath(*parts)
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise StoreError(f"{path} leads out of the result folder {self.root}. Remove the link and run again.")
        return path

    def _partial_prefix(self, target: Path) -> str:
        return f".partial-{target.name}-"

    def _clean(self, target: Path) -> None:
        """Remove what a killed process left of this unit; only the holder of the claim writes there."""
        for leftover in target.parent.glob(f"{self._partial_prefix(target)}*"):
            _remove(leftover)

    @contextmanager
    def _partial(self, target: Path) -> Iterator[Path]:
        """A path beside `target` to write and rename; whatever is still there at the end is removed."""
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.parent / f"{self._partial_prefix(target)}{secrets.token_hex(4)}"
        try:
            yield partial
        finally:
            _remove(partial)

    @contextmanager
    def _guarded(self, target: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"The result {target} cannot be written: {error}. Nothing was left half-written."
            ) from error


def _synchronise(path: Path) -> None:
    """Bring a file or a folder to disk; systems that cannot open folders skip those."""
    if path.is_dir() and os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _damaged(path: Path, fault: str) -> StoreError:
    return StoreError(f"The tuning result {path} is damaged: {fault}. Delete that file and run again.")
