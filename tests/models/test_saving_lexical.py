"""Probes with a head on lexical features on disk: they come back as they were, and damage is refused."""

import json

import numpy as np
import pytest
import torch

from tailwise.data.labels import LabelSpace
from tailwise.data.task import Task
from tailwise.errors import ModelError, SettingError
from tailwise.models.heads.base import AffineForm
from tailwise.models.lexical import LexicalFeatures
from tailwise.models.probe import LexicalPart, ProbeModel
from tailwise.models.saving import folder_kind, load_model, save_model
from tailwise.posthoc.base import AffineStep

TEXTS = ["where is my parcel", "my card was stolen", "where is the bank", "a parcel, a card", "stolen parcel"]


@pytest.fixture
def model():
    features = LexicalFeatures.fit("text", TEXTS)
    generator = torch.Generator().manual_seed(0)
    form = AffineForm(torch.randn(3, features.num_features, generator=generator), torch.randn(3, generator=generator))
    return ProbeModel(
        encoder=None,
        head=None,
        lexical=LexicalPart(features, form),
        label_space=LabelSpace(names=("a", "b", "c"), counts=np.array([3, 1, 1])),
        task=Task(),
        recipe={"name": "tfidf"},
        seed=0,
        engine="probe",
        steps=(AffineStep("thresholds", np.ones(3), np.array([0.0, 0.5, -0.5])),),
    )


def test_a_lexical_probe_comes_back_to_the_bit_without_an_encoder(model, tmp_path):
    folder = save_model(model, tmp_path / "model")
    found = load_model(folder)
    new = [*TEXTS, "unknown words entirely", ""]
    np.testing.assert_array_equal(found.logits(new), model.logits(new))
    assert found.encoder is None
    assert found.head is None
    assert folder_kind(model) == "tailwise"
    assert not list(folder.glob("*.pkl"))
    assert {path.suffix for path in (folder / "lexical").iterdir()} == {".json", ".safetensors"}


def test_an_empty_text_scores_the_bias(model):
    expected = model.adjustment(model.lexical.form.bias.numpy()[None])
    np.testing.assert_allclose(model.logits([""]), expected)


def test_a_head_of_another_width_is_refused(model, tmp_path):
    folder = save_model(model, tmp_path / "model")
    other = LexicalFeatures.fit("text", TEXTS[:2])
    for path in (folder / "lexical").iterdir():
        if path.name != "head.safetensors":
            path.unlink()
    other.save(folder / "lexical")
    manifest = json.loads((folder / "tailwise.json").read_text(encoding="utf-8"))
    from tailwise.models.saving_untrusted import sha256_of

    for name in list(manifest["files"]):
        path = folder / name
        manifest["files"][name] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    (folder / "tailwise.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(ModelError, match=r"head\.safetensors"):
        load_model(folder)


def test_a_missing_part_is_named(model, tmp_path):
    folder = save_model(model, tmp_path / "model")
    (folder / "lexical" / "head.safetensors").unlink()
    with pytest.raises(ModelError, match=r"head\.safetensors"):
        load_model(folder)


def test_a_model_without_any_head_is_refused(model):
    facts = {"label_space": model.label_space, "task": model.task, "recipe": {}, "seed": 0, "engine": "probe"}
    with pytest.raises(SettingError, match="an encoder with a head, lexical features with a head, or both"):
        ProbeModel(encoder=None, head=None, **facts)


def test_a_head_that_transforms_lexical_rows_is_refused(model):
    with pytest.raises(SettingError, match="takes lexical features as they are"):
        LexicalPart(model.lexical.features, AffineForm(torch.ones(3, 2), torch.ones(3), normalise=True))
