"""Label names that are paths: completed sets, coherent scores, on disk and in messages."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tailwise
from tailwise.data.label_paths import coherent, parents_of
from tailwise.data.labels import LabelSpace
from tailwise.errors import DataError, SettingError
from tailwise.evaluation.scoring import evaluate_scores

SETS = [["sport/football/cup"], ["sport"], ["art/film", "sport/football"], [], ["art"], ["sport/tennis"]]
paths = st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map("/".join)


@pytest.fixture
def file(tmp_path):
    rows = [{"text": f"text number {i} {'x' * (i % 7)}", "labels": SETS[i % len(SETS)]} for i in range(60)]
    path = tmp_path / "news.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def named_sets(corpus, split):
    matrix = corpus.label_matrix(split).toarray()
    return [{corpus.label_space.names[j] for j in np.flatnonzero(row)} for row in matrix]


def test_every_row_gets_the_labels_above_its_own(file):
    said = []
    corpus = tailwise.load(file, label_paths="/", notify=said.append)
    assert corpus.label_space.names == (
        "art", "art/film", "sport", "sport/football", "sport/football/cup", "sport/tennis",
    )  # fmt: skip
    assert corpus.label_space.path_mark == "/"
    assert any("50 labels that stand above others were added (paths at '/')" in line for line in said)
    plain = tailwise.load(file)
    assert plain.fingerprint != corpus.fingerprint
    wanted = {
        frozenset(given): {"/".join(name.split("/")[:n]) for name in given for n in range(1, name.count("/") + 2)}
        for given in SETS
    }
    text_of = {row["text"]: frozenset(row["labels"]) for row in map(json.loads, file.read_text().splitlines())}
    for split in ("train", "validation", "test"):
        for text, found in zip(corpus.texts(split), named_sets(corpus, split), strict=True):
            assert found == wanted[text_of[text]]


@given(st.lists(paths, min_size=1, max_size=12, unique=True), st.integers(0, 5))
def test_no_label_scores_below_one_that_stands_under_it(names, seed):
    scores = np.random.default_rng(seed).normal(size=(4, len(names))).astype(np.float32)
    before = scores.copy()
    raised = coherent(scores, parents_of(names, "/"))
    for j, name in enumerate(names):
        below = [i for i, other in enumerate(names) if other == name or other.startswith(name + "/")]
        np.testing.assert_array_equal(raised[:, j], scores[:, below].max(axis=1))
    np.testing.assert_array_equal(scores, before)
    np.testing.assert_array_equal(coherent(raised, parents_of(names, "/")), raised)


def test_a_level_that_no_row_names_is_skipped():
    assert parents_of(("a", "a/b/c", "ab", "x/y"), "/").tolist() == [-1, 0, -1, -1]


def test_evaluation_is_of_coherent_scores(file):
    corpus = tailwise.load(file, label_paths="/")
    leaf = corpus.label_space.names.index("sport/football/cup")
    scores = np.full((corpus.num_rows("test"), len(corpus.label_space)), -1.0, dtype=np.float32)
    scores[:, leaf] = 2.0
    found = evaluate_scores(corpus, "test", scores)
    assert (found.logits[:, corpus.label_space.names.index("sport")] == 2.0).all()
    assert (found.logits[:, corpus.label_space.names.index("art")] == -1.0).all()


def test_the_mark_goes_with_the_labels():
    space = LabelSpace(("a", "a/b"), np.array([2, 1]), num_rows=2, path_mark="/")
    assert LabelSpace.from_dict(json.loads(json.dumps(space.to_dict()))).path_mark == "/"
    assert "path_mark" not in LabelSpace(("a", "b"), np.array([2, 1])).to_dict()


@pytest.mark.parametrize("name", ["/art", "art//film", "art/ /film", "art/"])
def test_an_empty_part_is_named_with_its_line(tmp_path, name):
    path = tmp_path / "bad.jsonl"
    rows = [{"text": f"text {i}", "labels": ["art"] if i != 4 else ["art", name]} for i in range(20)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    message = r"bad\.jsonl:5, place 1 \(from 0\): the label '.*' has an empty part between '/'"
    with pytest.raises(DataError, match=message):
        tailwise.load(path, label_paths="/")


def test_where_it_does_not_apply_it_is_refused(file, tmp_path):
    with pytest.raises(SettingError, match="`label_paths` to be a mark such as"):
        tailwise.load(file, label_paths=" ")
    single = tmp_path / "single.csv"
    single.write_text("text,label\n" + "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(30)))
    with pytest.raises(SettingError, match="applies to data with several labels per row"):
        tailwise.load(single, label_paths="/")
