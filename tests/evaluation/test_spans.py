"""Span counts equal seqeval's, on real data with corrupted tags and on random sequences, malformed ones included."""

import gzip
import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.errors import DataError, SettingError
from tailwise.evaluation.metrics import (
    f1_per_class,
    macro_f1,
    micro_f1,
    precision_per_class,
    recall_per_class,
    weighted_f1,
)
from tailwise.evaluation.spans import (
    has_spans,
    lenient_span_counts,
    span_counts,
    span_space,
    span_types,
    spans,
)

CORPORA = ("wnut17", "bc5cdr", "atis_slots", "phee_arguments")
IOB = ("O", "B-a", "B-b", "I-a", "I-b")
IOBES = (*IOB, "E-a", "E-b", "S-a", "S-b")


def flat(sentences, tag_names):
    """Tag indices (M,) and offsets (N + 1,) of lists of tags."""
    index = {name: i for i, name in enumerate(tag_names)}
    tags = np.array([index[tag] for sentence in sentences for tag in sentence], dtype=np.int64)
    return tags, np.concatenate([[0], np.cumsum([len(s) for s in sentences])]).astype(np.int64)


def counted(function, gold, predicted, tag_names, **options):
    gold, offsets = flat(gold, tag_names)
    return function(gold, flat(predicted, tag_names)[0], offsets, tag_names, **options)


def seqeval_report(gold, predicted, *, strict=False):
    metrics = pytest.importorskip("seqeval.metrics", reason="seqeval is not installed: pip install -e '.[dev]'")
    from seqeval.scheme import IOB2

    options = {"mode": "strict", "scheme": IOB2} if strict else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return metrics.classification_report(gold, predicted, output_dict=True, zero_division=0, **options)


def assert_equals_report(counts, types, report):
    """Every type and every average of the report; types it does not list have nothing to count."""
    rows = {name: row for name, row in report.items() if not name.endswith(" avg")}
    listed = np.array([name in rows for name in types])
    assert set(rows) <= set(types)
    assert not counts.support[..., ~listed].any()
    assert not counts.predicted[..., ~listed].any()
    for values, field in (
        (precision_per_class(counts), "precision"),
        (recall_per_class(counts), "recall"),
        (f1_per_class(counts), "f1-score"),
        (counts.support, "support"),
    ):
        np.testing.assert_allclose(values[listed], [rows[t][field] for t in np.array(types)[listed]], rtol=1e-12)
    if not listed.any():
        return
    assert micro_f1(counts) == pytest.approx(report["micro avg"]["f1-score"], rel=1e-12)
    assert macro_f1(counts, listed) == pytest.approx(report["macro avg"]["f1-score"], rel=1e-12)
    assert weighted_f1(counts) == pytest.approx(report["weighted avg"]["f1-score"], rel=1e-12)


@pytest.fixture(params=CORPORA)
def corrupted(request, data_dir):
    """Gold tags of a real test split, the same with every sixth tag replaced by one drawn from all, and the names."""
    with gzip.open(data_dir / request.param / "test.jsonl.gz", "rt", encoding="utf-8") as lines:
        gold = [json.loads(line)["tags"] for line in lines]
    names = sorted({tag for sentence in gold for tag in sentence})
    generator = np.random.default_rng(7)
    swap = [generator.random(len(sentence)) < 1 / 6 for sentence in gold]
    predicted = [
        [str(generator.choice(names)) if s else t for t, s in zip(sentence, swapped, strict=True)]
        for sentence, swapped in zip(gold, swap, strict=True)
    ]
    return gold, predicted, names


def test_real_tags_against_corrupted_ones_score_as_in_seqeval(corrupted):
    gold, predicted, names = corrupted
    types = span_types(names)
    assert_equals_report(counted(span_counts, gold, predicted, names).total(), types, seqeval_report(gold, predicted))
    strict = counted(span_counts, gold, predicted, names, strict=True).total()
    assert_equals_report(strict, types, seqeval_report(gold, predicted, strict=True))


