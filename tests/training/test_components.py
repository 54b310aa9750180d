"""From a recipe to objects: what is filled in, what is refused, and that nothing is corrected twice."""

import warnings

import numpy as np
import pytest
import torch

from tailwise.catalog import METHODS
from tailwise.errors import SettingError, UnknownNameError
from tailwise.losses import LOSSES
from tailwise.sampling import SAMPLERS, ClassAwareSampler
from tailwise.stages.recipe import Component, Recipe, Stage
from tailwise.training import components
from tailwise.training.components import (
    build_loss,
    build_sampler,
    cross_fitted_logits,
    effective_prior,
    fit_posthoc,
)

COUNTS = np.array([600, 300, 80, 20])
NATURAL = COUNTS / COUNTS.sum()
LABELS = np.repeat(np.arange(4), COUNTS)
NAMES = ["a", "b", "c", "d"]
UNIFORM = np.full(4, 0.25)


def prior_after(sampler, loss, **params):
    stage = Stage(sampler=Component(sampler), loss=Component(loss, params))
    return effective_prior(stage, COUNTS, 4, NAMES)


def accuracy(target, predicted):
    return float((target == predicted).mean())


@pytest.mark.parametrize("name", list(LOSSES))
@pytest.mark.parametrize("sampler", [None, *SAMPLERS])
def test_every_loss_is_built_from_a_bare_name(name, sampler):
    component = Component(name, {"losses": ["ce", "focal"]} if name == "weighted-sum" else {})
    facts = {
        "class_counts": COUNTS,
        "class_names": NAMES,
        "sampler": None if sampler is None else Component(sampler),
        "catch_all": "a",
        "cell_counts": np.stack([COUNTS // 2, COUNTS - COUNTS // 2], axis=1),
    }
    if LOSSES[name].multilabel:
        with pytest.raises(SettingError, match=r"for several labels per row.* The nearest one for these data is"):
            build_loss(component, **facts)
        return
    loss = build_loss(component, **facts)
    seen = {"features": torch.randn(5, 3), "group": torch.tensor([0, 1, 0, 1, 0])}
    assert torch.isfinite(loss(0.1 * torch.randn(5, 4), torch.tensor([0, 1, 2, 3, -100]), **seen))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("group-ldam", "needs `cell_counts`, which these data do not give"),
        ("fairness-regulariser", "needs `num_groups`"),
    ],
)
def test_a_loss_without_what_it_needs_is_refused_in_words(name, message):
    with pytest.raises(SettingError, match=message):
        build_loss(Component(name), class_counts=COUNTS, class_names=NAMES)


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_every_sampler_is_built_from_a_bare_name(name):
    sampler = build_sampler(Component(name), LABELS, seed=5, num_classes=6, num_samples=17, draws=50)
    assert sampler.seed == 5
    assert len(sampler) == 17
    assert sampler.effective_prior().shape == (6,)


