"""`tailwise predict --fast`: what it changes, and that it says so where it changes nothing."""

from types import SimpleNamespace

import pytest

from tailwise.cli.predict import _quicken


class Notes:
    """Collects what would be told."""

    def __init__(self):
        self.said = []

    def note(self, text):
        self.said.append(text)


@pytest.mark.parametrize("encoder", [None, "gains nothing"])
def test_a_model_that_gains_nothing_stays_and_is_told_of(encoder):
    if encoder is not None:
        encoder = SimpleNamespace()
        encoder.quick = lambda: encoder
    model, output = SimpleNamespace(encoder=encoder), Notes()
    _quicken(model, output)
    assert model.encoder is encoder
    assert "--fast changes nothing here" in output.said[0]


def test_a_frozen_encoder_is_replaced_by_its_quick_form():
    model, output = SimpleNamespace(encoder=SimpleNamespace(quick=lambda: "quick")), Notes()
    _quicken(model, output)
    assert model.encoder == "quick"
    assert output.said == ["multiplying in bfloat16"]
