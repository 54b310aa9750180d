"""A probe scores texts with its encoder, its head and its post-hoc steps."""

import numpy as np
import pytest
import torch
from scipy.special import softmax

from tailwise.data.labels import LabelSpace
from tailwise.data.task import Task
from tailwise.errors import DataError
from tailwise.models import probe as probe_module
from tailwise.models.feature_cache import FeatureCache
from tailwise.models.heads.affine import affine_scores
from tailwise.models.heads.base import AffineForm, Head
from tailwise.models.probe import ProbeModel, head_scores
from tailwise.posthoc.base import AffineStep

DIM, CLASSES = 3, 2


class LengthEncoder:
    """Encodes a text as its length, its vowels and a one."""

    dim, name, fingerprint, pooling, max_length, dtype = DIM, "length", "f", "mean", 256, "float32"

    def encode(self, texts, text_pairs=None, *, progress=None):
        pairs = text_pairs or [""] * len(texts)
        rows = [[len(t) + len(p), sum(c in "aeiou" for c in t + p), 1] for t, p in zip(texts, pairs, strict=True)]
        return np.array(rows, dtype=np.float32).reshape(-1, DIM)


class OneCorpus:
    task = Task()

    def inputs(self, split):
        return ["alpha", "beta", split]

    def text_pairs(self, split):
        return None


class Squares(Head):
    """A head without a plain form."""

    def forward(self, features):
        return features[:, : self.num_classes] ** 2


def make_probe(tmp_path, head=None, steps=()):
    form = AffineForm(torch.tensor([[1.0, 0.0, -1.0], [0.0, 2.0, 0.5]]), torch.tensor([0.5, -0.5]))
    return ProbeModel(
        encoder=LengthEncoder(),
        head=form if head is None else head,
        cache=FeatureCache(tmp_path),
        label_space=LabelSpace(("a", "b"), np.array([3, 1])),
        task=Task(),
        recipe={"name": "ce"},
        seed=0,
        engine="probe",
        steps=steps,
    )


def test_scores_are_those_of_the_head(tmp_path):
    scores = make_probe(tmp_path).raw_scores(["banana", ""])
    assert scores.dtype == np.float32
    assert scores.tolist() == [[5.5, 6.0], [-0.5, 0.0]]
    with pytest.raises(DataError, match="have no second texts"):
        make_probe(tmp_path).raw_scores(["ban"], ["ana"])
    assert make_probe(tmp_path).raw_scores([]).shape == (0, CLASSES)


def test_splits_are_scored_from_the_cache(tmp_path):
    probe = make_probe(tmp_path)
    expected = probe.raw_scores(["alpha", "beta", "test"])
    np.testing.assert_array_equal(probe.raw_split_scores(OneCorpus(), "test"), expected)
    probe.encoder.encode = None
    np.testing.assert_array_equal(probe.raw_split_scores(OneCorpus(), "test"), expected)


def test_steps_act_on_logits_and_probabilities(tmp_path):
    steps = [AffineStep("x", np.array([2.0, 1.0]), np.array([0.0, 3.0])), AffineStep("t", np.full(2, 0.5), np.zeros(2))]
    probe = make_probe(tmp_path, steps=steps)
    wanted = 0.5 * (probe.raw_scores(["banana"]) * [2.0, 1.0] + [0.0, 3.0])
    np.testing.assert_allclose(probe.logits(["banana"]), wanted, rtol=1e-6)
    np.testing.assert_allclose(probe.predict_proba(["banana"]), softmax(wanted, axis=1), rtol=1e-6)
    features = torch.from_numpy(probe.encoder.encode(["banana"]))
    np.testing.assert_allclose(affine_scores(probe.folded_head(), features).numpy(), wanted, rtol=1e-6)


def test_a_head_without_a_plain_form_scores_but_does_not_fold(tmp_path):
    probe = make_probe(tmp_path, head=Squares(DIM, CLASSES))
    assert probe.raw_scores(["banana"]).tolist() == [[36.0, 9.0]]
    assert probe.folded_head() is None


def test_scoring_in_portions_changes_nothing(monkeypatch):
    form = AffineForm(torch.randn(4, 5), torch.randn(4))
    features = np.random.default_rng(0).normal(size=(23, 5)).astype(np.float32)
    features.setflags(write=False)
    whole = head_scores(form, features)
    monkeypatch.setattr(probe_module, "_ROWS", 7)
    np.testing.assert_allclose(head_scores(form, features), whole, rtol=1e-5, atol=1e-6)
