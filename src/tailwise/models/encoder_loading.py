"""Open the files of an encoder: configuration, tokenizer, weights. No code of the model's own, no pickle, no net."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from tailwise.errors import ModelError
from tailwise.models.quiet import quiet_transformers

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from tailwise.models.encoder_source import EncoderSource

__all__ = ["load_config", "load_model", "load_tokenizer"]


def load_config(source: EncoderSource) -> PretrainedConfig:
    """The configuration of an encoder.

    Raises:
        ModelError: not readable, needs code of its own, or not an encoder with one state per token.
    """
    from transformers import AutoConfig

    with _explained(source, "configuration"):
        config = AutoConfig.from_pretrained(source.path, local_files_only=True, trust_remote_code=False)
    if getattr(config, "is_encoder_decoder", False) or not isinstance(getattr(config, "hidden_size", None), int):
        raise ModelError(
            f"{source.name!r} is a {config.model_type} model. Expected an encoder with one state per token and a "
            f"`hidden_size`, such as BERT."
        )
    return cast("PretrainedConfig", config)


def load_tokenizer(source: EncoderSource) -> PreTrainedTokenizerBase:
    """The tokenizer of an encoder, padding on the right.

    Raises:
        ModelError: not readable, needs code of its own, or without anything to pad with.
    """
    from transformers import AutoTokenizer

    with _explained(source, "tokenizer"):
        loaded = AutoTokenizer.from_pretrained(source.path, local_files_only=True, trust_remote_code=False)
    tokenizer = cast("PreTrainedTokenizerBase", loaded)
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise ModelError(
                f"The tokenizer of {source.name!r} has neither a padding nor an end token; batches need one."
            )
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(source: EncoderSource, dtype: torch.dtype) -> PreTrainedModel:
    """The transformer of an encoder on the processor.

    Raises:
        ModelError: not readable, needs code of its own, or weights that lack a part of the model.
    """
    from transformers import AutoModel

    with _explained(source, "model"):
        model, report = AutoModel.from_pretrained(
            source.path,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    missing = [key for key in sorted(report["missing_keys"]) if "pooler" not in key]
    if missing:
        raise ModelError(
            f"The weights of {source.name!r} in {source.path} lack {len(missing)} tensors of a {type(model).__name__}, "
            f"the first one {missing[0]!r}. The file is incomplete or belongs to another model."
        )
    return cast("PreTrainedModel", model)


@contextmanager
def _explained(source: EncoderSource, what: str) -> Iterator[None]:
    from safetensors import SafetensorError

    plain = (OSError, ValueError, LookupError, TypeError, AttributeError, ImportError, RuntimeError)
    kinds: tuple[type[Exception], ...] = (*plain, SafetensorError)
    try:
        with quiet_transformers():
            yield
    except kinds as error:
        raise ModelError(
            f"The {what} of the encoder {source.name!r} in {source.path} cannot be loaded "
            f"({type(error).__name__}: {error}). Expected the files of a plain transformers encoder; code that comes "
            f"with a model is never run."
        ) from error
