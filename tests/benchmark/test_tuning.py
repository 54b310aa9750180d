import json
import logging

import numpy as np
import pytest

from tailwise.benchmark.store import ResultStore
from tailwise.benchmark.tuning import DIVERGED, TUNING_SEED, Candidate, Tuner, Workplace, _Search
from tailwise.catalog import resolve, search_space
from tailwise.errors import StoreError
from tailwise.evaluation.metrics import METRICS
from tailwise.stages.recipe import Component, Recipe


def workplace(worker, out, engine, **changes):
    return Workplace(ResultStore(out), engine, worker.skewed_corpus(), worker.HashEncoder(), **changes)


@pytest.mark.parametrize("count", [1, 2, 7, 30])
def test_no_point_is_tried_twice_and_the_default_comes_first(count):
    search = _Search({"a": (2.0, 0.5), "b": ("x", "y", "z"), "c": (None, 1)}, seed=0, startup=3)
    asked = []
    while len(asked) < count:
        batch = search.ask(2)
        search.tell([float(p["a"]) for p in batch])
        asked += batch
        if not batch:
            break
    points = [tuple(params.items()) for params in asked]
    assert len(points) == len(set(points)) == min(12, count + count % 2)
    assert asked[0] == {"a": 2.0, "b": "x", "c": None}


def test_the_first_half_changes_one_setting_at_a_time():
    search = _Search({"a": (1, 2, 3), "b": ("x", "y"), "c": (None, 0)}, seed=0, startup=6)
    asked = [tuple(params.values()) for params in search.ask(6)]
    assert asked[:5] == [(1, "x", None), (2, "x", None), (1, "y", None), (1, "x", 0), (3, "x", None)]
    assert len(set(asked)) == 6


def test_a_small_space_is_searched_completely():
    search = _Search({"a": (1, 2), "b": (1, 2, 3, 4)}, seed=0, startup=4)
    asked = []
    for _ in range(2):
        batch = search.ask(4)
        search.tell([0.0] * len(batch))
        asked += [tuple(params.values()) for params in batch]
    assert len(asked) == len(set(asked)) == 8
    assert search.ask(4) == []


def test_the_features_of_a_point_reach_the_recipe():
    recipe = Candidate("ce", "ce").recipe({"features": "tfidf", "optimisation.C": 5.0})
    assert recipe.features == Component("tfidf")
    assert recipe.optimisation.C == 5.0


def test_an_empty_space_has_one_point():
    search = _Search({}, seed=0, startup=4)
    assert search.ask(4) == [{}]
    search.tell([0.3])
    assert search.ask(4) == []
    assert search.points == 1


def test_the_second_half_of_the_budget_goes_where_the_first_half_did_well():
    space = {"a": tuple(range(4)), "b": tuple(range(4)), "c": tuple(range(3))}
    gains = []
    for seed in range(20):
        worth = np.random.default_rng(seed).permuted(np.tile(np.arange(4), (3, 1)), axis=1) * [[2.0], [1.0], [0.5]]
        search = _Search(space, seed=seed, startup=4)
        halves = []
        for _ in range(2):
            values = [worth[0, p["a"]] + worth[1, p["b"]] + worth[2, p["c"]] for p in search.ask(4)]
            search.tell(values)
            halves.append(np.mean(values))
        gains.append(halves[1] - halves[0])
    assert np.mean(gains) > 0.0


def test_the_same_seed_asks_the_same_questions():
    first, second = (_Search({"a": tuple(range(50))}, seed=4, startup=4) for _ in range(2))
    for _ in range(2):
        asked = first.ask(4)
        assert asked == second.ask(4)
        for search in (first, second):
            search.tell([float(p["a"]) for p in asked])


def test_the_space_of_a_candidate_joins_method_and_engine(worker):
    engine = worker.SoftmaxEngine()
    corpus = worker.skewed_corpus()
    assert Candidate("cas+focal", "cas+focal").space(engine, corpus) == {
        "loss.focus": tuple(search_space("focal")["loss.focus"]),
        "optimisation.learning_rate": (0.5, 0.1, 2.0),
    }
    own = Recipe("own").with_optimisation(learning_rate=0.2)
    assert Candidate("own", own).space(engine, corpus) == {}
    assert Candidate("open", Recipe("open")).space(engine, corpus) == {"optimisation.learning_rate": (0.5, 0.1, 2.0)}


def test_parameters_reach_the_recipe():
    recipe = Candidate("focal", "focal").recipe({"loss.focus": 1.0, "optimisation.learning_rate": 0.1})
    assert recipe == resolve("focal", {"loss.focus": 1.0}).with_optimisation(learning_rate=0.1)
    assert recipe.stages[0].loss == Component("focal", {"focus": 1.0})


def test_a_composition_costs_what_its_dearest_part_costs():
    assert Candidate("focal+logit-adjustment", "focal+logit-adjustment").tier == "T2"
    assert Candidate("logit-adjustment", "logit-adjustment").tier == "T0"
    assert Candidate("own", Recipe("own")).tier == "T2"


