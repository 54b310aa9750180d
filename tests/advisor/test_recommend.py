"""Recommendations: ranking, published state, availability, and the way from a corpus."""

import json

import numpy as np
import pytest
from datasets import Dataset

from tailwise.advisor.evidence import method_facts, table3
from tailwise.advisor.recommend import UNSUPPORTED, recommend, recommend_for, rules_origin
from tailwise.advisor.situation import Situation
from tailwise.catalog import METHODS
from tailwise.data.corpus import Corpus
from tailwise.data.labels import LabelSpace
from tailwise.data.task import Task
from tailwise.errors import SettingError, UnknownNameError
from tailwise.imbalance.diagnosis import diagnose

STATES = ["applied", "applicable", "open"]


def corpus(counts):
    labels = np.repeat(np.arange(len(counts)), list(counts.values()))
    rows = {
        "id": [str(i) for i in range(len(labels))],
        "text": [f"text {i}" for i in range(len(labels))],
        "label": labels,
    }
    empty = {"id": [], "text": [], "label": np.array([], dtype=np.int64)}
    splits = {
        "train": Dataset.from_dict(rows),
        "validation": Dataset.from_dict(empty),
        "test": Dataset.from_dict(empty),
    }
    return Corpus("hand", splits, Task(), LabelSpace(tuple(counts), np.array(list(counts.values()))), "0" * 64)


@pytest.fixture(scope="module")
def binary():
    return diagnose(corpus({"ham": 400, "spam": 30}))


def test_ranking_is_by_state_then_tier_then_rule(situation):
    for changes in ({}, {"task": "multilabel"}, {"task": "relation", "catch_all": True}, {"budget": "head_only"}):
        advice = recommend_for(situation(**changes))
        keys = [(STATES.index(a.state), a.tier, int(a.rules[0][1:])) for a in advice]
        assert keys == sorted(keys)
        assert len({a.method for a in advice}) == len(advice)


def test_a_method_named_by_several_rules_keeps_all_their_reasons(situation):
    ldam = next(a for a in recommend_for(situation(catch_all=True)) if a.method == "ldam")
    assert ldam.rules == ("R1", "R6")
    assert ldam.rule == "R1, R6"
    assert len(ldam.reasons) == len(ldam.evidence) == 2
    wce = next(a for a in recommend_for(situation(catch_all=True)) if a.method == "wce")
    assert wce.notes == ("Weights on the real classes only; the catch-all keeps weight 1.",)


def test_published_state_and_references_come_from_table_3(situation):
    advice = {a.method: a for a in recommend_for(situation())}
    assert (advice["focal"].state, advice["focal"].references) == ("applied", ("Li2020", "Nan2021"))
    assert (advice["ros"].state, advice["ros"].references, advice["ros"].basis) == ("applicable", (), "Table 3")
    assert advice["drw"].basis == "the catalog"
    assert advice["emb"].basis == "by construction"


def test_open_methods_come_last_and_carry_the_flag(situation):
    advice = recommend_for(situation(task="multilabel", budget="head_only", n_min=5, spectral_similarity=0.95))
    flagged = [a.method for a in advice if a.flag == UNSUPPORTED]
    assert "ge3" in flagged
    assert [a.state for a in advice[-len(flagged) :]] == ["open"] * len(flagged)
    assert all((a.flag is None) == (a.state != "open") for a in advice)


def test_methods_that_do_not_apply_to_the_task_are_left_out(situation):
    multilabel = {a.method for a in recommend_for(situation(task="multilabel"))}
    assert "db" in multilabel
    assert not multilabel & {"ros", "cas", "wce", "ranking"}
    assert "db" not in {a.method for a in recommend_for(situation())}


@pytest.mark.parametrize(
    ("changes", "present", "absent"),
    [
        ({"generation": True}, {"lm", "balagen"}, {"add"}),
        ({"task": "binary", "num_classes": 2}, {"add"}, {"lm", "balagen"}),
        ({"task": "sequence", "n_min": 100}, {"crt", "dice"}, {"protobert", "cfie"}),
        ({"task": "sequence", "n_min": 99, "budget": "large"}, {"protobert", "cfie"}, {"setconv"}),
        ({"task": "binary", "num_classes": 2, "rho": 20.0}, {"st", "setconv"}, {"ranking"}),
        ({"num_classes": 3, "rho": 20.0}, {"st"}, {"setconv"}),
        ({"catch_all": True}, {"ranking"}, set()),
        ({"catch_all": True, "task": "binary", "num_classes": 2}, {"ldam"}, {"ranking"}),
    ],
)
def test_conditions_of_single_candidates(situation, changes, present, absent):
    named = {a.method for a in recommend_for(situation(**changes))}
    assert present <= named
    assert not absent & named


