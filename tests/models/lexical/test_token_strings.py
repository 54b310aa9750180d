"""What every token of a sentence is described by."""

import pytest

from tailwise.models.lexical.token_strings import token_features, word_shape


@pytest.mark.parametrize(
    ("word", "shape"),
    [
        ("McDonald's", "XxXx'x"),
        ("1,024", "d,d"),
        ("IL-2", "X-d"),
        ("Über", "Xx"),
        ("서울", "o"),
        ("北京2008", "od"),
        ("٣", "d"),
        ("🙂🙂", "🙂"),
        ("", ""),
    ],
)
def test_a_shape_keeps_case_and_digits_of_any_script(word, shape):
    assert word_shape(word) == shape


def test_the_strings_of_a_token_are_its_window_written_out():
    first, second = token_features(["Rare", "classes"])
    assert first == [
        "-2=out",
        "-1=out",
        *("0w=rare", "0s=Xx", "0p2=ra", "0p3=rar", "0p4=rare", "0q2=re", "0q3=are", "0q4=rare"),
        *("1w=classes", "1s=x", "1p2=cl", "1p3=cla", "1p4=clas", "1q2=es", "1q3=ses", "1q4=sses"),
        "2=out",
    ]
    assert second[:3] == ["-2=out", "-1w=rare", "-1s=Xx"]
    assert second[-2:] == ["1=out", "2=out"]


def test_affixes_are_those_of_the_token_and_its_neighbours_alone():
    middle = token_features(["a1", "b2", "c3", "d4", "e5"])[2]
    assert {"-2w=a1", "2w=e5", "-2s=xd", "2s=xd"} <= set(middle)
    assert not any(string.startswith(("-2p", "-2q", "2p", "2q")) for string in middle)
    assert {"-1p2=b2", "1q2=d4"} <= set(middle)


@pytest.mark.parametrize("tokens", [[], [""], ["", "a", ""], ["=", "0w=x"], ["a"] * 7, ["İ", "ß", "한"]])
def test_every_token_has_a_list_without_repetition(tokens):
    found = token_features(tokens)
    assert len(found) == len(tokens)
    assert all(len(set(strings)) == len(strings) > 0 for strings in found)


def test_a_sentence_is_described_alike_whatever_came_before():
    tokens = ["Aspirin", "inhibits", "COX-2"]
    before = token_features(tokens)
    token_features(["other", "Aspirin"])
    assert token_features(tokens) == before
