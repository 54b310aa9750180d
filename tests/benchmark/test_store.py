import json
import os
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from tailwise.benchmark import store as store_module
from tailwise.benchmark.cell import CellKey, CellResult, digest, json_bytes
from tailwise.benchmark.store import ResultStore, folder_name
from tailwise.data.labels import LabelSpace
from tailwise.errors import StoreError
from tailwise.evaluation.evaluation import Evaluation
from tailwise.posthoc.base import AffineStep

SPACE = LabelSpace(("a", "b", "c"), np.array([50, 10, 3]), unseen=("d",))


def a_key(**changes):
    key = CellKey(
        corpus="toy",
        corpus_fingerprint="0" * 64,
        encoder={"fingerprint": "1" * 64, "pooling": "mean", "max_length": 32},
        engine="probe",
        engine_settings={"epochs": 20},
        method="cas+focal",
        recipe={"name": "cas+focal", "stages": [{"loss": {"name": "focal", "focus": 2.0}}]},
        seed=0,
    )
    return replace(key, **changes)


def a_result(seconds=1.5):
    random = np.random.default_rng(3)

    def scores(size):
        logits = random.standard_normal((size, 3)).astype(np.float32)
        return Evaluation(tuple(f"i{i}" for i in range(size)), np.arange(size) % 4, logits, SPACE)

    step = AffineStep("thresholds", np.ones(3), np.array([0.0, 0.1, 1 / 3]), {"tau": 0.5})
    return CellResult(scores(20), scores(8), seconds, [step], {"loss.focus": 2.0}, {"name": "mini"}, ["a note"])


@pytest.fixture
def store(tmp_path):
    return ResultStore(tmp_path / "out")


def test_a_written_cell_reads_back_as_it_was(store):
    key, result = a_key(), a_result()
    assert not store.has(key)
    store.write(key, result)
    cell = store.read(key)
    assert store.has(key)
    assert (cell.key, cell.params, cell.notes) == (key, {"loss.focus": 2.0}, ("a note",))
    assert cell.seconds == 1.5
    np.testing.assert_array_equal(cell.test().logits, result.test.logits)
    np.testing.assert_array_equal(cell.validation().gold, result.validation.gold)
    assert cell.test().label_space.unseen == ("d",)
    assert cell.steps[0].bias.tolist() == [0.0, 0.1, 1 / 3]
    assert {"torch", "transformers", "numpy", "scikit-learn", "tailwise"} == set(cell.versions)


def test_the_same_work_twice_gives_equal_bytes_except_for_the_time(tmp_path):
    folders = []
    for name, seconds in (("one", 1.0), ("two", 2.0)):
        folders.append(ResultStore(tmp_path / name).write(a_key(), a_result(seconds)).folder)
    for file in ("cell.json", "scores.parquet", "validation.parquet"):
        assert (folders[0] / file).read_bytes() == (folders[1] / file).read_bytes()
    assert (folders[0] / "timing.json").read_bytes() != (folders[1] / "timing.json").read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"method": "focal"},
        {"corpus_fingerprint": "2" * 64},
        {"engine_settings": {"epochs": 21}},
        {"recipe": {"name": "cas+focal", "stages": [{"loss": {"name": "focal", "focus": 1.0}}]}},
        {"encoder": {"fingerprint": "1" * 64, "pooling": "cls", "max_length": 32}},
        {"result_format": 4},
    ],
)
def test_everything_that_decides_a_result_changes_the_key(store, change):
    assert a_key().digest != a_key(**change).digest
    assert store.cell_folder(a_key()) != store.cell_folder(a_key(**change))


def test_a_key_survives_json_and_the_kind_of_container(store):
    key = a_key(engine_settings={"betas": (0.9, np.float64(0.999))})
    again = CellKey.from_dict(json.loads(json_bytes(key.to_dict())))
    assert again.digest == key.digest
    assert digest({"b": 1, "a": (2,)}) == digest({"a": [2], "b": 1})


def test_a_finished_cell_is_never_edited(store):
    folder = store.write(a_key(), a_result(1.0)).folder
    before = {f.name: (f.stat().st_mtime_ns, f.read_bytes()) for f in folder.iterdir()}
    store.write(a_key(), a_result(9.0))
    assert {f.name: (f.stat().st_mtime_ns, f.read_bytes()) for f in folder.iterdir()} == before


@pytest.mark.parametrize("file", ["cell.json", "scores.parquet", "validation.parquet", "timing.json"])
def test_a_missing_file_is_named_with_the_folder_and_the_remedy(store, file):
    folder = store.write(a_key(), a_result()).folder
    (folder / file).unlink()
    with pytest.raises(StoreError, match=f"{folder.name} is damaged: .*{file}.*Delete that folder"):
        store.read(a_key())


def test_changed_scores_are_noticed(store):
    cell = store.write(a_key(), a_result())
    content = bytearray((cell.folder / "scores.parquet").read_bytes())
    content[len(content) // 2] ^= 1
    (cell.folder / "scores.parquet").write_bytes(content)
    with pytest.raises(StoreError, match=r"scores\.parquet is missing or is not the file that was written"):
        store.read(a_key()).test()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"key": {"corpus": "toy"}}', b"\xff\xfe"])
def test_a_damaged_description_is_a_store_error(store, content):
    cell = store.write(a_key(), a_result())
    (cell.folder / "cell.json").write_bytes(content)
    with pytest.raises(StoreError, match=r"cell\.json .*Delete that folder"):
        store.read(a_key())


