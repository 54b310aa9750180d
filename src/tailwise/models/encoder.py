"""A pre-trained transformer as a feature extractor: texts in, one float32 vector per text out.

Texts are encoded longest first in batches of about equally many tokens, so that hardly any padding is computed, and in
bfloat16 where the processor multiplies bfloat16 faster than float32. Equal inputs are encoded once. What else is in the
list changes the features of a text by rounding alone.
"""

from __future__ import annotations

import logging
from functools import cached_property
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch

from tailwise.errors import DataError, ModelError, SettingError
from tailwise.models.encoder_loading import load_config, load_model, load_tokenizer
from tailwise.models.encoder_source import EncoderSource, locate_encoder
from tailwise.models.pooling import Pooling, check_pooling, pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from transformers import BatchEncoding, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    TextInput = str | tuple[str, str]

__all__ = [
    "Encoder", "EncoderDtype", "default_device", "fast_dtype", "half_precision", "text_inputs", "token_budget",
    "token_budget_batches",
]  # fmt: skip

EncoderDtype = Literal["auto", "float32", "bfloat16"]

#: Tokens per batch. On a processor, few enough for the activations of a layer to stay in the cache.
_TOKEN_BUDGET = {"cpu": 2048, "cuda": 65536, "mps": 16384}
#: Texts tokenised and sorted at a time; bounds the memory that tokens take.
_WINDOW = 16384
#: Above this, a tokenizer's maximal length means "not known".
_LENGTH_UNKNOWN = 1_000_000

_log = logging.getLogger("tailwise")


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the hardware multiplies it natively (AVX512-BF16, AMX, CUDA from Ampere on), else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        native = capabilities.get("avx512_bf16", False) or capabilities.get("amx_bf16", False)
        return torch.bfloat16 if native else torch.float32
    return torch.float32


