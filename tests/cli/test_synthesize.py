"""`tailwise synthesize`: a folder that is read back, a manifest, and mistakes in one message."""

import json

import pytest

import tailwise
from tailwise.cli.main import _run


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "topics"
    folder.mkdir()
    for split, number in (("train", 40), ("validation", 10), ("test", 10)):
        rows = [{"text": f"{split} {c} {i}", "label": c} for i in range(number) for c in ("a", "b", "c", "d", "e")]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def test_the_folder_is_read_back_and_comes_with_a_manifest(source, tmp_path, capsys):
    out = tmp_path / "made" / "step"
    assert _run(["synthesize", str(source), "--shape", "step", "--mu", "0.4", "--rho", "10", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "topics-step-rho10-mu0.4-seed0: 128 of 200 rows of train, rho 10" in printed
    assert sorted(path.name for path in out.iterdir()) == [
        "SOURCE.json", "manifest.json", "test.jsonl", "train.jsonl", "validation.jsonl",
    ]  # fmt: skip
    read = tailwise.load(out)
    assert sorted(read.label_space.counts.tolist()) == [4, 4, 40, 40, 40]
    assert (read.num_rows("validation"), read.num_rows("test")) == (50, 50)
    made = tailwise.synthesize(tailwise.load(source), "step", mu=0.4, rho=10)
    assert read.fingerprint == made.fingerprint
    assert json.loads((out / "manifest.json").read_text(encoding="utf-8")) == made.source["synthesis"]


def test_every_option_reaches_the_synthesis(source, tmp_path, capsys):
    arguments = ["--shape", "pareto", "--rho", "4", "--seed", "7", "--class-order", "e,d,c,b,a", "--n-max", "20"]
    arguments += ["--min-count", "2", "--clip", "--validation", "same", "--test", "balanced", "--json"]
    assert _run(["synthesize", str(source), "--out", str(tmp_path / "made"), *arguments]) == 0
    manifest = json.loads(capsys.readouterr().out)
    assert manifest["classes_by_rank"] == list("edcba")
    assert manifest["parameters"] == {
        "shape": "power", "rho": 4.0, "mu": None, "seed": 7, "class_order": "given", "n_max": 20, "min_count": 2,
        "keep_total": None, "allow_clip": True, "validation": "same", "test": "balanced",
    }  # fmt: skip
    assert [manifest["splits"]["train"]["classes"][c]["reached"] for c in "edcba"] == [20, 11, 8, 6, 5]
    assert _run(["synthesize", str(source), "--out", str(tmp_path / "more"), "--keep-total", "29", "-q"]) == 0
    assert "29 of 200 rows of train, rho 9 (asked for 10)" in capsys.readouterr().out
    assert tailwise.load(tmp_path / "more").num_rows("train") == 29


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shape", "stepp"], "Unknown shape 'stepp'. Did you mean 'step'"),
        (["--mu", "1.5"], "between 0 and 1, but got 1.5"),
        (["--rho", "50"], "`rho` can be 40 at most"),
        (["--n-max", "90"], "has 40 instances, but step with rho = 10 wants 90 of it"),
        (["--class-order", "a,b"], "it is without 'c', 'd', 'e'"),
        (["--out", "{source}"], "is not empty"),
    ],
)
def test_a_mistake_is_one_message_and_nothing_is_written(source, tmp_path, capsys, arguments, message):
    filled = [a.replace("{source}", str(source)) for a in arguments]
    out = [] if "--out" in arguments else ["--out", str(tmp_path / "made")]
    assert _run(["synthesize", str(source), *filled, *out]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["topics"]
