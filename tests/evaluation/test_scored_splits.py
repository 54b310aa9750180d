"""What holds for every label structure: one interface, one way to disk, one way of resampling."""

from dataclasses import fields
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from tailwise.data.corpus import Corpus
from tailwise.data.labels import LabelSpace
from tailwise.data.task import TASKS
from tailwise.errors import DataError, SettingError, StoreError, UnknownNameError
from tailwise.evaluation.bootstrap import bootstrap, larger_is_better
from tailwise.evaluation.class_changes import class_changes
from tailwise.evaluation.score_files import read_scores
from tailwise.evaluation.scoring import evaluate_scores, reported_label_space, scores_are_finite
from tailwise.evaluation.significance import against_baseline, tie_groups
from tailwise.evaluation.unit_metrics import UNIT_METRICS, bounds, check_metric, metric_names


def rows_drawn(evaluation, seed, resamples):
    """The units that `bootstrap` draws, as positions in the evaluation."""
    by_id = np.argsort(np.array(evaluation.ids))
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
    return [by_id[generator.integers(0, len(by_id), len(by_id))] for _ in range(resamples)]


def naive_macro(evaluation, drawn, tail=None):
    """Macro-F1 of drawn units; classes that the split has or predicts and the draw does not are left out."""
    correct, support, predicted = (
        matrix.toarray()[drawn].sum(axis=0)
        for matrix in (
            evaluation.unit_counts.correct, evaluation.unit_counts.support, evaluation.unit_counts.predicted,
        )
    )  # fmt: skip
    both = support[: len(correct)] + predicted
    everywhere = evaluation.counts.seen_support + evaluation.counts.predicted
    averaged = (both > 0) | (everywhere == 0)
    if tail is not None:
        averaged &= tail
    return np.mean([2 * c / b if b else 0.0 for c, b, a in zip(correct, both, averaged, strict=True) if a])


def test_replicates_equal_the_figures_of_the_drawn_units(make_any):
    methods = {"a": [make_any(1), make_any(2)], "b": [make_any(3), make_any(4)]}
    first = methods["a"][0]
    tail = np.arange(len(first.label_space)) >= len(first.label_space) - 2
    names = (*UNIT_METRICS[first.structure], "tail_f1")
    result = bootstrap(methods, names, tail=tail, resamples=6, seed=3)
    over_classes = {"macro_f1", "macro_precision", "macro_recall", "tail_f1"}
    for b, drawn in enumerate(rows_drawn(first, 3, 6)):
        for m, runs in enumerate(methods.values()):
            for s, run in enumerate(runs):
                found = dict(zip(names, result.replicates[b, m, s], strict=True))
                again = repeated(run, drawn, tuple(map(str, range(len(run)))))
                for name in names:
                    if name not in over_classes:
                        assert found[name] == pytest.approx(again.score(name), abs=1e-12), name
                assert found["macro_f1"] == pytest.approx(naive_macro(run, drawn))
                assert found["tail_f1"] == pytest.approx(naive_macro(run, drawn, tail))


def repeated(run, drawn, ids):
    """The evaluation of drawn units, each under an id of its own."""
    parts = {field.name: getattr(run, field.name) for field in fields(run) if field.init}
    if run.structure in {"tags", "arcs"}:
        tokens = np.concatenate([np.arange(run.offsets[i], run.offsets[i + 1]) for i in drawn])
        lengths = np.diff(run.offsets)[drawn]
        moved = {name: value[tokens] for name, value in parts.items() if name not in {"ids", "offsets"}
                 and isinstance(value, np.ndarray)}  # fmt: skip
        moved["offsets"] = np.concatenate([[0], np.cumsum(lengths)])
    else:
        moved = {"gold": run.gold[drawn], "logits": run.logits[drawn]}
    return type(run)(**(parts | moved | {"ids": ids}))


def test_points_are_means_of_the_scores_and_lie_within_their_intervals(make_any):
    runs = [make_any(seed) for seed in range(3)]
    names = tuple(UNIT_METRICS[runs[0].structure])
    result = bootstrap({"ce": runs}, names, resamples=200)
    for name in names:
        point, low, high = result.interval("ce", name)
        assert point == pytest.approx(np.mean([run.score(name) for run in runs]), abs=1e-12), name
        assert low <= point <= high
        assert bounds(name)[0] <= low
        assert high <= bounds(name)[1]


