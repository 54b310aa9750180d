"""`tailwise diagnose NAME` for a data set of every kind, in the words of its task."""

import json

import pytest

from tailwise.cli.main import _run


@pytest.mark.parametrize(
    ("arguments", "unit", "words"),
    [
        (["reuters21578"], "label", ("90 labels", "MeanIR", "SCUMBLE", "labels under 25 examples")),
        (["semeval2010_task8", "--no-overlap"], "row", ("19 relations", "catch-all relation", "relation mentions")),
        (["atis_slots"], "span", ("78 types", "O (63% of tokens)", "types under 25 spans", "tokens per sentence")),
        (["ud_english_ewt"], "token", ("51 relations", "relations under 25 tokens", "tokens per sentence")),
        (["discourse_stac", "--no-overlap"], "row", ("16 classes", "classes under 25 examples", "pairs")),
    ],
)
def test_a_data_set_of_every_kind_is_diagnosed(arguments, unit, words, data_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TAILWISE_DATA", str(data_dir))
    figure = tmp_path / "figure.png"
    assert _run(["diagnose", *arguments, "--figure", str(figure)]) == 0
    out = capsys.readouterr().out
    for word in words:
        assert word in out
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert _run(["diagnose", *arguments, "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["unit"] == unit
