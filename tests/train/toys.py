"""Small models and data for the tests of training: made here, seconds to train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from groundup.models import DecoderConfig
from groundup.optim import AdamWConfig, ConstantConfig, MuonConfig
from groundup.tokens import IGNORE, Mixture, MixtureSource
from groundup.tokens.packing import Row, segments_and_positions
from groundup.train.journal import Journal
from groundup.train.loop import Phase
from groundup.train.state import ExecutionConfig, TrainingConfig, TrainState, build_state
from groundup.train.step import Objectives

VOCAB_SIZE = 64
CONTEXT_LENGTH = 16
MODEL = DecoderConfig(
    context_length=CONTEXT_LENGTH, num_layers=2, hidden_size=16, num_heads=2, num_kv_heads=1, ffn_size=32
)
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


def training(steps: int = 12, optimizer: str = "muon", **changes: Any) -> TrainingConfig:
    """A training config of `steps` steps of eight rows."""
    rule = (
        MuonConfig(learning_rate=0.05, adam_learning_rate=0.01)
        if optimizer == "muon"
        else AdamWConfig(learning_rate=0.01)
    )
    values = {
        "tokens": steps * 8 * CONTEXT_LENGTH,
        "global_batch_tokens": 8 * CONTEXT_LENGTH,
        "optimizer": rule,
        "schedule": ConstantConfig(),
        "precision": "fp32",
    }
    return TrainingConfig(**{**values, **changes})


def mixture(seed: int = 1) -> Mixture:
    """Two sources: text without masks at a quarter of the rows, conversations with masks at the rest."""
    return Mixture([MixtureSource(ToyRows("text"), 0.25), MixtureSource(ToyRows("chat", masked=0.6), 0.75)], 8, seed)


def objectives(weight: float = 2.0) -> Objectives:
    """The two sources as two objectives."""
    return Objectives(("text", "chat"), (0, 1), ("pretrain", "instruct"), (1.0, weight))


def state(config: TrainingConfig | None = None, **changes: Any) -> TrainState:
    """A fresh state on the CPU."""
    return build_state(MODEL, VOCAB_SIZE, config or training(), EAGER, seed=3, device=torch.device("cpu"), **changes)


def phase(config: TrainingConfig) -> Phase:
    """A phase over the toy mixture."""
    return Phase("pretrain", config, mixture(), objectives(), lambda model: {"bits_per_byte": 1.0}, 1000.0)


def journal(folder: Path) -> Journal:
    """A journal with a mirror beside the stage folder."""
    return Journal("pretrain", folder, folder.with_name(folder.name + "_run"))


def equal_states(one: TrainState, other: TrainState) -> bool:
    """True when all parameters and all optimizer state are equal to the bit."""
    from groundup.optim import flat_state

    left = {**dict(one.model.named_parameters()), **flat_state(one.optimizer)}
    right = {**dict(other.model.named_parameters()), **flat_state(other.optimizer)}
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
