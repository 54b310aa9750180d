"""Exact fits: as good as scikit-learn's logistic regression run to its end, and as any solver run to its end."""

import copy
import warnings

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from scipy.sparse import random as random_sparse
from sklearn.linear_model import LogisticRegression

from tailwise.errors import SettingError
from tailwise.losses import LOSSES, LabelwiseLoss
from tailwise.models.heads.base import AffineForm
from tailwise.training.convex import ConvexProblem, fit_convex, objective
from tailwise.training.convex.rows import DifferentiatedRows, SigmoidRows, SoftmaxRows

STRENGTHS = (1000.0, 0.01, 1.0, 30.0)
EXCESS = 1e-6  # of the objective
COUNTS = [40, 8, 2, 0, 25]
#: losses, settings beyond the counts, and whether several labels are theirs
SETTINGS = [
    ("ce", {"label_smoothing": 0.1}),
    ("wce", {"label_smoothing": 0.1, "reduction": "mean"}),
    ("balanced-softmax", {}),
    ("vs", {"class_weights": "balanced"}),
    ("ldam", {"scale": 2.0}),
    ("mom", {"catch_all": 1}),
    ("catch-all-wce", {"catch_all": 0}),
    ("wbce", {}),
    ("pos-bce", {"num_rows": 200}),
    ("ml-ldam", {"scale": 2.0}),
    ("ml-focal", {"star": True, "alpha": 0.3}),
]
BY_AUTOGRAD = [
    ("poly-1", {}),
    ("focal-sigmoid", {"focus": 0.0}),
    ("db", {"focus": 0.0, "num_rows": 200}),
    ("lsep", {}),
    ("zlpr", {"reduction": "sum"}),
    ("bp-mll", {}),
]


