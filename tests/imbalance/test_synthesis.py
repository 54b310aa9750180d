"""Synthetic imbalance of whole corpora: counts, nesting, splits, manifest, files, and mistakes."""

import hashlib
import json
import re
from itertools import pairwise

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

import tailwise
from tailwise.data.corpus import Corpus
from tailwise.data.labels import LabelSpace
from tailwise.data.task import Task
from tailwise.data.writing import write_corpus
from tailwise.errors import DataError, SettingError
from tailwise.imbalance import synthesize
from tailwise.imbalance.layout import class_order_of, lay_out
from tailwise.imbalance.profiles import Profile, profile_named
from tailwise.imbalance.shape import classify_shape

SHAPES = ("step", "linear", "exponential", "power")


def rows_of(counts, word):
    """Rows of every class in turn, so that classes are mixed."""
    return [(f"{word} {j} of {c}", c) for j in range(max(counts.values())) for c, n in counts.items() if j < n]


@pytest.fixture(scope="module")
def balanced(make_corpus):
    counts = {f"class {c}": 60 for c in "abcdefghij"}
    held_out = dict.fromkeys(counts, 20)
    return make_corpus(rows_of(counts, "train"), rows_of(held_out, "dev"), rows_of(held_out, "test"))


@pytest.fixture(scope="module")
def natural(make_corpus):
    counts = {"big": 200, "also": 120, "mid": 100, "small": 12}
    return make_corpus(
        rows_of(counts, "t"), rows_of({"big": 20, "small": 2, "mid": 10, "also": 12}, "v"), [("x", "big")]
    )


def multi(sets, name="several"):
    """A corpus of one word per row and label names."""
    names = sorted({label for row in sets for label in row})
    index = {label: i for i, label in enumerate(names)}
    rows = [sorted(index[label] for label in row) for row in sets]
    split = {
        part: Dataset.from_dict(
            {
                "id": [f"{part}-{i}" for i in range(len(rows))],
                "text": [f"{part} {i}" for i in range(len(rows))],
                "labels": rows,
            }
        )
        for part in ("train", "validation", "test")
    }
    counts = np.bincount([i for row in rows for i in row])
    return Corpus(name, split, Task("text", "multi"), LabelSpace(tuple(names), counts, num_rows=len(rows)), "0" * 64)


def by_rank(corpus):
    names = corpus.source["synthesis"]["classes_by_rank"]
    counts = dict(zip(corpus.label_space.names, corpus.label_space.counts.tolist(), strict=True))
    return [counts[name] for name in names]


@pytest.mark.parametrize("shape", SHAPES)
def test_train_has_exactly_the_counts_of_the_profile(balanced, shape):
    made = synthesize(balanced, shape, rho=6)
    assert by_rank(made) == profile_named(shape, 6).counts(10, 60).tolist()
    found = np.bincount(made.labels("train"), minlength=10)
    assert found.tolist() == made.label_space.counts.tolist()
    assert classify_shape(found).best.profile == shape


def test_the_default_is_the_step_of_the_survey(balanced):
    made = tailwise.synthesize(balanced)
    assert sorted(made.label_space.counts.tolist()) == [6] * 4 + [60] * 6
    assert made.name == "hand-step-rho10-mu0.4-seed0"
    assert made.label_space.names == balanced.label_space.names


def test_rows_are_those_of_the_corpus_in_its_order(balanced):
    made = synthesize(balanced, "linear")
    texts = dict(zip(balanced.ids("train"), balanced.texts("train"), strict=True))
    assert [texts[i] for i in made.ids("train")] == made.texts("train")
    positions = [balanced.ids("train").index(i) for i in made.ids("train")]
    assert positions == sorted(positions)
    names = balanced.label_space.names
    assert all(text.endswith(names[y]) for text, y in zip(made.texts("train"), made.labels("train"), strict=True))


def test_validation_and_test_stay_as_they_are(balanced):
    made = synthesize(balanced, rho=20)
    for split in ("validation", "test"):
        assert made.ids(split) == balanced.ids(split)
        assert made.labels(split).tolist() == balanced.labels(split).tolist()
    assert list(made.source["synthesis"]["splits"]) == ["train"]


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(SHAPES), st.floats(1, 60), st.floats(1, 60), st.integers(0, 5))
def test_rows_of_a_larger_ratio_are_among_those_of_a_smaller(balanced, shape, first, second, seed):
    flat, steep = sorted((first, second))
    flat_rows, steep_rows = (set(synthesize(balanced, shape, rho=r, seed=seed).ids("train")) for r in (flat, steep))
    assert steep_rows <= flat_rows


