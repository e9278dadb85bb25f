"""All kinds of models: the union of their configs. A new one is one more line here."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from groundup.models.decoder_config import DecoderConfig
from groundup.models.encoder import EncoderConfig
from groundup.models.lstm import LSTMConfig

ModelConfig = Annotated[DecoderConfig | EncoderConfig | LSTMConfig, Field(discriminator="kind")]
"""Any model's config, told apart by `kind`."""