def test_parameters_of_the_recipe_win_over_those_of_the_data():
    loss = build_loss(Component("focal", {"focus": 0.5, "class_weights": [1, 2, 3, 4]}), class_counts=COUNTS)
    assert loss.focus == 0.5
    assert loss.class_weights.tolist() == [1, 2, 3, 4]
    by_name = build_loss(Component("wce", {"class_weights": {"d": 9.0}}), class_counts=COUNTS, class_names=NAMES)
    assert by_name.class_weights.tolist() == [1, 1, 1, 9]
    assert len(build_sampler(Component("cas", {"num_samples": 3}), LABELS, seed=0)) == 3
    own = build_loss(Component("balanced-softmax", {"prior": [0.25, 0.25, 0.25, 0.25]}), class_counts=COUNTS)
    np.testing.assert_allclose(own.effective_prior(torch.from_numpy(NATURAL)), NATURAL)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (
            lambda: build_loss(Component("focal", {"gamma": 2}), class_counts=COUNTS),
            SettingError,
            "The loss 'focal' has no parameter 'gamma'",
        ),
        (
            lambda: build_loss(Component("focl"), class_counts=COUNTS),
            UnknownNameError,
            "Unknown loss 'focl'. Did you mean 'focal'",
        ),
        (
            lambda: build_sampler(Component("cas", {"sample_per_class": 2}), LABELS, seed=0),
            SettingError,
            "no parameter 'sample_per_class'. Did you mean 'samples_per_class'",
        ),
        (
            lambda: fit_posthoc(
                Recipe("r", posthoc=(Component("tau-norm", {"tua": 1}),)),
                np.eye(2),
                np.arange(2),
                prior=np.full(2, 0.5),
                metric=accuracy,
            ),
            SettingError,
            "'tau-norm' has no parameter 'tua'",
        ),
        (
            lambda: build_loss(Component("wce", {"class_weights": "balancd"}), class_counts=COUNTS),
            UnknownNameError,
            "Did you mean 'balanced'",
        ),
        (lambda: effective_prior(Stage(), LABELS, 4), SettingError, "one training count per class"),
    ],
)
def test_mistakes_are_named(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_the_prior_after_sampling():
    np.testing.assert_allclose(prior_after("natural", "ce"), NATURAL)
    np.testing.assert_allclose(prior_after("cas", "ce"), UNIFORM)
    np.testing.assert_allclose(prior_after("ros", "ce"), UNIFORM)
    np.testing.assert_allclose(prior_after("rus", "ldam"), UNIFORM)


def test_the_prior_after_the_loss():
    np.testing.assert_allclose(prior_after("natural", "focal"), NATURAL)
    np.testing.assert_allclose(prior_after("natural", "ldam"), NATURAL)
    np.testing.assert_allclose(prior_after("natural", "wce"), UNIFORM)
    np.testing.assert_allclose(prior_after("natural", "balanced-softmax"), UNIFORM)
    root = np.sqrt(NATURAL) / np.sqrt(NATURAL).sum()
    np.testing.assert_allclose(prior_after("natural", "balanced-softmax", strength=0.5), root)
    np.testing.assert_allclose(prior_after("natural", "wce", class_weights="inverse_sqrt"), root)


@pytest.mark.parametrize("loss", ["wce", "balanced-softmax"])
@pytest.mark.parametrize("sampler", ["cas", "ros", "rus"])
def test_a_balancing_sampler_leaves_a_correcting_loss_nothing_to_correct(loss, sampler):
    np.testing.assert_allclose(prior_after(sampler, loss), UNIFORM)
    built = build_loss(Component(loss), class_counts=COUNTS, sampler=Component(sampler))
    logits, target = torch.randn(20, 4), torch.arange(20) % 4
    torch.testing.assert_close(built(logits, target), torch.nn.functional.cross_entropy(logits, target))


def test_a_loss_corrects_what_a_partly_balancing_sampler_leaves():
    half = Component("ros", {"ratio": 0.5})
    for name in ("wce", "balanced-softmax"):
        stage = Stage(sampler=half, loss=Component(name))
        np.testing.assert_allclose(effective_prior(stage, COUNTS, 4), UNIFORM)
    drawn = np.array([600, 300, 300, 300])
    weights = build_loss(Component("wce"), class_counts=COUNTS, sampler=half).class_weights
    np.testing.assert_allclose(weights / weights[0], drawn[0] / drawn)


@pytest.mark.parametrize("sampler", ["cas", "ros", "rus"])
def test_weights_without_the_catch_all_class_follow_what_is_drawn(sampler):
    facts = {"class_counts": COUNTS, "class_names": NAMES, "catch_all": "a"}
    built = build_loss(Component("catch-all-wce"), sampler=Component(sampler), **facts)
    np.testing.assert_allclose(built.class_weights, 1.0)
    half = build_loss(Component("catch-all-wce"), sampler=Component("power", {"power": 0.5}), **facts)
    np.testing.assert_allclose(half.class_weights[2:] / half.class_weights[1], np.sqrt(300 / COUNTS[2:]))
    natural = build_loss(Component("catch-all-wce"), **facts).class_weights
    assert natural.tolist() == pytest.approx([1.0, 400 / 900, 400 / 240, 400 / 60])
    given = Component("catch-all-wce", {"class_counts": COUNTS.tolist()})
    assert torch.equal(build_loss(given, sampler=Component(sampler), **facts).class_weights, natural)


@pytest.mark.parametrize("name", ["confusion-aware", "confusion-aware-f1"])
def test_confusion_costs_that_nothing_sets_are_refused(name):
    facts = {"class_counts": COUNTS, "class_names": NAMES, "catch_all": "a"}
    unset = Component(name, {"mode": "population"})
    message = rf"{name}' with mode 'population' needs a `cost_matrix`.* plain cross-entropy.*mode 'instance'.*`update_c"
    for component in (unset, Component("weighted-sum", {"losses": ["ce", unset.to_data()]})):
        with pytest.raises(SettingError, match=message):
            build_loss(component, **facts)
    costs = (np.ones((4, 4)) - np.eye(4)).tolist()
    built = build_loss(Component(name, {"mode": "population", "cost_matrix": costs}), **facts)
    logits, target = torch.randn(8, 4), torch.arange(8) % 4
    assert built(logits, target) > build_loss(Component(name, {"reg_weight": 0.0}), **facts)(logits, target)


def test_margins_keep_the_natural_counts_under_re_sampling():
    plain = build_loss(Component("ldam"), class_counts=COUNTS)
    sampled = build_loss(
        Component("ldam", {"class_weights": "balanced"}), class_counts=COUNTS, sampler=Component("cas")
    )
    assert torch.equal(plain.margins, sampled.margins)
    np.testing.assert_allclose(sampled.class_weights, 1.0)


def test_an_empty_class_is_survived():
    counts = np.array([50, 0, 10])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for sampler in SAMPLERS:
            for loss in dict.fromkeys(
                method.recipe().stages[-1].loss for method in METHODS.values() if "text" in method.tasks
            ):
                stage = Stage(sampler=Component(sampler), loss=loss)
                prior = effective_prior(stage, counts, 3, ["a", "b", "c"], "a")
                assert np.isfinite(prior).all()
                assert prior.sum() == pytest.approx(1.0)


def posthoc_case():
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(4, 6)), np.log(NATURAL)
    target = np.concatenate([np.repeat(np.arange(4), 10), rng.choice(4, 200, p=NATURAL)])
    features = 0.8 * weight[target] + rng.normal(size=(target.size, 6))
    return features @ weight.T + bias, target, weight, bias, features