def test_equal_seeds_make_equal_corpora_and_others_do_not(balanced):
    first, again, other = (synthesize(balanced, "exponential", seed=s) for s in (1, 1, 2))
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert first.ids("train") == again.ids("train")
    ranks = {tuple(synthesize(balanced, seed=s).source["synthesis"]["classes_by_rank"]) for s in range(5)}
    assert len(ranks) == 5


def test_class_orders(natural):
    def ranks(order):
        made = synthesize(natural, "linear", rho=3, n_max=12, class_order=order)
        return made.source["synthesis"]["classes_by_rank"]

    assert ranks("frequency") == ["big", "also", "mid", "small"]
    assert ranks("alphabetical") == ["also", "big", "mid", "small"]
    assert ranks(["small", "mid", "big", "also"]) == ["small", "mid", "big", "also"]


def test_n_max_is_the_smallest_class_that_can_be_in_the_head(natural):
    order = ["big", "also", "mid", "small"]
    step = synthesize(natural, "step", mu=0.25, rho=10, class_order=order)
    assert by_rank(step) == [100, 100, 100, 10]
    assert by_rank(synthesize(natural, "linear", rho=12, class_order=order)) == [12, 8, 5, 1]


def test_a_kept_total_is_met(natural):
    made = synthesize(natural, "exponential", rho=10, class_order="frequency", keep_total=150)
    assert made.num_rows("train") == 150
    assert by_rank(made) == Profile("exponential", 10).counts_with_sum(4, 150).tolist()


def test_clipping_keeps_all_of_a_small_class_and_says_so(natural):
    made = synthesize(natural, "step", mu=0.25, rho=2, class_order="frequency", allow_clip=True)
    assert by_rank(made) == [100, 100, 100, 12]
    train = made.source["synthesis"]["splits"]["train"]
    assert (train["rho"], train["gap"]) == (pytest.approx(100 / 12, abs=1e-5), 0)
    assert made.source["synthesis"]["parameters"]["rho"] == 2.0


def test_stated_counts(natural):
    made = synthesize(natural, counts={"big": 30, "mid": 1})
    found = dict(zip(made.label_space.names, made.label_space.counts.tolist(), strict=True))
    assert found == {"also": 120, "big": 30, "mid": 1, "small": 12}
    assert made.source["synthesis"]["parameters"]["shape"] == "counts"


