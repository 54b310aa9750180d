"""Duplicates, conflicts and leakage against naive re-derivations."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.data.cleaning import normalised_text
from tailwise.imbalance import duplicates as d

WORDS = st.lists(st.sampled_from(["yes", "Yes", "YES", "no", " no ", "n o", "Straße", "STRASSE", "é", "é"]), max_size=2)
ROWS = st.lists(st.tuples(WORDS.map(" ".join).map(lambda s: s or "x"), st.sampled_from("abc")), min_size=1, max_size=30)


@settings(max_examples=40)
@given(train=ROWS, test=ROWS)
def test_counts_equal_naive_loops(make_corpus, train, test):
    corpus = make_corpus(train, (), test)
    texts, target = d.SplitTexts(corpus, "train"), d.SplitTexts(corpus, "test")
    forms = Counter(normalised_text(text) for text, _ in train)
    labels = defaultdict(set)
    for text, label in train:
        labels[normalised_text(text)].add(label)
    found = d.find_duplicates(texts)
    assert found.rows == len(train) - len(forms)
    assert found.rows_exact == len(train) - len({text for text, _ in train})
    assert found.texts == sum(n > 1 for n in forms.values())
    conflicts = d.find_conflicts(texts)
    assert conflicts.texts == sum(len(names) > 1 for names in labels.values())
    assert conflicts.rows == sum(forms[form] for form, names in labels.items() if len(names) > 1)
    leakage = d.find_leakage(texts, target)
    leaked = [(normalised_text(text), label) for text, label in test if normalised_text(text) in forms]
    assert leakage.rows == len(leaked)
    assert leakage.rows_exact == sum(text in {t for t, _ in train} for text, _ in test)
    assert leakage.rows_other_label == sum(label not in labels[form] for form, label in leaked)
    assert leakage.share == pytest.approx(len(leaked) / len(test))


def test_examples_show_the_most_frequent_texts_and_their_labels(make_corpus):
    rows = [("Yes", "a"), ("yes ", "b"), ("YES", "a"), ("no", "a"), ("no", "a"), ("maybe", "b")]
    texts = d.SplitTexts(make_corpus(rows), "train")
    assert d.find_duplicates(texts).examples == (d.Duplicate("Yes", 3), d.Duplicate("no", 2))
    assert d.find_conflicts(texts).examples == (d.Conflict("Yes", {"a": 2, "b": 1}),)


def test_leaks_name_the_labels_on_both_sides(make_corpus):
    corpus = make_corpus([("What is it ?", "def"), ("other", "x")], (), [("what is IT ?", "loc"), ("new", "x")])
    leakage = d.find_leakage(d.SplitTexts(corpus, "train"), d.SplitTexts(corpus, "test"))
    assert (leakage.rows, leakage.rows_exact, leakage.rows_other_label) == (1, 0, 1)
    assert leakage.examples == (d.Leak("what is IT ?", "def", "loc"),)


def test_a_pair_is_repeated_only_where_both_texts_are(make_corpus):
    rows = [("a b", "c", "x"), ("a", "b c", "x"), ("a b", "C", "y"), ("ab", "c", "x"), ("c", "a b", "x")]
    texts = d.SplitTexts(make_corpus(rows), "train")
    found = d.find_duplicates(texts)
    assert (found.rows, found.rows_exact) == (1, 0)
    assert found.examples[0].text == "a b | c"
    assert d.find_conflicts(texts).examples[0].labels == {"x": 1, "y": 1}


def test_more_rows_than_a_batch(make_corpus):
    rows = [(f"text {i % 3000}", "ab"[i % 2]) for i in range(5000)]
    texts = d.SplitTexts(make_corpus(rows), "train")
    assert d.find_duplicates(texts).rows == 2000
    assert d.find_conflicts(texts).texts == 0
    assert texts.texts(4999) == ("text 1999",)


def test_a_selected_and_shuffled_data_set_is_read_in_its_own_order(make_corpus):
    corpus = make_corpus([(f"t{i}", "a") for i in range(9)] + [("t0", "b")])
    texts = d.SplitTexts(corpus, "train")
    corpus.splits["train"] = corpus.splits["train"].select(range(9, -1, -1)).flatten_indices()
    again = d.SplitTexts(corpus, "train")
    assert again.exact.tolist() == texts.exact[::-1].tolist()


def test_long_texts_are_shortened_in_examples(make_corpus):
    texts = d.SplitTexts(make_corpus([("word " * 10_000, "a"), ("word " * 10_000, "b")]), "train")
    shown = d.find_duplicates(texts).examples[0].text
    assert len(shown) == 160
    assert shown.endswith("…")


def test_lone_surrogates_do_not_stop_the_hashing():
    assert d._hashes(["\ud800", "a"]).dtype == np.uint64


def test_a_label_whose_text_only_shares_the_hash_is_left_out(make_corpus):
    texts = d.SplitTexts(make_corpus([("a", "x"), ("b", "y"), ("c", "x")]), "train")
    texts.normalised = np.array([1, 1, 2], dtype=np.uint64)
    assert d.find_conflicts(texts).examples == ()


def test_an_empty_split_leaks_nothing(make_corpus):
    corpus = make_corpus([("a", "x"), ("b", "y")])
    empty = d.SplitTexts(corpus, "test")
    assert d.find_leakage(d.SplitTexts(corpus, "train"), empty).share == 0.0
    assert d.find_leakage(empty, d.SplitTexts(corpus, "train")).rows == 0
    assert d.find_duplicates(empty).rows == 0
    assert d.find_conflicts(empty).rows == 0