@st.composite
def sequence_pairs(draw, tag_names):
    """Gold and predicted tags of a few sentences, in which anything may follow anything."""
    lengths = draw(st.lists(st.integers(1, 9), min_size=1, max_size=6))
    return [
        [
            [tag_names[i] for i in draw(st.lists(st.integers(0, len(tag_names) - 1), min_size=n, max_size=n))]
            for n in lengths
        ]
        for _ in range(2)
    ]


@settings(max_examples=150, deadline=None)
@given(sequence_pairs(IOB))
def test_random_tags_score_as_in_seqeval(pair):
    gold, predicted = pair
    counts = counted(span_counts, gold, predicted, IOB).total()
    assert_equals_report(counts, span_types(IOB), seqeval_report(gold, predicted))


@settings(max_examples=150, deadline=None)
@given(sequence_pairs(IOB))
def test_random_tags_score_as_in_the_strict_mode_of_seqeval(pair):
    gold, predicted = pair
    counts = counted(span_counts, gold, predicted, IOB, strict=True).total()
    assert_equals_report(counts, span_types(IOB), seqeval_report(gold, predicted, strict=True))


@settings(max_examples=150, deadline=None)
@given(sequence_pairs(IOBES))
def test_random_tags_with_ends_and_singles_score_as_in_seqeval(pair):
    gold, predicted = pair
    counts = counted(span_counts, gold, predicted, IOBES).total()
    assert_equals_report(counts, span_types(IOBES), seqeval_report(gold, predicted))


def walk(gold, predicted):
    """Pairs of overlapping spans of one type in one sentence, by two pointers: the definition word for word."""
    hits = []
    for kind in {s["type"] for s in gold}:
        left, right = ([s for s in side if s["type"] == kind] for side in (gold, predicted))
        while left and right:
            a, b = left[0], right[0]
            if a["start"] < b["end"] and b["start"] < a["end"]:
                hits.append(kind)
                left, right = left[1:], right[1:]
            elif a["end"] <= b["start"]:
                left = left[1:]
            else:
                right = right[1:]
    return hits


@settings(max_examples=200, deadline=None)
@given(sequence_pairs(("O", "B-a", "B-b", "I-a", "I-b", "I-a", "I-a")))
def test_lenient_hits_are_those_of_a_walk_from_left_to_right(pair):
    gold, predicted = pair
    counts = counted(lenient_span_counts, gold, predicted, IOB)
    sides = [spans(*flat(side, IOB), IOB) for side in pair]
    for sentence in range(len(gold)):
        hits = walk(*[side[side["sentence"] == sentence] for side in sides])
        assert counts.correct[sentence].toarray()[0].tolist() == [hits.count(0), hits.count(1)]


@settings(max_examples=150, deadline=None)
@given(sequence_pairs(IOB))
def test_lenient_hits_are_the_most_that_any_pairing_has(pair):
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import maximum_bipartite_matching

    truth, guess = (spans(*flat(side, IOB), IOB) for side in pair)
    overlap = (
        (truth["sentence"][:, None] == guess["sentence"])
        & (truth["type"][:, None] == guess["type"])
        & (truth["start"][:, None] < guess["end"])
        & (guess["start"] < truth["end"][:, None])
    )
    most = int((maximum_bipartite_matching(csr_matrix(overlap)) >= 0).sum()) if overlap.size else 0
    assert counted(lenient_span_counts, *pair, IOB).correct.sum() == most


def test_spans_name_sentence_tokens_and_type():
    found = spans(*flat([["O", "B-b", "I-b"], [], ["I-a", "I-b", "B-b"]], IOB), IOB)
    assert found.tolist() == [(0, 1, 3, 1), (2, 0, 1, 0), (2, 1, 2, 1), (2, 2, 3, 1)]
    strict = spans(*flat([["O", "B-b", "I-b"], [], ["I-a", "I-b", "B-b"]], IOB), IOB, strict=True)
    assert strict.tolist() == [(0, 1, 3, 1), (2, 2, 3, 1)]


def test_a_span_never_crosses_into_the_next_sentence():
    assert spans(*flat([["O", "B-a"], ["I-a", "I-a"]], IOB), IOB).tolist() == [(0, 1, 2, 0), (1, 0, 2, 0)]


