"""Stochastic gradient descent with momentum, as torch has it: v = momentum * v + gradient ; w -= rate * v."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field, model_validator

from groundup.optim.groups import OneRule


class SGDConfig(OneRule):
    """Gradient descent with momentum; weight decay is a part of the gradient (L2)."""

    kind: Literal["sgd"] = "sgd"
    learning_rate: float = Field(default=0.1, gt=0)
    """Peak learning rate of the hidden matrices; the other parts multiply it."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Times the weight, added to the gradient of a hidden matrix."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Part of the step before that is kept."""
    nesterov: bool = False
    """Look ahead along the momentum (Nesterov 1983)."""

    @model_validator(mode="after")
    def _looks_along_something(self) -> SGDConfig:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov: true needs momentum above 0; there is nothing to look ahead along")
        return self

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """torch's SGD; not its fused form, which sharded tensors do not have."""
        return torch.optim.SGD(groups, lr=1.0, momentum=self.momentum, nesterov=self.nesterov, foreach=True)
