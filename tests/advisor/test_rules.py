"""Every rule fires where it should and only there; the rule file is checked when read."""

import pytest

from tailwise.advisor.evidence import table3, unbuilt_methods
from tailwise.advisor.recommend import fired_rules, recommend_for
from tailwise.advisor.rules import read_rules, rule_book
from tailwise.catalog import METHODS
from tailwise.errors import SettingError

#: rule: changes under which it fires, changes under which it does not
CASES = {
    "R0": ([{}, {"task": "sequence"}, {"rho": 1.1, "n_min": 400}], []),
    "R1": (
        [{}, {"task": "binary", "num_classes": 2}, {"task": "relation"}],
        [{"task": "multilabel"}, {"task": "sequence"}],
    ),
    "R2": (
        [{"num_rows": 100_000, "budget": "head_only"}, {"num_rows": 10**6, "budget": "one_finetune"}],
        [{"num_rows": 99_999, "budget": "head_only"}, {"num_rows": 10**6, "budget": "few_finetunes"}],
    ),
    "R3": ([{}, {"generation": True}], [{"task": "multilabel"}, {"task": "sequence"}]),
    "R4": (
        [{"n_min": 19, "spectral_similarity": 0.9}],
        [
            {"n_min": 20, "spectral_similarity": 0.95},
            {"n_min": 5, "spectral_similarity": 0.89},
            {"n_min": 5, "spectral_similarity": None},
        ],
    ),
    "R5": (
        [{"minority_purity": 0.49, "minority_classes": 1}],
        [
            {"minority_purity": 0.5, "minority_classes": 1},
            {"minority_purity": 0.2, "minority_classes": 2},
            {"minority_purity": None, "minority_classes": 1},
        ],
    ),
    "R6": (
        [{"catch_all": True}, {"catch_all": True, "task": "sequence"}],
        [{"catch_all": False}, {"catch_all": None}, {"catch_all": True, "task": "multilabel"}],
    ),
    "R7": ([{"task": "sequence"}], [{}, {"task": "relation"}]),
    "R8": ([{"task": "relation"}], [{}, {"task": "sequence"}]),
    "R9": ([{"task": "multilabel"}], [{}, {"task": "relation"}]),
    "R10": (
        [{"task": "multilabel", "shape": "long-tailed", "num_classes": 100}],
        [
            {"task": "multiclass", "shape": "long-tailed", "num_classes": 100},
            {"task": "multilabel", "shape": "linear", "num_classes": 100},
            {"task": "multilabel", "shape": "long-tailed", "num_classes": 99},
        ],
    ),
    "R11": ([{"n_min": 24}], [{"n_min": 25}]),
    "R12": (
        [{"unlabelled_pool": True, "annotation_budget": True}],
        [{"unlabelled_pool": True}, {"annotation_budget": True}],
    ),
    "R13": ([{"unlabelled_pool": True}], [{}]),
    "R14": ([{"related_data": True}], [{}]),
    "R15": ([{"encoder_trained": True}, {"budget": "head_only"}], [{"budget": "large"}]),
    "R16": ([{}, {"goal": "minority_f1"}, {"budget": "head_only"}], [{"goal": "all"}, {"budget": "large"}]),
    "R17": (
        [{"task": "binary", "num_classes": 2, "rho": 10.0}, {"num_classes": 3, "rho": 40.0, "budget": "large"}],
        [
            {"num_classes": 4, "rho": 40.0},
            {"num_classes": 2, "rho": 9.9},
            {"num_classes": 2, "rho": 40.0, "budget": "one_finetune"},
        ],
    ),
    "R18": ([{"goal": "calibrated_probabilities"}], [{}]),
    "R19": ([{"groups": True}], [{}]),
    "R20": ([{"test_prior": "known"}], [{}, {"test_prior": "uniform"}]),
    "R21": ([{"goal": "all"}], [{}]),
    "R22": ([{"rho": 2.9, "n_min": 200}], [{"rho": 3.0, "n_min": 200}, {"rho": 2.9, "n_min": 199}]),
}


def fires(rule, situation):
    return next(outcome.fired for outcome in fired_rules(situation) if outcome.rule == rule)


@pytest.mark.parametrize(("rule", "changes"), [(rule, c) for rule, (yes, _) in CASES.items() for c in yes])
def test_a_rule_fires(situation, rule, changes):
    assert fires(rule, situation(**changes))


@pytest.mark.parametrize(("rule", "changes"), [(rule, c) for rule, (_, no) in CASES.items() for c in no])
def test_a_rule_does_not_fire(situation, rule, changes):
    assert not fires(rule, situation(**changes))


def test_the_rules_are_r0_to_r22_in_order():
    assert [rule.id for rule in rule_book().rules] == [f"R{i}" for i in range(23)] == list(CASES)


def test_a_fired_rule_names_its_candidates_that_apply(situation):
    for rule, (yes, _) in CASES.items():
        for changes in yes:
            case = situation(**changes)
            wanted = {
                c.method for c in rule_book()[rule].candidates if c.when.holds(case) and c.method in applicable(case)
            }
            named = {advice.method for advice in recommend_for(case) if rule in advice.rules}
            assert named == wanted, (rule, changes)
            assert named or rule == "R22", (rule, changes)


