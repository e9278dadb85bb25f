"""Validations that decide something, and early stopping: pure functions of the losses recorded so far.

    loss   3.1  2.9  2.8  2.85  2.84  2.81      patience 2: over after the third without improvement, best is 2.8

Invariant: the decision depends on the recorded losses only, so a resumed run decides the same.
"""

from __future__ import annotations

import math

from pydantic import Field

from groundup.config import Config
from groundup.optim.schedules import Validations


class ValidationConfig(Config):
    """When and on how much text to validate where something depends on it; in place of runtime's figures."""

    every_steps: int = Field(default=50, ge=1)
    """Steps between validations."""
    rows: int = Field(default=64, ge=1)
    """At most this many rows of context_length tokens."""


class EarlyStoppingConfig(Config):
    """End the phase when validation no longer improves, and take the weights of the best validation."""

    patience: int = Field(default=3, ge=0)
    """Validations in a row without improvement that are let pass."""
    min_improvement: float = Field(default=0.0, ge=0, lt=1)
    """Part of the best loss that a loss must lie below it to be an improvement."""


def best_validation(config: EarlyStoppingConfig, validations: Validations) -> int | None:
    """Position of the best validation: the last that was an improvement; None without any."""
    best, at = math.inf, None
    for position, (_, loss) in enumerate(validations):
        if at is None or loss < best * (1 - config.min_improvement):
            best, at = loss, position
    return at


def is_over(config: EarlyStoppingConfig | None, validations: Validations) -> bool:
    """Whether more validations than patience allows came after the best one."""
    if config is None:
        return False
    best = best_validation(config, validations)
    return best is not None and len(validations) - 1 - best > config.patience
