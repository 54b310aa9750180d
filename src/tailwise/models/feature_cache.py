"""Features on disk: one ``.npy`` file per list of texts and encoder, shared by every process of the user.

    key = sha256(texts, second texts, encoder fingerprint, pooling, maximal length, number type)

A file appears under its name only when it is complete (temporary file, then rename), so a killed writer leaves nothing
that could be read. Two processes that need the same features compute them once. Least recently used files go when the
folder outgrows its bound.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock

from tailwise.errors import SettingError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from tailwise.data.corpus import Corpus, SplitName
    from tailwise.models.encoder import Encoder

    Compute = Callable[[], NDArray[Any]]
    Progress = Callable[[str, int, int], None]

__all__ = ["FeatureCache", "cached_features", "feature_key", "split_features"]

_LAYOUT = "tailwise features 1"

#: A temporary file that has not grown for this long has no writer any more.
_ABANDONED_SECONDS = 24 * 3600


def default_root() -> Path:
    """``$TAILWISE_CACHE``, or the user's cache folder of this system."""
    from platformdirs import user_cache_dir

    folder = os.environ.get("TAILWISE_CACHE") or user_cache_dir("tailwise", appauthor=False)
    return Path(folder) / "features"


def feature_key(encoder: Encoder, texts: Sequence[str], text_pairs: Sequence[str] | None = None) -> str:
    """What identifies the features of these texts, 64 hexadecimal digits."""
    settings = (_LAYOUT, encoder.fingerprint, encoder.pooling, str(encoder.max_length), str(encoder.dtype))
    digest = hashlib.sha256("\0".join(settings).encode())
    for column in (texts, text_pairs):
        digest.update(b"-" if column is None else f"{len(column)}:".encode())
        for text in column or ():
            data = text.encode("utf-8", "surrogatepass")
            digest.update(b"%d:" % len(data))
            digest.update(data)
    return digest.hexdigest()


class FeatureCache:
    """A folder of feature matrices, bounded in size.

    Args:
        root: the folder; None takes ``$TAILWISE_CACHE/features`` or the user's cache folder.
        max_bytes: bound on the files together. The matrix just asked for is kept even if it alone is larger. 0 keeps
            nothing on disk.
    """

    def __init__(self, root: str | os.PathLike[str] | None = None, max_bytes: int = 8 * 2**30) -> None:
        if max_bytes < 0:
            raise SettingError(f"Expected `max_bytes` to be at least 0, but got {max_bytes!r}.")
        self.root = default_root() if root is None else Path(root)
        self.max_bytes = max_bytes

    def get(self, key: str, shape: tuple[int, int], dtype: type[np.floating[Any]] = np.float32) -> NDArray[Any] | None:
        """The matrix stored under `key`, memory-mapped read-only, or None where there is no sound one of `shape`."""
        path = self._path(key)
        try:
            matrix: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
            sound = matrix.dtype == dtype and matrix.shape == shape and matrix.flags.c_contiguous
            offset = getattr(matrix, "offset", 0)
            if not sound or path.stat().st_size != offset + matrix.nbytes:
                return None
        except (OSError, ValueError, EOFError):
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return matrix

    def get_or_compute(
        self, key: str, shape: tuple[int, int], compute: Compute, *, dtype: type[np.floating[Any]] = np.float32
    ) -> NDArray[Any]:
        """The matrix stored under `key`; where there is none, it is computed, by one process alone, and stored.

        Raises:
            StoreError: the folder cannot be written.
        """
        if not self.max_bytes or 0 in shape:
            return compute()
        found = self.get(key, shape, dtype)
        if found is not None:
            return found
        with self._locked(key):
            found = self.get(key, shape, dtype)
            if found is not None:
                return found
            self._write(key, np.ascontiguousarray(compute(), dtype=dtype))
            stored = self.get(key, shape, dtype)
        if stored is None:
            raise StoreError(f"The features written to {self._path(key)} cannot be read back. Is the disk full?")
        self._evict(keep=self._path(key))
        return stored

    def clear(self) -> None:
        """Remove every stored matrix."""
        for path in (*self.root.glob("*.npy"), *self.root.glob("*.partial")):
            _remove(path)

    def _path(self, key: str) -> Path:
        return self.root / f"{key}.npy"

    @contextlib.contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        folder = self.root / "locks"
        lock = FileLock(folder / f"{key[:2]}.lock")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except OSError as error:
            raise self._not_writable(error) from error
        try:
            yield
        finally:
            lock.release()

    def _write(self, key: str, matrix: NDArray[Any]) -> None:
        partial = self.root / f"{key}.partial"
        try:
            with partial.open("wb") as file:
                np.save(file, matrix, allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self._path(key))
        except OSError as error:
            _remove(partial)
            raise self._not_writable(error) from error

    def _not_writable(self, error: OSError) -> StoreError:
        return StoreError(
            f"The feature cache {self.root} cannot be written ({error}). Set TAILWISE_CACHE to a folder with room, or "
            f"use FeatureCache(max_bytes=0) to keep nothing."
        )

    def _evict(self, keep: Path) -> None:
        """Remove what killed writers left, then the least recently used files until the rest fits."""
        used = []
        for path in (*self.root.glob("*.npy"), *self.root.glob("*.partial")):
            with contextlib.suppress(OSError):
                status = path.stat()
                if path.suffix == ".npy":
                    used.append((status.st_mtime_ns, status.st_size, path))
                elif time.time() - status.st_mtime > _ABANDONED_SECONDS:
                    _remove(path)
        total = sum(size for _, size, _ in used)
        for _, size, path in sorted(used):
            if total <= self.max_bytes:
                return
            if path != keep:
                _remove(path)
                total -= size


def cached_features(
    encoder: Encoder,
    texts: Sequence[str],
    text_pairs: Sequence[str] | None = None,
    *,
    cache: FeatureCache | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Features ``(N, D)`` of texts, from the cache or encoded now; read-only where they come from disk.

    Args:
        encoder: the encoder.
        texts: N texts.
        text_pairs: the second text of each pair.
        cache: None takes the user's cache folder.
        progress: told how far the encoding is; not called when the features are there already.
    """
    cache = FeatureCache() if cache is None else cache
    return cache.get_or_compute(
        feature_key(encoder, texts, text_pairs),
        (len(texts), encoder.dim),
        lambda: encoder.encode(texts, text_pairs, progress=progress),
    )


def split_features(
    encoder: Encoder,
    corpus: Corpus,
    split: SplitName,
    *,
    cache: FeatureCache | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Features ``(N, D)`` of a split of a corpus, see `cached_features`."""
    return cached_features(encoder, corpus.texts(split), corpus.text_pairs(split), cache=cache, progress=progress)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