def token_budget_batches(lengths: NDArray[np.int64], budget: int) -> Iterator[NDArray[np.int64]]:
    """Rows by falling length, as many at a time as keep ``rows * longest`` within `budget` (at least one)."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        rows = max(1, budget // max(1, int(lengths[order[start]])))
        yield order[start : start + rows]
        start += rows


def token_budget(device: torch.device) -> int:
    """Tokens per batch that suit a device."""
    return _TOKEN_BUDGET.get(device.type, 2048)


def half_precision(values: NDArray[np.float16], encoder: str) -> NDArray[np.float16]:
    """The values themselves.

    Raises:
        ModelError: one is not finite, in itself or because float16 cannot hold it.
    """
    if not np.isfinite(values).all():
        raise ModelError(
            f"The encoder {encoder!r} gives values that are not finite or that half precision cannot hold; take "
            "another encoder."
        )
    return values


class Encoder:
    """A frozen encoder. Make one with `from_pretrained`; the weights are loaded when the first text is encoded.

    Attributes:
        name: what was asked for.
        path: the folder with its files.
        revision: the commit of a hub repository, None for a local folder.
        fingerprint: equal fingerprints mean equal files.
        pooling: ``"mean"`` or ``"cls"``.
        max_length: tokens per text, special tokens included; longer texts are cut. At most what the model takes.
        dim: D, the length of a feature vector.
        device: where it computes.
        dtype: what it computes in; features are float32 in any case.
        tokenizer: its tokenizer, padding on the right.
    """

    def __init__(
        self,
        source: EncoderSource,
        *,
        pooling: Pooling = "mean",
        max_length: int = 256,
        device: str | torch.device | None = None,
        dtype: EncoderDtype = "auto",
    ) -> None:
        if dtype not in get_args(EncoderDtype):
            raise SettingError(f"Expected `dtype` to be one of {', '.join(get_args(EncoderDtype))}, but got {dtype!r}.")
        self.name = source.name
        self.path: Path = source.path
        self.revision = source.revision
        self.fingerprint = source.fingerprint
        self.pooling = check_pooling(pooling)
        self.device = default_device(device)
        self.dtype = fast_dtype(self.device) if dtype == "auto" else getattr(torch, dtype)
        self.config = load_config(source)
        self.dim = int(self.config.hidden_size)
        self.tokenizer = load_tokenizer(source)
        self.max_length = _checked_length(max_length, self.tokenizer, self.config)
        self._source = source
        self._rounds_products = False

    @classmethod
    def from_pretrained(
        cls,
        name: str | None = None,
        *,
        revision: str | None = None,
        pooling: Pooling = "mean",
        max_length: int = 256,
        device: str | torch.device | None = None,
        dtype: EncoderDtype = "auto",
    ) -> Encoder:
        """An encoder by name.

        Args:
            name: None for all-MiniLM-L6-v2 from its package (offline), a local folder, or a hub id. Code that comes
                with a model is never run.
            revision: branch, tag or commit of a hub repository.
            pooling: ``"mean"`` of the token states, or the state of the first token (``"cls"``).
            max_length: tokens per text, special tokens included; lowered to what the model takes.
            device: None takes CUDA, else Apple's MPS, else the processor.
            dtype: ``"auto"`` takes bfloat16 where the hardware gains from it.

        Raises:
            MissingDependencyError: the default encoder is neither installed nor in reach.
            ModelError: not an encoder, not in reach, broken, or with pickle weights only.
            SettingError: a setting outside its range.
        """
        source = locate_encoder(name, revision)
        return cls(source, pooling=pooling, max_length=max_length, device=device, dtype=dtype)

    def in_dtype(self, dtype: EncoderDtype) -> Encoder:
        """The same encoder, computing in another type."""
        return Encoder(self._source, pooling=self.pooling, max_length=self.max_length, device=self.device, dtype=dtype)

    def quick(self) -> Encoder:
        """The same encoder for predicting in less time, or itself where nothing is gained.

        Where the hardware multiplies bfloat16 natively, the linear layers of a float32 encoder do; sums, normalisation
        and what is added from layer to layer stay in float32. Features keep a cosine above 0.9999 to those in float32
        (bfloat16 throughout: 0.9998). Its fingerprint is its own, so that no features in a cache are taken for others.
        """
        if self.dtype is not torch.float32 or fast_dtype(self.device) is torch.float32:
            return self
        quick = self.in_dtype("float32")
        quick.fingerprint = f"{self.fingerprint}, products in bfloat16"
        quick._rounds_products = True  # noqa: SLF001  # one of its kind
        return quick

    @cached_property
    def model(self) -> PreTrainedModel:
        """The transformer, in evaluation mode, on `device` in `dtype`."""
        model = load_model(self._source, self.dtype)
        if self._rounds_products:
            _round_products(model)
        torch.nn.Module.to(model, self.device)
        model.train(mode=False)
        return model

    def encode(
        self,
        texts: Sequence[str],
        text_pairs: Sequence[str] | None = None,
        *,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> NDArray[np.float32]:
        """Features of texts, or of pairs of texts.

        Args:
            texts: N texts; an empty one has the features of its special tokens.
            text_pairs: the second text of each pair.
            progress: called with ``("encode", done, total)``, counted in distinct texts.

        Returns:
            ``(N, D)``, not normalised, in the order of `texts`.

        Raises:
            DataError: something that is not a text, or a different number of second texts.
            ModelError: weights that cannot be loaded, or that give values that are not finite.
        """
        distinct, rows = _distinct(text_inputs(texts, text_pairs))
        features = np.zeros((len(distinct), self.dim), dtype=np.float32)
        done = cut = 0
        for start in range(0, len(distinct), _WINDOW):
            window = distinct[start : start + _WINDOW]
            encoded, lengths, too_long = self._tokenise(window)
            cut += too_long
            for batch in token_budget_batches(lengths, token_budget(self.device)):
                if lengths[batch[0]]:
                    features[start + batch] = self._forward(encoded, batch)
                done += len(batch)
                if progress is not None:
                    progress("encode", done, len(distinct))
        if cut:
            _log.info(
                "%d of %d distinct texts are longer than %d tokens and were cut.", cut, len(distinct), self.max_length
            )
        if not np.isfinite(features).all():
            raise ModelError(f"The encoder {self.name!r} gives values that are not finite; its weights are broken.")
        return features if len(distinct) == len(rows) else features[rows]

    def count_truncated(self, texts: Sequence[str], text_pairs: Sequence[str] | None = None) -> int:
        """How many of the texts (or pairs) are longer than `max_length` tokens, so that `encode` cuts them."""
        inputs = text_inputs(texts, text_pairs)
        return sum(self._tokenise(inputs[s : s + _WINDOW])[2] for s in range(0, len(inputs), _WINDOW))

    def _tokenise(self, inputs: Sequence[TextInput]) -> tuple[BatchEncoding, NDArray[np.int64], int]:
        encoded = self.tokenizer(inputs, truncation=True, max_length=self.max_length)
        lengths = np.fromiter((len(ids) for ids in encoded["input_ids"]), dtype=np.int64, count=len(inputs))
        if encoded.encodings is None:
            return encoded, lengths, self._count_long(inputs)
        return encoded, lengths, sum(bool(e.overflowing) for e in encoded.encodings)

    def _count_long(self, inputs: Sequence[TextInput]) -> int:
        whole = self.tokenizer(inputs, truncation=False, verbose=False)
        return sum(len(ids) > self.max_length for ids in whole["input_ids"])

    def _forward(self, encoded: BatchEncoding, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        chosen = {key: [encoded[key][row] for row in rows] for key in encoded}
        batch = self.tokenizer.pad(chosen, return_tensors="pt").to(self.device)
        with torch.inference_mode():
            states = self.model(**batch).last_hidden_state
            features: NDArray[np.float32] = pool(states, batch["attention_mask"], self.pooling).cpu().numpy()
        return features


def _round_products(model: PreTrainedModel) -> None:
    """Let every linear layer take and give bfloat16."""
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.to(torch.bfloat16)
            module.register_forward_pre_hook(lambda _, inputs: (inputs[0].to(torch.bfloat16),))


def text_inputs(texts: Sequence[str], text_pairs: Sequence[str] | None) -> list[TextInput]:
    """Texts, or pairs of texts, as a tokenizer takes them.

    Raises:
        DataError: something that is not a text, or a different number of second texts.
    """
    if isinstance(texts, str):
        raise DataError("Expected a list of texts, but got a single text. Put it into a list.")
    for column in (texts, text_pairs or ()):
        for position, text in enumerate(column):
            if not isinstance(text, str):
                raise DataError(f"Expected texts, but found {type(text).__name__} at position {position}.")
    if text_pairs is None:
        return list(texts)
    if len(text_pairs) != len(texts):
        raise DataError(f"Expected as many second texts as texts, {len(texts)}, but got {len(text_pairs)}.")
    return list(zip(texts, text_pairs, strict=True))


def _distinct(inputs: Sequence[TextInput]) -> tuple[list[TextInput], NDArray[np.int64]]:
    index: dict[TextInput, int] = {}
    rows = np.fromiter((index.setdefault(i, len(index)) for i in inputs), dtype=np.int64, count=len(inputs))
    return list(index), rows


def default_device(device: str | torch.device | None = None) -> torch.device:
    """The device that is asked for; None takes a GPU where there is one."""
    if device is not None:
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _checked_length(max_length: int, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig) -> int:
    known = [tokenizer.model_max_length, getattr(config, "max_position_embeddings", None)]
    limit = min((n for n in known if isinstance(n, int) and 0 < n < _LENGTH_UNKNOWN), default=_LENGTH_UNKNOWN)
    lowest = tokenizer.num_special_tokens_to_add(pair=True) + 2
    if not isinstance(max_length, int) or max_length < lowest:
        raise SettingError(f"Expected `max_length` to be a whole number from {lowest}, but got {max_length!r}.")
    return min(max_length, limit)
