"""Which rule updates which parameter, and how fast at which step."""

from __future__ import annotations

from groundup.optim.adafactor import AdafactorConfig
from groundup.optim.adagrad import AdagradConfig
from groundup.optim.adamw import AdamConfig, AdamWConfig
from groundup.optim.adamw8bit import AdamW8bitConfig
from groundup.optim.build import Optimizer, OptimizerConfig, build_optimizer, require_transfer
from groundup.optim.groups import GroupRule, Rates
from groundup.optim.layers import LayersConfig, by_layer
from groundup.optim.lion import LionConfig
from groundup.optim.muon import MuonConfig
from groundup.optim.named import NamedConfig
from groundup.optim.rmsprop import RMSpropConfig
from groundup.optim.schedule_free import ScheduleFreeConfig
from groundup.optim.schedules import (
    ConstantConfig,
    CosineConfig,
    InverseSquareRootConfig,
    LinearConfig,
    OneCycleConfig,
    PlateauConfig,
    ScheduleConfig,
    WSDConfig,
    learning_rate_factor,
)
from groundup.optim.sgd import SGDConfig
from groundup.optim.state import flat_state, load_flat_state

__all__ = [
    "AdafactorConfig",
    "AdagradConfig",
    "AdamConfig",
    "AdamW8bitConfig",
    "AdamWConfig",
    "ConstantConfig",
    "CosineConfig",
    "GroupRule",
    "InverseSquareRootConfig",
    "LayersConfig",
    "LinearConfig",
    "LionConfig",
    "MuonConfig",
    "NamedConfig",
    "OneCycleConfig",
    "Optimizer",
    "OptimizerConfig",
    "PlateauConfig",
    "RMSpropConfig",
    "Rates",
    "SGDConfig",
    "ScheduleConfig",
    "ScheduleFreeConfig",
    "WSDConfig",
    "build_optimizer",
    "by_layer",
    "flat_state",
    "learning_rate_factor",
    "load_flat_state",
    "require_transfer",
]
