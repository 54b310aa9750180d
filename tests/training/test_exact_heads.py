"""Which plans are fitted on all rows at once, and what comes out."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from tailwise.data.labels import LabelSpace
from tailwise.models.feature_cache import FeatureCache
from tailwise.stages.recipe import Component
from tailwise.training import probe
from tailwise.training.exact_heads import exact_problem, fit_descents, fit_exact, ladder
from tailwise.training.probe import ProbeEngine
from tailwise.training.probe_parts import RowKind
from tailwise.training.probe_passes import TrainingRows
from tailwise.training.probe_plan import ProbePlan, StagePlan

KIND = RowKind("made up", "encoder", True, "nobody")


def make_rows(*, several=False, sparse=False):
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), [90, 40, 20, 10])
    features = generator.normal(size=(4, 16))[labels] + 1.5 * generator.normal(size=(160, 16))
    features = torch.from_numpy((features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32))
    space = LabelSpace(tuple("abcd"), np.bincount(labels))
    own = csr_matrix(features.numpy()) if sparse else features
    if several:
        more = np.eye(4, dtype=bool)[labels] | (generator.random((160, 4)) < 0.1)
        return TrainingRows(own, csr_matrix(more.astype(np.int64)), replace(space, counts=more.sum(axis=0)))
    return TrainingRows(own, labels, space)


def make_plan(loss, *, sampler="natural", strength=5.0, **changes):
    component = loss if isinstance(loss, Component) else Component(loss)
    stages = (StagePlan(Component(sampler), component, 10, 1.0),)
    return replace(ProbePlan(Component("linear"), stages, 32, 0.01, 0.1, 0, strength), **changes)


def descended(plan, rows):
    problem = exact_problem(plan, rows)
    (start,) = fit_exact([(problem.start, plan.C)], rows)
    return fit_descents([(problem, plan.C, start)], rows)[0]


def weights(trained):
    return torch.cat([trained.head.weight.detach(), trained.head.bias.detach()[:, None]], dim=1).numpy()


def test_a_descent_starts_at_the_problem_of_cross_entropy_with_the_same_sampler():
    rows = make_rows()
    for sampler in ("natural", "cas"):
        problem = exact_problem(make_plan("focal", sampler=sampler), rows)
        assert problem.start.key == exact_problem(make_plan("ce", sampler=sampler), rows).key
    assert exact_problem(make_plan("ce"), rows).start is None


def test_a_descent_over_label_sets_starts_at_binary_cross_entropy():
    rows = make_rows(several=True)
    assert exact_problem(make_plan("asl"), rows).start.key == exact_problem(make_plan("bce"), rows).key


@pytest.mark.parametrize(("name", "several"), [("focal", False), ("dice", False), ("asl", True), ("bce", True)])
@pytest.mark.parametrize("sparse", [False, True])
def test_the_loss_ends_below_where_a_head_of_zeros_has_it(name, several, sparse):
    rows, plan = make_rows(several=several, sparse=sparse), make_plan(name)
    problem = exact_problem(plan, rows)
    trained = descended(plan, rows) if problem.start else fit_exact([(problem, plan.C)], rows)[0]
    ((first, last),) = trained.losses
    assert last < 0.8 * first


def test_a_sum_of_losses_has_the_sums_of_its_ends():
    rows = make_rows()
    plan = make_plan(Component("weighted-sum", {"losses": ["wce", "dice"], "weights": [1.0, 0.5]}))
    trained = descended(plan, rows)
    ((_, last),) = trained.losses
    with torch.no_grad():
        expected = trained.loss(trained.head(rows.features), torch.from_numpy(rows.labels))
    assert last == pytest.approx(float(expected), rel=1e-5)


def test_the_notes_say_that_it_is_a_local_minimum_and_whether_the_search_settled(monkeypatch):
    rows = make_rows()
    trained = descended(make_plan("focal"), rows)
    (note,) = trained.notes
    assert "local minimum downhill from the solution for cross-entropy" in note
    assert f"settled after {trained.steps} steps" in note
    monkeypatch.setattr("tailwise.training.convex.descent._STEPS", 1)
    assert "had not settled after 1 steps" in descended(make_plan("focal"), rows).notes[0]


@pytest.mark.parametrize(
    "plan",
    [
        make_plan("focal", asks_for_steps=True),
        make_plan("focal", head=Component("cosine")),
        make_plan("batch-dice"),
        make_plan("class-dro"),
        replace(make_plan("focal"), stages=make_plan("focal").stages * 2),
    ],
)
def test_other_plans_take_steps(plan):
    assert exact_problem(plan, make_rows()) is None


def test_a_head_has_the_same_bits_whatever_else_is_asked_for(tmp_path):
    rows = make_rows()
    plans = [make_plan(name, strength=c) for name in ("focal", "ce", "dice") for c in (25.0, 1.0, 5.0)]

    def engine():
        return ProbeEngine(cache=FeatureCache(tmp_path))

    together = engine()._train_on(rows, KIND, plans, None)
    for plan, trained in zip(plans, together, strict=True):
        (alone,) = engine()._train_on(rows, KIND, [plan], None)
        assert weights(alone).tobytes() == weights(trained).tobytes()
        assert alone.steps == trained.steps


def test_a_head_that_was_fitted_before_is_not_fitted_again(tmp_path, monkeypatch):
    rows, engine, calls = make_rows(), ProbeEngine(cache=FeatureCache(tmp_path)), []
    for name in ("fit_exact", "fit_descents"):
        real = getattr(probe, name)
        monkeypatch.setattr(probe, name, lambda *a, real=real, name=name: calls.append((name, len(a[0]))) or real(*a))
    engine._train_on(rows, KIND, [make_plan("ce", strength=25.0)], None)
    engine._train_on(rows, KIND, [make_plan("focal", strength=c) for c in (25.0, 5.0)], None)
    engine._train_on(rows, KIND, [make_plan("focal", strength=5.0)], None)
    assert calls == [("fit_exact", len(ladder(25.0))), ("fit_descents", 2)]
