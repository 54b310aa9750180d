"""CoNLL files, and the schemes of tags: IOB1, IOB2, BIOES, BILOU and BMES."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.data import load
from tailwise.data.corpus import SPLITS
from tailwise.data.rows import RowBuilder
from tailwise.data.tag_schemes import in_iob2
from tailwise.errors import DataError

# a span of two tokens, two spans of one type side by side, a span of one token
IOB2 = ["B-a", "I-a", "O", "B-a", "B-a", "I-a", "I-a", "O", "B-b", "B-a"]
SAME = {
    "IOB1": ["I-a", "I-a", "O", "I-a", "B-a", "I-a", "I-a", "O", "I-b", "I-a"],
    "IOB2": IOB2,
    "BIOES": ["B-a", "E-a", "O", "S-a", "B-a", "I-a", "E-a", "O", "S-b", "S-a"],
    "BILOU": ["B-a", "L-a", "O", "U-a", "B-a", "I-a", "L-a", "O", "U-b", "U-a"],
    "BMES": ["B-a", "E-a", "O", "S-a", "B-a", "M-a", "E-a", "O", "S-b", "S-a"],
}


def rows_of(sentences):
    builder = RowBuilder({"tokens": "tokens", "tags": "tags"}, "x")
    for tags in sentences:
        builder.add(0, [["w"] * len(tags), tags])
    return builder.finish()


def converted(sentences):
    told = []
    parts, scheme = in_iob2({"all": rows_of(sentences)}, told.append)
    return parts["all"].table.column("tags").to_pylist(), scheme, told


def text_of(sentences, between="\t", middle=("X",)):
    lines = [between.join([token, *middle, tag]) + "\n" for s in sentences for token, tag in [*s, ("", "")]]
    empty = between.join(["", *middle, ""]) + "\n"
    return "".join("\n" if line == empty else line for line in lines)


def sentences(number, tags=IOB2):
    return [[(f"w{i}-{k}", tag) for k, tag in enumerate(tags)] for i in range(number)]


def refused(path, *pieces, **kwargs):
    with pytest.raises(DataError) as caught:
        load(path, **kwargs)
    for piece in pieces:
        assert piece in str(caught.value), str(caught.value)


@pytest.mark.parametrize("scheme", SAME)
def test_schemes_are_told_apart_and_converted(scheme):
    found, name, told = converted([SAME[scheme]])
    assert found == [IOB2]
    assert name == scheme
    assert told == (
        [] if scheme == "IOB2" else [f"x: the tags are in {scheme}; converted to IOB2 (every span starts with B-)."]
    )


def spans_of(tags):
    """Naive reading of IOB2: start, end and type of every span."""
    found = []
    for place, tag in enumerate(tags):
        if tag.startswith("B-"):
            found.append([place, place + 1, tag[2:]])
        elif tag.startswith("I-"):
            found[-1][1] = place + 1
    return found


def written(spans, length, scheme):
    """Naive writing of spans in a scheme."""
    tags = ["O"] * length
    for start, end, kind in spans:
        inside = {"BMES": "M"}.get(scheme, "I")
        letters = ["B", *[inside] * (end - start - 1)]
        if scheme in {"BIOES", "BMES", "BILOU"}:
            letters[-1] = "L" if scheme == "BILOU" else "E"
            if end - start == 1:
                letters = ["U" if scheme == "BILOU" else "S"]
        if scheme == "IOB1" and not (start and tags[start - 1][2:] == kind):
            letters[0] = "I"
        tags[start:end] = [f"{letter}-{kind}" for letter in letters]
    return tags


@st.composite
def iob2_sentences(draw):
    found = []
    for pieces in draw(
        st.lists(st.lists(st.tuples(st.sampled_from("Oab"), st.integers(1, 4)), min_size=1), min_size=1)
    ):
        tags = []
        for kind, size in pieces:
            tags += ["O"] * size if kind == "O" else [f"B-{kind}", *[f"I-{kind}"] * (size - 1)]
        found.append(tags)
    return found


@given(iob2_sentences(), st.sampled_from(sorted(SAME)))
def test_every_scheme_keeps_the_spans(wanted, scheme):
    given_tags = [written(spans_of(tags), len(tags), scheme) for tags in wanted]
    found, name, _ = converted(given_tags)
    letters = {tag[0] for tags in given_tags for tag in tags}
    if scheme in {"BIOES", "BILOU", "BMES"} and not letters & set("ESLU"):
        return
    assert found == wanted
    if scheme == "BMES" and "M" not in letters:
        assert name == "BIOES"
    elif letters - {"O"} and not (scheme == "IOB1" and given_tags == wanted):
        assert name == scheme


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (["O", "I-a", "B-a", "O", "B-a"], "the tag 'I-a' follows 'O'"),
        (
            ["B-a", "E-a", "S-a", "E-a"],
            "the tag 'E-a' follows 'S-a', so that its span has no start. The tags are in BIOES",
        ),
        (["B-a", "O", "S-a"], "the span of the tag 'B-a' has no end. The tags are in BIOES"),
        (["B-a", "I-a", "S-a"], "the span of the tag 'I-a' has no end"),
        (["U-a", "O", "B-a"], "its last token has L-, and a span of one token U-"),
        (["B-a", "L-b", "U-a"], "the tag 'L-b' follows 'B-a'"),
    ],
)
def test_tags_that_keep_to_no_scheme(tags, message):
    with pytest.raises(DataError, match=r"x, row 0 \(from 0\), place ") as caught:
        in_iob2({"all": rows_of([tags, tags])}, print)
    assert message in str(caught.value)


@pytest.mark.parametrize("tags", [["NOUN", "VERB"], ["B-a", "X"], ["B-NP", "U-x", "E-x"], ["O", "O"]])
def test_tags_without_marks_of_spans_stay(tags):
    found, scheme, told = converted([tags])
    assert (found, scheme, told) == ([tags], "plain", [])


def test_marks_without_a_type():
    assert converted([["I", "I", "O", "I", "B"]])[:2] == ([["B", "I", "O", "B", "B"]], "IOB1")


def test_scheme_is_that_of_all_splits(tmp_path):
    (tmp_path / "train.conll").write_text(text_of(sentences(30, SAME["IOB1"])))
    (tmp_path / "test.conll").write_text(text_of([[("a", "I-a"), ("b", "B-a")], [("c", "O"), ("d", "I-b")]]))
    corpus = load(tmp_path)
    names = corpus.label_space.all_names
    assert corpus.source["tag_scheme"] == "IOB1"
    assert [names[i] for i in corpus.labels("test")] == ["B-a", "B-a", "O", "B-b"]


@pytest.mark.parametrize("suffix", ["conll", "iob", "bio", "txt", "iob2", "conll.gz"])
@pytest.mark.parametrize("between", ["\t", " "])
def test_files(tmp_path, suffix, between):
    path = tmp_path / f"x.{suffix}"
    text = f"-DOCSTART-{between}X{between}O\n\n# id 7 domain=x\n" + text_of(sentences(30), between) + "\n\n"
    path.write_bytes(gzip.compress(text.encode()) if suffix.endswith("gz") else text.encode())
    told = []
    corpus = load(path, notify=told.append)
    assert told[-1].startswith("task: tagging (tokens, tags): 24 sentences, ")
    assert corpus.name == "x"
    plain = tmp_path / "x.jsonl"
    rows = [{"tokens": [a for a, _ in s], "tags": [b for _, b in s]} for s in sentences(30)]
    plain.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert load(plain).fingerprint == corpus.fingerprint


def test_columns_by_number(tmp_path):
    path = tmp_path / "x.conll"
    path.write_text("".join(f"{i}\tw{i}\t{'NV'[i % 2]}\tO\n\n" for i in range(40)))
    corpus = load(path, text="1", label="2")
    assert corpus.label_space.names == ("N", "V")
    assert all(token.startswith("w") for sentence in corpus.tokens("train") for token in sentence)
    assert sum(corpus.num_rows(split) for split in SPLITS) == 40
    refused(path, "no column '4'; the columns are 'tokens', '1', '2', 'tags'", label="4")


def test_a_hash_can_be_a_token(tmp_path):
    path = tmp_path / "x.conll"
    path.write_text("# O\nx B-a\n\n" * 2 + text_of(sentences(20), " ", ()))
    corpus = load(path)
    assert ["#", "x"] in [t for split in SPLITS for t in corpus.tokens(split)]


@pytest.mark.parametrize(
    ("content", "pieces"),
    [
        (
            "a\tO\nb\n",
            ("x.conll:2: expected 2 columns, as on the first line, separated by tabs; found 1", "without a tag"),
        ),
        ("a O\nb c B-a\n", ("x.conll:2: expected 2 columns", "separated by blanks; found 3", "needs tabs")),
        ("a\nb\n", ("x.conll:1: one column. Expected a token and its tag per line",)),
        ("\n\n", ("x.conll: the file is empty", "`Berlin B-place`")),
        ("-DOCSTART- O\n\n", ("x.conll: the file is empty",)),
        ("a\tO\n\nb\tB-a\nc\tO\n# id 3\nd\tI-a\n", ("x.conll:5: expected 2 columns",)),
        ("a\tO\n\nb\tB-a\nc\tO\nd\tI-a\n", ("x.conll:5: the tag 'I-a' follows 'O'", "write 'B-a' here")),
        ("a\tO\n\n\tB-a\n", ("x.conll:3: the token is empty",)),
        ("a\tO\n\nb\t\n", ("x.conll:3: the tag is empty",)),
        ("a\tO\n\nb\0\tO\n", ("x.conll:3: NUL byte",)),
    ],
)
def test_bad_files(tmp_path, content, pieces):
    path = tmp_path / "x.conll"
    path.write_text(content)
    refused(path, *pieces)
    refused(path, *pieces, task="tagging")


def test_a_file_of_another_task(tmp_path):
    path = tmp_path / "x.conll"
    path.write_text(text_of(sentences(20)))
    refused(path, "task='parsing' needs the columns tokens, heads and deprels; missing: heads, deprels", task="parsing")


def test_a_note_beside_a_table_is_no_split(tmp_path):
    (tmp_path / "train.csv").write_text("text,label\n" + "".join(f"t{i},{'ab'[i % 2]}\n" for i in range(40)))
    (tmp_path / "train.txt").write_text("This folder holds the data of a project.\n")
    assert load(tmp_path).task.name == "text"
