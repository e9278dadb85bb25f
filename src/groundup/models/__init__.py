"""Networks only, which know nothing of training: `build_model` makes one from its config, on the default device."""

from __future__ import annotations

import torch

from groundup.models.anatomy import Anatomy, decoder_anatomy
from groundup.models.decoder import Decoder, KeyValueCache
from groundup.models.decoder_config import DecoderConfig
from groundup.models.heads import IGNORE
from groundup.models.huggingface import (
    check_shapes,
    from_huggingface,
    full_names,
    huggingface_config,
    huggingface_shapes,
    huggingface_tensors,
    layout_of,
    own_tensors,
    to_huggingface,
)
from groundup.models.layouts import LAYOUTS, ConfigValues, Layout

ModelConfig = DecoderConfig
"""Union of all model configs; a second kind makes it discriminated by `kind`."""


def build_model(config: ModelConfig, vocab_size: int) -> Decoder:
    """An uninitialised model on the current default device ("meta" before sharding)."""
    return Decoder(config, vocab_size)


def model_anatomy(config: ModelConfig, vocab_size: int) -> Anatomy:
    """The parts of such a model: shapes, parameters, FLOPs, memory; nothing is allocated."""
    with torch.device("meta"):
        model = build_model(config, vocab_size)
    return decoder_anatomy(config, model)


__all__ = [
    "IGNORE",
    "LAYOUTS",
    "Anatomy",
    "ConfigValues",
    "Decoder",
    "DecoderConfig",
    "KeyValueCache",
    "Layout",
    "ModelConfig",
    "build_model",
    "check_shapes",
    "from_huggingface",
    "full_names",
    "huggingface_config",
    "huggingface_shapes",
    "huggingface_tensors",
    "layout_of",
    "model_anatomy",
    "own_tensors",
    "to_huggingface",
]
