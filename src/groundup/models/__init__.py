"""Networks only, which know nothing of training: `build_model` makes one from its config, on the default device."""

from __future__ import annotations

from typing import Annotated, overload

from pydantic import Field

from groundup.models.context import RowContext
from groundup.models.decoder import Decoder, DecoderConfig, KeyValueCache
from groundup.models.huggingface import (
    from_huggingface,
    huggingface_config,
    huggingface_shapes,
    huggingface_tensors,
    to_huggingface,
)
from groundup.models.losses import IGNORE, LossConfig
from groundup.models.lstm import LSTM, LSTMConfig, StateCache

ModelConfig = Annotated[DecoderConfig | LSTMConfig, Field(discriminator="kind")]
"""Any model's config, told apart by `kind`."""
LanguageModel = Decoder | LSTM
"""A model that predicts the next token."""


@overload
def build_model(config: DecoderConfig, vocab_size: int) -> Decoder: ...
@overload
def build_model(config: LSTMConfig, vocab_size: int) -> LSTM: ...
def build_model(config: DecoderConfig | LSTMConfig, vocab_size: int) -> LanguageModel:
    """An uninitialised model on the current default device ("meta" before sharding)."""
    return LSTM(config, vocab_size) if isinstance(config, LSTMConfig) else Decoder(config, vocab_size)


__all__ = [
    "IGNORE",
    "LSTM",
    "Decoder",
    "DecoderConfig",
    "KeyValueCache",
    "LSTMConfig",
    "LanguageModel",
    "LossConfig",
    "ModelConfig",
    "RowContext",
    "StateCache",
    "build_model",
    "from_huggingface",
    "huggingface_config",
    "huggingface_shapes",
    "huggingface_tensors",
    "to_huggingface",
]
