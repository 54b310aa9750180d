"""The feature cache: what identifies an entry, and what killed, hasty and greedy writers leave behind."""

import multiprocessing
import os
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest

from tailwise.errors import SettingError, StoreError
from tailwise.models import feature_cache
from tailwise.models.feature_cache import FeatureCache, cached_features, feature_key, split_features

SHAPE = (50, 4)


def matrix(seed=0, shape=SHAPE):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


class CountingEncoder:
    """Encodes a text as its length, and counts how often it is asked."""

    dim = 3

    def __init__(self, **settings):
        self.calls = 0
        defaults = {"fingerprint": "f", "pooling": "mean", "max_length": 256, "dtype": "float32"}
        self.__dict__.update({**defaults, **settings})

    def encode(self, texts, text_pairs=None, *, progress=None):
        self.calls += 1
        if progress is not None:
            progress("encode", len(texts), len(texts))
        extra = text_pairs or [""] * len(texts)
        return np.array([[len(t), len(p), 1] for t, p in zip(texts, extra, strict=True)], dtype=np.float32)


@pytest.fixture
def cache(tmp_path):
    return FeatureCache(tmp_path / "cache")


def never():
    raise AssertionError("computed again")


def test_what_is_stored_comes_back_memory_mapped_and_read_only(cache):
    first = cache.get_or_compute("ab", SHAPE, matrix)
    second = cache.get_or_compute("ab", SHAPE, never)
    for found in (first, second):
        assert np.array_equal(found, matrix())
        assert isinstance(found, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            found[0, 0] = 1.0


def test_the_encoder_is_asked_once_per_list_of_texts(cache):
    encoder, texts = CountingEncoder(), ["a", "bb"]
    for _ in range(3):
        assert cached_features(encoder, texts, cache=cache).tolist() == [[1, 0, 1], [2, 0, 1]]
    assert encoder.calls == 1
    cached_features(encoder, texts, ["x", "y"], cache=cache)
    assert encoder.calls == 2


def test_splits_are_encoded_with_their_pairs(cache):
    corpus = SimpleNamespace(texts=lambda split: [split], text_pairs=lambda split: ["b"])
    calls = []
    result = split_features(CountingEncoder(), corpus, "test", cache=cache, progress=lambda *c: calls.append(c))
    assert result.tolist() == [[4, 1, 1]]
    assert calls == [("encode", 1, 1)]


def test_everything_that_changes_features_changes_the_key():
    variants = [
        (CountingEncoder(), ["a", "b"], None),
        (CountingEncoder(), ["ab"], None),
        (CountingEncoder(), ["b", "a"], None),
        (CountingEncoder(), ["a"], ["b"]),
        (CountingEncoder(), ["a", "b"], ["", ""]),
        (CountingEncoder(), ["a2:b"], None),
        (CountingEncoder(fingerprint="g"), ["a", "b"], None),
        (CountingEncoder(pooling="cls"), ["a", "b"], None),
        (CountingEncoder(max_length=128), ["a", "b"], None),
        (CountingEncoder(dtype="bfloat16"), ["a", "b"], None),
        (CountingEncoder(), ["a", "\ud800"], None),
    ]
    keys = [feature_key(*variant) for variant in variants]
    assert len(set(keys)) == len(keys)
    assert keys[0] == feature_key(CountingEncoder(), ["a", "b"])


def truncate(path):
    path.write_bytes(path.read_bytes()[:-7])


def lengthen(path):
    path.write_bytes(path.read_bytes() + b"\0")


def forge_pickle(path):
    np.save(path, np.array([{}] * 50, dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        lengthen,
        forge_pickle,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no numpy file"),
        lambda path: np.save(path, matrix(shape=(49, 4))),
        lambda path: np.save(path, matrix().astype(np.float64)),
        lambda path: np.save(path, np.asfortranarray(matrix())),
    ],
)
def test_a_damaged_entry_is_computed_again(cache, damage):
    cache.get_or_compute("ab", SHAPE, matrix)
    damage(cache.root / "ab.npy")
    assert cache.get("ab", SHAPE) is None
    assert np.array_equal(cache.get_or_compute("ab", SHAPE, lambda: matrix(1)), matrix(1))
    assert np.array_equal(cache.get_or_compute("ab", SHAPE, never), matrix(1))


def test_an_error_while_computing_leaves_nothing_and_releases_the_lock(cache):
    with pytest.raises(AssertionError):
        cache.get_or_compute("ab", SHAPE, never)
    assert not list(cache.root.glob("*.npy"))
    assert np.array_equal(cache.get_or_compute("ab", SHAPE, matrix), matrix())


def test_the_least_recently_used_entries_go_first(tmp_path):
    size = 128 + matrix().nbytes
    cache = FeatureCache(tmp_path, max_bytes=3 * size)
    for key in ("aa", "bb", "cc"):
        cache.get_or_compute(key, SHAPE, matrix)
        time.sleep(0.02)
    cache.get_or_compute("aa", SHAPE, never)
    time.sleep(0.02)
    held = cache.get("bb", SHAPE)
    os.utime(tmp_path / "bb.npy", (0, 0))
    cache.get_or_compute("dd", SHAPE, lambda: matrix(4))
    assert sorted(p.stem for p in tmp_path.glob("*.npy")) == ["aa", "cc", "dd"]
    assert np.array_equal(held, matrix())


def test_the_entry_in_use_is_kept_even_if_it_alone_is_too_large(tmp_path):
    cache = FeatureCache(tmp_path, max_bytes=10)
    cache.get_or_compute("aa", SHAPE, matrix)
    assert np.array_equal(cache.get_or_compute("bb", SHAPE, lambda: matrix(1)), matrix(1))
    assert [p.stem for p in tmp_path.glob("*.npy")] == ["bb"]


def test_without_room_nothing_is_kept(tmp_path):
    cache = FeatureCache(tmp_path / "none", max_bytes=0)
    assert np.array_equal(cache.get_or_compute("aa", SHAPE, matrix), matrix())
    assert not (tmp_path / "none").exists()
    with pytest.raises(SettingError, match="`max_bytes` to be at least 0, but got -1"):
        FeatureCache(max_bytes=-1)


def test_no_rows_are_no_entry(cache):
    assert cache.get_or_compute("aa", (0, 4), lambda: np.empty((0, 4), np.float32)).shape == (0, 4)


def test_clear_removes_entries_and_remains(cache):
    cache.get_or_compute("aa", SHAPE, matrix)
    (cache.root / "bb.partial").touch()
    cache.clear()
    assert [p.name for p in cache.root.iterdir()] == ["locks"]


def test_remains_of_killed_writers_go_after_a_day(cache):
    cache.root.mkdir(parents=True)
    old, young = cache.root / "old.partial", cache.root / "young.partial"
    old.touch()
    young.touch()
    os.utime(old, (0, 0))
    cache.get_or_compute("aa", SHAPE, matrix)
    assert not old.exists()
    assert young.exists()


def test_the_folder_is_the_users_cache_or_what_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("TAILWISE_CACHE", str(tmp_path))
    assert FeatureCache().root == tmp_path / "features"
    monkeypatch.delenv("TAILWISE_CACHE")
    assert FeatureCache().root.name == "features"
    assert "tailwise" in FeatureCache().root.parts


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot be written .* Set TAILWISE_CACHE"):
        FeatureCache(tmp_path / "file" / "cache").get_or_compute("aa", SHAPE, matrix)


def _slow_client(root, barrier, log):
    def compute():
        with log.open("a") as file:
            file.write("computed\n")
        time.sleep(0.3)
        return matrix()

    barrier.wait()
    assert np.array_equal(FeatureCache(root).get_or_compute("ab", SHAPE, compute), matrix())


def test_processes_that_need_the_same_features_compute_them_once(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier, log = context.Barrier(3), tmp_path / "log"
    clients = [context.Process(target=_slow_client, args=(tmp_path / "cache", barrier, log)) for _ in range(3)]
    for client in clients:
        client.start()
    for client in clients:
        client.join(60)
    assert [client.exitcode for client in clients] == [0, 0, 0]
    assert log.read_text() == "computed\n"


def _writer_that_stops_halfway(root, started):
    def half_a_save(file, array, **_):
        file.write(array.tobytes()[:40])
        file.flush()
        started.set()
        time.sleep(60)

    feature_cache.np = SimpleNamespace(**{**vars(np), "save": half_a_save})
    FeatureCache(root).get_or_compute("ab", SHAPE, matrix)


def test_a_writer_killed_halfway_leaves_no_entry_and_no_lock(tmp_path):
    context = multiprocessing.get_context("fork")
    started = context.Event()
    writer = context.Process(target=_writer_that_stops_halfway, args=(tmp_path, started))
    writer.start()
    assert started.wait(60)
    os.kill(writer.pid, signal.SIGKILL)
    writer.join(60)
    assert [p.suffix for p in tmp_path.iterdir() if p.is_file()] == [".partial"]
    cache = FeatureCache(tmp_path)
    assert cache.get("ab", SHAPE) is None
    assert np.array_equal(cache.get_or_compute("ab", SHAPE, lambda: matrix(2)), matrix(2))
    assert not list(tmp_path.glob("*.partial"))
