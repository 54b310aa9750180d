"""scikit-learn's own checks of an estimator, on texts instead of numbers.

The checks feed matrices of numbers. `TextClassifier` takes texts, so scikit-learn itself leaves out nearly all of them
for it; `NumbersAsTexts` writes each row as a text, so that all that can apply does apply. What then still fails is
listed with the reason, and must fail.
"""

import warnings

import numpy as np
import pytest
import torch
from scipy.sparse import issparse
from sklearn.exceptions import SkipTestWarning
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import check_estimator
from transformers import BertConfig, BertModel, BertTokenizer

from tailwise.classifier import TextClassifier

NO_COLUMNS = "a text has no columns, so there is no number of features to remember and to compare"
OF_THE_ADAPTER = "the adapter of this file, not the classifier, turns these values into texts"

EXPECTED_FAILURES = {
    "check_fit_score_takes_y": "the arguments of fit are called texts and labels; scikit-learn passes them by position",
    "check_n_features_in": NO_COLUMNS,
    "check_n_features_in_after_fitting": NO_COLUMNS,
    "check_estimators_empty_data_messages": f"half of it: {NO_COLUMNS}; no rows are refused, see test_classifier.py",
    "check_fit2d_predict1d": f"a row is a text, so one dimension is the ordinary case; {OF_THE_ADAPTER}",
    "check_complex_data": "refused as 'expected a text, but got complex'; the check wants a sentence about numbers",
    "check_dtype_object": "numbers and mappings as objects are no texts and are refused, see test_classifier.py",
    "check_estimators_nan_inf": f"'nan' is a text like any other; {OF_THE_ADAPTER}",
    "check_classifiers_train": "asks for 83% accuracy on Gaussian blobs; digits read as words know no distance",
}


class NumbersAsTexts(TextClassifier):
    """Takes a matrix of numbers and reads each row as a text."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.string, tags.input_tags.one_d_array = True, False, False
        return tags

    def fit(self, texts, labels=None):
        return super().fit(as_texts(texts), labels)

    def predict(self, texts):
        return super().predict(as_texts(texts))

    def predict_proba(self, texts):
        return super().predict_proba(as_texts(texts))

    def decision_function(self, texts):
        return super().decision_function(as_texts(texts))


def as_texts(rows):
    if issparse(rows):
        return rows
    array = np.asarray(rows)
    if array.ndim == 2 and array.dtype.kind in "iuf":
        return [" ".join(f"{value:.2f}" for value in row) for row in array]
    return array


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    BertModel(BertConfig(**sizes, vocab_size=32, initializer_range=0.05)).save_pretrained(folder)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"0123456789.-e"]
    BertTokenizer(vocab={word: i for i, word in enumerate(words)}).save_pretrained(folder)
    return {"encoder": str(folder), "trials": 1, "epochs": 2, "cache_dir": tmp_path_factory.mktemp("cache")}


def test_every_check_passes_but_those_that_need_numbers(settings):
    results = check_estimator(
        NumbersAsTexts("ce", **settings), expected_failed_checks=EXPECTED_FAILURES, on_fail=None, on_skip=None
    )
    failed = {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"}
    assert not failed
    assert {r["check_name"] for r in results if r["status"] == "xfail"} == set(EXPECTED_FAILURES)
    assert sum(r["status"] == "passed" for r in results) > 35


def test_the_checks_that_scikit_learn_runs_on_texts_pass(settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkipTestWarning)
        results = check_estimator(TextClassifier("ce", **settings), on_fail=None)
    assert {r["status"] for r in results} == {"passed"}


def test_the_tags_say_texts(settings):
    tags = get_tags(TextClassifier())
    assert (tags.input_tags.string, tags.input_tags.two_d_array, tags.input_tags.one_d_array) == (True, False, True)
    assert tags.target_tags.required
    assert tags.classifier_tags.multi_class
    assert tags.estimator_type == "classifier"
