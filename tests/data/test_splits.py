"""What the splitter guarantees, on random data."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.data import load
from tailwise.data.splits import distinct, stratified_parts

SHARES = (0.1, 0.1)


@st.composite
def labelled_keys(draw, max_classes=6, max_keys=40):
    """Labels and text keys; keys repeat, and may carry several labels."""
    rows = draw(
        st.lists(st.tuples(st.integers(0, max_classes - 1), st.integers(0, max_keys)), min_size=1, max_size=120)
    )
    labels, keys = zip(*rows, strict=True)
    return np.array(labels), np.array(keys, dtype=np.uint64)


def texts_of_its_own(labels, keys, c):
    return set(keys[labels == c].tolist()) - set(keys[labels != c].tolist())


@settings(max_examples=150, deadline=None)
@given(labelled_keys(), st.integers(0, 5))
def test_equal_texts_are_never_in_two_parts(data, seed):
    labels, keys = data
    part = stratified_parts(labels, keys, SHARES, seed=seed)
    for key in np.unique(keys):
        assert len(set(part[keys == key].tolist())) == 1


@settings(max_examples=200, deadline=None)
@given(labelled_keys(), st.integers(0, 5))
def test_a_class_with_three_texts_of_its_own_is_in_every_part(data, seed):
    labels, keys = data
    part = stratified_parts(labels, keys, SHARES, seed=seed)
    for c in np.unique(labels):
        if len(texts_of_its_own(labels, keys, c)) >= 3:
            assert set(part[labels == c].tolist()) == {0, 1, 2}


@settings(max_examples=200, deadline=None)
@given(labelled_keys(max_classes=8, max_keys=12), st.integers(0, 5))
def test_every_class_is_in_train_even_where_classes_share_all_their_texts(data, seed):
    labels, keys = data
    part = stratified_parts(labels, keys, SHARES, seed=seed)
    assert set(labels[part == 0].tolist()) == set(labels.tolist())


@settings(max_examples=200, deadline=None)
@given(labelled_keys(), st.integers(0, 3))
def test_small_classes_go_where_the_documentation_says(data, seed):
    labels, keys = data
    part = stratified_parts(labels, keys, SHARES, seed=seed)
    for c in np.unique(labels):
        own = texts_of_its_own(labels, keys, c)
        if own != set(keys[labels == c].tolist()):
            continue
        parts = set(part[labels == c].tolist())
        if len(own) == 1:
            assert parts == {0}
        elif len(own) == 2:
            assert parts == {0, 1}


@settings(max_examples=200, deadline=None)
@given(labelled_keys(), st.integers(0, 3), st.randoms(use_true_random=False))
def test_the_split_does_not_depend_on_the_order_of_the_rows(data, seed, random):
    labels, keys = data
    order = np.array(random.sample(range(len(labels)), len(labels)))
    part = stratified_parts(labels, keys, SHARES, seed=seed)
    assert np.array_equal(part[order], stratified_parts(labels[order], keys[order], SHARES, seed=seed))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(3, 400), min_size=1, max_size=6), st.integers(0, 3))
def test_every_class_gives_a_tenth_to_each_held_out_part(sizes, seed):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    keys = np.arange(len(labels), dtype=np.uint64)
    part = stratified_parts(labels, keys, SHARES, seed=seed)
    for c, size in enumerate(sizes):
        for held_out in (1, 2):
            assert (part[labels == c] == held_out).sum() == max(1, int(0.1 * size + 0.5))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=3, max_size=40), st.integers(0, 3))
def test_large_groups_of_repeats_do_not_blow_up_a_held_out_part(group_sizes, seed):
    keys = np.repeat(np.arange(len(group_sizes)), group_sizes).astype(np.uint64)
    part = stratified_parts(np.zeros(len(keys), dtype=np.int64), keys, SHARES, seed=seed)
    quota = max(1, int(0.1 * len(keys) + 0.5))
    ordered = sorted(group_sizes)
    for held_out in (1, 2):
        rows = int((part == held_out).sum())
        assert 1 <= rows <= max(quota, ordered[1])
    assert (part == 0).any()


@settings(max_examples=200, deadline=None)
@given(labelled_keys(), st.integers(0, 3), st.integers(0, 40))
def test_pinned_texts_stay_in_train(data, seed, pinned_below):
    labels, keys = data
    pinned = keys < pinned_below
    part = stratified_parts(labels, keys, (0.1,), seed=seed, pinned=pinned)
    assert not part[pinned].any()


def test_another_seed_gives_another_split_and_the_same_seed_the_same():
    labels, keys = np.repeat([0, 1], 100), np.arange(200, dtype=np.uint64)
    first = stratified_parts(labels, keys, SHARES, seed=1)
    assert np.array_equal(first, stratified_parts(labels, keys, SHARES, seed=1))
    assert not np.array_equal(first, stratified_parts(labels, keys, SHARES, seed=2))


def test_a_cut_of_one_part_leaves_a_class_of_two_in_train():
    labels, keys = np.array([0] * 20 + [1] * 2), np.arange(22, dtype=np.uint64)
    part = stratified_parts(labels, keys, (0.1,), seed=0)
    assert part[labels == 1].tolist() == [0, 0]
    assert (part[labels == 0] == 1).sum() == 2


@given(st.lists(st.integers(0, 50), max_size=50))
def test_distinct_is_unique(values):
    array = np.array(values, dtype=np.int64)
    assert np.array_equal(distinct(array), np.unique(array))


VARIANTS = (str, str.upper, str.title, lambda t: f"  {t}\t", lambda t: t.replace(" ", " \u00a0 "))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 25), st.sampled_from(VARIANTS)), min_size=40, max_size=90))
def test_variants_in_case_and_space_never_straddle_splits(rows):
    frame = pd.DataFrame(
        {"text": [v(f"the text number {k}") for _, k, v in rows], "label": [f"c{c}" for c, _, _ in rows]}
    )
    frame = pd.concat([frame, pd.DataFrame({"text": [f"own {i}" for i in range(12)], "label": ["c0", "c1", "c2"] * 4})])
    corpus = load(frame)
    splits = {name: {" ".join(t.casefold().split()) for t in corpus.texts(name)} for name in corpus.splits}
    assert not splits["train"] & splits["test"]
    assert not splits["train"] & splits["validation"]
    assert not splits["validation"] & splits["test"]
    for name in corpus.splits:
        assert set(corpus.labels(name).tolist()) == {0, 1, 2}
    assert sum(corpus.num_rows(name) for name in corpus.splits) == len(frame)


def test_pairs_are_duplicates_only_as_pairs():
    rows = [("a question", f"answer {i}", "yes" if i % 2 else "no") for i in range(60)]
    frame = pd.DataFrame(rows, columns=["text", "text_pair", "label"])
    corpus = load(frame)
    assert [corpus.num_rows(s) for s in ("train", "validation", "test")] == [48, 6, 6]
    assert corpus.source["splits"]["repeated_texts"] == 0


def test_texts_in_other_unicode_composition_are_the_same_text():
    frame = pd.DataFrame(
        {
            "text": ["caf\u00e9", "cafe\u0301"] * 20 + [f"t{i}" for i in range(20)],
            "label": ["a", "b"] * 20 + ["a", "b"] * 10,
        }
    )
    corpus = load(frame)
    holders = [s for s in corpus.splits if any(t.startswith("caf") for t in corpus.texts(s))]
    assert len(holders) == 1
    assert corpus.source["splits"]["label_conflicts"] == 1


@pytest.mark.parametrize("seed", [13, 14])
def test_corpus_is_the_same_twice(seed):
    frame = pd.DataFrame({"text": [f"text {i}" for i in range(300)], "label": [f"c{i % 7}" for i in range(300)]})
    one, two = load(frame, seed=seed), load(frame, seed=seed)
    assert one.fingerprint == two.fingerprint
    assert one.ids("test") == two.ids("test")
    assert load(frame, seed=seed + 1).fingerprint != one.fingerprint