def test_steps_are_fitted_on_what_the_ones_before_them_leave():
    logits, target, weight, bias, features = posthoc_case()
    recipe = Recipe(
        "chain",
        posthoc=(
            Component("temperature"),
            Component("tau-norm", {"tau": 1.0}),
            Component("logit-adjustment", {"strength": 0.5}),
            Component("logit-adjustment", {"strength": 1.0}),
            Component("temperature"),
        ),
    )
    steps = fit_posthoc(recipe, logits, target, prior=NATURAL, metric=accuracy, weight=weight, bias=bias)
    unit = weight / np.linalg.norm(weight, axis=1, keepdims=True)
    np.testing.assert_allclose(steps[1](steps[0](logits)), features @ unit.T, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(steps[2].bias, -0.5 * np.log(NATURAL))
    left = np.sqrt(NATURAL) / np.sqrt(NATURAL).sum()
    np.testing.assert_allclose(steps[3].bias, -np.log(left))
    scores = logits
    for step in steps:
        scores = step(scores)
    again = fit_posthoc(
        Recipe("t", posthoc=(Component("temperature"),)), scores, target, prior=NATURAL, metric=accuracy
    )
    assert again[0].details["temperature"] == pytest.approx(1.0, rel=1e-6)


def test_adjusting_twice_at_full_strength_is_adjusting_once():
    logits, target, *_ = posthoc_case()
    twice = Recipe("twice", posthoc=(Component("logit-adjustment", {"strength": 1.0}),) * 2)
    first, second = fit_posthoc(twice, logits, target, prior=NATURAL, metric=accuracy)
    np.testing.assert_allclose(first.bias, -np.log(NATURAL))
    np.testing.assert_allclose(second.bias, second.bias[0])


def test_logit_adjustment_after_a_balancing_recipe_decides_as_without():
    logits, target, *_ = posthoc_case()
    adjusted = Recipe("la", posthoc=(Component("logit-adjustment", {"strength": 1.0}),))
    for sampler, loss in (("cas", "ce"), ("natural", "balanced-softmax"), ("natural", "wce"), ("cas", "wce")):
        prior = prior_after(sampler, loss)
        (step,) = fit_posthoc(adjusted, logits, target, prior=prior, metric=accuracy)
        np.testing.assert_array_equal(step(logits).argmax(axis=1), logits.argmax(axis=1))


def test_rows_of_classes_that_training_does_not_have_take_no_part():
    logits, target, weight, bias, _ = posthoc_case()
    names = ("temperature", "tau-norm", "logit-adjustment", "thresholds")
    recipe = Recipe("all", posthoc=tuple(Component(n) for n in names))
    wanted = fit_posthoc(recipe, logits, target, prior=NATURAL, metric=accuracy, weight=weight, bias=bias)
    more = np.concatenate([logits, np.full((7, 4), 3.0)])
    labels = np.concatenate([target, np.arange(4, 11)])
    found = fit_posthoc(recipe, more, labels, prior=NATURAL, metric=accuracy, weight=weight, bias=bias)
    assert [s.to_dict() for s in found] == [s.to_dict() for s in wanted]
    with pytest.raises(SettingError, match="none of its rows has a class that training has"):
        fit_posthoc(recipe, logits[:2], np.array([4, 5]), prior=NATURAL, metric=accuracy)


def test_a_recipe_without_steps_needs_no_validation():
    assert fit_posthoc(Recipe("ce"), np.zeros((0, 4)), np.zeros(0, dtype=int), prior=NATURAL, metric=accuracy) == ()


def test_the_sampler_of_a_stage_draws_from_the_labels():
    sampler = build_sampler(Component("cas"), LABELS, seed=3, num_classes=4)
    np.testing.assert_array_equal(sampler.plan(2), ClassAwareSampler(LABELS, seed=3).plan(2))


def test_scores_for_choosing_come_from_steps_that_never_saw_the_row(monkeypatch):
    generator = np.random.default_rng(0)
    target = np.repeat(np.arange(4), [40, 20, 8, 2])
    logits = generator.normal(size=(70, 4))
    recipe = Recipe("thresholds", posthoc=(Component("thresholds"),))
    (step,) = fit_posthoc(recipe, logits, target, prior=NATURAL, metric=accuracy)
    fitted_on = []

    def fit(recipe, rows, labels, **facts):
        steps = fit_posthoc(recipe, rows, labels, **facts)
        fitted_on.append((rows, np.bincount(labels, minlength=4), steps))
        return steps

    monkeypatch.setattr(components, "fit_posthoc", fit)
    held_out = cross_fitted_logits(recipe, logits, target, prior=NATURAL, metric=accuracy)
    scored = np.zeros(70, dtype=int)
    for rows, counts, (own_step,) in fitted_on:
        left_out = ~(logits[:, None] == rows).all(axis=2).any(axis=1)
        np.testing.assert_array_equal(held_out[left_out], own_step(logits[left_out]))
        scored += left_out
        assert abs(counts[:3] - [32, 16, 6.4]).max() < 1, "the parts are stratified"
    assert scored.tolist() == [1] * 70
    # Scores without information: thresholds judged on the rows they were fitted on seem to gain.
    assert accuracy(target, step(logits).argmax(1)) > accuracy(target, held_out.argmax(1)) + 0.02


def test_cross_fitting_leaves_scores_alone_where_there_is_nothing_to_fit():
    logits, target = np.random.default_rng(1).normal(size=(6, 4)), np.array([0, 1, 2, 3, 4, 4])
    settings = {"prior": NATURAL, "metric": accuracy}
    assert cross_fitted_logits(Recipe("ce"), logits, target, **settings) is logits
    thresholds = Recipe("thresholds", posthoc=(Component("thresholds"),))
    assert cross_fitted_logits(thresholds, logits, np.full(6, 7), **settings) is logits
    one = cross_fitted_logits(thresholds, logits[:1], target[:1], **settings)
    np.testing.assert_array_equal(one, logits[:1])
