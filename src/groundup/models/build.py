"""All kinds of models: the union of their configs, and config -> model."""

from __future__ import annotations

from typing import Annotated, overload

from pydantic import Field

from groundup.models.decoder import Decoder
from groundup.models.decoder_config import DecoderConfig
from groundup.models.lstm import LSTM, LSTMConfig

AnyConfig = DecoderConfig | LSTMConfig
ModelConfig = Annotated[AnyConfig, Field(discriminator="kind")]
"""Any model's config, told apart by `kind`."""
LanguageModel = Decoder | LSTM
"""A model that predicts the next token."""


@overload
def build_model(config: DecoderConfig, vocab_size: int) -> Decoder: ...
@overload
def build_model(config: LSTMConfig, vocab_size: int) -> LSTM: ...
def build_model(config: AnyConfig, vocab_size: int) -> LanguageModel:
    """An uninitialised model on the current default device ("meta" before sharding)."""
    return LSTM(config, vocab_size) if isinstance(config, LSTMConfig) else Decoder(config, vocab_size)
