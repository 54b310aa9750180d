import pytest

from tailwise.catalog import METHODS, resolve, search_space
from tailwise.catalog.applicability import recipe_refusal
from tailwise.data.task import TASKS
from tailwise.errors import SettingError, UnknownNameError
from tailwise.losses import LOSSES
from tailwise.losses.distribution_balanced import DB_VARIANTS
from tailwise.models.heads import HEADS
from tailwise.posthoc import POSTHOC
from tailwise.sampling import MULTILABEL_SAMPLERS, SAMPLERS, SENTENCE_SAMPLERS
from tailwise.stages.recipe import Component, Recipe, Stage


@pytest.mark.parametrize("name", list(METHODS))
def test_every_component_of_every_method_is_registered_with_its_parameters(name):
    recipe = METHODS[name].recipe()
    for stage in recipe.stages:
        LOSSES.check_parameters(stage.loss.name, stage.loss.params)
        registries = (SAMPLERS, MULTILABEL_SAMPLERS, SENTENCE_SAMPLERS)
        (registry,) = (known for known in registries if stage.sampler.name in known)
        registry.check_parameters(stage.sampler.name, stage.sampler.params)
        if stage.head is not None:
            HEADS.check_parameters(stage.head.name, stage.head.params)
    HEADS.check_parameters(recipe.head.name, recipe.head.params)
    for step in recipe.posthoc:
        POSTHOC.check_parameters(step.name, step.params)


def losses_of(loss):
    """Name of a loss and of the parts of a sum."""
    return {loss.name}.union(*(losses_of(Component.from_data(part)) for part in loss.params.get("losses", ())))


def test_every_loss_has_a_method():
    used = [losses_of(stage.loss) for method in METHODS.values() for stage in method.recipe().stages]
    assert set().union(*used) == set(LOSSES)
    weight = METHODS["uniform-pos-weight"]
    assert weight.recipe().stages[0].loss == Component("pos-bce", {"positive_weights": 2.0})
    assert weight.space == {"loss.positive_weights": (2.0, 5.0, 10.0)}


@pytest.mark.parametrize("name", list(METHODS))
def test_every_value_of_the_search_space_gives_a_recipe(name):
    for path, values in METHODS[name].space.items():
        recipes = [resolve(name, {path: value}) for value in values]
        assert len({r.to_yaml() for r in recipes}) == len(values), f"{path} changes nothing"


@pytest.mark.parametrize("name", list(METHODS))
def test_first_value_of_the_search_space_is_the_default(name):
    defaults = {path: values[0] for path, values in METHODS[name].space.items()}
    tuned, plain = resolve(name, defaults), resolve(name)
    for one, other in zip(tuned.stages, plain.stages, strict=True):
        assert (one.share, one.sampler) == (other.share, other.sampler)


def test_composition_joins_sampler_and_loss():
    recipe = resolve("cas+focal+logit-adjustment", {"loss.focus": 1.0})
    (stage,) = recipe.stages
    assert (stage.sampler.name, stage.loss.name, stage.loss.params["focus"]) == ("cas", "focal", 1.0)
    assert [c.name for c in recipe.posthoc] == ["logit-adjustment"]
    assert recipe.name == "cas+focal+logit-adjustment"


def test_ldam_plus_drw_is_ldam_drw():
    assert resolve("ldam+drw").stages == resolve("ldam-drw").stages


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("cas+ros", SettingError, "sets the sampler twice, to 'cas' and to 'ros'"),
        ("focall", UnknownNameError, "Unknown method 'focall'. Did you mean 'focal'"),
        ("none.yaml", SettingError, "There is no recipe file 'none.yaml'"),
        ("", UnknownNameError, "Unknown method ''"),
    ],
)
def test_wrong_specs_are_refused_in_words(spec, error, message):
    with pytest.raises(error, match=message):
        resolve(spec)


def test_parameter_that_nothing_takes_is_refused():
    with pytest.raises(SettingError, match=r"'focal' has no parameter 'sampler\.ratio'"):
        resolve("focal", {"sampler.ratio": 2.0})


def test_recipe_files_mappings_and_recipes_pass_through(tmp_path):
    recipe = resolve("ldam-drw")
    file = tmp_path / "mine.yaml"
    file.write_text(recipe.to_yaml())
    assert resolve(file) == resolve(str(file)) == resolve(recipe.to_dict()) == resolve(recipe) == recipe
    assert search_space(str(file)) == {}
    with pytest.raises(SettingError, match="not on a complete recipe"):
        resolve(Recipe("x"), {"loss.focus": 1.0})


def test_search_space_of_a_composition_is_the_union():
    assert set(search_space("rus+focal")) == {"sampler.ratio", "loss.focus"}


def test_the_ablations_of_huang_et_al_are_those_of_the_loss():
    for name, params in DB_VARIANTS.items():
        (stage,) = METHODS[name].recipe().stages
        assert (stage.loss.name, stage.loss.params) == ("db", dict(sorted(params.items())))


@pytest.mark.parametrize("name", list(METHODS))
def test_a_method_runs_where_the_survey_says_it_applies(name):
    method = METHODS[name]
    if not method.engines:
        assert method.tasks == ()
        return
    assert ("text" in method.tasks) == (method.settings["multiclass"] != "no")
    softmax_only = {"dice", "adl"}  # the survey has them for several labels; their sigmoid form is not built
    if method.settings["multilabel"] in {"applied", "applicable"} and name not in softmax_only:
        assert "multilabel" in method.tasks


def test_a_refusal_names_the_nearest_method():
    assert "'ml-dice'" in METHODS["adl"].refusal(TASKS["multilabel"])
    assert "'balanced-softmax'" in METHODS["db"].refusal(TASKS["tagging"])
    assert "loops of one's own" in METHODS["group-dro"].refusal(TASKS["text"])
    assert METHODS["cas"].refusal(TASKS["multilabel"]) is None


def test_confusion_costs_that_nothing_sets_are_refused_before_any_training():
    def refusal(**params):
        part = Component("confusion-aware", {"mode": "population", **params}).to_data()
        loss = Component("weighted-sum", {"losses": ["ce", part]})
        return recipe_refusal(Recipe("mine", (Stage(loss=loss),)), "single")

    assert "needs a `cost_matrix`, for nothing in a recipe sets its costs" in refusal()
    assert refusal(cost_matrix=[[0, 1], [1, 0]]) is None