def test_three_predictions_within_one_gold_span_are_one_lenient_hit():
    counts = counted(lenient_span_counts, [["B-a", "I-a", "I-a"]], [["B-a", "B-a", "B-a"]], IOB).total()
    assert (counts.correct.tolist(), counts.support.tolist(), counts.predicted.tolist()) == ([1, 0], [1, 0], [3, 0])


def test_counts_are_kept_per_sentence():
    gold = [["B-a", "O", "B-b"], ["O"], ["B-a", "I-a"]]
    predicted = [["B-a", "O", "B-a"], ["B-b"], ["B-a", "O"]]
    counts = counted(span_counts, gold, predicted, IOB)
    assert counts.correct.toarray().tolist() == [[1, 0], [0, 0], [0, 0]]
    assert counts.support.toarray().tolist() == [[1, 1], [0, 0], [1, 0]]
    assert counts.predicted.toarray().tolist() == [[2, 0], [0, 1], [1, 0]]
    lenient = counted(lenient_span_counts, gold, predicted, IOB)
    assert lenient.correct.toarray().tolist() == [[1, 0], [0, 0], [1, 0]]


def test_unseen_types_come_last_and_only_in_the_support():
    names = ("B-z", "O", "I-z", "B-c", "I-m")  # training has the first three
    space = span_space(names, num_tags=3)
    assert (space.names, space.num_types, space.unseen) == (("z", "c", "m"), 1, ("c", "m"))
    counts = counted(span_counts, [["B-z", "B-c", "I-m"]], [["B-z", "I-z", "O"]], names, num_tags=3)
    assert counts.support.toarray().tolist() == [[1, 1, 1]]
    assert counts.predicted.toarray().tolist() == [[1]]
    assert counts.correct.toarray().tolist() == [[0]]
    assert counted(lenient_span_counts, [["B-z"]], [["I-z"]], names, num_tags=3).correct.toarray().tolist() == [[1]]


def test_an_unseen_tag_of_a_type_of_training_counts_for_that_type():
    names = ("B-a", "O", "I-a")  # I-a only in the test split
    counts = counted(span_counts, [["B-a", "I-a"]], [["B-a", "O"]], names, num_tags=2)
    assert (counts.support.sum(), counts.predicted.sum(), counts.correct.sum()) == (1, 1, 0)
    assert span_space(names, num_tags=2).names == ("a",)


def test_a_split_without_sentences_or_without_spans_counts_nothing():
    for sentences in ([], [[], ["O"]]):
        for function in (span_counts, lenient_span_counts):
            counts = counted(function, sentences, sentences, IOB)
            assert counts.support.shape == (len(sentences), 2)
            assert counts.total().total == 0


def test_tags_that_mark_no_spans_are_told_apart():
    assert has_spans(IOBES)
    assert not has_spans(("NOUN", "VERB"))
    assert not has_spans(("O",))
    with pytest.raises(DataError, match=r"start with 'B-', 'I-', 'E-' or 'S-', but there is 'NOUN'"):
        span_types(("O", "NOUN"))


def test_wrong_arguments_are_named():
    tags, offsets = np.array([0, 1]), np.array([0, 2])
    with pytest.raises(DataError, match=r"`predicted` to be in 0\.\.1, but it spans 0\.\.2"):
        span_counts(tags, np.array([0, 2]), offsets, IOB, num_tags=2)
    with pytest.raises(DataError, match=r"`gold` to be in 0\.\.4, but it spans -100\.\.1"):
        span_counts(np.array([-100, 1]), tags, offsets, IOB)
    with pytest.raises(DataError, match="2 and 3 of them"):
        span_counts(tags, np.zeros(3, dtype=np.int64), offsets, IOB)
    with pytest.raises(DataError, match=r"`offsets` \(N \+ 1,\) to rise from 0 to 2"):
        spans(tags, np.array([0, 1]), IOB)
    with pytest.raises(SettingError, match=r"`num_tags`.* in 0\.\.5 .* but got 6"):
        span_space(IOB, num_tags=6)
    with pytest.raises(SettingError, match="IOB2, but there is the tag 'E-a'"):
        spans(tags, offsets, IOBES, strict=True)
