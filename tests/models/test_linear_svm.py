"""The head `linear-svm` is scikit-learn's LinearSVC, over classes and over labels."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix, random
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import LinearSVC

from tailwise.errors import SettingError
from tailwise.models.heads.linear_svm import LinearSVMHead

ROWS, WIDTH = 120, 40


@pytest.fixture(scope="module")
def rows():
    return csr_matrix(random(ROWS, WIDTH, 0.3, random_state=0, dtype=np.float32))


@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("classes", [2, 5])
def test_margins_over_classes_are_those_of_linear_svc(rows, classes, class_weight):
    target = np.random.default_rng(1).choice(classes, size=ROWS, p=np.arange(1, classes + 1) / sum(range(classes + 1)))
    head = LinearSVMHead(WIDTH, classes, C=0.7, class_weight=class_weight)
    head.fit_rows(rows, target)
    found = head(torch.from_numpy(rows.toarray())).detach().numpy()
    peer = LinearSVC(C=0.7, class_weight=class_weight, tol=1e-6, max_iter=20000).fit(rows, target)
    expected = peer.decision_function(rows)
    if classes == 2:
        found = found[:, 1]
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_margins_over_labels_are_those_of_one_versus_rest(rows):
    labels = csr_matrix((np.random.default_rng(2).random((ROWS, 4)) < 0.3).astype(np.float32))
    head = LinearSVMHead(WIDTH, 4, C=1.5, class_weight="balanced")
    head.fit_rows(torch.from_numpy(rows.toarray()), labels)
    peer = OneVsRestClassifier(LinearSVC(C=1.5, class_weight="balanced", tol=1e-6, max_iter=20000))
    expected = peer.fit(rows, labels.toarray()).decision_function(rows)
    np.testing.assert_allclose(head(torch.from_numpy(rows.toarray())).detach().numpy(), expected, atol=2e-3)


def test_a_label_of_all_rows_or_of_none_has_a_constant_margin(rows):
    labels = np.zeros((ROWS, 3), dtype=np.float32)
    labels[:, 0], labels[::3, 1] = 1.0, 1.0
    head = LinearSVMHead(WIDTH, 3)
    head.fit_rows(rows, csr_matrix(labels))
    margins = head(torch.from_numpy(rows.toarray()))
    assert torch.equal(margins[:, 0], torch.ones(ROWS))
    assert torch.equal(margins[:, 2], -torch.ones(ROWS))


def test_wrong_settings_are_refused():
    with pytest.raises(SettingError, match="`C` to be a finite number larger than 0, but got 0"):
        LinearSVMHead(2, 2, C=0)
    with pytest.raises(SettingError, match="`class_weight` to be 'balanced' or None, but got 'auto'"):
        LinearSVMHead(2, 2, class_weight="auto")
