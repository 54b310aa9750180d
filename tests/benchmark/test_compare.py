import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tailwise.benchmark.tuning import TUNING_SEED
from tailwise.data.corpus import Corpus
from tailwise.errors import SettingError, StoreError, UnknownNameError
from tailwise.evaluation.metrics import macro_f1, metric_function
from tailwise.stages.recipe import Component, Recipe, Stage

#: 4 methods: ce and logit-adjustment have 3 points, wce 9, focal 12; 4 trials each
TRAINED_TRIALS = 3 + 3 + 4 + 4
CELLS = 4 * 2


def files(folder):
    """Every result below a folder, by relative path; the times left out."""
    found = {p.relative_to(folder): p for p in Path(folder).rglob("*") if p.is_file() and ".locks" not in p.parts}
    return {path: file.read_bytes() for path, file in found.items() if path.name != "timing.json"}


@pytest.fixture(scope="module")
def uninterrupted(worker, tmp_path_factory):
    out = tmp_path_factory.mktemp("uninterrupted")
    engine = worker.SoftmaxEngine(log=out.parent / "uninterrupted.log")
    return worker.run(out, engine), engine, out


def test_every_method_and_seed_has_one_cell_on_disk(worker, uninterrupted):
    comparison, _, out = uninterrupted
    assert comparison.methods == worker.METHODS
    assert comparison.seeds == worker.SEEDS
    folders = sorted(path.parent.relative_to(out).parts[:3] for path in out.rglob("cell.json"))
    assert folders == sorted(("cells", "toy", method) for method in worker.METHODS for _ in worker.SEEDS)
    assert not list(out.rglob(".partial-*"))


def test_stored_scores_are_those_of_the_model_trained_alone(worker, uninterrupted):
    comparison, _, _ = uninterrupted
    corpus, encoder = worker.skewed_corpus(), worker.HashEncoder()
    for method in ("wce", "logit-adjustment"):
        model = worker.SoftmaxEngine().fit(comparison.recipes[method], corpus, encoder, 1)
        stored = comparison.evaluations[method, 1]
        np.testing.assert_array_equal(stored.logits, model.split_logits(corpus, "test"))
        np.testing.assert_array_equal(stored.gold, corpus.labels("test"))
        assert stored.ids == tuple(corpus.ids("test"))
        np.testing.assert_array_equal(
            comparison.validations[method, 1].logits, model.split_logits(corpus, "validation")
        )


def test_cell_json_tells_how_the_result_came_about(uninterrupted):
    comparison, _, _ = uninterrupted
    cell = comparison.cells["logit-adjustment"][0]
    data = json.loads((cell.folder / "cell.json").read_text())
    assert data["key"]["recipe"] == comparison.recipes["logit-adjustment"].to_dict()
    assert data["key"]["seed"] == 0
    assert data["key"]["engine_settings"] == {"steps": 30}
    assert data["key"]["corpus_fingerprint"] == "c" * 64
    assert data["steps"][0]["details"] == {"seen": 0.1}
    assert data["params"] == dict(comparison.tunings["logit-adjustment"].best)
    assert data["encoder"] == {"name": "hash", "revision": None}


def test_the_same_seed_twice_gives_equal_bytes(worker, uninterrupted, tmp_path):
    worker.run(tmp_path, worker.SoftmaxEngine())
    assert files(tmp_path) == files(uninterrupted[2])
    assert any(path.name == "scores.parquet" for path in files(tmp_path))


def test_results_do_not_depend_on_the_other_methods(worker, uninterrupted, tmp_path):
    worker.run(tmp_path, worker.SoftmaxEngine(batched=False), methods=["focal"])
    everything = files(uninterrupted[2])
    own = files(tmp_path)
    assert own
    assert all(everything[path] == content for path, content in own.items())


def test_a_rerun_trains_nothing_and_finds_the_same(worker, uninterrupted):
    comparison, _, out = uninterrupted
    before = files(out)
    idle = worker.SoftmaxEngine()
    again = worker.run(out, idle)
    assert idle.calls == []
    assert files(out) == before
    assert again.table().equals(comparison.table())


def test_more_seeds_and_methods_only_train_what_is_new(worker, tmp_path):
    worker.run(tmp_path, worker.SoftmaxEngine(), methods=["ce"], seeds=(0,))
    engine = worker.SoftmaxEngine()
    worker.run(tmp_path, engine, methods=["ce", "wce"], seeds=(0, 1))
    trained = [(job.recipe.name, job.seed) for jobs in engine.calls for job in jobs if job.seed != TUNING_SEED]
    assert sorted(trained) == [("ce", 1), ("wce", 0), ("wce", 1)]


