"""The estimators for several labels per text and for tags."""

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from tailwise import MultilabelTextClassifier, TextClassifier, TokenClassifier
from tailwise.errors import DataError

SETTINGS = {"trials": 1, "epochs": 60}


@pytest.fixture(scope="module")
def several(corpora):
    corpus = corpora["multilabel"]
    names = corpus.label_space.names
    rows = corpus.splits["train"]
    return list(rows["text"]), [[names[j] for j in own] for own in rows["labels"]]


@pytest.fixture(scope="module")
def fitted(several, encoder, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return MultilabelTextClassifier("ce+thresholds", encoder=encoder, cache_dir=cache, **SETTINGS).fit(*several)


def test_label_lists_and_matrices_are_the_same(several, fitted, encoder, tmp_path):
    texts, lists = several
    names = fitted.classes_.tolist()
    dense = np.array([[name in own for name in names] for own in lists], dtype=int)
    for matrix in (dense, csr_matrix(dense), pd.DataFrame(dense, columns=names)):
        other = MultilabelTextClassifier("ce+thresholds", encoder=encoder, cache_dir=tmp_path, **SETTINGS)
        other.fit(texts, matrix)
        np.testing.assert_array_equal(other.predict(texts), fitted.predict(texts))


def test_predictions_agree_with_each_other(several, fitted):
    texts, _ = several
    matrix = fitted.predict(texts)
    assert set(np.unique(matrix)) <= {0, 1}
    np.testing.assert_array_equal(matrix, fitted.decision_function(texts) > 0)
    np.testing.assert_array_equal(matrix, fitted.predict_proba(texts) > 0.5)
    assert [len(own) for own in fitted.predict_labels(texts)] == matrix.sum(axis=1).tolist()
    assert fitted.validation_.score("micro_f1") > 0.5


def test_a_saved_one_predicts_the_same(several, fitted, tmp_path):
    fitted.save_pretrained(tmp_path / "model")
    loaded = MultilabelTextClassifier.from_pretrained(tmp_path / "model")
    assert loaded.predict_labels(several[0]) == fitted.predict_labels(several[0])


def test_tags_are_learnt_from_lists(corpora, encoder, tmp_path):
    corpus = corpora["tagging"]
    sentences = corpus.tokens("train")
    tags = [[corpus.label_space.names[j] for j in own] for own in corpus.splits["train"]["tags"]]
    tagger = TokenClassifier("ce", encoder=encoder, cache_dir=tmp_path / "cache", **SETTINGS).fit(sentences, tags)
    decisions = tagger.predict(sentences)
    assert [len(own) for own in decisions] == [len(own) for own in sentences]
    right = [a == b for own, gold in zip(decisions, tags, strict=True) for a, b in zip(own, gold, strict=True)]
    assert np.mean(right) > 0.8
    assert [p.shape for p in tagger.predict_proba(sentences[:2])] == [(len(s), 7) for s in sentences[:2]]
    tagger.save_pretrained(tmp_path / "model")
    assert TokenClassifier.from_pretrained(tmp_path / "model").predict(sentences) == decisions


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([["a"]], "Expected one list of labels per text, 2"),
        (["a", ["b"]], "Row 0: expected a list of label names"),
        (np.array([[0, 2], [1, 0]]), "Row 0: expected 0 and 1"),
        (np.array([[0, 1]]), "2 texts and 1 rows"),
        (None, "Expected one list of labels per text"),
    ],
)
def test_label_sets_that_cannot_be_used(labels, message):
    with pytest.raises(DataError, match=message):
        MultilabelTextClassifier("ce").fit(["one", "two"], labels)


def test_tags_that_do_not_fit():
    with pytest.raises(DataError, match="Sentence 1: 2 tokens, but 1 tags"):
        TokenClassifier("ce").fit([["a"], ["b", "c"]], [["O"], ["O"]])
    with pytest.raises(DataError, match="Sentence 0: expected a list of tokens"):
        TokenClassifier("ce").fit(["a b"], [["O"]])


def test_a_corpus_of_another_structure_is_refused(corpora):
    with pytest.raises(DataError, match=r"is for 'multilabel'\. Take `MultilabelTextClassifier`"):
        TextClassifier("ce").fit(corpora["multilabel"])
    with pytest.raises(DataError, match="Expected a corpus with a tag per token"):
        TokenClassifier("ce").fit(corpora["text"])