def made(name, counts, **settings):
    given = {"class_counts": list(counts)} if "class_counts" in LOSSES.parameters(name) else {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*no training instance")
        return LOSSES[name](**given, **settings)


def dense_rows(num_rows, num_features, num_classes, seed=0):
    """Long-tailed classes that overlap, rows of unit norm away from the origin."""
    generator = np.random.default_rng(seed)
    prior = 0.9 ** np.arange(num_classes)
    labels = generator.choice(num_classes, num_rows - num_classes, p=prior / prior.sum())
    labels = np.concatenate([np.arange(num_classes), labels])
    features = 0.7 * generator.normal(size=(num_classes, num_features))[labels] + 0.5
    features += generator.normal(size=features.shape) * np.geomspace(3, 0.1, num_features)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return features.astype(np.float32), labels


def sparse_rows(num_rows, num_features, num_classes, seed=0):
    _, labels = dense_rows(num_rows, 1, num_classes, seed)
    generator = np.random.default_rng(seed)
    features = random_sparse(num_rows, num_features, 0.02, "csr", np.float32, rng=generator)
    own = csr_matrix((np.ones(num_rows), (np.arange(num_rows), labels)), shape=features.shape)
    features = (features + own.multiply(generator.random((num_rows, 1)) < 0.6)).tocsr()
    return csr_matrix(
        features.multiply(1 / np.sqrt(features.multiply(features).sum(axis=1) + 1e-9)), dtype=np.float32
    ), labels


def label_sets(labels, num_classes, seed=0):
    generator = np.random.default_rng(seed)
    own = np.eye(num_classes, dtype=bool)[labels] & (generator.random((len(labels), 1)) < 0.9)
    return csr_matrix((own | (generator.random(own.shape) < 0.1)).astype(np.int64))


def reference(features, labels, strength, **settings):
    """Scikit-learn in double precision, to its end."""
    model = LogisticRegression(C=strength, tol=1e-9, max_iter=20_000, **settings)
    model.fit(features.astype(np.float64), labels)
    weight, bias = model.coef_, model.intercept_
    if len(weight) == 1:  # two classes, one score: the same model with half of it for either
        weight, bias = np.vstack([-weight, weight]) / 2, np.array([-bias[0], bias[0]]) / 2
    return weight, bias


def excess(problem, strength, head, best, features, labels):
    ours, theirs = (objective(problem, strength, h, features, labels) for h in (head, best))
    return (ours - theirs) / theirs


def as_head(weight, bias):
    return AffineForm(torch.from_numpy(weight), torch.from_numpy(bias))


@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize(("rows", "shape"), [
    (dense_rows, (400, 20, 7)), (dense_rows, (600, 30, 50)), (sparse_rows, (300, 2000, 7)),
    (sparse_rows, (300, 900, 50)),
])  # fmt: skip
def test_the_objective_is_that_of_scikit_learn(rows, shape, class_weight):
    features, labels = rows(*shape)
    name = "ce" if class_weight is None else "wce"
    problem = ConvexProblem(made(name, np.bincount(labels)), STRENGTHS)
    heads = fit_convex([problem], features, labels, shape[2])[0]
    for strength, head in zip(STRENGTHS, heads, strict=True):
        best = as_head(*reference(features, labels, strength, class_weight=class_weight))
        assert abs(excess(problem, strength, head, best, features, labels)) < EXCESS


@pytest.mark.parametrize("rows", [dense_rows, sparse_rows])
def test_two_classes_share_what_one_score_of_scikit_learn_has(rows):
    # Two scores of half the weight have half the penalty of one, so that their strength is half as large.
    features, labels = rows(300, 40, 2)
    problem = ConvexProblem(LOSSES["ce"](), STRENGTHS)
    for strength, head in zip(STRENGTHS, fit_convex([problem], features, labels, 2)[0], strict=True):
        best = as_head(*reference(features, labels, 2 * strength))
        assert abs(excess(problem, strength, head, best, features, labels)) < EXCESS


@pytest.mark.parametrize("rows", [dense_rows, sparse_rows])
def test_binary_cross_entropy_is_one_against_the_rest(rows):
    features, labels = rows(300, 40, 6)
    matrix = label_sets(labels, 6)
    for reduction in ("mean", "row_mean"):
        problem = ConvexProblem(LOSSES["bce"](reduction=reduction), STRENGTHS)
        for strength, head in zip(STRENGTHS, fit_convex([problem], features, matrix, 6)[0], strict=True):
            dense = matrix.toarray()
            parts = [LogisticRegression(C=strength, tol=1e-9, max_iter=20_000) for _ in range(6)]
            parts = [part.fit(features.astype(np.float64), dense[:, j]) for j, part in enumerate(parts)]
            best = as_head(np.vstack([p.coef_ for p in parts]), np.concatenate([p.intercept_ for p in parts]))
            assert abs(excess(problem, strength, head, best, features, matrix)) < EXCESS


def test_row_weights_are_sample_weights():
    features, labels = dense_rows(300, 15, 5)
    weights = np.random.default_rng(1).random(300)
    problem = ConvexProblem(LOSSES["ce"](), (3.0,), weights)
    head = fit_convex([problem], features, labels, 5)[0][0]
    model = LogisticRegression(C=3.0, tol=1e-9, max_iter=20_000)
    model.fit(features.astype(np.float64), labels, sample_weight=weights * 300 / weights.sum())
    best = as_head(model.coef_, model.intercept_)
    assert abs(excess(problem, 3.0, head, best, features, labels)) < EXCESS


def test_whole_row_weights_are_repeated_rows_at_the_strength_of_as_many_rows():
    features, labels = dense_rows(200, 10, 4)
    times = np.random.default_rng(0).integers(0, 3, 200)
    rows = np.repeat(np.arange(200), times)
    loss = made("wce", np.bincount(labels))
    weighted = fit_convex([ConvexProblem(loss, (2.0,), times.astype(float))], features, labels, 4)[0][0]
    repeated = ConvexProblem(loss, (2.0 * np.count_nonzero(times >= 0) / len(rows),))
    head = fit_convex([repeated], features[rows], labels[rows], 4)[0][0]
    torch.testing.assert_close(weighted.weight, head.weight, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize(("name", "settings"), [*SETTINGS, *BY_AUTOGRAD])
def test_no_solver_run_to_its_end_finds_a_better_head(name, settings):
    features, labels = dense_rows(150, 6, 5)
    matrix = label_sets(labels, 5)
    counts = np.asarray(matrix.sum(axis=0)).ravel() if LOSSES[name].multilabel else np.bincount(labels)
    loss = made(name, counts, **settings)
    labels = matrix if loss.multilabel else labels
    problem = ConvexProblem(loss, (0.1, 20.0), np.random.default_rng(2).random(150))
    for strength, head in zip(problem.strengths, fit_convex([problem], features, labels, 5)[0], strict=True):
        ours, best = objective(problem, strength, head, features, labels), least(problem, strength, features, labels)
        assert (ours - best) / best < EXCESS


def least(problem, strength, features, labels):
    """The least value of the loss's own mean, by scipy with automatic differentiation."""
    loss, rates = problem.loss, torch.from_numpy(problem.row_weights)
    target = torch.from_numpy(labels.toarray() if loss.multilabel else labels)
    # The mean over entries is a fifth of the mean over rows.
    factor = strength * (1 if loss.reduction == "sum" else len(target) * (5 if isinstance(loss, LabelwiseLoss) else 1))
    design = torch.from_numpy(np.hstack([features, np.ones((len(features), 1))])).double()

    def value_and_gradient(flat):
        head = torch.from_numpy(flat.reshape(design.shape[1], -1)).requires_grad_()
        value = factor * loss(design @ head, target, sample_weight=rates) + 0.5 * head[:-1].square().sum()
        return value.item(), torch.autograd.grad(value, head)[0].numpy().ravel()

    start = np.zeros(design.shape[1] * 5)
    limits = {"maxiter": 5000, "maxfun": 20_000, "ftol": 1e-15, "gtol": 1e-8, "maxcor": 30}
    return minimize(value_and_gradient, start, jac=True, method="L-BFGS-B", options=limits).fun


@pytest.mark.parametrize(("name", "settings"), [("ce", {}), ("bce", {}), *SETTINGS])
def test_written_values_gradients_and_curvatures_are_those_of_automatic_differentiation(name, settings):
    loss = made(name, COUNTS, **settings)
    generator = torch.Generator().manual_seed(0)
    weight = torch.rand(9, generator=generator).double()
    scores, vectors = (2 * torch.randn(9, 5, generator=generator) for _ in range(2))
    if loss.multilabel:
        target = torch.randint(2, (9, 5), generator=generator)
        target[0, 1] = -100
        written = SigmoidRows.of(loss.sigmoid_form(), target, -100, weight).at(scores)
    else:
        target = torch.randint(5, (9,), generator=generator)
        written = SoftmaxRows(loss.softmax_form(5), target, weight, 5).at(scores)
    bare = copy.copy(loss)
    bare.reduction = "none"
    plain = DifferentiatedRows(bare, target, weight, 5).at(scores)
    torch.testing.assert_close(written.value.sum(), plain.value.sum(), rtol=1e-5, atol=0)
    torch.testing.assert_close(written.gradient(), plain.gradient(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(written.times(vectors.clone()), plain.times(vectors.clone()), rtol=1e-4, atol=1e-6)
    diagonal = torch.stack([plain.times(torch.eye(5)[j].expand(9, 5).clone())[:, j] for j in range(5)], dim=1)
    torch.testing.assert_close(written.diagonal(), diagonal, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rows", [dense_rows, sparse_rows])
def test_a_problem_has_the_same_bits_in_any_company_and_with_any_number_of_threads(rows):
    features, labels = rows(500, 60, 6)
    matrix = label_sets(labels, 6)
    own = ConvexProblem(LOSSES["ce"](), (10.0, 0.1))
    others = [ConvexProblem(made("wce", np.bincount(labels)), (1.0,)), own, ConvexProblem(LOSSES["poly-1"](), (1.0,))]
    threads = torch.get_num_threads()
    alone = fit_convex([own], features, labels, 6)[0]
    torch.set_num_threads(2)
    try:
        together = fit_convex(others, features, labels, 6)[1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one.weight, other.weight)
        assert torch.equal(one.bias, other.bias)
    labelwise = ConvexProblem(LOSSES["bce"](), (1.0,))
    alone, together = (fit_convex(p, features, matrix, 6)[0][0] for p in ([labelwise], [labelwise, labelwise]))
    assert torch.equal(alone.weight, together.weight)


def test_heads_come_in_the_order_given_and_progress_counts_them():
    features, labels = dense_rows(120, 8, 3)
    steps = []
    problems = [ConvexProblem(LOSSES["ce"](), s) for s in ((1.0, 0.01, 1.0), (5.0,))]
    first, second = fit_convex(problems, features, labels, 3, lambda *seen: steps.append(seen))
    norms = [float(head.weight.norm()) for head in (*first, *second)]
    assert norms[1] < norms[0] == norms[2] < norms[3]
    assert steps[-1] == (4, 4)
    assert steps == sorted(steps)
    assert first[0].weight.shape == (3, 8)
    assert first[0].weight.dtype == torch.float32
    assert first[0].centre is None
    assert not first[0].normalise


@pytest.mark.parametrize("strength", [0.01, 1000.0])
def test_classes_without_rows_and_labels_of_all_rows_have_finite_biases(strength):
    features, labels = dense_rows(200, 8, 4)
    head = fit_convex([ConvexProblem(LOSSES["ce"](), (strength,))], features, labels, 6)[0][0]
    assert bool(head.bias.isfinite().all())
    assert float(head.bias[4:].max()) < float(head.bias[:4].min()) - 5
    matrix = np.zeros((200, 3), dtype=np.int64)
    matrix[:, 0], matrix[:, 1] = 1, labels == 0
    head = fit_convex([ConvexProblem(LOSSES["bce"](), (strength,))], features, csr_matrix(matrix), 3)[0][0]
    assert bool(head.bias.isfinite().all())
    assert float(head.bias[0]) > 5
    assert float(head.bias[2]) < -5
    assert float(head.weight[[0, 2]].abs().max()) < 1e-4


def test_ignored_rows_and_classes_of_no_weight_take_no_part():
    features, labels = dense_rows(200, 8, 4)
    partly = np.where(np.arange(200) % 2, labels, -100)
    problem = ConvexProblem(LOSSES["ce"](), (1.0,))
    ignoring = fit_convex([problem], features, partly, 4)[0][0]
    without = fit_convex([problem], features[1::2], labels[1::2], 4)[0][0]
    torch.testing.assert_close(ignoring.weight, without.weight, atol=1e-3, rtol=1e-3)
    weightless = ConvexProblem(LOSSES["wce"](class_weights=[1.0, 1.0, 1.0, 0.0]), (1.0,))
    head = fit_convex([weightless], features, labels, 4)[0][0]
    assert bool(head.bias.isfinite().all())
    assert float(head.weight[3].abs().max()) < 1e-4


def test_unknown_labels_take_no_part():
    features, labels = dense_rows(200, 8, 3)
    matrix = label_sets(labels, 3).toarray()
    matrix[::2, 1] = -100
    problem = ConvexProblem(LOSSES["bce"](reduction="sum"), (1.0,))
    partly = fit_convex([problem], features, csr_matrix(matrix), 3)[0][0]
    alone = fit_convex([problem], features[1::2], csr_matrix(matrix[1::2, 1:2]), 1)[0][0]
    torch.testing.assert_close(partly.weight[1:2], alone.weight, atol=1e-3, rtol=1e-3)


def test_many_labels_are_fitted_some_at_a_time_to_the_same_end(monkeypatch):
    features, labels = dense_rows(150, 8, 7)
    matrix = label_sets(labels, 7)
    problem = ConvexProblem(made("pos-bce", np.asarray(matrix.sum(axis=0)).ravel(), num_rows=150), (1.0, 10.0))
    whole = fit_convex([problem], features, matrix, 7)[0]
    steps = []
    monkeypatch.setattr("tailwise.training.convex.fitting._ENTRIES", 3 * 150)
    parts = fit_convex([problem], features, matrix, 7, lambda *seen: steps.append(seen))[0]
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one.weight, other.weight, atol=2e-3, rtol=2e-3)
    assert steps[-1] == (2, 2)


def test_what_does_not_fit_is_refused():
    features, labels = dense_rows(50, 4, 3)
    with pytest.raises(SettingError, match="FocalLoss is not convex in the logits with these settings"):
        ConvexProblem(LOSSES["focal"](), (1.0,))
    for strengths in ((), (0.0,), (1.0, float("inf"))):
        with pytest.raises(SettingError, match="Expected `strengths` to be finite numbers larger than 0"):
            ConvexProblem(LOSSES["ce"](), strengths)
    problem = ConvexProblem(LOSSES["ce"](), (1.0,))
    with pytest.raises(SettingError, match="float32 matrix"):
        fit_convex([problem], features.astype(np.float64), labels, 3)
    with pytest.raises(SettingError, match=r"expected labels of shape \(50,\)"):
        fit_convex([problem], features, labels[:-1], 3)
    with pytest.raises(SettingError, match="expected labels from 0 to 2, or -100 where unknown, but got 1 to 3"):
        fit_convex([problem], features, labels + 1, 3)
    with pytest.raises(SettingError, match="Expected `row_weights` to be 50 finite numbers"):
        fit_convex([ConvexProblem(LOSSES["ce"](), (1.0,), -np.ones(50))], features, labels, 3)