def applicable(case):
    """Methods whose state is not `no` for the task, by the public tables alone."""
    from tailwise.advisor.evidence import method_facts

    names = {c.method for rule in rule_book().rules for c in rule.candidates}
    return {name for name in names if method_facts(name, case.task, METHODS).published.state != "no"}


def test_hardly_any_imbalance_sets_the_other_rules_aside(situation):
    case = situation(rho=1.2, n_min=900, budget="head_only", goal="calibrated_probabilities", related_data=True)
    named = {rule for advice in recommend_for(case) for rule in advice.rules}
    assert named == {"R0", "R18"}
    why = {outcome.rule: outcome.why for outcome in fired_rules(case)}
    assert why["R1"] == "set aside by R22 (task is multiclass)"
    assert why["R22"] == "rho is 1.2; n_min is 900"


def test_what_did_not_fire_says_why(situation):
    why = {outcome.rule: outcome.why for outcome in fired_rules(situation(minority_purity=None, minority_classes=1))}
    assert why["R0"] == "always"
    assert why["R5"] == "minority_purity is unknown (give features to diagnose())"
    assert why["R11"] == "n_min is 150, needs < 25"
    assert why["R15"] == "encoder_trained is no, needs yes; budget is few_finetunes, needs head_only"
    assert why["R17"] == "num_classes is 6, needs <= 3; rho is 8, needs >= 10"
    assert (
        why["R2"] == "num_rows is 5000, needs >= 100000; budget is few_finetunes, needs one of head_only, one_finetune"
    )


def test_every_candidate_has_a_title_and_a_tier():
    names = {c.method for rule in rule_book().rules for c in rule.candidates}
    assert names <= {*METHODS, *unbuilt_methods()}
    assert all(entry["tier"] in {"T0", "T1", "T2", "T3", "T4"} for entry in unbuilt_methods().values())
    assert set(unbuilt_methods()) <= names, "listed, but no rule names it"


def test_the_catalog_agrees_with_table_3():
    from tailwise.advisor.evidence import _methods_file

    for name, row in _methods_file()["table3"].items():
        assert row in table3()
        if name in METHODS:
            stated = {s: METHODS[name].settings[s] for s in ("binary", "multiclass", "multilabel")}
            assert {s: cell.state for s, cell in table3()[row].items()} == stated, name


RULE = "rules:\n  - {{id: R0, when: {when}, candidates: [ce], reason: r, evidence: e{more}}}"


@pytest.mark.parametrize(
    ("when", "more", "message"),
    [
        ("{all: [{input: rh, op: '<', value: 3}]}", "", "Rule R0: unknown input 'rh'. Did you mean 'rho'"),
        ("{input: rho, op: '=<', value: 3}", "", "Rule R0: unknown operator '=<'. Known: =="),
        ("{input: rho, op: '<', value: three}", "", "Rule R0: 'rho' is a float, but got 'three'"),
        ("{input: rho, op: '<', value: true}", "", "Rule R0: 'rho' is a float, but got True"),
        ("{input: goal, op: '==', value: macr}", "", "Rule R0: 'goal' is never 'macr'. Did you mean 'macro'"),
        ("{input: goal, op: '<', value: macro}", "", "Rule R0: 'goal' has no order"),
        ("{input: goal, op: in, value: macro}", "", "Rule R0: `in` needs a list of values, but got 'macro'"),
        ("{input: groups, op: '==', value: 1}", "", "Rule R0: 'groups' is a bool, but got 1"),
        ("{none: []}", "", "Rule R0: expected `all`, `any` or a mapping"),
        ("{all: []}", ", reasons: x", "Rule R0: unknown key 'reasons'. Did you mean 'reason'"),
        ("{all: []}", ", restricts_to: [R9]", "Rule R0, restricts_to: unknown rule 'R9'"),
    ],
)
def test_a_wrong_rule_is_an_error(when, more, message):
    with pytest.raises(SettingError) as caught:
        read_rules(RULE.format(when=when, more=more))
    assert message in str(caught.value)


def test_a_wrong_rule_file_is_an_error():
    good = "  - {id: R0, when: {all: []}, candidates: [ce], reason: r, evidence: e}\n"
    assert read_rules("rules:\n" + good)["R0"].candidates[0].method == "ce"
    with pytest.raises(SettingError, match="Rule R0 is there twice"):
        read_rules("rules:\n" + good + good)
    with pytest.raises(SettingError, match="Rule R0: missing when, evidence"):
        read_rules("rules:\n  - {id: R0, candidates: [ce], reason: r}")
    with pytest.raises(SettingError, match="expected `reason` to be text, but got ''"):
        read_rules("rules:\n  - {id: R0, when: {all: []}, candidates: [ce], reason: '', evidence: e}")
    with pytest.raises(SettingError, match=r"Rule R0, candidates: unknown key 'methd'\. Did you mean 'method'"):
        read_rules("rules:\n  - {id: R0, when: {all: []}, candidates: [{methd: ce}], reason: r, evidence: e}")
    with pytest.raises(SettingError, match="not valid YAML"):
        read_rules("rules: [")
    with pytest.raises(SettingError, match="a list `rules`"):
        read_rules("[]")
    with pytest.raises(SettingError, match="Rule at position 1: expected a mapping, but got 3"):
        read_rules("rules: [3]")
    with pytest.raises(SettingError, match="Unknown rule 'R23'"):
        rule_book()["R23"]
