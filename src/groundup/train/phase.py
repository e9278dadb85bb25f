"""A phase, as the loop is given it, and a phase under way: where it writes, who watches it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from groundup.tokens import Mixture
from groundup.train.journal import Journal
from groundup.train.settings import TrainingConfig
from groundup.train.state import TrainState
from groundup.train.step import Objectives
from groundup.train.watchdog import Watchdog

CHECKPOINTS = "checkpoints"
BEST = "best"
"""Folder of the checkpoint with the best validation, where early stopping looks for it."""
Validate = Callable[[Any], Mapping[str, Any]]
"""Model -> figures on held-out data; each phase measures its own kind of model."""


@dataclass(frozen=True)
class Phase:
    """What tells one phase from another: its data, its objectives, its budget."""

    name: str
    training: TrainingConfig
    mixture: Mixture
    objectives: Objectives
    validate: Validate
    """Model -> {bits_per_byte, loss, n_bytes} on held-out text."""
    flops_per_token: float
    identity: Mapping[str, Any] = field(default_factory=dict)
    """What its result depends on, as the stage says it: a checkpoint of another identity is refused."""


@dataclass(frozen=True)
class Course:
    """One phase under way on this rank."""

    phase: Phase
    state: TrainState
    folder: Path
    journal: Journal
    watchdog: Watchdog

    @property
    def checkpoints(self) -> Path:
        """Where its checkpoints lie."""
        return self.folder / CHECKPOINTS

    @property
    def best(self) -> Path:
        """Where the checkpoint with the best validation lies."""
        return self.folder / BEST

    @property
    def total_steps(self) -> int:
        """Steps of the budget."""
        return self.phase.training.total_steps()
