"""Lexical features: values, forms, languages, limits, and what a saved folder may hold."""

import json
import random
import string
import unicodedata

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from scipy.sparse import hstack
from sklearn.feature_extraction.text import TfidfVectorizer

from tailwise.data import load
from tailwise.data.corpus import RelationInput
from tailwise.errors import DataError, ModelError, SettingError
from tailwise.models.lexical import LexicalFeatures
from tailwise.models.lexical.counting import word_pattern
from tailwise.models.lexical.relation_strings import relation_features

TEXTS = [
    "I did not like it , not at all",
    "Nicht schön: Die Straße war gesperrt!",
    "이 영화는 정말 재미있어요",
    "我不喜欢这部电影",
    "यह फ़िल्म अच्छी नहीं है",
    "so good 🙂🙂 ❤️",
    "?!",
    "",
    "   ",
    "I did like it, all of it",
]
RELATIONS = [
    RelationInput(("The", "engine", "of", "the", "old", "car", "stalled"), (1, 2), (5, 6)),
    RelationInput(("The", "car", "has", "an", "engine"), (4, 5), (1, 2)),
    RelationInput(("Engine", "car"), (0, 1), (1, 2)),
    RelationInput(("overlapping", "spans", "here"), (0, 2), (1, 3)),
]
INPUTS = {
    "text": (TEXTS, None),
    "pair": (TEXTS, TEXTS[::-1]),
    "relation": (RELATIONS, None),
    "tokens": ([["Rare", "classes"], [], ["matter", "!"], ["Rare", "ones"]], None),
}


def made_up_texts(rows, seed=0):
    generator = random.Random(seed)
    words = ["".join(generator.choices(string.ascii_letters, k=generator.randint(1, 9))) for _ in range(60)]
    return [" ".join(generator.choices(words, k=generator.randint(0, 12))) for _ in range(rows)]


def fitted(form, **options):
    inputs, pairs = INPUTS[form]
    return LexicalFeatures.fit(form, inputs, pairs, **options)


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("texts", [made_up_texts(120), [text for text in TEXTS if text.strip()]])
def test_texts_have_the_values_of_scikit_learn(texts, lowercase):
    features = LexicalFeatures.fit("text", texts, min_df=2, lowercase=lowercase, word_weight=2.0)
    shared = {"sublinear_tf": True, "min_df": 2, "lowercase": lowercase}
    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=word_pattern(), **shared)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), **shared)
    expected = hstack([2 * words.fit_transform(texts), characters.fit_transform(texts)]) / np.sqrt(5)
    assert list(features.blocks[0].terms) == words.get_feature_names_out().tolist()
    assert list(features.blocks[1].terms) == characters.get_feature_names_out().tolist()
    np.testing.assert_allclose(features.transform(texts).toarray(), expected.toarray(), rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("form", INPUTS)
def test_the_matrix_is_sparse_float32_with_columns_in_order_and_a_row_per_input_or_token(form):
    features, (inputs, pairs) = fitted(form, min_df=1), INPUTS[form]
    matrix = features.transform(inputs, pairs)
    rows = sum(map(len, inputs)) if form == "tokens" else len(inputs)
    assert matrix.format == "csr"
    assert matrix.shape == (rows, features.num_features)
    assert (matrix.dtype, matrix.indices.dtype, matrix.indptr.dtype) == (np.float32, np.int32, np.int32)
    assert matrix.has_sorted_indices
    assert np.isfinite(matrix.data).all()
    assert np.sqrt(matrix.multiply(matrix).sum(axis=1)).max() == pytest.approx(1, abs=1e-5)
    assert features.transform([], None if pairs is None else []).shape == (0, features.num_features)


def test_a_row_does_not_depend_on_the_rows_around_it():
    texts = made_up_texts(9000)
    features = LexicalFeatures.fit("text", texts)
    matrix = features.transform(texts)
    for row in (0, 4095, 4096, 8999):
        assert (features.transform([texts[row]]) != matrix[row]).nnz == 0


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "zzzz", "\ud800", "\0", "१२", "a" * 100_000])
def test_a_text_without_known_terms_is_a_row_of_zeros(text):
    matrix = LexicalFeatures.fit("text", TEXTS[:2]).transform([text])
    assert matrix.shape[0] == 1
    assert matrix.nnz == 0


