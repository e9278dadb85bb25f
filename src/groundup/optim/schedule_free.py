"""Schedule-free AdamW (Defazio et al. 2024): gradients at one point, use of the average of all.

    y   where gradients are taken, what the parameters hold while training
    x   the weighted mean of all steps, what is validated, saved and used afterwards

By the authors' package `schedulefree`. It needs no decay: use it with `schedule: {kind: constant}`.
Invariant: outside of `averaged` the parameters are y, and they come back to the bit.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field

from groundup.optim.adamw import AdamRates
from groundup.optim.groups import OneRule
from groundup.optim.optional import optimizer_class
from groundup.optim.transfer import Updates


class ScheduleFreeConfig(AdamRates, OneRule):
    """AdamW without a schedule, by averaging (arXiv 2405.15682); needs `pip install 'groundup[optim]'`."""

    kind: Literal["schedule_free_adamw"] = "schedule_free_adamw"
    updates: ClassVar[Updates] = "elementwise"
    learning_rate: float = Field(default=2.5e-3, gt=0)
    """Learning rate of the hidden matrices; the other parts multiply it."""
    weight_decay: float = Field(default=0.1, ge=0)
    """Part of a hidden matrix that decays per step, times the learning rate."""
    average_power: float = Field(default=0.0, ge=0)
    """A step's weight in the average grows with its number to this power."""

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """The package's optimizer, in training mode. Raises RecipeError when it is not installed."""
        rule: Any = optimizer_class("schedulefree.AdamWScheduleFree", "run pip install 'groundup[optim]'")
        found: Any = rule(groups, betas=(self.beta1, self.beta2), eps=self.epsilon, r=self.average_power)
        found.train()
        optimizer: torch.optim.Optimizer = found
        return optimizer