def test_validation_follows_train_and_test_is_balanced_where_asked(balanced):
    made = synthesize(balanced, "step", rho=10, validation="same", test="balanced")
    train, validation = made.label_space.counts, np.bincount(made.labels("validation"), minlength=10)
    assert (validation == train // 3).all()
    assert np.bincount(made.labels("test"), minlength=10).tolist() == [20] * 10
    assert set(made.source["synthesis"]["splits"]) == {"train", "validation", "test"}


def test_a_balanced_test_split_has_the_smallest_class_of_each(make_corpus):
    corpus = make_corpus(rows_of({"a": 9, "b": 9}, "t"), [("v", "a")], rows_of({"a": 7, "b": 3, "never": 5}, "x"))
    made = synthesize(corpus, rho=3, mu=0.5, test="balanced", validation="same")
    assert np.bincount(made.labels("test")).tolist() == [3, 3, 3]
    assert made.num_rows("validation") == 1


def test_the_manifest_tells_what_was_asked_and_reached(balanced):
    made = synthesize(balanced, "exponential", rho=12, seed=4)
    manifest = made.source["synthesis"]
    assert json.loads(json.dumps(manifest, allow_nan=False)) == manifest
    assert manifest["corpus"] == {"name": "hand", "fingerprint": balanced.fingerprint, "task": "text"}
    assert manifest["parameters"]["shape"] == "exponential"
    assert (manifest["parameters"]["rho"], manifest["parameters"]["seed"]) == (12.0, 4)
    assert manifest["fingerprint"] == made.fingerprint
    train = manifest["splits"]["train"]
    assert (train["rows_before"], train["rows"]) == (600, made.num_rows("train"))
    assert train["kept_ids_sha256"] == hashlib.sha256(json.dumps(made.ids("train")).encode()).hexdigest()
    for name, count in zip(made.label_space.names, made.label_space.counts.tolist(), strict=True):
        facts = train["classes"][name]
        assert (facts["available"], facts["wanted"], facts["reached"]) == (60, count, count)
        assert facts["ratio"] == pytest.approx(60 / count, abs=1e-5)


def test_several_labels_come_near_and_the_rest_is_told():
    """Only 5 of the 15 rows with b and c can leave before b falls below 40, so that c keeps 10 or more."""
    sets = [{"a"}] * 30 + [{"b"}] * 20 + [{"a", "b"}] * 10 + [{"c"}] * 25 + [{"b", "c"}] * 15 + [set()] * 10
    made = synthesize(multi(sets), "step", rho=5, mu=0.34, class_order=["a", "b", "c"], n_max=40)
    counts = np.bincount(made.label_matrix("train").indices)
    assert counts.tolist() == made.label_space.counts.tolist()
    assert counts[:2].tolist() == [40, 40]
    assert 10 <= counts[2] <= 15
    assert made.source["synthesis"]["splits"]["train"]["gap"] == counts[2] - 8
    assert made.label_space.num_rows == made.num_rows("train")
    assert made.num_rows("test") == 110


def test_labels_that_a_scarce_one_holds_back_are_told():
    made = synthesize(
        multi([{"a", "b"}] * 8 + [{"a"}] * 2), "step", rho=4, mu=0.5, class_order=["a", "b"], n_max=10, allow_clip=True
    )
    train = made.source["synthesis"]["splits"]["train"]
    assert train["gap"] == 6
    assert train["classes"]["b"] == {"available": 8, "wanted": 2, "reached": 8, "ratio": 1.25}


def test_rows_with_several_labels_are_nested_in_every_thinned_split():
    generator = np.random.default_rng(0)
    sets = [set(np.array(list("abcd"))[generator.random(4) < (0.5, 0.4, 0.3, 0.2)].tolist()) for _ in range(200)]
    made = [synthesize(multi(sets), "exponential", rho=rho, n_max=40, validation="same") for rho in (1, 2, 5, 20)]
    for split in ("train", "validation"):
        ids = [set(corpus.ids(split)) for corpus in made]
        assert all(steep < flat for flat, steep in pairwise(ids))


def test_a_written_corpus_of_several_labels_is_read_back(tmp_path):
    made = synthesize(multi([{"a"}, {"a", "b"}, {"b"}, set(), {"c"}, {"a", "c"}] * 10), "linear", rho=3)
    write_corpus(made, tmp_path / "made")
    read = tailwise.load(tmp_path / "made")
    assert read.fingerprint == made.fingerprint
    assert (read.label_matrix("train") != made.label_matrix("train")).nnz == 0


def test_a_written_corpus_is_read_back_as_it_was(balanced, natural, make_corpus, tmp_path):
    pairs = make_corpus(
        [(f"eins\n{i}", f"zwei\u2028 {i}", c) for c in "ab" for i in range(6)], [("v", "w", "a")],
        [("x", "y", "never")],
        catch_all="b",
    )  # fmt: skip
    for number, corpus in enumerate((balanced, natural, pairs)):
        made = synthesize(corpus, "step", rho=3, mu=0.5, n_max=6)
        folder = tmp_path / str(number) / "deep"
        files = write_corpus(made, folder, documents={"manifest.json": made.source["synthesis"]}, origin="made")
        read = tailwise.load(folder)
        assert read.fingerprint == made.fingerprint
        assert read.label_space.to_dict() == made.label_space.to_dict()
        assert read.source["split_origin"] == "made"
        assert json.loads((folder / "manifest.json").read_text()) == made.source["synthesis"]
        content = (folder / "train.jsonl").read_bytes()
        assert files["train"]["sha256"] == hashlib.sha256(content).hexdigest()
        assert files["train"]["rows"] == made.num_rows("train") == content.count(b"\n")


def test_a_folder_with_something_in_it_is_left_alone(balanced, tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match="is not empty: it holds mine"):
        write_corpus(balanced, tmp_path)
    with pytest.raises(DataError, match="is a file or a link"):
        write_corpus(balanced, tmp_path / "mine.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"mu": 0.0}, "`mu`, the share of minority classes, between 0 and 1, but got 0.0"),
        ({"mu": 0.01}, "leaves no minority class. Expected `mu` of at least 0.25"),
        ({"rho": 0.5}, "at least 1, but got 0.5"),
        (
            {"shape": "linear", "rho": 13},
            "`rho` can be 12 at most. With class_order='frequency' n_max can be up to 162",
        ),
        ({"shape": "linear", "rho": 300, "class_order": "frequency"}, "`rho` can be 12 at most. Or give allow_clip"),
        (
            {"n_max": 500, "mu": 0.25},
            "The class 'mid' has 100 instances, but step with rho = 10 wants 500 of it (3 more",
        ),
        (
            {"mu": 0.25, "rho": 2, "class_order": "frequency"},
            "The class 'small' has 12 instances, but step with rho = 2",
        ),
        ({"keep_total": 430, "shape": "linear", "rho": 2}, "Give keep_total of at most"),
        ({"keep_total": 3}, "`keep_total` of at least 4 (4 classes of at least 1), but got 3"),
        ({"keep_total": 30, "n_max": 10}, "`n_max` or `keep_total`, but got both: 10 and 30"),
        ({"min_count": 13}, "The class 'small' has 12 instances. Expected at least 13 of every class"),
        ({"class_order": "size"}, "Unknown class order 'size'"),
        ({"class_order": ["big", "mid"]}, "it is without 'also', 'small'"),
        ({"class_order": ["big", "mid", "also", "small", "big"]}, "it names a class twice"),
        ({"class_order": ["huge"]}, "There is no class 'huge'"),
        (
            {"counts": {"big": 201}},
            "the class 'big' to be a whole number from 1 to 200, the instances it has, but got 201",
        ),
        ({"counts": {"huge": 1}}, "There is no class 'huge'"),
        ({"seed": -1}, "`seed` to be an integer of at least 0, but got -1"),
        ({"validation": "thin"}, "Unknown `validation` = 'thin'"),
        ({"test": "equal"}, "Unknown `test` = 'equal'"),
    ],
)
def test_what_cannot_be_is_told_with_what_can(natural, parameters, message):
    with pytest.raises(SettingError) as caught:
        synthesize(natural, **{"class_order": "alphabetical", **parameters})
    assert message in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 300), min_size=2, max_size=8),
    st.sampled_from(SHAPES),
    st.floats(1, 50),
    st.integers(1, 300),
)
def test_the_bounds_told_are_true_and_sharp(available, shape, rho, n_max):
    profile = Profile(shape, rho, 0.5 if shape == "step" else None)
    names = [str(i) for i in range(len(available))]
    order = np.arange(len(available))
    try:
        layout = lay_out(profile, available, order, names, n_max=n_max)
    except SettingError as error:
        message = str(error)
    else:
        assert (layout.wanted <= available).all()
        return
    least = re.search(r"rho of at least ([\d.]+)", message)
    most = re.search(r"n_max of at most (\d+)", message)
    if least:
        found = lay_out(Profile(shape, float(least[1]), profile.mu), available, order, names, n_max=n_max)
        assert (found.wanted <= available).all()
    if most:
        fits = profile.counts(len(available), int(most[1]))
        assert (fits <= available).all()
        assert (profile.counts(len(available), int(most[1]) + 1) > available).any() or int(most[1]) == max(available)
    if least is None and most is None:
        bound = float(re.search(r"`rho` can be ([\d.e+]+) at most", message)[1])
        assert bound == pytest.approx(n_max, rel=1e-5)
        assert rho > n_max