def test_every_method_has_the_same_tuning_budget_and_the_default_first(worker, tmp_path):
    engine = worker.SoftmaxEngine(rates=(0.5, 0.1, 0.2, 1.0, 2.0, 0.05, 0.7, 0.9))
    comparison = worker.run(tmp_path, engine, trials=8, seeds=(0,))
    jobs = [job for jobs in engine.calls for job in jobs]
    for method in worker.METHODS:
        tuned = [job.recipe for job in jobs if job.recipe.name == method and job.seed == TUNING_SEED]
        assert len(tuned) == len(set(tuned)) == 8
        first = comparison.tunings[method].trials[0]
        assert first.params["optimisation.learning_rate"] == 0.5
    assert comparison.tunings["focal"].trials[0].params["loss.focus"] == 2.0
    assert comparison.tunings["wce"].trials[0].params["loss.class_weights"] == "inverse"


def test_the_test_split_stays_untouched_until_tuning_is_over(worker, tmp_path):
    events = []

    class Watched(Corpus):
        def texts(self, split):
            events.append(("texts", split))
            return super().texts(split)

        def labels(self, split):
            events.append(("labels", split))
            return super().labels(split)

        def ids(self, split):
            events.append(("ids", split))
            return super().ids(split)

    class Watcher(worker.SoftmaxEngine):
        def fit(self, recipe, corpus, encoder, seed, progress=None):
            events.append(("fit", seed))
            return super().fit(recipe, corpus, encoder, seed, progress)

    plain = worker.skewed_corpus()
    corpus = Watched(**{f: getattr(plain, f) for f in plain.__dataclass_fields__})
    worker.run(tmp_path, Watcher(), corpus=corpus)
    last_trial = max(i for i, event in enumerate(events) if event == ("fit", TUNING_SEED))
    touched = [i for i, (_, where) in enumerate(events) if where == "test"]
    assert touched
    assert min(touched) > last_trial
    assert events.count(("texts", "test")) == CELLS
    worker.run(tmp_path, Watcher(), corpus=corpus)
    assert events.count(("texts", "test")) == CELLS


def test_best_is_chosen_on_validation_and_ties_go_to_the_cheaper(uninterrupted):
    comparison, _, _ = uninterrupted
    score = metric_function("macro_f1", 5)
    means = {
        m: np.mean([score(e.gold, e.predicted) for e in (comparison.validations[m, s] for s in comparison.seeds)])
        for m in comparison.methods
    }
    assert comparison.validation_means == pytest.approx(means)
    assert means[comparison.best()] == max(means.values())
    equal = replace(comparison)
    equal.__dict__["validation_means"] = dict.fromkeys(comparison.methods, 0.5)
    assert equal.best() == "logit-adjustment"
    equal.__dict__["tiers"] = dict.fromkeys(comparison.methods, "T2")
    assert equal.best() == "ce"


def test_best_does_not_read_the_test_scores(worker, uninterrupted, tmp_path):
    comparison = worker.run(tmp_path, worker.SoftmaxEngine())
    for path in tmp_path.rglob("scores.parquet"):
        path.unlink()
    assert comparison.best() == uninterrupted[0].best()
    with pytest.raises(StoreError, match=r"scores\.parquet is missing"):
        comparison.table()


def test_the_table_has_points_intervals_tests_and_ties(uninterrupted):
    comparison, _, _ = uninterrupted
    table = comparison.table()
    assert sorted(table.index) == sorted(comparison.methods)
    assert table["macro_f1"].is_monotonic_decreasing
    for metric in ("macro_f1", "balanced_accuracy", "worst_class_f1", "tail_f1", "accuracy", "ece"):
        assert (table[f"{metric}_low"] <= table[metric]).all()
        assert (table[metric] <= table[f"{metric}_high"]).all()
    tail = comparison.label_space.counts < 20
    runs = [comparison.evaluations["wce", seed] for seed in comparison.seeds]
    assert table.loc["wce", "tail_f1"] == pytest.approx(np.mean([macro_f1(e.counts, tail) for e in runs]))
    assert table.loc["wce", "gain"] == pytest.approx(table.loc["wce", "macro_f1"] - table.loc["ce", "macro_f1"])
    assert np.isnan(table.loc["ce", "p_value"])
    assert comparison.twins == {"focal": "ce"}  # this engine knows no other loss than wce
    assert np.isnan(table.loc["focal", "p_value"])
    assert table.loc["focal", "macro_f1"] == table.loc["ce", "macro_f1"]
    assert table["p_value"].drop(["ce", "focal"]).between(0, 1).all()
    assert table["tie_group"].iloc[0].startswith("a")
    assert (table["seconds"] > 0).all()


