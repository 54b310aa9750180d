import numpy as np
import pytest
from sklearn.metrics import f1_score

from tailwise.data.labels import LabelSpace
from tailwise.errors import DataError
from tailwise.evaluation.class_changes import class_changes
from tailwise.evaluation.evaluation import Evaluation

SPACE = LabelSpace(("a", "b", "c", "never"), np.array([50, 20, 5, 2]))


def run(seed, accuracy, gold):
    generator = np.random.default_rng(seed)
    predicted = np.where(generator.random(len(gold)) < accuracy[gold], gold, generator.integers(0, 3, len(gold)))
    return Evaluation(tuple(map(str, range(len(gold)))), gold, np.eye(4, dtype=np.float32)[predicted], SPACE)


@pytest.fixture
def gold():
    return np.random.default_rng(0).choice(3, size=400, p=[0.7, 0.25, 0.05])


def test_change_is_the_difference_of_mean_f1_and_absent_classes_are_left_out(gold):
    better = [run(s, np.array([0.9, 0.9, 0.9]), gold) for s in range(3)]
    base = [run(10 + s, np.array([0.9, 0.6, 0.2]), gold) for s in range(3)]
    changes = class_changes(better, base).set_index("class")
    assert list(changes.index) == ["a", "b", "c"]
    f1 = {k: np.mean([f1_score(gold, e.predicted, labels=range(4), average=None) for e in v], axis=0)
          for k, v in {"better": better, "base": base}.items()}  # fmt: skip
    np.testing.assert_allclose(changes["change"], (f1["better"] - f1["base"])[:3], atol=1e-12)
    assert (changes["low"] <= changes["change"]).all()
    assert (changes["change"] <= changes["high"]).all()
    assert changes.loc["b", "low"] > 0


def test_a_method_against_itself_has_no_change_at_all(gold):
    runs = [run(s, np.array([0.9, 0.6, 0.2]), gold) for s in range(2)]
    changes = class_changes(runs, runs)
    assert (changes[["change", "low", "high"]].to_numpy() == 0.0).all()


def test_unequal_seeds_are_refused(gold):
    runs = [run(s, np.array([0.9, 0.6, 0.2]), gold) for s in range(2)]
    with pytest.raises(DataError, match="Expected the same seeds for both, but got 2 and 1"):
        class_changes(runs, runs[:1])
