import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tailwise.catalog import METHODS, resolve
from tailwise.errors import SettingError
from tailwise.stages.recipe import Component, Optimisation, Recipe, Stage

names = st.sampled_from(["ce", "focal", "ldam", "cas", "linear", "x y"])
params = st.dictionaries(
    st.sampled_from(["focus", "scale", "tau"]),
    st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-5, 5), st.booleans(), st.text(max_size=5)),
)
components = st.builds(Component, names, params)
stages = st.builds(
    Stage, sampler=components, loss=components, trainable=st.sampled_from(["all", "head"]), share=st.just(0.5),
    head=st.none() | components, learning_rate_scale=st.floats(0.01, 2.0),
)  # fmt: skip
RATES = st.none() | st.floats(1e-6, 1.0)
recipes = st.builds(
    Recipe, name=st.text(min_size=1, max_size=10), stages=st.tuples(stages, stages), head=components,
    posthoc=st.lists(components, max_size=2).map(tuple),
    optimisation=st.builds(Optimisation, learning_rate=RATES, head_learning_rate=RATES),
)  # fmt: skip


@given(recipes)
def test_recipes_survive_json_and_yaml_unchanged(recipe):
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe


def test_unknown_key_is_an_error_with_a_suggestion():
    with pytest.raises(SettingError, match=r"stage 1: unknown key 'los'\. Did you mean 'loss'\?"):
        Recipe.from_dict({"name": "x", "stages": [{"los": "ce"}]})
    with pytest.raises(SettingError, match=r"optimisation: unknown key 'learning_rat'"):
        Recipe.from_dict({"name": "x", "optimisation": {"learning_rat": 1.0}})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a", "Expected a mapping"),
        ("name: [", "not valid YAML"),
        ("stages: []", "A recipe needs a `name`"),
        ("name: x\nstages: []", "expected `stages` to be a list"),
        ("name: x\nstages: [{share: 0.5}]", "shares of the stages of 'x' sum to 0.5"),
        ("name: x\nstages: [{trainable: body}]", "Expected `trainable` to be 'all' or 'head'"),
        ("name: x\nstages: [{share: all}]", "Expected `share` to be a number from 0 to 1, but got 'all'"),
        (
            "name: x\noptimisation: {learning_rate: fast}",
            "`learning_rate` to be a number from 0, but got 'fast'",
        ),
        ("name: x\noptimisation: {batch_size: 0.5}", "Expected `batch_size` to be a whole number from 1, but got 0.5"),
        ("name: x\nstages: [{loss: 3}]", "stage 1, loss: expected a name or a mapping"),
        ("name: x\nstages: [{loss: {name: ce, 5: 3}}]", "'ce': expected parameters to have names, but got 5"),
        ("name: x\nposthoc: thresholds", "'x': expected `posthoc` to be a list, but got 'thresholds'"),
    ],
)
def test_broken_recipes_are_refused_in_words(text, message):
    with pytest.raises(SettingError, match=message):
        Recipe.from_yaml(text)


def test_numbers_with_an_exponent_are_numbers():
    recipe = Recipe.from_yaml("name: x\nstages: [{sampler: {name: rfs, threshold: 1e-3}}]\noptimisation: {epochs: 1e1}")
    assert recipe.stages[0].sampler == Component("rfs", {"threshold": 0.001})
    assert recipe.optimisation.epochs == 10.0
    named = Recipe("1e3", head=Component("linear", {"name of a class": "1e-3"}))
    assert Recipe.from_yaml(named.to_yaml()) == named


def test_equal_recipes_are_equal_and_hashable():
    assert {Component("focal", {"a": 1, "b": 2}), Component("focal", {"b": 2, "a": 1})} == {
        Component("focal", {"a": 1, "b": 2})
    }


def test_deferred_reweighting_turns_plain_loss_into_the_weighted_one():
    first, second = resolve("drw", {"schedule.start": 0.8}).stages
    assert (first.loss.name, first.share) == ("ce", 0.8)
    assert (second.loss.name, second.share) == ("wce", pytest.approx(0.2))
    assert second.loss.params == {"class_weights": "effective_number", "beta": 0.9999}


def test_classifier_retraining_freezes_the_encoder_and_starts_a_fresh_head():
    first, second = resolve("crt+focal").stages
    assert (first.trainable, first.head, first.sampler.name) == ("all", None, "natural")
    assert (second.trainable, second.head, second.sampler.name) == ("head", Component("linear"), "cas")
    assert {first.loss.name, second.loss.name} == {"focal"}


@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_has_a_recipe_that_survives_yaml(name):
    recipe = METHODS[name].recipe()
    assert Recipe.from_dict(yaml.safe_load(recipe.to_yaml())) == recipe
