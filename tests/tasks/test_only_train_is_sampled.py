"""What a recipe samples is train: other held-out rows train the same model, and they are scored in order."""

from dataclasses import replace

import numpy as np
import pytest

from tailwise.catalog import METHODS
from tailwise.data.task import TASKS
from tailwise.models.feature_cache import FeatureCache
from tailwise.training.finetune import FinetuneEngine
from tailwise.training.probe import ProbeEngine

SAMPLING = [name for name, m in METHODS.items() if any(s.sampler.name != "natural" for s in m.recipe().stages)]


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    cache = FeatureCache(tmp_path_factory.mktemp("features"))
    return {
        "probe": ProbeEngine(cache=cache, epochs=2, batch_size=16),
        "finetune": FinetuneEngine(epochs=0.3, batch_size=16, max_length=32, precision="float32"),
    }


def with_other_held_out_rows(corpus):
    """The same train; validation and test change places and lose their last rows."""
    splits = dict(corpus.splits)
    splits["validation"], splits["test"] = splits["test"].select(range(35)), splits["validation"].select(range(30))
    return replace(corpus, splits=splits, fingerprint="other")


CASES = [
    (task, name, engine)
    for task in ("pair", "multilabel", "relation", "tagging")
    for name in SAMPLING
    for engine in METHODS[name].engines
    if METHODS[name].refusal(TASKS[task], engine) is None
    and (engine == "probe" or (task, name) in {("multilabel", "ml-ros"), ("multilabel", "ml-cas"), ("relation", "cas")})
]


@pytest.mark.parametrize(("task", "name", "engine"), CASES)
def test_held_out_rows_are_neither_drawn_nor_resampled(corpora, encoder, engines, task, name, engine):
    corpus, method = corpora[task], METHODS[name]
    model = engines[engine].fit(method.recipe(), corpus, encoder, seed=0)
    other = engines[engine].fit(method.recipe(), with_other_held_out_rows(corpus), encoder, seed=0)
    for split in ("validation", "test"):
        scores = model.raw_split_scores(corpus, split)
        assert len(scores) == corpus.num_targets(split)
        np.testing.assert_array_equal(other.raw_split_scores(corpus, split), scores)
        one_by_one = model.raw_scores(corpus.inputs(split)[:3], _first(corpus.text_pairs(split)))
        np.testing.assert_allclose(one_by_one, scores[: len(one_by_one)], atol=1e-4)


def _first(pairs):
    return None if pairs is None else pairs[:3]
