"""Features of a split are found once per process, never stale, and take a bounded amount of memory."""

import gc
import os
import weakref

import numpy as np
import pytest
from datasets import Dataset

from tailwise.data.corpus import Corpus
from tailwise.data.labels import LabelSpace
from tailwise.data.task import Task
from tailwise.models import feature_memo
from tailwise.models.feature_cache import FeatureCache
from tailwise.models.row_features import split_row_features


class CountingEncoder:
    """Encodes a text as its length, and counts how often it is asked."""

    dim = 3

    def __init__(self, **settings):
        self.calls = 0
        self.__dict__.update({"fingerprint": "f", "pooling": "mean", "max_length": 9, "dtype": "float32", **settings})

    def encode(self, texts, text_pairs=None, *, progress=None):
        del text_pairs, progress
        self.calls += 1
        return np.array([[len(text), 1, 2] for text in texts], dtype=np.float32)


def corpus(form="text", texts=("a", "bb", "ccc")):
    columns = {"id": list("xyz"), "text": list(texts), "label": [0, 1, 0]}
    if form == "pair":
        columns["text_pair"] = ["q", "rr", "sss"]
    rows = Dataset.from_dict(columns)
    splits = dict.fromkeys(("train", "validation", "test"), rows)
    return Corpus("small", splits, Task(form, "single"), LabelSpace(("a", "b"), np.array([2, 1])), "f")


@pytest.fixture(autouse=True)
def _nothing_remembered():
    feature_memo.forget_features()


@pytest.fixture
def cache(tmp_path):
    return FeatureCache(tmp_path)


@pytest.fixture
def reads(monkeypatch):
    found = []
    read = Corpus.texts
    monkeypatch.setattr(Corpus, "texts", lambda self, split: found.append(split) or read(self, split))
    return found


@pytest.mark.parametrize("form", ["text", "pair"])
def test_texts_are_read_once_per_split(form, cache, reads):
    data, encoder = corpus(form), CountingEncoder()
    first = [split_row_features(encoder, data, split, cache=cache) for split in ("train", "test", "train", "train")]
    assert reads == ["train", "test"]
    assert first[0] is first[2] is first[3]
    with pytest.raises(ValueError, match="read-only"):
        first[0][0, 0] = 1


@pytest.mark.parametrize("change", [{"fingerprint": "g"}, {"pooling": "cls"}, {"max_length": 8}, {"dtype": "bfloat16"}])
def test_another_encoder_has_other_features(change, cache):
    data = corpus()
    plain, other = CountingEncoder(), CountingEncoder(**change)
    split_row_features(plain, data, "train", cache=cache)
    split_row_features(other, data, "train", cache=cache)
    assert (plain.calls, other.calls) == (1, 1)


def test_another_corpus_has_other_features(cache):
    encoder = CountingEncoder()
    lengths = [
        split_row_features(encoder, corpus(texts=t), "train", cache=cache)[:, 0] for t in ("abc", ("dd", "e", ""))
    ]
    assert [found.tolist() for found in lengths] == [[1, 1, 1], [2, 1, 0]]


def test_features_whose_file_is_gone_are_found_anew(cache):
    data, encoder = corpus(), CountingEncoder()
    split_row_features(encoder, data, "train", cache=cache)
    cache.clear()
    assert split_row_features(encoder, data, "train", cache=cache)[:, 0].tolist() == [1, 2, 3]
    assert encoder.calls == 2
    assert len(list(cache.root.glob("*.npy"))) == 1


def test_a_use_is_marked_on_the_file_so_that_it_stays_in_the_cache(cache):
    data, encoder = corpus(), CountingEncoder()
    split_row_features(encoder, data, "train", cache=cache)
    (file,) = cache.root.glob("*.npy")
    os.utime(file, (1, 1))
    split_row_features(encoder, data, "train", cache=cache)
    assert file.stat().st_mtime > 1


def test_features_in_memory_are_bounded(monkeypatch):
    data, nowhere = corpus("pair"), FeatureCache(max_bytes=0)
    size = 3 * 12 * 4
    monkeypatch.setattr(feature_memo, "_MOST_BYTES", 2 * size)
    encoder = CountingEncoder()
    for split in ("train", "validation", "train", "test"):  # validation is the least recently used and goes
        split_row_features(encoder, data, split, cache=nowhere)
    before = encoder.calls
    for split in ("train", "test"):
        split_row_features(encoder, data, split, cache=nowhere)
    assert encoder.calls == before
    split_row_features(encoder, data, "validation", cache=nowhere)
    assert encoder.calls == before + 2
    monkeypatch.setattr(feature_memo, "_MOST_BYTES", size - 1)
    feature_memo.forget_features()
    split_row_features(encoder, data, "train", cache=nowhere)
    assert not list(feature_memo._entries())


def test_a_corpus_that_is_gone_takes_its_features_along():
    data = corpus()
    kept = weakref.ref(split_row_features(CountingEncoder(), data, "train", cache=FeatureCache(max_bytes=0)))
    gc.collect()
    assert kept() is not None
    del data
    gc.collect()
    assert kept() is None
