"""Model inputs and targets of a split, for every task that fine-tuning knows.

text, pair   the text or the two texts as one sequence             a class, or 0 and 1 per label
relation     the sentence with marker words about its entities     a class
tokens       the sub-words of the tokens                           a class at the first sub-word of each token
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import Dataset
from transformers import DataCollatorForTokenClassification, DataCollatorWithPadding

from tailwise.models.finetuned import plain_texts, tokenize, tokenize_words
from tailwise.models.word_features import token_pieces
from tailwise.training.multilabel_components import trained_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

    from tailwise.data.corpus import Corpus, SplitName

__all__ = ["TokenizedRows", "collator_for", "tokenized_rows"]

_IGNORED = -100


class TokenizedRows(Dataset[dict[str, Any]]):
    """Model inputs and targets of a split.

    Args:
        encoded: model inputs per row, not padded.
        labels: per row a class index, 0 and 1 per label as floats, or a class index per sub-word.
    """

    def __init__(self, encoded: Sequence[dict[str, list[int]]], labels: Any) -> None:
        self.encoded = encoded
        self.labels = labels

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**self.encoded[index], "labels": self.labels[index]}


class _LabelRows(TokenizedRows):
    """Rows with several labels: those of a row are made dense when it is asked for."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**self.encoded[index], "labels": self.labels[index].toarray()[0].tolist()}


def tokenized_rows(
    corpus: Corpus, split: SplitName, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> TokenizedRows:
    """The rows of a split; of a sentence that is too long, the pieces follow each other as rows of their own."""
    if corpus.task.label_structure == "tags":
        return _tagged_rows(corpus, split, tokenizer, max_length)
    encoded = tokenize(tokenizer, plain_texts(corpus.inputs(split)), corpus.text_pairs(split), max_length)
    if corpus.task.label_structure == "multi":
        return _LabelRows(encoded, trained_labels(corpus.label_matrix(split), corpus.label_space))
    return TokenizedRows(encoded, corpus.labels(split).tolist())


def _tagged_rows(
    corpus: Corpus, split: SplitName, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> TokenizedRows:
    tags = corpus.labels(split)
    pieces = token_pieces(tokenizer, corpus.tokens(split), max_length)
    encoded, starts = tokenize_words(tokenizer, [piece.tokens for piece in pieces], max_length)
    labels = []
    for piece, row, places in zip(pieces, encoded, starts, strict=True):
        target = np.full(len(row["input_ids"]), _IGNORED, dtype=np.int64)
        known = np.flatnonzero(places >= 0)
        target[places[known]] = tags[piece.first + known]
        labels.append(target.tolist())
    return TokenizedRows(encoded, labels)


def collator_for(corpus: Corpus, tokenizer: PreTrainedTokenizerBase) -> Any:
    """What makes a padded batch of rows."""
    if corpus.task.label_structure == "tags":
        return DataCollatorForTokenClassification(tokenizer)
    return DataCollatorWithPadding(tokenizer)
