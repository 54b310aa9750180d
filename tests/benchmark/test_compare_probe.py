"""Comparisons of real texts with the real probe engine."""

from dataclasses import replace

import numpy as np
import pytest

from tailwise.benchmark.compare import compare, make_engine
from tailwise.data import load
from tailwise.models.encoder import Encoder
from tailwise.models.feature_cache import FeatureCache
from tailwise.training.finetune import FinetuneEngine
from tailwise.training.probe import ProbeEngine

ROWS = {"train": 360, "validation": 120, "test": 120}


@pytest.fixture(scope="module")
def corpus(data_dir):
    """The six coarse question classes of TREC, 360 training rows."""
    whole = load(data_dir / "trec6")
    splits = {s: whole.splits[s].shuffle(seed=1).select(range(n)).flatten_indices() for s, n in ROWS.items()}
    small = replace(whole, name="trec6-small", splits=splits, fingerprint="trec6-small")
    counts = np.bincount(small.labels("train"), minlength=len(whole.label_space))
    return replace(small, label_space=replace(whole.label_space, counts=counts))


@pytest.fixture(scope="module")
def encoder():
    return Encoder.from_pretrained(dtype="float32")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return FeatureCache(tmp_path_factory.mktemp("features"))


def run(corpus, encoder, cache, out, **changes):
    engine = ProbeEngine(cache=cache, epochs=5)
    return compare(corpus, encoder=encoder, engine=engine, out=out, trials=3, **changes)


@pytest.fixture(scope="module")
def first(corpus, encoder, cache, tmp_path_factory):
    out = tmp_path_factory.mktemp("first")
    return run(corpus, encoder, cache, out, methods=["ce", "wce", "logit-adjustment", "thresholds", "cas+focal", "ncm"])


def test_real_texts_are_learnt_and_tabled(first):
    table = first.table()
    assert len(table) == 6
    assert (table["macro_f1"] > 0.3).all()
    assert first.best() in table.index
    assert table.loc["ce", "accuracy_high"] - table.loc["ce", "accuracy_low"] > 0.02


def test_the_same_comparison_twice_gives_equal_bytes_whoever_else_takes_part(first, corpus, encoder, cache, tmp_path):
    run(corpus, encoder, cache, tmp_path, methods=["wce", "logit-adjustment"])
    again = {p.relative_to(tmp_path): p.read_bytes() for p in tmp_path.rglob("*") if p.suffix in {".json", ".parquet"}}
    assert sum(path.name == "cell.json" for path in again) == 6
    for path, content in again.items():
        if path.name != "timing.json":
            assert (first.folder / path).read_bytes() == content


def test_a_rerun_does_not_train(first, corpus, encoder, cache, monkeypatch):
    monkeypatch.setattr(ProbeEngine, "fit_many", lambda *_: pytest.fail("trained again"))
    again = run(corpus, encoder, cache, first.folder, methods=list(first.methods))
    assert again.table().equals(first.table())


def test_fitted_steps_are_stored_with_the_cell(first, corpus, encoder, cache):
    model = ProbeEngine(cache=cache, epochs=5).fit(first.recipes["thresholds"], corpus, encoder, 0)
    (step,) = first.cells["thresholds"][0].steps
    assert step.to_dict() == model.steps[0].to_dict()
    np.testing.assert_array_equal(first.evaluations["thresholds", 0].logits, model.split_logits(corpus, "test"))


def test_engines_by_name_take_metric_cache_and_checkpoints(cache, tmp_path):
    probe = make_engine("probe", "mcc", cache, tmp_path)
    assert isinstance(probe, ProbeEngine)
    assert (probe.metric, probe.cache) == ("mcc", cache)
    finetune = make_engine("finetune", "mcc", cache, tmp_path)
    assert isinstance(finetune, FinetuneEngine)
    assert finetune.checkpoints == tmp_path
    assert make_engine(probe) is probe
