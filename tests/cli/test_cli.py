import json
import os
import subprocess
import sys

import pytest

from tailwise.cli.main import _run


def cli(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "tailwise", *map(str, arguments)],
        capture_output=True, text=True, timeout=300, env={**os.environ, **environment}, check=False,
    )  # fmt: skip


@pytest.fixture
def skewed(tmp_path):
    words = {"ship": "when will my parcel arrive", "refund": "give me my money back", "fire": "the battery burns"}
    counts = {"ship": 60, "refund": 24, "fire": 8}
    rows = [f'"{words[c]} number {i} {"please" * (i % 3)}",{c}' for c, n in counts.items() for i in range(n)]
    file = tmp_path / "tickets.csv"
    file.write_text("text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return file


def test_methods_lists_the_catalog_and_one_entry_as_json(capsys):
    assert _run(["methods", "--json"]) == 0
    listed = {entry["name"] for entry in json.loads(capsys.readouterr().out)}
    assert {"ce", "wce", "focal", "ldam-drw", "cas", "crt", "tau-norm", "ncm", "logit-adjustment"} <= listed
    assert _run(["methods", "ldam", "--json"]) == 0
    entry = json.loads(capsys.readouterr().out)
    assert entry["section"] == "3.3"
    assert entry["recipe"]["head"] == "cosine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["methods", "focall"], "Did you mean 'focal'"),
        (["diagnose", "no-such-file.csv", "--no-overlap"], "no-such-file.csv"),
        (["compare", "{data}", "--methods", "focall"], "Unknown method 'focall'"),
        (["compare", "{data}", "--metric", "macro-f1"], "macro_f1"),
        (["compare", "{data}", "--engine", "prob"], "Did you mean 'probe'?"),
        (["compare", "{data}", "--engine", "finetune", "--pooling", "mean"], "--pooling mean would be ignored"),
        (["diagnose", "{data}", "--label", "lable", "--no-overlap"], "label"),
    ],
)
def test_a_mistake_of_the_user_is_one_message_and_exit_code_2(arguments, message, skewed, tmp_path, capsys):
    filled = [a.replace("{data}", str(skewed)) for a in arguments]
    if arguments[0] == "compare":
        filled += ["--out", str(tmp_path / "out")]
    assert _run(filled) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        ("{name: ros, ratio: half}", "The sampler 'ros': expected `ratio` to be a number, but got 'half'."),
        ("{name: ros, num_samples: all}", "expected `num_samples` to be a whole number or null, but got 'all'."),
        ("{name: ros, labels: [0, 1]}", "The sampler 'ros' takes `labels` from the data. Leave it out."),
        ("{name: ros, 5: 3}", "'ros': expected parameters to have names, but got 5."),
        ("{name: rfs, threshold: '1e-3'}", "The multi-label sampler 'rfs': expected `threshold` to be a number"),
        ("{name: mixed, samplers: [natural, [cas]]}", "(each item a name or a mapping with `name`)"),
    ],
)
def test_a_parameter_of_the_wrong_type_in_a_recipe_is_one_message(sampler, message, skewed, tmp_path, capsys):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(f"name: mine\nstages: [{{sampler: {sampler}}}]\n")
    assert _run(["compare", str(skewed), "--methods", str(recipe), "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert err.count("error: ") == 1
    assert message in err
    assert "Traceback" not in err


def test_unknown_option_is_exit_code_2():
    done = cli("diagnose", "x.csv", "--colour", "red")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_fault_of_ours_is_exit_code_1(monkeypatch, capsys):
    from tailwise.cli import main

    def broken(**_):
        raise RuntimeError("boom")

    monkeypatch.setattr(main, "app", broken)
    assert main._run(["methods"]) == 1
    assert "fault of ours" in capsys.readouterr().err


def test_interrupt_says_how_to_go_on(monkeypatch, capsys):
    from tailwise.cli import main

    def interrupted(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "app", interrupted)
    assert main._run(["run", "x"]) == 130
    assert "the same command continues" in capsys.readouterr().err


def test_diagnose_prints_plain_text_without_colour_and_draws_the_figure(skewed, tmp_path):
    figure = tmp_path / "figure.svg"
    done = cli("diagnose", skewed, "--no-overlap", "--figure", figure, NO_COLOR="1", FORCE_COLOR="")
    assert done.returncode == 0, done.stderr
    assert "imbalance ratio rho" in done.stdout
    assert "\x1b[" not in done.stdout
    assert figure.read_text(encoding="utf-8").lstrip().startswith("<?xml")


def test_json_is_the_only_thing_on_standard_output(skewed):
    done = cli("diagnose", skewed, "--no-overlap", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["num_rows"]["train"] + found["num_rows"]["validation"] + found["num_rows"]["test"] == 92
    assert [c["name"] for c in found["classes"]] == ["fire", "refund", "ship"]


def test_recommend_names_rules_and_what_is_not_built_yet(skewed):
    done = cli("recommend", skewed, "--json")
    assert done.returncode == 0, done.stderr
    advice = json.loads(done.stdout)
    assert all(item["rules"] and item["reasons"] and item["evidence"] for item in advice)
    assert {item["available"] for item in advice} == {True, False}


def test_run_goes_the_whole_way_and_a_rerun_changes_nothing(skewed, tmp_path):
    out = tmp_path / "out"
    command = ("run", skewed, "--out", out, "--methods", "ce,cas+focal,logit-adjustment", "--trials", "2", "--quiet")
    first = cli(*command)
    assert first.returncode == 0, first.stderr
    assert first.stderr == ""
    assert "Best on validation" in first.stdout
    for name in ("report.html", "results.xlsx", "per_class.csv", "model/tailwise.json", "model/README.md"):
        assert (out / name).is_file(), name
    cells = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in (out / "cells").rglob("*") if p.is_file()}
    assert len([p for p in cells if p.name == "cell.json"]) == 9
    again = cli(*command)
    assert again.stdout == first.stdout
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in (out / "cells").rglob("*") if p.is_file()} == cells

    texts = tmp_path / "new.txt"
    texts.write_text("my parcel is late\nthe battery burns again\n", encoding="utf-8")
    predicted = cli("predict", out / "model", texts, "--json")
    assert predicted.returncode == 0, predicted.stderr
    assert [row["label"] for row in json.loads(predicted.stdout)] == ["ship", "fire"]
