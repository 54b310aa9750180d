"""The texts with one label of the shared folder load as they are stated."""

import json

import numpy as np
import pytest

from tailwise.data import load
from tailwise.data.corpus import SPLITS


@pytest.fixture(scope="module")
def sources(data_dir):
    return {path.parent.name: json.loads(path.read_text()) for path in sorted(data_dir.glob("*/SOURCE.json"))}


def test_single_label_and_pair_data_sets_load_as_they_are(data_dir, sources):
    loaded = 0
    for name, stated in sources.items():
        if stated["row_format"] not in {"single-label", "pair"}:
            continue
        corpus = load(data_dir / name)
        loaded += 1
        assert {split: corpus.num_rows(split) for split in SPLITS} == stated["num_instances"], name
        assert corpus.task.input_form == ("pair" if stated["row_format"] == "pair" else "text")
        space = corpus.label_space
        assert set(space.unseen) == set(stated["classes_missing_in_train"]), name
        assert len(space.all_names) == stated["num_classes"], name
        counts = stated["label_counts"]
        for split in SPLITS:
            found = np.bincount(corpus.labels(split), minlength=len(space.all_names))
            expected = [counts[split].get(label, 0) for label in space.all_names]
            assert found.tolist() == expected, (name, split)
        if stated["catch_all_class"]:
            assert stated["catch_all_class"].startswith(space.catch_all), name
        assert corpus.source["licence"] == stated["licence"]
    assert loaded >= 30
