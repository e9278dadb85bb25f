"""Networks only, which know nothing of training: `build_model` makes one from its config, on the default device."""

from __future__ import annotations

from groundup.models.adapters import DoRAConfig, FullTuning, LoRAConfig, LowRankConfig, TuneConfig
from groundup.models.anatomy import Anatomy, model_anatomy
from groundup.models.build import ModelConfig
from groundup.models.cache import KeyValueCache, StateCache
from groundup.models.context import RowContext
from groundup.models.decoder import Decoder
from groundup.models.decoder_config import DecoderConfig
from groundup.models.encoder import Encoder, EncoderConfig
from groundup.models.encoder_heads import NAMING, SET_BITS, LabelKind, numbers_as_targets
from groundup.models.huggingface import (
    check_shapes,
    from_huggingface,
    full_names,
    huggingface_config,
    huggingface_shapes,
    huggingface_tensors,
    layout_of,
    own_shapes,
    to_huggingface,
)
from groundup.models.labeller import Labeller, LabellerConfig
from groundup.models.layouts import LAYOUTS, ConfigValues, Layout, find_layout, gathered, holders
from groundup.models.losses import IGNORE, LossConfig, WeightedLossConfig
from groundup.models.lstm import LSTM, LSTMConfig
from groundup.models.network import CausalNetwork, Network, NetworkConfig, TokenCache, build_model, causal
from groundup.models.preferences import (
    DPOConfig,
    IPOConfig,
    KTOConfig,
    ORPOConfig,
    PreferenceLossConfig,
    PreferenceRule,
    outcome,
)
from groundup.models.row_part import RowPart
from groundup.models.transformers_model import TransformersConfig, TransformersModel

__all__ = [
    "IGNORE",
    "LAYOUTS",
    "LSTM",
    "NAMING",
    "SET_BITS",
    "Anatomy",
    "CausalNetwork",
    "ConfigValues",
    "DPOConfig",
    "Decoder",
    "DecoderConfig",
    "DoRAConfig",
    "Encoder",
    "EncoderConfig",
    "FullTuning",
    "IPOConfig",
    "KTOConfig",
    "KeyValueCache",
    "LSTMConfig",
    "LabelKind",
    "Labeller",
    "LabellerConfig",
    "Layout",
    "LoRAConfig",
    "LossConfig",
    "LowRankConfig",
    "ModelConfig",
    "Network",
    "NetworkConfig",
    "ORPOConfig",
    "PreferenceLossConfig",
    "PreferenceRule",
    "RowContext",
    "RowPart",
    "StateCache",
    "TokenCache",
    "TransformersConfig",
    "TransformersModel",
    "TuneConfig",
    "WeightedLossConfig",
    "build_model",
    "causal",
    "check_shapes",
    "find_layout",
    "from_huggingface",
    "full_names",
    "gathered",
    "holders",
    "huggingface_config",
    "huggingface_shapes",
    "huggingface_tensors",
    "layout_of",
    "model_anatomy",
    "numbers_as_targets",
    "outcome",
    "own_shapes",
    "to_huggingface",
]
