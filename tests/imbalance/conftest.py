"""A corpus built by hand."""

import numpy as np
import pytest
from datasets import Dataset

from tailwise.data.corpus import Corpus
from tailwise.data.labels import LabelSpace
from tailwise.data.task import Task


def build(train, validation=(), test=(), *, catch_all=None, name="hand"):
    """A corpus of rows (text, label) or (text, text_pair, label)."""
    splits = {"train": list(train), "validation": list(validation), "test": list(test)}
    names = sorted({row[-1] for row in splits["train"]})
    unseen = sorted({row[-1] for rows in splits.values() for row in rows} - set(names))
    index = {label: i for i, label in enumerate(names + unseen)}
    counts = np.bincount([index[row[-1]] for row in splits["train"]], minlength=len(names))
    pair = len(splits["train"][0]) == 3
    sets = {}
    for split, rows in splits.items():
        columns = {"id": [f"{split}-{i}" for i in range(len(rows))], "text": [row[0] for row in rows]}
        if pair:
            columns["text_pair"] = [row[1] for row in rows]
        columns["label"] = np.array([index[row[-1]] for row in rows], dtype=np.int64)
        sets[split] = Dataset.from_dict(columns)
    space = LabelSpace(tuple(names), counts, catch_all, tuple(unseen))
    return Corpus(name, sets, Task("pair" if pair else "text"), space, "f" * 64)


@pytest.fixture(scope="session")
def make_corpus():
    return build