def test_a_metric_that_is_not_in_the_table_is_added_and_tested(worker, uninterrupted):
    comparison = replace(uninterrupted[0], metric="mcc")
    table = comparison.table()
    assert table.columns[0] == "mcc"
    assert table["mcc"].is_monotonic_decreasing


def test_per_class_has_a_row_per_method_seed_and_class(uninterrupted):
    comparison, _, _ = uninterrupted
    rows = comparison.per_class()
    assert len(rows) == CELLS * 5
    assert {"method", "seed", "class", "train_count", "support", "precision", "recall", "f1"} <= set(rows.columns)
    one = rows[(rows["method"] == "ce") & (rows["seed"] == 1)]
    assert one["train_count"].tolist() == [60, 30, 15, 6, 3]
    assert one["support"].tolist() == [15, 9, 6, 4, 3]
    assert one["group"].tolist() == ["medium", "medium", "tail", "tail", "tail"]


def test_the_comparison_as_plain_data_is_json(uninterrupted):
    data = json.loads(json.dumps(uninterrupted[0].to_dict(), allow_nan=False))
    assert data["best"] == uninterrupted[0].best()
    assert data["methods"]["ce"]["p_value"] is None
    assert len(data["methods"]["focal"]["tuning"]["trials"]) == 4


def test_instances_of_unseen_classes_count_as_errors(worker, tmp_path):
    comparison = worker.run(tmp_path, worker.SoftmaxEngine(), corpus=worker.skewed_corpus(unseen=True), seeds=(0,))
    evaluation = comparison.evaluations["ce", 0]
    assert evaluation.gold.max() == 5
    assert comparison.table().loc["ce", "accuracy"] == pytest.approx((evaluation.gold == evaluation.predicted).mean())


def test_compositions_files_mappings_and_recipes_take_part(worker, tmp_path):
    own = Recipe("mine", stages=(Stage(loss=Component("wce")),)).with_optimisation(learning_rate=0.3)
    (tmp_path / "deferred.yaml").write_text("name: from-file\n")
    methods = ["cas+focal", own, {"name": "from-mapping"}, tmp_path / "deferred.yaml", "cas+focal"]
    comparison = worker.run(tmp_path / "out", worker.SoftmaxEngine(), methods=methods, trials=2, seeds=(0,))
    assert comparison.methods == ("cas+focal", "mine", "from-mapping", "from-file")
    assert comparison.baseline == "cas+focal"
    assert comparison.recipes["mine"] == own
    assert len(comparison.tunings["mine"].trials) == 1
    assert comparison.recipes["from-file"].optimisation.learning_rate is not None


def test_without_trials_the_published_defaults_are_run(worker, tmp_path):
    engine = worker.SoftmaxEngine()
    comparison = worker.run(tmp_path, engine, methods=["ce", "focal"], trials=0)
    assert {job.seed for jobs in engine.calls for job in jobs} == {0, 1}
    assert comparison.recipes["focal"].stages[0].loss == Component("focal", {"focus": 2.0})
    assert comparison.tunings["focal"].trials == ()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"methods": ["cee"]}, UnknownNameError, "Unknown method 'cee'. Did you mean 'ce'"),
        ({"methods": []}, SettingError, "at least one method to compare"),
        ({"methods": [{"name": "x"}, {"name": "x", "head": "cosine"}]}, SettingError, "recipes are called 'x'"),
        ({"seeds": ()}, SettingError, "distinct integers from 0"),
        ({"seeds": (1, 1)}, SettingError, r"distinct integers from 0, at least one, but got \[1, 1\]"),
        ({"seeds": (0, TUNING_SEED)}, SettingError, "the one that tuning uses"),
        ({"trials": -1}, SettingError, "`trials` to be 0 .* but got -1"),
        ({"metric": "macro-f1"}, UnknownNameError, "Unknown metric 'macro-f1'. Did you mean .*'macro_f1'"),
    ],
)
def test_wrong_settings_are_refused_before_any_training(worker, tmp_path, changes, error, message):
    engine = worker.SoftmaxEngine()
    with pytest.raises(error, match=message):
        worker.run(tmp_path, engine, **changes)
    assert engine.calls == []


def test_an_unknown_engine_is_refused_by_name(worker, tmp_path):
    with pytest.raises(UnknownNameError, match=r"Unknown engine 'prob'\. Did you mean 'probe'"):
        worker.run(tmp_path, "prob")


