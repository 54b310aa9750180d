"""The final layer of the sequence-classification models of transformers."""

import numpy as np
import pytest
import torch
from torch import nn
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from tailwise.errors import ModelError
from tailwise.models.final_layer import (
    AffineLayer,
    capture_features,
    final_layer_name,
    layer_form,
    num_features,
    replace_final_layer,
)
from tailwise.models.heads.base import AffineForm
from tailwise.models.heads.class_means import ClassMeansHead
from tailwise.models.heads.cosine import CosineHead

SIZES = {"vocab_size": 30, "num_labels": 5, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
SIZES |= {"intermediate_size": 24, "max_position_embeddings": 20, "pad_token_id": 0}
DISTIL = {"vocab_size": 30, "num_labels": 5, "dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 24}
MODELS = {
    "bert": (BertForSequenceClassification, BertConfig(**SIZES), "classifier"),
    "roberta": (RobertaForSequenceClassification, RobertaConfig(**SIZES), "classifier.out_proj"),
    "electra": (ElectraForSequenceClassification, ElectraConfig(**SIZES, embedding_size=16), "classifier.out_proj"),
    "distilbert": (DistilBertForSequenceClassification, DistilBertConfig(**DISTIL), "classifier"),
    "albert": (AlbertForSequenceClassification, AlbertConfig(**SIZES, embedding_size=16), "classifier"),
}
TOKENS = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])


def make_model(name):
    torch.manual_seed(0)
    kind, config, layer = MODELS[name]
    return kind(config).eval(), layer


def gpt2():
    config = GPT2Config(vocab_size=30, n_embd=16, n_layer=1, n_head=2, n_positions=20, num_labels=5, pad_token_id=0)
    config.bos_token_id = config.eos_token_id = 1
    return GPT2ForSequenceClassification(config).eval()


@pytest.mark.parametrize("name", MODELS)
def test_the_inputs_of_the_final_layer_give_the_logits(name):
    model, layer = make_model(name)
    assert final_layer_name(model, 5) == layer
    with torch.no_grad(), capture_features(model, layer) as seen:
        logits = model(input_ids=TOKENS, attention_mask=MASK).logits
    form = layer_form(model.get_submodule(layer))
    assert num_features(model.get_submodule(layer)) == 16
    torch.testing.assert_close(seen[0] @ form.weight.T + form.bias, logits)
    model(input_ids=TOKENS)
    assert len(seen) == 1


@pytest.mark.parametrize("name", MODELS)
def test_a_cosine_head_takes_the_place_of_the_final_layer(name):
    model, layer = make_model(name)
    head = CosineHead(16, 5)
    head.reset(torch.Generator().manual_seed(1))
    replace_final_layer(model, layer, head)
    assert final_layer_name(model, 5) == layer
    with torch.no_grad():
        logits = model(input_ids=TOKENS, attention_mask=MASK).logits
        replace_final_layer(model, layer, AffineLayer(head.affine()))
        scaled = model(input_ids=TOKENS, attention_mask=MASK).logits
    assert logits.abs().max() <= 1.0
    torch.testing.assert_close(scaled, 30 * logits)


def test_a_layer_stays_where_the_model_is():
    model, layer = make_model(next(iter(MODELS)))
    model.to("meta")
    for head in (ClassMeansHead(16, 5), CosineHead(16, 5)):  # one with buffers alone, one with parameters
        replace_final_layer(model, layer, head)
        assert all(t.device.type == "meta" for t in (*head.parameters(), *head.buffers()))
        replace_final_layer(model, layer, AffineLayer(AffineForm(torch.ones(5, 16), torch.zeros(5))))
        assert model.get_submodule(layer).weight.device.type == "meta"


def test_a_fixed_layer_is_the_head_it_was_made_of():
    rng = np.random.default_rng(0)
    features, target = torch.from_numpy(rng.normal(size=(20, 4))).float(), torch.arange(20) % 3
    head = ClassMeansHead(4, 3)
    head.fit(features, target)
    layer = AffineLayer(head.affine())
    torch.testing.assert_close(layer(features), head(features))
    again = layer_form(layer)
    torch.testing.assert_close(again.centre, head.affine().centre)
    assert again.normalise
    assert not any(parameter.requires_grad for parameter in layer.parameters())


def test_a_layer_without_bias_has_a_bias_of_zero_in_its_form():
    form = layer_form(nn.Linear(4, 3, bias=False))
    assert form.bias.tolist() == [0.0, 0.0, 0.0]
    assert layer_form(nn.Tanh()) is None


def test_a_fixed_layer_keeps_its_tensors_to_itself():
    form = AffineForm(torch.ones(2, 3), torch.zeros(2))
    layer = AffineLayer(form)
    with torch.no_grad():
        layer.weight.zero_()
    assert form.weight.sum() == 6


def test_a_model_that_pools_scores_of_tokens_has_no_feature_vector_per_text():
    model = gpt2()
    layer = final_layer_name(model, 5)
    assert layer == "score"
    message = r"GPT2ForSequenceClassification classifies tokens .* \(2, 4, 16\)"
    with capture_features(model, layer), pytest.raises(ModelError, match=message):
        model(input_ids=TOKENS)


def test_a_model_without_a_layer_for_the_classes_is_an_error():
    model, _ = make_model("bert")
    with pytest.raises(ModelError, match="no linear layer with 7 outputs"):
        final_layer_name(model, 7)
