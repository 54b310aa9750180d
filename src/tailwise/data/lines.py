"""The lines of a text file, read in bounded memory and checked byte by byte.

A line is at most `LINE_LIMIT` bytes long. A gzip file may unpack to `FREE_BYTES` or to `MAX_EXPANSION` times its size
on disk, whichever is more: natural text shrinks 3- to 20-fold, a decompression bomb 1,000-fold.
"""

from __future__ import annotations

import gzip
import io
import shlex
import zlib
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from tailwise.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["FREE_BYTES", "LINE_LIMIT", "MAX_EXPANSION", "ExpansionGuard", "text_lines"]

LINE_LIMIT = 16 * 2**20
FREE_BYTES = 64 * 2**20
MAX_EXPANSION = 200

_UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


class ExpansionGuard:
    """Counts unpacked bytes of a compressed file and stops a decompression bomb.

    Args:
        path: the compressed file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.packed = path.stat().st_size
        self.allowed = max(FREE_BYTES, MAX_EXPANSION * self.packed)

    def check(self, unpacked: int) -> None:
        """Raise `DataError` where more was unpacked than a file of this size may hold."""
        if unpacked > self.allowed:
            raise DataError(
                f"{self.path}: {self.packed:,} bytes on disk unpack to more than {self.allowed:,}: expected at most "
                f"{MAX_EXPANSION} times the size on disk, so this looks like a decompression bomb. If the data are "
                "sound, write them to a CSV or JSON Lines file that is not compressed, and load that."
            )


def text_lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file, plain or ``.gz``, with their line ends; a byte-order mark is skipped.

    Raises:
        DataError: bytes that are not UTF-8, a NUL byte, a line over `LINE_LIMIT`, a damaged or bomb-like gzip file.
    """
    packed = path.name.lower().endswith(".gz")
    guard = ExpansionGuard(path) if packed else None
    offset = 0
    with _open(path, packed=packed) as handle:
        lines = enumerate(iter(partial(handle.readline, LINE_LIMIT + 1), b""), start=1)
        while True:
            try:
                number, raw = next(lines)
            except StopIteration:
                return
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise DataError(
                    f"{path}: the gzip file is truncated or damaged after {offset:,} unpacked bytes ({error}). "
                    f"Check it with `gzip -t {shlex.quote(str(path))}`, and copy or download it again."
                ) from None
            if guard is not None:
                guard.check(offset + len(raw))
            yield _decoded(path, number, offset, raw)
            offset += len(raw)


def _open(path: Path, *, packed: bool) -> BinaryIO:
    if not packed:
        return path.open("rb", buffering=2**20)
    return io.BufferedReader(gzip.GzipFile(path, "rb"), buffer_size=2**20)


def _decoded(path: Path, number: int, offset: int, raw: bytes) -> str:
    if len(raw) > LINE_LIMIT:
        raise DataError(
            f"{path}:{number}: the line is longer than {LINE_LIMIT:,} bytes. Expected one example per line: split the "
            "file into lines, or cut the long text into passages."
        )
    start = 0
    if number == 1:
        if raw.startswith(_UTF16_MARKS):
            _raise_encoding(path, number, offset, "UTF-16")
        start = len(_UTF8_MARK) if raw.startswith(_UTF8_MARK) else 0
    if b"\0" in raw:
        raise DataError(
            f"{path}:{number}: NUL byte at byte {offset + raw.index(0):,}. Expected text; if it is text in UTF-16 "
            "convert it with `iconv -f UTF-16 -t UTF-8`, else remove the NUL bytes with `tr -d '\\000'`."
        )
    try:
        return raw[start:].decode("utf-8")
    except UnicodeDecodeError as error:
        _raise_encoding(path, number, offset + start + error.start, "WINDOWS-1252")


def _raise_encoding(path: Path, number: int, offset: int, guess: str) -> NoReturn:
    packed = path.name.lower().endswith(".gz")
    suffix = PurePath(path.name[:-3] if packed else path.name).suffix
    name = shlex.quote(str(path))
    command = f"zcat {name} | iconv -f {guess} -t UTF-8" if packed else f"iconv -f {guess} -t UTF-8 {name}"
    raise DataError(
        f"{path}:{number}: not UTF-8 at byte {offset:,}{' (unpacked)' if packed else ''}. Convert the file, for "
        f"example `{command} > fixed{suffix}`."
    ) from None
