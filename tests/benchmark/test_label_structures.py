"""A comparison runs, stores and reports label sets, tags and arcs as it does single classes."""

from types import SimpleNamespace

import numpy as np
import pytest
from datasets import Dataset

from tailwise.benchmark.comparison import COLUMNS
from tailwise.benchmark.store import ResultStore
from tailwise.benchmark.tuning import DIVERGED, Candidate, Tuner, Workplace
from tailwise.data.corpus import SPLITS, Corpus
from tailwise.data.labels import LabelSpace
from tailwise.data.task import TASKS
from tailwise.errors import UnknownNameError
from tailwise.evaluation.scoring import evaluate_scores
from tailwise.models.fitted import FittedModel

LABELS = LabelSpace(("a", "b", "c", "d"), np.array([40, 25, 9, 3]), num_rows=70)
TAGS = LabelSpace(("B-x", "B-y", "I-x", "O"), np.array([40, 6, 20, 90]), catch_all="O")
TASK_OF = {"multi": "multilabel", "tags": "tagging", "arcs": "parsing"}


class GuessingModel(FittedModel):
    """Knows gold labels, and forgets a share of them that depends on its recipe and seed."""

    def __init__(self, noise, **facts):
        super().__init__(engine="guessing", **facts)
        self.noise = noise

    def raw_scores(self, texts, text_pairs=None):
        raise NotImplementedError

    def raw_split_scores(self, corpus, split):
        target = corpus.targets(split)
        gold = target.toarray() if corpus.task.label_structure == "multi" else np.eye(len(LABELS))[target]
        generator = np.random.default_rng([self.seed, *split.encode()])
        return (gold - 0.5 + self.noise * generator.normal(size=gold.shape)).astype(np.float32)

    def split_scores(self, corpus, split):
        logits = self.split_logits(corpus, split)
        if corpus.task.label_structure != "arcs":
            return logits
        heads = corpus.heads(split)
        right = np.random.default_rng(self.seed).random(len(heads)) > self.noise / 2
        return SimpleNamespace(heads=np.where(right, heads, 0), logits=logits)


class GuessingEngine:
    name, batched, settings = "guessing", True, {}

    def search_space(self, recipe, corpus):
        return {"optimisation.learning_rate": (0.5, 0.1)}

    def fit_many(self, jobs, corpus, encoder, progress=None):
        facts = {"label_space": corpus.label_space, "task": corpus.task}
        return [
            GuessingModel(self.noise(job.recipe), recipe=job.recipe.to_dict(), seed=job.seed, **facts) for job in jobs
        ]

    def noise(self, recipe):
        return (0.2 if recipe.name == "focal" else 0.6) + (recipe.optimisation.learning_rate or 0.5) / 2


class DivergingEngine(GuessingEngine):
    def noise(self, recipe):
        return np.nan if recipe.optimisation.learning_rate == 0.1 else super().noise(recipe)


def corpus_of(structure):
    generator, splits = np.random.default_rng(1), {}
    for split in SPLITS:
        lengths = generator.integers(1, 7, 40)
        tokens = [["w"] * n for n in lengths]
        columns = {
            "multi": {
                "text": ["w"] * 40,
                "labels": [np.flatnonzero(generator.random(4) < 0.4).tolist() for _ in tokens],
            },
            "tags": {"tokens": tokens, "tags": [generator.integers(0, 4, n).tolist() for n in lengths]},
            "arcs": {
                "tokens": tokens,
                "heads": [generator.integers(0, n + 1, n).tolist() for n in lengths],
                "relations": [generator.integers(0, 4, n).tolist() for n in lengths],
            },
        }[structure]
        splits[split] = Dataset.from_dict({"id": [f"{split}-{i}" for i in range(40)], **columns})
    space = TAGS if structure == "tags" else LABELS
    return Corpus("toy", splits, TASKS[TASK_OF[structure]], space, fingerprint=f"{len(structure)}" * 64)


@pytest.fixture(scope="module", params=["multi", "tags", "arcs"])
def compared(request, worker, tmp_path_factory):
    corpus = corpus_of(request.param)
    out = tmp_path_factory.mktemp(request.param)
    settings = {"methods": ("ce", "focal"), "trials": 2, "seeds": (0, 1, 2), "corpus": corpus}
    return corpus, worker.run(out, GuessingEngine(), **settings)


def test_every_column_of_the_table_is_the_mean_of_the_score_on_test(compared):
    corpus, comparison = compared
    structure = corpus.task.label_structure
    table, tail = comparison.table(), comparison.groups == "tail"
    assert comparison.metrics == tuple(dict.fromkeys(("macro_f1", *COLUMNS[structure])))
    for method in ("ce", "focal"):
        recipe = comparison.recipes[method]
        models = GuessingEngine().fit_many(
            [SimpleNamespace(recipe=recipe, seed=seed) for seed in comparison.seeds], corpus, None
        )
        alone = [evaluate_scores(corpus, "test", model.split_scores(corpus, "test")) for model in models]
        for metric in comparison.metrics:
            expected = np.mean([run.score(metric, tail) for run in alone])
            row = table.loc[method]
            assert row[metric] == pytest.approx(expected), metric
            assert row[f"{metric}_low"] <= row[metric] <= row[f"{metric}_high"]
    assert comparison.best() == "focal" == table.index[0]
    assert table.loc["focal", "p_value"] < 0.05


def test_figures_are_about_the_reported_classes(compared):
    corpus, comparison = compared
    names = ("x", "y") if corpus.task.label_structure == "tags" else LABELS.names
    assert comparison.label_space.names == names
    table = comparison.per_class()
    assert len(table) == 2 * 3 * len(names)
    assert set(table["class"]) == set(names)
    stored = comparison.evaluations["ce", 1]
    assert stored.structure == corpus.task.label_structure
    assert comparison.to_dict()["methods"]["ce"]["macro_f1"] == pytest.approx(comparison.table().loc["ce", "macro_f1"])


def test_a_diverged_trial_is_worth_the_least(compared, worker, tmp_path):
    corpus, _ = compared
    place = Workplace(ResultStore(tmp_path), DivergingEngine(), corpus, worker.HashEncoder())
    tuning = Tuner(place, metric="macro_f1", trials=2).tune([Candidate("ce", "ce")])["ce"]
    values = {trial.params["optimisation.learning_rate"]: trial.value for trial in tuning.trials}
    assert values[0.1] == DIVERGED
    assert values[0.5] > 0


def test_a_metric_of_another_label_structure_is_refused_before_any_training(compared, worker, tmp_path):
    corpus, _ = compared
    with pytest.raises(UnknownNameError, match=f"'mcc' is one of single data, not of {corpus.task.label_structure}"):
        worker.run(tmp_path, GuessingEngine(), corpus=corpus, metric="mcc", methods=("ce",))
    assert not list(tmp_path.rglob("*.json"))