def test_the_order_of_units_changes_nothing(make_any):
    a, b = make_any(1), make_any(2)
    order = np.random.default_rng(0).permutation(len(a)).tolist()
    moved = a.take(order)
    assert moved.ids != a.ids
    assert moved.summary() == pytest.approx(a.summary(), rel=1e-9, nan_ok=True)
    plain = bootstrap({"a": [a], "b": [b]}, ("macro_f1", "worst_class_f1"), resamples=30)
    other = bootstrap({"a": [moved], "b": [b]}, ("macro_f1", "worst_class_f1"), resamples=30)
    np.testing.assert_allclose(other.replicates, plain.replicates, rtol=1e-12)
    assert moved.take(np.argsort(order).tolist()).ids == a.ids


def test_tests_and_changes_follow_from_any_evaluation(make_any):
    a, b = [make_any(1), make_any(2)], [make_any(3), make_any(4)]
    result = bootstrap({"ce": a, "same": a, "other": b}, ("macro_f1",), resamples=200)
    tests = {test.method: test for test in against_baseline(result, "ce", "macro_f1").tests}
    assert tests["same"].p_value == 1.0
    assert set(tie_groups(result, "macro_f1").methods) == {"ce", "same", "other"}
    changes = class_changes(a, b, resamples=50).set_index("class")
    tables = [[run.per_class().set_index("class") for run in runs] for runs in (a, b)]
    present = tables[0][0].index[~tables[0][0]["absent"]]
    assert list(changes.index) == list(present)
    mean = [np.mean([table.loc[present, "f1"] for table in of], axis=0) for of in tables]
    np.testing.assert_allclose(changes["change"], mean[0] - mean[1], atol=1e-12)
    assert ((changes["low"] <= changes["change"]) & (changes["change"] <= changes["high"])).all()


def test_scores_survive_the_way_to_disk_and_equal_scores_give_equal_bytes(make_any, tmp_path):
    run = make_any(0)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        make_any(seed).write_scores(tmp_path / name)
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b != c
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]
    back = read_scores(tmp_path / "a", run.score_space)
    assert type(back) is type(run)
    assert back.ids == run.ids
    assert back.label_space.to_dict() == run.label_space.to_dict()
    assert back.logits.tobytes() == run.logits.tobytes()
    assert not run.gold_differs(back).any()
    assert back.summary() == pytest.approx(run.summary(), rel=0, abs=0, nan_ok=True)
    assert pq.read_table(tmp_path / "a").num_rows == len(run)
    with pytest.raises(DataError, match="expected 2"):
        read_scores(tmp_path / "a", LabelSpace(("a", "b"), np.array([1, 1])))


def test_a_file_of_a_structure_of_the_future_is_refused(make_tagged, tmp_path):
    make_tagged(0).write_scores(tmp_path / "a")
    table = pq.read_table(tmp_path / "a")
    metadata = {**table.schema.metadata, b"tailwise.structure": b"graphs"}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "b")
    with pytest.raises(StoreError, match=r"'graphs', which this version does not know.*arcs, multi, single, tags"):
        read_scores(tmp_path / "b", make_tagged(0).score_space)
    del metadata[b"tailwise.structure"]
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "c")
    with pytest.raises(StoreError, match="not a scores file of this version"):
        read_scores(tmp_path / "c", make_tagged(0).score_space)


def test_changed_gold_labels_are_found_in_the_unit_that_has_them(make_any):
    run = make_any(0)
    other = repeated(run, np.arange(len(run)), run.ids)
    assert not run.gold_differs(other).any()
    parts = {field.name: getattr(run, field.name) for field in fields(run) if field.init}
    unit = 11
    if run.structure == "multi":
        gold = run.gold.toarray()
        gold[unit, 0] = 1 - gold[unit, 0]
        parts["gold"] = gold
    else:
        name = "gold_relations" if run.structure == "arcs" else "gold"
        row = unit if run.structure == "single" else run.offsets[unit]
        parts[name] = run.__dict__[name].copy()
        parts[name][row] = (parts[name][row] + 1) % 4
    changed = type(run)(**parts)
    assert np.flatnonzero(run.gold_differs(changed)).tolist() == [unit]
    with pytest.raises(DataError, match=f"Instance {run.ids[unit]!r} has two different gold labels"):
        bootstrap({"a": [run], "b": [changed]}, ("macro_f1",))


def test_sentences_of_another_length_are_other_gold(make_tagged):
    run = make_tagged(0)
    shifted = run.offsets.copy()
    shifted[5] += 1
    other = type(run)(run.ids, shifted, run.gold, run.logits, run.tag_space)
    assert np.flatnonzero(run.gold_differs(other)).tolist() == [4, 5]


