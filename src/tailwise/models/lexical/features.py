"""Lexical features of every form of input, sparse from end to end.

    text      [w, c]                           TF-IDF of words and of characters
    pair      the same of both and compared    see `pair_rows`
    relation  r                                words by place, entities, distance and order
    tokens    s, one row per token             words, shapes and affixes in a window

A row has length 1 where no block of it is zero; blocks have fixed shares of it.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, get_args

from tailwise.data.task import InputForm
from tailwise.errors import DataError, SettingError
from tailwise.models.lexical.pair_rows import PARTS, pair_rows, pair_width
from tailwise.models.lexical.relation_strings import relation_features
from tailwise.models.lexical.saving import read_blocks, write_blocks
from tailwise.models.lexical.settings import LexicalSettings
from tailwise.models.lexical.tfidf import TfidfBlock
from tailwise.models.lexical.token_strings import token_features

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from scipy.sparse import csr_matrix

__all__ = ["LexicalFeatures"]

#: inputs that are transformed at a time
_ROWS = 4096


@dataclass(frozen=True, eq=False)
class LexicalFeatures:
    """Terms of the training inputs and their weights.

    Attributes:
        form: what the inputs are.
        blocks: one TF-IDF per kind of terms.
    """

    form: InputForm
    blocks: tuple[TfidfBlock, ...]

    @classmethod
    def fit(
        cls,
        form: InputForm,
        inputs: Sequence[Any],
        text_pairs: Sequence[str] | None = None,
        *,
        word_ngrams: tuple[int, int] | None = (1, 2),
        character_ngrams: tuple[int, int] | None = (3, 5),
        word_weight: float = 1.0,
        lowercase: bool = True,
        min_df: int | None = None,
        max_features: int = 200_000,
    ) -> LexicalFeatures:
        """Choose the terms and weigh them.

        Args:
            form: what the inputs are.
            inputs: texts, token lists or `RelationInput`, those of training.
            text_pairs: the second text of each pair.
            word_ngrams: least and greatest number of words in a row; None leaves words out. Of texts and pairs.
            character_ngrams: the same of characters within words.
            word_weight: weight of the words, that of the characters being 1.
            lowercase: whether texts are lowercased.
            min_df: least number of inputs (for tokens: of tokens) that hold a term; None takes 2, for words of
                fewer than 2,000 texts 1.
            max_features: greatest number of columns, shared out evenly among blocks; the terms that most inputs hold
                are kept.

        Raises:
            DataError: inputs of another form, or none.
            SettingError: a setting out of range.
        """
        if form not in get_args(InputForm):
            raise SettingError(f"Expected `form` to be one of {', '.join(get_args(InputForm))}, but got {form!r}.")
        settings = LexicalSettings(word_ngrams, character_ngrams, word_weight, lowercase, min_df, max_features)
        _check_inputs(form, inputs, text_pairs)
        if not len(inputs):
            raise DataError("Expected training inputs to take terms from, but got none.")
        described = _described(form, [*inputs, *(text_pairs or ())])
        views = settings.views(form, len(described))
        blocks = (
            TfidfBlock.fit(
                view.analysis,
                described,
                min_df=view.min_df,
                max_terms=_most_terms(form, max_features // len(views)),
                use_idf=view.use_idf,
                weight=view.weight / math.sqrt(PARTS) if form == "pair" else view.weight,
            )
            for view in views
        )
        return cls(form, tuple(blocks))

    def transform(self, inputs: Sequence[Any], text_pairs: Sequence[str] | None = None) -> csr_matrix:
        """Features of some inputs.

        Args:
            inputs: of the form that was fitted.
            text_pairs: the second text of each pair.

        Returns:
            ``(M, num_features)`` float32, columns of a row in order: one row per input, for tokens one per token. An
            input without a known term is a row of zeros; a pair of such texts has its cosine of 0 alone.

        Raises:
            DataError: inputs of another form.
        """
        from scipy.sparse import vstack

        _check_inputs(self.form, inputs, text_pairs)
        slices = [slice(start, start + _ROWS) for start in range(0, max(1, len(inputs)), _ROWS)]
        parts = [self._rows(inputs[s], None if text_pairs is None else text_pairs[s]) for s in slices]
        return parts[0] if len(parts) == 1 else vstack(parts, format="csr")

    def _rows(self, inputs: Sequence[Any], text_pairs: Sequence[str] | None) -> csr_matrix:
        from scipy.sparse import hstack

        described = _described(self.form, inputs)
        parts = [block.transform(described) for block in self.blocks]
        if text_pairs is not None:
            seconds = [block.transform(text_pairs) for block in self.blocks]
            parts = [
                pair_rows(first, second, block.weight)
                for block, first, second in zip(self.blocks, parts, seconds, strict=True)
            ]
        joined: csr_matrix = hstack(parts, format="csr")
        return joined

    @property
    def num_features(self) -> int:
        """Columns of the matrix that `transform` gives."""
        sizes = [len(block.terms) for block in self.blocks]
        return sum(map(pair_width, sizes)) if self.form == "pair" else sum(sizes)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of everything that decides what `transform` gives."""
        digest = hashlib.sha256(f"tailwise lexical features 1, {self.form}".encode())
        for block in self.blocks:
            digest.update(hashlib.sha256(block.digest()).digest())
        return digest.hexdigest()

    def save(self, folder: Path) -> None:
        """Write ``lexical.json`` (terms and settings) and ``lexical.safetensors`` (idf); makes the folder.

        Raises:
            ModelError: a vocabulary too large to be read again.
        """
        write_blocks(folder, self.form, self.blocks)

    @classmethod
    def load(cls, folder: Path) -> LexicalFeatures:
        """Read what `save` wrote; nothing in the folder is trusted.

        Raises:
            ModelError: missing, broken or unsafe; names file and key.
        """
        return cls(*read_blocks(folder))


