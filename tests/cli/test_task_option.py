"""`--task` and `--label-separator` of the commands that read data."""

import json

import pytest

from tailwise.cli.main import _run


@pytest.fixture
def topics(tmp_path):
    file = tmp_path / "topics.csv"
    file.write_text("text,label\n" + "".join(f"text {i},{['a', 'b;a', 'c', ''][i % 4]}\n" for i in range(80)))
    return file


def test_the_task_is_announced(tmp_path, capsys):
    rows = [{"tokens": ["in", f"town {i}"], "tags": ["O", ["B-place", "B-person"][i % 2]]} for i in range(80)]
    file = tmp_path / "names.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    _run(["diagnose", str(file), "--no-overlap"])
    assert "task: tagging (tokens, tags): 64 sentences, 3 tags in train." in " ".join(capsys.readouterr().err.split())


def test_joined_labels(topics, capsys):
    _run(["diagnose", str(topics), "--no-overlap", "--task", "multilabel", "--label-separator", ";"])
    assert "task: multilabel (text, labels): 64 texts, 3 labels in train." in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("command", ["diagnose", "recommend", "compare", "run", "synthesize"])
def test_an_unknown_task_is_a_mistake_of_the_user(command, topics, tmp_path, capsys):
    out = [] if command in {"diagnose", "recommend"} else ["--out", str(tmp_path / "out")]
    assert _run([command, str(topics), "--task", "taging", *out]) == 2
    assert "Did you mean 'tagging'" in " ".join(capsys.readouterr().err.split())
