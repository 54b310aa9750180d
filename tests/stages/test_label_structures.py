"""Recipes on rows with several labels."""

import pytest

from tailwise.catalog import METHODS, resolve
from tailwise.errors import SettingError
from tailwise.losses import LOSSES
from tailwise.stages.label_structures import (
    MULTILABEL_COUNTERPARTS,
    for_label_structure,
    for_multilabel,
    for_single_label,
)
from tailwise.stages.recipe import Component, Recipe, Stage


def test_parts_take_the_form_that_fits():
    recipe = for_multilabel(resolve("cas+focal+thresholds", {"loss.focus": 1.0}))
    assert recipe.stages[0].loss == Component("ml-focal", {"focus": 1.0})
    assert recipe.stages[0].sampler.name == "ml-cas"
    assert [step.name for step in recipe.posthoc] == ["label-thresholds"]
    assert for_multilabel(recipe) == recipe


def test_every_counterpart_of_a_loss_is_over_several_labels():
    for single, several in MULTILABEL_COUNTERPARTS["loss"].items():
        assert not LOSSES[single].multilabel, single
        assert LOSSES[several].multilabel, several


def test_every_method_either_fits_or_names_one_that_does():
    for name in METHODS:
        fault, recipe = "", None
        try:
            recipe = for_multilabel(resolve(name))
        except SettingError as error:
            fault = str(error)
        if recipe is None:
            assert "earest one" in fault or "decides for one class" in fault, name
        else:
            assert all(LOSSES[stage.loss.name].multilabel or stage.loss.params for stage in recipe.stages), name


def test_a_sum_of_losses_is_adapted_part_by_part():
    total = Component("weighted-sum", {"losses": ["ce", {"name": "focal", "focus": 1.0}], "weights": [1.0, 0.5]})
    adapted = for_multilabel(Recipe("sum", (Stage(loss=total),))).stages[0].loss
    assert adapted.params["losses"] == ["bce", {"name": "ml-focal", "focus": 1.0}]


@pytest.mark.parametrize(("name", "near"), [("adl", "ml-dice"), ("balanced-softmax", "db")])
def test_a_loss_without_counterpart_is_refused(name, near):
    with pytest.raises(SettingError, match=f"several. The nearest one for them is '{near}'"):
        for_multilabel(resolve(name))


@pytest.mark.parametrize(
    ("stage", "near"),
    [
        (Stage(loss=Component("db")), "balanced-softmax"),
        (Stage(sampler=Component("ml-cas")), "cas"),
        (Stage(sampler=Component("rfs")), "natural"),
    ],
)
def test_parts_for_several_labels_are_refused_on_one(stage, near):
    with pytest.raises(SettingError, match=f"one label per row. The nearest one for these data is '{near}'"):
        for_single_label(Recipe("x", (stage,)))


def test_a_parameter_that_would_be_lost_is_an_error():
    stage = Stage(sampler=Component("ros", {"ratio": 0.5}))
    with pytest.raises(SettingError, match="becomes 'ml-ros', which has no parameter 'ratio'"):
        for_multilabel(Recipe("x", (stage,)))


def test_post_hoc_steps_keep_their_parameters():
    recipe = Recipe(
        "x", posthoc=(Component("logit-adjustment", {"strength": 1.0}), Component("tau-norm", {"tau": 0.5}))
    )
    steps = for_multilabel(recipe).posthoc
    assert [(step.name, step.params) for step in steps] == [
        ("label-logit-adjustment", {"strength": 1.0}),
        ("label-tau-norm", {"tau": 0.5}),
    ]


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (Recipe("x", (Stage(loss=Component("focal", {"focus": "two"})),)), "loss 'focal': expected `focus`"),
        (Recipe("x", (Stage(loss=Component("focal", {"focuss": 2.0})),)), "loss 'focal' has no parameter 'focuss'"),
        (Recipe("x", (Stage(loss=Component("weighted-sum", {"losses": 3})),)), "'weighted-sum': expected `losses`"),
        (Recipe("x", (Stage(sampler=Component("cas", {"labels": [0]})),)), "sampler 'cas' takes `labels`"),
        (Recipe("x", (Stage(head=Component("cosine", {"scale": None})),)), "head 'cosine': expected `scale`"),
        (Recipe("x", head=Component("cosine", {"scale": "big"})), "head 'cosine': expected `scale`"),
        (Recipe("x", posthoc=(Component("thresholds", {"min_rows": 2.5}),)), "'thresholds': expected `min_rows`"),
    ],
)
@pytest.mark.parametrize("structure", ["single", "multi", "tags", "arcs"])
def test_parameters_are_checked_before_anything_is_trained(recipe, message, structure):
    with pytest.raises(SettingError, match=message):
        for_label_structure(recipe, structure)
