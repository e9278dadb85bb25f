"""Networks only, which know nothing of training: `build_model` makes one from its config, on the default device."""

from __future__ import annotations

from typing import Annotated, overload

from pydantic import Field

from groundup.models.bert import bert_config, bert_name, from_bert, to_bert
from groundup.models.decoder import Decoder, DecoderConfig, KeyValueCache
from groundup.models.encoder import Encoder, EncoderConfig, Labeller
from groundup.models.encoder_heads import LabelKind, numbers_as_targets
from groundup.models.heads import IGNORE
from groundup.models.huggingface import (
    from_huggingface,
    huggingface_config,
    huggingface_shapes,
    huggingface_tensors,
    to_huggingface,
)

ModelConfig = Annotated[DecoderConfig | EncoderConfig, Field(discriminator="kind")]
"""Any model's config, told apart by `kind`."""
Model = Decoder | Encoder | Labeller
"""Any model."""


@overload
def build_model(config: DecoderConfig, vocab_size: int) -> Decoder: ...
@overload
def build_model(config: EncoderConfig, vocab_size: int) -> Encoder: ...
@overload
def build_model(config: DecoderConfig | EncoderConfig, vocab_size: int) -> Decoder | Encoder: ...
def build_model(config: DecoderConfig | EncoderConfig, vocab_size: int) -> Decoder | Encoder:
    """An uninitialised model on the current default device ("meta" before sharding)."""
    return Decoder(config, vocab_size) if isinstance(config, DecoderConfig) else Encoder(config, vocab_size)


__all__ = [
    "IGNORE",
    "Decoder",
    "DecoderConfig",
    "Encoder",
    "EncoderConfig",
    "KeyValueCache",
    "LabelKind",
    "Labeller",
    "Model",
    "ModelConfig",
    "bert_config",
    "bert_name",
    "build_model",
    "from_bert",
    "from_huggingface",
    "huggingface_config",
    "huggingface_shapes",
    "huggingface_tensors",
    "numbers_as_targets",
    "to_bert",
    "to_huggingface",
]
