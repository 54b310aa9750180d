"""A tiny encoder, and a tiny corpus of every task, with words that give the labels away."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from datasets import Dataset
from transformers import BertConfig, BertModel, BertTokenizer

from tailwise.data.corpus import SPLITS, Corpus
from tailwise.data.labels import LabelSpace
from tailwise.data.task import TASKS
from tailwise.models.encoder import Encoder

KINDS = ("bird", "cat", "dog")
SHARES = (0.65, 0.25, 0.1)
SIZES = {"train": 120, "validation": 40, "test": 40}
FILLERS = [f"w{i}" for i in range(6)]
WORDS = [f"{kind}{i}" for kind in KINDS for i in range(3)] + FILLERS + ["@", "#"]
INDICES = pa.list_(pa.int64())


@pytest.fixture(scope="session")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(11)
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = BertTokenizer(vocab={word: i for i, word in enumerate([*specials, *WORDS])})
    tokenizer.save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=40,
        initializer_range=0.1,
    )
    BertModel(config).save_pretrained(folder)
    return Encoder.from_pretrained(str(folder), max_length=32, dtype="float32")


@pytest.fixture(scope="session")
def corpora():
    """One corpus per name of a task."""
    return {name: _corpus(name) for name in TASKS}


def _corpus(name):
    rng = np.random.default_rng(5)
    task = TASKS[name]
    tables = {split: _TABLES[name](rng, SIZES[split]) for split in SPLITS}
    names, column = _NAMES[name], _COLUMNS[task.label_structure]
    flat = np.concatenate([np.ravel(row) for row in tables["train"][column].to_pylist()]).astype(int)
    counts = np.bincount(flat, minlength=len(names))
    rows = SIZES["train"] if task.label_structure == "multi" else None
    catch_all = "O" if name == "tagging" else None
    splits = {}
    for split, table in tables.items():
        ids = pa.array([f"{split}-{i}" for i in range(table.num_rows)])
        splits[split] = Dataset(table.append_column("id", ids))
    return Corpus(name, splits, task, LabelSpace(names, counts, catch_all, (), rows), f"tiny-{name}")


def _kind(rng):
    return int(rng.choice(3, p=SHARES))


def _word(rng, kind):
    return f"{KINDS[kind]}{rng.integers(3)}"


def _filler(rng, low=1, high=4):
    return [FILLERS[i] for i in rng.integers(len(FILLERS), size=rng.integers(low, high))]


def _text(rng, kinds):
    words = [*_filler(rng), *(_word(rng, kind) for kind in kinds)]
    return " ".join(rng.permutation(words))


def _texts(rng, size):
    labels = [_kind(rng) for _ in range(size)]
    return pa.table({"text": [_text(rng, [k]) for k in labels], "label": labels})


def _pairs(rng, size):
    labels = [_kind(rng) for _ in range(size)]
    columns = {"text": [_text(rng, [k]) for k in labels], "text_pair": [_text(rng, [k]) for k in labels]}
    return pa.table({**columns, "label": labels})


def _label_sets(rng, size):
    return [sorted(np.flatnonzero(rng.random(3) < SHARES).tolist()) for _ in range(size)]


def _multilabel(rng, size):
    sets = _label_sets(rng, size)
    return pa.table({"text": [_text(rng, kinds) for kinds in sets], "labels": pa.array(sets, INDICES)})


def _multilabel_pairs(rng, size):
    sets = _label_sets(rng, size)
    columns = {"text": [_text(rng, s) for s in sets], "text_pair": [_text(rng, s) for s in sets]}
    return pa.table({**columns, "labels": pa.array(sets, INDICES)})


def _relations(rng, size):
    rows = {"tokens": [], "head": [], "tail": [], "label": []}
    for _ in range(size):
        kind = _kind(rng)
        before, between = _filler(rng), _filler(rng)
        rows["tokens"].append([*before, _word(rng, kind), *between, FILLERS[0], FILLERS[1]])
        rows["head"].append([len(before), len(before) + 1])
        start = len(before) + 1 + len(between)
        rows["tail"].append([start, start + 2])
        rows["label"].append(kind)
    return pa.table(rows)


def _tagging(rng, size):
    tokens, tags = [], []
    for _ in range(size):
        sentence, own = _filler(rng, 2, 5), []
        own = [0] * len(sentence)
        kind = _kind(rng)
        sentence += [_word(rng, kind), _word(rng, kind), *_filler(rng, 0, 2)]
        own += [1 + kind, 4 + kind] + [0] * (len(sentence) - len(own) - 2)
        tokens.append(sentence)
        tags.append(own)
    return pa.table({"tokens": tokens, "tags": pa.array(tags, INDICES)})


def _trees(rng, size):
    tokens, heads, relations = [], [], []
    for _ in range(size):
        sentence = [_word(rng, _kind(rng)), *(_word(rng, _kind(rng)) for _ in range(rng.integers(1, 4)))]
        tokens.append(sentence)
        heads.append([0, *([1] * (len(sentence) - 1))])
        relations.append([3, *(KINDS.index(word[:-1]) for word in sentence[1:])])
    return pa.table({"tokens": tokens, "heads": pa.array(heads, INDICES), "relations": pa.array(relations, INDICES)})


_TABLES = {
    "text": _texts, "pair": _pairs, "multilabel": _multilabel, "multilabel-pair": _multilabel_pairs,
    "relation": _relations, "tagging": _tagging, "parsing": _trees,
}  # fmt: skip
_NAMES = dict.fromkeys(_TABLES, KINDS) | {
    "tagging": ("O", *(f"B-{kind}" for kind in KINDS), *(f"I-{kind}" for kind in KINDS)),
    "parsing": (*KINDS, "root"),
}
_COLUMNS = {"single": "label", "multi": "labels", "tags": "tags", "arcs": "relations"}
