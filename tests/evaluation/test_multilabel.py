"""Figures of label sets equal scikit-learn's, given all labels of training."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.special import expit
from sklearn import metrics as sk

from tailwise.data.labels import LabelSpace
from tailwise.errors import DataError
from tailwise.evaluation.multilabel import MultilabelEvaluation


@st.composite
def label_sets(draw):
    """Gold indicators and logits with many ties; labels absent, never assigned, or unseen in training; empty rows."""
    rows, labels, unseen = draw(st.integers(2, 12)), draw(st.integers(2, 5)), draw(st.integers(0, 2))
    bits = draw(st.lists(st.booleans(), min_size=rows * (labels + unseen), max_size=rows * (labels + unseen)))
    steps = draw(st.lists(st.integers(-3, 3), min_size=rows * labels, max_size=rows * labels))
    gold = np.array(bits, dtype=int).reshape(rows, labels + unseen)
    return gold, np.array(steps, dtype=np.float32).reshape(rows, labels) / 2


def evaluation(gold, logits):
    labels = logits.shape[1]
    space = LabelSpace(
        tuple(f"l{j}" for j in range(labels)),
        np.arange(labels, 0, -1),
        unseen=tuple(f"u{j}" for j in range(gold.shape[1] - labels)),
        num_rows=100,
    )
    return MultilabelEvaluation(tuple(map(str, range(len(gold)))), sparse.csr_matrix(gold), logits, space)


@settings(max_examples=80, deadline=None)
@given(label_sets())
def test_decision_figures_equal_scikit_learn(case):
    gold, logits = case
    ours, labels = evaluation(gold, logits), range(logits.shape[1])
    decided = np.pad((logits > 0).astype(int), ((0, 0), (0, gold.shape[1] - len(labels))))
    seen, chosen = gold[:, labels], decided[:, labels]
    for average in ("macro", "micro", "weighted", "samples"):
        theirs = sk.f1_score(gold, decided, labels=labels, average=average, zero_division=0)
        assert ours.score(f"{average}_f1") == pytest.approx(theirs, abs=1e-12), average
    for average in ("macro", "micro"):
        for name, function in (("precision", sk.precision_score), ("recall", sk.recall_score)):
            theirs = function(gold, decided, labels=labels, average=average, zero_division=0)
            assert ours.score(f"{average}_{name}") == pytest.approx(theirs, abs=1e-12)
    assert ours.score("subset_accuracy") == pytest.approx(sk.accuracy_score(gold, decided))
    assert ours.score("hamming_loss") == pytest.approx(sk.hamming_loss(seen, chosen))
    table = ours.per_class()
    expected = sk.precision_recall_fscore_support(gold, decided, labels=labels, zero_division=0)
    for column, theirs in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        np.testing.assert_allclose(table[column], theirs, rtol=1e-12)
    assert table["absent"].tolist() == (seen.sum(axis=0) == 0).tolist()
    assert table["predicted"].tolist() == chosen.sum(axis=0).tolist()


@settings(max_examples=80, deadline=None)
@given(label_sets())
def test_ranking_figures_equal_scikit_learn(case):
    gold, logits = case
    ours, seen = evaluation(gold, logits), gold[:, : logits.shape[1]]
    logits = logits.astype(np.float64)  # some versions of scikit-learn sum in the precision of the scores
    lrap = sk.label_ranking_average_precision_score(seen, logits)
    assert ours.score("label_ranking_average_precision") == pytest.approx(lrap, rel=1e-12)
    present = seen.any(axis=0)
    each = [sk.average_precision_score(seen[:, j], logits[:, j]) if present[j] else np.nan for j in range(len(present))]
    np.testing.assert_allclose(ours.average_precision, each, rtol=1e-12)
    if present.any():
        assert ours.score("mean_average_precision") == pytest.approx(np.nanmean(each))
        micro = sk.average_precision_score(seen.ravel(), logits.ravel())
        assert ours.score("micro_average_precision") == pytest.approx(micro, rel=1e-12)


def test_calibration_figures_equal_their_definitions(make_labelled, monkeypatch):
    ours = make_labelled(3, unseen=1)
    y, p = ours.gold.toarray()[:, :6], expit(ours.logits.astype(float))
    assert ours.score("brier") == pytest.approx(np.mean([sk.brier_score_loss(y[:, j], p[:, j]) for j in range(6)]))
    assert ours.score("nll") == pytest.approx(-np.where(y == 1, np.log(p), np.log1p(-p)).mean())

    def error(y, p):
        index = np.ceil(p * 15).astype(int).clip(1, 15)
        return sum(abs(y[index == b].mean() - p[index == b].mean()) * (index == b).mean() for b in set(index.flat))

    assert ours.score("ece") == pytest.approx(error(y, p))
    assert ours.score("classwise_ece") == pytest.approx(np.mean([error(y[:, j], p[:, j]) for j in range(6)]))
    table = ours.reliability()
    assert table["count"].sum() == y.size
    gap = (table["accuracy"] - table["confidence"]).abs().fillna(0)
    assert (gap * table["count"]).sum() / y.size == pytest.approx(ours.score("ece"))
    whole = ours.summary()
    monkeypatch.setattr("tailwise.evaluation.multilabel._CELLS", 13)
    assert make_labelled(3, unseen=1).summary() == pytest.approx(whole, rel=1e-12)


def test_rows_without_labels_and_labels_unseen_in_training():
    # row 0: empty and left empty; row 1: right but for an unseen label; row 2: right
    gold = np.array([[0, 0, 0], [1, 0, 1], [0, 1, 0]])
    logits = np.array([[-1, -1], [1, -1], [-1, 1]])
    ours = evaluation(gold, logits)
    assert ours.score("samples_f1") == pytest.approx(2 / 3)
    assert ours.score("subset_accuracy") == pytest.approx(2 / 3)
    assert ours.score("hamming_loss") == 0.0
    assert ours.score("macro_f1") == 1.0
    groups = ours.groups(["head", "tail"]).set_index("group")
    assert list(groups.index) == ["head", "tail", "unseen"]
    assert groups.loc["unseen", "support"] == 1


def test_a_logit_of_zero_is_not_a_decision():
    ours = evaluation(np.array([[1, 0]]), np.array([[0.0, 0.1]]))
    assert ours.predicted.toarray().tolist() == [[0.0, 1.0]]


def test_no_decision_and_no_label_at_all_leave_every_figure_defined_but_average_precision():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures = evaluation(np.zeros((3, 2), dtype=int), np.full((3, 2), -2.0)).summary()
    undefined = {name for name, value in figures.items() if np.isnan(value)}
    assert undefined == {"mean_average_precision", "micro_average_precision"}
    assert figures["subset_accuracy"] == 1.0
    assert figures["macro_f1"] == 0.0


def test_evaluation_keeps_its_own_frozen_copy(make_space):
    gold, logits = sparse.csr_matrix(np.eye(2)), np.zeros((2, 2), dtype=np.float32)
    kept = MultilabelEvaluation(("a", "b"), gold, logits, make_space(2))
    gold.data[:] = 0
    logits[:] = 1
    assert kept.gold.toarray().tolist() == np.eye(2).tolist()
    assert kept.predicted.nnz == 0
    with pytest.raises(ValueError, match="read-only"):
        kept.gold.data[0] = 2.0


@pytest.mark.parametrize(
    ("ids", "gold", "logits", "message"),
    [
        (("a",), np.eye(2), np.zeros((2, 2)), r"1 ids, gold \(2, 2\)"),
        (("a", "b"), np.eye(2), np.zeros((2, 3)), r"logits of shape \(N, 2\).*\(2, 3\)"),
        (("a", "b"), np.eye(3)[:2], np.zeros((2, 2)), r"gold of shape \(N, 2\).*gold \(2, 3\)"),
        ((), np.zeros((0, 2)), np.zeros((0, 2)), "N >= 1 ids"),
        (("a", "b"), 2 * np.eye(2), np.zeros((2, 2)), "1 for every label.*from 2 to 2"),
        (("a", "a"), np.eye(2), np.zeros((2, 2)), "unique ids, but 'a' occurs 2 times"),
        (("a", "b"), np.eye(2), np.array([[0, 0], [np.inf, 0]]), "1 of 2 instances.*'b'.*learning rate"),
    ],
)
def test_inconsistent_scores_are_refused(make_space, ids, gold, logits, message):
    with pytest.raises(DataError, match=message):
        MultilabelEvaluation(ids, sparse.csr_matrix(gold), logits, make_space(2))
