"""Parsers whose encoder is trained along with them: the same scorer and steps as on frozen features.

The state of a word is the mean of the last states of its sub-words, as in `tailwise.models.word_features`. A sentence
of more sub-words than the encoder takes is left out of training; prediction encodes it in pieces. The encoder computes
in bfloat16 where the processor gains from it, its weights stay float32. Each stage has the schedule of
`parsing_loop.train_parser`; nothing is written on the way, so a run that was killed starts anew.
"""

from __future__ import annotations

import copy
from dataclasses import asdict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from tailwise.errors import DataError, ModelError, SettingError
from tailwise.models.encoder import fast_dtype
from tailwise.models.feature_cache import FeatureCache
from tailwise.models.parsing.model import ParserModel
from tailwise.models.parsing.network import ParserNetwork, ParserSizes
from tailwise.models.parsing.scoring import SentenceLayout
from tailwise.training.isolation import kept_random_state
from tailwise.training.parsing_loop import ParserOptimisation, train_parser
from tailwise.training.parsing_plan import Treebank, parser_stages
from tailwise.training.parsing_probe import finish_parser, with_recipe
from tailwise.training.run_facts import run_facts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from tailwise.data.corpus import Corpus
    from tailwise.models.encoder import Encoder
    from tailwise.models.parsing.decoding import Algorithm
    from tailwise.stages.recipe import Recipe
    from tailwise.training.engine import Progress

__all__ = ["Subwords", "TrainedWords", "finetune_parser", "subwords_of"]


class Subwords(NamedTuple):
    """The sub-words of a sentence, special ones included: their ids, and the word that each belongs to or None."""

    ids: list[int]
    words: list[int | None]


def subwords_of(encoder: Encoder, sentences: Sequence[Sequence[str]]) -> list[Subwords]:
    """The sub-words of every sentence, however long.

    Raises:
        ModelError: a tokenizer that does not know words.
    """
    try:
        encoded = encoder.tokenizer([list(tokens) for tokens in sentences], is_split_into_words=True, verbose=False)
        return [Subwords(ids, encoded.word_ids(row)) for row, ids in enumerate(encoded["input_ids"])]
    except (AssertionError, ValueError) as error:
        raise ModelError(f"The tokenizer of {encoder.name!r} does not take words: {error}") from error


class TrainedWords:
    """Word states of an encoder that is trained.

    Args:
        encoder: its `model` is trained in place.
        subwords: of every sentence, from `subwords_of`.
        bf16: compute the encoder in bfloat16.
    """

    def __init__(self, encoder: Encoder, subwords: Sequence[Subwords], *, bf16: bool) -> None:
        self._model = encoder.model
        self._device = encoder.device
        self._tokenizer = encoder.tokenizer
        self._subwords = subwords
        self._bf16 = bf16

    def encoder(self) -> nn.Module | None:
        """The transformer."""
        return self._model

    def states(self, layout: SentenceLayout, sentences: NDArray[np.int64]) -> Tensor:
        """Means of the sub-words of every word, zero where a word has none, ``(B, T, D)``."""
        chosen = [self._subwords[sentence] for sentence in sentences]
        batch = self._tokenizer.pad({"input_ids": [subwords.ids for subwords in chosen]}, return_tensors="pt")
        longest = int(layout.lengths.max())
        index = torch.full(batch["input_ids"].shape, longest)
        for row, (_, words) in enumerate(chosen):
            index[row, : len(words)] = torch.tensor([longest if word is None else word for word in words])
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            output = self._model(**batch.to(self._device)).last_hidden_state
        states: Tensor = output.float().cpu()
        sums = states.new_zeros(len(sentences), longest + 1, states.shape[2])
        sums = sums.scatter_add(1, index[:, :, None].expand_as(states), states)
        counts = torch.zeros(sums.shape[:2]).scatter_add_(1, index, torch.ones(index.shape))
        return (sums / counts.clamp_min(1.0)[:, :, None])[:, :longest]