def test_texts_without_any_term_give_no_columns():
    features = LexicalFeatures.fit("text", ["", "  "])
    assert features.num_features == 0
    assert features.transform(["word"]).shape == (1, 0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I didn't", ["I", "didn", "'", "t"]),
        ("我不喜欢 BERT模型", ["我", "不", "喜", "欢", "BERT", "模", "型"]),
        ("정말 재미있어요", ["정말", "재미있어요"]),
        ("अच्छी नहीं", ["अच्छी", "नहीं"]),
        ("Straße", ["Straße"]),
        ("ok 🙂🙂!", ["ok", "🙂", "🙂", "!"]),
    ],
)
def test_words_of_any_script_and_signs_are_terms(text, words):
    features = LexicalFeatures.fit("text", [text], character_ngrams=None, lowercase=False, word_ngrams=(1, 1), min_df=1)
    assert set(features.blocks[0].terms) == set(words)


def test_case_and_composition_make_no_difference():
    text = "Ärger über Straßen, écrit à Zoë"
    features = LexicalFeatures.fit("text", [text], min_df=1)
    for other in (text.upper().replace("SS", "ß"), unicodedata.normalize("NFD", text)):
        assert (features.transform([other]) != features.transform([text])).nnz == 0


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(max_size=30), min_size=1, max_size=6), st.text(max_size=30))
def test_any_text_can_be_fitted_transformed_and_written(texts, other):
    features = LexicalFeatures.fit("text", texts, min_df=1)
    matrix = features.transform([*texts, other])
    norms = np.sqrt(matrix.multiply(matrix).sum(axis=1))
    assert matrix.shape == (len(texts) + 1, features.num_features)
    assert ((norms == 0) | ((norms > 0.7) & (norms < 1.0001))).all()
    for block in features.blocks:
        json.dumps(block.terms).encode()


def test_terms_that_most_inputs_hold_are_kept():
    texts = ["a b c", "a b", "a d", "a b d"]
    features = LexicalFeatures.fit("text", texts, word_ngrams=(1, 1), character_ngrams=None, min_df=1, max_features=2)
    assert features.blocks[0].terms == ("a", "b")
    assert LexicalFeatures.fit("text", texts, min_df=4).blocks[0].terms == ("a",)


def test_words_that_stand_in_one_text_are_kept_where_texts_are_few():
    texts = [*made_up_texts(1990), "singular"]
    assert "singular" in LexicalFeatures.fit("text", texts).blocks[0].terms
    assert "singular" not in LexicalFeatures.fit("text", [*texts, *texts[:10]]).blocks[0].terms
    assert "singular" not in LexicalFeatures.fit("text", texts, min_df=2).blocks[0].terms


def test_terms_too_long_to_mean_anything_are_left_out():
    features = LexicalFeatures.fit("text", ["x" * 201 + " fine"], min_df=1)
    assert features.blocks[0].terms == ("fine",)


@pytest.mark.parametrize("form", INPUTS)
def test_columns_stay_within_the_limit(form):
    assert 0 < fitted(form, min_df=1, max_features=60).num_features <= 60


def test_pairs_have_both_sides_what_both_hold_what_tells_them_apart_and_their_cosine():
    first, second = ["old dog", "cat", "cat", ""], ["dog barks", "bird", "cat", "bird"]
    options = {"character_ngrams": None, "word_ngrams": (1, 1), "min_df": 1}
    features = LexicalFeatures.fit("pair", first, second, **options)
    texts = LexicalFeatures.fit("text", first + second, **options)
    u, v = texts.transform(first).toarray(), texts.transform(second).toarray()
    terms = u.shape[1]
    parts = np.split(features.transform(first, second).toarray(), [terms, 2 * terms, 3 * terms, 4 * terms], axis=1)
    assert features.num_features == 4 * terms + 11

    def unit(rows):
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)

    for found, expected in zip(parts[:4], (u, v, unit(u * v), unit(abs(u - v))), strict=True):
        np.testing.assert_allclose(found, expected / np.sqrt(5), atol=1e-6)
    cosine = (u * v).sum(axis=1)
    assert np.argmax(parts[4], axis=1).tolist() == [int(cosine[0] * 10) + 1, 0, 10, 0]
    np.testing.assert_allclose(parts[4].sum(axis=1), 1 / np.sqrt(5), rtol=1e-6)


