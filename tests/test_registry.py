import subprocess
import sys

import pytest

from tailwise.errors import SettingError, TailwiseError, UnknownNameError
from tailwise.losses import LOSSES
from tailwise.models.heads import HEADS
from tailwise.posthoc import POSTHOC
from tailwise.registry import Registry, did_you_mean
from tailwise.sampling import SAMPLERS
from tailwise.stages.schedules import SCHEDULES


@pytest.mark.parametrize("registry", [LOSSES, SAMPLERS, HEADS, POSTHOC, SCHEDULES], ids=lambda r: r.kind)
def test_every_entry_loads_and_is_what_it_says(registry):
    names = list(registry)
    assert names == sorted(names)
    for name in names:
        assert callable(registry[name])


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match=r"Unknown loss 'fokal'\. Did you mean 'focal'"):
        LOSSES["fokal"]


def test_unknown_parameter_suggests_the_nearest():
    with pytest.raises(SettingError, match=r"The loss 'focal' has no parameter 'focuss'\. Did you mean 'focus'\?"):
        LOSSES.check_parameters("focal", {"focuss": 1.0})


def test_entry_of_the_wrong_kind_is_refused():
    registry = Registry("loss", "tailwise.losses.base:Loss", {"wrong": "builtins:dict"})
    with pytest.raises(SettingError, match=r"not a subclass of tailwise\.losses\.base:Loss"):
        registry["wrong"]


def test_did_you_mean_lists_everything_when_nothing_is_near():
    assert did_you_mean("zzz", ["b", "a"]) == "Known: a, b."


def test_every_error_of_ours_has_one_root():
    assert issubclass(SettingError, TailwiseError)
    assert issubclass(SettingError, ValueError)


def test_import_is_light():
    code = (
        "import sys, tailwise; print([m for m in ('torch', 'numpy', 'transformers', 'datasets') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_resolves():
    import tailwise

    for name in tailwise.__all__:
        assert getattr(tailwise, name) is not None


def test_the_trainer_is_where_the_documentation_says():
    from tailwise.training import ImbalanceTrainer

    assert ImbalanceTrainer.__module__ == "tailwise.training.trainer"
