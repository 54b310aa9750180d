"""Dependency trees and CoNLL-U files."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.data import load
from tailwise.data.list_cells import Flat
from tailwise.data.trees import in_cycles
from tailwise.errors import DataError

HEADS = [2, 0, 4, 2]


def line(number, form, head="_", relation="_", upos="X"):
    return f"{number}\t{form}\t_\t{upos}\t_\tA=b|C=d\t{head}\t{relation}\t_\tSpaceAfter=No\n"


def sentence(name, words=("a", "b", "c", "d"), heads=HEADS):
    lines = [f"# sent_id = {name}\n", "# text = a b c d\n", line("1-2", "ab")]
    for number, (word, head) in enumerate(zip(words, heads, strict=True), start=1):
        lines.append(line(number, word, head, "root" if head == 0 else "dep", "XY"[number % 2]))
        if number == 2:
            lines.append(line("2.1", "empty"))
    return "".join([*lines, "\n"])


def treebank(number=30):
    return "".join(sentence(f"s{i}", ("a", f"b{i}", "c c", "d")) for i in range(number))


def refused(path, *pieces, **kwargs):
    with pytest.raises(DataError) as caught:
        load(path, **kwargs)
    for piece in pieces:
        assert piece in str(caught.value), str(caught.value)


def reaches_no_root(heads):
    found = []
    for start in range(1, len(heads) + 1):
        at, steps = start, 0
        while at != 0 and steps <= len(heads):
            at, steps = heads[at - 1], steps + 1
        found.append(at != 0)
    return found


@given(st.lists(st.integers(1, 9).flatmap(lambda n: st.lists(st.integers(0, n), min_size=n, max_size=n)), min_size=1))
def test_cycles_are_found_as_by_walking(trees):
    lengths = np.array([len(heads) for heads in trees])
    heads = np.array([head for tree in trees for head in tree])
    found = in_cycles(heads, Flat(heads, lengths))
    assert found.tolist() == [bad for tree in trees for bad in reaches_no_root(tree)]


def test_a_chain_of_many_tokens_is_no_cycle():
    heads = np.arange(5000)
    assert not in_cycles(heads, Flat(heads, np.array([5000]))).any()
    heads[0] = 5000
    assert in_cycles(heads, Flat(heads, np.array([5000]))).all()


def test_conllu_file(tmp_path):
    path = tmp_path / "x.conllu"
    path.write_text(treebank())
    told = []
    corpus = load(path, notify=told.append)
    assert told[-1] == "task: parsing (tokens, heads, relations): 24 sentences, 2 dependency relations in train."
    row = next(row for split in corpus.splits.values() for row in split if row["id"] == "s7")
    assert row["tokens"] == ["a", "b7", "c c", "d"]
    assert row["heads"] == HEADS
    assert row["upos"] == ["Y", "X", "Y", "X"]
    assert [corpus.label_space.names[i] for i in row["relations"]] == ["dep", "root", "dep", "dep"]
    assert corpus.label_space.counts.tolist() == [72, 24]
    assert corpus.source["columns"] == {
        "tokens": "tokens", "heads": "heads", "relations": "deprels", "upos": "upos", "id": "id"
    }  # fmt: skip


def test_conllu_file_holds_what_the_json_lines_hold(tmp_path):
    (tmp_path / "x.conllu").write_text(treebank().replace("# sent_id", "# other"))
    rows = [
        {
            "tokens": ["a", f"b{i}", "c c", "d"],
            "upos": list("YXYX"),
            "heads": HEADS,
            "deprels": ["dep", "root", "dep", "dep"],
        }
        for i in range(30)
    ]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert load(tmp_path / "x.conllu").fingerprint == load(tmp_path / "x.jsonl").fingerprint


def test_parts_of_speech_of_a_treebank_as_tags(tmp_path):
    path = tmp_path / "x.conllu"
    path.write_text(treebank())
    corpus = load(path, task="tagging", label="upos")
    assert corpus.label_space.names == ("X", "Y")
    assert corpus.label_space.catch_all is None


def test_blanks_in_a_word_are_no_column(tmp_path):
    path = tmp_path / "x.conllu"
    path.write_text(treebank().replace("c c", "c  c"))
    assert load(path).tokens("test")[0][2] == "c c"


# line 1 to 3 are comments and a range, words start on line 4, the empty node stands on line 6
@pytest.mark.parametrize(
    ("old", "new", "pieces"),
    [
        ("\tSpaceAfter=No\n", "\n", ("x.conllu:3: expected 10 columns separated by tabs (ID, FORM", "found 9")),
        (line(1, "a", 2, "dep", "Y"), "1 a b\n", ("x.conllu:4: expected 10 columns", "found 1", "underscore")),
        (line(1, "a", 2, "dep", "Y"), line(1, "", 2, "dep"), ("x.conllu:4: the column FORM is empty",)),
        (line(1, "a", 2, "dep", "Y"), line(1, "a", "two", "dep"), ("x.conllu:4: broken CoNLL-U", "head", "'two'")),
        (
            line(1, "a", 2, "dep", "Y"),
            line("x", "a", 2, "dep"),
            ("x.conllu:4: broken CoNLL-U", "'x' is not a valid ID"),
        ),
        (line(1, "a", 2, "dep", "Y"), line(2, "a", 2, "dep"), ("x.conllu:4: the word has the ID 2, expected 1",)),
        (line(1, "a", 2, "dep", "Y"), line(1, "a", "_", "dep"), ("x.conllu:4: the word 'a' has no HEAD",)),
        (line(1, "a", 2, "dep", "Y"), line(1, "a", 2, "_"), ("x.conllu:4: the word 'a' has no DEPREL",)),
        (
            line(1, "a", 2, "dep", "Y"),
            line(1, "a", 9, "dep"),
            ("x.conllu:4: the head 9 of the token 'a' is out of range",),
        ),
        (line(1, "a", 2, "dep", "Y"), line(1, "a", 0, "root"), ("x.conllu:4: the sentence has 2 roots: tokens 1, 2",)),
        (line(1, "a", 2, "dep", "Y"), line(1, "a", 1, "dep"), ("x.conllu:4: the heads form a cycle",)),
        (
            line(4, "d", 2, "dep", "X"),
            line(4, "d", 3, "dep"),
            ("x.conllu:7: the heads form a cycle: from the token 'c c'",),
        ),
    ],
)
def test_bad_files(tmp_path, old, new, pieces):
    text = treebank()
    assert old in text
    path = tmp_path / "x.conllu"
    path.write_text(text.replace(old, new))
    refused(path, *pieces)


def test_empty_file_and_other_tasks(tmp_path):
    path = tmp_path / "x.conllu"
    path.write_text("# only = a comment\n\n")
    refused(path, "x.conllu: the file is empty. Expected sentences in CoNLL-U")
    path.write_text(treebank())
    refused(path, "task='relation' needs the columns tokens, head, tail and label", task="relation")
    refused(path, "which column is the text?", task="multilabel")


def test_no_root(tmp_path):
    path = tmp_path / "x.conllu"
    path.write_text(treebank() + sentence("bad", heads=[2, 1, 4, 2]))
    refused(path, "x.conllu:274: the sentence has no root: no head is 0. Correct or remove the sentence.")