def finetune_parser(
    recipe: Recipe,
    corpus: Corpus,
    encoder: Encoder,
    seed: int,
    *,
    epochs: float = 3.0,
    token_budget: int = 1024,
    optimisation: ParserOptimisation | None = None,
    sizes: ParserSizes | None = None,
    algorithm: Algorithm = "mst",
    metric: str = "macro_f1",
    bf16: bool | None = None,
    progress: Progress | None = None,
) -> ParserModel:
    """Train a parser together with its encoder.

    Args:
        recipe: what to do; its `optimisation` goes before the settings given here: `learning_rate` is that of the
            encoder, `batch_size` words per step.
        corpus: the treebank.
        encoder: the pretrained weights and the tokenizer; left as it is.
        seed: of everything random.
        epochs: passes over the training sentences.
        token_budget: words per step, padding included.
        optimisation: settings of the optimiser.
        sizes: of the network; None takes no layer between encoder and scorer.
        algorithm: how trees are found, ``"mst"`` or ``"eisner"``.
        metric: what tuned post-hoc steps maximise over relations on validation; macro-F1 for a metric over arcs.
        bf16: compute the encoder in bfloat16; None where the processor gains from it.
        progress: told after every step.

    Raises:
        SettingError: a recipe that cannot be carried out, or data that are not trees.
        DataError: no training sentence that the encoder can take.
    """
    if corpus.task.label_structure != "arcs":
        raise SettingError(f"A parser needs a treebank, but {corpus.name!r} is for {corpus.task.name!r}.")
    bf16 = fast_dtype(encoder.device) == torch.bfloat16 if bf16 is None else bf16
    sizes = ParserSizes(layers=0, arc=384, relation=128) if sizes is None else sizes
    own = _own_copy(encoder)
    subwords = subwords_of(own, corpus.tokens("train"))
    fitting = [i for i, (ids, _) in enumerate(subwords) if len(ids) <= own.max_length]
    treebank = _part(Treebank.of(corpus, "train"), np.array(fitting, dtype=np.int64))
    if not treebank.relations.size:
        raise DataError(f"The corpus {corpus.name!r} has no training sentence that the encoder can take.")
    base = ParserOptimisation(learning_rate=2e-3, warmup=0.1) if optimisation is None else optimisation
    chosen, passes, budget = with_recipe(recipe, base, epochs, token_budget, rate="encoder_learning_rate")
    num_relations = corpus.label_space.num_classes
    stages = parser_stages(recipe, treebank, num_relations=num_relations, epochs=passes, token_budget=budget, seed=seed)
    with kept_random_state():
        network = ParserNetwork(own.dim, num_relations, sizes)
    log = train_parser(
        network,
        TrainedWords(own, [subwords[i] for i in fitting], bf16=bf16),
        treebank,
        stages,
        recipe,
        corpus.label_space,
        optimisation=chosen,
        seed=seed,
        progress=progress,
    )
    own.model.eval()
    settings = {"epochs": passes, "token_budget": budget, "optimisation": asdict(chosen), "sizes": asdict(sizes)}
    model = ParserModel(
        encoder=own,
        network=network,
        algorithm=algorithm,
        cache=FeatureCache(max_bytes=0),
        label_space=corpus.label_space,
        task=corpus.task,
        recipe=recipe.to_dict(),
        seed=seed,
        engine="finetune",
        info=run_facts(corpus, own, {**settings, "bf16": bf16}, {**log, "left_out": len(subwords) - len(fitting)}),
    )
    finish_parser(model, recipe, corpus, stages, metric)
    return model


def _part(treebank: Treebank, sentences: NDArray[np.int64]) -> Treebank:
    """The trees of some sentences."""
    layout = SentenceLayout.of(treebank.offsets, sentences)
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(layout.lengths.numpy())])
    return Treebank(treebank.heads[layout.rows], treebank.relations[layout.rows], offsets)


def _own_copy(encoder: Encoder) -> Encoder:
    """The encoder with weights of its own, in float32."""
    own = encoder.in_dtype("float32")
    if "model" in vars(encoder) and encoder.dtype == torch.float32:
        own.model = copy.deepcopy(encoder.model)
    return own