def _described(form: InputForm, inputs: Sequence[Any]) -> Sequence[Any]:
    """What terms are counted in: texts, or lists of strings, for tokens one per token."""
    if form == "relation":
        return [relation_features(example) for example in inputs]
    if form == "tokens":
        return list(chain.from_iterable(map(token_features, inputs)))
    return inputs


def _most_terms(form: InputForm, columns: int) -> int:
    """The most terms that fit into some columns."""
    return max(0, columns - pair_width(0)) // 4 if form == "pair" else columns


def _check_inputs(form: InputForm, inputs: Sequence[Any], text_pairs: Sequence[str] | None) -> None:
    if (form == "pair") != (text_pairs is not None):
        found = "none were given" if text_pairs is None else "they were given"
        raise DataError(f"Inputs of the form {form!r} {'need' if form == 'pair' else 'have no'} second texts; {found}.")
    if text_pairs is not None and len(text_pairs) != len(inputs):
        raise DataError(f"Expected a second text for each of {len(inputs)} texts, but got {len(text_pairs)}.")
    for name, values in (("inputs", inputs), ("text_pairs", text_pairs or ())):
        if isinstance(values, str):
            raise DataError(f"Expected `{name}` to be a list of inputs, but got the single text {values!r:.80}.")
        for row, value in enumerate(values):
            if not _fits(form, value):
                raise DataError(f"Row {row} of `{name}`: expected {_EXPECTED[form]}, but got {value!r:.80}.")


_EXPECTED: dict[InputForm, str] = {
    "text": "a text",
    "pair": "a text",
    "relation": "a sentence with two marked entities (`RelationInput`)",
    "tokens": "a list of tokens, all of them strings",
}


def _fits(form: InputForm, value: Any) -> bool:
    if form in {"text", "pair"}:
        return isinstance(value, str)
    tokens = getattr(value, "tokens", None) if form == "relation" else value
    return isinstance(tokens, list | tuple) and all(isinstance(token, str) for token in tokens)
