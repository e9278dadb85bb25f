"""Which rule updates which parameter, and how fast at which step."""

from __future__ import annotations

from groundup.optim.adamw import AdamWConfig
from groundup.optim.build import Optimizer, OptimizerConfig, build_optimizer, flat_state, load_flat_state
from groundup.optim.layers import LayersConfig, by_layer
from groundup.optim.muon import MuonConfig
from groundup.optim.schedules import (
    ConstantConfig,
    CosineConfig,
    LinearConfig,
    ScheduleConfig,
    WSDConfig,
    learning_rate_factor,
)

__all__ = [
    "AdamWConfig",
    "ConstantConfig",
    "CosineConfig",
    "LayersConfig",
    "LinearConfig",
    "MuonConfig",
    "Optimizer",
    "OptimizerConfig",
    "ScheduleConfig",
    "WSDConfig",
    "build_optimizer",
    "by_layer",
    "flat_state",
    "learning_rate_factor",
    "load_flat_state",
]