def test_tables_have_the_same_columns_for_every_structure(make_any):
    run = make_any(0)
    groups = ["head"] + ["tail"] * (len(run.label_space) - 1)
    assert list(run.per_class(groups)) == [
        "class", "train_count", "group", "support", "predicted", "precision", "recall", "f1", "average_precision",
        "absent",
    ]  # fmt: skip
    table = run.groups(groups).set_index("group")
    assert list(table.index) == ["head", "tail", "unseen"]
    assert table["support"].sum() == run.counts.total
    tail = np.array([group == "tail" for group in groups])
    assert run.score("tail_f1", tail) == pytest.approx(table.loc["tail", "macro_f1"])
    assert set(run.summary(tail)) == {*run.metrics, "tail_f1"}
    assert run.has_probabilities == ("ece" in run.metrics) == (run.structure in {"single", "multi"})
    with pytest.raises(SettingError, match="'tail_f1' needs `tail`"):
        run.score("tail_f1")


def test_metrics_are_checked_by_label_structure(make_labelled, make_parsed):
    assert "las" in metric_names("arcs")
    assert "macro_f1" in set.intersection(*(set(metric_names(structure)) for structure in UNIT_METRICS))
    assert not {"hamming_loss", "ece", "brier", "nll"} & set(metric_names("multi"))
    assert not larger_is_better("hamming_loss")
    check_metric("samples_f1", "multi")
    with pytest.raises(UnknownNameError, match=r"'las' is one of arcs data, not of multi data\. Known: .*samples_f1"):
        check_metric("las", "multi")
    with pytest.raises(UnknownNameError, match="'ece' cannot be asked for here"):
        check_metric("ece", "single")
    with pytest.raises(UnknownNameError, match=r"Unknown metric 'sample_f1'\. Did you mean .*'samples_f1'"):
        check_metric("sample_f1", "multi")
    with pytest.raises(UnknownNameError, match="'ece' is one of single and multi data, not of arcs data for intervals"):
        bootstrap({"a": [make_parsed(0)]}, ("ece",))
    with pytest.raises(UnknownNameError, match="'uas' is one of arcs data, not of multi"):
        make_labelled(0).score("uas")
    with pytest.raises(UnknownNameError, match="Unknown metric 'micro_average_precision' for intervals"):
        bootstrap({"a": [make_labelled(0)]}, ("micro_average_precision",))
    with pytest.raises(DataError, match="one label structure, but got multi and arcs"):
        bootstrap({"a": [make_labelled(0)], "b": [make_parsed(0)]}, ("macro_f1",))


def corpus_of(task, space, columns):
    splits = {name: Dataset.from_dict({"id": [f"{name}{i}" for i in range(2)], **columns})
              for name in ("train", "validation", "test")}  # fmt: skip
    return Corpus("toy", splits, TASKS[task], space, fingerprint="0" * 64)


SPACE = LabelSpace(("a", "b", "c"), np.array([3, 2, 1]))
TAGS = LabelSpace(("B-x", "I-x", "O"), np.array([2, 2, 4]), catch_all="O")
TOKENS = [["u", "v"], ["w"]]


@pytest.mark.parametrize(
    ("corpus", "scores", "perfect"),
    [
        (corpus_of("text", SPACE, {"text": ["x", "y"], "label": [0, 2]}), np.eye(3)[[0, 2]], "accuracy"),
        (
            corpus_of("multilabel", SPACE, {"text": ["x", "y"], "labels": [[0, 2], [1]]}),
            np.array([[1, -1, 2], [-1, 1, -1]]),
            "subset_accuracy",
        ),
        (corpus_of("tagging", TAGS, {"tokens": TOKENS, "tags": [[0, 1], [2]]}), np.eye(3), "micro_f1"),
        (
            corpus_of("parsing", SPACE, {"tokens": TOKENS, "heads": [[2, 0], [0]], "relations": [[1, 0], [2]]}),
            SimpleNamespace(heads=np.array([2, 0, 0]), logits=np.eye(3)[[1, 0, 2]]),
            "las_full",
        ),
    ],
)
def test_scores_of_a_corpus_become_an_evaluation_of_its_task(corpus, scores, perfect):
    found = evaluate_scores(corpus, "test", scores)
    assert found.structure == corpus.task.label_structure
    assert found.ids == ("test0", "test1")
    assert found.score(perfect) == 1.0
    assert found.label_space.to_dict() == reported_label_space(corpus).to_dict()
    assert scores_are_finite(scores)
    wrong = np.zeros((3, 3)) if found.structure == "arcs" else SimpleNamespace(heads=None, logits=None)
    with pytest.raises(DataError, match="Expected scores of this task to be"):
        evaluate_scores(corpus, "test", wrong)


def test_scores_that_are_not_finite_are_known_as_such():
    assert not scores_are_finite(np.array([[0.0, np.nan]]))
    assert not scores_are_finite(SimpleNamespace(heads=np.array([0]), logits=np.array([[np.inf]])))