def test_strings_of_a_relation_tell_place_order_and_distance():
    forward = relation_features(RELATIONS[0])
    assert {"+o", "+m=of", "+mm=of_the", "+seq=of_the_old", "+l=the", "+r=stalled", "+dist=3"} <= set(forward)
    assert {"+h=engine", "+hh=engine", "+hs=ine", "+t=car", "+tt=car"} <= set(forward)
    assert {"m=of", "mm=of_the", "h=engine", "ts=car", "w=the", "w=stalled"} <= set(forward)
    backward = relation_features(RELATIONS[1])
    assert {"-o", "-h=car", "-t=engine", "h=car", "-le=the", "-re="} <= set(backward)
    assert not any(text.startswith("+") for text in backward)
    assert {"+dist=0", "+seq="} <= set(relation_features(RELATIONS[2]))
    assert "+dist=0" in relation_features(RELATIONS[3])
    assert all(len(set(strings)) == len(strings) for strings in map(relation_features, RELATIONS))


@pytest.mark.parametrize("span", [(0, 0), (2, 1), (-1, 1), (0, 4)])
def test_entities_outside_the_sentence_are_refused(span):
    with pytest.raises(DataError, match=r"Expected the tail to be a span \[start, end\) within the 3 tokens"):
        LexicalFeatures.fit("relation", [RelationInput(("a", "b", "c"), (0, 1), span)])


@pytest.mark.parametrize(
    ("form", "inputs", "pairs", "message"),
    [
        ("text", ["a"], ["b"], "Inputs of the form 'text' have no second texts; they were given"),
        ("pair", ["a"], None, "Inputs of the form 'pair' need second texts; none were given"),
        ("pair", ["a", "b"], ["c"], "Expected a second text for each of 2 texts, but got 1"),
        ("text", "a text", None, "Expected `inputs` to be a list of inputs, but got the single text 'a text'"),
        ("text", ["a", None], None, "Row 1 of `inputs`: expected a text, but got None"),
        ("pair", ["a"], [3], "Row 0 of `text_pairs`: expected a text, but got 3"),
        ("tokens", ["a b"], None, "Row 0 of `inputs`: expected a list of tokens, all of them strings, but got 'a b'"),
        ("relation", [["a"]], None, "expected a sentence with two marked entities"),
        ("text", [], None, "Expected training inputs to take terms from, but got none"),
    ],
)
def test_inputs_of_another_form_are_refused(form, inputs, pairs, message):
    with pytest.raises(DataError) as caught:
        LexicalFeatures.fit(form, inputs, pairs)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"word_ngrams": (0, 2)}, "Expected `word_ngrams` to be None or two whole numbers"),
        ({"character_ngrams": (3, 11)}, "Expected `character_ngrams` to be None or two whole numbers"),
        ({"word_ngrams": None, "character_ngrams": None}, "are both None, which leaves no terms"),
        ({"word_weight": 0}, "Expected `word_weight` to be a number from 0.001 to 1000, but got 0"),
        ({"word_weight": float("nan")}, "Expected `word_weight` to be a number from 0.001 to 1000, but got nan"),
        ({"word_weight": 1e200}, "Expected `word_weight` to be a number from 0.001 to 1000, but got 1e"),
        ({"min_df": 0}, "Expected `min_df` to be a whole number of at least 1, but got 0"),
        ({"max_features": 10**9}, "Expected `max_features` to be a whole number from 1 to 1,000,000"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(SettingError, match=message):
        fitted("text", **options)


def test_an_unknown_form_is_refused():
    with pytest.raises(
        SettingError, match="Expected `form` to be one of text, pair, relation, tokens, but got 'image'"
    ):
        LexicalFeatures.fit("image", ["a"])


@pytest.mark.parametrize("form", INPUTS)
def test_a_saved_folder_gives_the_same_bits(form, tmp_path):
    features, (inputs, pairs) = fitted(form), INPUTS[form]
    features.save(tmp_path / "lexical")
    loaded = LexicalFeatures.load(tmp_path / "lexical")
    before, after = features.transform(inputs, pairs), loaded.transform(inputs, pairs)
    assert loaded.form == form
    assert loaded.fingerprint == features.fingerprint
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))
    assert {path.suffix for path in (tmp_path / "lexical").iterdir()} == {".json", ".safetensors"}


def test_the_fingerprint_tells_what_decides_the_features():
    options = [{}, {"lowercase": False}, {"word_weight": 2.0}, {"min_df": 3}, {"character_ngrams": (2, 5)}]
    prints = {LexicalFeatures.fit("text", made_up_texts(50), **o).fingerprint for o in options}
    prints.add(LexicalFeatures.fit("text", made_up_texts(51)).fingerprint)
    assert len(prints) == len(options) + 1
    assert fitted("text").fingerprint == fitted("text").fingerprint