def test_a_recipe_that_the_engine_refuses_is_an_error_when_the_user_asked_for_it(worker, tmp_path):
    class Picky(worker.SoftmaxEngine):
        def fit(self, recipe, *arguments):
            if recipe.name == "focal":
                raise SettingError("focal is not for this engine")
            return super().fit(recipe, *arguments)

    with pytest.raises(SettingError, match="not for this engine"):
        worker.run(tmp_path, Picky())


def test_damage_is_reported_and_repaired_by_deleting_the_folder(worker, tmp_path):
    comparison = worker.run(tmp_path, worker.SoftmaxEngine(), methods=["ce"])
    folder = comparison.cells["ce"][1].folder
    intact = files(tmp_path)
    (folder / "cell.json").write_text("{}")
    with pytest.raises(StoreError, match=rf"{folder.name} is damaged.*Delete that folder"):
        worker.run(tmp_path, worker.SoftmaxEngine(), methods=["ce"])
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    engine = worker.SoftmaxEngine()
    worker.run(tmp_path, engine, methods=["ce"])
    assert [(job.recipe.name, job.seed) for jobs in engine.calls for job in jobs] == [("ce", 1)]
    assert files(tmp_path) == intact


def test_ctrl_c_leaves_finished_work_and_nothing_half_done(worker, uninterrupted, tmp_path):
    class Interrupted(worker.SoftmaxEngine):
        left = TRAINED_TRIALS + 3

        def fit(self, *arguments):
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return super().fit(*arguments)

    with pytest.raises(KeyboardInterrupt):
        worker.run(tmp_path, Interrupted(batched=False))
    assert len(list(tmp_path.rglob("cell.json"))) == 3
    assert not list(tmp_path.rglob(".partial-*"))
    engine = worker.SoftmaxEngine(batched=False)
    worker.run(tmp_path, engine)
    assert len(engine.calls) == CELLS - 3
    assert files(tmp_path) == files(uninterrupted[2])


def start(worker, out, log, seconds):
    command = [sys.executable, worker.__file__, str(out), str(log), str(seconds)]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True)


def lines(log):
    return log.read_text().splitlines() if log.exists() else []


def test_killed_at_any_moment_a_rerun_continues_without_loss_or_repetition(worker, uninterrupted, tmp_path):
    log, out = tmp_path / "log", tmp_path / "out"
    random = np.random.default_rng(int.from_bytes(os.urandom(4)))
    kills = 0
    for already in (0, 9, 17):
        process = start(worker, out, log, 0.05)
        while len(lines(log)) <= already and process.poll() is None:
            time.sleep(0.005)
        time.sleep(random.uniform(0.0, 0.12))
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    finished = files(out)
    worker.run(out, worker.SoftmaxEngine(log, batched=False))
    result = files(out)
    assert result == files(uninterrupted[2])
    assert all(result[path] == content for path, content in finished.items() if not path.parts[-2].startswith("."))
    assert not list(out.rglob(".partial-*"))
    units = [line.split(" ", 1)[1] for line in lines(log)]
    assert len(set(units)) == TRAINED_TRIALS + CELLS
    assert kills >= 2
    assert len(units) <= len(set(units)) + kills


def test_two_processes_at_once_share_the_work(worker, uninterrupted, tmp_path):
    log, out = tmp_path / "log", tmp_path / "out"
    processes = [start(worker, out, log, 0.1) for _ in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    assert files(out) == files(uninterrupted[2])
    units = [line.split(" ", 1)[1] for line in lines(log)]
    assert len(units) == len(set(units)) == TRAINED_TRIALS + CELLS
    assert len({line.split()[0] for line in lines(log)}) == 2


def test_without_methods_the_baselines_and_the_recommended_take_part(worker, tmp_path):
    comparison = worker.run(tmp_path, worker.SoftmaxEngine(), methods=None, trials=1, seeds=(0,))
    assert comparison.methods[:4] == ("ce", "wce", "logit-adjustment", "thresholds")
    assert len(comparison.methods) > 4
    assert comparison.skipped
    assert all(
        "not built yet" in reason or "not with this engine" in reason or "data have one label" in reason
        for reason in comparison.skipped.values()
    )


@pytest.mark.parametrize("trials", [0, 1])
def test_a_recommended_recipe_that_the_engine_refuses_is_skipped_with_the_reason(worker, tmp_path, trials):
    class Picky(worker.SoftmaxEngine):
        def fit(self, recipe, *arguments):
            if recipe.stages[0].sampler.name == "cas":
                raise SettingError("cas is not for this engine")
            return super().fit(recipe, *arguments)

    comparison = worker.run(tmp_path, Picky(), methods=None, trials=trials, seeds=(0,))
    assert comparison.skipped["cas"] == "cas is not for this engine"
    assert "cas" not in comparison.methods
    assert len(comparison.methods) > 4
