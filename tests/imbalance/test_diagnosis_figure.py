"""The figure of a diagnosis is drawn for few and many classes, with and without features."""

import numpy as np
import pytest

from tailwise.errors import SettingError
from tailwise.imbalance.diagnosis import diagnose
from tailwise.report.diagnosis_figure import diagnosis_figure


def corpus_of(make_corpus, counts):
    names = [f"a class with a name of some length, number {i:03d}" for i in range(len(counts))]
    rows = [(f"{name} {i}", name) for name, n in zip(names, counts, strict=True) for i in range(n)]
    return make_corpus(rows, rows[:: max(1, len(rows) // 20)])


@pytest.mark.parametrize("counts", [[30, 4], [60, 20, 9, 5, 1], [max(1, int(90 * 0.97**i)) for i in range(151)]])
@pytest.mark.parametrize("with_features", [False, True])
def test_it_is_drawn(make_corpus, tmp_path, counts, with_features):
    corpus = corpus_of(make_corpus, counts)
    labels = corpus.labels("train")
    features = {"train": np.random.default_rng(0).normal(size=(len(labels), 4))} if with_features else None
    path = diagnosis_figure(diagnose(corpus, features=features), tmp_path / "deep" / "figure.svg")
    text = path.read_text()
    assert "training examples (log)" in text
    assert "hardly learnt below" in text
    assert ("Class overlap on encoder features" in text) == with_features
    assert ("Class shares of each split" in text) != with_features


def test_classes_are_named_up_to_forty(make_corpus, tmp_path):
    for number, named in ((40, True), (41, False)):
        path = diagnosis_figure(diagnose(corpus_of(make_corpus, [2] * number)), tmp_path / "figure.svg")
        text = path.read_text()
        assert ("number 007" in text) == named
        assert ("classes by rank" in text) != named


def test_one_example_per_class_is_drawn(make_corpus, tmp_path):
    assert diagnosis_figure(diagnose(corpus_of(make_corpus, [1, 1])), tmp_path / "figure.png").stat().st_size > 0


def test_equal_diagnoses_give_equal_files(make_corpus, tmp_path):
    corpus = corpus_of(make_corpus, [30, 10, 4])
    first, second = (diagnosis_figure(diagnose(corpus), tmp_path / f"{i}.png").read_bytes() for i in range(2))
    assert first == second
    assert first.startswith(b"\x89PNG")


def test_names_are_text_not_markup(make_corpus, tmp_path):
    corpus = make_corpus([("a", "$x^2$"), ("b", "<b>&"), ("c", "<b>&")])
    text = diagnosis_figure(diagnose(corpus), tmp_path / "figure.svg").read_text()
    assert "$x^2$" in text
    assert "&lt;b&gt;&amp;" in text


def test_another_suffix_is_an_error(make_corpus, tmp_path):
    with pytest.raises(SettingError, match=r"ending in \.png or \.svg, but got 'figure\.pdf'"):
        diagnosis_figure(diagnose(corpus_of(make_corpus, [3, 2])), tmp_path / "figure.pdf")
