"""Where the final layer starts, against scikit-learn and naive re-derivations."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression

from tailwise.losses import LOSSES
from tailwise.training import head_start
from tailwise.training.finetune_start import kept_start
from tailwise.training.head_start import HeadRows, HeadStart, class_directions, linear_start

COUNTS = np.array([40, 15, 5])


def make_rows(seed, size=60, weight=None, dim=4):
    rng = np.random.default_rng(seed)
    target = np.repeat(np.arange(3), COUNTS * size // 60)
    features = 0.1 * rng.normal(size=(target.size, dim)) + 0.15 * np.eye(3, dim)[target] + 3.0
    return HeadRows(torch.from_numpy(features), target, weight)


def variance(rows):
    return float(rows.features.var(dim=0, correction=0).sum())


def centred(scores):
    return scores - scores.mean(axis=1, keepdims=True)


def scores_of(start, rows):
    return (rows.features @ start.weight.T + start.bias).numpy()


def nothing():
    return HeadRows(torch.zeros(0, 4, dtype=torch.float64), np.zeros(0, dtype=np.int64))


@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_starts_where_logistic_regression_ends(weighted):
    weight = np.random.default_rng(9).gamma(1.0, size=60) if weighted else np.ones(60)
    weight = weight / weight.mean()
    rows = make_rows(0, weight=torch.from_numpy(weight) if weighted else None)
    start = linear_start(LOSSES["ce"](), rows, nothing(), 3, strengths=(7.0,))
    theirs = LogisticRegression(C=7.0 / variance(rows), tol=1e-10, max_iter=10_000)
    theirs.fit(rows.features.numpy(), rows.target, sample_weight=weight)
    expected = theirs.decision_function(rows.features.numpy())
    np.testing.assert_allclose(centred(scores_of(start, rows)), centred(expected), atol=1e-3)
    assert start.facts == {"kind": "probe", "rows": 60, "c": 7.0}


def test_every_label_starts_where_its_own_logistic_regression_ends():
    one = make_rows(1)
    matrix = np.eye(3, dtype=np.int64)[one.target]
    matrix[::4, 1] = 1
    rows = HeadRows(one.features, csr_matrix(matrix))
    start = linear_start(LOSSES["bce"](), rows, nothing(), 3, strengths=(5.0,))
    for label in range(3):
        theirs = LogisticRegression(C=5.0 / variance(rows), tol=1e-10, max_iter=10_000)
        theirs.fit(rows.features.numpy(), matrix[:, label])
        expected = theirs.decision_function(rows.features.numpy())
        np.testing.assert_allclose(scores_of(start, rows)[:, label], expected, atol=1e-3)


def test_the_sum_of_a_loss_has_the_solution_of_its_mean():
    rows = make_rows(1)
    starts = [linear_start(LOSSES["ce"](reduction=r), rows, nothing(), 3, strengths=(5.0,)) for r in ("mean", "sum")]
    torch.testing.assert_close(starts[0].weight, starts[1].weight, rtol=1e-4, atol=1e-4)


def test_balanced_softmax_starts_at_its_own_solution():
    rows = make_rows(2)
    loss = LOSSES["balanced-softmax"](class_counts=COUNTS)
    start = linear_start(loss, rows, nothing(), 3, strengths=(3.0,))
    features, penalty = rows.features.numpy(), variance(rows) / (2 * 3.0 * 60)

    def objective(parameters):
        weight, bias = parameters[:12].reshape(3, 4), parameters[12:]
        shifted = features @ weight.T + bias + np.log(COUNTS / COUNTS.sum())
        values = logsumexp(shifted, axis=1) - shifted[np.arange(60), rows.target]
        return values.mean() + penalty * (weight**2).sum()

    best = minimize(objective, np.zeros(15), method="L-BFGS-B", options={"maxfun": 10**6, "ftol": 1e-15, "gtol": 1e-9})
    ours = objective(np.concatenate([start.weight.numpy().ravel(), start.bias.numpy()]))
    assert ours == pytest.approx(best.fun, abs=1e-7)


@pytest.mark.parametrize("name", ["focal", "dice"])
def test_a_loss_that_is_not_convex_starts_at_a_stationary_point_below_cross_entropy(name):
    rows, loss = make_rows(3), LOSSES[name]().double()
    start = linear_start(loss, rows, nothing(), 3, strengths=(3.0,))
    plain = linear_start(LOSSES["ce"](), rows, nothing(), 3, strengths=(3.0,))

    def objective(found):
        weight, bias = found.weight.clone().requires_grad_(), found.bias.clone().requires_grad_()
        data = loss(rows.features @ weight.T + bias, torch.from_numpy(rows.target))
        value = data + variance(rows) / (2 * 3.0 * 60) * weight.square().sum()
        return value, torch.autograd.grad(value, [weight, bias])

    value, gradients = objective(start)
    assert value <= objective(plain)[0]
    assert max(float(g.abs().max()) for g in gradients) < 1e-4


def test_the_strength_of_least_validation_loss_is_taken():
    rows, validation = make_rows(4), make_rows(5)
    chosen = linear_start(LOSSES["ce"](), rows, validation, 3)
    losses = {}
    for strength in head_start.STRENGTHS:
        alone = linear_start(LOSSES["ce"](), rows, nothing(), 3, strengths=(strength,))
        scores = torch.from_numpy(scores_of(alone, validation))
        losses[strength] = float(torch.nn.functional.cross_entropy(scores, torch.from_numpy(validation.target)))
    assert chosen.facts["c"] == min(losses, key=losses.get)
    found = chosen.facts["validation_loss"]
    assert list(found.values()) == pytest.approx(list(losses.values()), abs=1e-4)
    assert linear_start(LOSSES["ce"](), rows, nothing(), 3).facts["c"] == head_start.STRENGTHS[1]


def test_a_loss_that_needs_more_than_scores_starts_at_cross_entropy_and_says_so():
    rows = make_rows(4)
    plain = linear_start(LOSSES["ce"](), rows, nothing(), 3)
    other = linear_start(LOSSES["batch-dice"](), rows, nothing(), 3)
    assert torch.equal(plain.weight, other.weight)
    assert other.facts["note"].startswith("The final layer started at the solution for `ce`")


def test_a_loss_without_a_minimum_starts_at_binary_cross_entropy_and_says_so():
    one = make_rows(1)
    rows = HeadRows(one.features, csr_matrix(np.eye(3, dtype=np.int64)[one.target]))
    plain = linear_start(LOSSES["bce"](), rows, nothing(), 3, strengths=(5.0,))
    other = linear_start(LOSSES["bp-mll"](), rows, nothing(), 3, strengths=(5.0,))
    torch.testing.assert_close(plain.weight, other.weight)
    assert other.facts["note"] == "The final layer started at the solution for `bce`: its loss falls without end."


def test_rows_are_taken_in_parts_without_a_change(monkeypatch):
    rows = make_rows(6, weight=torch.rand(60, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    whole = linear_start(LOSSES["ce"](), rows, make_rows(7), 3)
    monkeypatch.setattr(head_start, "_LOGITS", 3 * 7)
    parts = linear_start(LOSSES["ce"](), rows, make_rows(7), 3)
    torch.testing.assert_close(whole.weight, parts.weight, rtol=1e-4, atol=1e-4)


def test_the_same_rows_give_the_same_bits():
    a, b = (linear_start(LOSSES["ce"](), make_rows(6), make_rows(7), 3) for _ in range(2))
    assert torch.equal(a.weight, b.weight)
    assert torch.equal(a.bias, b.bias)


@pytest.mark.parametrize("several", [False, True])
def test_directions_are_those_of_the_class_means(several):
    rows = make_rows(8)
    matrix = np.eye(3)[rows.target]
    if several:
        matrix[:10, 2] = 1
        rows = HeadRows(rows.features, csr_matrix(matrix))
    start = class_directions(rows, 3)
    unit = rows.features.numpy() / np.linalg.norm(rows.features.numpy(), axis=1, keepdims=True)
    for j in range(3):
        direction = unit[matrix[:, j] == 1].mean(axis=0) - unit.mean(axis=0)
        np.testing.assert_allclose(start.weight[j], direction / np.linalg.norm(direction), atol=1e-12)
    assert start.bias is None


def test_a_start_that_was_kept_is_not_computed_again(tmp_path):
    made = []

    def compute():
        made.append(None)
        return HeadStart(torch.rand(3, 4), torch.rand(3), {"kind": "probe", "c": 10.0})

    first = kept_start(tmp_path / "head.safetensors", compute, write=True)
    again = kept_start(tmp_path / "head.safetensors", compute, write=True)
    assert len(made) == 1
    assert torch.equal(first.weight, again.weight)
    assert torch.equal(first.bias, again.bias)
    assert first.facts == again.facts