def _changed(folder, *keys, value):
    """Write `value` at a place of the vocabulary file."""
    path = folder / "lexical.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    inner = data
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_text(json.dumps(data), encoding="utf-8")


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("format",), "other", "expected the key `format` to be 'tailwise-lexical'"),
        (("format_version",), 2, "2 is newer than this tailwise reads"),
        (("format_version",), True, "key `format_version`: expected 1, but found True"),
        (("form",), "image", "key `form`: expected one of text, pair, relation, tokens"),
        (("form",), ["text"], "key `form`: expected one of"),
        (("form",), "tokens", "key `blocks`: expected a list of 1 to 1 blocks"),
        (("blocks",), [], "key `blocks`: expected a list of 1 to 2 blocks"),
        (("blocks", 0), 3, r"key `blocks\[0\]`: expected a mapping, but found a int"),
        (("blocks", 0, "kind"), "strings", r"key `blocks\[0\].kind`: expected characters or words"),
        (("blocks", 0, "kind"), "characters", "key `blocks`: expected blocks of different kinds"),
        (("blocks", 0, "lowercase"), 1, r"key `blocks\[0\].lowercase`: expected true or false"),
        (("blocks", 0, "weight"), -1.0, r"key `blocks\[0\].weight`: expected a number above 0"),
        (("blocks", 0, "weight"), 10**400, r"key `blocks\[0\].weight`: expected a number above 0"),
        (("blocks", 1, "ngrams"), [1, 10**9], r"key `blocks\[1\].ngrams`: expected 1 to 10"),
        (("blocks", 1, "ngrams"), "35", r"key `blocks\[1\].ngrams`: expected two whole numbers"),
        (("blocks", 0, "terms"), {}, r"key `blocks\[0\].terms`: expected a list of at most 1000000 terms"),
        (("blocks", 0, "terms", 0), 3, r"key `blocks\[0\].terms\[0\]`: expected 1 to 200 characters, but found 3"),
        (("blocks", 0, "terms", 0), "x" * 201, "expected 1 to 200 characters"),
        (("blocks", 0, "terms", 0), "", "expected 1 to 200 characters"),
        (("blocks", 0, "terms"), ["a", "a"], "expected different terms, but at least one stands there twice"),
        (("blocks", 0, "terms"), ["a"], "expected the tensor '0' with shape"),
    ],
)
def test_a_vocabulary_that_was_changed_is_refused(keys, value, message, tmp_path):
    fitted("text").save(tmp_path)
    _changed(tmp_path, *keys, value=value)
    with pytest.raises(ModelError, match=message):
        LexicalFeatures.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda idf: idf.index_fill(0, torch.tensor([0]), float("nan")), "expected finite weights above 0"),
        (lambda idf: -idf, "expected finite weights above 0"),
        (lambda idf: idf[:-1], "expected the tensor '0' with shape"),
        (lambda idf: idf.double(), "expected weights in float32"),
    ],
)
def test_weights_that_were_changed_are_refused(change, message, tmp_path):
    features = fitted("text", character_ngrams=None)
    features.save(tmp_path)
    save_file({"0": change(torch.from_numpy(features.blocks[0].idf))}, tmp_path / "lexical.safetensors")
    with pytest.raises(ModelError, match=message):
        LexicalFeatures.load(tmp_path)


@pytest.mark.parametrize("name", ["lexical.json", "lexical.safetensors"])
def test_a_missing_file_is_named(name, tmp_path):
    fitted("text").save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ModelError, match=f"{name} is missing"):
        LexicalFeatures.load(tmp_path)


@pytest.mark.parametrize("name", ["germeval2018", "korean_hate_bias", "discourse_stac", "scierc_relations", "wnut17"])
def test_real_data_of_every_form(name, data_dir, tmp_path):
    corpus = load(data_dir / name)
    inputs, pairs = corpus.inputs("train")[:300], corpus.text_pairs("train")
    features = LexicalFeatures.fit(corpus.task.input_form, inputs, pairs[:300] if pairs else None)
    held, held_pairs = corpus.inputs("validation"), corpus.text_pairs("validation")
    matrix = features.transform(held, held_pairs)
    assert matrix.shape == (corpus.num_targets("validation"), features.num_features)
    assert (np.diff(matrix.indptr) > 0).mean() > 0.95
    features.save(tmp_path)
    assert (LexicalFeatures.load(tmp_path).transform(held, held_pairs) != matrix).nnz == 0
