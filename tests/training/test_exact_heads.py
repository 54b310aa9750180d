"""Heads that are fitted exactly: what is minimised, which recipes are, and what counts as one computation."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from tailwise.catalog import resolve
from tailwise.data.labels import LabelSpace
from tailwise.training.exact_heads import LADDER, exact_problem, fit_exact, ladder
from tailwise.training.probe_passes import TrainingRows
from tailwise.training.probe_plan import plan_probe

COUNTS = np.array([120, 60, 20])


@pytest.fixture(scope="module")
def rows():
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), COUNTS)
    features = generator.normal(size=(labels.size, 12)) + np.eye(3, 12)[labels]
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    space = LabelSpace(names=("a", "b", "c"), counts=COUNTS)
    return TrainingRows(torch.from_numpy(features.astype(np.float32)), labels, space)


def plan(spec, rows, C=5.0, seed=0):  # noqa: N803
    recipe = resolve(spec) if isinstance(spec, str) else spec
    return plan_probe(
        recipe, seed, num_rows=rows.num_rows, epochs=5, batch_size=16, learning_rate=0.01, weight_decay=0.1, C=C
    )


def problem(spec, rows):
    return exact_problem(plan(spec, rows), rows)


def peer(rows, C, **settings):  # noqa: N803
    features = rows.features.double().numpy()
    return LogisticRegression(C=C, tol=1e-10, max_iter=10000, **settings).fit(features, rows.labels)


@pytest.mark.parametrize(
    ("spec", "settings"),
    [("ce", {}), ("ros", {"class_weight": "balanced"}), ("cas", {"class_weight": "balanced"})],
)
def test_the_head_is_that_of_logistic_regression(rows, spec, settings):
    (trained,) = fit_exact([(problem(spec, rows), 5.0)], rows)
    expected = peer(rows, 5.0, **settings)
    np.testing.assert_allclose(trained.head.weight.detach().numpy(), expected.coef_, atol=2e-3)
    gap = trained.head.bias.detach().numpy() - expected.intercept_
    np.testing.assert_allclose(gap - gap.mean(), 0.0, atol=2e-3)


def test_resampling_and_weights_that_come_to_the_same_are_one_computation(rows):
    keys = {spec: problem(spec, rows).key for spec in ("cas", "ros", "crt", "wce", "ce", "thresholds", "tau-norm")}
    assert keys["cas"] == keys["ros"] == keys["crt"] == keys["wce"]
    assert keys["ce"] == keys["thresholds"] == keys["tau-norm"] != keys["cas"]
    assert problem("balanced-softmax", rows).key == problem("logit-adjusted", rows).key not in keys.values()


def test_the_seed_changes_nothing(rows):
    assert exact_problem(plan("rus", rows, seed=1), rows).key == exact_problem(plan("rus", rows, seed=2), rows).key


@pytest.mark.parametrize("spec", ["drw", "ldam", "batch-dice", "progressive-sampling", "feedback-loop", "ncm"])
def test_other_recipes_are_left_to_their_own_ways(rows, spec):
    assert problem(spec, rows) is None


def test_a_recipe_that_asks_for_steps_gets_them(rows):
    assert problem("ce", rows) is not None
    assert problem(resolve("ce").with_optimisation(learning_rate=0.1), rows) is None
    assert problem(resolve("ce").with_optimisation(C=3.0), rows) is not None


def test_a_fit_depends_on_nothing_that_is_asked_beside_it(rows):
    ce, wce = problem("ce", rows), problem("wce", rows)
    alone = fit_exact([(ce, 25.0)], rows)[0]
    among = fit_exact([(wce, 5.0), (ce, 125.0), (ce, 25.0), (ce, 7.0), (ce, 1.0)], rows)
    assert torch.equal(alone.head.weight, among[2].head.weight)
    assert torch.equal(alone.head.bias, among[2].head.bias)
    assert not torch.equal(among[1].head.weight, among[2].head.weight)


def test_the_ladder_ends_at_the_strength_itself():
    assert ladder(LADDER[2]) == LADDER[:3]
    assert ladder(7.0) == (1.0, 5.0, 7.0)
    assert ladder(0.1) == (0.1,)


def test_the_log_has_the_loss_of_a_head_of_zeros_and_of_the_fitted_one(rows):
    (trained,) = fit_exact([(problem("ce", rows), 25.0)], rows)
    ((first, last),) = trained.losses
    assert first == pytest.approx(np.log(3), rel=1e-5)
    probabilities = torch.log_softmax(trained.head(rows.features), dim=1)
    expected = -probabilities[torch.arange(rows.num_rows), torch.from_numpy(rows.labels)].mean().detach()
    assert last == pytest.approx(float(expected), rel=1e-5)
    assert last < 0.9 * first


def test_sparse_rows_give_the_head_of_dense_ones(rows):
    from scipy.sparse import csr_matrix

    sparse = replace(rows, features=csr_matrix(rows.features.numpy()))
    (dense,) = fit_exact([(problem("wce", rows), 5.0)], rows)
    (found,) = fit_exact([(problem("wce", sparse), 5.0)], sparse)
    torch.testing.assert_close(found.head.weight, dense.head.weight, atol=2e-3, rtol=0)
