"""A fine-tuned encoder with its final layer.

With a plain linear final layer the post-hoc steps fold into its weights, and the model leaves tailwise behind: what
`folded` returns gives the same probabilities in ``transformers.pipeline("text-classification")``.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from tailwise.errors import ModelError
from tailwise.models.final_layer import AffineLayer, final_layer_name, layer_form, replace_final_layer
from tailwise.models.fitted import FittedModel
from tailwise.models.row_features import marked
from tailwise.models.word_features import token_pieces

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from tailwise.data.corpus import Corpus, SplitName
    from tailwise.models.heads.base import AffineForm

__all__ = ["FinetunedModel", "length_sorted_batches", "plain_texts", "tokenize", "tokenize_words"]

#: Texts tokenised and sorted at a time; bounds the memory that tokens take.
_WINDOW = 16384


class FinetunedModel(FittedModel):
    """A classification model of transformers: of sequences, or of tokens where tokens are labelled.

    Args:
        model: the model; a tailwise head in its place as final layer becomes plain tensors (`AffineLayer`).
        tokenizer: its tokenizer.
        max_length: tokens per text; longer ones are cut.
        batch_size: texts per forward pass.
        facts: what every `FittedModel` takes.

    Raises:
        ModelError: the final layer has no affine form.
    """

    def __init__(
        self,
        *,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int = 128,
        batch_size: int = 64,
        **facts: Any,
    ) -> None:
        super().__init__(**facts)
        self.model = model
        model.train(mode=False)
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.batch_size = batch_size
        self.layer_name = final_layer_name(model, self.label_space.num_classes)
        if not isinstance(self.layer, nn.Linear | AffineLayer):
            replace_final_layer(model, self.layer_name, AffineLayer(self.form))

    @property
    def layer(self) -> nn.Module:
        """The final layer: `torch.nn.Linear` or `AffineLayer`."""
        layer: nn.Module = self.model.get_submodule(self.layer_name)
        return layer

    @property
    def form(self) -> AffineForm:
        """The final layer as plain weights."""
        form = layer_form(self.layer)
        if form is None:
            raise ModelError(
                f"The head {type(self.layer).__name__} has no affine form, so it cannot be kept as a model."
            )
        return form

    @property
    def foldable(self) -> bool:
        """Whether the post-hoc steps fold into the final layer of a plain transformers model."""
        return isinstance(self.layer, nn.Linear) and self.layer.bias is not None

    def folded(self) -> PreTrainedModel:
        """A copy of the model with the post-hoc steps inside its final linear layer.

        Raises:
            ModelError: the final layer is not a plain linear one with a bias.
        """
        layer = self.layer
        if not isinstance(layer, nn.Linear) or layer.bias is None:
            raise ModelError(
                f"The final layer is {type(layer).__name__}, not a linear layer with a bias, so post-hoc steps do not "
                "fold into a plain transformers model. Save the model as tailwise's own."
            )
        model: PreTrainedModel = copy.deepcopy(self.model)
        weight, bias = self.adjustment.fold(
            layer.weight.detach().double().cpu().numpy(), layer.bias.detach().double().cpu().numpy()
        )
        final = model.get_submodule(self.layer_name)
        with torch.no_grad():
            final.get_parameter("weight").copy_(torch.from_numpy(weight))
            final.get_parameter("bias").copy_(torch.from_numpy(bias))
        return model

    def raw_scores(self, texts: Sequence[Any], text_pairs: Sequence[str] | None = None) -> NDArray[np.float32]:
        """Scores of the model before any post-hoc step, ``(M, C)``; see `FittedModel.raw_scores`."""
        if self.task.label_structure == "tags":
            return self._token_scores(texts)
        scores = np.empty((len(texts), self.label_space.num_classes), dtype=np.float32)
        for start in range(0, len(texts), _WINDOW):
            part = slice(start, start + _WINDOW)
            pairs = None if text_pairs is None else text_pairs[part]
            encoded = tokenize(self.tokenizer, plain_texts(texts[part]), pairs, self.max_length)
            for rows, batch in length_sorted_batches(self.tokenizer, encoded, self.batch_size, self.model.device):
                with torch.inference_mode():
                    scores[start + rows] = self.model(**batch).logits.float().cpu().numpy()
        return scores

    def _token_scores(self, sentences: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        """Scores at the first sub-word of every token; a long sentence is scored in pieces, so that none is cut."""
        pieces = token_pieces(self.tokenizer, sentences, self.max_length)
        scores = np.zeros((sum(len(tokens) for tokens in sentences), self.label_space.num_classes), dtype=np.float32)
        encoded, starts = tokenize_words(self.tokenizer, [p.tokens for p in pieces], self.max_length)
        for rows, batch in length_sorted_batches(self.tokenizer, encoded, self.batch_size, self.model.device):
            with torch.inference_mode():
                logits = self.model(**batch).logits.float().cpu().numpy()
            for row, values in zip(rows, logits, strict=True):
                known = np.flatnonzero(starts[row] >= 0)
                scores[pieces[row].first + known] = values[starts[row][known]]
        return scores

    def raw_split_scores(self, corpus: Corpus, split: SplitName) -> NDArray[np.float32]:
        """`raw_scores` of a whole split."""
        return self.raw_scores(corpus.inputs(split), corpus.text_pairs(split))


def plain_texts(inputs: Sequence[Any]) -> list[str]:
    """Texts as they are; a sentence with two entities as its tokens with marker words about the entities."""
    return [text if isinstance(text, str) else " ".join(marked(text)[0]) for text in inputs]


def tokenize(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], text_pairs: Sequence[str] | None, max_length: int
) -> list[dict[str, list[int]]]:
    """Model inputs of every text, cut to `max_length` tokens and not padded."""
    if not texts:
        return []
    pairs = None if text_pairs is None else list(text_pairs)
    columns = tokenizer(list(texts), pairs, truncation=True, max_length=max_length, padding=False)
    return [{key: values[i] for key, values in columns.items()} for i in range(len(texts))]


def tokenize_words(
    tokenizer: PreTrainedTokenizerBase, sentences: Sequence[Sequence[str]], max_length: int
) -> tuple[list[dict[str, list[int]]], list[NDArray[np.int64]]]:
    """Model inputs of every sentence, and where the first sub-word of each token stands, -1 where it has none.

    Raises:
        ModelError: a tokenizer that does not take words.
    """
    if not sentences:
        return [], []
    try:
        columns = tokenizer(
            [list(tokens) for tokens in sentences], is_split_into_words=True, truncation=True, max_length=max_length
        )
        words = [columns.word_ids(row) for row in range(len(sentences))]
    except (AssertionError, ValueError) as error:
        raise ModelError(f"The tokenizer {type(tokenizer).__name__} does not take words: {error}") from error
    starts = []
    for tokens, ids in zip(sentences, words, strict=True):
        places = np.full(len(tokens), -1, dtype=np.int64)
        for position in range(len(ids) - 1, -1, -1):
            if ids[position] is not None:
                places[ids[position]] = position
        starts.append(places)
    return [{key: values[i] for key, values in columns.items()} for i in range(len(sentences))], starts


def length_sorted_batches(
    tokenizer: PreTrainedTokenizerBase,
    encoded: Sequence[dict[str, list[int]]],
    batch_size: int,
    device: torch.device,
) -> Iterator[tuple[NDArray[np.int64], dict[str, Tensor]]]:
    """Batches of texts of similar length, longest first: row numbers and padded tensors on `device`."""
    order = np.argsort([-len(row["input_ids"]) for row in encoded], kind="stable")
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        batch = tokenizer.pad({key: [encoded[i][key] for i in rows] for key in encoded[0]}, return_tensors="pt")
        yield rows, dict(batch.to(device))
