"""All kinds of models: the union of their configs, and config -> model."""

from __future__ import annotations

from typing import Annotated, overload

from pydantic import Field

from groundup.models.decoder import Decoder
from groundup.models.decoder_config import DecoderConfig
from groundup.models.encoder import Encoder, EncoderConfig, Labeller
from groundup.models.lstm import LSTM, LSTMConfig

AnyConfig = DecoderConfig | LSTMConfig | EncoderConfig
ModelConfig = Annotated[AnyConfig, Field(discriminator="kind")]
"""Any model's config, told apart by `kind`."""
CausalModel = Decoder | LSTM
"""A model that predicts the next token, and can generate."""
LanguageModel = CausalModel | Encoder
"""A model that predicts tokens."""
Model = LanguageModel | Labeller
"""Any model that can be trained."""


@overload
def build_model(config: DecoderConfig, vocab_size: int) -> Decoder: ...
@overload
def build_model(config: LSTMConfig, vocab_size: int) -> LSTM: ...
@overload
def build_model(config: EncoderConfig, vocab_size: int) -> Encoder: ...
@overload
def build_model(config: AnyConfig, vocab_size: int) -> LanguageModel: ...
def build_model(config: AnyConfig, vocab_size: int) -> LanguageModel:
    """An uninitialised model on the current default device ("meta" before sharding)."""
    if isinstance(config, LSTMConfig):
        return LSTM(config, vocab_size)
    return Encoder(config, vocab_size) if isinstance(config, EncoderConfig) else Decoder(config, vocab_size)
