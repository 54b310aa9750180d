"""Parameters against annotations, and what a registry says of those that do not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest

from tailwise.errors import SettingError, UnknownNameError
from tailwise.losses import LOSSES
from tailwise.models.heads import HEADS
from tailwise.models.heads.building import build_head
from tailwise.parameters import UNFIT, fitted, type_hints
from tailwise.posthoc import POSTHOC
from tailwise.sampling import MULTILABEL_SAMPLERS, SAMPLERS, SENTENCE_SAMPLERS
from tailwise.stages.recipe import Component
from tailwise.stages.schedules import SCHEDULES
from tailwise.training.components import build_sampler

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, NDArray

ARRAY = np.array([1.0, 2.0])


def annotated(count: int, items: Iterable[int] | None, numbers: ArrayLike | None, values: NDArray[Any]) -> None:
    """A function with annotations that only type checkers see."""


HINTS = type_hints(annotated)


@pytest.mark.parametrize(
    ("hint", "fit", "unfit"),
    [
        (int, [3, -1, np.int64(3)], ["3", True, None, 2.5, float("nan"), float("inf"), 10**30, 1e300, [1]]),
        (float, [3, 0.5, float("inf"), np.float32(0.5)], ["0.5", False, None, [0.5], 10**30, 1j]),
        (bool, [True, False], ["no", 0, 1.0, None]),
        (str, ["", "a"], [3, None, ["a"]]),
        (int | None, [None, 3], ["3", 2.5]),
        (float | str, [0.5, "max"], [None, True, []]),
        (Literal["a", "b"], ["a"], ["c", None, 1, ["a"], ARRAY]),
        (Sequence[float], [[1, 0.5], [], ARRAY], ["12", 3, None, {}, [1, "a"], [None], [[1]]]),
        (Sequence[str] | None, [None, ["a"]], ["ab", [1]]),
        (Mapping[str, Any], [{}, {"a": 1}], [[], "a", None]),
        (HINTS["numbers"], [None, 1, [[1, 2], [3, 4]], [True], ARRAY], ["a", [1, "a"], [[1], [2, 3]], {}]),
        (HINTS["items"], [None, 1, "a"], []),
        (Any, [None, 1, "a"], []),
    ],
    ids=str,
)
def test_what_fits_an_annotation_is_kept_and_the_rest_is_not(hint, fit, unfit):
    for value in fit:
        kept = fitted(value, hint, {})
        assert kept is value or (isinstance(value, list) and kept == value), value
    for value in unfit:
        assert fitted(value, hint, {}) is UNFIT, value


def test_a_whole_float_becomes_an_int_where_one_is_asked_for():
    for hint in (int, int | None):
        whole = fitted(1000.0, hint, {})
        assert (whole, type(whole)) == (1000, int)
    assert type(fitted(1000.0, float, {})) is float


def test_annotations_for_type_checkers_are_resolved_where_they_can_be():
    assert HINTS["count"] is int
    assert "values" not in HINTS


@pytest.mark.parametrize(
    "registry",
    [LOSSES, SAMPLERS, MULTILABEL_SAMPLERS, SENTENCE_SAMPLERS, HEADS, POSTHOC, SCHEDULES],
    ids=lambda r: r.kind,
)
def test_the_defaults_of_every_entry_fit_its_own_annotations(registry):
    for name in registry:
        known = registry.parameters(name)
        defaults = {
            key: parameter.default
            for key, parameter in known.items()
            if parameter.default is not parameter.empty and key not in ("offsets", "num_classes")
        }
        for key, value in registry.check_parameters(name, defaults).items():
            assert value == (list(defaults[key]) if isinstance(value, list) else defaults[key]), (name, key)


@pytest.mark.parametrize(
    ("registry", "name", "params", "message"),
    [
        (SAMPLERS, "ros", {"ratio": "half"}, "sampler 'ros': expected `ratio` to be a number, but got 'half'"),
        (SAMPLERS, "ros", {"ratio": None}, "`ratio` to be a number, but got None"),
        (SAMPLERS, "ros", {"ratio": True}, "`ratio` to be a number, but got True"),
        (SAMPLERS, "ros", {"num_samples": 100.5}, "`num_samples` to be a whole number or null, but got 100.5"),
        (SAMPLERS, "ros", {"labels": [0, 1]}, "sampler 'ros' takes `labels` from the data. Leave it out"),
        (SAMPLERS, "ros", {5: 3}, "has no parameter 5. Known: num_samples, ratio, seed"),
        (SAMPLERS, "frequent", {"form": "papre"}, "`form` to be one of 'paper', 'word2vec', but got 'papre'"),
        (SAMPLERS, "mixed", {"samplers": 3}, r"a list \(each item a name or a mapping with `name`\), but got 3"),
        (SAMPLERS, "mixed", {"samplers": ["cas", 5]}, r"but got \['cas', 5\]"),
        (SAMPLERS, "mixed", {"samplers": ["cas", ["cas"]]}, r"but got \['cas', \['cas'\]\]"),
        (SAMPLERS, "mixed", {"samplers": ["cas", {"name": "ros", "ratio": "x"}]}, "sampler 'ros': expected `ratio`"),
        (SAMPLERS, "mixed", {"samplers": ["cas", {"name": "ros", 5: 3}]}, "sampler 'ros' has no parameter 5"),
        (SAMPLERS, "mixed", {"samplers": ["cas", {"name": "ros", "labels": []}]}, "sampler 'ros' takes `labels`"),
        (SAMPLERS, "mixed", {"shares": [1, "a"]}, r"a list \(each item a number\) or null, but got \[1, 'a'\]"),
        (MULTILABEL_SAMPLERS, "ml-ros", {"retire": "no"}, "`retire` to be true or false, but got 'no'"),
        (MULTILABEL_SAMPLERS, "rfs", {"mentions": [1, "a", 3]}, r"`mentions` to be numbers or null, but got \[1, 'a'"),
        (SENTENCE_SAMPLERS, "sentence-rarity", {"catch_all": 1.5}, "`catch_all` to be a whole number, but got 1.5"),
        (LOSSES, "focal", {"focus": "two"}, "loss 'focal': expected `focus` to be a number, but got 'two'"),
        (LOSSES, "weighted-sum", {"losses": ["ce", {"name": "focal", "focus": "two"}]}, "'focal': expected `focus`"),
        (LOSSES, "weighted-sum", {"losses": ["ce", {"focus": 1.0}]}, r"a name or a mapping with `name`"),
        (HEADS, "cosine", {"scale": "big"}, "head 'cosine': expected `scale` to be a number, but got 'big'"),
        (HEADS, "cosine", {"num_features": 3}, "head 'cosine' takes `num_features` from the data"),
        (POSTHOC, "thresholds", {"min_rows": 2.5}, "post-hoc step 'thresholds': expected `min_rows` to be a whole"),
        (SCHEDULES, "drs", {"stage": 1}, "schedule 'drs' takes `stage` from the data"),
    ],
)
def test_a_parameter_of_the_wrong_type_is_refused_in_words(registry, name, params, message):
    with pytest.raises(SettingError, match=message):
        registry.check_parameters(name, params)


def test_an_unknown_component_inside_of_another_is_refused():
    with pytest.raises(UnknownNameError, match="Unknown sampler 'casx'"):
        SAMPLERS.check_parameters("mixed", {"samplers": ["cas", {"name": "casx"}]})


def test_whole_floats_reach_the_component_as_ints():
    inner = {"name": "cas", "samples_per_class": 2.0}
    sampler = build_sampler(Component("mixed", {"samplers": ["natural", inner], "num_samples": 1e2}), [0, 1, 1], seed=0)
    assert len(sampler.plan(0)) == 100
    assert sampler.samplers[1].samples_per_class == 2
    assert inner == {"name": "cas", "samples_per_class": 2.0}


def test_what_builds_a_component_checks_it():
    with pytest.raises(SettingError, match="`num_samples` to be a whole number or null, but got 'all'"):
        build_sampler(Component("progressive", {"num_samples": "all"}), [0, 1, 1], seed=0, draws=30)
    with pytest.raises(SettingError, match="`scale` to be a number, but got 'big'"):
        build_head("cosine", {"scale": "big"}, 4, 2)
