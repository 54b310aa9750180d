"""How a probe fits the head of a recipe: by the loss, the head, the sampler and what the recipe asks for."""

from dataclasses import replace

import pytest

from tailwise.catalog import METHODS
from tailwise.losses import LOSSES, WeightedSumLoss
from tailwise.stages.label_structures import for_label_structure
from tailwise.stages.probe_paths import loss_path, probe_path, takes_lexical
from tailwise.stages.recipe import Component, Recipe, Stage

DESCENTS = ("focal", "focal-sigmoid", "dice", "ce-dice", "adl", "poly-1", "ranking", "csr", "asl-single")
LABEL_DESCENTS = ("ml-focal", "r-fl", "ntr-fl", "cb-fl", "cb-ntr", "db", "asl", "ml-dice")
STEPS = ("batch-dice", "ldam", "influence-balanced", "class-dro", "term", "drw", "ldam-drw", "drs", "feedback-loop")


def path_of(name, structure="single"):
    return probe_path(for_label_structure(METHODS[name].recipe(), structure), structure)


@pytest.mark.parametrize("name", DESCENTS)
def test_a_sum_over_rows_that_is_not_convex_goes_downhill_on_any_features(name):
    assert path_of(name) == "descent"
    assert takes_lexical(METHODS[name].recipe())


@pytest.mark.parametrize("name", LABEL_DESCENTS)
def test_a_sum_over_labels_that_is_not_convex_goes_downhill_on_any_features(name):
    assert path_of(name, "multi") == "descent"
    assert takes_lexical(for_label_structure(METHODS[name].recipe(), "multi"), "multi")


@pytest.mark.parametrize("name", ["bce", "wbce", "pos-weight", "ml-ldam", "lsep", "zlpr", "ml-ros", "thresholds"])
def test_convex_losses_over_labels_are_fitted_exactly(name):
    assert path_of(name, "multi") == "exact"


@pytest.mark.parametrize("name", STEPS)
def test_stages_cosines_states_and_losses_that_mix_rows_take_steps(name):
    assert path_of(name) == "steps"
    assert not takes_lexical(METHODS[name].recipe())


@pytest.mark.parametrize("setting", ["learning_rate", "weight_decay", "epochs", "batch_size"])
def test_a_recipe_that_sets_steps_takes_them(setting):
    recipe = METHODS["focal"].recipe()
    value = 32 if setting == "batch_size" else 0.1
    assert probe_path(replace(recipe, optimisation=replace(recipe.optimisation, **{setting: value}))) == "steps"
    assert probe_path(replace(recipe, optimisation=replace(recipe.optimisation, C=5.0))) == "descent"


def test_settings_decide_where_the_loss_is_known():
    recipe = Recipe("easy", (Stage(loss=Component("poly-1", {"epsilon": 0.5})),))
    assert probe_path(recipe) == "descent"
    assert probe_path(recipe, loss_of=lambda stage: LOSSES[stage.loss.name](**stage.loss.params)) == "exact"
    assert loss_path(LOSSES["poly-1"](epsilon=3.0)) == "descent"


def test_a_sum_goes_the_way_of_its_parts():
    mixed = Component("weighted-sum", {"losses": ["ce", "batch-dice"]})
    assert probe_path(Recipe("mixed", (Stage(loss=mixed),))) == "steps"
    convex = Component("weighted-sum", {"losses": ["ce", "balanced-softmax"]})
    assert probe_path(Recipe("convex", (Stage(loss=convex),))) == "descent"
    assert loss_path(WeightedSumLoss([LOSSES["ce"](), LOSSES["dice"]()])) == "descent"
    assert loss_path(WeightedSumLoss([LOSSES["ce"](), LOSSES["batch-dice"]()])) == "steps"


def test_costs_that_are_given_stay_as_they_are():
    costs = {"mode": "population", "cost_matrix": [[0.0, 1.0], [1.0, 0.0]]}
    assert loss_path(LOSSES["confusion-aware"](**costs)) == "descent"
    assert loss_path(LOSSES["class-dro"](num_classes=2)) == "steps"