def test_the_best_trial_has_the_best_validation_metric(worker, tmp_path):
    engine = worker.SoftmaxEngine()
    place = workplace(worker, tmp_path, engine)
    tuning = Tuner(place, metric="balanced_accuracy", trials=6).tune([Candidate("wce", "wce")])["wce"]
    gold = place.corpus.labels("validation")
    for trial in tuning.trials:
        recipe = Candidate("wce", "wce").recipe(trial.params)
        model = worker.SoftmaxEngine().fit(recipe, place.corpus, place.encoder, TUNING_SEED)
        predicted = model.split_logits(place.corpus, "validation").argmax(axis=1)
        assert trial.value == METRICS["balanced_accuracy"](gold, predicted, 5)
    values = [trial.value for trial in tuning.trials]
    assert tuning.best == tuning.trials[values.index(max(values))].params


def test_each_round_is_one_call_over_all_methods_where_the_engine_gains_from_it(worker, tmp_path):
    candidates = [Candidate(name, name) for name in ("ce", "wce", "focal")]
    batched = worker.SoftmaxEngine()
    Tuner(workplace(worker, tmp_path / "a", batched), metric="macro_f1", trials=6).tune(candidates)
    assert [len(jobs) for jobs in batched.calls] == [9, 6]
    single = worker.SoftmaxEngine(batched=False)
    Tuner(workplace(worker, tmp_path / "b", single), metric="macro_f1", trials=6).tune(candidates)
    assert [len(jobs) for jobs in single.calls] == [1] * 15


def test_progress_counts_up_to_all_trials(worker, tmp_path):
    seen = []
    place = workplace(worker, tmp_path, worker.SoftmaxEngine(batched=False), progress=lambda *args: seen.append(args))
    Tuner(place, metric="macro_f1", trials=4).tune([Candidate("ce", "ce"), Candidate("focal", "focal")])
    done = [args[1] for args in seen if args[0] == "tuning"]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, 7)
    assert {args[2] for args in seen} == {7}


def test_the_outcome_is_kept_on_disk_for_people(worker, tmp_path):
    tuning = Tuner(workplace(worker, tmp_path, worker.SoftmaxEngine()), metric="macro_f1", trials=4).tune(
        [Candidate("focal", "focal")]
    )["focal"]
    (path,) = tmp_path.glob("tuning/toy/focal/study-*.json")
    data = json.loads(path.read_text())
    assert data["best"] == dict(tuning.best)
    assert [trial["value"] for trial in data["trials"]] == [trial.value for trial in tuning.trials]
    assert (data["budget"], data["points"], data["metric"]) == (4, 12, "macro_f1")


def test_a_larger_budget_reuses_the_trials_of_a_smaller_one(worker, tmp_path):
    first, second = worker.SoftmaxEngine(), worker.SoftmaxEngine()
    Tuner(workplace(worker, tmp_path, first), metric="macro_f1", trials=4).tune([Candidate("focal", "focal")])
    wider = Tuner(workplace(worker, tmp_path, second), metric="macro_f1", trials=12).tune([Candidate("focal", "focal")])
    assert sum(len(jobs) for jobs in second.calls) == 12 - 4
    assert len(wider["focal"].trials) == 12


def test_another_metric_or_corpus_does_not_share_trials(worker, tmp_path):
    engine = worker.SoftmaxEngine()
    place = workplace(worker, tmp_path, engine)
    for metric in ("macro_f1", "accuracy"):
        Tuner(place, metric=metric, trials=2).tune([Candidate("ce", "ce")])
    assert sum(len(jobs) for jobs in engine.calls) == 4


def test_a_diverged_trial_is_worth_the_least_and_does_not_stop_the_others(worker, tmp_path):
    class Diverging(worker.SoftmaxEngine):
        def fit(self, recipe, *arguments):
            model = super().fit(recipe, *arguments)
            if recipe.optimisation.learning_rate == 2.0:
                model.weight = model.weight * np.nan
            return model

    tuning = Tuner(workplace(worker, tmp_path, Diverging()), metric="macro_f1", trials=3).tune([Candidate("ce", "ce")])
    values = {trial.params["optimisation.learning_rate"]: trial.value for trial in tuning["ce"].trials}
    assert values[2.0] == DIVERGED
    assert tuning["ce"].best["optimisation.learning_rate"] != 2.0
    assert min(values[0.5], values[0.1]) >= 0.0


def test_a_damaged_trial_is_named(worker, tmp_path):
    def tune():
        Tuner(workplace(worker, tmp_path, worker.SoftmaxEngine()), metric="macro_f1", trials=1).tune(
            [Candidate("ce", "ce")]
        )

    tune()
    (path,) = tmp_path.glob("tuning/toy/ce/trial-*.json")
    path.write_text("{}")
    with pytest.raises(StoreError, match=rf"{path.name} is damaged.*Delete that file and run again"):
        tune()


def test_optuna_is_silent_and_its_level_is_put_back(worker, tmp_path, caplog, capfd):
    level = logging.getLogger("optuna").level
    Tuner(workplace(worker, tmp_path, worker.SoftmaxEngine()), metric="macro_f1", trials=2).tune(
        [Candidate("ce", "ce")]
    )
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
    assert logging.getLogger("optuna").level == level