def test_random_orders_are_permutations_that_the_seed_decides():
    first, again, other = (class_order_of("random", np.ones(50), [str(i) for i in range(50)], s) for s in (0, 0, 1))
    assert sorted(first) == list(range(50))
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize("name", ["trec6", "snips_intent", "huffpost41"])
def test_real_corpora_take_every_shape(data_dir, name):
    corpus = tailwise.load(data_dir / name)
    for shape in SHAPES:
        made = synthesize(corpus, shape, rho=10, seed=1)
        train = made.source["synthesis"]["splits"]["train"]
        assert train["gap"] == 0
        assert train["rho"] == pytest.approx(10, rel=0.1)
        assert made.num_rows("test") == corpus.num_rows("test")
        if name == "huffpost41":
            assert classify_shape(made.label_space.counts).best.profile == shape


@pytest.mark.parametrize(("name", "n_max"), [("goemotions", 1000), ("reuters21578", 1000)])
def test_real_corpora_with_several_labels(data_dir, name, n_max):
    corpus = tailwise.load(data_dir / name)
    made = synthesize(corpus, "exponential", rho=50, class_order="frequency", n_max=n_max, allow_clip=True)
    train = made.source["synthesis"]["splits"]["train"]
    off = {c: facts["reached"] - facts["wanted"] for c, facts in train["classes"].items()}
    assert min(off.values()) >= 0
    assert sum(off.values()) == train["gap"] <= 0.05 * sum(facts["wanted"] for facts in train["classes"].values())
    assert made.ids("test") == corpus.ids("test")
