"""Networks only, which know nothing of training: `build_model` makes one from its config, on the default device."""

from __future__ import annotations

from groundup.models.decoder import Decoder, DecoderConfig, KeyValueCache
from groundup.models.huggingface import (
    from_huggingface,
    huggingface_config,
    huggingface_shapes,
    huggingface_tensors,
    to_huggingface,
)
from groundup.models.losses import IGNORE, LossConfig

ModelConfig = DecoderConfig
"""Union of all model configs; a second kind makes it discriminated by `kind`."""


def build_model(config: ModelConfig, vocab_size: int) -> Decoder:
    """An uninitialised model on the current default device ("meta" before sharding)."""
    return Decoder(config, vocab_size)


__all__ = [
    "IGNORE",
    "Decoder",
    "DecoderConfig",
    "KeyValueCache",
    "LossConfig",
    "ModelConfig",
    "build_model",
    "from_huggingface",
    "huggingface_config",
    "huggingface_shapes",
    "huggingface_tensors",
    "to_huggingface",
]