def test_a_cell_of_other_work_in_the_folder_is_noticed(store):
    cell = store.write(a_key(), a_result())
    other = store.write(a_key(seed=1), a_result())
    (cell.folder / "cell.json").write_bytes((other.folder / "cell.json").read_bytes())
    with pytest.raises(StoreError, match="belongs to another run"):
        store.read(a_key())


def test_reading_what_is_not_there_says_so(store):
    with pytest.raises(StoreError, match="There is no result in"):
        store.read(a_key())


@pytest.mark.parametrize("failing", ["_synchronise", "write_cell"])
def test_a_failure_between_the_files_leaves_nothing(store, monkeypatch, failing):
    original = getattr(store_module, failing)

    def fail(*arguments):
        original(*arguments)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_module, failing, fail)
    with pytest.raises(StoreError, match=r"No space left on device.*Nothing was left half-written"):
        store.write(a_key(), a_result())
    assert not store.has(a_key())
    assert list(store.cell_folder(a_key()).parent.iterdir()) == []
    monkeypatch.undo()
    assert store.write(a_key(), a_result()).test() is not None


def test_ctrl_c_while_writing_leaves_nothing(store, monkeypatch):
    def interrupted(folder, *_):
        (folder / "scores.parquet").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(store_module, "write_cell", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.write(a_key(), a_result())
    assert not store.has(a_key())
    assert list(store.cell_folder(a_key()).parent.iterdir()) == []


def test_what_a_killed_process_left_is_ignored_and_removed(store):
    folder = store.cell_folder(a_key())
    leftover = folder.parent / f".partial-{folder.name}-1a2b3c4d"
    leftover.mkdir(parents=True)
    (leftover / "scores.parquet").write_bytes(b"half")
    assert not store.has(a_key())
    store.write(a_key(), a_result())
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("cas+focal", "cas+focal"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("a/b\\c:d", "a_b_c_d"),
        ("..", "_"),
        (".hidden", "hidden"),
        ("", "_"),
        ("naïve\0", "na_ve_"),
        ("x" * 300, "x" * 80),
    ],
)
def test_names_become_one_harmless_path_component(name, folder):
    assert folder_name(name) == folder


def test_hostile_names_stay_below_the_root(store):
    cell = store.write(a_key(method="../../../outside", corpus="/etc"), a_result())
    assert cell.folder.resolve().is_relative_to(store.root.resolve())
    assert len(cell.folder.relative_to(store.root).parts) == 4


def test_a_link_that_leads_out_of_the_root_is_refused(store, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (store.root / "cells").symlink_to(elsewhere)
    with pytest.raises(StoreError, match="leads out of the result folder"):
        store.write(a_key(), a_result())
    assert list(elsewhere.iterdir()) == []


def test_a_root_that_is_a_file_is_a_store_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be made"):
        ResultStore(tmp_path / "file")


def test_a_result_can_be_read_by_others_where_the_umask_allows(store):
    old = os.umask(0o022)
    try:
        folder = store.write(a_key(), a_result()).folder
    finally:
        os.umask(old)
    assert folder.stat().st_mode & 0o777 == 0o755


def test_records_read_back_and_damage_is_named(store):
    path = store.record_path("toy", "cas+focal", "trial", "a" * 64)
    store.write_record(path, "a" * 64, {"value": 0.1 + 0.2, "params": {"loss.focus": 2.0}})
    assert store.read_record(path, "a" * 64)["value"] == 0.1 + 0.2
    store.write_record(path, "a" * 64, {"value": 1.0})
    assert store.read_record(path, "a" * 64)["value"] == 0.1 + 0.2
    with pytest.raises(StoreError, match="does not belong to this work"):
        store.read_record(path, "a" * 12 + "b" * 52)
    path.write_bytes(b"{")
    with pytest.raises(StoreError, match=rf"{path.name} is damaged.*Delete that file"):
        store.read_record(path, "a" * 64)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_record_that_cannot_be_written_leaves_nothing(store, monkeypatch):
    def fail(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_module, "_synchronise", fail)
    path = store.record_path("toy", "ce", "trial", "a" * 64)
    with pytest.raises(StoreError, match="No space left on device"):
        store.write_record(path, "a" * 64, {"value": 1.0})
    assert list(path.parent.iterdir()) == []


def test_what_a_killed_process_left_of_a_record_is_removed(store):
    path = store.record_path("toy", "ce", "trial", "a" * 64)
    path.parent.mkdir(parents=True)
    (path.parent / f".partial-{path.name}-1a2b3c4d").write_bytes(b"{")
    store.write_record(path, "a" * 64, {"value": 1.0})
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_unit_is_worked_on_by_one_at_a_time_and_awaited_by_the_others(tmp_path):
    finished, runs, busy = set(), [], []

    def process():
        own = ResultStore(tmp_path / "out")

        def work(todo):
            for unit in todo:
                assert unit not in busy
                busy.append(unit)
                time.sleep(0.02)
                runs.append(unit)
                finished.add(unit)
                busy.remove(unit)

        own.complete(["1", "2", "3", "4", "5", "6"], done=finished.__contains__, work=work, at_most=2)

    threads = [threading.Thread(target=process) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert sorted(runs) == ["1", "2", "3", "4", "5", "6"]


def test_a_claim_takes_what_is_free_and_waits_only_when_nothing_is(store):
    other = ResultStore(store.root)
    with store.claim(["1", "2"]) as first:
        assert first == ["1", "2"]
        with other.claim(["1", "3"]) as second:
            assert second == ["3"]
    with other.claim(["1", "2"], at_most=1) as third:
        assert third == ["1"]
