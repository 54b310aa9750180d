"""On every task a fine-tuning that takes no step is the probe on what its final layer sees."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from tailwise.models.finetuned import plain_texts
from tailwise.sampling import LabelBalancedSampler, NaturalSampler, SentenceRaritySampler
from tailwise.stages.recipe import Component, Recipe, Stage
from tailwise.training.finetune import FinetuneEngine
from tailwise.training.finetune_start import class_draws, row_draws

STILL = (Stage(learning_rate_scale=0.0),)


def seen_by_the_final_layer(model, tokenizer, corpus, split):
    """What the final layer sees, text by text or word by word, ``(M, D)``."""
    rows = []
    pairs = corpus.text_pairs(split)
    tagging = corpus.task.label_structure == "tags"
    inputs = corpus.tokens(split) if tagging else plain_texts(corpus.inputs(split))
    for i, one in enumerate(inputs):
        arguments = {"is_split_into_words": True} if tagging else {"text_pair": None if pairs is None else pairs[i]}
        encoded = tokenizer(one, return_tensors="pt", **arguments)
        with torch.inference_mode():
            output = model.base_model(**encoded)
        if not tagging:
            rows.append(output.pooler_output[0].numpy())
            continue
        words = encoded.word_ids()
        rows += [output.last_hidden_state[0, words.index(place)].numpy() for place in range(len(one))]
    return np.array(rows, dtype=np.float64)


def fitted(features, gold, strength):
    probe = LogisticRegression(C=strength / features.var(axis=0).sum(), tol=1e-9, max_iter=10_000)
    return probe.fit(features, gold)


@pytest.mark.parametrize("task", ["text", "pair", "relation", "multilabel", "tagging"])
def test_without_a_step_the_model_is_the_probe(corpora, encoder, task):
    corpus = corpora[task]
    engine = FinetuneEngine(epochs=0.1, batch_size=16, max_length=32, precision="float32")
    model = engine.fit(Recipe("still", STILL), corpus, encoder, seed=0)
    assert model.info["head_start"]["kind"] == "probe"
    features, new = (
        seen_by_the_final_layer(model.model, encoder.tokenizer, corpus, split) for split in ("train", "test")
    )
    strength, found = model.info["head_start"]["c"], model.split_scores(corpus, "test")
    if task == "multilabel":
        gold = corpus.label_matrix("train").toarray()
        expected = np.stack([fitted(features, gold[:, j], strength).predict_proba(new)[:, 1] for j in range(3)], axis=1)
        found = 1 / (1 + np.exp(-model.split_logits(corpus, "test").astype(np.float64)))
    else:
        expected = fitted(features, corpus.labels("train"), strength).predict_proba(new)
        found = torch.from_numpy(model.split_logits(corpus, "test")).double().softmax(dim=1).numpy()
    assert model.info["head_start"]["rows"] == len(features)
    np.testing.assert_allclose(found, expected, atol=5e-3)


def test_draws_per_class_and_per_row_are_one_on_average():
    counts = np.array([60, 24, 9])
    np.testing.assert_allclose(class_draws(Component("cas"), counts), 31 / counts)
    assert class_draws(Component("natural"), counts) is None
    assert row_draws(NaturalSampler(np.zeros(4, dtype=np.int64)), 4) is None
    sentences = SentenceRaritySampler(np.array([0, 0, 0, 1, 0, 0]), offsets=np.array([0, 2, 4, 6]), catch_all=0)
    factors = sentences.factors()
    np.testing.assert_allclose(row_draws(sentences, 3), factors / factors.mean())
    labels = np.array([[1, 0]] * 9 + [[0, 1]])
    drawn = row_draws(LabelBalancedSampler(labels, seed=0), 10)
    assert drawn.mean() == pytest.approx(1.0)
    assert drawn[9] > 3 * drawn[:9].mean()
