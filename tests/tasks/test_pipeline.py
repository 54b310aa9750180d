"""The whole way, on a tiny corpus of every task."""

import json

import pytest

from tailwise.benchmark.pipeline import run_pipeline
from tailwise.data.task import TASKS
from tailwise.models.saving import load_model


@pytest.mark.parametrize("task", list(TASKS))
def test_one_call_goes_the_whole_way(corpora, encoder, tmp_path, monkeypatch, task):
    monkeypatch.setenv("TAILWISE_CACHE", str(tmp_path / "cache"))
    corpus, told = corpora[task], []
    outcome = run_pipeline(
        corpus,
        encoder=encoder,
        methods=None if task == "text" else ["ce", "wce", "thresholds"],
        seeds=(0, 1),
        trials=1,
        epochs=5 if task == "parsing" else 30,
        out=tmp_path / "run",
        notify=told.append,
    )
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "macro-F1" in page
    assert 'id="errors"' not in page or corpus.task.label_structure == "single"
    assert ('id="calibration"' in page) == (corpus.task.label_structure in {"single", "multi"})
    drawn = tmp_path / "run" / "figures" / "reliability.png"
    assert drawn.is_file() == (corpus.task.label_structure in {"single", "multi"})
    for name in ("comparison.csv", "per_class.csv", "results.xlsx", "figures/diagnosis.png", "figures/f1_by_count.png"):
        assert (tmp_path / "run" / name).is_file(), name
    card = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert "## Figures" in card
    assert ("are calibrated by a temperature" in card) == (task != "parsing")
    assert f"training {'tokens' if corpus.task.by_token else 'examples'}" in card
    saved = json.loads((tmp_path / "run" / "model" / "tailwise.json").read_text(encoding="utf-8"))
    assert saved["task"] == corpus.task.to_dict()
    inputs, pairs = corpus.inputs("test")[:5], corpus.text_pairs("test")
    model = load_model(tmp_path / "run" / "model")
    first = None if pairs is None else pairs[:5]
    assert model.predict(inputs, first) == outcome.model.predict(inputs, first)
