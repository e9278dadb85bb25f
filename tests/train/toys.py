"""Small models and data for the tests of training: made here, seconds to train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from groundup.models import DecoderConfig, LSTMConfig, ModelConfig
from groundup.optim import (
    AdafactorConfig,
    AdagradConfig,
    AdamConfig,
    AdamW8bitConfig,
    AdamWConfig,
    ConstantConfig,
    LionConfig,
    MuonConfig,
    NamedConfig,
    Rates,
    RMSpropConfig,
    ScheduleFreeConfig,
    SGDConfig,
)
from groundup.tokens import IGNORE, Mixture, MixtureSource
from groundup.tokens.mixture import Order
from groundup.tokens.packing import Row, segments_and_positions
from groundup.train.journal import Journal
from groundup.train.phase import Phase, Validate
from groundup.train.settings import ExecutionConfig, TrainingConfig
from groundup.train.state import TrainState, build_state
from groundup.train.step import Objectives

VOCAB_SIZE = 64
CONTEXT_LENGTH = 16
MODEL = DecoderConfig(
    context_length=CONTEXT_LENGTH, num_layers=2, hidden_size=16, num_heads=2, num_kv_heads=1, ffn_size=32
)
LSTM = LSTMConfig(context_length=CONTEXT_LENGTH, num_layers=2, hidden_size=32)
EAGER = ExecutionConfig(device="cpu", threads=1, compile="off", checkpoint_every_seconds=1e6, validate_every_steps=5)


class ToyRows:
    """Rows with a rule that can be learnt: each document counts upwards from a random start."""

    def __init__(self, name: str, num_rows: int = 12, masked: float = 0.0) -> None:
        self.name, self.num_rows, self.context_length, self.masked = name, num_rows, CONTEXT_LENGTH, masked

    def row(self, index: int) -> Row:
        random = np.random.default_rng([index, len(self.name)])
        cut = int(random.integers(1, CONTEXT_LENGTH))
        segments, positions = segments_and_positions(np.isin(np.arange(CONTEXT_LENGTH), (0, cut)))
        starts = random.integers(0, VOCAB_SIZE, size=2)
        tokens = (starts[segments] + positions) % VOCAB_SIZE
        targets = (tokens + 1) % VOCAB_SIZE
        targets[random.random(CONTEXT_LENGTH) < self.masked] = IGNORE
        return Row(tokens.astype(np.int64), targets.astype(np.int64), segments, positions)


RULES: dict[str, Rates] = {
    "muon": MuonConfig(learning_rate=0.05, adam_learning_rate=0.01),
    "adamw": AdamWConfig(learning_rate=0.01),
    "adam": AdamConfig(learning_rate=0.01),
    "sgd": SGDConfig(learning_rate=1.0),
    "adagrad": AdagradConfig(learning_rate=0.05),
    "adafactor": AdafactorConfig(learning_rate=0.3),
    "rmsprop": RMSpropConfig(learning_rate=0.003),
    "lion": LionConfig(learning_rate=0.01, weight_decay=0.1),
    "schedule_free_adamw": ScheduleFreeConfig(learning_rate=0.02),
    "adamw_8bit": AdamW8bitConfig(learning_rate=0.01),
    "named": NamedConfig(name="torch.optim.NAdam", learning_rate=0.01),
}


def training(steps: int = 12, optimizer: str = "muon", **changes: Any) -> TrainingConfig:
    """A training config of `steps` steps of eight rows."""
    rule = RULES[optimizer]
    values = {
        "tokens": steps * 8 * CONTEXT_LENGTH,
        "global_batch_tokens": 8 * CONTEXT_LENGTH,
        "optimizer": rule,
        "schedule": ConstantConfig(),
        "precision": "fp32",
    }
    return TrainingConfig(**{**values, **changes})


def mixture(seed: int = 1, order: Order = "shuffled") -> Mixture:
    """Two sources: text without masks at a quarter of the rows, conversations with masks at the rest."""
    sources = [MixtureSource(ToyRows("text"), 0.25), MixtureSource(ToyRows("chat", masked=0.6), 0.75)]
    return Mixture(sources, 8, seed, order)


def objectives(weight: float = 2.0) -> Objectives:
    """The two sources as two objectives."""
    return Objectives(("text", "chat"), (0, 1), ("pretrain", "instruct"), (1.0, weight))


def state(config: TrainingConfig | None = None, model: ModelConfig = MODEL, **changes: Any) -> TrainState:
    """A fresh state on the CPU."""
    return build_state(model, VOCAB_SIZE, config or training(), EAGER, seed=3, device=torch.device("cpu"), **changes)


def phase(
    config: TrainingConfig, order: Order = "shuffled", validate: Validate = lambda model: {"bits_per_byte": 1.0}
) -> Phase:
    """A phase over the toy mixture."""
    return Phase("pretrain", config, mixture(order=order), objectives(), validate, 1000.0)


def journal(folder: Path) -> Journal:
    """A journal with a mirror beside the stage folder."""
    return Journal("pretrain", folder, folder.with_name(folder.name + "_run"))


def equal_states(one: TrainState, other: TrainState) -> bool:
    """True when all parameters and all optimizer state are equal to the bit."""
    from groundup.optim import flat_state

    left, right = (
        {**dict(each.model.named_parameters()), **flat_state(each.optimizer), **each.memory, **averages(each)}
        for each in (one, other)
    )
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def averages(state: TrainState) -> dict[str, torch.Tensor]:
    """The mean of the weights by `average.<name>`, where there is one."""
    return {f"average.{name}": value for name, value in (state.average.values if state.average else {}).items()}
