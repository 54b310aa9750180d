"""Recipes on a frozen encoder: which stages are left, with how many steps, and what is written down."""

import pytest

from tailwise.catalog import METHODS
from tailwise.errors import SettingError, UnknownNameError
from tailwise.stages.recipe import Component, Optimisation, Recipe, Stage
from tailwise.training.probe_plan import plan_probe

SETTINGS = {"num_rows": 1000, "epochs": 3, "batch_size": 64, "learning_rate": 0.01, "weight_decay": 0.1}
STEPS = 47  # ceil(3 * 1000 / 64)


def plan(recipe, **changes):
    return plan_probe(recipe, 5, **{**SETTINGS, **changes})


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_takes_the_steps_of_the_baseline_or_none(name):
    planned = plan(METHODS[name].recipe())
    assert sum(stage.steps for stage in planned.stages) == (0 if name in {"ncm", "tfidf-svm"} else STEPS)


def test_shares_divide_the_steps():
    planned = plan(METHODS["ldam-drw"].recipe())
    assert [stage.steps for stage in planned.stages] == [28, 19]
    assert [stage.learning_rate_scale for stage in planned.stages] == [1.0, 0.1]
    assert planned.head == Component("cosine")
    assert not planned.notes


def test_a_stage_whose_head_is_replaced_is_skipped_and_its_steps_go_on():
    planned = plan(METHODS["crt"].recipe())
    (stage,) = planned.stages
    assert (stage.sampler.name, stage.steps) == ("cas", STEPS)
    (note,) = planned.notes
    assert "what comes before stage 2 of 2" in note
    assert "trained with the sampler 'cas' from the start." in note


def test_class_means_need_no_step():
    planned = plan(METHODS["ncm"].recipe())
    assert not planned.stages
    assert planned.head.name == "class-means"
    assert "was fitted in closed form" in planned.notes[0]


def test_a_closed_form_head_in_a_stage_with_steps_takes_none_and_says_so():
    planned = plan(Recipe("means", head=Component("class-means")))
    assert not planned.stages
    assert planned.notes == ("The head 'class-means' is fitted in closed form; no step was taken.",)


def test_going_on_after_a_closed_form_is_refused():
    stages = (Stage(share=0.5, head=Component("class-means")), Stage(share=0.5))
    with pytest.raises(SettingError, match="goes on training the head 'class-means'"):
        plan(Recipe("means", stages))


def test_the_recipe_goes_before_the_engine():
    chosen = Optimisation(learning_rate=0.5, weight_decay=0.0, epochs=1, batch_size=100)
    planned = plan(Recipe("ce", optimisation=chosen))
    assert (planned.learning_rate, planned.weight_decay, planned.batch_size) == (0.5, 0.0, 100)
    assert planned.stages[0].steps == 10
    head = Optimisation(learning_rate=1e-5, head_learning_rate=0.5)
    assert plan(Recipe("ce", optimisation=head)).learning_rate == 0.5


def test_a_negative_seed_is_refused():
    with pytest.raises(SettingError, match="`seed` to be a non-negative integer, but got -1"):
        plan_probe(Recipe("ce"), -1, **SETTINGS)


def test_an_unknown_head_is_named():
    with pytest.raises(UnknownNameError, match="Did you mean 'linear'"):
        plan(Recipe("ce", head=Component("linera")))
