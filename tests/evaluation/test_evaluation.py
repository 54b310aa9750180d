"""What an `Evaluation` derives from stored scores, and how it is stored."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import average_precision_score, classification_report

from tailwise.data.labels import LabelSpace
from tailwise.errors import DataError, StoreError
from tailwise.evaluation.evaluation import Evaluation, read_scores


def test_per_class_table_equals_scikit_learns_report(make_scored):
    evaluation = make_scored(0, num_classes=4, unseen=1)
    table = evaluation.per_class(["head", "medium", "tail", "tail"]).set_index("class")
    report = classification_report(
        evaluation.gold, evaluation.predicted, labels=range(4), output_dict=True, zero_division=0
    )
    for j, name in enumerate(evaluation.label_space.names):
        row, expected = table.loc[name], report[str(j)]
        assert row["f1"] == pytest.approx(expected["f1-score"])
        assert row["precision"] == pytest.approx(expected["precision"])
        assert row["recall"] == pytest.approx(expected["recall"])
        assert row["support"] == expected["support"]
        assert row["predicted"] == (evaluation.predicted == j).sum()
        ap = average_precision_score(evaluation.gold == j, evaluation.probabilities[:, j])
        assert row["average_precision"] == pytest.approx(ap)
    assert table["train_count"].tolist() == [40, 30, 20, 10]
    assert table["group"].tolist() == ["head", "medium", "tail", "tail"]
    assert not table["absent"].any()


def test_absent_class_is_reported_as_absent_with_zero_ratios_and_open_average_precision(make_decided):
    table = make_decided(np.array([0, 0, 1]), np.array([0, 1, 1]), 3).per_class()
    assert table["absent"].tolist() == [False, False, True]
    assert table["f1"].tolist()[2] == 0.0
    assert np.isnan(table["average_precision"].tolist()[2])
    assert "group" not in table


def test_group_table_averages_over_the_classes_of_each_group_and_lists_unseen_ones(make_scored):
    evaluation = make_scored(1, num_classes=4, unseen=1)
    groups = ["head", "medium", "tail", "tail"]
    table, classes = evaluation.groups(groups).set_index("group"), evaluation.per_class()
    assert list(table.index) == ["head", "medium", "tail", "unseen"]
    assert table.loc["tail", "macro_f1"] == pytest.approx(classes["f1"][2:].mean())
    assert table.loc["tail", "classes"] == 2
    assert table["support"].sum() == len(evaluation)
    tail = np.array([g == "tail" for g in groups])
    assert evaluation.summary(tail)["tail_f1"] == pytest.approx(table.loc["tail", "macro_f1"])


def test_groups_must_be_one_per_class(make_scored):
    with pytest.raises(DataError, match="one group per class, 5, but got 2"):
        make_scored(0).per_class(["head", "tail"])


def test_summary_has_every_figure_of_the_comparison_table(make_scored):
    summary = make_scored(0).summary(np.array([False, False, False, True, True]))
    wanted = {"macro_f1", "balanced_accuracy", "worst_class_f1", "tail_f1", "accuracy", "ece", "mcc", "g_mean", "nll"}
    assert wanted <= set(summary)
    assert all(isinstance(value, float) and np.isfinite(value) for value in summary.values())


def test_confusion_pairs_are_the_most_frequent_errors_with_their_rate(make_decided):
    gold = np.array([0, 0, 0, 0, 1, 1, 2, 3])
    predicted = np.array([0, 1, 1, 2, 0, 1, 2, 1])  # class 3 is unseen
    pairs = make_decided(gold, predicted, 3, unseen=1).confusion_pairs(k=3)
    assert pairs.to_dict("list") == {
        "gold": ["class 00", "class 00", "class 01"],
        "predicted": ["class 01", "class 02", "class 00"],
        "count": [2, 1, 1],
        "rate": [0.5, 0.25, 0.5],
    }
    everything = make_decided(gold, predicted, 3, unseen=1).confusion_pairs(k=100)
    assert everything["gold"].tolist()[-1] == "unseen 0"
    assert everything["count"].sum() == 5


def test_a_perfect_model_has_no_confusion_pairs(make_decided):
    assert len(make_decided(np.array([0, 1]), np.array([0, 1]), 2).confusion_pairs()) == 0


def test_reliability_counts_add_up_and_empty_bins_are_open(make_scored):
    table = make_scored(0).reliability()
    assert table["count"].sum() == 200
    assert (table["confidence"].isna() == (table["count"] == 0)).all()
    full = table[table["count"] > 0]
    assert ((full["low"] < full["confidence"]) & (full["confidence"] <= full["high"])).all()


def test_evaluation_keeps_its_own_frozen_copy(make_space):
    logits = np.zeros((2, 2), dtype=np.float32)
    evaluation = Evaluation(("a", "b"), np.array([0, 1]), logits, make_space(2))
    logits[0, 1] = 5.0
    assert evaluation.predicted.tolist() == [0, 0]
    with pytest.raises(ValueError, match="read-only"):
        evaluation.logits[0, 0] = 1.0


@pytest.mark.parametrize(
    ("ids", "gold", "logits", "message"),
    [
        (("a",), [0, 1], np.zeros((2, 2)), r"1 ids, gold \(2,\)"),
        (("a", "b"), [0, 1], np.zeros((2, 3)), r"logits of shape \(N, 2\).*\(2, 3\)"),
        ((), [], np.zeros((0, 2)), "N >= 1 ids"),
        (("a", "b"), [0, 2], np.zeros((2, 2)), r"gold indices in 0\.\.1.*0\.\.2"),
        (("a", "a"), [0, 1], np.zeros((2, 2)), "unique ids, but 'a' occurs 2 times"),
        (("a", "b"), [0, 1], np.array([[0, 0], [np.nan, 0]]), "1 of 2 instances.*'b'.*learning rate"),
    ],
)
def test_inconsistent_scores_are_refused(make_space, ids, gold, logits, message):
    with pytest.raises(DataError, match=message):
        Evaluation(ids, np.array(gold, dtype=int), logits, make_space(2))


def test_scores_survive_the_way_to_disk_bit_for_bit(make_scored, tmp_path):
    evaluation = make_scored(0, unseen=1)
    evaluation.write_scores(tmp_path / "scores.parquet")
    back = read_scores(tmp_path / "scores.parquet", evaluation.label_space)
    assert back.ids == evaluation.ids
    np.testing.assert_array_equal(back.gold, evaluation.gold)
    assert back.logits.tobytes() == evaluation.logits.tobytes()
    assert back.summary() == evaluation.summary()


def test_scores_with_hostile_names_survive_too(tmp_path):
    space = LabelSpace(('"quoted", <b>', "\u0000nul", "ünïcödé 🙂"), np.array([3, 2, 1]))
    evaluation = Evaluation(("id\n1", "", "ü"), np.array([0, 1, 2]), np.eye(3, dtype=np.float32), space)
    folder = tmp_path / "seed=1"  # not a partition of a data set
    folder.mkdir()
    evaluation.write_scores(folder / "scores.parquet")
    back = read_scores(folder / "scores.parquet", space)
    assert back.ids == evaluation.ids
    assert back.gold.tolist() == [0, 1, 2]


def test_equal_scores_give_equal_bytes_and_nothing_else_is_left_behind(make_scored, tmp_path):
    make_scored(0).write_scores(tmp_path / "a.parquet")
    make_scored(0).write_scores(tmp_path / "b.parquet")
    make_scored(1).write_scores(tmp_path / "c.parquet")
    a, b, c = ((tmp_path / f"{name}.parquet").read_bytes() for name in "abc")
    assert a == b != c
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.parquet", "b.parquet", "c.parquet"]


def test_columns_can_be_read_without_tailwise(make_scored, tmp_path):
    make_scored(0).write_scores(tmp_path / "scores.parquet")
    schema = pq.read_schema(tmp_path / "scores.parquet")
    assert schema.names == ["id", "gold", "logits"]
    assert schema.field("logits").type == pa.list_(pa.float32(), 5)


def test_missing_damaged_and_foreign_files_are_refused(make_scored, make_space, tmp_path):
    space, path = make_space(5), tmp_path / "scores.parquet"
    with pytest.raises(StoreError, match=r"no scores file .*scores\.parquet"):
        read_scores(path, space)
    path.write_bytes(b"not parquet at all")
    with pytest.raises(StoreError, match="not a readable Parquet file"):
        read_scores(path, space)
    make_scored(0).write_scores(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(StoreError, match="not a readable Parquet file"):
        read_scores(path, space)
    pq.write_table(pa.table({"id": ["a"], "gold": ["class 00"]}), path)
    with pytest.raises(StoreError, match=r"expected the columns id .* found the columns id, gold"):
        read_scores(path, space)
    with pytest.raises(StoreError, match="not a readable Parquet file"):
        read_scores(tmp_path, space)


def test_scores_of_other_classes_are_refused(make_scored, make_space, tmp_path):
    make_scored(0).write_scores(tmp_path / "scores.parquet")
    with pytest.raises(DataError, match=r"5 classes \(class 00, .*\), expected 4"):
        read_scores(tmp_path / "scores.parquet", make_space(4))
