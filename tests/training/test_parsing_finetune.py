"""Parsers trained with their encoder: the encoder moves when it should, and only its copy."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import Dataset, concatenate_datasets
from transformers import BertConfig, BertModel, BertTokenizer

from tailwise.data.corpus import Corpus
from tailwise.data.labels import LabelSpace
from tailwise.data.task import Task
from tailwise.errors import DataError, SettingError
from tailwise.models.encoder import Encoder
from tailwise.models.parsing.network import ParserSizes
from tailwise.models.parsing.scoring import SentenceLayout
from tailwise.models.word_features import encode_words, sentence_offsets
from tailwise.stages.recipe import Component, Recipe, Stage
from tailwise.training.parsing_finetune import TrainedWords, finetune_parser, subwords_of
from tailwise.training.parsing_loop import ParserOptimisation

NAMES = ("root", "det", "nsubj", "obj")
SMALL = {
    "epochs": 15,
    "token_budget": 64,
    "sizes": ParserSizes(layers=0, arc=16, relation=8, dropout=0.0),
    "optimisation": ParserOptimisation(learning_rate=1e-2, encoder_learning_rate=5e-3),
    "bf16": False,
}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(3)
    words = ["the", "##s", *(f"{kind}{i}" for kind in "nv" for i in range(3))]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    BertTokenizer(vocab={word: i for i, word in enumerate(vocabulary)}).save_pretrained(folder)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(vocab_size=len(vocabulary), max_position_embeddings=32, initializer_range=0.1, **sizes)
    BertModel(config).save_pretrained(folder)
    return Encoder.from_pretrained(str(folder), max_length=12)


def make_corpus():
    """[the] noun(s) verb [the] noun(s), every noun the dependent of the verb."""
    generator, splits, counts = np.random.default_rng(1), {}, np.zeros(4, dtype=np.int64)
    for split, size in (("train", 40), ("validation", 16), ("test", 16)):
        tokens, heads, relations = [], [], []
        for _ in range(size):
            first, second = (int(share < 0.5) for share in generator.random(2))
            noun, verb, other = generator.integers(3, size=3)
            place = 2 + first
            tokens.append([*["the"] * first, f"n{noun}s", f"v{verb}", *["the"] * second, f"n{other}"])
            heads.append([*[2] * first, place, 0, *[place + 2] * second, place])
            relations.append([*[1] * first, 2, 0, *[1] * second, 3])
        rows = {"id": [f"{split}-{i}" for i in range(size)], "tokens": tokens, "heads": heads, "relations": relations}
        splits[split] = Dataset.from_dict(rows)
        if split == "train":
            counts += np.bincount(np.concatenate(relations), minlength=4)
    return Corpus("grammar", splits, Task("tokens", "arcs"), LabelSpace(NAMES, counts), "0" * 64)


def test_states_are_the_word_features_of_the_encoder(encoder):
    sentences = [["the", "n1s", "v2"], ["n0"], ["v1", "\x00", "n2s", "the"]]
    own = encoder.in_dtype("float32")
    offsets = sentence_offsets(sentences)
    layout = SentenceLayout.of(offsets, np.array([2, 0]))
    words = TrainedWords(own, subwords_of(own, sentences), bf16=False)
    states = words.states(layout, np.array([2, 0]))
    expected = encode_words(own, sentences)[layout.rows]
    assert states.shape == (2, 4, 32)
    np.testing.assert_allclose(states[layout.sentence, layout.word].detach().numpy(), expected, atol=2e-3)
    assert states.requires_grad


def test_a_grammar_is_learnt_and_the_encoder_moves(encoder):
    corpus, steps = make_corpus(), []
    before = encoder.in_dtype("float32").model.state_dict()
    model = finetune_parser(Recipe("ce"), corpus, encoder, 0, progress=lambda *s: steps.append(s), **SMALL)
    scores = model.split_scores(corpus, "test")
    right = (scores.heads == corpus.heads("test")) & (scores.logits.argmax(axis=1) == corpus.labels("test"))
    assert right.mean() > 0.97
    assert model.engine == "finetune"
    assert steps[-1][1] == steps[-1][2] == model.info["training"]["steps"]
    after = model.encoder.model.state_dict()
    assert not torch.equal(before["embeddings.word_embeddings.weight"], after["embeddings.word_embeddings.weight"])
    assert not model.encoder.model.training
    untouched = encoder.in_dtype("float32").model.state_dict()
    assert all(torch.equal(before[name], untouched[name]) for name in before)


def test_a_stage_for_the_head_leaves_the_encoder_alone(encoder):
    corpus = make_corpus()
    second = Stage(trainable="head", share=0.5, loss=Component("balanced-softmax"))
    one = finetune_parser(Recipe("one"), corpus, encoder, 4, **{**SMALL, "epochs": 2})
    two = finetune_parser(Recipe("two", (Stage(share=0.5), second)), corpus, encoder, 4, **{**SMALL, "epochs": 4})
    for name, tensor in one.encoder.model.state_dict().items():
        assert torch.equal(tensor, two.encoder.model.state_dict()[name]), name
    assert not torch.equal(one.network.scorer.relation_weight, two.network.scorer.relation_weight)


def test_sentences_too_long_for_the_encoder_are_left_out_and_counted(encoder):
    corpus = make_corpus()
    long = {"id": ["long"], "tokens": [["n0"] * 30], "heads": [[0, *[1] * 29]], "relations": [[0, *[2] * 29]]}
    train = concatenate_datasets([Dataset.from_dict(long), corpus.splits["train"]])
    longer = replace(corpus, splits={**corpus.splits, "train": train})
    model = finetune_parser(Recipe("ce"), longer, encoder, 0, **{**SMALL, "epochs": 1})
    assert model.info["training"]["left_out"] == 1
    assert len(model.parse([["n0"] * 30])[0].heads) == 30
    alone = replace(corpus, splits={**corpus.splits, "train": Dataset.from_dict(long)})
    with pytest.raises(DataError, match="no training sentence that the encoder can take"):
        finetune_parser(Recipe("ce"), alone, encoder, 0, **SMALL)


def test_other_tasks_are_refused(encoder):
    with pytest.raises(SettingError, match="needs a treebank"):
        finetune_parser(Recipe("ce"), replace(make_corpus(), task=Task("tokens", "tags")), encoder, 0)