def test_methods_not_built_yet_are_named_as_such(situation):
    advice = {a.method: a for a in recommend_for(situation())}
    assert advice["wce"].available
    assert advice["wce"].title == METHODS["wce"].title
    assert not advice["eda"].available
    assert "Easy data augmentation" in advice["eda"].title
    everything = recommend_for(situation(), available=["eda"])
    assert {a.method for a in everything if a.available} == {"eda"}
    assert {a.method for a in everything} == set(advice)


def test_relation_and_sequence_follow_the_caption_of_table_3():
    carried = method_facts("st", "sequence", {}).published
    assert (carried.state, carried.references) == ("applicable", ())
    assert method_facts("adl", "relation", METHODS).published.state == "applicable"
    assert table3()["ROS/RUS"]["multilabel"].state == "open"
    assert table3()["WCE"]["multilabel"].state == "no"


def test_an_unknown_method_is_an_error():
    with pytest.raises(UnknownNameError, match=r"method 'edaa'\. Did you mean 'eda'"):
        method_facts("edaa", "binary", METHODS)


def test_a_diagnosis_becomes_a_situation(binary):
    found = Situation.of(binary)
    assert (found.task, found.num_classes, found.num_rows, found.n_min) == ("binary", 2, 430, 30)
    assert (found.rho, found.shape, found.minority_classes) == (pytest.approx(40 / 3), "step", 1)
    assert (found.catch_all, found.minority_purity, found.spectral_similarity) == (False, None, None)
    assert Situation.of(binary, task="relation", goal="all").goal == "all"


def test_the_catch_all_does_not_count_as_the_rarest_class_and_a_structural_one_is_not_certain():
    named = Situation.of(diagnose(corpus({"cause": 40, "other": 7, "risk": 30})))
    assert (named.catch_all, named.n_min) == (True, 30)
    structural = Situation.of(diagnose(corpus({"a": 10, "b": 9, "c": 10, "rest": 300})))
    assert (structural.catch_all, structural.n_min) == (None, 9)


def test_purity_of_the_minority_is_relative_to_what_it_can_reach():
    data = corpus({"a": 60, "b": 5})
    labels = data.labels("train")
    features = np.eye(2)[labels] + 0.01 * np.random.default_rng(0).normal(size=(65, 2))
    diagnosis = diagnose(data, features={"train": features})
    assert diagnosis.overlap.purity[1] == pytest.approx(0.4)
    assert Situation.of(diagnosis).minority_purity == pytest.approx(1.0)


def test_overlap_of_one_minority_class_leads_to_methods_for_difficult_examples():
    data = corpus({"a": 60, "b": 20})
    features = np.random.default_rng(0).normal(size=(80, 4))
    advice = recommend(diagnose(data, features={"train": features}))
    assert {"miso", "borderline-smote"} <= {a.method for a in advice}
    assert not {"miso", "borderline-smote"} & {a.method for a in recommend(diagnose(data))}


def test_the_probe_engine_means_heads_on_frozen_features(binary):
    assert any("R15" in a.rules for a in recommend(binary, engine="probe"))
    assert not any("R15" in a.rules for a in recommend(binary, engine="finetune"))
    assert not any("R15" in a.rules for a in recommend(binary, engine="probe", budget="large"))


def test_every_wish_reaches_the_rules(binary):
    wishes = {
        "goal": ("all", "R21"),
        "budget": ("head_only", "R15"),
        "test_prior": ("known", "R20"),
        "groups": (True, "R19"),
        "unlabelled_pool": (True, "R13"),
        "related_data": (True, "R14"),
        "encoder_trained": (True, "R15"),
        "task": ("relation", "R8"),
    }
    for name, (value, rule) in wishes.items():
        assert any(rule in a.rules for a in recommend(binary, **{name: value})), name
        assert not any(rule in a.rules for a in recommend(binary)), name
    pool = recommend(binary, unlabelled_pool=True, annotation_budget=True)
    assert any("R12" in a.rules for a in pool)
    assert any(a.method == "lm" for a in recommend(binary, generation=True))


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (
            {"goal": "macro_f1"},
            "`goal` to be one of macro, minority_f1, all, calibrated_probabilities, but got 'macro_f1'",
        ),
        ({"budget": "small"}, "`budget` to be one of head_only"),
        ({"task": "tagging"}, "`task` to be one of binary"),
        ({"test_prior": "other"}, "`test_prior` to be one of same"),
    ],
)
def test_an_unknown_wish_is_an_error(binary, wish, message):
    with pytest.raises(SettingError) as caught:
        recommend(binary, **wish)
    assert message in str(caught.value)


def test_plain_data_survives_json(binary):
    data = json.loads(json.dumps([a.to_dict() for a in recommend(binary)]))
    assert data[0]["rules"]
    assert "flag" in data[0]


def test_the_origin_says_that_the_rules_are_reconstructed():
    assert "reconstructed" in rules_origin()
    assert "image" in rules_origin()
